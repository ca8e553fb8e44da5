"""Memory banks in OpenSearch, version 2.4 or later with its k-NN plugin, over its REST API (docs.opensearch.org).

Each bank is one index, found by vector (Lucene's HNSW) and by words (BM25). OpenSearch has no transactions: see
`_vector_database/heads.py` for how a write is whole all the same, and what that costs.
"""

from contextlib import AbstractAsyncContextManager

from pydantic import Field

from llama_stack.api.chunk_index import ChunkIndex
from llama_stack.provider import InferenceFloor, MemoryProvider
from llama_stack_providers.remote._elastic.settings import ClusterSettings, GraphSettings


class Config(ClusterSettings):
    index: GraphSettings = Field(GraphSettings(), description="of banks that do not say otherwise in their params")


def open_opensearch(config: Config, floor: InferenceFloor) -> AbstractAsyncContextManager[ChunkIndex]:
    from llama_stack_providers.remote._elastic.dialects import OpenSearch
    from llama_stack_providers.remote._elastic.store import open_cluster

    return open_cluster(OpenSearch(config.index), config, floor.ground, config.basic_authorization())


provider = MemoryProvider(
    summary="Memory banks in OpenSearch: HNSW, filters, and BM25",
    config=Config,
    open=open_opensearch,
)
