"""Which pages in a browser may call what a browser sends without asking the server first: forms and WebSockets."""

from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from llama_stack.errors import NotPermitted
from llama_stack.server.options import ServerOptions


def may_come_from(connection: HTTPConnection, options: ServerOptions) -> bool:
    """A browser tells which page it was; programs tell nothing. The server's own pages may."""
    origin = connection.headers.get("origin")
    if origin is None or origin in options.cors_origins or "*" in options.cors_origins:
        return True
    return urlsplit(origin).netloc == connection.headers.get("host")


def check_origin(connection: HTTPConnection, options: ServerOptions) -> None:
    if not may_come_from(connection, options):
        origin = connection.headers["origin"]
        raise NotPermitted(
            f"pages of {origin[:200]!r} may not call this server; add the origin to server.cors_origins",
            param="Origin",
            code="origin_not_allowed",
        )
