"""One inference of a turn: what the model is asked, how its answer is let out, and what it means for the turn."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from llama_stack.agents import form
from llama_stack.agents.budget import Allowance
from llama_stack.agents.citing import AnswerCiting
from llama_stack.agents.setup import AgentSetup, new_id
from llama_stack.agents.shielding import Blocked, OutputScreen, Verdict, forbidding, judge, refused
from llama_stack.agents.transcript import calls_made, last_inference, messages_of, retrieval_of
from llama_stack.agents.window import check_window, fitted, needs_count, prompt_limit, without_oldest
from llama_stack.api.agents import (
    AgentEvent,
    InferenceStep,
    ShieldCallStep,
    StepCompleted,
    StepProgress,
    StepStarted,
    StepType,
    Turn,
    TurnEndReason,
)
from llama_stack.api.answers import AnswerBuilder
from llama_stack.api.inference import (
    ChatEvent,
    ChatRequest,
    FinishReason,
    Sampling,
    TextFormat,
    ToolPromptFormat,
    Usage,
)
from llama_stack.api.messages import AssistantMessage, Message, SystemMessage, text_of
from llama_stack.api.token_estimate import estimated_tokens
from llama_stack.api.tools import NamedToolChoice, ToolChoice
from llama_stack.errors import ContextOverflow, UnsupportedParameter
from llama_stack.memory.context import is_extract


@dataclass(frozen=True)
class Plan:
    """closing: this step's answer ends the turn, for this reason. tools_on: the model may call tools. is_formed: the
    answer is asked for in the agent's response format.
    """

    tools_on: bool
    is_formed: bool
    closing: TurnEndReason | None


class Inferring:
    """Asks the model for the next step of a turn."""

    def __init__(self, setup: AgentSetup, history: Sequence[Message], turn: Turn, allowance: Allowance) -> None:
        self._setup = setup
        self._history = history
        self._turn = turn
        self._allowance = allowance

    async def step(self) -> AsyncGenerator[AgentEvent, None]:
        """Run one inference and add its steps to the turn. Raises what inference and the shields raise."""
        plan = self._plan()
        step_id, started_at = new_id("step"), _now()
        yield StepStarted(step_id=step_id, step_type=StepType.INFERENCE)
        builder = AnswerBuilder()
        verdicts: list[Verdict] = []
        out_of_time = False
        try:
            stream, event, left_out = await self._opened(plan)
        except _OutOfTime:
            stream, event, left_out, out_of_time = _nothing(), None, 0, True
        citing, screen = AnswerCiting(self._turn, self._setup.earlier), self._screen()
        held = form.HeldText(holds=self._may_be_asked_again(plan) and not self._is_sure(plan))
        async with aclosing(stream):
            try:
                while True:
                    for made in citing.finish() if event is None else citing.feed(event):
                        builder.feed(made)
                        for released in [made] if screen is None else await screen.feed(made):
                            for told in held.feed(released):
                                yield StepProgress(step_id=step_id, event=told)
                    if event is None:
                        break
                    event = await _next_within(stream, self._allowance.deadline)
            except _OutOfTime:
                out_of_time = True
            except Blocked as blocked:
                verdicts = blocked.verdicts
        if screen is not None and not verdicts:
            try:
                rest, verdicts = await screen.finish()
                for released in rest:
                    for told in held.feed(released):
                        yield StepProgress(step_id=step_id, event=told)
            except Blocked as blocked:
                verdicts = blocked.verdicts
        step = self._finished(builder, plan, verdicts, out_of_time)
        for told in [] if forbidding(verdicts) else held.finish(stays=not step.is_draft):
            yield StepProgress(step_id=step_id, event=told)
        cited = [] if forbidding(verdicts) else await citing.citations(step.message)
        times = {"started_at": started_at, "completed_at": _now()}
        step = step.model_copy(update={"step_id": step_id, "messages_left_out": left_out, "citations": cited, **times})
        self._turn.steps.append(step)
        self._turn.usage = self._turn.usage.plus(step.usage or Usage())
        yield StepCompleted(step=step)
        if not step.message.tool_calls:
            for verdict in verdicts:
                judged = self._judged(verdict)
                yield StepStarted(step_id=judged.step_id, step_type=StepType.SHIELD_CALL)
                yield StepCompleted(step=judged)

    # --- what is asked ---------------------------------------------------------------------------------------------

    def _plan(self) -> Plan:
        config, turn = self._setup.config, self._turn
        is_formed = form.is_wanted(config.response_format)
        last = last_inference(turn)
        # An answer without calls that did not end the turn lacks nothing but its form.
        only_form_is_missing = last is not None and not last.message.tool_calls
        if not self._setup.toolbox or config.tool_choice == "none" or only_form_is_missing:
            return Plan(tools_on=False, is_formed=is_formed, closing="completed")
        spent = self._allowance.spent(turn, asyncio.get_running_loop().time())
        is_only_chance = spent is not None or self._is_last()
        return Plan(tools_on=spent is None, is_formed=is_formed and is_only_chance, closing=spent)

    def _is_last(self) -> bool:
        """Whether the budget has no inference after this one."""
        return self._allowance.iterations_left(self._turn) <= 1

    def _may_be_asked_again(self, plan: Plan) -> bool:
        """Whether this step's text may turn out to be none of the answer, for want of its form."""
        wanted = self._setup.config.response_format
        return form.is_wanted(wanted) and (plan.tools_on or plan.closing == "completed")

    def _is_sure(self, plan: Plan) -> bool:
        """Whether this step's text cannot miss its form, so that it is told as it comes and never asked for again.

        Not with `stop`: such a text can end an answer in the middle of its form.
        """
        config = self._setup.config
        if not plan.is_formed or plan.tools_on or config.sampling.stop:
            return False
        return form.is_sure(self._setup.inference.capabilities(config.model), config.response_format)

    async def _opened(self, plan: Plan) -> tuple[AsyncGenerator[ChatEvent, None], ChatEvent | None, int]:
        """The answer's stream, its first event, and how many messages were left out so that the model took them."""
        messages, now = self._conversation(plan)
        count = len(messages)
        setup = self._setup
        compacts = setup.config.truncation == "auto"
        if compacts and _stands_alone(self._turn):
            begin = now - len(self._history)
            messages, now = [*messages[:begin], *messages[now:]], begin
        if compacts and setup.context_length is not None:
            limit = prompt_limit(setup.context_length, self._sampling())
            messages, now = fitted(messages, now, limit, setup.toolbox.definitions)
        while True:
            request = self._request(plan, messages)
            try:
                await self._check_window(request)
                stream = setup.inference.stream_chat(request, setup.caller)
                return stream, await _first_within(stream, self._allowance.deadline), count - len(messages)
            except ContextOverflow:
                shorter = without_oldest(messages, now) if compacts else None
                if shorter is None:
                    raise
                messages, now = shorter

    async def _check_window(self, request: ChatRequest) -> None:
        """Raises ContextOverflow for what the model's window cannot hold."""
        setup = self._setup
        window, tools = setup.context_length, [] if request.tool_choice == "none" else request.tools
        if window is None:
            return
        tokens, is_exact = estimated_tokens(request.messages, tools), False
        if setup.inference.capabilities(request.model).token_counts and needs_count(tokens, window):
            try:
                counting = setup.inference.count_tokens(request, setup.caller)
                tokens, is_exact = await _within(counting, self._allowance.deadline), True
            except UnsupportedParameter:
                pass
        is_shortened = setup.config.truncation == "auto"
        check_window(tokens, window, request.model, is_exact=is_exact, is_shortened=is_shortened)

    def _conversation(self, plan: Plan) -> tuple[list[Message], int]:
        """Instructions, history and the turn so far; and where the turn begins among them."""
        config, turn = self._setup.config, self._turn
        wanted = config.response_format
        instructions = [config.instructions] if config.instructions else []
        if plan.is_formed and not self._is_enforced(plan):
            instructions.append(form.told(wanted))
        before: list[Message] = [SystemMessage(content="\n\n".join(instructions))] if instructions else []
        said = messages_of(turn)
        last = last_inference(turn)
        if last is not None and isinstance(said[-1], AssistantMessage):
            if last.is_formed:
                said.append(form.repair_request(last, wanted))
            else:
                # Said again in the right form; a model that sees its answer tends to say only what it left out.
                said.pop()
        return [*before, *self._history, *said], len(before) + len(self._history)

    def _request(self, plan: Plan, messages: list[Message]) -> ChatRequest:
        """Tools stay listed when they are off: the calls in the conversation are then still understood."""
        config = self._setup.config
        tools = self._setup.toolbox.definitions
        return ChatRequest(
            model=config.model,
            messages=messages,
            tools=tools,
            tool_choice="none" if tools and not plan.tools_on else self._tool_choice(),
            parallel_tool_calls=config.parallel_tool_calls,
            tool_prompt_format=self._prompt_format(),
            response_format=config.response_format if plan.is_formed and self._is_enforced(plan) else TextFormat(),
            sampling=self._sampling(),
            reasoning_effort=config.reasoning_effort,
            logprobs=self._setup.logprobs is not None,
            top_logprobs=self._setup.logprobs,
            whole=self._setup.whole,
            extra=config.extra,
        )

    def _prompt_format(self) -> ToolPromptFormat | None:
        """A wish: what an agent says of prompts has no meaning for a model whose provider writes them itself."""
        config = self._setup.config
        if config.tool_prompt_format is None:
            return None
        able = self._setup.inference.capabilities(config.model)
        return config.tool_prompt_format if able.tool_prompt_format else None

    def _is_enforced(self, plan: Plan) -> bool:
        wanted = self._setup.config.response_format
        if not form.is_wanted(wanted):
            return True
        if plan.tools_on:
            # A form that is enforced would keep the model from calling tools at all.
            return False
        return form.enforced_by(self._setup.inference.capabilities(self._setup.config.model), wanted)

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

    # --- what comes back -------------------------------------------------------------------------------------------

    def _screen(self) -> OutputScreen | None:
        setup = self._setup
        if not setup.config.output_shields:
            return None

        async def ask(messages: list[Message]) -> list[Verdict]:
            return await judge(setup.safety, setup.config.output_shields, messages, setup.caller)

        return OutputScreen(self._turn, ask)

    def _finished(
        self, builder: AnswerBuilder, plan: Plan, verdicts: Sequence[Verdict], out_of_time: bool
    ) -> InferenceStep:
        message, finish_reason, usage = _answered(builder)
        forbids = forbidding(verdicts)
        if forbids is not None:
            message, finish_reason = refused(forbids), "content_filter"
        elif not plan.tools_on or out_of_time:
            message = message.model_copy(update={"tool_calls": []})
        elif self._setup.config.parallel_tool_calls is False:
            message = message.model_copy(update={"tool_calls": message.tool_calls[:1]})
        return InferenceStep(
            step_id="",
            message=message,
            finish_reason=finish_reason,
            usage=usage,
            is_formed=plan.is_formed,
            ends_turn="max_seconds" if out_of_time else self._reason_to_end(message, finish_reason, plan),
        )

    def _reason_to_end(self, message: AssistantMessage, finish: FinishReason, plan: Plan) -> TurnEndReason | None:
        if message.tool_calls:
            return "max_infer_iters" if self._is_last() and not self._is_handed_out(message) else None
        if finish == "content_filter":
            return "blocked"
        if finish == "length" and plan.closing in (None, "completed"):
            return "max_tokens"
        if self._may_be_asked_again(plan) and not self._has_form(message, plan):
            if self._is_sure(plan):
                # A provider broke its word. Its readers were told the answer; a second one would be taken for its rest.
                raise form.invalid(text_of(message.content), self._setup.config.response_format)
            return self._reason_not_to_ask_again()
        return plan.closing or "completed"

    def _has_form(self, message: AssistantMessage, plan: Plan) -> bool:
        """Whether the answer can stay as it is. A refusal can: no form is to be had of it."""
        text, wanted = text_of(message.content), self._setup.config.response_format
        if message.refusal and not text:
            return True
        return not form.faults(text, wanted) if plan.is_formed else form.is_met(text, wanted)

    def _reason_not_to_ask_again(self) -> TurnEndReason | None:
        """The limit that keeps the model from being asked again for the form.

        None also for the second answer that was asked for in the form and is off it: that is an error.
        """
        last = last_inference(self._turn)
        is_second = last is not None and last.is_formed
        return "max_infer_iters" if self._is_last() and not is_second else None

    def _is_handed_out(self, message: AssistantMessage) -> bool:
        """Whether a call waits for the caller or for a person, who is to have it though no answer can follow."""
        toolbox = self._setup.toolbox
        return any(toolbox.awaits_caller(call) or toolbox.needs_approval(call) for call in message.tool_calls)

    def _judged(self, verdict: Verdict) -> ShieldCallStep:
        step = ShieldCallStep(
            step_id=new_id("step"),
            shield=verdict.shield,
            touchpoint="output",
            violation=verdict.violation,
            completed_at=_now(),
        )
        self._turn.steps.append(step)
        return step


