"""Running the application on uvicorn with uvloop and httptools.

`serve` runs until SIGINT or SIGTERM: it stops listening, gives running answers a moment, tells the rest that it is
shutting down, and returns within five seconds. `serving` runs for the length of an `async with`.
"""

import asyncio
import gc
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import uvicorn
from starlette.applications import Starlette

from llama_stack.server.listening import listen
from llama_stack.server.websockets import websocket_protocol

T = TypeVar("T")

COLLECT_EVERY = 10_000
"""Container objects made and not yet freed, before the collector looks for cycles among the young."""
DRAIN_S = 2
"""Seconds that running answers are given after the signal to stop."""
CANCEL_S = 1
"""Seconds that answers which were cut off are given to close what they hold."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on the fastest event loop there is here."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if sys.platform != "win32":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


async def serve(app: Starlette, host: str, port: int, *, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve until a signal to stop.

    on_ready: called once with the server's URL when it answers. Raises ConfigError when the port is taken.
    """
    listener = listen(host, port)
    server = _server(app)

    def ready() -> None:
        _spare_the_collector()
        if on_ready is not None:
            on_ready(_url_of(host, listener))

    server.on_ready = ready
    await server.serve(sockets=[listener])


def _spare_the_collector() -> None:
    """What is there at the start stays for good and need not be looked at again; what requests make mostly dies with
    its last reference, so the collector for cycles runs less often. It took a tenth of the CPU of a turn.
    """
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY)


@asynccontextmanager
async def serving(app: Starlette, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve in this event loop while the context lasts; gives the server's URL."""
    listener = listen(host, port)
    server = _server(app)
    ready = asyncio.Event()
    server.on_ready = ready.set
    server.takes_signals = False
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await ready.wait()
        yield _url_of(host, listener)
    finally:
        server.should_exit = True
        await task


def _url_of(host: str, listener: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def _server(app: Starlette) -> "_Server":
    config = uvicorn.Config(
        app,
        loop="none",
        http="httptools",
        ws=websocket_protocol() or "none",  # type: ignore[arg-type]  # called like a class, imports on the first call
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=DRAIN_S,
        # Between two requests of one client; longer than the pools of common clients keep a connection.
        timeout_keep_alive=75,
        backlog=2048,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """Tells when it listens, and stops on a signal without raising it again: what surrounds the server closes too."""

    on_ready: Callable[[], None] | None = None
    takes_signals = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.on_ready is not None:
            self.on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.server_state.tasks:
            # Cancelled by now, but not over: what they hold must be closed before the stack below them is.
            await asyncio.wait(self.server_state.tasks, timeout=CANCEL_S)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        if not self.takes_signals or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
