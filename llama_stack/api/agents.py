"""Agents: a model with instructions and tools that works through a turn step by step.

agent -> sessions -> turns -> steps. A turn begins with the user's messages and ends with the agent's answer; a step
is one inference, one round of tool calls, one shield run or one memory retrieval inside it.
"""

from collections.abc import AsyncGenerator
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Protocol

from pydantic import Field

from llama_stack.api.common import Caller, JsonObject, Word
from llama_stack.api.inference import ChatEvent, ResponseFormat, Sampling, TextFormat, Usage
from llama_stack.api.messages import AssistantMessage, Message, ToolCall, ToolMessage, UserMessage
from llama_stack.api.safety import Violation
from llama_stack.api.tools import ToolChoice, ToolDefinition


class Budget(Word):
    """What one turn may spend. The last inference step is run with tools off, so the user always gets text.

    max_tokens: tokens the model makes, not those it reads. max_seconds: without the time the turn awaits its caller.
    """

    max_infer_iters: int = Field(10, ge=1, le=1000)
    max_tool_calls: int = Field(50, ge=0)
    max_tokens: int | None = Field(None, ge=1)
    max_seconds: float | None = Field(None, gt=0)


class AgentConfig(Word):
    """What an agent is. tool_groups: ids of registered groups; client_tools: run by the caller, not the stack."""

    model: str
    instructions: str = ""
    name: str | None = None
    tool_groups: list[str] = []
    client_tools: list[ToolDefinition] = []
    tool_choice: ToolChoice = "auto"
    input_shields: list[str] = []
    output_shields: list[str] = []
    memory_banks: list[str] = []
    sampling: Sampling = Sampling()
    response_format: ResponseFormat = TextFormat()
    budget: Budget = Budget()
    metadata: JsonObject = {}


class StepType(StrEnum):
    INFERENCE = "inference"
    TOOL_EXECUTION = "tool_execution"
    SHIELD_CALL = "shield_call"
    MEMORY_RETRIEVAL = "memory_retrieval"


class InferenceStep(Word):
    type: Literal["inference"] = "inference"
    step_id: str
    message: AssistantMessage
    usage: Usage | None = None


class ToolExecutionStep(Word):
    """Calls of one inference step and their results, in the order of the calls."""

    type: Literal["tool_execution"] = "tool_execution"
    step_id: str
    tool_calls: list[ToolCall]
    results: list[ToolMessage]


class ShieldCallStep(Word):
    type: Literal["shield_call"] = "shield_call"
    step_id: str
    shield: str
    violation: Violation | None = None


class MemoryRetrievalStep(Word):
    type: Literal["memory_retrieval"] = "memory_retrieval"
    step_id: str
    memory_banks: list[str]
    inserted_context: str


Step = Annotated[InferenceStep | ToolExecutionStep | ShieldCallStep | MemoryRetrievalStep, Field(discriminator="type")]

TurnEndReason = Literal[
    "completed", "max_infer_iters", "max_tool_calls", "max_tokens", "max_seconds", "blocked", "interrupted"
]
"""interrupted: nobody worked on the turn any more (its caller left, its process died) when the next one began."""


class Turn(Word):
    """One exchange. `end_reason` tells a finished answer from one cut short by a budget or a shield."""

    turn_id: str
    session_id: str
    input: list[UserMessage | ToolMessage]
    steps: list[Step] = []
    output: AssistantMessage | None = None
    end_reason: TurnEndReason | None = None
    usage: Usage = Usage()
    started_at: datetime
    completed_at: datetime | None = None


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
    type: Literal["tool_call_finished"] = "tool_call_finished"
    step_id: str
    result: ToolMessage
    is_error: bool = False


class StepCompleted(Word):
    type: Literal["step_completed"] = "step_completed"
    step: Step


class TurnAwaitingInput(Word):
    """The turn waits for results of the caller's own tools; resume it with them."""

    type: Literal["turn_awaiting_input"] = "turn_awaiting_input"
    turn: Turn
    tool_calls: list[ToolCall]


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


class Agents(Protocol):
    """Keeps agents and their sessions and runs turns.

    Every method sees the caller's own rows only: another owner's id is NotFound. A step is stored before its effects
    are used, so a crash loses no finished work.
    """

    async def create_agent(self, config: AgentConfig, caller: Caller) -> str:
        """The new agent's id."""
        ...

    async def create_session(self, agent_id: str, name: str, caller: Caller) -> Session: ...

    async def session(self, agent_id: str, session_id: str, caller: Caller) -> Session: ...

    def create_turn(
        self, agent_id: str, session_id: str, messages: list[Message], caller: Caller
    ) -> AsyncGenerator[AgentEvent, None]:
        """Run a turn; the last event is TurnCompleted or TurnAwaitingInput. Conflict while another turn runs."""
        ...

    def resume_turn(
        self, agent_id: str, session_id: str, turn_id: str, results: list[ToolMessage], caller: Caller
    ) -> AsyncGenerator[AgentEvent, None]:
        """Go on with a turn that awaits the results of the caller's tools."""
        ...
