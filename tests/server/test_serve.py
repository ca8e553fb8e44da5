"""The server as a process: a taken port, and an orderly end while answers are running."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest

from llama_stack.errors import ConfigError
from llama_stack.server.app import create_app
from llama_stack.server.listening import listen, port_holder
from llama_stack.server.serve import CANCEL_S, DRAIN_S, serve
from llama_stack.testing.scripted import ScriptedStack

PROGRAM = """
import asyncio
from llama_stack.api.inference import TextDelta
from llama_stack.server.app import create_app
from llama_stack.server.serve import run, serve
from llama_stack.testing.scripted import ScriptedInference, ScriptedStack

async def main():
    inference = ScriptedInference([TextDelta(text="begun"), asyncio.Event()])
    await serve(create_app(ScriptedStack(inference)), "127.0.0.1", 0, on_ready=lambda url: print(url, flush=True))
    print("closed early" if inference.closed_early.is_set() else "never closed", flush=True)

run(main())
"""


async def test_a_signal_ends_open_streams_and_then_the_server() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            url = (await process.stdout.readline()).decode().strip()
            body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
            async with (
                httpx.AsyncClient() as http,
                http.stream("POST", f"{url}/v1/chat/completions", json=body) as response,
            ):
                lines = response.aiter_lines()
                while "begun" not in await anext(lines):
                    pass
                process.send_signal(signal.SIGTERM)
                rest = [line async for line in lines if line]
            said = (await process.stdout.read()).decode().strip()
            code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert len(rest) == 1 and "the server is shutting down" in rest[0]
    assert (said, code) == ("closed early", 0)


def test_an_orderly_end_takes_less_than_five_seconds() -> None:
    """What is waited for on the way down, and not how busy this machine is."""
    assert DRAIN_S + CANCEL_S < 4


async def test_a_taken_port_names_its_holder_and_the_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            await serve(create_app(ScriptedStack()), "127.0.0.1", port)
        if sys.platform == "linux":
            assert f"(process {os.getpid()})" in str(caught.value)
    assert f"port {port} on 127.0.0.1 is in use" in str(caught.value)
    assert f"--port {port + 1}" in str(caught.value)


@pytest.mark.parametrize(
    ("host", "words"),
    [("no.such.host.invalid", "cannot be resolved"), ("203.0.113.7", "Use an address of this machine")],
)
def test_an_address_that_is_not_ours(host: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        listen(host, 0)


def test_where_the_system_does_not_tell_there_is_no_holder(tmp_path: Path) -> None:
    assert port_holder(80, proc=tmp_path) is None
