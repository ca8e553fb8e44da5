"""A request made ready for the loop: its agent, its tools, and how their calls are shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llama_stack.agents.retrieval import FILE_SEARCH, context_tokens, file_search
from llama_stack.agents.setup import AgentSetup
from llama_stack.agents.toolboxes import needs_approval, offered_name, toolbox_for
from llama_stack.agents.tools import Tool, Toolbox
from llama_stack.api.agents import AgentConfig, Budget, ToolGroupUse, Turn
from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.containers import CODE_INTERPRETER_GROUP
from llama_stack.api.inference import Sampling
from llama_stack.api.messages import ToolCall
from llama_stack.api.responses import (
    ApprovalRule,
    CodeInterpreterTool,
    CustomTool,
    FileSearchTool,
    FunctionTool,
    McpTool,
    ResponseRequest,
    ResponseTool,
    ToolTarget,
    ToolWish,
    WebSearchTool,
)
from llama_stack.api.stack import ServedStack
from llama_stack.api.tools import NamedToolChoice, ToolChoice, ToolDefinition
from llama_stack.errors import InvalidRequest, NotFound, ProviderFailed, StackError, UnsupportedParameter
from llama_stack.gathering import gathered
from llama_stack.responses.given_files import contents, given_files, told_of
from llama_stack.wire.openai_containers import container_of, no_container, session_of
from llama_stack.wire.openai_responses.manner import KnownTool, Manner, McpListing
from llama_stack.wire.validation import named, naming

WEB_SEARCH_GROUP = "builtin::websearch"


@dataclass(frozen=True)
class Ready:
    """listings: tools of the MCP servers, to be told first. failure: why the response cannot be made after all."""

    setup: AgentSetup
    manner: Manner
    listings: list[McpListing]
    failure: StackError | None = None


@dataclass(frozen=True)
class _Group:
    """A tool of the request that stands for a tool group, and what that group offers.

    note: what the model is told with its instructions.
    """

    tool: McpTool | WebSearchTool | CodeInterpreterTool
    use: ToolGroupUse
    listed: list[ToolDefinition]
    note: str = ""


async def make_ready(
    stack: ServedStack,
    request: ResponseRequest,
    caller: Caller,
    *,
    response_id: str,
    root_id: str,
    requests: Mapping[str, str],
    told_labels: set[str],
    earlier: Sequence[Turn] = (),
) -> Ready:
    """Raises NotFound for an unknown model, vector store, file or container, UnsupportedParameter for a hosted tool
    that this stack has not.

    told_labels: MCP servers whose tools an earlier response has told. earlier: turns of the conversation. An MCP
    server that cannot be reached is no error here but the `failure` of what is returned.
    """
    model = await stack.model(request.model, caller)
    await check_kept(stack, request, caller)
    caller = with_headers(caller, request)
    listings: list[McpListing] = []
    groups: list[_Group] = []
    failure: StackError | None = None
    found = await gathered(
        _listed(stack, tool, request, caller, f"tools.{position}") for position, tool in enumerate(request.tools)
    )
    for number, group in enumerate(found):
        if isinstance(group, _Group):
            groups.append(group)
        listing = _listing(group, f"mcpl_{response_id.removeprefix('resp_')}_{number}")
        if isinstance(group, _Failed):
            failure = group.error
        if listing is not None and (listing.error is not None or listing.server_label not in told_labels):
            listings.append(listing)
    known = _known(request, groups)
    config = _config(request, groups, known)
    if failure is None:
        own = [*_callers_tools(request), *await _searches(stack, request, caller, model.context_length)]
        toolbox = await toolbox_for(config, stack.tools, caller, session_id=root_id, own=own)
    else:
        toolbox = Toolbox()
    setup = AgentSetup(
        inference=stack.inference,
        config=config,
        caller=caller,
        toolbox=_HandingOver(toolbox, {name for name, tool in known.items() if tool.kind in ("function", "custom")}),
        safety=stack.safety,
        context_length=model.context_length,
        logprobs=request.top_logprobs,
        earlier=earlier,
    )
    manner = Manner(
        tools=known,
        requests=requests,
        container_id=_container(request) or container_of(root_id),
        include=request.include,
        is_summarised=request.reasoning_summary,
    )
    return Ready(setup, manner, listings, failure)


def with_headers(caller: Caller, request: ResponseRequest) -> Caller:
    """The caller with the headers of this request, each meant for one server."""
    if not request.mcp_headers:
        return caller
    credentials = dict(caller.provider_credentials)
    before = credentials.get("mcp_headers")
    credentials["mcp_headers"] = {**(before if isinstance(before, dict) else {}), **request.mcp_headers}
    return caller.model_copy(update={"provider_credentials": credentials})


# --- groups --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Failed:
    label: str
    error: StackError


async def _listed(
    stack: ServedStack, tool: ResponseTool, request: ResponseRequest, caller: Caller, where: str
) -> _Group | _Failed | None:
    match tool:
        case McpTool():
            lost = request.lost_headers(tool.server_url or "")
            if lost:
                return _Failed(tool.server_label, _about(tool.server_label, _headers_lost(lost)))
            use = ToolGroupUse(identifier=tool.server_label, mcp_endpoint=tool.server_url, tools=tool.allowed_tools)
            fields = {"mcp_endpoint": f"{where}.server_url", "tool_group_id": f"{where}.server_label"}
            with naming(**fields):
                group = await stack.tools.group(use, caller)
            try:
                listed = await stack.tools.list_tools(group, caller)
            except StackError as error:
                return _Failed(tool.server_label, _about(tool.server_label, named(error, **fields)))
            offered = [one for one in listed if tool.allowed_tools is None or one.name in tool.allowed_tools]
            return _Group(tool, use.model_copy(update={"approval": _approval(tool, offered)}), offered)
        case WebSearchTool() | CodeInterpreterTool():
            identifier = WEB_SEARCH_GROUP if isinstance(tool, WebSearchTool) else CODE_INTERPRETER_GROUP
            use, note = ToolGroupUse(identifier=identifier), ""
            try:
                group = await stack.tools.group(use, caller)
            except NotFound:
                raise UnsupportedParameter(
                    f"tools: this stack has no {tool.type}; add a tool group {identifier!r} to its distribution",
                    param="tools",
                ) from None
            listed = await stack.tools.list_tools(group, caller)
            if isinstance(tool, CodeInterpreterTool) and tool.file_ids:
                given = await given_files(stack, tool, caller, where)
                use = use.model_copy(update={"args": {"files": await contents(stack, given, caller)}})
                note = told_of(given)
            if isinstance(tool, CodeInterpreterTool) and tool.container_id is not None:
                use = use.model_copy(update={"args": {"session_id": session_of(tool.container_id)}})
            if isinstance(tool, WebSearchTool):
                use = use.model_copy(update={"args": _scope(tool)})
                note = f"The user is in or near {tool.location}." if tool.location else ""
            return _Group(tool, use, listed, note)
        case _:
            return None


def _container(request: ResponseRequest) -> str | None:
    return next((tool.container_id for tool in request.tools if isinstance(tool, CodeInterpreterTool)), None)


def _scope(tool: WebSearchTool) -> JsonObject:
    """Arguments for every search. What is the default is left out, so that any tool that takes a query will do."""
    scope: JsonObject = {"allowed_domains": tool.allowed_domains} if tool.allowed_domains else {}
    return scope if tool.context_size == "medium" else {**scope, "context_size": tool.context_size}


def _headers_lost(names: list[str]) -> StackError:
    """A server that is asked without them may refuse, or take the request for somebody else's."""
    return ProviderFailed(
        f"it is not asked without the headers {', '.join(names)}: they came with the request, are never stored, and"
        " went with the process that began this response; send the request again, or name the server with its headers"
        " in the distribution",
        code="mcp_headers_lost",
    )


