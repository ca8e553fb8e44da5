"""What can be chosen about the server itself."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ServerOptions:
    """max_body_bytes: larger request bodies get 413. max_json_depth: deeper nesting gets 400.

    cors_origins: web origins whose pages may call the server from a browser; none unless named.
    """

    max_body_bytes: int = 32 * 1024 * 1024
    max_json_depth: int = 100
    cors_origins: tuple[str, ...] = ()
