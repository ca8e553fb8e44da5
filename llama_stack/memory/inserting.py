"""What a caller brings itself, and waits for: documents, chunks, facts."""

import math
from collections import Counter
from collections.abc import Sequence

from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.memory import Chunk, ChunkSizes, Document, DocumentStatus, Embedded, Facts
from llama_stack.api.resources import GraphBank
from llama_stack.api.vectors import Vectors
from llama_stack.errors import InvalidRequest
from llama_stack.gathering import gathered
from llama_stack.memory.arrivals import Arrivals
from llama_stack.memory.banks import Banks
from llama_stack.memory.checks import check_ids, check_metadata
from llama_stack.memory.cutting import sizes_of
from llama_stack.memory.graph import chunks_of_facts
from llama_stack.memory.ingestion import Described, Ingestion, Share
from llama_stack.storage.documents import DocumentStore, NewDocument, Ready, StoredDocument
from llama_stack.text.languages import language_of

_LEAST_LENGTH, _GREATEST_LENGTH = 1e-12, 1e12
"""Of vectors that are kept as they came."""
DOCUMENTS_AT_ONCE = 16
COUNTED_CHUNKS = 1_000
"""Of a document that comes in pieces; each piece reads those that are there."""


class Inserting:
    """The part of `api.memory.Memory` that takes in at once."""

    def __init__(self, banks: Banks, documents: DocumentStore, ingestion: Ingestion, arrivals: Arrivals) -> None:
        self._banks = banks
        self._documents = documents
        self._ingestion = ingestion
        self._arrivals = arrivals

    async def insert_documents(
        self, bank_id: str, documents: Sequence[Document], caller: Caller, *, sizes: ChunkSizes | None = None
    ) -> list[DocumentStatus]:
        share = await self._banks.usable(bank_id, caller)
        check_ids([document.document_id for document in documents])
        for document in documents:
            check_metadata(document.metadata)
        sizes_of(share.bank, sizes, share.window)
        new = [NewDocument(one.document_id, one.name, one.mime_type, one.metadata, sizes) for one in documents]
        workings = await self._documents.begin(bank_id, new, caller, is_held=True)
        left = set(workings)
        waiting = iter(zip(documents, workings, strict=True))

        async def work() -> None:
            for document, working in waiting:
                described = Described(document.document_id, document.name, document.metadata, sizes)
                await self._ingestion.remember(share, working, described, self._arrivals.of_document(document))
                left.discard(working)

        try:
            async with self._ingestion.held(left):
                await gathered(work() for _ in range(min(DOCUMENTS_AT_ONCE, len(documents))))
        except BaseException:
            # Nobody will hear how it went: what was not finished is not to look as if it were under way.
            await self._documents.abandon(list(left))
            raise
        stored = await self._documents.some(bank_id, [one.document_id for one in documents], caller)
        return [stored[one.document_id].status for one in documents if one.document_id in stored]

    async def insert_chunks(self, bank_id: str, chunks: Sequence[Embedded], caller: Caller) -> None:
        share = await self._banks.usable(bank_id, caller)
        if isinstance(share.bank.bank, GraphBank):
            raise InvalidRequest("a graph bank takes documents and facts, not chunks", param="chunks")
        for one in chunks:
            check_metadata(one.chunk.metadata)
        kept = [_with_language(one.chunk) for one in chunks]
        vectors = await self._vectors(share, chunks)
        async with self._ingestion.alone(share.place, *(chunk.document_id for chunk in kept)):
            await share.index.write_chunks(share.place, kept, vectors)
            await self._note_documents(share, kept, caller)

    async def _vectors(self, share: Share, chunks: Sequence[Embedded]) -> Vectors | None:
        dimension = share.place.dimension
        if not dimension:
            return None
        brought = [
            None if one.vector is None else _usable_vector(one.vector, dimension, f"chunks.{position}.embedding")
            for position, one in enumerate(chunks)
        ]
        missing = [one.chunk for one in chunks if one.vector is None]
        made = await self._ingestion.vectors_of(share, missing) if missing else None
        if made is not None and len(missing) == len(chunks):
            return made
        rows, position = [], 0
        for vector in brought:
            if vector is not None:
                rows.append(vector)
            elif made is not None:
                rows.append(made.row(position))
                position += 1
        return Vectors.of(rows, dimension)

    async def _note_documents(self, share: Share, chunks: Sequence[Chunk], caller: Caller) -> None:
        """A row for each document whose chunks were brought one by one."""
        by_document: dict[str, list[Chunk]] = {}
        for chunk in chunks:
            by_document.setdefault(chunk.document_id, []).append(chunk)
        known = await self._documents.some(share.bank.identifier, list(by_document), caller)
        new = {document_id: some for document_id, some in by_document.items() if document_id not in known}
        await self._note(share, new, {document_id: some[0].metadata for document_id, some in new.items()}, caller)
        if known:
            added = {document_id: len(by_document[document_id]) for document_id in known}
            await self._note_more(share, known, added, caller)

    async def _note_more(
        self, share: Share, known: dict[str, StoredDocument], added: dict[str, int], caller: Caller
    ) -> None:
        """How many chunks the documents have now; of a long one, those that came again are counted again."""
        chunks = {document_id: stored.status.chunks + added[document_id] for document_id, stored in known.items()}
        counted = [document_id for document_id, count in chunks.items() if count <= COUNTED_CHUNKS]
        if counted:
            there = Counter([one.document_id async for one in self._ingestion.chunks_in(share, counted)])
            chunks |= {document_id: there[document_id] for document_id in counted}
        await self._documents.set_chunks(share.bank.identifier, chunks, caller)

    async def _note(
        self, share: Share, of_documents: dict[str, list[Chunk]], metadata: dict[str, JsonObject], caller: Caller
    ) -> None:
        new = [
            NewDocument(document_id, some[0].document_name, metadata=metadata[document_id])
            for document_id, some in of_documents.items()
        ]
        if not new:
            return
        ready = []
        for working in await self._documents.begin(share.bank.identifier, new, caller, is_held=True):
            some = of_documents[working.document_id]
            size = sum(len(chunk.content.encode(errors="replace")) for chunk in some)
            ready.append((working, Ready(len(some), size, working.revision, "")))
        await self._documents.complete(ready)

    async def insert_facts(self, bank_id: str, facts: Sequence[Facts], caller: Caller) -> None:
        share = await self._banks.usable(bank_id, caller)
        if not isinstance(share.bank.bank, GraphBank):
            raise InvalidRequest(f"{bank_id!r} is no graph bank; facts go into one of kind `graph`", param="bank_id")
        check_ids([one.document_id for one in facts])
        for one in facts:
            check_metadata(one.metadata)
        for one in facts:
            chunks = chunks_of_facts(one)
            async with self._ingestion.alone(share.place, one.document_id):
                if chunks:
                    await share.index.write_chunks(share.place, chunks, None, replace_documents=True)
                    await self._note(share, {one.document_id: chunks}, {one.document_id: one.metadata}, caller)


def _with_language(chunk: Chunk) -> Chunk:
    """Its words are compared by the stems of its language."""
    return chunk if chunk.language else chunk.model_copy(update={"language": language_of(chunk.content)})


def _usable_vector(vector: list[float], dimension: int, param: str) -> list[float]:
    """The vector, or one of the same direction whose squared length does not leave what float32 can hold."""
    if len(vector) != dimension:
        raise InvalidRequest(f"{param} has {len(vector)} numbers; vectors of this bank have {dimension}", param=param)
    length = math.hypot(*vector)
    if not math.isfinite(length) or length == 0:
        raise InvalidRequest(f"{param} is all zeros, or holds what is no number", param=param)
    if _LEAST_LENGTH <= length <= _GREATEST_LENGTH:
        return vector
    return [number / length for number in vector]
