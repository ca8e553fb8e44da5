"""A server that is a process of ours, spoken with over its stdin and stdout: one JSON message a line.

The SDK's own transport takes a line of any length, and a line without end would fill this process's memory. So the
lines are read here, with a bound; starting and ending the process are left to the SDK's parts for each system.
Closing follows the MCP specification 2025-11-25, "Lifecycle", "Shutdown": close its stdin, wait, terminate, kill.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TextIO

import anyio
from anyio.abc import ByteReceiveStream, ObjectReceiveStream, ObjectSendStream, Process
from mcp.client._transport import TransportStreams
from mcp.client.stdio import get_default_environment
from mcp.os.posix.utilities import terminate_posix_process_tree
from mcp.os.win32.utilities import (
    ServerProcess,
    close_process_job,
    create_windows_process,
    get_windows_executable_command,
    terminate_windows_process_tree,
)
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from llama_stack_providers.remote._mcp.settings import StdioServer
from llama_stack_providers.remote._mcp.surrogates import mended

LEAVE_LIMIT_S = 2.0
"""How long a process may take to end once its stdin is closed, and again once it is told to terminate."""
FLUSH_LIMIT_S = 0.5
"""How long messages that were already handed over may take to reach the process."""
_LOOK_S = 0.01
_GONE = (
    anyio.EndOfStream,
    anyio.ClosedResourceError,
    anyio.BrokenResourceError,
    ConnectionError,
)

Incoming = SessionMessage | Exception


class MessageTooLong(Exception):
    """A line of more bytes than are allowed."""


@asynccontextmanager
async def process_streams(
    server: StdioServer, stderr: TextIO, max_message_bytes: int, end: Callable[[str], None]
) -> AsyncGenerator[TransportStreams, None]:
    """Start the process; gives what it says and what it is told, and ends it, with all it started, in the end.

    end: told why, before the stream of what it says closes for a fault of the process. Raises OSError when the
    process cannot be started.
    """
    process = await _started(server, stderr)
    speaking, incoming = anyio.create_memory_object_stream[Incoming](0)
    outgoing, telling = anyio.create_memory_object_stream[SessionMessage](0)
    said, flooded = anyio.Event(), anyio.Event()

    async def hear() -> None:
        assert process.stdout is not None
        async with speaking:
            try:
                await _hear(process.stdout, speaking, max_message_bytes)
                return
            except MessageTooLong:
                flooded.set()
                end(f"sent a message of more than {max_message_bytes} bytes; raise max_answer_bytes or ask for less")
                return
            except _GONE:
                pass
        # A process that is stuck in writing would not notice that its stdin has closed.
        with anyio.CancelScope(shield=True), suppress(*_GONE):
            async for _ in process.stdout:
                pass

    async def tell() -> None:
        try:
            await _tell(process, telling)
        except (*_GONE, OSError):
            await speaking.aclose()
        finally:
            said.set()

    async with anyio.create_task_group() as group:
        group.start_soon(hear)
        group.start_soon(tell)
        try:
            yield incoming, outgoing
        finally:
            # Cut short, this would leave the process behind; each of its waits has a limit.
            with anyio.CancelScope(shield=True):
                incoming.close()
                outgoing.close()
                with anyio.move_on_after(FLUSH_LIMIT_S):
                    await said.wait()
                await _end(process, 0.0 if flooded.is_set() else LEAVE_LIMIT_S)
            group.cancel_scope.cancel()


async def _started(server: StdioServer, stderr: TextIO) -> ServerProcess:
    """The process, with a group (on Windows: a job) of its own, so that all it starts can be ended with it."""
    given = {name: value.get_secret_value() for name, value in server.env.items()}
    environment = {**get_default_environment(), **given}
    if sys.platform == "win32":
        command = await asyncio.to_thread(get_windows_executable_command, server.command)
        return await create_windows_process(command, server.args, environment, stderr, server.cwd)
    return await anyio.open_process(
        [server.command, *server.args], env=environment, stderr=stderr, cwd=server.cwd, start_new_session=True
    )


async def _hear(stdout: ByteReceiveStream, speaking: ObjectSendStream[Incoming], max_bytes: int) -> None:
    """Hand on one message a line, and take no more while nobody takes it. Returns when the process says no more."""
    begun = bytearray()
    async for piece in stdout:
        *lines, rest = piece.split(b"\n")
        for line in lines:
            begun += line
            if len(begun) > max_bytes:
                raise MessageTooLong
            await speaking.send(_message(bytes(begun)))
            begun.clear()
        begun += rest
        if len(begun) > max_bytes:
            raise MessageTooLong


def _message(line: bytes) -> Incoming:
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(mended(line), by_name=False))
    except ValueError as error:  # the session hears of it; many a program prints what is no message
        return error


async def _tell(process: ServerProcess, telling: ObjectReceiveStream[SessionMessage]) -> None:
    assert process.stdin is not None
    async with telling:
        async for message in telling:
            text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            await process.stdin.send(text.encode() + b"\n")


async def _end(process: ServerProcess, patience_s: float) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(OSError, *_GONE):
        await process.stdin.aclose()
    if not await _has_ended(process, patience_s):
        if sys.platform == "win32":
            await terminate_windows_process_tree(process)
        else:
            assert isinstance(process, Process)
            await terminate_posix_process_tree(process, LEAVE_LIMIT_S)
        await _has_ended(process, LEAVE_LIMIT_S)
    close_process_job(process)
    if sys.platform != "win32":
        # What it started and left behind; it leads a group of its own.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    # A grandchild that has left the group may still hold the other end.
    with suppress(OSError, *_GONE):
        await process.stdout.aclose()
    _let_go(process)


async def _has_ended(process: ServerProcess, within_s: float) -> bool:
    # Waiting for the process would also wait for its pipes, which a grandchild may hold open.
    deadline = anyio.current_time() + within_s
    while process.returncode is None and anyio.current_time() < deadline:  # noqa: ASYNC110  # it has no event
        await anyio.sleep(_LOOK_S)
    return process.returncode is not None


def _let_go(process: ServerProcess) -> None:
    """Close the event loop's own side of the process, which a grandchild with a pipe would keep open."""
    transport = getattr(getattr(process, "_process", None), "_transport", None)
    close = getattr(transport, "close", None)
    if callable(close):
        with suppress(PermissionError):  # Python up to 3.12 kills again, which a process of another user does not allow
            close()
