"""Work done side by side, and work that has nothing beside it."""

import asyncio

import pytest

from llama_stack.errors import NotFound
from llama_stack.gathering import gathered


async def said(word: str) -> str:
    await asyncio.sleep(0)
    return word


async def failing(word: str) -> str:
    raise NotFound(word)


async def test_results_come_in_the_order_of_the_work() -> None:
    assert await gathered([]) == []
    assert await gathered([said("a")]) == ["a"]
    assert await gathered(said(word) for word in "abc") == ["a", "b", "c"]


@pytest.mark.parametrize("others", [0, 2])
async def test_a_failure_is_raised_as_itself(others: int) -> None:
    with pytest.raises(NotFound, match="the bank"):
        await gathered([failing("the bank"), *(said("nothing") for _ in range(others))])


@pytest.mark.parametrize("count", [1, 3])
async def test_cancelling_the_caller_ends_all_of_it(count: int) -> None:
    begun, ended = asyncio.Semaphore(0), []

    async def waiting(number: int) -> None:
        begun.release()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    task = asyncio.create_task(gathered(waiting(number) for number in range(count)))
    async with asyncio.timeout(60):
        for _ in range(count):
            await begun.acquire()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert sorted(ended) == list(range(count))
