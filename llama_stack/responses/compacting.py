"""A conversation kept short while a response is made (`context_management`, OpenAI's guide "Compaction").

Compaction is between the loop and the model, and not a step of the loop: the loop goes on telling the whole
conversation, and what the model is sent is the window that stands for its beginning. A response that is taken up
after a crash is compacted again, should it still be too long.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from llama_stack.agents.window import prompt_limit
from llama_stack.api.common import Caller
from llama_stack.api.inference import Capabilities, ChatEvent, ChatRequest, Inference, PartialInference, Sampling, Usage
from llama_stack.api.messages import Message, SystemMessage, UserMessage
from llama_stack.api.responses import Compaction
from llama_stack.api.token_estimate import estimated_tokens
from llama_stack.errors import InvalidRequest
from llama_stack.responses.summary import MAX_SUMMARY_TOKENS, summarised
from llama_stack.wire.openai_responses.sealing import SUMMARY_HEAD, Window

SURELY_SHORT = 0.5
"""An estimate below this part of the threshold is believed without counting."""
SUMMARY_SHARE = 0.25
"""Part of what a conversation may take, the threshold or the model's window, that a summary may take."""


@dataclass(frozen=True)
class Compacted:
    """What stands for everything said so far, and what it cost to make."""

    window: Window
    usage: Usage


def threshold_of(compaction: Compaction, context_length: int | None) -> int:
    """Tokens over which a conversation is compacted; three quarters of the model's window unless the request says.

    Raises InvalidRequest where neither is known.
    """
    if compaction.threshold_tokens is not None:
        return compaction.threshold_tokens
    if context_length is None:
        field = "context_management.0.compact_threshold"
        raise InvalidRequest(f"{field}: is required, because the window of this model is not known", param=field)
    return prompt_limit(context_length, Sampling())


def most_summary_tokens(limit_tokens: int) -> int:
    """How long a summary may be where a conversation may take so many tokens."""
    return min(MAX_SUMMARY_TOKENS, int(SUMMARY_SHARE * limit_tokens))


class CompactingInference(PartialInference):
    """The chats of one response, each compacted first if it takes more than `threshold_tokens`.

    history: what was said before the response; it tells the response's own instructions from those of a conversation.
    made: filled with each compaction before the answer it was made for begins; whoever reads it takes them away.
    """

    def __init__(
        self, inference: Inference, history: list[Message], threshold_tokens: int, instructions: str = ""
    ) -> None:
        self.made: list[Compacted] = []
        self._inference = inference
        self._first = history[0] if history else None
        self._threshold_tokens = threshold_tokens
        self._instructions = instructions
        self._covered: list[Message] = []
        self._window: list[Message] = []

    def capabilities(self, model: str) -> Capabilities:
        return self._inference.capabilities(model)

    async def stream_chat(self, request: ChatRequest, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
        async with aclosing(self._inference.stream_chat(await self._shortened(request, caller), caller)) as events:
            async for event in events:
                yield event

    async def _shortened(self, request: ChatRequest, caller: Caller) -> ChatRequest:
        messages = request.messages
        first = messages[0] if messages else None
        begin = 1 if isinstance(first, SystemMessage) and first != self._first else 0
        instructions, said = messages[:begin], messages[begin:]
        shown = said
        if self._covered and said[: len(self._covered)] == self._covered:
            shown = [*self._window, *said[len(self._covered) :]]
        shorter = request.model_copy(update={"messages": [*instructions, *shown]})
        if await self._fits(shorter, caller):
            return shorter
        compacted = await self._compacted(request.model, shown, caller)
        if compacted is None:
            return shorter
        self.made.append(compacted)
        self._covered, self._window = said, compacted.window.messages
        return request.model_copy(update={"messages": [*instructions, *self._window]})

    async def _fits(self, request: ChatRequest, caller: Caller) -> bool:
        if estimated_tokens(request.messages, request.tools) < SURELY_SHORT * self._threshold_tokens:
            return True
        return await self._inference.count_tokens(request, caller) <= self._threshold_tokens

    async def _compacted(self, model: str, said: list[Message], caller: Caller) -> Compacted | None:
        """None where there is nothing but what has to stay: instructions, a summary and what the user says now."""
        before, rest = _instructions_of(said)
        after = _last_said(rest)
        told = rest[: -len(after)] if after and rest[-len(after) :] == after else rest
        if not told or (len(told) == 1 and _is_summary(told[0])):
            return None
        summary, usage = await summarised(
            self._inference,
            model,
            told,
            caller,
            self._instructions,
            max_tokens=most_summary_tokens(self._threshold_tokens),
        )
        return Compacted(Window(summary, before, after), usage)


def _instructions_of(said: list[Message]) -> tuple[list[SystemMessage], list[Message]]:
    """The instructions a conversation begins with, and the rest of it."""
    before: list[SystemMessage] = []
    for message in said:
        if not isinstance(message, SystemMessage) or _is_summary(message):
            break
        before.append(message)
    return before, said[len(before) :]


def _last_said(said: list[Message]) -> list[UserMessage]:
    """The user's last messages that follow each other."""
    last: list[UserMessage] = []
    for message in reversed(said):
        if isinstance(message, UserMessage):
            last.insert(0, message)
        elif last:
            break
    return last


def _is_summary(message: Message) -> bool:
    content = message.content
    return isinstance(message, SystemMessage) and isinstance(content, str) and content.startswith(SUMMARY_HEAD)
