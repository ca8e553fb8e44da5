"""Documents in: read, cut, embedded and written, each whole or not at all, with a row that says how it went."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import PurePath
from weakref import WeakValueDictionary

from llama_stack.api.chunk_index import BankPlace, ChunkIndex
from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.inference import Inference
from llama_stack.api.memory import Chunk, ChunkSizes, DocumentError
from llama_stack.api.resources import GraphBank, MemoryBank, VectorBank
from llama_stack.api.vectors import Vectors
from llama_stack.documents.blocks import ReadDocument
from llama_stack.errors import StackError
from llama_stack.memory.cutting import chunk_id_of, chunks_of, counter_of, sizes_of
from llama_stack.memory.embedding import Embedder
from llama_stack.memory.graph import extracted_chunks, with_metadata
from llama_stack.storage.documents import DocumentStore, Ready, Working

logger = logging.getLogger(__name__)

RENEWALS_EVERY_S = 15.0
CHUNKS_A_PAGE = 1_000
COPIED_CHUNKS = 5_000
"""Of a document with the same content; a longer one is embedded again rather than read back."""


@dataclass(frozen=True)
class Share:
    """One caller's part of a bank, in the provider that keeps it. window: of the model that embeds, in tokens."""

    bank: MemoryBank
    place: BankPlace
    index: ChunkIndex
    window: int | None
    caller: Caller


@dataclass(frozen=True)
class Arrived:
    """A document's content, at hand. read: gives it as text; raises DocumentUnreadable."""

    content_sha256: str
    size_bytes: int
    read: Callable[[], Awaitable[ReadDocument]]


@dataclass(frozen=True)
class Described:
    """What a document is called and marked with, and how it is to be cut."""

    document_id: str
    name: str
    metadata: JsonObject
    sizes: ChunkSizes | None


@dataclass(frozen=True)
class Made:
    """What a document came to, before it is written. vectors: None in a bank without any."""

    chunks: list[Chunk]
    vectors: Vectors | None
    mime_type: str
    warnings: Sequence[str]


Fetch = Callable[[], Awaitable[Arrived]]
"""Brings a document's content. Raises StackError."""


