"""One turn of an agent: inference and tools by turns, until there is an answer.

    run_turn -> plan a step -> inference -> its tool calls side by side -> plan a step -> ... -> TurnCompleted
                                         -> a call of the caller's own tool -> TurnAwaitingInput -> resume_turn

The loop is an async generator and keeps no state but the turn. Every step is handed out as StepCompleted before its
effects are used, and the loop goes on only when its reader asks for the next event: a reader that stores what it
reads, before it asks for more, loses nothing that was finished. Closing the generator stops the model and the tools.

A turn ends with a stated reason. When a limit of its budget is near, one last step is run with tools off, so that the
user gets text; where not even that is possible, the text says which limit ended the turn.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

from llama_stack.agents.budget import Allowance
from llama_stack.agents.calls import ToolCallEvent, run_calls
from llama_stack.agents.tools import Toolbox, bounded
from llama_stack.agents.transcript import calls_made, last_inference, messages_of, open_calls
from llama_stack.api.agents import (
    AgentConfig,
    AgentEvent,
    InferenceStep,
    StepCompleted,
    StepProgress,
    StepStarted,
    StepType,
    ToolExecutionStep,
    Turn,
    TurnAwaitingInput,
    TurnCompleted,
    TurnEndReason,
    TurnStarted,
)
from llama_stack.api.common import Caller
from llama_stack.api.inference import (
    AnswerBuilder,
    ChatEvent,
    ChatRequest,
    FinishReason,
    Inference,
    Sampling,
    TextFormat,
    Usage,
)
from llama_stack.api.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
    text_of,
)
from llama_stack.api.tools import NamedToolChoice, ToolChoice, ToolResult
from llama_stack.errors import Conflict, InvalidRequest

T = TypeVar("T")


@dataclass(frozen=True)
class AgentSetup:
    """What a turn is run with. toolbox: every tool the model may call, the caller's own among them."""

    inference: Inference
    config: AgentConfig
    caller: Caller
    toolbox: Toolbox = field(default_factory=Toolbox)


async def run_turn(
    setup: AgentSetup,
    history: Sequence[Message],
    messages: Sequence[UserMessage | ToolMessage],
    *,
    session_id: str = "",
) -> AsyncGenerator[AgentEvent, None]:
    """Run one turn; the last event is TurnCompleted or TurnAwaitingInput.

    history: the conversation so far, without instructions (those are the config's). messages: what the user says now.
    Raises what inference raises (ProviderFailed, ContextOverflow, ...); the steps handed out until then stay valid.
    """
    if not messages:
        raise InvalidRequest("a turn begins with at least one message", param="messages")
    turn = Turn(turn_id=_new_id("turn"), session_id=session_id, input=list(messages), started_at=datetime.now(UTC))
    yield TurnStarted(turn_id=turn.turn_id)
    async with aclosing(_TurnUnderWay(setup, history, turn).go_on()) as events:
        async for event in events:
            yield event


async def resume_turn(
    setup: AgentSetup, history: Sequence[Message], turn: Turn, results: Sequence[ToolMessage] = ()
) -> AsyncGenerator[AgentEvent, None]:
    """Take up a turn that awaits results of the caller's tools, or one that was cut off between two steps.

    results: for some or all of the awaited calls; while any is missing, the turn goes on waiting.
    Raises Conflict when the turn has ended, InvalidRequest for a result that no call awaits.
    """
    if turn.end_reason is not None:
        raise Conflict(f"turn {turn.turn_id} has ended ({turn.end_reason}); begin a new turn")
    under_way = _TurnUnderWay(setup, history, turn)
    if results:
        step = under_way.accept(results)
        yield StepStarted(step_id=step.step_id, step_type=StepType.TOOL_EXECUTION)
        yield StepCompleted(step=step)
    async with aclosing(under_way.go_on()) as events:
        async for event in events:
            yield event


@dataclass(frozen=True)
class _Plan:
    """closing: this step's answer ends the turn, for this reason. tools_on: the model may call tools."""

    tools_on: bool
    closing: TurnEndReason | None


