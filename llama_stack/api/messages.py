"""Messages of a conversation, their content parts and the tool calls in them.

A superset of the OpenAI chat vocabulary (API reference, "Chat", object `messages`) in today's common words.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from llama_stack.api.common import JsonObject, Word


class TextPart(Word):
    type: Literal["text"] = "text"
    text: str


IMAGE_SCHEMES = ("http://", "https://", "data:")


def is_image_url(url: str) -> bool:
    """Whether a model's provider may be asked to read this. Of a file or a network share it could read its own."""
    return url[:8].lower().startswith(IMAGE_SCHEMES)


def _checked_image_url(url: str) -> str:
    if not is_image_url(url):
        raise ValueError("must be an http, https or data URL")
    return url


ImageUrl = Annotated[str, AfterValidator(_checked_image_url)]
"""Where an image is, in what comes from outside. Words that are stored already are not checked again."""


class ImagePart(Word):
    """One image. `url` is http(s) or a `data:` URL with base64 content; `detail` is a hint for vision models."""

    type: Literal["image"] = "image"
    url: str
    detail: Literal["auto", "low", "high"] | None = None


class FilePart(Word):
    """A file handed to a model that reads files itself: by id of an uploaded file, or inline as a `data:` URL."""

    type: Literal["file"] = "file"
    file_id: str | None = None
    data_url: str | None = None
    filename: str | None = None


class AudioPart(Word):
    """Input audio, base64 in the named container format."""

    type: Literal["audio"] = "audio"
    base64_audio: str
    format: str


ContentPart = Annotated[TextPart | ImagePart | FilePart | AudioPart, Field(discriminator="type")]
Content = str | list[ContentPart]
"""Plain text, or parts in reading order."""


class ToolCall(Word):
    """The model's wish to have a tool run.

    arguments: one JSON text exactly as the model wrote it; it may be invalid JSON, and whoever runs the tool
        reports that back to the model. Kept as text so that re-serialising can never change a call.
    extra: a partner's own fields that must round-trip (such as a thought signature).
    """

    id: str
    name: str
    arguments: str
    extra: JsonObject = {}


class SystemMessage(Word):
    """Instructions. `developer` messages of newer OpenAI models are this role too."""

    role: Literal["system"] = "system"
    content: Content
    name: str | None = None


class UserMessage(Word):
    role: Literal["user"] = "user"
    content: Content
    name: str | None = None


class AssistantMessage(Word):
    """What the model said. `content` is None when it only called tools.

    reasoning: the model's thinking text where the provider shows it; refusal: its refusal, where marked as such.
    """

    role: Literal["assistant"] = "assistant"
    content: Content | None = None
    tool_calls: list[ToolCall] = []
    reasoning: str | None = None
    refusal: str | None = None
    name: str | None = None
    extra: JsonObject = {}


class ToolMessage(Word):
    """The result of one call. `name` is the tool's name where the caller gave it; some prompt formats need it."""

    role: Literal["tool"] = "tool"
    tool_call_id: str
    content: Content
    name: str | None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


def text_of(content: Content | None) -> str:
    """All text of the content, parts joined without separator; other parts are skipped."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content if isinstance(part, TextPart))


def has_images(messages: list[Message]) -> bool:
    """Whether any message holds an image part."""
    return any(
        isinstance(part, ImagePart)
        for message in messages
        if isinstance(message.content, list)
        for part in message.content
    )


def misplaced_image(messages: Sequence[Message]) -> str | None:
    """The field of the first image that no provider may be asked to read, as in `messages.0.content.1.url`.

    Those of tools are not looked at: see `with_unseen_images`.
    """
    for position, message in enumerate(messages):
        if isinstance(message, ToolMessage) or not isinstance(message.content, list):
            continue
        for number, part in enumerate(message.content):
            if isinstance(part, ImagePart) and not is_image_url(part.url):
                return f"messages.{position}.content.{number}.url"
    return None


UNSEEN_IMAGE = "[An image, which this model cannot see.]"
MISPLACED_IMAGE = "[An image, whose address is no http, https or data URL.]"


def with_unseen_images(messages: list[Message], *, sees: bool = False) -> list[Message]:
    """The messages with a line of text in place of every image in a tool's result that the model cannot read.

    Nobody chose that image for this model: its tool did. sees: it reads images, but none from such an address.
    """
    return [_with_unseen_images(message, sees) if isinstance(message, ToolMessage) else message for message in messages]


def _with_unseen_images(message: ToolMessage, sees: bool) -> ToolMessage:
    if not has_images([message]):
        return message
    parts = [_seen(part, sees) if isinstance(part, ImagePart) else part for part in message.content]
    return message.model_copy(update={"content": parts})


def _seen(part: ImagePart, sees: bool) -> ContentPart:
    if not sees:
        return TextPart(text=UNSEEN_IMAGE)
    return part if is_image_url(part.url) else TextPart(text=MISPLACED_IMAGE)
