"""Vectors in memory, searched by FAISS; chunks, words and all that must last in SQLite files.

Every vector is compared unless told otherwise: `index` in the config says which kind of index banks get, and
`params: {"index": {"kind": "hnsw"}}` of a bank which one it gets. `_faiss/settings.py` describes the kinds.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llama_stack.api.chunk_index import BankPlace, ChunkIndex, IndexAbilities
from llama_stack.api.common import JsonObject
from llama_stack.errors import InvalidRequest, ProviderUnavailable
from llama_stack.provider import InferenceFloor, MemoryProvider
from llama_stack_providers.inline._chunks.index import Engine, InlineConfig, open_index
from llama_stack_providers.inline._chunks.keeper import NothingKept, VectorKeeper
from llama_stack_providers.inline._chunks.schema import BankFacts
from llama_stack_providers.inline._faiss.settings import Flat, IndexKind, IvfPq

MAX_DIMENSION = 65_536


class Config(InlineConfig):
    """Settings of the index in memory."""

    index: IndexKind = Field(Flat(), description="kind of index of banks that name none: flat, hnsw or ivf_pq")


class BankParams(BaseModel):
    """What can be set about one bank. index: as in the config; None for what stands there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    index: IndexKind | None = None


@asynccontextmanager
async def open_faiss(config: Config, floor: InferenceFloor) -> AsyncIterator[ChunkIndex]:
    try:
        import faiss

        from llama_stack_providers.inline._faiss.vectors import VectorsInMemory
    except ImportError as error:
        raise ProviderUnavailable("FAISS is not installed; run `pip install 'llama-stack[faiss]'`") from error

    def keeper(facts: BankFacts, path: Path) -> VectorKeeper:
        if not facts.dimension:
            return NothingKept()
        return VectorsInMemory(facts, path, _kind_of(config, facts.params))

    def check(bank: BankPlace) -> None:
        kind = _kind_of(config, bank.params)
        if isinstance(kind, IvfPq) and bank.dimension:
            try:
                kind.subvectors_of(bank.dimension)
            except ValueError as error:
                raise InvalidRequest(f"params.index.{error}", param="params") from error

    def start_searching() -> None:
        # One query is one thread's work; many queries share the cores by themselves.
        faiss.omp_set_num_threads(1)

    def start_writing() -> None:
        # Building a graph or training would otherwise take every core from those who search, and from the server.
        faiss.omp_set_num_threads(max(1, (os.cpu_count() or 1) // 2))

    abilities = IndexAbilities(keyword=True, max_dimension=MAX_DIMENSION)
    engine = Engine(abilities, check, lambda _: None, keeper, start_searching, start_writing)
    async with open_index(config, floor.ground.state, engine) as index:
        yield index


def _kind_of(config: Config, params: JsonObject) -> IndexKind:
    try:
        return BankParams.model_validate(params).index or config.index
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in ("params", *first["loc"]))
        raise InvalidRequest(f"{where}: {first['msg']}; see the settings of inline::faiss", param="params") from error


provider = MemoryProvider(
    summary="Vectors in memory, searched by FAISS; kept in SQLite files of this machine",
    config=Config,
    open=open_faiss,
    requires=("apsw>=3.50", "faiss-cpu>=1.10", "numpy>=2.0"),
)
