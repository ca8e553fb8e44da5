"""The sync face's thread: it opens, closes, is interrupted and leaves nothing behind."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest

from llama_stack import LlamaStack, errors
from llama_stack.api.inference import ChatEnd, ChoiceEnd, TextDelta
from llama_stack.sdk.loop_thread import LoopThread
from llama_stack.testing.scripted import ScriptedInference
from tests.client.ways import in_process, play

LIMIT_S = 60.0


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_no_thread_is_left_when_the_stack_is_closed() -> None:
    before = threads()
    with in_process(ScriptedInference()) as stack:
        assert stack.chat("Hi").text == "Hello world"
        assert "llama-stack" in threads()
    assert threads() == before


def test_no_thread_is_left_when_the_stack_cannot_be_opened() -> None:
    before = threads()
    with pytest.raises(errors.ConfigError, match="there is no distribution named 'startr'"):
        LlamaStack.open("startr").start()
    assert threads() == before


def test_a_stack_may_be_started_and_closed_without_a_block() -> None:
    stack = in_process(ScriptedInference()).start()
    assert stack.chat("Hi").text == "Hello world"
    stack.close()
    stack.close()
    with pytest.raises(errors.Conflict, match="this stack is closed"):
        stack.chat("Hi")


async def test_an_opening_is_used_once() -> None:
    opening = in_process(ScriptedInference())
    async with opening as stack:
        assert (await stack.chat("Hi")).text == "Hello world"
    with pytest.raises(RuntimeError, match="opened already"):
        async with opening:
            pass


def test_the_context_is_left_by_the_task_that_entered_it() -> None:
    tasks: list[object] = []

    @asynccontextmanager
    async def enter() -> AsyncIterator[str]:
        tasks.append(asyncio.current_task())
        async with asyncio.TaskGroup():
            yield "held"
        tasks.append(asyncio.current_task())

    with LoopThread(enter) as thread:
        assert thread.held == "held"
    assert tasks[0] is tasks[1]


def test_an_error_while_closing_is_raised_by_close() -> None:
    @asynccontextmanager
    async def enter() -> AsyncIterator[None]:
        yield
        raise OSError("the disk is full")

    thread = LoopThread(enter)
    with pytest.raises(OSError, match="the disk is full"):
        thread.close()
    thread.close()


@asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    yield


def test_closing_cancels_what_is_still_running() -> None:
    started, cancelled = threading.Event(), threading.Event()

    async def hang() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    thread = LoopThread(nothing)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(thread.wait, hang())
        assert started.wait(LIMIT_S)
        thread.close()
        with pytest.raises(errors.Conflict, match="closed before this was done"):
            waiting.result(LIMIT_S)
    assert cancelled.is_set()


def test_closing_ends_an_iteration_under_way() -> None:
    cancelled = threading.Event()

    async def numbers() -> AsyncGenerator[int, None]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    thread = LoopThread(nothing)
    items = thread.iterate(numbers())
    assert next(items) == 1
    thread.close()
    with pytest.raises(errors.Conflict):
        next(items)
    assert cancelled.is_set()


def test_a_generator_is_read_by_one_task_and_may_hold_a_task_group() -> None:
    async def numbers() -> AsyncGenerator[int, None]:
        async with asyncio.TaskGroup(), asyncio.timeout(LIMIT_S):
            for number in range(200):
                yield number

    with LoopThread(nothing) as thread:
        assert list(thread.iterate(numbers())) == list(range(200))
        assert next(thread.iterate(numbers())) == 0


def test_a_slow_reader_holds_the_generator_back() -> None:
    made: list[int] = []

    async def numbers() -> AsyncGenerator[int, None]:
        for number in range(100_000):
            made.append(number)
            yield number

    with LoopThread(nothing) as thread:
        items = thread.iterate(numbers())
        assert [next(items) for _ in range(10)] == list(range(10))
        assert len(made) < 1000


def test_an_error_in_a_generator_comes_after_its_items() -> None:
    async def numbers() -> AsyncGenerator[int, None]:
        yield 1
        raise ValueError("no more")

    with LoopThread(nothing) as thread:
        items = thread.iterate(numbers())
        assert next(items) == 1
        with pytest.raises(ValueError, match="no more"):
            next(items)


def test_the_loops_own_thread_is_refused_instead_of_blocked_forever() -> None:
    with LoopThread(nothing) as thread:

        async def inside() -> None:
            thread.wait(asyncio.sleep(0))

        with pytest.raises(errors.Conflict, match="called from its own event loop"):
            thread.wait(inside())


def test_many_threads_use_one_stack_at_once() -> None:
    inference = ScriptedInference()
    with in_process(inference) as stack, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: stack.chat(str(number)).text, range(100)))
    assert answers == ["Hello world"] * 100
    assert len(inference.requests) == 100


async def test_many_tasks_use_one_connection_at_once(inference: ScriptedInference, server: LoopThread[str]) -> None:
    play(inference, [TextDelta(text="hi"), ChoiceEnd(finish_reason="stop"), ChatEnd()])
    async with LlamaStack.connect(server.held) as stack, asyncio.TaskGroup() as group:
        chats = [group.create_task(stack.chat(str(number))) for number in range(100)]
    assert {chat.result().text for chat in chats} == {"hi"}


FORGETFUL = """
from contextlib import asynccontextmanager
from llama_stack.sdk.loop_thread import LoopThread

@asynccontextmanager
async def enter():
    yield
    print("left")

thread = LoopThread(enter)
"""


def test_a_stack_nobody_closed_is_closed_when_the_interpreter_ends() -> None:
    ended = subprocess.run([sys.executable, "-c", FORGETFUL], capture_output=True, text=True, timeout=60, check=True)
    assert (ended.stdout, ended.stderr) == ("left\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to itself")
@pytest.mark.parametrize("iterating", [False, True])
def test_an_interrupted_wait_stops_the_work(iterating: bool) -> None:
    started, stopped = threading.Event(), threading.Event()

    async def hang() -> AsyncGenerator[int, None]:
        try:
            started.set()
            await asyncio.Event().wait()
            yield 1
        finally:
            stopped.set()

    def interrupt() -> None:
        assert started.wait(LIMIT_S)
        os.kill(os.getpid(), signal.SIGINT)

    with LoopThread(nothing) as thread, ThreadPoolExecutor(1) as pool:
        pool.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            if iterating:
                list(thread.iterate(hang()))
            else:
                thread.wait(anext(hang()))
        assert stopped.wait(LIMIT_S)
