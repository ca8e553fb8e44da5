"""Responses and conversations: the agent loop as OpenAI's Responses API shows it.

A response is one turn of the loop. What is stored, chained and shown are its items, JSON objects in the shape of
OpenAI's API reference ("Responses", "Conversations"): input messages, the model's messages, reasoning, tool calls.
They are kept as they are, so that what a client once read it can read again.
"""

from collections.abc import AsyncGenerator
from typing import Annotated, Literal, Protocol, Self

from pydantic import Field, model_validator

from llama_stack.api.common import Caller, JsonObject, Page, Word
from llama_stack.api.inference import ReasoningEffort, ResponseFormat, TextFormat
from llama_stack.api.memory import MemoryQuery
from llama_stack.api.tools import ToolDefinition

# --- tools a response may use --------------------------------------------------------------------------------------


class FunctionTool(Word):
    """A tool of the caller's: the response ends with its calls, and the caller brings the outputs."""

    type: Literal["function"] = "function"
    definition: ToolDefinition


class CustomTool(Word):
    """A tool of the caller's that takes plain text."""

    type: Literal["custom"] = "custom"
    name: str
    description: str | None = None


class ApprovalRule(Word):
    """Tools of an MCP server whose calls wait for a person's word, and those that do not. A tool in neither waits,
    unless only `always` was given.
    """

    always: list[str] | None = None
    never: list[str] | None = None


class McpTool(Word):
    """Tools of an MCP server. server_url: None means the registered tool group called `server_label`."""

    type: Literal["mcp"] = "mcp"
    server_label: str
    server_url: str | None = None
    allowed_tools: list[str] | None = None
    approval: Literal["never", "always"] | ApprovalRule = "always"


class WebSearchTool(Word):
    """allowed_domains: where pages may be, below these domains too; all where there are none. context_size: how much
    of what was found the model is given. location: where the user is, in words for the model.
    """

    type: Literal["web_search"] = "web_search"
    allowed_domains: list[str] = []
    context_size: Literal["low", "medium", "high"] = "medium"
    location: str = ""


class CodeInterpreterTool(Word):
    """container_id: of an earlier response, whose variables and files the code goes on with. file_ids: files of the
    caller's that lie in the folder in which the code runs.
    """

    type: Literal["code_interpreter"] = "code_interpreter"
    container_id: str | None = None
    file_ids: list[str] = []


class FileSearchTool(Word):
    """Search in memory banks, all of them together. search: how, and for how many chunks; the model says for what."""

    type: Literal["file_search"] = "file_search"
    vector_store_ids: list[str] = Field(min_length=1)
    search: MemoryQuery = MemoryQuery(max_chunks=10)


ResponseTool = Annotated[
    FunctionTool | CustomTool | McpTool | WebSearchTool | CodeInterpreterTool | FileSearchTool,
    Field(discriminator="type"),
]


class ToolTarget(Word):
    """Tools a choice is about: one of the caller's by name, those of an MCP server, or a hosted one."""

    type: Literal["function", "custom", "mcp", "web_search", "code_interpreter", "file_search"]
    name: str | None = None
    server_label: str | None = None


class ToolWish(Word):
    """The model may (auto) or must (required) call one of these and no other."""

    mode: Literal["auto", "required"] = "required"
    targets: list[ToolTarget]


# --- what is asked -------------------------------------------------------------------------------------------------


LEAST_THRESHOLD_TOKENS = 1000


class Compaction(Word):
    """A conversation that takes more tokens than this is made shorter before the model reads it.

    threshold_tokens: None means three quarters of the model's window.
    """

    threshold_tokens: int | None = Field(default=None, ge=LEAST_THRESHOLD_TOKENS)


class Moderation(Word):
    """A shield's word on what a response is given and on what it says.

    blocks_input, blocks_output: what the shield forbids is not read by the model, or not told; else it is only judged.
    """

    shield: str
    blocks_input: bool = False
    blocks_output: bool = False


class ResponseRequest(Word):
    """What a response shall be made of and how.

    input: items as the caller sent them, each with an id. previous_response_id, conversation: what came before; at
    most one of the two. shown: the request's fields as the response object repeats them; without any secret.
    mcp_headers: by server address, headers the caller wants sent there; never dumped, so never stored.
    mcp_header_names: their names, which are stored: by them it is known what a request read from the store lacks.
    top_logprobs: alternatives whose log probabilities are given with each token of text; None for none at all.
    max_output_tokens: of the whole response, reasoning included. generate: False keeps the input for a response to
    continue, and the model is not asked. obfuscates: streamed deltas are padded, so that who sees only their sizes does
    not learn how long the words are. max_tool_calls: of tools that the stack runs.
    """

    model: str
    input: list[JsonObject] = []
    instructions: str = ""
    previous_response_id: str | None = None
    conversation: str | None = None
    tools: list[ResponseTool] = []
    tool_choice: Literal["auto", "none", "required"] | ToolWish = "auto"
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat = TextFormat()
    verbosity: Literal["low", "medium", "high"] | None = None
    reasoning_effort: ReasoningEffort | None = None
    reasoning_summary: bool = False
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    max_output_tokens: int | None = Field(default=None, ge=1)
    max_tool_calls: int | None = Field(default=None, ge=1)
    max_infer_iters: int | None = Field(default=None, ge=1, le=1000)
    truncation: Literal["auto", "disabled"] = "disabled"
    compaction: Compaction | None = None
    moderation: Moderation | None = None
    include: list[str] = []
    store: bool = True
    background: bool = False
    generate: bool = True
    obfuscates: bool = False
    shown: JsonObject = {}
    mcp_headers: dict[str, dict[str, str]] = Field(default={}, exclude=True, repr=False)
    mcp_header_names: dict[str, list[str]] = {}

    @model_validator(mode="after")
    def _names_are_kept(self) -> Self:
        if self.mcp_headers:
            self.mcp_header_names = {server: list(headers) for server, headers in self.mcp_headers.items()}
        return self

    def lost_headers(self, server: str) -> list[str]:
        """Names of the headers for this server that were not stored with the request."""
        return [] if server in self.mcp_headers else self.mcp_header_names.get(server, [])


