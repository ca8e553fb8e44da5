"""Agents: a model with instructions and tools that works through a turn step by step.

agent -> sessions -> turns -> steps. A turn begins with the user's messages and ends with the agent's answer; a step
is one inference, one tool call, one shield run, one memory retrieval or a person's word on calls inside it.
"""

from collections.abc import AsyncGenerator
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Protocol

from pydantic import BeforeValidator, Field

from llama_stack.api.common import Caller, JsonObject, Page, Word
from llama_stack.api.inference import (
    ChatEvent,
    FinishReason,
    ReasoningEffort,
    ResponseFormat,
    Sampling,
    TextFormat,
    ToolPromptFormat,
    Usage,
)
from llama_stack.api.memory import Chunk, Citation, Document
from llama_stack.api.messages import AssistantMessage, ToolCall, ToolMessage, UserMessage
from llama_stack.api.safety import Violation
from llama_stack.api.tools import ToolChoice, ToolDefinition


class Budget(Word):
    """What one turn may spend. The last inference step is run with tools off, so the user always gets text.

    max_tokens: tokens the model makes, not those it reads. max_seconds: without the time the turn awaits its caller.
    """

    max_infer_iters: int = Field(default=10, ge=1, le=1000)
    max_tool_calls: int = Field(default=50, ge=0)
    max_tokens: int | None = Field(default=None, ge=1)
    max_seconds: float | None = Field(default=None, gt=0)


class ToolGroupUse(Word):
    """A tool group as one agent uses it.

    identifier: id of a registered group; with `mcp_endpoint`, any name, and the group is that MCP server.
    tools: names of those of its tools that are offered; None offers all. args: added to the arguments of every call,
    over what the model says; the model is not shown them. approval: which calls wait for a person's word: none, all,
    or those of the tools named here.
    """

    identifier: str
    tools: list[str] | None = None
    args: JsonObject = {}
    approval: Literal["never", "always"] | list[str] = "never"
    mcp_endpoint: str | None = None


def _group_use(value: Any) -> Any:
    """`builtin::websearch` is the whole group, `builtin::rag/knowledge_search` one tool of it."""
    if not isinstance(value, str):
        return value
    identifier, slash, tool = value.partition("/")
    return {"identifier": identifier, "tools": [tool]} if slash else {"identifier": identifier}


ToolGroupChoice = Annotated[ToolGroupUse, BeforeValidator(_group_use)]
"""A ToolGroupUse, or the name of a group (`group` or `group/tool`)."""


CHAT_AGENT_NAME = "llama agent chat "
"""Begins the names of agents that are no more than a chat somebody had in the terminal; they are offered to nobody."""


class AgentConfig(Word):
    """What an agent is.

    description: what it is for, as other agents are told. handoffs: ids of agents that its conversations may be handed
    over to; agents of one such team need names of their own.
    client_tools: run by the caller, not the stack. parallel_tool_calls: False asks for at most one call an answer.
    input_shields judge what the user says, output_shields what the model says and the calls it makes, tool_shields
    what tools give back. memory_banks: searched with the user's words before the first inference of a turn.
    tool_prompt_format: a wish, heard where the stack writes the model's prompts itself.
    truncation: "auto" leaves out the oldest messages of a conversation that outgrows the model's window; "disabled"
    makes that a ContextOverflow.
    """

    model: str
    instructions: str = ""
    name: str | None = None
    description: str = ""
    handoffs: list[str] = []
    tool_groups: list[ToolGroupChoice] = []
    client_tools: list[ToolDefinition] = []
    tool_choice: ToolChoice = "auto"
    tool_prompt_format: ToolPromptFormat | None = None
    parallel_tool_calls: bool | None = None
    input_shields: list[str] = []
    output_shields: list[str] = []
    tool_shields: list[str] = []
    memory_banks: list[str] = []
    sampling: Sampling = Sampling()
    reasoning_effort: ReasoningEffort | None = None
    response_format: ResponseFormat = TextFormat()
    truncation: Literal["auto", "disabled"] = "auto"
    budget: Budget = Budget()
    metadata: JsonObject = {}
    extra: JsonObject = {}


class TurnSettings(Word):
    """What one turn does otherwise than its agent's config says. Stored with the turn, so a resumption keeps to it."""

    tool_groups: list[ToolGroupChoice] | None = None
    tool_choice: ToolChoice | None = None
    memory_banks: list[str] | None = None


class StepType(StrEnum):
    INFERENCE = "inference"
    TOOL_EXECUTION = "tool_execution"
    SHIELD_CALL = "shield_call"
    MEMORY_RETRIEVAL = "memory_retrieval"
    APPROVAL = "approval"
    DELEGATION = "delegation"


TurnEndReason = Literal[
    "completed", "max_infer_iters", "max_tool_calls", "max_tokens", "max_seconds", "blocked", "interrupted"
]
"""interrupted: nobody worked on the turn any more (its caller left, its process died) when the next one began."""


