"""Messages as they come in: a user and an assistant in turn, tool results among what the user says.

Messages of one side that follow each other are one, as the reference has it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Annotated, Literal

from pydantic import Field

from llama_stack.api.messages import (
    AssistantMessage,
    Content,
    ContentPart,
    Message,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)
from llama_stack.errors import InvalidRequest
from llama_stack.wire.anthropic.blocks import (
    AssistantBlock,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserBlock,
    decode_block,
    decode_tool_result,
    decode_tool_use,
)
from llama_stack.wire.validation import Body


class UserMessageBody(Body):
    role: Literal["user"]
    content: str | list[UserBlock]


class AssistantMessageBody(Body):
    role: Literal["assistant"]
    content: str | list[AssistantBlock]


class SystemMessageBody(Body):
    role: Literal["system"]
    content: str | list[TextBlock]


MessageBody = Annotated[UserMessageBody | AssistantMessageBody | SystemMessageBody, Field(discriminator="role")]


def decode_system(system: str | list[TextBlock] | None) -> list[Message]:
    """Instructions; several blocks are paragraphs of one text."""
    text = system if isinstance(system, str) else "\n\n".join(block.text for block in system or ())
    return [SystemMessage(content=text)] if text else []


def decode_messages(bodies: list[MessageBody]) -> list[Message]:
    """Raises InvalidRequest for a result of no call or a call without its result, for an answer that is to be
    continued, and where the user says nothing.
    """
    messages: list[Message] = []
    names: dict[str, str] = {}
    waiting: dict[str, str] = {}  # calls without a result, each with its place
    for position, body in enumerate(bodies):
        path = f"messages.{position}"
        match body:
            case SystemMessageBody():
                messages += decode_system(body.content)
            case AssistantMessageBody():
                said = _decode_assistant(body)
                if messages and not isinstance(messages[-1], AssistantMessage):
                    _refuse_waiting(waiting)
                waiting |= _places_of_calls(body, path)
                names |= {call.id: call.name for call in said.tool_calls}
                messages.append(said)
            case UserMessageBody():
                for message in _decode_user(body, names, path):
                    if isinstance(message, ToolMessage):
                        waiting.pop(message.tool_call_id, None)
                    messages.append(message)
    if messages and isinstance(messages[-1], AssistantMessage):
        raise InvalidRequest(
            "messages: the last message must be the user's; an answer that has begun is not continued here",
            param="messages",
        )
    if all(isinstance(message, SystemMessage) for message in messages):
        raise InvalidRequest("messages: needs at least one message of the user", param="messages")
    _refuse_waiting(waiting)
    return list(_joined(messages))


def _places_of_calls(body: AssistantMessageBody, path: str) -> dict[str, str]:
    blocks = () if isinstance(body.content, str) else body.content
    return {block.id: f"{path}.content.{n}" for n, block in enumerate(blocks) if isinstance(block, ToolUseBlock)}


def _refuse_waiting(waiting: Mapping[str, str]) -> None:
    for call_id, place in waiting.items():
        raise InvalidRequest(
            f"{place}: the tool_use {call_id!r} has no tool_result in the message after it; send one for each call",
            param=place,
        )


def _decode_user(body: UserMessageBody, names: dict[str, str], path: str) -> list[UserMessage | ToolMessage]:
    if isinstance(body.content, str):
        return [UserMessage(content=body.content)]
    results: list[UserMessage | ToolMessage] = []
    parts: list[ContentPart] = []
    for number, block in enumerate(body.content):
        here = f"{path}.content.{number}"
        if not isinstance(block, ToolResultBlock):
            made = decode_block(block, here)
            before = body.content[number - 1] if number else block
            is_text = isinstance(block, TextBlock) and isinstance(before, TextBlock)
            if not is_text:
                _set_apart(parts, made)
            parts.extend(made)
            continue
        if parts:
            raise InvalidRequest(f"{here}: tool_result blocks come first in their message", param=here)
        if block.tool_use_id not in names:
            raise InvalidRequest(
                f"{here}.tool_use_id: no tool_use block before it has the id {block.tool_use_id!r}",
                param=f"{here}.tool_use_id",
            )
        content = decode_tool_result(block, here)
        results.append(ToolMessage(tool_call_id=block.tool_use_id, content=content, name=names[block.tool_use_id]))
    return [*results, UserMessage(content=_plainest(parts))] if parts or not results else results


def _decode_assistant(body: AssistantMessageBody) -> AssistantMessage:
    """Signatures of thinking and redacted thinking are left out: only the model that made them could check them."""
    if isinstance(body.content, str):
        return AssistantMessage(content=body.content)
    texts: list[ContentPart] = []
    thoughts: list[str] = []
    calls = []
    for block in body.content:
        match block:
            case TextBlock(text=text):
                texts.append(TextPart(text=text))
            case ThinkingBlock(thinking=thinking):
                thoughts.append(thinking)
            case ToolUseBlock():
                calls.append(decode_tool_use(block))
            case RedactedThinkingBlock():
                pass
    return AssistantMessage(
        content=_plainest(texts) if texts else None, tool_calls=calls, reasoning="".join(thoughts) or None
    )


def _plainest(parts: list[ContentPart]) -> Content:
    """One text as a text: models are given it alike, and providers that take no parts can be asked."""
    if len(parts) == 1 and isinstance(parts[0], TextPart):
        return parts[0].text
    return parts


def _joined(messages: Iterable[Message]) -> Iterator[Message]:
    """Messages of one side that follow each other as one, made once: a long list costs what its length is."""
    for kind, run in groupby(messages, type):
        first, *others = run
        if not others or kind not in (UserMessage, AssistantMessage):
            yield from (first, *others)
        elif kind is UserMessage:
            yield _joined_user([first, *others])
        else:
            yield _joined_assistant([first, *others])


def _joined_user(run: Sequence[Message]) -> UserMessage:
    parts: list[ContentPart] = []
    for message in run:
        more = _parts(message.content)
        _set_apart(parts, more)
        parts.extend(more)
    return UserMessage(content=parts)


def _set_apart(before: list[ContentPart], after: Sequence[ContentPart]) -> None:
    """An empty line between text and text: models are given the parts without anything between them."""
    last = before[-1] if before else None
    if isinstance(last, TextPart) and after and isinstance(after[0], TextPart) and not last.text.endswith("\n"):
        before[-1] = TextPart(text=f"{last.text}\n\n")


def _joined_assistant(run: Sequence[Message]) -> AssistantMessage:
    said = [message for message in run if isinstance(message, AssistantMessage)]
    return AssistantMessage(
        content=[part for message in said for part in _parts(message.content)] or None,
        tool_calls=[call for message in said for call in message.tool_calls],
        reasoning="".join(message.reasoning or "" for message in said) or None,
    )


def _parts(content: Content | None) -> list[ContentPart]:
    if content is None:
        return []
    return [TextPart(text=content)] if isinstance(content, str) else content
