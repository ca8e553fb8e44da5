"""Files into a memory bank, each uploaded, read and ready to be found; what has not changed is left as it is."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.files import MAX_FILES_LISTED, FilePurpose, Files, NewFile
from llama_stack.api.memory import ChunkSizes, DocumentError, DocumentState, DocumentStatus, Memory
from llama_stack.errors import InvalidRequest, NotFound, PayloadTooLarge
from llama_stack.gathering import gathered, owned

PATH = "path"
"""Key of a document's metadata: the file it was read from, by which it is known again."""
FILES_AT_ONCE = 8
FIRST_LOOK_S = 0.02
LONGEST_LOOK_S = 0.5
_READ_BYTES = 1024 * 1024
_UNFINISHED = (DocumentState.PENDING, DocumentState.RUNNING)
_PAGE = 1000

Outcome = Literal["added", "changed", "unchanged", "failed"]


@dataclass(frozen=True)
class Added:
    """What became of one source.

    source: the path, the URL or the document's id. status: what the bank knows of it; None where nothing reached it.
    error: why it failed.
    """

    source: str
    outcome: Outcome
    status: DocumentStatus | None = None
    error: DocumentError | None = None


def added(source: str, status: DocumentStatus, outcome: Outcome = "added") -> Added:
    """As the status tells: failed, whatever was hoped for, unless the document is there."""
    if status.state is DocumentState.COMPLETED:
        return Added(source, outcome, status)
    error = status.error or DocumentError(code=status.state.value, message=f"it was {status.state.value}; add it again")
    return Added(source, "failed", status, error)


async def all_documents(
    memory: Memory, bank_id: str, caller: Caller, states: Sequence[DocumentState] | None = None
) -> list[DocumentStatus]:
    """Newest first."""
    found: list[DocumentStatus] = []
    after: str | None = None
    while True:
        page = await memory.documents(bank_id, caller, limit=_PAGE, after=after, states=states)
        found += page.entries
        if page.next_after is None:
            return found
        after = page.next_after


@dataclass(frozen=True)
class Adding:
    """The adding of files to one bank. metadata: of each of them. sizes: how they are cut."""

    memory: Memory
    files: Files
    bank_id: str
    caller: Caller
    metadata: JsonObject
    sizes: ChunkSizes | None = None

    async def each(self, paths: Sequence[Path]) -> AsyncGenerator[Added, None]:
        """Each file as it is ready, in any order.

        Of one that changed, the earlier contents stay until the new ones can be found. Leaving early leaves those
        under way to the stack, which reads them in the background. Raises what is wrong with the stack, not what is
        wrong with a file.
        """
        if PATH in self.metadata:
            raise InvalidRequest(f"metadata.{PATH}: is kept by the stack; choose another key", param="metadata")
        known = await self._known(paths)
        ready: asyncio.Queue[Added | None] = asyncio.Queue()
        waiting = list(reversed(paths))

        async def work() -> None:
            while waiting:
                ready.put_nowait(await self._added(waiting.pop(), known))

        async def everything() -> None:
            try:
                await gathered(work() for _ in range(min(FILES_AT_ONCE, len(waiting))))
            finally:
                ready.put_nowait(None)

        async with owned(everything()) as task:
            while (one := await ready.get()) is not None:
                yield one
            await task

    async def _known(self, paths: Sequence[Path]) -> "_Known":
        """What the bank holds of these files already."""
        wanted = {str(path) for path in paths}
        by_path: dict[str, list[DocumentStatus]] = {}
        for document in await all_documents(self.memory, self.bank_id, self.caller):
            path = document.metadata.get(PATH)
            if path in wanted and document.file_id is not None:
                by_path.setdefault(path, []).append(document)
        digests: dict[str, str] = {}
        after: str | None = None
        while by_path:
            page = await self.files.page(
                self.caller, limit=MAX_FILES_LISTED, after=after, purpose=FilePurpose.ASSISTANTS
            )
            digests |= {file.file_id: file.sha256 for file in page.entries}
            after = page.next_after
            if after is None:
                break
        return _Known(by_path, digests)

    async def _added(self, path: Path, known: "_Known") -> Added:
        try:
            return await self._taken_in(path, known)
        except OSError as error:
            code, message = "unreadable", f"it cannot be read: {error.strerror or error}; mend that and add it again"
        except (InvalidRequest, NotFound, PayloadTooLarge) as error:
            code, message = error.code, error.message
        return Added(str(path), "failed", error=DocumentError(code=code, message=message))

    async def _taken_in(self, path: Path, known: "_Known") -> Added:
        earlier = known.by_path.get(str(path), [])
        metadata = {**self.metadata, PATH: str(path)}
        if earlier:
            digest = await asyncio.to_thread(_sha256, path)
            for document in earlier:
                if known.digests.get(document.file_id or "") == digest and self._is_cut_alike(document):
                    same = await self._settled(document)
                    if same.state is DocumentState.COMPLETED:
                        if same.metadata != metadata:
                            same = await self.memory.set_metadata(self.bank_id, same.document_id, metadata, self.caller)
                        await self._forget([one for one in earlier if one is not document])
                        return added(str(path), same, "unchanged")
        status = await self._settled(await self._attached(path, metadata))
        is_there = status.state is DocumentState.COMPLETED
        await self._forget([one for one in earlier if is_there or one.state is DocumentState.FAILED])
        return added(str(path), status, "changed" if earlier else "added")

    def _is_cut_alike(self, document: DocumentStatus) -> bool:
        if self.sizes is None:
            return True
        return document.sizes is not None and all(
            wanted is None or getattr(document.sizes, name) == wanted for name, wanted in self.sizes
        )

    async def _attached(self, path: Path, metadata: JsonObject) -> DocumentStatus:
        about = NewFile(filename=path.name, purpose=FilePurpose.ASSISTANTS)
        file = await self.files.create(_pieces(path), about, self.caller)
        try:
            return await self.memory.attach_file(
                self.bank_id, file.file_id, self.caller, metadata=metadata, sizes=self.sizes
            )
        except BaseException:
            await asyncio.shield(self.files.delete(file.file_id, self.caller))
            raise

    async def _settled(self, status: DocumentStatus) -> DocumentStatus:
        pause_s = FIRST_LOOK_S
        while status.state in _UNFINISHED:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_LOOK_S)
            status = await self.memory.document(self.bank_id, status.document_id, self.caller)
        return status

    async def _forget(self, documents: Sequence[DocumentStatus]) -> None:
        await forget(self.memory, self.files, self.bank_id, documents, self.caller)


async def forget(
    memory: Memory, files: Files, bank_id: str, documents: Sequence[DocumentStatus], caller: Caller
) -> int:
    """Delete the documents, and the files that were uploaded for them alone; tells how many there were."""
    if not documents:
        return 0
    gone = await memory.delete_documents(bank_id, [document.document_id for document in documents], caller)
    for document in documents:
        if document.file_id is not None and PATH in document.metadata:
            try:
                await files.delete(document.file_id, caller)
            except NotFound:
                continue  # somebody else was quicker
    return gone


@dataclass(frozen=True)
class _Known:
    """by_path: documents of the bank by the file they were read from. digests: SHA-256 of uploaded files by id."""

    by_path: dict[str, list[DocumentStatus]]
    digests: dict[str, str]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _pieces(path: Path) -> AsyncGenerator[bytes, None]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while piece := await asyncio.to_thread(file.read, _READ_BYTES):
            yield piece
