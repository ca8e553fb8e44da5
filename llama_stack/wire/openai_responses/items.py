"""Items of OpenAI's Responses API as they come in (API reference, "Responses", `input`), checked and in one shape.

A checked item is a JSON object with an id. Keys that begin with an underscore, of the item or of its parts, are ours:
they are stored, and `shown` leaves them out of what callers see.
"""

from collections.abc import Collection
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import Discriminator, Field, Tag, TypeAdapter, ValidationError

from llama_stack.api.common import JsonObject
from llama_stack.api.messages import ImageUrl
from llama_stack.errors import InvalidRequest, UnsupportedParameter
from llama_stack.wire.validation import Body, OpenBody, invalid_request

Status = Literal["in_progress", "completed", "incomplete"]


class InputTextBody(Body):
    type: Literal["input_text"]
    text: str


class InputImageBody(Body):
    type: Literal["input_image"]
    image_url: ImageUrl | None = None
    file_id: str | None = None
    detail: Literal["auto", "low", "high"] | None = None


class InputFileBody(Body):
    type: Literal["input_file"]
    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    filename: str | None = None
    detail: Literal["auto", "low", "high"] | None = None


class OutputTextBody(OpenBody):
    type: Literal["output_text"]
    text: str


class RefusalBody(Body):
    type: Literal["refusal"]
    refusal: str


InputPartBody = Annotated[InputTextBody | InputImageBody | InputFileBody, Field(discriminator="type")]
OutputPartBody = Annotated[InputTextBody | OutputTextBody | RefusalBody, Field(discriminator="type")]


class InputMessageBody(Body):
    type: Literal["message"] = "message"
    id: str | None = None
    role: Literal["user", "system", "developer"]
    content: str | list[InputPartBody]
    status: Status | None = None
    phase: str | None = None


class OutputMessageBody(Body):
    type: Literal["message"] = "message"
    id: str | None = None
    role: Literal["assistant"]
    content: str | list[OutputPartBody]
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCallBody(OpenBody):
    type: Literal["function_call"]
    id: str | None = None
    call_id: str = Field(min_length=1)
    name: str = Field(min_length=1)
    arguments: str


class FunctionCallOutputBody(OpenBody):
    type: Literal["function_call_output"]
    id: str | None = None
    call_id: str = Field(min_length=1)
    output: str | list[InputPartBody]


class CustomToolCallBody(OpenBody):
    type: Literal["custom_tool_call"]
    id: str | None = None
    call_id: str = Field(min_length=1)
    name: str = Field(min_length=1)
    input: str


class CustomToolCallOutputBody(OpenBody):
    type: Literal["custom_tool_call_output"]
    id: str | None = None
    call_id: str = Field(min_length=1)
    output: str | list[InputPartBody]


class ReasoningTextBody(OpenBody):
    text: str


class ReasoningBody(OpenBody):
    type: Literal["reasoning"]
    id: str | None = None
    summary: list[ReasoningTextBody] = []
    content: list[ReasoningTextBody] | None = None
    encrypted_content: str | None = None


class McpCallBody(OpenBody):
    type: Literal["mcp_call"]
    id: str
    server_label: str
    name: str
    arguments: str
    output: str | None = None
    error: Any = None
    approval_request_id: str | None = None


class McpListToolsBody(OpenBody):
    type: Literal["mcp_list_tools"]
    id: str
    server_label: str
    tools: list[JsonObject]


class McpApprovalRequestBody(OpenBody):
    type: Literal["mcp_approval_request"]
    id: str
    server_label: str
    name: str
    arguments: str


class McpApprovalResponseBody(OpenBody):
    type: Literal["mcp_approval_response"]
    id: str | None = None
    approval_request_id: str
    approve: bool
    reason: str | None = None


class WebSearchCallBody(OpenBody):
    type: Literal["web_search_call"]
    id: str | None = None


class CodeInterpreterCallBody(OpenBody):
    type: Literal["code_interpreter_call"]
    id: str | None = None
    code: str | None = None
    outputs: list[JsonObject] | None = None


class FileSearchCallBody(OpenBody):
    type: Literal["file_search_call"]
    id: str | None = None
    queries: list[str] = []
    results: list[JsonObject] | None = None


class CompactionBody(OpenBody):
    type: Literal["compaction"]
    id: str | None = None
    encrypted_content: str


