"""The tools of a Responses request and the choice among them (API reference, "Responses", `tools`, `tool_choice`)."""

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from llama_stack.api.common import JsonObject
from llama_stack.api.memory import MemoryQuery
from llama_stack.api.responses import (
    ApprovalRule,
    CodeInterpreterTool,
    CustomTool,
    FileSearchTool,
    FunctionTool,
    McpTool,
    ResponseTool,
    ToolTarget,
    ToolWish,
    WebSearchTool,
)
from llama_stack.api.tools import ToolDefinition
from llama_stack.errors import InvalidRequest, UnsupportedParameter
from llama_stack.wire.json_schemas import checked_parameters
from llama_stack.wire.openai_body import refuse_unsupported
from llama_stack.wire.openai_containers import MAX_FILES_AT_ONCE, NO_CHOICE
from llama_stack.wire.openai_vector_stores.search import MAX_RESULTS, RankingOptions, decode_filters, with_ranking
from llama_stack.wire.validation import Body, OpenBody, invalid_request

DEFAULT_RESULTS = 10
MAX_STORES = 20
"""That one search may look through."""
MAX_DOMAINS = 100


class FunctionToolBody(OpenBody):
    type: Literal["function"]
    name: str = Field(min_length=1)
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class CustomToolBody(OpenBody):
    type: Literal["custom"]
    name: str = Field(min_length=1)
    description: str | None = None


Domain = Annotated[str, Field(pattern=r"^[^\s/:@?#]+\.[^\s/:@?#.]+$", max_length=253)]
Place = Annotated[str, Field(max_length=100)]


class SearchFiltersBody(Body):
    allowed_domains: list[Domain] | None = Field(None, max_length=MAX_DOMAINS)


class UserLocationBody(Body):
    type: Literal["approximate"] = "approximate"
    city: Place | None = None
    region: Place | None = None
    country: Annotated[str, Field(pattern="^[A-Za-z]{2}$")] | None = None
    timezone: Place | None = None


class WebSearchToolBody(OpenBody):
    type: Literal["web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11"]
    filters: SearchFiltersBody | None = None
    search_context_size: Literal["low", "medium", "high"] | None = None
    user_location: UserLocationBody | None = None


ContainerId = Annotated[str, Field(pattern="^cntr_[0-9a-f]{32}$")]


class ContainerBody(OpenBody):
    type: Literal["auto"]
    file_ids: list[Annotated[str, Field(min_length=1)]] | None = Field(None, max_length=MAX_FILES_AT_ONCE)


class CodeInterpreterToolBody(OpenBody):
    type: Literal["code_interpreter"]
    container: ContainerBody | ContainerId | None = None


class FileSearchToolBody(OpenBody):
    type: Literal["file_search"]
    vector_store_ids: list[Annotated[str, Field(min_length=1)]] = Field(min_length=1, max_length=MAX_STORES)
    filters: JsonObject | None = None
    max_num_results: int | None = Field(None, ge=1, le=MAX_RESULTS)
    ranking_options: RankingOptions | None = None


class ToolNamesBody(Body):
    tool_names: list[str] | None = None
    read_only: bool | None = None


class ApprovalRuleBody(Body):
    always: ToolNamesBody | None = None
    never: ToolNamesBody | None = None


class McpToolBody(OpenBody):
    type: Literal["mcp"]
    server_label: str = Field(min_length=1, max_length=128)
    server_url: str | None = None
    headers: dict[str, str] | None = None
    authorization: str | None = None
    allowed_tools: list[str] | ToolNamesBody | None = None
    require_approval: Literal["never", "always"] | ApprovalRuleBody | None = None
    server_description: str | None = None


ToolBody = Annotated[
    FunctionToolBody | CustomToolBody | WebSearchToolBody | CodeInterpreterToolBody | FileSearchToolBody | McpToolBody,
    Field(discriminator="type"),
]
_TOOL: TypeAdapter[Any] = TypeAdapter(ToolBody)

_NOT_SERVED = {
    "computer": "computer use is not served",
    "computer_use_preview": "computer use is not served",
    "image_generation": "image generation is not served",
    "local_shell": "shells are not served; offer a function tool, or code_interpreter",
    "shell": "shells are not served; offer a function tool, or code_interpreter",
    "apply_patch": "patches are not served; offer a function tool",
    "tool_search": "all tools are offered at once; leave it out",
    "namespace": "give each tool a name of its own",
    "programmatic_tool_calling": "programs that call tools are not served; leave it out",
}

