"""Models, tool groups and calls of tools in the classic shapes (`models.register`, `toolgroups`, `tool_runtime` of
`llama-stack-client` 0.2.12).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import orjson
from pydantic import AliasChoices, BeforeValidator, Field

from llama_stack.api.common import JsonObject
from llama_stack.api.resources import Model, ModelType
from llama_stack.api.tools import ToolGroup, ToolResult
from llama_stack.errors import InvalidRequest
from llama_stack.wire.classic.body import ClassicBody, parse_body
from llama_stack.wire.classic.content import UrlBody, encode_content
from llama_stack.wire.validation import checked_url


def _read_object(value: Any) -> Any:
    """The command line of the classic client passes the JSON text on as it was typed."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        raise ValueError("should be an object, or the JSON text of one") from None


ObjectBody = Annotated[JsonObject, BeforeValidator(_read_object)]


class RegisterModelBody(ClassicBody):
    """Body of POST /v1/models. metadata: an embedding model's must have `embedding_dimension`."""

    model_id: str = Field(min_length=1)
    provider_model_id: str | None = None
    provider_id: str | None = None
    model_type: Literal["llm", "embedding", "rerank"] | None = None
    metadata: ObjectBody | None = None


class RegisterToolGroupBody(ClassicBody):
    """Body of POST /v1/toolgroups."""

    toolgroup_id: str = Field(min_length=1)
    provider_id: str | None = None
    mcp_endpoint: UrlBody | None = None
    args: ObjectBody | None = None


class InvokeToolBody(ClassicBody):
    """Body of POST /v1/tool-runtime/invoke."""

    tool_name: str = Field(min_length=1)
    arguments: JsonObject | None = Field(None, validation_alias=AliasChoices("kwargs"))


def decode_model(body: object, created: int) -> Model:
    """created: seconds since 1970. Raises InvalidRequest naming the wrong field."""
    parsed = parse_body(RegisterModelBody, body)
    metadata = dict(parsed.metadata or {})
    kind = ModelType(parsed.model_type or "llm")
    dimension = _whole_number(metadata, "embedding_dimension")
    if kind is ModelType.EMBEDDING and dimension is None:
        raise InvalidRequest(
            "metadata.embedding_dimension: is required for an embedding model; it is the width of its vectors",
            param="metadata.embedding_dimension",
        )
    return Model(
        identifier=parsed.model_id,
        provider_id=parsed.provider_id or "",
        provider_resource_id=parsed.provider_model_id or parsed.model_id,
        model_type=kind,
        context_length=_whole_number(metadata, "context_length"),
        embedding_dimension=dimension,
        created=created,
        metadata=metadata,
    )


def _whole_number(metadata: JsonObject, name: str) -> int | None:
    """Taken out of the metadata; the client may have made a float of it."""
    value = metadata.pop(name, None)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or value < 1:
        raise InvalidRequest(f"metadata.{name}: must be a whole number from 1", param=f"metadata.{name}")
    return int(value)


def decode_tool_group(body: object) -> ToolGroup:
    """A tool group to register. Raises InvalidRequest naming the wrong field."""
    parsed = parse_body(RegisterToolGroupBody, body)
    if "/" in parsed.toolgroup_id:
        raise InvalidRequest(
            "toolgroup_id: must have no '/': group/tool names one tool of a group wherever tools are chosen",
            param="toolgroup_id",
        )
    if parsed.mcp_endpoint is not None:
        checked_url(parsed.mcp_endpoint.uri, "mcp_endpoint.uri")
    return ToolGroup(
        identifier=parsed.toolgroup_id,
        provider_id=parsed.provider_id or "",
        provider_resource_id=parsed.toolgroup_id,
        mcp_endpoint=None if parsed.mcp_endpoint is None else parsed.mcp_endpoint.uri,
        args=parsed.args or {},
    )


def decode_invocation(body: object) -> tuple[str, dict[str, Any]]:
    """The tool's name and its arguments."""
    parsed = parse_body(InvokeToolBody, body)
    return parsed.tool_name, parsed.arguments or {}


def with_whole_numbers(arguments: dict[str, Any], schema: JsonObject | None) -> dict[str, Any]:
    """The arguments with 2.0 as 2 where the tool's schema wants an integer: the client makes floats of all numbers."""
    properties = (schema or {}).get("properties") or {}

    def mended(name: str, value: Any) -> Any:
        declared = properties.get(name)
        is_integer = isinstance(declared, dict) and declared.get("type") == "integer"
        return int(value) if is_integer and isinstance(value, float) and value.is_integer() else value

    return {name: mended(name, value) for name, value in arguments.items()}


def asked_tool_group(query: Mapping[str, str]) -> str | None:
    """The group whose tools are asked for, without the tool that may be named behind it; None for all groups.

    The classic AsyncAgent sends the whole of a group with arguments, so its name stands in brackets.
    """
    named = query.get("toolgroup_id") or query.get("toolgroup_id[name]")
    return named.partition("/")[0] if named else None


def encode_tool_group(group: ToolGroup) -> JsonObject:
    return {
        "identifier": group.identifier,
        "provider_id": group.provider_id,
        "provider_resource_id": group.provider_resource_id,
        "type": "tool_group",
        "args": group.args,
        "mcp_endpoint": None if group.mcp_endpoint is None else {"uri": group.mcp_endpoint},
    }


def encode_tool_result(result: ToolResult) -> JsonObject:
    """A tool's own failure is told in `error_message` too, with 1 as its code."""
    content = encode_content(result.content)
    told = content if isinstance(content, str) else " ".join(item.get("text", "") for item in content)
    return {
        "content": content,
        "error_message": told if result.is_error else None,
        "error_code": 1 if result.is_error else None,
        "metadata": result.metadata,
    }
