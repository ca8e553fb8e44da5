"""A conversation as a summary that a model can go on from: what compaction is made of."""

from collections.abc import Sequence

from llama_stack.api.answers import collect
from llama_stack.api.common import Caller
from llama_stack.api.inference import ChatAnswer, ChatRequest, Inference, Sampling, Usage
from llama_stack.api.messages import AssistantMessage, Message, SystemMessage, ToolMessage, UserMessage, text_of
from llama_stack.errors import ContextOverflow, ProviderFailed

MAX_SUMMARY_TOKENS = 2000
TASK = (
    "Below is a conversation between a user and an assistant. Write a summary that lets the assistant go on without "
    "it: the user's goals and constraints, decisions made, facts and results found (names, numbers, identifiers "
    "exactly as they stand), and what is still open. Write only the summary."
)
MESSAGE_LIMITS = (None, 4000, 1000, 250)
"""Characters of each message that are read. A conversation that has outgrown the model's window is read shortened,
the more the longer it is.
"""


async def summarised(
    inference: Inference,
    model: str,
    messages: Sequence[Message],
    caller: Caller,
    instructions: str = "",
    *,
    max_tokens: int = MAX_SUMMARY_TOKENS,
) -> tuple[str, Usage]:
    """The summary, of at most `max_tokens`, and what it cost.

    instructions: of the assistant whose conversation it is. Raises what inference raises, ContextOverflow only where
    not even the shortened messages fit, ProviderFailed where the model says nothing.
    """
    wishes = f"\n\nThe assistant's instructions were:\n{instructions}" if instructions else ""
    *longer, shortest = MESSAGE_LIMITS
    for limit in longer:
        try:
            answer = await _asked(inference, model, f"{TASK}{wishes}", _told(messages, limit), max_tokens, caller)
            break
        except ContextOverflow:
            continue
    else:
        answer = await _asked(inference, model, f"{TASK}{wishes}", _told(messages, shortest), max_tokens, caller)
    if not answer.text.strip():
        raise ProviderFailed(f"the model {model!r} gave no summary of the conversation; try another model")
    return answer.text, answer.usage or Usage()


async def _asked(inference: Inference, model: str, task: str, text: str, max_tokens: int, caller: Caller) -> ChatAnswer:
    chat = ChatRequest(
        model=model,
        messages=[SystemMessage(content=task), UserMessage(content=text)],
        sampling=Sampling(max_tokens=max_tokens),
        whole=True,
    )
    return await collect(inference.stream_chat(chat, caller))


def _told(messages: Sequence[Message], limit: int | None) -> str:
    return "\n\n".join(_line(message, limit) for message in messages)


def _line(message: Message, limit: int | None) -> str:
    match message:
        case UserMessage():
            return f"User: {_cut(text_of(message.content), limit)}"
        case SystemMessage():
            return f"Instructions: {_cut(text_of(message.content), limit)}"
        case ToolMessage():
            return f"Result of {message.name or 'a tool'}: {_cut(text_of(message.content), limit)}"
        case AssistantMessage():
            calls = "".join(f"\n[calls {call.name} with {_cut(call.arguments, limit)}]" for call in message.tool_calls)
            return f"Assistant: {_cut(text_of(message.content), limit)}{calls}"


def _cut(text: str, limit: int | None) -> str:
    """The text without its middle: what matters tends to stand at the ends."""
    if limit is None or len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} [...] {text[-half:]}"