class InferenceStep(Word):
    """One answer of the model. With tool calls it is followed by their results, else it may be the turn's output.

    ends_turn: why this answer is the turn's last one; None while the turn goes on after it. is_formed: the agent's
    response format was asked for. messages_left_out: how many of the oldest messages were not sent, because they did
    not fit the model's window. citations: the passages that the message's text rests on, in the order of the text.
    """

    type: Literal["inference"] = "inference"
    step_id: str
    message: AssistantMessage
    finish_reason: FinishReason = "stop"
    usage: Usage | None = None
    ends_turn: TurnEndReason | None = None
    is_formed: bool = False
    messages_left_out: int = 0
    citations: list[Citation] = []
    started_at: datetime | None = None
    completed_at: datetime | None = None

    @property
    def is_draft(self) -> bool:
        """Whether the answer lacks the form that is wanted, so that it was asked for again or no longer could be."""
        return not self.message.tool_calls and self.ends_turn is None


class ToolExecutionStep(Word):
    """Calls that got their results together, in the order of the calls; a tool that the stack runs has its own step.

    failed: ids of the calls whose tool failed. metadata: by call id, what a tool tells the caller and not the model.
    """

    type: Literal["tool_execution"] = "tool_execution"
    step_id: str
    tool_calls: list[ToolCall]
    results: list[ToolMessage]
    failed: list[str] = []
    metadata: dict[str, JsonObject] = {}
    started_at: datetime | None = None
    completed_at: datetime | None = None


class ShieldCallStep(Word):
    """One shield's word on the user's input, on the model's output, or on what a tool gave back."""

    type: Literal["shield_call"] = "shield_call"
    step_id: str
    shield: str
    touchpoint: Literal["input", "output", "tool"] = "input"
    violation: Violation | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None


class MemoryRetrievalStep(Word):
    """What was found for the user's words; `inserted_context` is put before the model, `chunks` are its sources."""

    type: Literal["memory_retrieval"] = "memory_retrieval"
    step_id: str
    memory_banks: list[str]
    inserted_context: str
    chunks: list[Chunk] = []
    started_at: datetime | None = None
    completed_at: datetime | None = None


class ToolOutcome(Word):
    """What a caller says of one call, beyond the result that the model reads; see ToolExecutionStep.

    delegation: in place of a result, where an agent of the caller's serves the call and has to wait.
    """

    tool_call_id: str
    is_error: bool = False
    metadata: JsonObject = {}
    delegation: "DelegationStep | None" = None


class ApprovalDecision(Word):
    """A person's word on one call that waits for it. `reason` is told to the model when the call is denied."""

    tool_call_id: str
    approve: bool
    reason: str | None = None


class ApprovalStep(Word):
    """Decisions as they came; an approved call is run after this step is stored, a denied one never."""

    type: Literal["approval"] = "approval"
    step_id: str
    decisions: list[ApprovalDecision]
    completed_at: datetime | None = None


class DelegationStep(Word):
    """How far the agent has come that serves a call of this turn as its tool, when it had to wait or was brought
    something. The latest one of a call counts, until the call has a result.

    turn: the agent's own. tool_calls, approvals: what that turn awaits, with the ids they have there; where it awaits
    nothing, it goes on from here. The turn around it awaits the same, under `{tool_call.id}/{id}`. tool_shields: those
    of that agent, which judge what its calls are brought.
    """

    type: Literal["delegation"] = "delegation"
    step_id: str
    tool_call: ToolCall
    turn: "Turn"
    tool_calls: list[ToolCall] = []
    approvals: list[ToolCall] = []
    tool_shields: list[str] = []
    started_at: datetime | None = None
    completed_at: datetime | None = None

    @property
    def is_waiting(self) -> bool:
        return bool(self.tool_calls or self.approvals)


Step = Annotated[
    InferenceStep | ToolExecutionStep | ShieldCallStep | MemoryRetrievalStep | ApprovalStep | DelegationStep,
    Field(discriminator="type"),
]


class Turn(Word):
    """One exchange. `end_reason` tells a finished answer from one cut short by a budget or a shield."""

    turn_id: str
    session_id: str
    input: list[UserMessage | ToolMessage]
    settings: TurnSettings = TurnSettings()
    steps: list[Step] = []
    output: AssistantMessage | None = None
    end_reason: TurnEndReason | None = None
    usage: Usage = Usage()
    started_at: datetime
    completed_at: datetime | None = None

    @property
    def citations(self) -> list[Citation]:
        """What the output rests on; nothing where it is not the model's own."""
        last = next((step for step in reversed(self.steps) if isinstance(step, InferenceStep)), None)
        return last.citations if last is not None and last.message == self.output else []


DelegationStep.model_rebuild()
ToolOutcome.model_rebuild()


class Session(Word):
    session_id: str
    agent_id: str
    name: str
    turns: list[Turn] = []
    started_at: datetime


class TurnStarted(Word):
    type: Literal["turn_started"] = "turn_started"
    turn_id: str


class StepStarted(Word):
    type: Literal["step_started"] = "step_started"
    step_id: str
    step_type: StepType


