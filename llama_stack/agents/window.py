"""Keeping a conversation within the model's window.

What is left out is whole: an exchange (a user's message with everything up to the next one) of the history, oldest
first; then, of the turn under way, an answer that called tools together with its results. A call is never split from
its result, and neither the instructions nor what the user says now is ever left out.

Tokens are estimated from the text's size, because most providers count only while they answer. The estimate errs on the
side of sending: a provider that then refuses says so with ContextOverflow, and less is sent. What is surely over the
window is not sent at all: there are servers that cut a conversation short without a word.
"""

from collections.abc import Sequence

from llama_stack.api.inference import Sampling
from llama_stack.api.messages import AssistantMessage, Message, ToolMessage, UserMessage
from llama_stack.api.token_estimate import estimated_tokens
from llama_stack.api.tools import ToolDefinition
from llama_stack.errors import ContextOverflow

MISJUDGED = 1.5
"""An estimate may be over the real number by this factor: only what is over the window even so is refused."""
SURELY_SHORT = 1 / 3
"""An estimate below this part of the window is believed without counting."""
ANSWER_SHARE = 0.25
"""Part of the window kept free for the answer where no length was asked for."""


def prompt_limit(context_length: int, sampling: Sampling) -> int:
    """Tokens that the prompt may take."""
    answer = sampling.max_tokens or int(context_length * ANSWER_SHARE)
    return max(context_length - answer, context_length // 8)


def without_oldest(messages: list[Message], now: int) -> tuple[list[Message], int] | None:
    """The messages without their oldest whole part, and where the turn under way then begins.

    now: position of the first message of the turn under way. None when nothing more can be left out.
    """
    said = [position for position, message in enumerate(messages[:now]) if isinstance(message, UserMessage)]
    if said:
        end = said[1] if len(said) > 1 else now
        return [*messages[: said[0]], *messages[end:]], now - (end - said[0])
    calling = [
        position
        for position, message in enumerate(messages)
        if position >= now and isinstance(message, AssistantMessage) and message.tool_calls
    ]
    # The latest results are what the model is asked about.
    if len(calling) < 2:
        return None
    end = calling[0] + 1
    while isinstance(messages[end], ToolMessage):
        end += 1
    return [*messages[: calling[0]], *messages[end:]], now


def fitted(
    messages: list[Message], now: int, limit_tokens: int, tools: Sequence[ToolDefinition]
) -> tuple[list[Message], int]:
    """As many of the messages as fit the limit, and where the turn under way begins among them."""
    while estimated_tokens(messages, tools) > limit_tokens:
        shorter = without_oldest(messages, now)
        if shorter is None:
            break
        messages, now = shorter
    return messages, now


def needs_count(estimate: int, context_length: int) -> bool:
    return estimate > SURELY_SHORT * context_length


def check_window(tokens: int, context_length: int, model: str, *, is_exact: bool, is_shortened: bool) -> None:
    """Raises ContextOverflow where a conversation of so many tokens cannot be read by a model with this window.

    is_exact: counted and not estimated. is_shortened: all that may be left out of the conversation was left out.
    """
    if tokens <= (context_length if is_exact else MISJUDGED * context_length):
        return
    if is_shortened:
        remedy = "nothing more can be left out of it; say less at once, or use a model with a larger window"
    else:
        remedy = 'send less, or set truncation to "auto" to leave out its oldest exchanges'
    raise ContextOverflow(
        f"the conversation has {'' if is_exact else 'about '}{tokens} tokens, and the window of the model {model!r} "
        f"has {context_length}: {remedy}"
    )
