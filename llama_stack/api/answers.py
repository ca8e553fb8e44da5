"""Folding the events of an answer into the answer they make."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from llama_stack.api.inference import (
    ChatAnswer,
    ChatChoice,
    ChatEnd,
    ChatEvent,
    ChoiceEnd,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStart,
)
from llama_stack.api.messages import AssistantMessage, ToolCall


class _ChoiceUnderWay:
    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.calls: dict[int, tuple[ToolCallStart, list[str]]] = {}
        self.logprobs: list[TokenLogprob] = []
        self.end: ChoiceEnd | None = None

    def finished(self) -> ChatChoice:
        message = AssistantMessage(
            content="".join(self.text) if self.text else None,
            reasoning="".join(self.reasoning) if self.reasoning else None,
            refusal="".join(self.refusal) if self.refusal else None,
            tool_calls=[
                ToolCall(id=start.id, name=start.name, arguments="".join(parts), extra=start.extra)
                for _, (start, parts) in sorted(self.calls.items())
            ],
        )
        end = self.end or ChoiceEnd(finish_reason="stop")
        return ChatChoice(
            message=message,
            finish_reason=end.finish_reason,
            logprobs=self.logprobs or None,
            stop_sequence=end.stop_sequence,
        )


class AnswerBuilder:
    """Folds events into the answer they make; `answer` may be read once the ChatEnd was fed."""

    def __init__(self) -> None:
        self._choices: dict[int, _ChoiceUnderWay] = {}
        self._end = ChatEnd()

    def feed(self, event: ChatEvent) -> None:
        if isinstance(event, ChatEnd):
            self._end = event
            return
        choice = self._choices.setdefault(event.choice, _ChoiceUnderWay())
        match event:
            case TextDelta():
                choice.text.append(event.text)
                choice.logprobs.extend(event.logprobs or ())
            case ReasoningDelta():
                choice.reasoning.append(event.text)
            case RefusalDelta():
                choice.refusal.append(event.text)
            case ToolCallStart():
                choice.calls[event.index] = (event, [])
            case ToolCallDelta():
                choice.calls[event.index][1].append(event.arguments)
            case ChoiceEnd():
                choice.end = event

    @property
    def answer(self) -> ChatAnswer:
        choices = [choice.finished() for _, choice in sorted(self._choices.items())]
        return ChatAnswer(choices=choices, usage=self._end.usage, model=self._end.model, extra=self._end.extra)


async def collect(stream: AsyncGenerator[ChatEvent, None]) -> ChatAnswer:
    """The whole answer of a stream. Raises what the stream raises; the stream is closed in every case."""
    builder = AnswerBuilder()
    async with aclosing(stream):
        async for event in stream:
            builder.feed(event)
    return builder.answer
