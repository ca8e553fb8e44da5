"""The starter distribution through the SDK: the real engine, opened in process and served, async and sync."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llama_stack import Agent, LlamaStack, Sampling, SyncAgent, errors
from llama_stack.compose import open_stack
from llama_stack.distribution import load_distribution
from llama_stack.sdk.loop_thread import LoopThread
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving

pytestmark = pytest.mark.engine


def children() -> set[str]:
    """Process ids of this process's living children (proc(5), task/*/children)."""
    return {child for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()}


async def test_in_process_from_async_code(micro_model: Path) -> None:
    async with LlamaStack.open("starter", model=str(micro_model)) as stack:
        answer = await stack.chat("hello", temperature=0, max_tokens=30)
        pieces = [event async for event in stack.stream_chat("hello", temperature=0, max_tokens=30)]
        vectors = (await stack.embed(["a cat", "a kitten", "the stock market"])).vectors

    assert answer.text
    assert "".join(piece.text for piece in pieces if piece.type == "text") == answer.text
    cat, kitten, market = vectors
    assert dot(cat, kitten) > dot(cat, market)


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="tells its children by /proc")
async def test_in_process_from_sync_code_inside_a_running_loop(micro_model: Path) -> None:
    threads, processes = set(threading.enumerate()), children()
    with LlamaStack.open("starter", model=str(micro_model)) as stack:
        assert stack.chat("hello", temperature=0, max_tokens=30).text
        for _ in stack.stream_chat("hello", temperature=0, max_tokens=30):
            break
        result = SyncAgent(stack, sampling=Sampling(temperature=0, max_tokens=30)).run("hello")
        assert result.text
        assert children() - processes

    # The thread that waits for the engine's process ends a moment after the process has.
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)
    assert set(threading.enumerate()) <= threads
    assert children() <= processes


async def test_local_and_served_stack_give_the_same_answers(micro_model: Path) -> None:
    distribution = load_distribution("starter", model=str(micro_model))

    @asynccontextmanager
    async def served() -> AsyncIterator[str]:
        async with open_stack(distribution) as stack, serving(create_app(stack)) as url:
            yield url

    def shout(text: str) -> str:
        """Say a text loudly."""
        return text.upper()

    async def answers(stack: LlamaStack) -> list[object]:
        agent = Agent(stack, tools=[shout])
        return [
            (await stack.chat("hello", temperature=0, max_tokens=30)).model_dump(exclude={"extra", "model"}),
            (await stack.embed("hello")).vectors,
            (await agent.run("thank you")).text,
            (await stack.model("all-minilm-l6-v2")).model_dump(),
            [provider.model_dump() for provider in await stack.providers()],
        ]

    async with LlamaStack.open("starter", model=str(micro_model)) as stack:
        local = await answers(stack)
    with LoopThread(served) as server:
        async with LlamaStack.connect(server.held) as stack:
            assert await answers(stack) == local


async def test_the_same_mistakes_are_the_same_errors(micro_model: Path) -> None:
    distribution = load_distribution("starter", model=str(micro_model))

    async def mistakes(stack: LlamaStack) -> list[tuple[object, ...]]:
        found: list[tuple[object, ...]] = []
        for options in (
            {"model": "no-such-model"},
            {"messages": "word " * 5000},
            {"model": "all-minilm-l6-v2"},
            {"tool_choice": "required"},
        ):
            with pytest.raises(errors.StackError) as raised:
                await stack.chat(**{"messages": "hi", **options})
            error = raised.value
            found.append((type(error), error.http_status, error.code, error.param))
        return found

    async with open_stack(distribution) as local, serving(create_app(local)) as url:
        async with LlamaStack.connect(url) as connected:
            over_http = await mistakes(connected)
        assert await mistakes(LlamaStack(local, connected.caller)) == over_http
    assert over_http[0][:2] == (errors.NotFound, 404)
    assert over_http[1][:2] == (errors.ContextOverflow, 400)
    assert over_http[2][:2] == (errors.UnsupportedParameter, 400)
