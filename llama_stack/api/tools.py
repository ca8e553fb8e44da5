"""Tools: what a model may call, and the protocol of those who run the calls."""

from typing import Any, Literal, Protocol

from pydantic import TypeAdapter, field_validator

from llama_stack.api.common import Caller, JsonObject, Word
from llama_stack.api.messages import Content, TextPart

BUILTIN_TOOL_NAMES = frozenset({"brave_search", "wolfram_alpha", "photogen", "code_interpreter"})
"""Tools Llama 3.1 and later were trained to call by `name.call(query="...")` (code for the interpreter)."""


class ToolDefinition(Word):
    """A tool offered to the model.

    parameters: a JSON Schema object describing the arguments; None means "takes no arguments".
    strict: ask the provider to constrain the arguments to the schema exactly.
    """

    name: str
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class NamedToolChoice(Word):
    """The model may call these tools only; with the mode `required`, it must call one (usually there is one)."""

    names: list[str]
    mode: Literal["auto", "required"] = "required"


ToolChoice = Literal["auto", "none", "required"] | NamedToolChoice


class ToolGroup(Word):
    """Tools registered together under one id, such as `builtin::websearch` or one MCP server.

    args: added to the arguments of every call, over what the model says. from_caller: a caller of the server named
    this endpoint, not the distribution: addresses inside the server's own network are then refused.
    """

    identifier: str
    provider_id: str
    provider_resource_id: str
    mcp_endpoint: str | None = None
    args: JsonObject = {}
    from_caller: bool = False


class ToolResult(Word):
    """What a tool gave back.

    content: what the model reads. is_error: the tool failed; content then says why, in words the model can use.
    metadata: for the caller (sources, timings), never shown to the model.

    A tool may have read bytes that are no text: what is no Unicode becomes U+FFFD, and what is no JSON in the metadata
    becomes text, so that every result can be stored and sent.
    """

    content: Content
    is_error: bool = False
    metadata: JsonObject = {}

    @field_validator("content")
    @classmethod
    def _in_unicode(cls, content: Content) -> Content:
        if isinstance(content, str):
            return _unicode(content)
        return [TextPart(text=_unicode(part.text)) if isinstance(part, TextPart) else part for part in content]

    @field_validator("metadata")
    @classmethod
    def _in_json(cls, metadata: JsonObject) -> JsonObject:
        try:
            _JSON.dump_json(metadata)
        except ValueError:
            plain: JsonObject = _plain(metadata)
            return plain
        return metadata


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _plain(value: Any, depth: int = 0) -> Any:
    """The value as JSON, as far as it is any."""
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, dict) and depth < _MAX_DEPTH:
        return {_unicode(str(name)): _plain(one, depth + 1) for name, one in value.items()}
    if isinstance(value, list | tuple) and depth < _MAX_DEPTH:
        return [_plain(one, depth + 1) for one in value]
    return _unicode(str(value))


_MAX_DEPTH = 50
_JSON: TypeAdapter[JsonObject] = TypeAdapter(JsonObject)


class Tools(Protocol):
    """Runs tools of one provider.

    A provider whose tools keep state between calls has an attribute `keeps_sessions = True`: its calls then carry
    the argument `session_id`, which is not part of the schema and is the same for all calls of one agent's session.

    A provider whose tools keep files in sessions has an attribute `containers`, which fulfils
    `api.containers.Containers`.

    A provider that can tell what can never work has a method `async check_tool_group(tool_group, caller)`, which is
    asked before a caller's group is registered. It raises InvalidRequest, and reaches out to nobody: a server that is
    away just now is no reason to refuse.
    """

    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        """Tools of the group, in a stable order. Raises ProviderFailed when they cannot be listed."""
        ...

    async def invoke_tool(
        self, tool_group: ToolGroup, name: str, arguments: dict[str, Any], caller: Caller
    ) -> ToolResult:
        """Run one tool. A tool's own failure is a ToolResult with `is_error`; cancelling the call stops the tool.

        Raises NotFound for a name that `list_tools` does not give, InvalidRequest for arguments off its schema.
        """
        ...
