"""Whose texts a model is given next: all who wait get some, and whoever brings little does not wait for much."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from llama_stack.api.vectors import FLOAT_BYTES, Vectors

FOREGROUND_SHARE = 8
BACKGROUND_SHARE = 1
"""Texts that a request takes of an order before the next has its turn: files that are read in the background go on, and
hold up nobody who waits for an answer."""


@dataclass(eq=False)
class Order:
    """The different texts of one call, and their vectors as they come.

    The texts are the caller's own, not copies: what waits in a lane is bounded by who waits.
    share: texts it may have in a request before the others have had theirs. taken: so many texts went to the model.
    """

    texts: Sequence[str]
    dimension: int
    share: int
    done: "asyncio.Future[None]"
    taken: int = 0
    requests: set["Request"] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._missing = len(self.texts)
        self._rows = bytearray(self._missing * self.dimension * FLOAT_BYTES)

    def keep(self, start: int, vectors: Vectors) -> None:
        """Take the vectors of the texts from `start` on."""
        size = self.dimension * FLOAT_BYTES
        self._rows[start * size : (start + len(vectors)) * size] = vectors.buffer
        self._missing -= len(vectors)
        if not self._missing and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def vectors(self, positions: Sequence[int]) -> Vectors:
        """Those of the texts at the positions, in their order."""
        if len(positions) == len(self.texts):
            return Vectors(self._rows, self.dimension)
        size = self.dimension * FLOAT_BYTES
        rows = memoryview(self._rows)
        return Vectors(b"".join(rows[at * size : (at + 1) * size] for at in positions), self.dimension)


@dataclass
class Portion:
    """The texts of an order from `start` to before `end`."""

    order: Order
    start: int
    end: int

    @property
    def texts(self) -> Sequence[str]:
        return self.order.texts[self.start : self.end]


@dataclass(eq=False)
class Request:
    """What goes to the model at once."""

    portions: list[Portion]
    task: "asyncio.Task[None] | None" = None

    def stop_if_unwanted(self) -> None:
        """Nobody waits for it any more: the model need not go on."""
        if self.task is not None and all(one.order.done.done() for one in self.portions):
            self.task.cancel()


class Lane:
    """Orders that wait for one model; each request takes some texts of as many of them as it has room for."""

    def __init__(self) -> None:
        self._orders: deque[Order] = deque()
        self.requests: set[Request] = set()
        self.is_due = False

    @property
    def is_idle(self) -> bool:
        return not self._orders and not self.requests and not self.is_due

    def add(self, order: Order) -> None:
        """It is served next: of those that wait, it has had least."""
        self._orders.appendleft(order)

    def discard(self, order: Order) -> None:
        if order in self._orders:
            self._orders.remove(order)

    def take(self, limit: int) -> list[Portion]:
        """The next request's texts, at most `limit`; empty where nothing waits."""
        portions: dict[Order, Portion] = {}
        while limit and self._orders:
            order = self._orders.popleft()
            count = min(limit, order.share, len(order.texts) - order.taken)
            portion = portions.setdefault(order, Portion(order, order.taken, order.taken))
            portion.end = order.taken = order.taken + count
            limit -= count
            if order.taken < len(order.texts):
                self._orders.append(order)
        return list(portions.values())

    def orders(self) -> set[Order]:
        """All that are not answered."""
        return {*self._orders, *(one.order for request in self.requests for one in request.portions)}
