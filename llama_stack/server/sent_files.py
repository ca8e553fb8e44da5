"""Files in the messages of one chat, read before the model is asked."""

from collections.abc import Iterator
from typing import Any

from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.inference import ChatRequest
from llama_stack.api.messages import FilePart
from llama_stack.api.sent_files import FieldOf, has_files
from llama_stack.api.stack import ServedStack


async def with_files(stack: ServedStack, chat: ChatRequest, caller: Caller, field_of: FieldOf) -> ChatRequest:
    """The chat as its model can read it.

    Raises NotFound for an unknown model, and what `SentFiles` raises, naming the field.
    """
    if not has_files(chat.messages):
        return chat
    await stack.model(chat.model, caller)
    able = stack.inference.capabilities(chat.model)
    files = (await stack.memory()).sent_files
    return chat.model_copy(update={"messages": await files.in_messages(chat.messages, able, caller, field_of)})


def chat_field(message: int, number: int, part: FilePart) -> str:
    """How OpenAI's chat completions call it."""
    name = "file_data" if part.file_id is None else "file_id"
    return f"messages.{message}.content.{number}.file.{name}"


def anthropic_field(body: JsonObject) -> FieldOf:
    """How a request of Anthropic's Messages calls them. Asked once for each file part, in reading order."""
    fields = _anthropic_documents(body.get("messages"), "messages")

    def field_of(message: int, number: int, part: FilePart) -> str:
        return next(fields, "messages")

    return field_of


def _anthropic_documents(blocks: Any, path: str) -> Iterator[str]:
    """The source of every document that comes in base64: messages, tool results and documents lie in each other."""
    for number, block in enumerate(blocks if isinstance(blocks, list) else ()):
        here, source = f"{path}.{number}", block.get("source")
        if isinstance(source, dict) and block.get("type") == "document" and source.get("type") == "base64":
            yield f"{here}.source"
        yield from _anthropic_documents(block.get("content"), f"{here}.content")
