"""What a model generated, as the events of a chat: text, tool calls and the end of each choice."""

from collections import deque
from collections.abc import AsyncGenerator, Sequence

from llama_stack.api.inference import (
    ChatEvent,
    ChoiceEnd,
    FinishReason,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
)
from llama_stack.api.tools import ToolDefinition
from llama_stack.wire.llama_prompts.families import LlamaFamily
from llama_stack.wire.llama_prompts.parse import Stop, ToolCallParser
from llama_stack_providers.inline._llama_cpp.generation import Piece

_STOPS: dict[str, Stop] = {"eos": "eot", "word": "stop", "limit": "length"}


def chat_events(
    made: AsyncGenerator[Piece, None], tools: list[ToolDefinition], family: LlamaFamily
) -> AsyncGenerator[ChatEvent, None]:
    """Text and, where tools are offered, calls of them; the caller closes `made`."""
    return _with_calls(made, tools, family) if tools else plain_events(made)


async def plain_events(made: AsyncGenerator[Piece, None]) -> AsyncGenerator[ChatEvent, None]:
    """Nothing is offered, so nothing is a call; the caller closes `made`."""
    async for piece in made:
        if piece.text or piece.logprobs:
            yield TextDelta(text=piece.text, choice=piece.choice, logprobs=piece.logprobs)
        if piece.stop_type is not None:
            reason: FinishReason = "length" if piece.stop_type == "limit" else "stop"
            yield ChoiceEnd(finish_reason=reason, choice=piece.choice, stop_sequence=piece.stop_sequence)


async def _with_calls(
    made: AsyncGenerator[Piece, None], tools: list[ToolDefinition], family: LlamaFamily
) -> AsyncGenerator[ChatEvent, None]:
    readers: dict[int, tuple[ToolCallParser, AlignedLogprobs]] = {}
    async for piece in made:
        choice = piece.choice
        if choice not in readers:
            readers[choice] = (ToolCallParser(tools, family=family, choice=choice), AlignedLogprobs())
        parser, aligned = readers[choice]
        events = parser.feed(piece.text) if piece.text else []
        if piece.stop_type is not None:
            events = [*events, *parser.finish(_STOPS[piece.stop_type])]
        if piece.logprobs is not None:
            aligned.give(piece.logprobs, events)
        for event in events:
            yield event
        if piece.stop_type is not None:
            yield ChoiceEnd(finish_reason=parser.finish_reason, choice=choice, stop_sequence=piece.stop_sequence)


class AlignedLogprobs:
    """Gives each text its own tokens' probabilities: the parser may hold text back, and calls take tokens too."""

    def __init__(self) -> None:
        self._waiting: deque[TokenLogprob] = deque()

    def give(self, made: list[TokenLogprob], events: Sequence[ChatEvent]) -> None:
        self._waiting.extend(made)
        for event in events:
            if isinstance(event, TextDelta):
                event.logprobs = self._of(event.text)
            elif isinstance(event, ToolCallDelta):
                self._waiting.clear()

    def _of(self, text: str) -> list[TokenLogprob]:
        missing = len(text.encode())
        taken = []
        while missing > 0 and self._waiting:
            token = self._waiting.popleft()
            missing -= len(token.bytes or ())
            taken.append(token)
        return taken
