"""Memory banks in Elasticsearch, version 8.12 or later, over its REST API (elastic.co/docs/api/doc/elasticsearch).

Each bank is one index, found by vector (HNSW) and by words (BM25). Elasticsearch has no transactions: see
`_vector_database/heads.py` for how a write is whole all the same, and what that costs.
"""

from contextlib import AbstractAsyncContextManager

from pydantic import Field, SecretStr

from llama_stack.api.chunk_index import ChunkIndex
from llama_stack.provider import InferenceFloor, MemoryProvider
from llama_stack_providers.remote._elastic.settings import ClusterSettings, DenseVectorSettings


class Config(ClusterSettings):
    api_key: SecretStr | None = Field(None, description="encoded API key; empty for username and password, or neither")
    index: DenseVectorSettings = Field(
        DenseVectorSettings(), description="of banks that do not say otherwise in their params"
    )


def open_elasticsearch(config: Config, floor: InferenceFloor) -> AbstractAsyncContextManager[ChunkIndex]:
    from llama_stack_providers.remote._elastic.dialects import Elasticsearch
    from llama_stack_providers.remote._elastic.store import open_cluster

    key = config.api_key.get_secret_value() if config.api_key else ""
    authorization = f"ApiKey {key}" if key else config.basic_authorization()
    return open_cluster(Elasticsearch(config.index), config, floor.ground, authorization)


provider = MemoryProvider(
    summary="Memory banks in Elasticsearch: HNSW, filters, and BM25",
    config=Config,
    open=open_elasticsearch,
)