def _about(label: str, error: StackError) -> StackError:
    """The same error, saying which of the request's servers it is about."""
    told = f"MCP server {label!r}: {error.message}"
    error.message = told
    error.args = (told,)
    return error


def _approval(tool: McpTool, offered: list[ToolDefinition]) -> str | list[str]:
    rule = tool.approval
    if not isinstance(rule, ApprovalRule):
        return rule
    if rule.never is None and rule.always is not None:
        return rule.always
    free = set(rule.never or ()) - set(rule.always or ())
    return [one.name for one in offered if one.name not in free]


def _listing(group: _Group | _Failed | None, item_id: str) -> McpListing | None:
    match group:
        case _Failed():
            return McpListing(item_id, group.label, error=group.error.message)
        case _Group(tool=McpTool() as tool):
            return McpListing(item_id, tool.server_label, group.listed)
        case _:
            return None


def _known(request: ResponseRequest, groups: list[_Group]) -> dict[str, KnownTool]:
    known: dict[str, KnownTool] = {}
    for tool in request.tools:
        match tool:
            case FunctionTool():
                known[tool.definition.name] = KnownTool("function")
            case CustomTool():
                known[tool.name] = KnownTool("custom")
            case FileSearchTool():
                known[FILE_SEARCH.name] = KnownTool("file_search")
    for group in groups:
        for definition in group.listed:
            label = group.tool.server_label if isinstance(group.tool, McpTool) else ""
            known[offered_name(definition.name)] = KnownTool(
                group.tool.type, label, needs_approval(group.use, definition.name)
            )
    return known


# --- the agent -----------------------------------------------------------------------------------------------------