class ItemReferenceBody(Body):
    type: Literal["item_reference"] | None = None
    id: str


def _kind_of(value: Any) -> str | None:
    """The tag of an item; a message may leave its type out, and so may a reference, which has nothing but an id."""
    if not isinstance(value, dict):
        return None
    kind = value.get("type")
    if kind is None:
        kind = "message" if "role" in value else "item_reference" if set(value) == {"id"} else None
    if kind == "message":
        return "message_out" if value.get("role") == "assistant" else "message"
    return kind if isinstance(kind, str) else None


ItemBody = Annotated[
    Annotated[InputMessageBody, Tag("message")]
    | Annotated[OutputMessageBody, Tag("message_out")]
    | Annotated[FunctionCallBody, Tag("function_call")]
    | Annotated[FunctionCallOutputBody, Tag("function_call_output")]
    | Annotated[CustomToolCallBody, Tag("custom_tool_call")]
    | Annotated[CustomToolCallOutputBody, Tag("custom_tool_call_output")]
    | Annotated[ReasoningBody, Tag("reasoning")]
    | Annotated[McpCallBody, Tag("mcp_call")]
    | Annotated[McpListToolsBody, Tag("mcp_list_tools")]
    | Annotated[McpApprovalRequestBody, Tag("mcp_approval_request")]
    | Annotated[McpApprovalResponseBody, Tag("mcp_approval_response")]
    | Annotated[WebSearchCallBody, Tag("web_search_call")]
    | Annotated[CodeInterpreterCallBody, Tag("code_interpreter_call")]
    | Annotated[FileSearchCallBody, Tag("file_search_call")]
    | Annotated[CompactionBody, Tag("compaction")]
    | Annotated[ItemReferenceBody, Tag("item_reference")],
    Discriminator(_kind_of),
]

FILE_FIELDS = ("file_id", "file_data", "file_url")
"""Of an `input_file`: each says by itself which file it is."""

_ITEM: TypeAdapter[Any] = TypeAdapter(ItemBody)

_KINDS = frozenset(
    {
        "message",
        "message_out",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "reasoning",
        "mcp_call",
        "mcp_list_tools",
        "mcp_approval_request",
        "mcp_approval_response",
        "web_search_call",
        "code_interpreter_call",
        "file_search_call",
        "compaction",
        "item_reference",
    }
)

_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "reasoning": "rs",
    "mcp_approval_response": "mcpa",
    "web_search_call": "ws",
    "code_interpreter_call": "ci",
    "file_search_call": "fs",
    "compaction": "cmp",
}

_ELSEWHERE = {
    "computer_call": "computer use is not served",
    "computer_call_output": "computer use is not served",
    "image_generation_call": "image generation is not served",
    "local_shell_call": "shells are not served; offer a function tool",
    "local_shell_call_output": "shells are not served; offer a function tool",
    "shell_call": "shells are not served; offer a function tool",
    "shell_call_output": "shells are not served; offer a function tool",
    "apply_patch_call": "patches are not served; offer a function tool",
    "apply_patch_call_output": "patches are not served; offer a function tool",
    "compaction_trigger": "call POST /v1/responses/compact instead",
    "tool_search_call": "all tools are offered at once; leave it out",
    "tool_search_output": "all tools are offered at once; leave it out",
    "additional_tools": "send tools in the request instead",
    "configuration_update": "send the settings with the request instead",
    "program": "programs that call tools are not served",
    "program_output": "programs that call tools are not served",
}


def new_item_id(kind: str) -> str:
    return f"{_PREFIXES.get(kind, kind)}_{uuid4().hex}"


def read_items(value: object, path: str = "input") -> list[JsonObject]:
    """The items of a request, each checked, in one shape and with an id.

    A text is one message of the user. Raises InvalidRequest naming the wrong field, UnsupportedParameter for an item
    that belongs to a tool this stack does not have.
    """
    if isinstance(value, str):
        return [_message("user", [{"type": "input_text", "text": value}])]
    if not isinstance(value, list):
        raise InvalidRequest(f"{path}: must be a text or a list of items", param=path)
    return [_read_item(item, f"{path}.{position}") for position, item in enumerate(value)]