_LEFT_OUT: dict[str, tuple[tuple[object, ...], str]] = {
    "allowed_callers": ((["direct"],), 'only ["direct"] is served'),
    "defer_loading": ((False,), "all tools are offered at once"),
    "output_schema": ((), "leave it out"),
    "async": ((False,), "calls are awaited"),
    "namespace": ((), "give each tool a name of its own"),
    "format": (({"type": "text"},), "only free text is served; describe the form in the description"),
    "external_web_access": ((True,), "searches go to the web"),
    "search_content_types": ((["text"],), "only text is searched"),
    "connector_id": ((), "send server_url"),
    "tunnel_id": ((), "send server_url"),
}


def read_tools(values: list[Any]) -> tuple[list[ResponseTool], list[JsonObject], dict[str, dict[str, str]]]:
    """The tools; the same as the response object repeats them; and headers by server address.

    Raises InvalidRequest naming the wrong field, UnsupportedParameter for what this stack cannot do.
    """
    tools: list[ResponseTool] = []
    repeated: list[JsonObject] = []
    headers: dict[str, dict[str, str]] = {}
    for position, value in enumerate(values):
        path = f"tools.{position}"
        body = _checked(value, path)
        match body:
            case FunctionToolBody():
                tools.append(FunctionTool(definition=_definition(body, path)))
            case CustomToolBody():
                tools.append(CustomTool(name=body.name, description=body.description))
            case WebSearchToolBody():
                tools.append(_web_search(body))
            case CodeInterpreterToolBody():
                tools.append(_code_interpreter(body.container, path))
            case FileSearchToolBody():
                tools.append(_file_search_tool(body, path))
            case McpToolBody():
                tools.append(_mcp_tool(body, path))
                if body.server_url is not None and (sent := _headers(body)):
                    headers[body.server_url] = sent
        repeated.append(_repeated(body, value))
    _check_unique(tools)
    return tools, repeated, headers


def _checked(value: object, path: str) -> Any:
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind in _NOT_SERVED:
        raise UnsupportedParameter(f"{path}.type: {kind} is not supported: {_NOT_SERVED[kind]}", param=f"{path}.type")
    try:
        body = _TOOL.validate_python(value)
    except ValidationError as error:
        raise invalid_request(error, value, under=path) from None
    _refuse(body.unknown(), _LEFT_OUT, path)
    return body


def _refuse(given: JsonObject, known: dict[str, tuple[tuple[object, ...], str]], path: str) -> None:
    for name in given.keys() - known.keys():
        raise InvalidRequest(f"{path}.{name}: is not a known field; remove it", param=f"{path}.{name}")
    try:
        refuse_unsupported(given, known)
    except UnsupportedParameter as error:
        raise UnsupportedParameter(f"{path}.{error.message}", param=f"{path}.{error.param}") from None


def _definition(body: FunctionToolBody, path: str) -> ToolDefinition:
    parameters = None if body.parameters is None else checked_parameters(body.parameters, f"{path}.parameters")
    return ToolDefinition(name=body.name, description=body.description, parameters=parameters, strict=body.strict)


def _web_search(body: WebSearchToolBody) -> WebSearchTool:
    domains = body.filters.allowed_domains if body.filters is not None else None
    at = body.user_location
    places = [at.city, at.region, at.country and at.country.upper()] if at is not None else []
    told = ", ".join(" ".join(place.split()) for place in places if place)
    if at is not None and at.timezone:
        zone = f"time zone {' '.join(at.timezone.split())}"
        told = f"{told} ({zone})" if told else f"the {zone}"
    return WebSearchTool(
        allowed_domains=list(dict.fromkeys(domains or ())),
        context_size=body.search_context_size or "medium",
        location=told,
    )


def _code_interpreter(container: ContainerBody | str | None, path: str) -> CodeInterpreterTool:
    if isinstance(container, str):
        return CodeInterpreterTool(container_id=container)
    if container is None:
        return CodeInterpreterTool()
    _refuse(container.unknown(), NO_CHOICE, f"{path}.container")
    return CodeInterpreterTool(file_ids=list(dict.fromkeys(container.file_ids or ())))


def _file_search_tool(body: FileSearchToolBody, path: str) -> FileSearchTool:
    query = MemoryQuery(
        max_chunks=body.max_num_results or DEFAULT_RESULTS,
        # An empty object is how typed clients leave filters out.
        filters=decode_filters(body.filters or None, f"{path}.filters"),
    )
    try:
        search = with_ranking(query, body.ranking_options)
    except InvalidRequest as error:
        raise InvalidRequest(f"{path}.{error.message}", param=f"{path}.{error.param}") from None
    return FileSearchTool(vector_store_ids=list(dict.fromkeys(body.vector_store_ids)), search=search)


