"""What can be chosen about the server itself."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ServerOptions:
    """max_body_bytes: larger request bodies get 413. max_json_depth: deeper nesting gets 400.

    cors_origins: web origins whose pages may call the server from a browser; none unless named.
    allowed_hosts: names by which the server may be addressed; None allows any. A server that only this machine should
    reach needs them: a page in a browser may have its own name lead to this machine.
    """

    max_body_bytes: int = 32 * 1024 * 1024
    max_json_depth: int = 100
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: frozenset[str] | None = None
