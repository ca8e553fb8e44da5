"""Takes files into a bank and is killed at its work: `python dying_ingestion.py HOME COUNT MOMENT NUMBER`.

MOMENT says at what it dies, for the NUMBERth time: `embedding` when a text is to be embedded, `completing` when a
document lies in its bank and its row is to say so. Every file's name that is embedded goes to a log in HOME.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from llama_stack.api.common import Caller
from llama_stack.api.files import FilePurpose, NewFile
from llama_stack.api.inference import EmbeddingAnswer, EmbeddingRequest
from llama_stack.api.memory import BatchFile
from llama_stack.api.resources import MemoryBank, VectorBank
from llama_stack.storage.documents import DocumentStore, Ready, Working
from tests.memory.hashed import ALICE, EmbeddingInference, open_memory_stack

BANK = "many"
BROKEN_EVERY = 33
"""Three files of a hundred cannot be read."""
_BROKEN = (("pdf", b"%PDF-1.7 broken off"), ("docx", b"PK\x03\x04 broken off"), ("txt", b" \n"))
_AT_ONCE = 16
FILES_A_BATCH = 1_000


def broken_of(count: int) -> list[int]:
    """Numbers of the files that cannot be read."""
    return [number for number in range(count) if number % BROKEN_EVERY == BROKEN_EVERY - 1][: count * 3 // 100]


def log_of(home: Path, process: str) -> Path:
    return home / f"embedded-by-{process}"


class LoggingInference(EmbeddingInference):
    """Notes which file each text is of, whatever happens to the process afterwards. begin: it waits until then."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self._log = log
        self.begin = asyncio.Event()

    async def embed(self, request: EmbeddingRequest, caller: Caller) -> EmbeddingAnswer:
        await self.begin.wait()
        with self._log.open("a", encoding="utf-8") as log:
            for text in request.inputs:
                log.write(f"{str(text).split()[0]}\n")
        return await super().embed(request, caller)


class DyingInference(LoggingInference):
    """embeddings_to_live: texts."""

    def __init__(self, log: Path, embeddings_to_live: int | None) -> None:
        super().__init__(log)
        self._left = embeddings_to_live

    async def embed(self, request: EmbeddingRequest, caller: Caller) -> EmbeddingAnswer:
        if self._left is not None and self.begin.is_set():
            self._left -= len(request.inputs)
            if self._left <= 0:
                die()
        return await super().embed(request, caller)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_completing(number: int) -> None:
    left = number
    complete = DocumentStore.complete

    async def completing(self: DocumentStore, workings: Sequence[tuple[Working, Ready]]) -> list[Working]:
        nonlocal left
        left -= len(workings)
        if left <= 0:
            die()
        return await complete(self, workings)

    DocumentStore.complete = completing  # type: ignore[method-assign]  # this process is the test's own


async def _content(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def run(home: Path, count: int, moment: str, number: int) -> None:
    broken = {place: _BROKEN[order % len(_BROKEN)] for order, place in enumerate(broken_of(count))}
    inference = DyingInference(log_of(home, "first"), number if moment == "embedding" else None)
    if moment == "completing":
        die_completing(number)
    async with open_memory_stack(home, inference=inference) as stack:
        files, memory = await stack.files(), await stack.memory()
        await memory.create_bank(
            MemoryBank(identifier=BANK, provider_id="", provider_resource_id="", bank=VectorBank()), ALICE
        )
        places = iter(range(count))
        file_ids: list[str] = []

        async def upload() -> None:
            for place in places:
                text = f"file-{place:05} tells what was seen on day {place} and by whom.".encode()
                ending, content = broken.get(place, ("md", text))
                about = NewFile(filename=f"file-{place:05}.{ending}", purpose=FilePurpose.ASSISTANTS)
                file_ids.append((await files.create(_content(content), about, ALICE)).file_id)

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(upload())
        for first in range(0, count, FILES_A_BATCH):
            some = [BatchFile(file_id=file_id) for file_id in file_ids[first : first + FILES_A_BATCH]]
            await memory.attach_batch(BANK, some, ALICE)
        inference.begin.set()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
