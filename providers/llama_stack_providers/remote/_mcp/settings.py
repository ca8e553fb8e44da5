"""Settings of the MCP provider. Imported with its declaration, so it imports nothing heavy."""

from typing import Annotated, Literal

from pydantic import AnyHttpUrl, Discriminator, Field, SecretStr, Tag, field_validator

from llama_stack.provider import ProviderConfig

HttpTransport = Literal["auto", "streamable-http", "sse"]


class StdioServer(ProviderConfig):
    """A server that this provider starts as a process of its own and speaks with over stdin and stdout."""

    command: str = Field(min_length=1, description="the program, by path or by its name on PATH")
    args: list[str] = Field([], description="its arguments")
    env: dict[str, SecretStr] = Field(
        {}, description="environment variables beside PATH, HOME and the like; nothing else of ours is passed on"
    )
    cwd: str | None = Field(None, description="the folder it runs in")


class HttpServer(ProviderConfig):
    """A server that is reached by URL."""

    url: AnyHttpUrl = Field(description="the server's MCP endpoint")
    transport: HttpTransport = Field(
        "auto", description="auto tries streamable HTTP and then SSE, the transport of servers before 2025"
    )
    headers: dict[str, SecretStr] = Field({}, description="sent with every request, such as Authorization")

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            check_header(name, value.get_secret_value())
        return headers


def _kind(server: object) -> str:
    names = server if isinstance(server, dict) else vars(server)
    return "url" if "url" in names else "command"


Server = Annotated[
    Annotated[StdioServer, Tag("command")] | Annotated[HttpServer, Tag("url")],
    Discriminator(_kind),
]
"""`command` tells a process, `url` a server on the network."""


class Config(ProviderConfig):
    servers: dict[str, Server] = Field(
        {}, description="MCP servers by name; a tool group whose provider_resource_id is the name uses it"
    )
    allow_private_addresses: bool = Field(
        False,
        description="let callers of the stack's server name MCP servers on loopback, link-local and private addresses",
    )
    connect_timeout_s: float = Field(30.0, gt=0, description="longest wait for a server to start and greet")
    call_timeout_s: float = Field(120.0, gt=0, description="longest wait for one tool, and for a list of tools")
    close_timeout_s: float = Field(5.0, gt=0, description="longest wait for a server to take leave")
    idle_s: float = Field(300.0, gt=0, description="a session that nobody used for so long is closed")
    max_sessions: int = Field(64, ge=1, description="sessions open at the same time; the longest unused makes room")
    max_parallel_calls: int = Field(32, ge=1, description="calls under way in one session; further ones wait")
    max_waiting_calls: int = Field(256, ge=1, description="calls that may wait in one session; further ones fail")
    max_answer_bytes: int = Field(
        8 * 1024 * 1024,
        ge=1024,
        description="longest message of a server; a process that sends a longer one is ended, and started anew by the"
        " next call",
    )
    max_tools: int = Field(1000, ge=1, description="most tools of one server")
    max_tool_list_bytes: int = Field(
        4 * 1024 * 1024, ge=1024, description="most text of one server's tools: names, descriptions and schemas"
    )
    offer_resources: bool = Field(
        False, description="offer models two more tools of each server that has resources: to list and to read them"
    )
    tool_list_ttl_s: float = Field(
        600.0, gt=0, description="oldest list of tools that is used, should a server's word of a change get lost"
    )


_OURS = frozenset(
    {
        "accept", "connection", "content-length", "content-type", "host", "keep-alive", "last-event-id",
        "mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id", "te", "trailer", "transfer-encoding",
        "upgrade",
    }
)  # fmt: skip
"""Headers that the protocol itself sets."""


def check_header(name: str, value: str) -> None:
    """Raises ValueError, without the value, for a header that cannot be sent or is not a caller's to set."""
    if not name or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"{name!r} is not the name of a header")
    if name.lower() in _OURS:
        raise ValueError(f"the header {name} is set by the protocol itself")
    if not value.isascii() or not value.isprintable():
        raise ValueError(f"the value of the header {name} must be printable ASCII without line breaks")
