"""The shape of the classic answers, for the OpenAPI document; see `llama_stack.server.schema`."""

from typing import Any, Literal

from llama_stack.server.schema import Answer

StopReason = Literal["end_of_turn", "end_of_message", "out_of_tokens"]
ClassicContent = str | list[dict[str, Any]]


class Metric(Answer):
    metric: str
    value: float
    unit: str | None


class TokenLogProbs(Answer):
    logprobs_by_token: dict[str, float]


class ClassicToolCall(Answer):
    """`arguments_json`: what the model wrote, exactly."""

    call_id: str
    tool_name: str
    arguments: dict[str, Any] | str
    arguments_json: str


class CompletionMessage(Answer):
    role: Literal["assistant"]
    content: ClassicContent
    stop_reason: StopReason
    tool_calls: list[ClassicToolCall]
    reasoning: str | None = None


class ClassicChatAnswer(Answer):
    completion_message: CompletionMessage
    logprobs: list[TokenLogProbs] | None
    metrics: list[Metric] | None


class ContentDelta(Answer):
    """type: `text` (in `text`), `reasoning` (in `reasoning`), or `tool_call`, a piece of one or the whole."""

    type: Literal["text", "reasoning", "tool_call"]
    text: str
    reasoning: str | None = None
    parse_status: Literal["started", "in_progress", "failed", "succeeded"] | None = None
    tool_call: str | ClassicToolCall | None = None


class ClassicChatEvent(Answer):
    event_type: Literal["start", "progress", "complete"]
    delta: ContentDelta
    logprobs: list[TokenLogProbs] | None
    stop_reason: StopReason | None


class ClassicChatFrame(Answer):
    event: ClassicChatEvent
    metrics: list[Metric] | None


class ClassicCompletion(Answer):
    content: str
    stop_reason: StopReason
    logprobs: list[TokenLogProbs] | None
    metrics: list[Metric] | None


class ClassicCompletionFrame(Answer):
    delta: str
    stop_reason: StopReason | None
    logprobs: list[TokenLogProbs] | None
    metrics: list[Metric] | None = None


class ClassicChatBatch(Answer):
    batch: list[ClassicChatAnswer]


class ClassicCompletionBatch(Answer):
    batch: list[ClassicCompletion]


class ClassicEmbeddings(Answer):
    embeddings: list[list[float]]


class Removed(Answer):
    identifier: str
    deleted: Literal[True]


class ClassicParameter(Answer):
    name: str
    parameter_type: str
    description: str
    required: bool
    default: Any


class ClassicToolDef(Answer):
    name: str
    description: str
    parameters: list[ClassicParameter]
    metadata: dict[str, Any]


class ClassicToolDefList(Answer):
    data: list[ClassicToolDef]


class ClassicTool(Answer):
    identifier: str
    provider_id: str
    provider_resource_id: str
    type: Literal["tool"]
    toolgroup_id: str
    description: str
    parameters: list[ClassicParameter]
    metadata: dict[str, Any]


class ClassicToolList(Answer):
    data: list[ClassicTool]


class ClassicToolGroup(Answer):
    identifier: str
    provider_id: str
    provider_resource_id: str
    type: Literal["tool_group"]
    args: dict[str, Any]
    mcp_endpoint: dict[str, str] | None


class ClassicToolGroupList(Answer):
    data: list[ClassicToolGroup]


class ClassicInvocation(Answer):
    """A tool's own failure is told in `error_message`."""

    content: ClassicContent
    error_message: str | None
    error_code: int | None
    metadata: dict[str, Any]
