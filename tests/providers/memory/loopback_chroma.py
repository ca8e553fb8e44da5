"""Chroma's own server as a child process on loopback."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.providers.memory.ports import free_port

STARTED_WITHIN_S = 120.0


@contextmanager
def run_chroma_server(folder: Path) -> Iterator[str]:
    """Its URL."""
    port = free_port()
    program = Path(sys.executable).with_name("chroma")
    server = subprocess.Popen(
        [program, "run", "--path", folder, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(server, f"{url}/api/v2/heartbeat")
        yield url
    finally:
        server.kill()
        server.wait()


def _wait_for(server: "subprocess.Popen[bytes]", url: str) -> None:
    given_up = time.monotonic() + STARTED_WITHIN_S
    while True:
        assert server.poll() is None, "Chroma's server ended"
        try:
            httpx.get(url)
            return
        except httpx.TransportError:
            assert time.monotonic() < given_up, "Chroma's server does not answer"
            # There is no event of a foreign process to wait for.
            time.sleep(0.05)
