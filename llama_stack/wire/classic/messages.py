"""Messages in the classic shape (`Message` of `llama-stack-client` 0.2.12), both directions.

Bodies say what may come in; `decode_messages` and `encode_messages` translate.
"""

from typing import Annotated, Any, Literal

import orjson
from pydantic import Field

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import FinishReason
from llama_stack.api.messages import (
    AssistantMessage,
    Content,
    Message,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from llama_stack.wire.classic.body import ClassicBody
from llama_stack.wire.classic.content import ContentBody, content_parts, decode_content, encode_content

StopReason = Literal["end_of_turn", "end_of_message", "out_of_tokens"]

# --- what comes in -------------------------------------------------------------------------------------------------


class ToolCallBody(ClassicBody):
    """`arguments_json` is what the model wrote; the client's `arguments` have lost the difference of 2 and 2.0."""

    call_id: str
    tool_name: str
    arguments: str | JsonObject
    arguments_json: str | None = None


class SystemMessageBody(ClassicBody):
    role: Literal["system"]
    content: ContentBody


class UserMessageBody(ClassicBody):
    """`context`: what was retrieved for the message; it is put before the model right after the content."""

    role: Literal["user"]
    content: ContentBody
    context: ContentBody | None = None


class ToolResponseMessageBody(ClassicBody):
    role: Literal["tool"]
    call_id: str
    content: ContentBody
    tool_name: str | None = None


class CompletionMessageBody(ClassicBody):
    role: Literal["assistant"]
    content: ContentBody | None = None
    stop_reason: StopReason | None = None
    tool_calls: list[ToolCallBody] | None = None
    reasoning: str | None = None


MessageBody = Annotated[
    SystemMessageBody | UserMessageBody | ToolResponseMessageBody | CompletionMessageBody,
    Field(discriminator="role"),
]


def decode_messages(bodies: list[MessageBody]) -> list[Message]:
    return [_decode_message(body) for body in bodies]


def _decode_message(body: MessageBody) -> Message:
    match body:
        case SystemMessageBody():
            return SystemMessage(content=decode_content(body.content))
        case UserMessageBody():
            return decode_user_message(body)
        case ToolResponseMessageBody():
            return decode_tool_message(body)
        case CompletionMessageBody():
            content = None if body.content is None else decode_content(body.content)
            calls = [decode_tool_call(call) for call in body.tool_calls or ()]
            said_nothing = not content and bool(calls)
            return AssistantMessage(
                content=None if said_nothing else content, tool_calls=calls, reasoning=body.reasoning
            )


def decode_user_message(body: UserMessageBody) -> UserMessage:
    content = decode_content(body.content)
    return UserMessage(content=content if body.context is None else _beside(content, decode_content(body.context)))


def decode_tool_message(body: ToolResponseMessageBody) -> ToolMessage:
    return ToolMessage(tool_call_id=body.call_id, content=decode_content(body.content), name=body.tool_name)


def _beside(content: Content, context: Content) -> Content:
    if isinstance(content, str) and isinstance(context, str):
        return f"{content}\n{context}"
    return [*content_parts(content), TextPart(text="\n"), *content_parts(context)]


def decode_tool_call(body: ToolCallBody) -> ToolCall:
    arguments = body.arguments_json if body.arguments_json is not None else body.arguments
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    return ToolCall(id=body.call_id, name=body.tool_name, arguments=text)


# --- what goes out -------------------------------------------------------------------------------------------------

_STOP_REASONS: dict[FinishReason, StopReason] = {
    "stop": "end_of_turn",
    "tool_calls": "end_of_message",
    "length": "out_of_tokens",
    "content_filter": "end_of_turn",
}


def stop_reason_of(finish_reason: FinishReason) -> StopReason:
    return _STOP_REASONS[finish_reason]


def encode_messages(messages: list[Message]) -> list[JsonObject]:
    return [encode_message(message) for message in messages]


def encode_message(message: Message) -> JsonObject:
    """An assistant's message that makes calls is one that the caller continues, another one ends its turn."""
    match message:
        case AssistantMessage():
            return encode_completion_message(message, "end_of_message" if message.tool_calls else "end_of_turn")
        case ToolMessage():
            body = {"role": "tool", "call_id": message.tool_call_id, "content": encode_content(message.content)}
            return body if message.name is None else {**body, "tool_name": message.name}
        case SystemMessage() | UserMessage():
            return {"role": message.role, "content": encode_content(message.content)}


def encode_completion_message(message: AssistantMessage, stop_reason: StopReason) -> JsonObject:
    """`reasoning` is ours; the classic client keeps it as an attribute."""
    said = message.content if message.content is not None else message.refusal
    body: JsonObject = {
        "role": "assistant",
        "content": encode_content(said),
        "stop_reason": stop_reason,
        "tool_calls": [encode_tool_call(call) for call in message.tool_calls],
    }
    return body if message.reasoning is None else {**body, "reasoning": message.reasoning}


def encode_tool_call(call: ToolCall) -> JsonObject:
    """`arguments` are an object, or the model's own text where that is no JSON object."""
    parsed = parse_arguments(call.arguments)
    return {
        "call_id": call.id,
        "tool_name": call.name,
        "arguments": call.arguments if parsed is None else parsed,
        "arguments_json": call.arguments or "{}",
    }


def parse_arguments(text: str) -> dict[str, Any] | None:
    """The arguments of a call, none for an empty text; None where the text is no JSON object."""
    if not text.strip():
        return {}
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None