def _config(request: ResponseRequest, groups: list[_Group], known: Mapping[str, KnownTool]) -> AgentConfig:
    budget: JsonObject = {}
    for name, limit in (
        ("max_infer_iters", request.max_infer_iters),
        ("max_tool_calls", request.max_tool_calls),
        ("max_tokens", request.max_output_tokens),
    ):
        if limit is not None:
            budget[name] = limit
    return AgentConfig(
        model=request.model,
        instructions="\n\n".join(filter(None, [request.instructions, *(group.note for group in groups)])),
        tool_groups=[group.use for group in groups],
        tool_choice=_tool_choice(request.tool_choice, known),
        parallel_tool_calls=request.parallel_tool_calls,
        sampling=Sampling(
            **{
                name: value
                for name, value in (("temperature", request.temperature), ("top_p", request.top_p))
                if value is not None
            }
        ),
        reasoning_effort=request.reasoning_effort,
        response_format=request.response_format,
        truncation=request.truncation,
        budget=Budget(**budget),
        extra={} if request.verbosity in (None, "medium") else {"verbosity": request.verbosity},
    )


def _tool_choice(choice: str | ToolWish, known: Mapping[str, KnownTool]) -> ToolChoice:
    if isinstance(choice, ToolWish):
        names = [name for target in choice.targets for name in _names(target, known)]
        return NamedToolChoice(names=list(dict.fromkeys(names)), mode=choice.mode)
    return choice  # type: ignore[return-value]  # one of the three texts


def _names(target: ToolTarget, known: Mapping[str, KnownTool]) -> list[str]:
    if target.name is not None:
        if target.name not in known:
            raise InvalidRequest(f"tool_choice: there is no tool {target.name!r}", param="tool_choice")
        return [target.name]
    return [
        name
        for name, tool in known.items()
        if tool.kind == target.type and (target.server_label or "") == tool.server_label
    ]


def _callers_tools(request: ResponseRequest) -> list[Tool]:
    """Tools of the caller's, whose arguments are the caller's to judge."""

    def unchecked(arguments: JsonObject) -> JsonObject:
        return arguments

    tools: list[Tool] = []
    for tool in request.tools:
        match tool:
            case FunctionTool():
                tools.append(Tool(tool.definition, unchecked))
            case CustomTool():
                parameters = {
                    "type": "object",
                    "properties": {"input": {"type": "string", "description": "The tool's input, as plain text."}},
                    "required": ["input"],
                }
                definition = ToolDefinition(name=tool.name, description=tool.description, parameters=parameters)
                tools.append(Tool(definition, unchecked))
    return tools


# --- files ---------------------------------------------------------------------------------------------------------


async def check_kept(stack: ServedStack, request: ResponseRequest, caller: Caller) -> None:
    """Raises NotFound for a vector store, a reranking model, a file or a container that there is not, InvalidRequest
    for a store that has expired and for files that cannot be given together.
    """
    for position, tool in enumerate(request.tools):
        where = f"tools.{position}"
        if isinstance(tool, CodeInterpreterTool):
            await given_files(stack, tool, caller, where)
            if tool.container_id is not None:
                await _check_container(stack, tool.container_id, caller, f"{where}.container")
        if not isinstance(tool, FileSearchTool):
            continue
        memory = await stack.memory()
        field = f"{where}.vector_store_ids"
        try:
            await memory.require_live(tool.vector_store_ids, caller)
        except NotFound as error:
            raise NotFound(f"{field}: {error.message}", param=field, code="vector_store_not_found") from None
        except InvalidRequest as error:
            raise InvalidRequest(f"{field}: {error.message}", param=field, code=error.code) from None
        if tool.search.rerank_model is not None:
            try:
                await stack.model(tool.search.rerank_model, caller)
            except NotFound as error:
                field = f"{where}.ranking_options.ranker"
                raise NotFound(f"{field}: {error.message}", param=field, code=error.code) from None


async def _check_container(stack: ServedStack, container_id: str, caller: Caller, field: str) -> None:
    try:
        group = await stack.tools.group(ToolGroupUse(identifier=CODE_INTERPRETER_GROUP), caller)
    except NotFound:
        return  # told with the other tools that this stack has not
    containers = stack.tools.containers(group)
    if containers is not None:
        try:
            await containers.container(session_of(container_id), caller)
        except NotFound as error:
            raise no_container(container_id, error, field) from None


async def _searches(
    stack: ServedStack, request: ResponseRequest, caller: Caller, context_length: int | None
) -> list[Tool]:
    return [
        file_search(
            await stack.memory(),
            tool.vector_store_ids,
            tool.search,
            caller,
            max_tokens=context_tokens(context_length),
        )
        for tool in request.tools
        if isinstance(tool, FileSearchTool)
    ]


class _HandingOver(Toolbox):
    """Hands every call of the caller's tools over, even one that is not JSON: what to do with it is the caller's."""

    def __init__(self, toolbox: Toolbox, callers: set[str]) -> None:
        super().__init__(max_result_chars=toolbox.max_result_chars)
        self._tools = toolbox._tools  # of the same class
        self._callers = callers

    def awaits_caller(self, call: ToolCall) -> bool:
        return call.name in self._callers
