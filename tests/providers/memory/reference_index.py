"""The plainest thing that keeps the memory contract: dictionaries and loops. It checks the contract itself."""

import json
import math
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from llama_stack.api.chunk_index import BankPlace, ChunkIndex, FoundChunk, IndexAbilities, IndexStats
from llama_stack.api.common import JsonObject
from llama_stack.api.filters import Comparison, Compound, matches
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import Vectors, floats_of
from llama_stack.errors import Conflict, InvalidRequest, NotFound
from llama_stack.text import language_of, query_stems, stems

MAX_DIMENSION = 4_096
Where = Comparison | Compound | None


@dataclass
class ReferenceBank:
    place: BankPlace
    chunks: dict[str, Chunk] = field(default_factory=dict)
    vectors: dict[str, bytes] = field(default_factory=dict)


class ReferenceIndex:
    """Keeps everything in memory; `load` and `save` make it outlive a restart."""

    def __init__(self, home: Path) -> None:
        self._file = home / "reference.json"
        self._banks: dict[str, ReferenceBank] = {}

    def load(self) -> None:
        if not self._file.exists():
            return
        for stored in json.loads(self._file.read_text()):
            chunks = {one["chunk_id"]: Chunk(**one) for one in stored["chunks"]}
            vectors = {key: bytes.fromhex(row) for key, row in stored["vectors"].items()}
            place = BankPlace(**stored["place"])
            self._banks[place.key] = ReferenceBank(place, chunks, vectors)

    def save(self) -> None:
        stored = [
            {
                "place": bank.place.model_dump(),
                "chunks": [one.model_dump() for one in bank.chunks.values()],
                "vectors": {key: row.hex() for key, row in bank.vectors.items()},
            }
            for bank in self._banks.values()
        ]
        self._file.write_text(json.dumps(stored))

    def abilities(self) -> IndexAbilities:
        return IndexAbilities(keyword=True, max_dimension=MAX_DIMENSION)

    async def create_bank(self, bank: BankPlace) -> None:
        if not 0 <= bank.dimension <= MAX_DIMENSION:
            raise InvalidRequest(f"{bank.dimension} is not between 0 and {MAX_DIMENSION}", param="dimension")
        there = self._banks.setdefault(bank.key, ReferenceBank(bank))
        if there.place.dimension != bank.dimension:
            raise Conflict("the bank is there with another dimension")

    async def drop_bank(self, bank: BankPlace) -> None:
        self._banks.pop(bank.key, None)

    async def write_chunks(
        self, bank: BankPlace, chunks: list[Chunk], vectors: Vectors | None, *, replace_documents: bool = False
    ) -> None:
        there = self._bank(bank)
        if chunks and (vectors is None) != (there.place.dimension == 0):
            raise InvalidRequest("vectors go with a bank that has a dimension", param="vectors")
        if vectors is not None and (vectors.dimension != there.place.dimension or len(vectors) != len(chunks)):
            raise InvalidRequest("the vectors do not fit", param="vectors")
        if replace_documents:
            self._forget(there, {one.document_id for one in chunks})
        for position, one in enumerate(chunks):
            there.chunks[one.chunk_id] = one.model_copy(deep=True)
            if vectors is not None:
                there.vectors[one.chunk_id] = vectors.row_bytes(position)

    async def search_vector(
        self, bank: BankPlace, vector: bytes, limit: int, where: Where = None, *, with_vectors: bool = False
    ) -> list[FoundChunk]:
        there = self._bank(bank)
        if there.place.dimension == 0 or len(vector) != there.place.dimension * 4:
            raise InvalidRequest("the query's vector does not fit the bank", param="vector")
        query = floats_of(vector)
        scores = {one.chunk_id: _cosine(query, floats_of(there.vectors[one.chunk_id])) for one in _select(there, where)}
        return _best(there, scores, limit, with_vectors)

    async def search_keyword(self, bank: BankPlace, query: str, limit: int, where: Where = None) -> list[FoundChunk]:
        there = self._bank(bank)
        words = {one.chunk_id: Counter(_stems(one)) for one in there.chunks.values()}
        languages = {_language(one) for one in there.chunks.values()}
        asked = query_stems(query, languages)
        rarity = {stem: 1 / (1 + sum(stem in counts for counts in words.values())) for stem in asked}
        scores: dict[str, float] = {}
        for one in _select(there, where):
            counts = words[one.chunk_id]
            # Rare words first and long chunks last, which is as much of BM25 as the contract asks for.
            score = sum(rarity[stem] * counts[stem] for stem in asked) / (1 + counts.total())
            if score:
                scores[one.chunk_id] = score
        return _best(there, scores, limit, with_vectors=False)

    async def list_chunks(
        self,
        bank: BankPlace,
        *,
        document_ids: list[str] | None = None,
        where: Where = None,
        limit: int = 1000,
        after: str | None = None,
        with_vectors: bool = False,
    ) -> list[FoundChunk]:
        there = self._bank(bank)
        start = _order(there.chunks[after]) if after is not None else ("", -1, "")
        selected = [one for one in _select(there, where) if document_ids is None or one.document_id in document_ids]
        page = sorted((one for one in selected if _order(one) > start), key=_order)[:limit]
        return [_found(there, one.chunk_id, 0.0, with_vectors) for one in page]

    async def set_metadata(self, bank: BankPlace, document_id: str, metadata: JsonObject) -> None:
        for one in self._bank(bank).chunks.values():
            if one.document_id == document_id:
                one.metadata = metadata

    async def delete_documents(self, bank: BankPlace, document_ids: list[str]) -> int:
        return self._forget(self._bank(bank), set(document_ids))

    async def delete_where(self, bank: BankPlace, where: Comparison | Compound) -> int:
        there = self._bank(bank)
        gone = _select(there, where)
        for one in gone:
            del there.chunks[one.chunk_id]
        return len(gone)

    async def stats(self, bank: BankPlace) -> IndexStats:
        chunks = self._bank(bank).chunks.values()
        return IndexStats(chunks=len(chunks), documents=len({one.document_id for one in chunks}))

    def _bank(self, bank: BankPlace) -> ReferenceBank:
        if bank.key not in self._banks:
            raise NotFound(f"there is no bank {bank.key!r}")
        return self._banks[bank.key]

    def _forget(self, there: ReferenceBank, document_ids: set[str]) -> int:
        gone = [one.chunk_id for one in there.chunks.values() if one.document_id in document_ids]
        for chunk_id in gone:
            del there.chunks[chunk_id]
        return len(gone)


