"""What Elasticsearch and OpenSearch, one origin, say differently: all that is about vectors.

Both score a cosine as (1 + cosine) / 2 (Elasticsearch reference, "Dense vector field type", `similarity`; OpenSearch
documentation, "Spaces", `cosinesimil` of the Lucene engine).
"""

from typing import Any, Protocol

from llama_stack.api.chunk_index import BankPlace
from llama_stack.api.common import JsonObject
from llama_stack.api.vectors import Vectors
from llama_stack_providers._vector_database.bank_settings import settings_of
from llama_stack_providers.remote._elastic.settings import DenseVectorSettings, GraphSettings

FIELD = "embedding"


class Dialect(Protocol):
    """name: for messages. max_dimension: of an indexed vector."""

    name: str
    max_dimension: int

    def check_params(self, bank: BankPlace) -> None:
        """Raises InvalidRequest for params of a bank that it does not know."""
        ...

    def mapping(self, bank: BankPlace) -> JsonObject: ...

    def index_settings(self, bank: BankPlace) -> JsonObject: ...

    def search(self, bank: BankPlace, vector: list[float], limit: int, where: JsonObject) -> JsonObject:
        """The body of a search for the nearest vectors."""
        ...

    def asking_vectors(self) -> JsonObject:
        """What a search's body says besides, for vectors in the answer."""
        ...

    def vector_of(self, hit: JsonObject) -> Any: ...

    def is_spoken_by(self, greeting: JsonObject) -> bool:
        """Whether the answer to `GET /` is of such a server, or does not tell."""
        ...


class Elasticsearch:
    name = "Elasticsearch"
    max_dimension = 4_096

    def __init__(self, defaults: DenseVectorSettings) -> None:
        self._defaults = defaults

    def check_params(self, bank: BankPlace) -> None:
        settings_of(bank, self._defaults, self.name)

    def mapping(self, bank: BankPlace) -> JsonObject:
        settings = settings_of(bank, self._defaults, self.name)
        options: JsonObject = {"type": settings.index}
        if settings.index != "flat":
            options |= {"m": settings.m, "ef_construction": settings.ef_construction}
        return {
            "type": "dense_vector",
            "dims": bank.dimension,
            "index": True,
            "similarity": "cosine",
            "index_options": options,
        }

    def index_settings(self, bank: BankPlace) -> JsonObject:
        return {}

    def search(self, bank: BankPlace, vector: list[float], limit: int, where: JsonObject) -> JsonObject:
        candidates = max(limit, settings_of(bank, self._defaults, self.name).num_candidates)
        nearest = {"field": FIELD, "query_vector": vector, "k": limit, "num_candidates": candidates, "filter": where}
        return {"knn": nearest}

    def asking_vectors(self) -> JsonObject:
        # From version 9.2 on, vectors are left out of _source; as a field they are given by all versions.
        return {"fields": [FIELD]}

    def vector_of(self, hit: JsonObject) -> Any:
        found = (hit.get("fields") or {}).get(FIELD)
        return found[0] if found and isinstance(found[0], list) else found

    def is_spoken_by(self, greeting: JsonObject) -> bool:
        return (greeting.get("version") or {}).get("distribution") != "opensearch"


class OpenSearch:
    name = "OpenSearch"
    max_dimension = 16_000

    def __init__(self, defaults: GraphSettings) -> None:
        self._defaults = defaults

    def check_params(self, bank: BankPlace) -> None:
        settings_of(bank, self._defaults, self.name)

    def mapping(self, bank: BankPlace) -> JsonObject:
        settings = settings_of(bank, self._defaults, self.name)
        method = {
            "name": "hnsw",
            "space_type": "cosinesimil",
            "engine": "lucene",
            "parameters": {"m": settings.m, "ef_construction": settings.ef_construction},
        }
        return {"type": "knn_vector", "dimension": bank.dimension, "method": method}

    def index_settings(self, bank: BankPlace) -> JsonObject:
        return {"knn": True} if bank.dimension else {}

    def search(self, bank: BankPlace, vector: list[float], limit: int, where: JsonObject) -> JsonObject:
        return {"query": {"knn": {FIELD: {"vector": vector, "k": limit, "filter": where}}}}

    def asking_vectors(self) -> JsonObject:
        return {"_source": ["chunk", "write", FIELD]}

    def vector_of(self, hit: JsonObject) -> Any:
        return hit["_source"].get(FIELD)

    def is_spoken_by(self, greeting: JsonObject) -> bool:
        version = greeting.get("version") or {}
        return not version or version.get("distribution") == "opensearch"


def vector_bytes(numbers: list[float], dimension: int) -> bytes:
    return bytes(Vectors.of([numbers], dimension).buffer)
