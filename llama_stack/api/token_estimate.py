"""About how many tokens a conversation takes, for models whose provider counts only while it answers.

Tokenizers differ; that of Llama 3 takes about four bytes of English a token and fewer of code, and a character of
Chinese (three bytes) is about one token. Bytes are therefore counted, and slightly more tokens assumed.
"""

from collections.abc import Sequence

from llama_stack.api.messages import AssistantMessage, Message, TextPart
from llama_stack.api.tools import ToolDefinition

BYTES_PER_TOKEN = 3.5
TOKENS_PER_MESSAGE = 6
TOKENS_PER_IMAGE = 600


def estimated_tokens(messages: Sequence[Message], tools: Sequence[ToolDefinition] = ()) -> int:
    """About how many tokens these messages and tool definitions take."""
    size_bytes = sum(_size_bytes(tool.model_dump_json(exclude_none=True)) for tool in tools)
    parts = 0
    for message in messages:
        content = message.content
        if isinstance(content, str):
            size_bytes += _size_bytes(content)
        else:
            for part in content or ():
                if isinstance(part, TextPart):
                    size_bytes += _size_bytes(part.text)
                else:
                    parts += 1
        if isinstance(message, AssistantMessage):
            size_bytes += sum(_size_bytes(call.name) + _size_bytes(call.arguments) for call in message.tool_calls)
    return int(size_bytes / BYTES_PER_TOKEN) + len(messages) * TOKENS_PER_MESSAGE + parts * TOKENS_PER_IMAGE


def estimated_text_tokens(text: str) -> int:
    """About how many tokens a text takes; at least one where there is any text."""
    return -(-_size_bytes(text) // 3) if text else 0


def _size_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="replace"))
