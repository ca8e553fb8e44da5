"""What Elasticsearch and OpenSearch are configured by. Imported with the declarations."""

from base64 import b64encode
from typing import Literal

from pydantic import Field, SecretStr

from llama_stack.provider import ProviderConfig
from llama_stack_providers._vector_database.settings import DatabaseSettings


class GraphSettings(ProviderConfig):
    """The provider's `index` setting, and `params` of a bank."""

    m: int = Field(16, ge=2, le=512, description="of HNSW: connections of each element")
    ef_construction: int = Field(100, ge=2, le=3200, description="of HNSW: candidates while building")


class DenseVectorSettings(GraphSettings):
    """Of Elasticsearch, which has more kinds of index."""

    index: Literal["hnsw", "int8_hnsw", "int4_hnsw", "bbq_hnsw", "flat"] = Field(
        "hnsw", description="Elasticsearch's index_options; all but hnsw and flat keep shortened numbers, too"
    )
    num_candidates: int = Field(200, ge=1, le=10_000, description="of each shard while searching; more find better")


class ClusterSettings(DatabaseSettings):
    username: str = Field("", description="of a cluster that wants one")
    password: SecretStr | None = Field(None, description="of that user")
    prefix: str = Field(
        "llama_stack_", pattern="^[a-z0-9][a-z0-9_.-]{0,99}$", description="of the names of the banks' indices"
    )
    shards: int = Field(1, ge=1, le=1024, description="of each new bank")
    replicas: int | None = Field(None, ge=0, description="copies of each shard; the cluster's own default by default")

    def basic_authorization(self) -> str:
        """A header's value (RFC 7617); empty without a user."""
        if not self.username:
            return ""
        password = self.password.get_secret_value() if self.password else ""
        return "Basic " + b64encode(f"{self.username}:{password}".encode()).decode()
