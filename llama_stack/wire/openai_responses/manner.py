"""How one response is shown: what its tools look like, and what its caller asked to see."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from llama_stack.api.tools import ToolDefinition


@dataclass(frozen=True)
class KnownTool:
    """What a tool's calls look like. needs_approval: a call ends the response as a request for approval."""

    kind: Literal["function", "custom", "mcp", "web_search", "code_interpreter", "file_search"]
    server_label: str = ""
    needs_approval: bool = False


@dataclass(frozen=True)
class McpListing:
    """The tools of one MCP server, or why they could not be listed."""

    item_id: str
    server_label: str
    tools: Sequence[ToolDefinition] = ()
    error: str | None = None


@dataclass(frozen=True)
class Manner:
    """How a response is encoded.

    tools: by name. requests: approval requests that earlier responses made, by the id of their call. container_id:
    where code runs.
    """

    tools: Mapping[str, KnownTool] = field(default_factory=dict)
    requests: Mapping[str, str] = field(default_factory=dict)
    container_id: str = ""
    include: Collection[str] = ()
    is_summarised: bool = False
