"""A model hub on the loopback: the routes and headers of the Hugging Face hub that a download uses, on real sockets."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class LoopbackHub:
    """files: repository -> path -> content. gated: repositories that want the token.

    cut_after: bytes after which a download breaks off, once. stall: a download sends its head and then waits for this.
    """

    url: str
    files: dict[str, dict[str, bytes]]
    token: str = "hf_secret_token"
    gated: set[str] = field(default_factory=set)
    cut_after: int | None = None
    stalled: threading.Event = field(default_factory=threading.Event)
    stall: threading.Event | None = None
    ranges: list[str] = field(default_factory=list)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: LoopbackHub

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests, not worth a trace on the terminal."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        found = self._find()
        if found is not None:
            self._head(200, len(found), {"X-Linked-Etag": f'"{hashlib.sha256(found).hexdigest()}"'})

    def do_GET(self) -> None:
        hub = self.server.hub
        if self.path.startswith("/api/models/"):
            self._list(self.path.removeprefix("/api/models/").partition("/revision/")[0])
            return
        found = self._find()
        if found is None:
            return
        asked = self.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        hub.ranges.append(asked)
        extra = {"Content-Range": f"bytes {start}-{len(found) - 1}/{len(found)}"} if asked else {}
        self._head(206 if asked else 200, len(found) - start, extra)
        if hub.stall is not None:
            self.wfile.flush()
            hub.stalled.set()
            hub.stall.wait(60)
        if hub.cut_after is not None:
            self.wfile.write(found[start : hub.cut_after])
            hub.cut_after = None
            self.close_connection = True
            return
        self.wfile.write(found[start:])

    def _find(self) -> bytes | None:
        repository, _, rest = self.path.lstrip("/").partition("/resolve/")
        hub = self.server.hub
        if repository in hub.gated and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._head(403, 0, {"X-Error-Code": "GatedRepo"})
            return None
        if repository not in hub.files:
            self._head(401, 0, {"X-Error-Code": "RepoNotFound"})
            return None
        found = hub.files[repository].get(rest.partition("/")[2])
        if found is None:
            self._head(404, 0, {"X-Error-Code": "EntryNotFound"})
        return found

    def _list(self, repository: str) -> None:
        hub = self.server.hub
        if repository in hub.gated and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._head(403, 0, {"X-Error-Code": "GatedRepo"})
            return
        body = json.dumps({"siblings": [{"rfilename": path} for path in hub.files.get(repository, {})]}).encode()
        self._head(200, len(body), {"Content-Type": "application/json"})
        self.wfile.write(body)

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def loopback_hub(files: dict[str, dict[str, bytes]]) -> Iterator[LoopbackHub]:
    """Serve the files until the context ends."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.hub = LoopbackHub(f"http://127.0.0.1:{server.server_port}", files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.hub
    finally:
        if server.hub.stall is not None:
            server.hub.stall.set()
        server.shutdown()
        server.server_close()
        thread.join()