def _read_item(value: object, path: str) -> JsonObject:
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind in _ELSEWHERE:
        raise UnsupportedParameter(f"{path}: {kind} is not supported: {_ELSEWHERE[kind]}", param=path)
    if _kind_of(value) not in _KINDS:
        wanted = ", ".join(sorted(_KINDS - {"message_out"}))
        raise InvalidRequest(f"{path}.type: must be one of {wanted}, not {kind!r}", param=f"{path}.type")
    try:
        body = _ITEM.validate_python(value)
    except ValidationError as error:
        raise invalid_request(error, value, under=path) from None
    match body:
        case InputMessageBody() | OutputMessageBody():
            return _read_message(body, path)
        case FunctionCallOutputBody() | CustomToolCallOutputBody():
            _check_parts(body.output, f"{path}.output")
    given = {name: part for name, part in value.items() if part is not None} if isinstance(value, dict) else {}
    kind = str(given.get("type") or "item_reference")
    return {"id": new_item_id(kind), **_defaults(kind), **given, "type": kind}


def _defaults(kind: str) -> JsonObject:
    """What the item type has in every answer, for items that came without it."""
    match kind:
        case "function_call" | "function_call_output":
            return {"status": "completed"}
        case "reasoning":
            return {"summary": []}
        case "file_search_call":
            return {"queries": [], "status": "completed"}
        case _:
            return {}


def _read_message(body: InputMessageBody | OutputMessageBody, path: str) -> JsonObject:
    if isinstance(body.content, str):
        plain = "output_text" if body.role == "assistant" else "input_text"
        parts: list[JsonObject] = [_shaped({"type": plain, "text": body.content})]
    else:
        _check_parts(body.content, f"{path}.content")
        parts = [
            _shaped({name: value for name, value in part.model_dump().items() if value is not None})
            for part in body.content
        ]
    return _message(body.role, parts, body.id, body.status, body.phase)


def _shaped(part: JsonObject) -> JsonObject:
    if part["type"] == "input_image":
        return {"detail": "auto", **part}
    return {"annotations": [], "logprobs": [], **part} if part["type"] == "output_text" else part


def _message(
    role: str, parts: list[JsonObject], item_id: str | None = None, status: str | None = None, phase: str | None = None
) -> JsonObject:
    message: JsonObject = {
        "id": item_id or new_item_id("message"),
        "type": "message",
        "role": role,
        "status": status or "completed",
        "content": parts,
    }
    return message if phase is None else {**message, "phase": phase}


def _check_parts(parts: str | Collection[Any], path: str) -> None:
    for position, part in enumerate(parts if not isinstance(parts, str) else ()):
        place = f"{path}.{position}"
        match part:
            case InputImageBody(image_url=None, file_id=None):
                raise InvalidRequest(f"{place}.image_url: is required", param=f"{place}.image_url")
            case InputFileBody():
                given = [name for name in FILE_FIELDS if getattr(part, name) is not None]
                if not given:
                    raise InvalidRequest(
                        f"{place}.file_data: is required, or file_id or file_url", param=f"{place}.file_data"
                    )
                if len(given) > 1:
                    raise InvalidRequest(
                        f"{place}.{given[1]}: there is {given[0]} already; send one of {', '.join(FILE_FIELDS)}",
                        param=f"{place}.{given[1]}",
                    )


# --- what callers see ----------------------------------------------------------------------------------------------


def _own(body: JsonObject) -> JsonObject:
    return {name: value for name, value in body.items() if not name.startswith("_")}


def shown(item: JsonObject, include: Collection[str] = ()) -> JsonObject:
    """The item as callers see it: without our own keys, and without the parts they have to ask for.

    include: as in OpenAI's `include` parameter.
    """
    body = _own(item)
    for name in ("content", "output"):
        if isinstance(body.get(name), list):
            body[name] = [_own(part) for part in body[name]]
    match body.get("type"):
        case "code_interpreter_call" if "code_interpreter_call.outputs" not in include:
            body["outputs"] = None
        case "file_search_call" if "file_search_call.results" not in include:
            body["results"] = None
        case "web_search_call" if "web_search_call.action.sources" not in include:
            action = body.get("action") or {}
            body["action"] = {name: value for name, value in action.items() if name != "sources"}
        case "reasoning" if "reasoning.encrypted_content" not in include:
            body.pop("encrypted_content", None)
    return body