class _TurnUnderWay:
    """A turn being run. All it knows beside its setup is the turn and a clock."""

    def __init__(self, setup: AgentSetup, history: Sequence[Message], turn: Turn) -> None:
        self._setup = setup
        self._history = history
        self._turn = turn.model_copy(update={"steps": list(turn.steps)})
        self._allowance = Allowance.starting(setup.config.budget, self._now())

    async def go_on(self) -> AsyncGenerator[AgentEvent, None]:
        while self._turn.end_reason is None:
            calls = open_calls(self._turn)
            awaited = self._awaited(calls)
            awaited_ids = {call.id for call in awaited}
            if ours := [call for call in calls if call.id not in awaited_ids]:
                stage = self._call_tools(ours)
            elif awaited:
                yield TurnAwaitingInput(turn=self._turn, tool_calls=awaited)
                return
            elif self._has_answer():
                self._close("completed")
                break
            else:
                stage = self._infer()
            async with aclosing(stage) as events:
                async for event in events:
                    yield event
        yield TurnCompleted(turn=self._turn)

    def accept(self, results: Sequence[ToolMessage]) -> ToolExecutionStep:
        """Add the caller's results to the turn as a step."""
        awaited = {call.id: call for call in self._awaited(open_calls(self._turn))}
        given: dict[str, ToolMessage] = {}
        for result in results:
            call = awaited.get(result.tool_call_id)
            if call is None or call.id in given:
                waiting = ", ".join(awaited) or "none"
                raise InvalidRequest(
                    f"no call {result.tool_call_id!r} awaits a result in turn {self._turn.turn_id}; awaited: {waiting}",
                    param="tool_call_id",
                )
            content = bounded(ToolResult(content=result.content), self._setup.toolbox.max_result_chars).content
            given[call.id] = ToolMessage(tool_call_id=call.id, name=call.name, content=content)
        calls = [call for call in awaited.values() if call.id in given]
        step = ToolExecutionStep(step_id=_new_id("step"), tool_calls=calls, results=[given[call.id] for call in calls])
        self._turn.steps.append(step)
        return step

    # --- inference -------------------------------------------------------------------------------------------------

    async def _infer(self) -> AsyncGenerator[AgentEvent, None]:
        plan = self._plan()
        if reason := self._allowance.exhausted(self._turn, self._now()):
            self._close(reason)
            return
        step_id = _new_id("step")
        yield StepStarted(step_id=step_id, step_type=StepType.INFERENCE)
        builder = AnswerBuilder()
        out_of_time = False
        async with aclosing(self._setup.inference.stream_chat(self._request(plan), self._setup.caller)) as stream:
            try:
                while (event := await _next_within(stream, self._allowance.deadline)) is not None:
                    builder.feed(event)
                    yield StepProgress(step_id=step_id, event=event)
            except _OutOfTime:
                out_of_time = True
        message, finish_reason, usage = _answered(builder)
        if not plan.tools_on or out_of_time:
            message = message.model_copy(update={"tool_calls": []})
        self._add(InferenceStep(step_id=step_id, message=message, usage=usage))
        yield StepCompleted(step=self._turn.steps[-1])
        if reason := self._reason_to_end(message, finish_reason, plan, out_of_time):
            self._close(reason)

    def _has_answer(self) -> bool:
        """Whether the turn was cut off just after its last step."""
        is_text = isinstance(self._setup.config.response_format, TextFormat)
        return is_text and bool(self._turn.steps) and isinstance(self._turn.steps[-1], InferenceStep)

    def _plan(self) -> _Plan:
        config, turn = self._setup.config, self._turn
        only_form_is_missing = bool(turn.steps) and isinstance(turn.steps[-1], InferenceStep)
        if not self._setup.toolbox or config.tool_choice == "none" or only_form_is_missing:
            return _Plan(tools_on=False, closing="completed")
        spent = self._allowance.spent(turn, self._now())
        return _Plan(tools_on=spent is None, closing=spent)

    def _request(self, plan: _Plan) -> ChatRequest:
        """Tools stay listed when they are off: the calls in the conversation are then still understood."""
        config = self._setup.config
        messages: list[Message] = [*self._history, *messages_of(self._turn)]
        if isinstance(messages[-1], AssistantMessage):
            messages.pop()
        if config.instructions:
            messages.insert(0, SystemMessage(content=config.instructions))
        tools = self._setup.toolbox.definitions
        return ChatRequest(
            model=config.model,
            messages=messages,
            tools=tools,
            tool_choice="none" if tools and not plan.tools_on else self._tool_choice(),
            # A form that is enforced from the first step would keep the model from calling tools at all.
            response_format=TextFormat() if plan.tools_on else config.response_format,
            sampling=self._sampling(),
        )

    def _tool_choice(self) -> ToolChoice:
        """A demand to call a tool is met by the first call; kept up, it would never let the model answer."""
        choice = self._setup.config.tool_choice
        is_demand = choice == "required" or (isinstance(choice, NamedToolChoice) and choice.mode == "required")
        return "auto" if is_demand and calls_made(self._turn) else choice

    def _sampling(self) -> Sampling:
        sampling = self._setup.config.sampling
        limits = [
            limit for limit in (sampling.max_tokens, self._allowance.tokens_left(self._turn)) if limit is not None
        ]
        return sampling.model_copy(update={"max_tokens": min(limits)}) if limits else sampling

    def _add(self, step: InferenceStep) -> None:
        self._turn.steps.append(step)
        self._turn.usage = self._turn.usage.plus(step.usage or Usage())

    def _reason_to_end(
        self, message: AssistantMessage, finish_reason: FinishReason, plan: _Plan, out_of_time: bool
    ) -> TurnEndReason | None:
        if out_of_time:
            return "max_seconds"
        if message.tool_calls:
            return None
        if finish_reason == "content_filter":
            return "blocked"
        if finish_reason == "length" and plan.closing in (None, "completed"):
            return "max_tokens"
        if plan.tools_on and not isinstance(self._setup.config.response_format, TextFormat):
            return None
        return plan.closing or "completed"

    def _close(self, reason: TurnEndReason) -> None:
        """End the turn with the last answer there is, or with a text that says why there is none."""
        step = last_inference(self._turn)
        message = step.message if step is not None else AssistantMessage()
        is_cut_short = reason not in ("completed", "blocked")
        if message.tool_calls or (is_cut_short and not text_of(message.content).strip()):
            message = AssistantMessage(content=f"I had to stop before an answer was ready: {_LIMITS[reason]}.")
        self._turn.output = message
        self._turn.end_reason = reason
        self._turn.completed_at = datetime.now(UTC)

    # --- tools -----------------------------------------------------------------------------------------------------

    def _awaited(self, calls: list[ToolCall]) -> list[ToolCall]:
        """Those of the calls that the caller must answer; what the budget no longer allows is answered here."""
        allowed = calls[: max(0, self._allowance.calls_left(self._turn))]
        return [call for call in allowed if self._setup.toolbox.awaits_caller(call)]

    async def _call_tools(self, calls: list[ToolCall]) -> AsyncGenerator[AgentEvent, None]:
        step_id = _new_id("step")
        yield StepStarted(step_id=step_id, step_type=StepType.TOOL_EXECUTION)
        events: asyncio.Queue[ToolCallEvent | None] = asyncio.Queue()
        work = run_calls(
            self._setup.toolbox,
            calls,
            step_id,
            events,
            earlier=calls_made(self._turn),
            allowed=max(0, self._allowance.calls_left(self._turn)),
            deadline=self._allowance.tools_deadline,
        )
        async with _owned(work) as running:
            while (event := await events.get()) is not None:
                yield event
            results = await running
        step = ToolExecutionStep(step_id=step_id, tool_calls=calls, results=results)
        self._turn.steps.append(step)
        yield StepCompleted(step=step)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


