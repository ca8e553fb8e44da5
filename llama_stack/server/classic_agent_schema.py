"""The shape of the classic agents' answers, for the OpenAPI document; see `llama_stack.server.schema`."""

from typing import Any, Literal

from llama_stack.api.memory import Citation
from llama_stack.server.classic_schema import ClassicContent, ClassicToolCall, CompletionMessage, ContentDelta
from llama_stack.server.safety_schema import SafetyViolation
from llama_stack.server.schema import Answer


class ClassicAgentCreated(Answer):
    agent_id: str


class ClassicAgent(Answer):
    agent_id: str
    agent_config: dict[str, Any]
    created_at: str


class ClassicAgentList(Answer):
    data: list[ClassicAgent]
    has_more: bool
    url: str | None


class ClassicSessionCreated(Answer):
    session_id: str


class ClassicToolResponse(Answer):
    """`metadata`: what the tool tells the caller and not the model."""

    call_id: str
    tool_name: str
    content: ClassicContent
    metadata: dict[str, Any]
    is_error: bool | None = None


class ClassicStep(Answer):
    """step_type: `inference`, `tool_execution`, `shield_call`, `memory_retrieval`, or our `approval`."""

    turn_id: str
    step_id: str
    step_type: str
    started_at: str | None = None
    completed_at: str | None
    model_response: CompletionMessage | None = None
    tool_calls: list[ClassicToolCall] | None = None
    tool_responses: list[ClassicToolResponse] | None = None
    violation: SafetyViolation | None = None
    vector_db_ids: str | None = None
    inserted_context: ClassicContent | None = None
    decisions: list[dict[str, Any]] | None = None


class ClassicStepAnswer(Answer):
    step: ClassicStep


class ClassicTurn(Answer):
    """`approvals`: ours, calls that wait for a person's word. `citations`: ours, what the output rests on."""

    turn_id: str
    session_id: str
    input_messages: list[dict[str, Any]]
    steps: list[ClassicStep]
    output_message: CompletionMessage
    output_attachments: list[dict[str, Any]]
    started_at: str
    completed_at: str | None
    approvals: list[ClassicToolCall] | None = None
    citations: list[Citation] | None = None


class ClassicSession(Answer):
    session_id: str
    session_name: str
    started_at: str
    turns: list[ClassicTurn]


class ClassicSessionList(Answer):
    data: list[ClassicSession]
    has_more: bool
    url: str | None


class ClassicTurnPayload(Answer):
    event_type: Literal["step_start", "step_progress", "step_complete", "turn_awaiting_input", "turn_complete"]
    step_type: str | None = None
    step_id: str | None = None
    metadata: dict[str, Any] | None = None
    delta: ContentDelta | None = None
    step_details: ClassicStep | None = None
    turn: ClassicTurn | None = None


class ClassicTurnEvent(Answer):
    payload: ClassicTurnPayload


class ClassicTurnFrame(Answer):
    event: ClassicTurnEvent
