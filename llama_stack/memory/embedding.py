"""Texts to vectors for memory: many callers' texts in few requests, each text once, and nobody long behind another.

A question goes to the model at once. So do the few texts of somebody who waits for them, in a lane beside the one of
large documents. While such work is under way, and a while after it, what is large goes in small requests one by one:
a model that answers in the order of arrival is then never far from the next question.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from llama_stack.api.common import Caller
from llama_stack.api.inference import EmbeddingAnswer, EmbeddingRequest, Inference
from llama_stack.api.vectors import Vectors
from llama_stack.errors import ProviderFailed, StackError, UnsupportedParameter
from llama_stack.memory.embedding_turns import BACKGROUND_SHARE, FOREGROUND_SHARE, Lane, Order, Portion, Request

TEXTS_A_REQUEST = 64
REQUESTS_AT_ONCE = 4
"""Of each lane."""
FEW_TEXTS = 16
"""Whoever waits for no more does not wait behind those who bring more."""
SMALL_REQUEST = 16
"""Texts of the one request at a time that is made of large documents while others wait for the model."""
CALM_AFTER_S = 30.0
"""Since somebody waited for the model; the next question of a person is likely before."""
_FAULTS_OF_A_TEXT = (400, 413, 422)
_OPTIONAL: dict[str, str | None] = {"truncate": "refuse", "task": None}
"""Fields that better the vectors where the model's server knows them, with what says nothing."""


@dataclass
class _Line:
    """Those who wait for one model as one owner. few: in the foreground, with few texts; many: everything else."""

    model: str
    caller: Caller
    few: Lane = field(default_factory=Lane)
    many: Lane = field(default_factory=Lane)


@dataclass
class _Demand:
    """For one model: how many wait for an answer now, and when the last of them had it."""

    waiting: int = 0
    last: float = -math.inf


class Embedder:
    """Embeds; small requests that come while the model is busy go together in the next one."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference
        self._lines: dict[tuple[str, str], _Line] = {}
        self._demand: dict[str, _Demand] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._unknown: dict[str, dict[str, str | None]] = {}
        self._is_closed = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Embedder"]:
        try:
            yield self
        finally:
            self._is_closed = True
            for line in list(self._lines.values()):
                for order in line.few.orders() | line.many.orders():
                    order.done.cancel()
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def embed_query(self, model: str, text: str, dimension: int, caller: Caller) -> bytes:
        """The vector of a question. Raises as `Inference.embed` does."""
        request = EmbeddingRequest(model=model, inputs=[text], truncate="end", task="query")
        with self._demanded(model):
            answer = await self._answer(request, caller)
        return _checked(answer.vectors, 1, dimension, model).row_bytes(0)

    async def embed_documents(
        self, model: str, texts: Sequence[str], dimension: int, caller: Caller, *, in_background: bool = False
    ) -> Vectors:
        """A vector for each text; equal texts are embedded once. What is too long for the model is cut at its end.

        in_background: nobody waits for the answer, so those who wait go first.
        """
        if not texts:
            return Vectors(b"", dimension)
        if caller.provider_credentials:
            return await self._embed_alone(model, texts, dimension, caller)
        line = self._lines.setdefault((model, caller.owner), _Line(model, caller))
        places: dict[str, int] = {}
        positions = [places.setdefault(text, len(places)) for text in texts]
        done = asyncio.get_running_loop().create_future()
        order = Order(list(places), dimension, BACKGROUND_SHARE if in_background else FOREGROUND_SHARE, done)
        if in_background or len(places) > FEW_TEXTS:
            return await self._placed(line, line.many, order, positions)
        with self._demanded(model):
            return await self._placed(line, line.few, order, positions)

    async def _placed(self, line: _Line, lane: Lane, order: Order, positions: Sequence[int]) -> Vectors:
        lane.add(order)
        self._serve(line, lane)
        try:
            await order.done
        finally:
            lane.discard(order)
            for request in list(order.requests):
                request.stop_if_unwanted()
        return order.vectors(positions)

    @contextmanager
    def _demanded(self, model: str) -> Iterator[None]:
        demand = self._demand.setdefault(model, _Demand())
        demand.waiting += 1
        try:
            yield
        finally:
            demand.waiting -= 1
            demand.last = asyncio.get_running_loop().time()

    def _is_demanded(self, model: str) -> bool:
        demand = self._demand.get(model)
        if demand is None:
            return False
        return bool(demand.waiting) or asyncio.get_running_loop().time() - demand.last < CALM_AFTER_S

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

    def _serve(self, line: _Line, lane: Lane) -> None:
        """Soon: who comes at the same moment goes into the same request."""
        if not lane.is_due and not self._is_closed:
            lane.is_due = True
            asyncio.get_running_loop().call_soon(self._begin, line, lane)

    def _begin(self, line: _Line, lane: Lane) -> None:
        lane.is_due = False
        texts, at_once = TEXTS_A_REQUEST, REQUESTS_AT_ONCE
        if lane is line.many and self._is_demanded(line.model):
            texts, at_once = SMALL_REQUEST, 1
        while not self._is_closed and len(lane.requests) < at_once and (portions := lane.take(texts)):
            request = Request(portions)
            lane.requests.add(request)
            for portion in portions:
                portion.order.requests.add(request)
            request.task = asyncio.create_task(self._work(line, lane, request), name=f"embedding with {line.model}")
            self._tasks.add(request.task)
            request.task.add_done_callback(self._tasks.discard)
        if line.few.is_idle and line.many.is_idle:
            self._lines.pop((line.model, line.caller.owner), None)

    async def _work(self, line: _Line, lane: Lane, request: Request) -> None:
        try:
            await self._fulfil(line, request.portions)
        finally:
            lane.requests.discard(request)
            for portion in request.portions:
                portion.order.requests.discard(request)
            self._serve(line, lane)

    async def _fulfil(self, line: _Line, portions: Sequence[Portion]) -> None:
        texts = [text for portion in portions for text in portion.texts]
        try:
            rows = await self._asked(line.model, texts, line.caller)
        except StackError as error:
            if len(portions) > 1 and error.http_status in _FAULTS_OF_A_TEXT:
                for portion in portions:  # the fault is one's; the others are not to suffer for it
                    await self._fulfil(line, [portion])
                return
            _tell(portions, error)
            return
        except Exception as error:  # whoever waits is told, whatever it is
            _tell(portions, error)
            return
        for portion in portions:
            own, rows = rows[: len(portion.texts)], rows[len(portion.texts) :]
            try:
                vectors = _checked(own, len(own), portion.order.dimension, line.model)
            except ProviderFailed as error:
                portion.order.fail(error)
            else:
                portion.order.keep(portion.start, vectors)


def _tell(portions: Sequence[Portion], error: Exception) -> None:
    for portion in portions:
        portion.order.fail(error)


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
