"""Shields in a turn: on what the user says, on what the model says before it is let out, and on what tools give back.

Streamed text is let out in windows. Each window is judged with everything before it, and its last characters are held
back until the next one, so that what a shield objects to does not get out in two halves. Calls are held back until
the whole answer was judged: a tool's side effect is an output like any other.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from llama_stack.agents.setup import AgentSetup, new_id
from llama_stack.api.agents import ShieldCallStep, ToolOutcome, Turn
from llama_stack.api.answers import AnswerBuilder
from llama_stack.api.common import Caller
from llama_stack.api.inference import ChatEvent, ReasoningDelta, RefusalDelta, TextDelta
from llama_stack.api.messages import AssistantMessage, Message, ToolMessage, UserMessage, text_of
from llama_stack.api.safety import Violation, ViolationLevel
from llama_stack.api.stack import ShieldRunner
from llama_stack.errors import InvalidRequest
from llama_stack.gathering import gathered

WINDOW_CHARS = 240
"""About 60 tokens: what a reader waits for at most before the first text is let out, and between two judgements."""
HELD_BACK_CHARS = 80
_LONGEST_WORD = 24
"""What is longer may be a key, which is judged as far as it goes."""
_WORD_BEGUN = re.compile(rf"(?<!\w)\w{{1,{_LONGEST_WORD}}}\Z")
REFUSAL = "I cannot help with that."


@dataclass(frozen=True)
class Verdict:
    """One shield's word; `violation` may be one that does not forbid."""

    shield: str
    violation: Violation | None

    @property
    def forbids(self) -> bool:
        return self.violation is not None and self.violation.level is ViolationLevel.ERROR

    @property
    def refusal(self) -> str:
        """What the user reads instead."""
        return (self.violation.user_message if self.violation is not None else None) or REFUSAL


class Blocked(Exception):
    """A shield forbids the model's answer."""

    def __init__(self, verdicts: list[Verdict]) -> None:
        super().__init__("the answer was blocked")
        self.verdicts = verdicts


async def judge(
    safety: ShieldRunner | None, shields: Sequence[str], messages: list[Message], caller: Caller
) -> list[Verdict]:
    """Every shield's word on the last of the messages, in the order of the shields; they are asked side by side."""
    if safety is None:
        raise InvalidRequest("this agent has shields, but there is no safety provider here", param="input_shields")
    said = await gathered(safety.run_shield(shield, messages, caller) for shield in shields)
    return [Verdict(shield, verdict.violation) for shield, verdict in zip(shields, said, strict=True)]


async def judge_all(
    safety: ShieldRunner | None, shields: Sequence[str], messages: list[Message], caller: Caller
) -> list[Verdict]:
    """Every shield's strongest word on any of the messages, each judged in the light of those before it.

    What comes after a message that one of them forbids is not judged any more.
    """
    strongest = await judge(safety, shields, messages[:1], caller)
    for count in range(2, len(messages) + 1):
        if forbidding(strongest) is not None:
            break
        said = await judge(safety, shields, messages[:count], caller)
        strongest = [max(pair, key=_weight) for pair in zip(strongest, said, strict=True)]
    return strongest


@dataclass(frozen=True)
class JudgedResult:
    """A tool's result as the model may read it. steps: the word of each shield that objects."""

    result: ToolMessage
    is_withheld: bool
    steps: list[ShieldCallStep]


async def judge_result(
    safety: ShieldRunner | None, shields: Sequence[str], result: ToolMessage, caller: Caller
) -> JudgedResult:
    verdicts = await judge(safety, shields, [result], caller) if shields else []
    steps = [
        ShieldCallStep(
            step_id=new_id("step"),
            shield=verdict.shield,
            touchpoint="tool",
            violation=verdict.violation,
            completed_at=datetime.now(UTC),
        )
        for verdict in verdicts
        if verdict.violation is not None
    ]
    forbids = forbidding(verdicts)
    if forbids is None:
        return JudgedResult(result, False, steps)
    withheld = f"Error: the result was withheld by the shield {forbids.shield}. {forbids.refusal}"
    return JudgedResult(result.model_copy(update={"content": withheld}), True, steps)


