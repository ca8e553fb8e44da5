"""Texts to vectors for memory: many callers' texts in few requests, each text once."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from llama_stack.api.common import Caller
from llama_stack.api.inference import EmbeddingAnswer, EmbeddingRequest, Inference
from llama_stack.api.vectors import Vectors
from llama_stack.errors import ProviderFailed, UnsupportedParameter

TEXTS_A_REQUEST = 64
REQUESTS_AT_ONCE = 4
MAX_WAITING = 4096
"""Texts that wait; whoever brings more waits before handing them over."""
_OPTIONAL: dict[str, str | None] = {"truncate": "refuse", "task": None}
"""Fields that better the vectors where the model's server knows them, with what says nothing."""


@dataclass
class _Wish:
    text: str
    done: "asyncio.Future[list[float]]"


@dataclass
class _Line:
    """Those who wait for one model as one owner."""

    model: str
    caller: Caller
    waiting: list[_Wish] = field(default_factory=list)
    busy: int = 0


class Embedder:
    """Embeds; small requests that come while the model is busy go together in the next one."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference
        self._lines: dict[tuple[str, str], _Line] = {}
        self._room = asyncio.Semaphore(MAX_WAITING)
        self._tasks: set[asyncio.Task[None]] = set()
        self._unknown: dict[str, dict[str, str | None]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Embedder"]:
        try:
            yield self
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def embed_query(self, model: str, text: str, dimension: int, caller: Caller) -> bytes:
        """The vector of a question. Raises as `Inference.embed` does."""
        answer = await self._answer(EmbeddingRequest(model=model, inputs=[text], truncate="end", task="query"), caller)
        return _checked(answer.vectors, 1, dimension, model).row_bytes(0)

    async def embed_documents(self, model: str, texts: Sequence[str], dimension: int, caller: Caller) -> Vectors:
        """A vector for each text; equal texts are embedded once. What is too long for the model is cut at its end."""
        if caller.provider_credentials:
            return await self._embed_alone(model, texts, dimension, caller)
        line = self._lines.setdefault((model, caller.owner), _Line(model, caller))
        wishes: dict[str, _Wish] = {}
        loop = asyncio.get_running_loop()
        for text in texts:
            if text in wishes:
                continue
            await self._room.acquire()
            wish = wishes[text] = _Wish(text, loop.create_future())
            wish.done.add_done_callback(lambda _: self._room.release())
            line.waiting.append(wish)
            self._serve(line)
        try:
            rows = [await wishes[text].done for text in texts]
        finally:
            for wish in wishes.values():
                if not wish.done.cancel() and not wish.done.cancelled():
                    wish.done.exception()  # one failure of many is told; nobody asks for the others
        return _checked(rows, len(texts), dimension, model)

    async def _embed_alone(self, model: str, texts: Sequence[str], dimension: int, caller: Caller) -> Vectors:
        rows: list[list[float]] = []
        for first in range(0, len(texts), TEXTS_A_REQUEST):
            rows += await self._asked(model, texts[first : first + TEXTS_A_REQUEST], caller)
        return _checked(rows, len(texts), dimension, model)

    async def _asked(self, model: str, texts: Sequence[str], caller: Caller) -> list[list[float]]:
        request = EmbeddingRequest(model=model, inputs=list(texts), truncate="end", task="document")
        vectors = (await self._answer(request, caller)).vectors
        if len(vectors) != len(texts):
            raise ProviderFailed(f"the model {model!r} made {len(vectors)} vectors of {len(texts)} texts")
        return vectors

    async def _answer(self, request: EmbeddingRequest, caller: Caller) -> EmbeddingAnswer:
        """Most servers' format cannot say where to cut a text, or what it is for; they are asked without."""
        unknown = self._unknown.setdefault(request.model, {})
        while True:
            asked = request.model_copy(update=unknown)
            try:
                return await self._inference.embed(asked, caller)
            except UnsupportedParameter as error:
                name = error.param or ""
                if name not in _OPTIONAL or getattr(asked, name) == _OPTIONAL[name]:
                    raise
                unknown[name] = _OPTIONAL[name]

    def _serve(self, line: _Line) -> None:
        if line.busy >= REQUESTS_AT_ONCE:
            return
        line.busy += 1
        task = asyncio.create_task(self._work(line), name=f"embedding with {line.model}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, line: _Line) -> None:
        try:
            # Whoever brings many texts has brought them all once this task is run again.
            await asyncio.sleep(0)
            while line.waiting:
                taken, line.waiting = line.waiting[:TEXTS_A_REQUEST], line.waiting[TEXTS_A_REQUEST:]
                await self._fulfil(line, [wish for wish in taken if not wish.done.done()])
        finally:
            line.busy -= 1
            if not line.busy and not line.waiting:
                self._lines.pop((line.model, line.caller.owner), None)

    async def _fulfil(self, line: _Line, wishes: list[_Wish]) -> None:
        if not wishes:
            return
        try:
            vectors = await self._asked(line.model, [wish.text for wish in wishes], line.caller)
        except asyncio.CancelledError:
            for wish in wishes:
                wish.done.cancel()
            raise
        except Exception as error:  # whoever waits is told, whatever it is
            for wish in wishes:
                if not wish.done.done():
                    wish.done.set_exception(error)
            return
        for wish, vector in zip(wishes, vectors, strict=True):
            if not wish.done.done():
                wish.done.set_result(vector)


def _checked(rows: Sequence[Sequence[float]], expected: int, dimension: int, model: str) -> Vectors:
    """Raises ProviderFailed for what is not so many usable vectors of that width."""
    if len(rows) != expected or any(len(row) != dimension for row in rows):
        widths = sorted({len(row) for row in rows})
        raise ProviderFailed(
            f"the model {model!r} was to make {expected} vectors of {dimension} numbers, and made {len(rows)} "
            f"of {', '.join(map(str, widths)) or 'none'}"
        )
    for row in rows:
        if not math.isfinite(sum(row)) or not any(row):
            raise ProviderFailed(f"the model {model!r} made a vector of zeros, or with numbers that are none")
    return Vectors.of(rows, dimension)
