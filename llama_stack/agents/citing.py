"""The citations of an agent's answer: from the passages that its turn has put before the model."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llama_stack.api.agents import MemoryRetrievalStep, ToolExecutionStep, Turn
from llama_stack.api.inference import ChatEvent, TextDelta, ToolCallDelta
from llama_stack.api.memory import Citation
from llama_stack.api.messages import AssistantMessage, text_of
from llama_stack.memory.context import Passage, passages_told

if TYPE_CHECKING:
    from llama_stack.memory.markers import Mark


EARLIER_SEARCHES = 4
"""Of earlier turns, the latest ones, that an answer may go back to."""


def passages_of_turn(turn: Turn) -> list[list[Passage]]:
    """What each search of the turn has put before the model, oldest first."""
    groups: list[list[Passage]] = []
    for step in turn.steps:
        if isinstance(step, MemoryRetrievalStep):
            groups.append([Passage(number, chunk, "") for number, chunk in enumerate(step.chunks, start=1)])
        elif isinstance(step, ToolExecutionStep):
            groups.extend(passages_told(metadata) for metadata in step.metadata.values())
    return [group for group in groups if group]


class AnswerCiting:
    """One answer of the model: its marks are taken out as it is made, and in the end it is cited.

    Where neither the turn nor the conversation before it has put a passage before the model, the answer stays as it
    is. earlier: the turns of that conversation, whose passages an answer may go back to.
    """

    def __init__(self, turn: Turn, earlier: Sequence[Turn] = ()) -> None:
        now = passages_of_turn(turn)
        # What was searched for unasked need not be what the answer is about: a greeting has no source.
        self._is_asked_for = any(isinstance(step, ToolExecutionStep) for step in turn.steps) and bool(now)
        self._groups: Sequence[Sequence[Passage]] = now or _latest(earlier)
        if not self._groups:
            return
        # Their tables take a while to make, and most turns search nothing.
        from llama_stack.memory.markers import MarkFilter

        self._filter = MarkFilter()

    def feed(self, event: ChatEvent) -> list[ChatEvent]:
        """The event as it may go on, after what was held back before it."""
        if not self._groups or isinstance(event, ToolCallDelta):
            return [event]
        if not isinstance(event, TextDelta):
            return [*self.finish(), event]
        text = self._filter.feed(event.text)
        # Log probabilities are those of what the model made, be it text or mark.
        return [event.model_copy(update={"text": text})] if text or event.logprobs else []

    def finish(self) -> list[ChatEvent]:
        """What was held back, as text."""
        rest = self._filter.finish() if self._groups else ""
        return [TextDelta(text=rest)] if rest else []

    async def citations(self, message: AssistantMessage) -> list[Citation]:
        """Of the finished message. One that calls tools is on the way to an answer and cites nothing."""
        text = text_of(message.content)
        if not self._groups or message.tool_calls or message.refusal or not text.strip():
            return []
        return await asyncio.to_thread(_cited, text, self._groups, self._filter.marks, self._is_asked_for)


def _latest(turns: Sequence[Turn]) -> list[list[Passage]]:
    """The passages of the latest searches, oldest first."""
    groups: list[list[Passage]] = []
    for turn in reversed(turns):
        groups = [*passages_of_turn(turn), *groups]
        if len(groups) >= EARLIER_SEARCHES:
            break
    return groups[-EARLIER_SEARCHES:]


def _cited(text: str, groups: Sequence[Sequence[Passage]], removed: "Sequence[Mark]", always: bool) -> list[Citation]:
    from llama_stack.memory.citing import cite

    return cite(text, groups, removed, always=always)