@asynccontextmanager
async def open_reference(home: Path) -> AsyncIterator[ChunkIndex]:
    index = ReferenceIndex(home)
    index.load()
    yield index
    index.save()


def _language(one: Chunk) -> str:
    return one.language or language_of(one.content)


def _stems(one: Chunk) -> list[str]:
    return stems(one.content, _language(one))


def _order(one: Chunk) -> tuple[str, int, str]:
    return one.document_id, one.position, one.chunk_id


def _select(bank: ReferenceBank, where: Where) -> list[Chunk]:
    return [one for one in bank.chunks.values() if matches(where, {**one.metadata, "document_id": one.document_id})]


def _cosine(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True)) / (math.hypot(*left) * math.hypot(*right))


def _best(bank: ReferenceBank, scores: dict[str, float], limit: int, with_vectors: bool) -> list[FoundChunk]:
    ranked = sorted(scores, key=lambda chunk_id: (-scores[chunk_id], chunk_id))[:limit]
    return [_found(bank, chunk_id, scores[chunk_id], with_vectors) for chunk_id in ranked]


def _found(bank: ReferenceBank, chunk_id: str, score: float, with_vectors: bool) -> FoundChunk:
    vector = bank.vectors[chunk_id] if with_vectors and chunk_id in bank.vectors else None
    return FoundChunk(chunk=bank.chunks[chunk_id].model_copy(deep=True), score=score, vector=vector)
