"""The worker processes: private, watched, replaced when they die, gone when their parent is."""

import asyncio
import os
import select
import signal
import stat
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import aiohttp
import pytest

from llama_stack.api.answers import collect
from llama_stack.api.inference import GrammarFormat, TextDelta
from llama_stack.errors import ProviderTimeout, ProviderUnavailable, RateLimited
from llama_stack_providers.inline._llama_cpp.engine import Engine
from llama_stack_providers.inline.llama_cpp import LlamaCppInference
from tests.providers.inline.llama_cpp.conftest import CALLER, ask, opened, resource

pytestmark = pytest.mark.engine
ENDLESS = GrammarFormat(grammar="root ::= ([a-z ]{50}){30}")
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="unix sockets and signals")


async def loaded(inference: LlamaCppInference, model: str) -> Engine:
    async with inference.models.use(model) as engine:
        return engine


async def busy_slots(engine: Engine) -> int:
    return sum(slot["is_processing"] for slot in await engine.call("/slots"))


async def slots_free(engine: Engine) -> None:
    while await busy_slots(engine):
        pass


def permissions(path: Path) -> int | None:
    """None where nothing is there."""
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else None


def command_line(pid: int) -> str:
    return subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout


@posix_only
async def test_the_socket_is_private_and_keyed(model: str, tmp_path: Path) -> None:
    """Trap: the engine's listener is open by default: any program, or a web page, could use it."""
    async with opened(tmp_path, resource(model)) as inference:
        engine = await loaded(inference, model)
        socket = engine.worker.orders.socket
        assert socket is not None
        assert permissions(Path(socket).parent) == 0o700
        connector = aiohttp.UnixConnector(socket)
        async with (
            aiohttp.ClientSession(connector=connector) as stranger,
            stranger.post("http://engine/completion", json={"prompt": "x"}) as answer,
        ):
            assert answer.status == 401
        assert engine.worker.orders.api_key not in command_line(engine.worker.pid)
    assert permissions(Path(socket).parent) is None


async def test_a_worker_may_listen_on_loopback_instead(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows: a free port, guarded by the key."""
    monkeypatch.setattr("llama_stack_providers.inline._llama_cpp.process.UNIX_SOCKETS", False)
    async with opened(tmp_path, resource(model)) as inference:
        engine = await loaded(inference, model)
        assert engine.worker.address.startswith("http://127.0.0.1:")
        assert (await collect(inference.stream_chat(ask(model, "hello"), CALLER))).message.content
        async with (
            aiohttp.ClientSession() as stranger,
            stranger.post(f"{engine.worker.address}/completion", json={"prompt": "x"}) as answer,
        ):
            assert answer.status == 401


@posix_only
async def test_a_folder_too_deep_for_a_socket_keeps_no_worker_from_its_work(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    async with opened(tmp_path, resource(model)) as inference:
        assert (await loaded(inference, model)).worker.address.startswith("http://127.0.0.1:")
        assert (await collect(inference.stream_chat(ask(model, "hello"), CALLER))).message.content
    assert not list(deep.iterdir())


def chat_in_a_thread(model: str, home: Path) -> str:
    async def chat() -> str:
        async with opened(home, resource(model)) as inference:
            return str((await collect(inference.stream_chat(ask(model, "hello"), CALLER))).message.content)

    return asyncio.run(chat())


async def test_the_engine_works_in_a_loop_of_another_thread(model: str, tmp_path: Path) -> None:
    assert await asyncio.wait_for(asyncio.to_thread(chat_in_a_thread, model, tmp_path), 60)


@posix_only
async def test_a_killed_worker_fails_its_requests_clearly_and_is_replaced(model: str, tmp_path: Path) -> None:
    async with opened(tmp_path, resource(model)) as inference:
        engine = await loaded(inference, model)
        broken: list[str] = []

        async def reader(started: asyncio.Event) -> None:
            try:
                async with aclosing(
                    inference.stream_chat(ask(model, "hello", response_format=ENDLESS), CALLER)
                ) as stream:
                    async for _ in stream:
                        started.set()
            except ProviderUnavailable as error:
                broken.append(error.message)

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            starts = [asyncio.Event() for _ in range(3)]
            for started in starts:
                group.create_task(reader(started))
            for started in starts:
                await started.wait()
            os.kill(engine.worker.pid, signal.SIGKILL)
        assert len(broken) == 3
        assert all(
            Path(model).stem in message and "SIGKILL" in message and "starts it again" in message for message in broken
        )
        answer = await collect(inference.stream_chat(ask(model, "hello"), CALLER))
        assert answer.message.content
        assert (await loaded(inference, model)).worker.pid != engine.worker.pid


@posix_only
async def test_a_stuck_worker_is_given_up_and_replaced(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llama_stack_providers.inline._llama_cpp.engine.STUCK_AFTER_S", 1.0)
    async with opened(tmp_path, resource(model), stall_timeout_s=3) as inference:
        engine = await loaded(inference, model)
        os.kill(engine.worker.pid, signal.SIGSTOP)
        with pytest.raises(ProviderTimeout, match="was silent for too long; raise stall_timeout_s"):
            await collect(inference.stream_chat(ask(model, "hello"), CALLER))
        assert not engine.alive
        assert (await collect(inference.stream_chat(ask(model, "hello"), CALLER))).choices


@posix_only
async def test_a_worker_ignores_the_interrupt_of_its_terminal(model: str, tmp_path: Path) -> None:
    async with opened(tmp_path, resource(model)) as inference:
        engine = await loaded(inference, model)
        os.kill(engine.worker.pid, signal.SIGINT)
        assert (await collect(inference.stream_chat(ask(model, "hello"), CALLER))).choices
        assert engine.alive


PARENT = """
import asyncio, sys
from pathlib import Path
from tests.providers.inline.llama_cpp.conftest import opened, resource

async def main():
    async with opened(Path(sys.argv[2]), resource(sys.argv[1])) as inference:
        async with inference.models.use(sys.argv[1]) as engine:
            print(engine.worker.pid, engine.worker.orders.socket, flush=True)
            await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux process descriptors")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
async def test_no_worker_outlives_its_parent(model: str, tmp_path: Path, end: signal.Signals) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, model, str(tmp_path), stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL, cwd=Path(__file__).parents[4],
    )  # fmt: skip
    assert parent.stdout is not None
    pid, socket = (await asyncio.wait_for(parent.stdout.readline(), 60)).split()
    worker = os.pidfd_open(int(pid))
    try:
        parent.send_signal(end)
        await parent.wait()
        gone, _, _ = await asyncio.to_thread(select.select, [worker], [], [], 10)
        assert gone, "the worker is still there"
    finally:
        os.close(worker)
    assert permissions(Path(socket.decode())) is None