_LIMITS: dict[TurnEndReason, str] = {
    "max_infer_iters": "the limit of model calls for one turn was reached",
    "max_tool_calls": "the limit of tool calls for one turn was reached",
    "max_tokens": "the limit of tokens for one turn was reached",
    "max_seconds": "the time limit for one turn was reached",
}


class _OutOfTime(Exception):
    pass


async def _next_within(stream: AsyncGenerator[ChatEvent, None], deadline: float | None) -> ChatEvent | None:
    """The next event, None at the end. Entered and left between two events, so no time limit spans a yield."""
    try:
        async with asyncio.timeout_at(deadline) as limit:
            return await anext(stream, None)
    except TimeoutError as error:
        if limit.expired():
            raise _OutOfTime from error
        raise


def _answered(builder: AnswerBuilder) -> tuple[AssistantMessage, FinishReason, Usage | None]:
    """What has been said so far, be it whole or cut off."""
    answer = builder.answer
    if not answer.choices:
        return AssistantMessage(), "stop", answer.usage
    return answer.message, answer.choices[0].finish_reason, answer.usage


@asynccontextmanager
async def _owned(work: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    """A task that does not outlive the block. A TaskGroup must be left by the task that entered it; the reader of
    a generator may change tasks between two events, so the group lives inside this one.
    """
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


def _new_id(kind: str) -> str:
    return f"{kind}_{uuid4().hex}"