class Conversation(Word):
    """A list of items that responses read and add to. created_at: seconds since 1970."""

    conversation_id: str
    metadata: dict[str, str] = {}
    created_at: int


ListOrder = Literal["asc", "desc"]


class Responses(Protocol):
    """Makes, keeps and continues responses. Bodies and events are in OpenAI's shape.

    Every method sees the caller's own only: another owner's id is NotFound.
    """

    async def create(self, request: ResponseRequest, caller: Caller) -> JsonObject:
        """The finished response, or, for a request with `background`, the queued one.

        Raises what inference raises, NotFound for what the request continues, InvalidRequest for input that does
        not fit it, Conflict while another response of the same conversation is being made.
        """
        ...

    def stream(self, request: ResponseRequest, caller: Caller) -> AsyncGenerator[JsonObject, None]:
        """The events of a response as it is made, numbered from 0; the last one tells how it ended.

        What fails before the model or a tool has said anything is raised, later failures are an event. Closing the
        stream stops the work, unless it goes on in the background.
        """
        ...

    async def response(self, response_id: str, caller: Caller, *, include: list[str] | None = None) -> JsonObject: ...

    def watch(
        self, response_id: str, caller: Caller, *, starting_after: int = -1, include: list[str] | None = None
    ) -> AsyncGenerator[JsonObject, None]:
        """The events of a background response from its first one on, those numbered up to `starting_after` left out.

        Raises InvalidRequest to `include` what the response's own request did not.
        """
        ...

    async def list_responses(
        self,
        caller: Caller,
        *,
        limit: int = 20,
        after: str | None = None,
        order: ListOrder = "desc",
        model: str | None = None,
    ) -> Page[JsonObject]:
        """By time; each with its `input`."""
        ...

    async def input_items(
        self,
        response_id: str,
        caller: Caller,
        *,
        limit: int = 20,
        after: str | None = None,
        order: ListOrder = "desc",
        include: list[str] | None = None,
    ) -> Page[JsonObject]: ...

    async def cancel(self, response_id: str, caller: Caller) -> JsonObject:
        """Stop a background response; one that has ended stays as it is. Raises InvalidRequest for any other."""
        ...

    async def delete(self, response_id: str, caller: Caller) -> None: ...

    def session(self) -> "ResponseSession":
        """For the responses of one connection."""
        ...

    async def count_input_tokens(self, request: ResponseRequest, caller: Caller) -> int:
        """Tokens the model would read first; nothing is stored or made."""
        ...

    async def compact(self, request: ResponseRequest, caller: Caller) -> JsonObject:
        """A shorter conversation that means the same: what the user said, and a summary of the rest."""
        ...


class Conversations(Protocol):
    """Keeps conversations and their items. Another owner's id is NotFound."""

    async def create(self, items: list[JsonObject], metadata: dict[str, str], caller: Caller) -> Conversation: ...

    async def conversation(self, conversation_id: str, caller: Caller) -> Conversation: ...

    async def update(self, conversation_id: str, metadata: dict[str, str], caller: Caller) -> Conversation: ...

    async def delete(self, conversation_id: str, caller: Caller) -> None: ...

    async def add_items(self, conversation_id: str, items: list[JsonObject], caller: Caller) -> list[JsonObject]: ...

    async def items(
        self,
        conversation_id: str,
        caller: Caller,
        *,
        limit: int = 20,
        after: str | None = None,
        order: ListOrder = "desc",
        include: list[str] | None = None,
    ) -> Page[JsonObject]: ...

    async def item(
        self, conversation_id: str, item_id: str, caller: Caller, *, include: list[str] | None = None
    ) -> JsonObject: ...

    async def delete_item(self, conversation_id: str, item_id: str, caller: Caller) -> Conversation: ...


class ResponseSession(Protocol):
    """Responses of one connection, which may continue each other without being stored.

    A response that is not stored is remembered while it is the last one of its lane; any lane may continue it. What
    is remembered is bounded and ends with the session.
    """

    def stream(
        self, request: ResponseRequest, caller: Caller, *, lane: str | None = None
    ) -> AsyncGenerator[JsonObject, None]:
        """As `Responses.stream`. Raises InvalidRequest with the code `previous_response_not_found` for a response to
        continue that is neither stored nor remembered.
        """
        ...


class StoredCompletion(Word):
    """A chat completion that its caller asked to keep. messages: what was said to the model. body: the whole answer;
    both in OpenAI's shape (API reference, "Chat", "List chat completions").
    """

    completion_id: str
    model: str
    metadata: dict[str, str] = {}
    messages: list[JsonObject]
    body: JsonObject


class StoredCompletions(Protocol):
    """Keeps chat completions. Another owner's id is NotFound."""

    async def keep(self, completion: StoredCompletion, caller: Caller) -> None: ...

    async def completion(self, completion_id: str, caller: Caller) -> StoredCompletion: ...

    async def completions(
        self,
        caller: Caller,
        *,
        limit: int = 20,
        after: str | None = None,
        order: ListOrder = "asc",
        model: str | None = None,
        metadata: dict[str, str] | None = None,
    ) -> Page[StoredCompletion]:
        """By time. metadata: pairs that all must be there."""
        ...

    async def update(self, completion_id: str, metadata: dict[str, str], caller: Caller) -> StoredCompletion: ...

    async def delete(self, completion_id: str, caller: Caller) -> None: ...