AnyT = TypeVar("AnyT")


class _OutOfTime(Exception):
    pass


async def _nothing() -> AsyncGenerator[ChatEvent, None]:
    """An answer whose time was up before it began."""
    return
    yield


def _stands_alone(turn: Turn) -> bool:
    """Whether the model is asked without what was said before: with a small window it would answer that, too."""
    retrieval = retrieval_of(turn)
    return retrieval is not None and is_extract(retrieval.inserted_context)


async def _first_within(stream: AsyncGenerator[ChatEvent, None], deadline: float | None) -> ChatEvent | None:
    """As `_next_within`; a stream that gives nothing is closed, since its reader never gets to hold it."""
    try:
        return await _next_within(stream, deadline)
    except BaseException:
        await stream.aclose()
        raise


async def _next_within(stream: AsyncGenerator[ChatEvent, None], deadline: float | None) -> ChatEvent | None:
    """The next event, None at the end. Entered and left between two events, so no time limit spans a yield."""
    return await _within(anext(stream, None), deadline)


async def _within(work: Awaitable[AnyT], deadline: float | None) -> AnyT:
    if deadline is None:
        return await work
    try:
        async with asyncio.timeout_at(deadline) as limit:
            return await work
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


def _now() -> datetime:
    return datetime.now(UTC)