class Ingestion:
    """Puts documents into banks."""

    def __init__(self, store: DocumentStore, inference: Inference, embedder: Embedder) -> None:
        self._store = store
        self._inference = inference
        self._embedder = embedder
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._watches: list[tuple[str, set[str]]] = []

    @asynccontextmanager
    async def alone(self, place: BankPlace, *document_ids: str) -> AsyncIterator[None]:
        """Nobody else of this process writes or deletes the documents meanwhile."""
        async with AsyncExitStack() as held:
            # Everybody takes them in one order, so that no two wait for each other.
            for document_id in sorted(set(document_ids)):
                key = (place.key, document_id)
                lock = self._locks.get(key)
                if lock is None:
                    lock = self._locks[key] = asyncio.Lock()
                await held.enter_async_context(lock)
            try:
                yield
            finally:
                for key_of_place, touched in self._watches:
                    if key_of_place == place.key:
                        touched.update(document_ids)

    @contextmanager
    def watching(self, place: BankPlace) -> Iterator[set[str]]:
        """Into the set come the documents that somebody in this process was `alone` with, when they are done."""
        watch = (place.key, set[str]())
        self._watches.append(watch)
        try:
            yield watch[1]
        finally:
            self._watches = [one for one in self._watches if one is not watch]

    async def remember(
        self, share: Share, working: Working, described: Described, fetch: Fetch, *, in_background: bool = False
    ) -> None:
        """Work on a document, which is `held`, to its end; whatever goes wrong with it stands in its row afterwards.

        in_background: nobody waits for it, so its texts are embedded behind those of people who wait.
        Raises what is wrong with this process or its database, not with the document.
        """
        try:
            arrived = await fetch()
            digest = _digest(arrived, described)
            made = await self._made(share, described, arrived, digest, in_background)
            ready = Ready(len(made.chunks), arrived.size_bytes, digest, made.mime_type, made.warnings)
            await self._keep(share, working, described, made, ready)
        except StackError as error:
            await self._store.fail(working, DocumentError(code=error.code, message=error.message))
        except Exception as error:  # libraries that read files fail in ways of their own; the row must say so
            logger.exception("document %s of %s", described.document_id, share.bank.identifier)
            message = f"reading it failed inside the stack ({type(error).__name__}); the server's log says more"
            await self._store.fail(working, DocumentError(code="internal_error", message=message))

    @asynccontextmanager
    async def held(self, workings: Collection[Working]) -> AsyncIterator[None]:
        """Nobody else takes the documents meanwhile; those that are done may be taken out of the collection."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(RENEWALS_EVERY_S)
                await self._store.renew(list(workings))

        renewing = asyncio.create_task(renew(), name="leases of documents")
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.wait([renewing])

    async def _made(
        self, share: Share, described: Described, arrived: Arrived, digest: str, in_background: bool
    ) -> Made:
        if isinstance(share.bank.bank, GraphBank):
            document = await arrived.read()
            counter = counter_of(share.bank, self._inference, share.caller)
            chunks = await extracted_chunks(
                share.bank.bank, document, self._inference, counter, share.caller,
                document_id=described.document_id, name=described.name, metadata=described.metadata,
            )  # fmt: skip
            return Made(chunks, None, document.mime_type, document.warnings)
        copied = await self._copied(share, described, digest)
        if copied is not None:
            return copied
        document = await arrived.read()
        sizes = sizes_of(share.bank, described.sizes, share.window)
        chunks = await chunks_of(
            share.bank, document, sizes, self._inference, share.caller,
            document_id=described.document_id, name=described.name, metadata=described.metadata,
        )  # fmt: skip
        vectors = await self.vectors_of(share, chunks, in_background=in_background)
        return Made(chunks, vectors, document.mime_type, document.warnings)

    async def vectors_of(self, share: Share, chunks: list[Chunk], *, in_background: bool = False) -> Vectors | None:
        """The vectors of the chunks; None for a bank without any."""
        kind = share.bank.bank
        if not isinstance(kind, VectorBank):
            return None
        texts = [chunk.indexed_text for chunk in chunks]
        return await self._embedder.embed_documents(
            kind.embedding_model, texts, share.place.dimension, share.caller, in_background=in_background
        )

    async def _copied(self, share: Share, described: Described, digest: str) -> Made | None:
        """The chunks of a document of this bank with the very same content, so that it is not embedded again."""
        for other in await self._store.with_content(share.bank.identifier, digest, share.caller):
            status = other.status
            if status.chunks > COPIED_CHUNKS:
                continue
            found = await share.index.list_chunks(
                share.place, document_ids=[status.document_id], limit=COPIED_CHUNKS, with_vectors=True
            )
            if not found or len(found) != status.chunks:
                continue
            if share.place.dimension and any(one.vector is None for one in found):
                continue
            changes = {
                "document_id": described.document_id,
                "document_name": described.name or described.document_id,
                "metadata": described.metadata,
                "score": 0.0,
            }
            chunks = [
                one.chunk.model_copy(
                    update=changes | {"chunk_id": chunk_id_of(described.document_id, one.chunk.position)}
                )
                for one in found
            ]
            vectors = None
            if share.place.dimension:
                vectors = Vectors(b"".join(one.vector or b"" for one in found), share.place.dimension)
            return Made(chunks, vectors, status.mime_type, status.warnings)
        return None

    async def set_metadata(self, share: Share, document_id: str, metadata: JsonObject) -> None:
        """Of the chunks that are there; whoever calls is `alone`."""
        if not isinstance(share.bank.bank, GraphBank):
            await share.index.set_metadata(share.place, document_id, metadata)
        elif chunks := await self.chunks_of(share, document_id):
            await share.index.write_chunks(share.place, _described_anew(share, chunks, metadata), None)

    async def chunks_of(self, share: Share, document_id: str) -> list[Chunk]:
        """All that are there, in order."""
        return [chunk async for chunk in self.chunks_in(share, [document_id])]

    async def chunks_in(self, share: Share, document_ids: list[str]) -> AsyncIterator[Chunk]:
        """Document by document, in order."""
        after: str | None = None
        while True:
            page = await share.index.list_chunks(
                share.place, document_ids=document_ids, limit=CHUNKS_A_PAGE, after=after
            )
            for one in page:
                yield one.chunk
            if len(page) < CHUNKS_A_PAGE:
                return
            after = page[-1].chunk.chunk_id

    async def _keep(self, share: Share, working: Working, described: Described, made: Made, ready: Ready) -> None:
        async with self.alone(share.place, described.document_id):
            metadata = await self._store.metadata_of(working)
            if metadata is None:
                return
            chunks = made.chunks
            if metadata != described.metadata:  # It was changed while the document was read.
                chunks = _described_anew(share, chunks, metadata)
            if chunks:
                await share.index.write_chunks(share.place, chunks, made.vectors, replace_documents=True)
            else:
                await share.index.delete_documents(share.place, [described.document_id])
            if await self._store.complete([(working, ready)]):
                # Deleted, by another process, while it was being written.
                await share.index.delete_documents(share.place, [described.document_id])


def _described_anew(share: Share, chunks: Sequence[Chunk], metadata: JsonObject) -> list[Chunk]:
    if isinstance(share.bank.bank, GraphBank):
        return [with_metadata(one, metadata) for one in chunks]
    return [one.model_copy(update={"metadata": metadata}) for one in chunks]


def _digest(arrived: Arrived, described: Described) -> str:
    """Names a content, what it is read as and how it is cut: equal digests make equal chunks."""
    cut_by = "" if described.sizes is None else described.sizes.model_dump_json()
    suffix = PurePath(described.name).suffix
    return sha256("\0".join((arrived.content_sha256, suffix, cut_by)).encode(errors="replace")).hexdigest()
