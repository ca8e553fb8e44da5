"""Messages in OpenAI's chat shape (API reference, "Create chat completion", `messages`), both directions.

Bodies say what may come in; `decode_messages` and `encode_messages` translate. Partners' reasoning text is accepted
as `reasoning_content` or `reasoning`, and written as `reasoning_content`.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from llama_stack.api.common import JsonObject
from llama_stack.api.messages import (
    AssistantMessage,
    AudioPart,
    Content,
    ContentPart,
    FilePart,
    ImagePart,
    ImageUrl,
    Message,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from llama_stack.errors import UnsupportedParameter
from llama_stack.wire.validation import Body, OpenBody

# --- what comes in -------------------------------------------------------------------------------------------------


class TextPartBody(Body):
    type: Literal["text"]
    text: str


class RefusalPartBody(Body):
    type: Literal["refusal"]
    refusal: str


class ImageUrlBody(Body):
    url: ImageUrl
    detail: Literal["auto", "low", "high"] | None = None


class ImagePartBody(Body):
    type: Literal["image_url"]
    image_url: ImageUrlBody


class InputAudioBody(Body):
    data: str
    format: str


class AudioPartBody(Body):
    type: Literal["input_audio"]
    input_audio: InputAudioBody


class FileBody(Body):
    file_id: str | None = None
    file_data: str | None = None
    filename: str | None = None


class FilePartBody(Body):
    type: Literal["file"]
    file: FileBody


UserPartBody = Annotated[TextPartBody | ImagePartBody | AudioPartBody | FilePartBody, Field(discriminator="type")]
AssistantPartBody = Annotated[TextPartBody | RefusalPartBody, Field(discriminator="type")]


class CalledFunctionBody(Body):
    """parsed_arguments: the openai package's parse helper puts it into the message it gives; it repeats `arguments`."""

    name: str
    arguments: str
    parsed_arguments: object = None


class ToolCallBody(OpenBody):
    """`index` is what remains when a client glues stream deltas together; it says nothing here."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunctionBody
    index: int | None = None


class SystemMessageBody(Body):
    role: Literal["system", "developer"]
    content: str | list[TextPartBody]
    name: str | None = None


class UserMessageBody(Body):
    role: Literal["user"]
    content: str | list[UserPartBody]
    name: str | None = None


class AssistantMessageBody(OpenBody):
    role: Literal["assistant"]
    content: str | list[AssistantPartBody] | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallBody] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    name: str | None = None


class ToolMessageBody(Body):
    role: Literal["tool"]
    content: str | list[TextPartBody]
    tool_call_id: str
    name: str | None = None


MessageBody = Annotated[
    SystemMessageBody | UserMessageBody | AssistantMessageBody | ToolMessageBody, Field(discriminator="role")
]


def decode_messages(bodies: list[MessageBody]) -> list[Message]:
    return [_decode_message(body, f"messages.{position}") for position, body in enumerate(bodies)]


def _decode_message(body: MessageBody, path: str) -> Message:
    match body:
        case UserMessageBody():
            return UserMessage(content=_decode_content(body.content), name=body.name)
        case AssistantMessageBody():
            return _decode_assistant(body, path)
        case ToolMessageBody():
            return ToolMessage(tool_call_id=body.tool_call_id, content=_decode_content(body.content), name=body.name)
        case SystemMessageBody():
            return SystemMessage(content=_decode_content(body.content), name=body.name)


def _decode_content(content: str | list[UserPartBody] | list[TextPartBody]) -> Content:
    return content if isinstance(content, str) else [_decode_part(part) for part in content]


def _decode_part(part: UserPartBody) -> ContentPart:
    match part:
        case TextPartBody():
            return TextPart(text=part.text)
        case ImagePartBody(image_url=image):
            return ImagePart(url=image.url, detail=image.detail)
        case AudioPartBody(input_audio=audio):
            return AudioPart(base64_audio=audio.data, format=audio.format)
        case FilePartBody(file=file):
            return FilePart(file_id=file.file_id, data_url=file.file_data, filename=file.filename)


def _decode_assistant(body: AssistantMessageBody, path: str) -> AssistantMessage:
    content: Content | None
    refusal = body.refusal
    if isinstance(body.content, list):
        content = [TextPart(text=part.text) for part in body.content if isinstance(part, TextPartBody)] or None
        refusals = [part.refusal for part in body.content if isinstance(part, RefusalPartBody)]
        refusal = refusal or "".join(refusals) or None
    else:
        content = body.content
    extra = body.unknown()
    for name, remedy in _REFUSED_ASSISTANT_FIELDS.items():
        if extra.get(name):
            raise UnsupportedParameter(f"{path}.{name}: not supported; {remedy}", param=f"{path}.{name}")
        extra.pop(name, None)
    if extra.get("annotations") == []:
        del extra["annotations"]
    # The openai package's parse helper adds it to the message it gives; it repeats the content.
    extra.pop("parsed", None)
    reasoning = body.reasoning_content if body.reasoning_content is not None else body.reasoning
    return AssistantMessage(
        content=content,
        refusal=refusal,
        tool_calls=[
            ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments, extra=call.unknown())
            for call in body.tool_calls or ()
        ],
        reasoning=reasoning,
        name=body.name,
        extra=extra,
    )


_REFUSED_ASSISTANT_FIELDS = {
    "function_call": "send tool_calls instead, and answer them with messages of role tool",
    "audio": "send the transcript as content",
}

# --- what goes out -------------------------------------------------------------------------------------------------


SEEN_BELOW = "[See the message that follows.]"
"""Stands for a tool's result that has no text."""


