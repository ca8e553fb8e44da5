"""Milvus Lite as a server of its own process on loopback: Milvus's gRPC interface."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from tests.providers.memory.ports import free_port

STARTED_WITHIN_S = 120.0


@contextmanager
def run_milvus_server(folder: Path) -> Iterator[str]:
    """Its URI."""
    port = free_port()
    program = Path(sys.executable).with_name("milvus-lite")
    server = subprocess.Popen(
        [program, "server", "--data-dir", folder, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    uri = f"http://127.0.0.1:{port}"
    try:
        _wait_for(server, uri)
        yield uri
    finally:
        server.kill()
        server.wait()


def _wait_for(server: "subprocess.Popen[bytes]", uri: str) -> None:
    given_up = time.monotonic() + STARTED_WITHIN_S
    while True:
        assert server.poll() is None, "Milvus Lite's server ended"
        try:
            MilvusClient(uri=uri, timeout=1).close()
            return
        except MilvusException:
            # The client tries again by itself for as long as its timeout.
            assert time.monotonic() < given_up, "Milvus Lite's server does not answer"