def _mcp_tool(body: McpToolBody, path: str) -> McpTool:
    for names, place in _name_filters(body):
        if names is not None and names.read_only is not None:
            param = f"{path}.{place}.read_only"
            raise UnsupportedParameter(f"{param}: is not supported; name the tools in tool_names", param=param)
    allowed = body.allowed_tools
    rule = body.require_approval
    return McpTool(
        server_label=body.server_label,
        server_url=body.server_url,
        allowed_tools=allowed.tool_names if isinstance(allowed, ToolNamesBody) else allowed,
        approval=_approval(rule) if isinstance(rule, ApprovalRuleBody) else rule or "always",
    )


def _name_filters(body: McpToolBody) -> list[tuple[ToolNamesBody | None, str]]:
    filters: list[tuple[ToolNamesBody | None, str]] = []
    if isinstance(body.allowed_tools, ToolNamesBody):
        filters.append((body.allowed_tools, "allowed_tools"))
    if isinstance(body.require_approval, ApprovalRuleBody):
        filters.append((body.require_approval.always, "require_approval.always"))
        filters.append((body.require_approval.never, "require_approval.never"))
    return filters


def _approval(rule: ApprovalRuleBody) -> ApprovalRule:
    return ApprovalRule(
        always=None if rule.always is None else rule.always.tool_names or [],
        never=None if rule.never is None else rule.never.tool_names or [],
    )


def _headers(body: McpToolBody) -> dict[str, str]:
    sent = dict(body.headers or {})
    if body.authorization is not None:
        sent["Authorization"] = f"Bearer {body.authorization}"
    return sent


def _repeated(body: Any, value: JsonObject) -> JsonObject:
    """As sent, secrets left out; function tools with every field a typed client expects."""
    kept = {name: part for name, part in value.items() if part is not None and name not in ("headers", "authorization")}
    if isinstance(body, FunctionToolBody):
        return {"description": None, "parameters": None, "strict": None, **kept}
    if isinstance(body, McpToolBody):
        return {"allowed_tools": None, "headers": None, "require_approval": "always", **kept}
    return kept


def _check_unique(tools: list[ResponseTool]) -> None:
    seen: set[str] = set()
    for tool in tools:
        match tool:
            case FunctionTool():
                name = tool.definition.name
            case CustomTool():
                name = tool.name
            case McpTool():
                name = f"the MCP server {tool.server_label}"
            case _:
                name = tool.type
        if name in seen:
            raise InvalidRequest(f"tools: {name} is given twice; leave one out", param="tools")
        seen.add(name)


# --- tool_choice ---------------------------------------------------------------------------------------------------

_HOSTED = {
    "web_search": "web_search",
    "web_search_2025_08_26": "web_search",
    "web_search_preview": "web_search",
    "web_search_preview_2025_03_11": "web_search",
    "code_interpreter": "code_interpreter",
    "file_search": "file_search",
}


def read_tool_choice(value: object, tools: list[ResponseTool]) -> Literal["auto", "none", "required"] | ToolWish:
    """Raises InvalidRequest for a choice of what is not among the tools, UnsupportedParameter for other kinds."""
    match value:
        case None | "auto":
            return "auto"
        case "none":
            return "none"
        case "required":
            if not tools:
                raise InvalidRequest("tool_choice: needs tools to choose from; send tools", param="tool_choice")
            return "required"
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": [*targets]}:
            return ToolWish(mode=mode, targets=[_target(target, tools) for target in targets])
        case {"type": str()}:
            return ToolWish(targets=[_target(value, tools)])
        case _:
            raise InvalidRequest(
                'tool_choice: must be "auto", "none", "required" or an object such as '
                '{"type": "function", "name": "..."}',
                param="tool_choice",
            )


def _target(value: object, tools: list[ResponseTool]) -> ToolTarget:
    match value:
        case {"type": "function" | "custom" as kind, "name": str(name)}:
            target = ToolTarget(type=kind, name=name)
        case {"type": "mcp", "server_label": str(label), **rest}:
            target = ToolTarget(type="mcp", server_label=label, name=rest.get("name"))
        case {"type": str(kind)} if kind in _HOSTED:
            target = ToolTarget.model_validate({"type": _HOSTED[kind]})
        case {"type": str(kind)} if kind in _NOT_SERVED:
            raise UnsupportedParameter(
                f"tool_choice: {kind} is not supported: {_NOT_SERVED[kind]}", param="tool_choice"
            )
        case _:
            raise InvalidRequest(f"tool_choice: {value!r} names no tool", param="tool_choice")
    if not any(_is(tool, target) for tool in tools):
        wanted = target.name or target.server_label or target.type
        raise InvalidRequest(f"tool_choice: {wanted!r} is not among the tools sent", param="tool_choice")
    return target


def _is(tool: ResponseTool, target: ToolTarget) -> bool:
    if tool.type != target.type:
        return False
    match tool:
        case FunctionTool():
            return tool.definition.name == target.name
        case CustomTool():
            return tool.name == target.name
        case McpTool():
            return tool.server_label == target.server_label
        case _:
            return True
