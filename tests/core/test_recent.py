"""What was read is known for a moment, and never longer than it may be."""

import asyncio

import pytest

from llama_stack.errors import NotFound
from llama_stack.recent import KEPT_S, Recent


class Shelf:
    """What is read, and how often; `moment` is the clock."""

    def __init__(self) -> None:
        self.value = 1
        self.reads = 0
        self.moment = 0.0
        self.recent: Recent[str, int] = Recent(clock=lambda: self.moment)

    async def read(self) -> int:
        self.reads += 1
        return self.value

    async def get(self) -> int:
        return await self.recent.get("key", self.read)


async def test_it_is_read_once_in_a_while() -> None:
    shelf = Shelf()
    assert [await shelf.get(), await shelf.get()] == [1, 1]
    assert shelf.reads == 1
    shelf.value, shelf.moment = 2, KEPT_S
    assert await shelf.get() == 2


async def test_what_is_changed_here_is_read_again_at_once() -> None:
    shelf = Shelf()
    await shelf.get()
    shelf.value = 2
    shelf.recent.forget("key")
    assert await shelf.get() == 2


async def test_what_was_read_before_a_change_is_not_kept() -> None:
    shelf, is_read, may_return = Shelf(), asyncio.Event(), asyncio.Event()

    async def read_slowly() -> int:
        value = shelf.value
        is_read.set()
        await may_return.wait()
        return value

    under_way = asyncio.create_task(shelf.recent.get("key", read_slowly))
    await is_read.wait()
    shelf.value = 2
    shelf.recent.forget("key")
    may_return.set()
    assert await under_way == 1
    assert await shelf.get() == 2


async def test_what_is_missing_is_looked_for_each_time() -> None:
    shelf = Shelf()

    async def missing() -> int:
        raise NotFound("there is none")

    with pytest.raises(NotFound):
        await shelf.recent.get("key", missing)
    assert await shelf.get() == 1
