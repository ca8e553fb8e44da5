"""How a collection's vectors are indexed (docs.weaviate.io, "Vector index"). Imported with the declaration."""

from typing import Literal

from pydantic import Field

from llama_stack.provider import ProviderConfig


class BankSettings(ProviderConfig):
    """The provider's `index` setting, and `params` of a bank. ef, ef_construction, max_connections: of HNSW."""

    index: Literal["hnsw", "flat"] = Field("hnsw", description="flat compares with every vector")
    ef: int = Field(-1, ge=-1, description="candidates while searching; -1 lets Weaviate choose by the limit")
    ef_construction: int = Field(128, ge=4, description="candidates while building")
    max_connections: int = Field(32, ge=4, description="of each element")