async def test_hanging_up_frees_the_slot(model: str, tmp_path: Path) -> None:
    async with opened(tmp_path, resource(model)) as inference:
        engine = await loaded(inference, model)
        async with aclosing(inference.stream_chat(ask(model, "hello", response_format=ENDLESS), CALLER)) as stream:
            async for event in stream:
                if isinstance(event, TextDelta):
                    break
            assert await busy_slots(engine) == 1
        async with asyncio.timeout(60):
            await slots_free(engine)


async def test_cancelling_the_reader_frees_the_slot(model: str, tmp_path: Path) -> None:
    async with opened(tmp_path, resource(model)) as inference:
        engine = await loaded(inference, model)
        reading = asyncio.create_task(
            collect(inference.stream_chat(ask(model, "hello", response_format=ENDLESS, n=3), CALLER))
        )
        async with asyncio.timeout(60):
            while await busy_slots(engine) < 3:
                pass
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        async with asyncio.timeout(60):
            await slots_free(engine)


async def test_eight_streams_share_four_slots(model: str, tmp_path: Path) -> None:
    async with opened(tmp_path, resource(model, metadata={"temperature": 0})) as inference:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            running = [group.create_task(collect(inference.stream_chat(ask(model, "hello"), CALLER))) for _ in range(8)]
        assert len({str(task.result().message.content) for task in running}) == 1


async def test_the_queue_is_bounded(model: str, tmp_path: Path) -> None:
    async with opened(tmp_path, resource(model), parallel_slots=1, max_queue=1) as inference:
        async with aclosing(inference.stream_chat(ask(model, "hello", response_format=ENDLESS), CALLER)) as stream:
            await anext(stream)
            waiting = asyncio.create_task(collect(inference.stream_chat(ask(model, "hi", max_tokens=1), CALLER)))
            engine = await loaded(inference, model)
            async with asyncio.timeout(60):
                while not engine.waiting:
                    await engine.call("/health")
            with pytest.raises(RateLimited, match="is working on 1 requests and 1 wait") as refused:
                await collect(inference.stream_chat(ask(model, "hi"), CALLER))
            assert refused.value.retry_after_s is not None
        assert (await asyncio.wait_for(waiting, 60)).choices


async def test_a_waiting_request_can_be_cancelled(model: str, tmp_path: Path) -> None:
    async with (
        opened(tmp_path, resource(model), parallel_slots=1) as inference,
        aclosing(inference.stream_chat(ask(model, "hello", response_format=ENDLESS), CALLER)) as stream,
    ):
        await anext(stream)
        waiting = asyncio.create_task(collect(inference.stream_chat(ask(model, "hi"), CALLER)))
        engine = await loaded(inference, model)
        async with asyncio.timeout(60):
            while not engine.waiting:
                await engine.call("/health")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert engine.waiting == 0


async def test_closing_the_provider_ends_what_is_under_way(model: str, tmp_path: Path) -> None:
    async with opened(tmp_path, resource(model)) as inference:
        stream = inference.stream_chat(ask(model, "hello", response_format=ENDLESS), CALLER)
        await anext(stream)
        engine = await loaded(inference, model)
    assert not engine.alive
    with pytest.raises((ProviderUnavailable, StopAsyncIteration)):
        async with asyncio.timeout(60):
            while True:
                await anext(stream)
