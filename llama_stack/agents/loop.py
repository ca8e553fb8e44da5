"""One turn of an agent: inference and tools by turns, until there is an answer.

    input shields -> retrieval -> inference -> its tool calls side by side -> inference -> ... -> TurnCompleted
                                            -> a call that the caller must run or approve -> TurnAwaitingInput

The loop is an async generator and keeps no state but the turn. Every step is handed out as StepCompleted before its
effects are used, and the loop goes on only when its reader asks for the next event: a reader that stores what it
reads, before it asks for more, loses nothing that was finished. Closing the generator stops the model and the tools.

A turn ends with a stated reason. When a limit of its budget is near, one last step is run with tools off, so that the
user gets text; where not even that is possible, the text says which limit ended the turn. A turn that may ask the
model only once has its tools on then: calls for the caller or for a person are handed out, any other ends the turn.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial

from llama_stack.agents import form
from llama_stack.agents.budget import Allowance
from llama_stack.agents.calls import CallPutAside, RunningEvent, awaited_step_id, denied_step, run_calls
from llama_stack.agents.context import STATE, ToolContext
from llama_stack.agents.handoff import MAX_HANDOFFS, handed_over, handoffs_in
from llama_stack.agents.inferring import Inferring
from llama_stack.agents.inner_turns import put_aside, shields_within, shown, taken_in, waiting_step
from llama_stack.agents.retrieval import retrieve, room_for_passages
from llama_stack.agents.setup import AgentSetup, new_id
from llama_stack.agents.shielding import Verdict, judge_all, judge_brought, judge_result, refused
from llama_stack.agents.transcript import (
    calls_made,
    decisions_made,
    last_inference,
    open_calls,
    retrieval_of,
    shields_asked,
)
from llama_stack.api.agents import (
    AgentEvent,
    ApprovalDecision,
    DelegationStep,
    ShieldCallStep,
    Step,
    StepCompleted,
    StepStarted,
    StepType,
    ToolCallFinished,
    ToolCallStarted,
    ToolExecutionStep,
    ToolOutcome,
    Turn,
    TurnAwaitingInput,
    TurnCompleted,
    TurnEndReason,
    TurnSettings,
    TurnStarted,
)
from llama_stack.api.messages import (
    AssistantMessage,
    Message,
    ToolCall,
    ToolMessage,
    UserMessage,
    misplaced_image,
    text_of,
)
from llama_stack.errors import Conflict, InvalidRequest
from llama_stack.gathering import owned


async def run_turn(
    setup: AgentSetup,
    history: Sequence[Message],
    messages: Sequence[UserMessage | ToolMessage],
    *,
    session_id: str = "",
    turn_id: str | None = None,
    settings: TurnSettings | None = None,
) -> AsyncGenerator[AgentEvent, None]:
    """Run one turn; the last event is TurnCompleted or TurnAwaitingInput.

    history: the conversation so far, without instructions (those are the config's). messages: what the user says now.
    settings: what the setup was made with; kept in the turn.
    Raises what inference raises (ProviderFailed, ContextOverflow, ...); the steps handed out until then stay valid.
    """
    turn = new_turn(messages, session_id=session_id, turn_id=turn_id, settings=settings)
    async with aclosing(begin_turn(setup, history, turn)) as events:
        async for event in events:
            yield event


def new_turn(
    messages: Sequence[UserMessage | ToolMessage],
    *,
    session_id: str = "",
    turn_id: str | None = None,
    settings: TurnSettings | None = None,
) -> Turn:
    """A turn nothing has happened in yet. Raises InvalidRequest when nothing was said, or an image cannot be read."""
    if not messages:
        raise InvalidRequest("a turn begins with at least one message", param="messages")
    if (field := misplaced_image(messages)) is not None:
        raise InvalidRequest(f"{field}: must be an http, https or data URL", param=field)
    return Turn(
        turn_id=turn_id or new_id("turn"),
        session_id=session_id,
        input=list(messages),
        settings=settings or TurnSettings(),
        started_at=datetime.now(UTC),
    )


async def begin_turn(setup: AgentSetup, history: Sequence[Message], turn: Turn) -> AsyncGenerator[AgentEvent, None]:
    """Run a new turn; see `run_turn`."""
    yield TurnStarted(turn_id=turn.turn_id)
    async with aclosing(_TurnUnderWay(setup, history, turn).go_on()) as events:
        async for event in events:
            yield event


async def resume_turn(
    setup: AgentSetup,
    history: Sequence[Message],
    turn: Turn,
    results: Sequence[ToolMessage] = (),
    decisions: Sequence[ApprovalDecision] = (),
    outcomes: Sequence[ToolOutcome] = (),
) -> AsyncGenerator[AgentEvent, None]:
    """Take up a turn that awaits its caller, or one that was cut off between two steps.

    results, decisions: for some or all of the awaited calls; while any is missing, the turn goes on waiting.
    outcomes: more on some of the results.
    Raises Conflict when the turn has ended, InvalidRequest for a result or decision that no call awaits.
    """
    if turn.end_reason is not None:
        raise Conflict(f"turn {turn.turn_id} has ended ({turn.end_reason}); begin a new turn")
    under_way = _TurnUnderWay(setup, history, turn)
    await under_way.hand_over()
    results, outcomes, judged = await judge_brought(under_way.setup, results, outcomes, shields_within(turn))
    for step in under_way.accept(results, decisions, outcomes, judged):
        yield StepStarted(step_id=step.step_id, step_type=StepType(step.type))
        yield StepCompleted(step=step)
    async with aclosing(under_way.go_on()) as events:
        async for event in events:
            yield event


class _TurnUnderWay:
    """A turn being run. All it knows beside its setup is the turn and a clock."""

    def __init__(self, setup: AgentSetup, history: Sequence[Message], turn: Turn) -> None:
        self._setup = setup
        self._turn = turn.model_copy(update={"steps": list(turn.steps)})
        self._allowance = Allowance.starting(setup.config.budget, _clock())
        self._history = history
        self._inferring = Inferring(setup, history, self._turn, self._allowance)
        self._handoffs = 0

    @property
    def setup(self) -> AgentSetup:
        """Of the agent that has the conversation now."""
        return self._setup

    async def hand_over(self) -> None:
        """Go on with the agent that the conversation was handed to. The turn keeps its budget and its clock."""
        handed = handoffs_in(self._turn)
        if len(handed) > self._handoffs:
            self._handoffs = len(handed)
            self._setup = await handed_over(self._setup, handed[-1], may_hand_over=len(handed) < MAX_HANDOFFS)
            self._inferring = Inferring(self._setup, self._history, self._turn, self._allowance)

    async def go_on(self) -> AsyncGenerator[AgentEvent, None]:
        while self._turn.end_reason is None:
            await self.hand_over()
            stage = self._next_stage()
            if stage is None:
                if self._turn.end_reason is None:
                    yield self._waiting()
                    return
                break
            async with aclosing(stage) as events:
                async for event in events:
                    yield event
        yield TurnCompleted(turn=self._turn)

    def _next_stage(self) -> AsyncGenerator[AgentEvent, None] | None:
        """What comes next, read from the turn alone. None: the turn has just ended, or waits for its caller."""
        config, turn = self._setup.config, self._turn
        last = last_inference(turn)
        if last is None:
            asked = shields_asked(turn)
            refusal = next((step for step in asked if _verdict(step).forbids), None)
            if refusal is not None:
                self._close("blocked")
                return None
            if config.input_shields and not asked:
                return self._judge_input()
            if config.memory_banks and retrieval_of(turn) is None:
                return retrieve(self._setup, self._history, turn)
        if last is not None and last.ends_turn is not None:
            self._close(last.ends_turn)
            return None
        if calls := open_calls(turn):
            waiting = {call.id for call in (*self._awaited(), *self._unapproved())} | self._put_aside().keys()
            ours = [call for call in calls if call.id not in waiting]
            return self._call_tools(ours) if ours else None
        form.missed(turn, config.response_format)
        if reason := self._allowance.exhausted(turn, _clock()):
            self._close(reason)
            return None
        return self._inferring.step()

    def accept(
        self,
        results: Sequence[ToolMessage],
        decisions: Sequence[ApprovalDecision],
        outcomes: Sequence[ToolOutcome] = (),
        judged: Sequence[ShieldCallStep] = (),
    ) -> list[Step]:
        """Add to the turn what its caller brings, as steps. judged: what shields object to in it."""
        delegations = [outcome.tool_call_id for outcome in outcomes if outcome.delegation is not None]
        answered = [*(result.tool_call_id for result in results), *delegations]
        calls = self._matched(self._awaited(), answered, "result")
        self._matched(self._unapproved(), [decision.tool_call_id for decision in decisions], "decision")
        limit = self._setup.toolbox.max_result_chars
        steps = [*taken_in(self._turn, calls, results, decisions, outcomes, limit), *judged]
        self._turn.steps.extend(steps)
        return steps

    def _matched(self, awaited: Sequence[ToolCall], ids: Sequence[str], what: str) -> list[ToolCall]:
        """The awaited calls that are named, in their order. Raises InvalidRequest for any other or a repeated one."""
        by_id = {call.id: call for call in awaited}
        for position, call_id in enumerate(ids):
            if call_id not in by_id or call_id in ids[:position]:
                waiting = f"; awaited: {', '.join(by_id) or 'none'}"
                hint = f" twice; send one {what}" if call_id in by_id else waiting
                raise InvalidRequest(
                    f"no call {call_id!r} awaits a {what} in turn {self._turn.turn_id}{hint}", param="tool_call_id"
                )
        return [call for call in awaited if call.id in ids]

    # --- shields ---------------------------------------------------------------------------------------------------

    async def _judge_input(self) -> AsyncGenerator[AgentEvent, None]:
        setup = self._setup
        shields = setup.config.input_shields
        started_at = datetime.now(UTC)
        step_ids = [new_id("step") for _ in shields]
        for step_id in step_ids:
            yield StepStarted(step_id=step_id, step_type=StepType.SHIELD_CALL)
        verdicts = await judge_all(setup.safety, shields, list(self._turn.input), setup.caller)
        for step_id, verdict in zip(step_ids, verdicts, strict=True):
            step = ShieldCallStep(
                step_id=step_id,
                shield=verdict.shield,
                violation=verdict.violation,
                started_at=started_at,
                completed_at=datetime.now(UTC),
            )
            self._turn.steps.append(step)
            yield StepCompleted(step=step)

    async def _judge_result(self, finished: ToolCallFinished) -> tuple[ToolCallFinished, list[ShieldCallStep]]:
        """What the model may read of a tool's result, and the shields' word where one of them objects."""
        setup = self._setup
        judged = await judge_result(setup.safety, setup.config.tool_shields, finished.result, setup.caller)
        if judged.is_withheld:
            kept = {key: value for key, value in finished.metadata.items() if key == STATE}
            changes = {"result": judged.result, "is_error": True, "metadata": kept}
            finished = finished.model_copy(update=changes)
        return finished, judged.steps

    # --- tools -----------------------------------------------------------------------------------------------------

    def _allowed_calls(self) -> list[ToolCall]:
        """Open calls within the budget; those beyond it are answered here, whoever would have run them."""
        return open_calls(self._turn)[: max(0, self._allowance.calls_left(self._turn))]

    def _awaited(self) -> list[ToolCall]:
        """Calls that the caller must answer."""
        own = [call for call in self._allowed_calls() if self._setup.toolbox.awaits_caller(call)]
        return own + [call for step in self._put_aside().values() for call in shown(step, step.tool_calls)]

    def _unapproved(self) -> list[ToolCall]:
        """Calls that a person has not yet decided on."""
        decided = decisions_made(self._turn)
        toolbox = self._setup.toolbox
        own = [call for call in self._allowed_calls() if call.id not in decided and toolbox.needs_approval(call)]
        return own + [call for step in self._put_aside().values() for call in shown(step, step.approvals)]

    def _put_aside(self) -> dict[str, DelegationStep]:
        """Calls that agents of this process serve, which have to wait."""
        awaits_caller = self._setup.toolbox.awaits_caller
        steps = put_aside(self._turn).items()
        return {call_id: step for call_id, step in steps if step.is_waiting and not awaits_caller(step.tool_call)}

    def _waiting(self) -> TurnAwaitingInput:
        turn, calls = self._turn, self._awaited()
        step_id = awaited_step_id(turn, calls) if calls else ""
        return TurnAwaitingInput(turn=turn, tool_calls=calls, approvals=self._unapproved(), step_id=step_id)

    async def _call_tools(self, calls: list[ToolCall]) -> AsyncGenerator[AgentEvent, None]:
        decided = decisions_made(self._turn)
        denied = [call for call in calls if call.id in decided and not decided[call.id].approve]
        if denied:
            step = denied_step(denied, [decided[call.id] for call in denied])
            self._turn.steps.append(step)
            yield StepStarted(step_id=step.step_id, step_type=StepType.TOOL_EXECUTION)
            yield StepCompleted(step=step)
        running = [call for call in calls if call not in denied]
        if not running:
            return
        steps = {new_id("step"): call for call in running}
        started: dict[str, datetime] = {}
        events: asyncio.Queue[RunningEvent | None] = asyncio.Queue()
        work = run_calls(
            self._setup.toolbox,
            running,
            list(steps),
            events,
            earlier=calls_made(self._turn),
            allowed=max(0, self._allowance.calls_left(self._turn)),
            deadline=self._allowance.tools_deadline,
            context=self._context,
            room=partial(room_for_passages, self._setup),
        )
        async with owned(work) as task:
            while (event := await events.get()) is not None:
                if isinstance(event, ToolCallStarted):
                    started[event.step_id] = datetime.now(UTC)
                    yield StepStarted(step_id=event.step_id, step_type=StepType.TOOL_EXECUTION)
                    yield event
                    continue
                if isinstance(event, CallPutAside):
                    aside = waiting_step(event, started[event.step_id])
                    self._turn.steps.append(aside)
                    yield StepCompleted(step=aside)
                    continue
                event, judged = await self._judge_result(event)
                yield event
                for executed in self._executed(event, steps[event.step_id], started[event.step_id], judged):
                    yield StepCompleted(step=executed)
            await task

    def _context(self, call: ToolCall) -> ToolContext:
        setup, turn = self._setup, self._turn
        aside = put_aside(turn).get(call.id)
        inner = None if aside is None else aside.turn
        return ToolContext(setup.caller, turn.session_id, turn.turn_id, call.id, setup.state, inner)

    def _executed(
        self, event: ToolCallFinished, call: ToolCall, started_at: datetime, judged: Iterable[ShieldCallStep]
    ) -> list[Step]:
        """The steps of a call that is done, now part of the turn."""
        step = ToolExecutionStep(
            step_id=event.step_id,
            tool_calls=[call],
            results=[event.result],
            failed=[call.id] if event.is_error else [],
            metadata={call.id: event.metadata} if event.metadata else {},
            started_at=started_at,
            completed_at=datetime.now(UTC),
        )
        steps: list[Step] = [step, *judged]
        self._turn.steps.extend(steps)
        return steps

    # --- the end ---------------------------------------------------------------------------------------------------

    def _close(self, reason: TurnEndReason) -> None:
        """End the turn with the last answer there is, or with a text that says why there is none."""
        step = last_inference(self._turn)
        if step is not None:
            message = step.message
        else:
            refusals = (_verdict(asked) for asked in shields_asked(self._turn))
            message = next((refused(verdict) for verdict in refusals if verdict.forbids), AssistantMessage())
        is_cut_short = reason not in ("completed", "blocked")
        if message.tool_calls or (is_cut_short and not text_of(message.content).strip()):
            message = AssistantMessage(content=f"I had to stop before an answer was ready: {_LIMITS[reason]}.")
        self._turn.output = message
        self._turn.end_reason = reason
        self._turn.completed_at = datetime.now(UTC)


def _verdict(step: ShieldCallStep) -> Verdict:
    return Verdict(step.shield, step.violation)


def _clock() -> float:
    return asyncio.get_running_loop().time()


_LIMITS: dict[TurnEndReason, str] = {
    "max_infer_iters": "the limit of model calls for one turn was reached",
    "max_tool_calls": "the limit of tool calls for one turn was reached",
    "max_tokens": "the limit of tokens for one turn was reached",
    "max_seconds": "the time limit for one turn was reached",
}