def encode_messages(messages: list[Message]) -> list[JsonObject]:
    """As part of a request.

    A message of a tool holds text alone there. What else a tool gave stands in a message of the user, behind the last
    of the results that belong together and with a line that names the tool.
    """
    bodies: list[JsonObject] = []
    called: dict[str, str] = {}
    beside: list[ContentPart] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            message, more = _text_apart(message, message.name or called.get(message.tool_call_id, ""))
            beside += more
        elif beside:
            bodies.append(_encode_message(UserMessage(content=beside)))
            beside = []
        if isinstance(message, AssistantMessage):
            called = {call.id: call.name for call in message.tool_calls}
        bodies.append(_encode_message(message))
    return [*bodies, _encode_message(UserMessage(content=beside))] if beside else bodies


def _text_apart(message: ToolMessage, tool: str) -> tuple[ToolMessage, list[ContentPart]]:
    """The result as text, and what it has beside text, told as from its tool."""
    if isinstance(message.content, str):
        return message, []
    text: list[ContentPart] = [part for part in message.content if isinstance(part, TextPart)]
    others = [part for part in message.content if not isinstance(part, TextPart)]
    if not others:
        return message, []
    source = TextPart(text=f"From the tool {tool or 'that was called'} (call {message.tool_call_id}):")
    return message.model_copy(update={"content": text or SEEN_BELOW}), [source, *others]


def _encode_message(message: Message) -> JsonObject:
    body: JsonObject
    match message:
        case AssistantMessage():
            return {**encode_assistant(message), **({"name": message.name} if message.name is not None else {})}
        case ToolMessage():
            body = {"role": "tool", "tool_call_id": message.tool_call_id, "content": _encode_content(message.content)}
        case SystemMessage() | UserMessage():
            body = {"role": message.role, "content": _encode_content(message.content)}
    if message.name is not None:
        body["name"] = message.name
    return body


def encode_assistant(message: AssistantMessage) -> JsonObject:
    """As part of a request; `openai_chat.encode_answer` adds what answers always carry."""
    body: JsonObject = {
        **message.extra,
        "role": "assistant",
        "content": None if message.content is None else _encode_content(message.content),
    }
    if message.refusal is not None:
        body["refusal"] = message.refusal
    if message.reasoning is not None:
        body["reasoning_content"] = message.reasoning
    if message.tool_calls:
        body["tool_calls"] = [encode_tool_call(call) for call in message.tool_calls]
    return body


def encode_tool_call(call: ToolCall) -> JsonObject:
    return {
        **call.extra,
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _encode_content(content: Content) -> str | list[JsonObject]:
    return content if isinstance(content, str) else [_encode_part(part) for part in content]


def _encode_part(part: ContentPart) -> JsonObject:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            return {"type": "image_url", "image_url": _given(url=part.url, detail=part.detail)}
        case AudioPart():
            return {"type": "input_audio", "input_audio": {"data": part.base64_audio, "format": part.format}}
        case FilePart():
            file = _given(file_id=part.file_id, file_data=part.data_url, filename=part.filename)
            return {"type": "file", "file": file}


def _given(**fields: Any) -> JsonObject:
    return {name: value for name, value in fields.items() if value is not None}