async def judge_brought(
    setup: AgentSetup,
    results: Sequence[ToolMessage],
    outcomes: Sequence[ToolOutcome],
    within: Mapping[str, Sequence[str]],
) -> tuple[list[ToolMessage], list[ToolOutcome], list[ShieldCallStep]]:
    """What a caller brings, as far as tool shields let a model read it, and what they object to.

    within: shields of agents within the turn, by the ids of their calls; they judge beside those of the agent itself.
    """
    judged = []
    for result in results:
        shields = list(dict.fromkeys([*setup.config.tool_shields, *within.get(result.tool_call_id, ())]))
        judged.append(await judge_result(setup.safety, shields, result, setup.caller))
    withheld = [one.result.tool_call_id for one in judged if one.is_withheld]
    told = [outcome for outcome in outcomes if outcome.tool_call_id not in withheld]
    told += [ToolOutcome(tool_call_id=call_id, is_error=True) for call_id in withheld]
    return [one.result for one in judged], told, [step for one in judged for step in one.steps]


def forbidding(verdicts: Sequence[Verdict]) -> Verdict | None:
    return next((verdict for verdict in verdicts if verdict.forbids), None)


def _weight(verdict: Verdict) -> int:
    levels = [ViolationLevel.INFO, ViolationLevel.WARN, ViolationLevel.ERROR]
    return -1 if verdict.violation is None else levels.index(verdict.violation.level)


def refused(verdict: Verdict) -> AssistantMessage:
    """What is said, and kept, in place of an answer."""
    return AssistantMessage(content=verdict.refusal, refusal=verdict.refusal)


class OutputScreen:
    """Holds events of an answer back until `ask` has judged what they say."""

    def __init__(
        self, turn: Turn, ask: Callable[[list[Message]], Awaitable[list[Verdict]]], window_chars: int = WINDOW_CHARS
    ) -> None:
        self._said: list[Message] = [message for message in turn.input if isinstance(message, UserMessage)]
        self._ask = ask
        self._window_chars = window_chars
        self._builder = AnswerBuilder()
        self._held: list[ChatEvent] = []
        self._held_chars = 0
        self._judged_chars = 0

    async def feed(self, event: ChatEvent) -> list[ChatEvent]:
        """Take an event; gives those that may go out now. Raises Blocked."""
        self._builder.feed(event)
        self._held.append(event)
        self._held_chars += _size(event)
        if self._held_chars - self._judged_chars < self._window_chars:
            return []
        await self._judge_so_far(event)
        return self._let_out()

    async def finish(self) -> tuple[list[ChatEvent], list[Verdict]]:
        """The rest of the answer and the shields' last word. Raises Blocked."""
        verdicts = await self._judge()
        held, self._held = self._held, []
        return held, verdicts

    async def _judge_so_far(self, latest: ChatEvent) -> None:
        """Judge but for a word that is still being written: half of it may be another one, and it is held back."""
        message = self._message()
        text = _said(message)
        begun = _WORD_BEGUN.search(text[-_LONGEST_WORD - 1 :]) if _is_written_on(message, latest) else None
        await self._asked(AssistantMessage(content=text.removesuffix(begun[0]) if begun else text))

    async def _judge(self) -> list[Verdict]:
        message = self._message()
        return await self._asked(message.model_copy(update={"content": _said(message) or message.content}))

    def _message(self) -> AssistantMessage:
        answer = self._builder.answer
        return answer.message if answer.choices else AssistantMessage()

    async def _asked(self, message: AssistantMessage) -> list[Verdict]:
        verdicts = await self._ask([*self._said, message])
        if forbidding(verdicts) is not None:
            raise Blocked(verdicts)
        return verdicts

    def _let_out(self) -> list[ChatEvent]:
        """Text at the front of what is held, but for the last characters."""
        count = 0
        for event in self._held:
            size = _size(event)
            if not size or self._held_chars - size < HELD_BACK_CHARS:
                break
            self._held_chars -= size
            count += 1
        self._judged_chars = self._held_chars
        out, self._held = self._held[:count], self._held[count:]
        return out


def _said(message: AssistantMessage) -> str:
    """All that a reader sees of an answer; a shield may look at nothing but its content."""
    parts = (message.reasoning, text_of(message.content), message.refusal)
    return "\n".join(part for part in parts if part)


def _is_written_on(message: AssistantMessage, latest: ChatEvent) -> bool:
    """Whether the latest event continues the last part of what `_said` gives."""
    match latest:
        case RefusalDelta():
            return True
        case TextDelta():
            return not message.refusal
        case ReasoningDelta():
            return not message.refusal and not message.content
        case _:
            return False


def _size(event: ChatEvent) -> int:
    return len(event.text) if isinstance(event, TextDelta | ReasoningDelta | RefusalDelta) else 0