class StepProgress(Word):
    """An inference event of the running step, as the model makes it."""

    type: Literal["step_progress"] = "step_progress"
    step_id: str
    event: ChatEvent


class ToolCallStarted(Word):
    """The stack begins to run a call."""

    type: Literal["tool_call_started"] = "tool_call_started"
    step_id: str
    tool_call: ToolCall


class ToolCallFinished(Word):
    """metadata: what the tool tells the caller and not the model, such as its sources."""

    type: Literal["tool_call_finished"] = "tool_call_finished"
    step_id: str
    result: ToolMessage
    is_error: bool = False
    metadata: JsonObject = {}


class StepCompleted(Word):
    type: Literal["step_completed"] = "step_completed"
    step: Step


class TurnAwaitingInput(Word):
    """The turn waits for its caller; resume it with what it waits for.

    tool_calls: calls of the caller's own tools, which want results. approvals: calls that want a person's word. Those
    of an agent that is a tool of this one are among them; see DelegationStep.
    step_id: of the step that will keep the results of `tool_calls`, where they come together.
    """

    type: Literal["turn_awaiting_input"] = "turn_awaiting_input"
    turn: Turn
    tool_calls: list[ToolCall]
    approvals: list[ToolCall] = []
    step_id: str = ""


class TurnCompleted(Word):
    """The last event of a turn that ended."""

    type: Literal["turn_completed"] = "turn_completed"
    turn: Turn


AgentEvent = Annotated[
    TurnStarted
    | StepStarted
    | StepProgress
    | ToolCallStarted
    | ToolCallFinished
    | StepCompleted
    | TurnAwaitingInput
    | TurnCompleted,
    Field(discriminator="type"),
]


class AgentRecord(Word):
    """A stored agent."""

    agent_id: str
    config: AgentConfig
    created_at: datetime


class Agents(Protocol):
    """Keeps agents and their sessions and runs turns.

    Every method sees the caller's own rows only: another owner's id is NotFound. A step is stored before its effects
    are used, so a crash loses no finished work: a turn that was cut off is taken up by `resume_turn` after its last
    stored step, and a tool call that has a result is never run again.
    """

    async def create_agent(self, config: AgentConfig, caller: Caller) -> AgentRecord:
        """Raises NotFound or InvalidRequest for a model, tool group or shield in the config that there is not."""
        ...

    async def agent(self, agent_id: str, caller: Caller) -> AgentRecord: ...

    async def list_agents(self, caller: Caller, *, limit: int = 100, after: str | None = None) -> Page[AgentRecord]:
        """Oldest first."""
        ...

    async def update_agent(self, agent_id: str, config: AgentConfig, caller: Caller) -> AgentRecord:
        """Change what an agent is; its sessions stay, and their next turns are run with this config.

        Raises as `create_agent` does.
        """
        ...

    async def delete_agent(self, agent_id: str, caller: Caller) -> None: ...

    async def create_session(self, agent_id: str, name: str, caller: Caller) -> Session: ...

    async def session(self, agent_id: str, session_id: str, caller: Caller) -> Session:
        """With all its turns and their steps."""
        ...

    async def list_sessions(
        self, agent_id: str, caller: Caller, *, limit: int = 100, after: str | None = None, name: str | None = None
    ) -> Page[Session]:
        """Oldest first, without their turns. name: only those of this name."""
        ...

    async def delete_session(self, agent_id: str, session_id: str, caller: Caller) -> None: ...

    async def turn(self, agent_id: str, session_id: str, turn_id: str, caller: Caller) -> Turn: ...

    def create_turn(
        self,
        agent_id: str,
        session_id: str,
        messages: list[UserMessage | ToolMessage],
        caller: Caller,
        *,
        settings: TurnSettings | None = None,
        turn_id: str | None = None,
        documents: list[Document] | None = None,
    ) -> AsyncGenerator[AgentEvent, None]:
        """Run a turn; the last event is TurnCompleted or TurnAwaitingInput.

        documents: what the turn is about. Short texts are said to the model with the user's last words; the others go
        into a memory bank of the session, which this turn and later ones search, and which is deleted with it. Raises
        InvalidRequest naming the one that cannot be read.
        turn_id: the new turn's id, where the caller wants to choose it. Closing the stream stops the model and the
        tools; what was finished stays. Raises Conflict while another turn of the session runs.
        """
        ...

    def resume_turn(
        self,
        agent_id: str,
        session_id: str,
        turn_id: str,
        caller: Caller,
        *,
        results: list[ToolMessage] | None = None,
        decisions: list[ApprovalDecision] | None = None,
        outcomes: list[ToolOutcome] | None = None,
    ) -> AsyncGenerator[AgentEvent, None]:
        """Go on with a turn that awaits its caller, or one that was cut off.

        results, decisions: for some or all of what the turn awaits; while any is missing, it goes on waiting.
        outcomes: more on some of the results.
        Raises Conflict for a turn that has ended or that somebody works on, InvalidRequest for a call id that
        nothing awaits.
        """
        ...
