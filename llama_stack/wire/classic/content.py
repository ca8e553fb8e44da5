"""Interleaved content (`InterleavedContent` of `llama-stack-client` 0.2.12), both directions: a string, one item, or a
list of items, where an item is text or an image.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from llama_stack.api.common import JsonObject
from llama_stack.api.messages import AudioPart, Content, ContentPart, FilePart, ImagePart, ImageUrl, TextPart
from llama_stack.wire.classic.body import ClassicBody


class UrlBody(ClassicBody):
    uri: str


class ImageUrlBody(ClassicBody):
    uri: ImageUrl


class ImageBody(ClassicBody):
    """`url` is http(s) or a `data:` URL; `data` is the image itself in base64."""

    url: ImageUrlBody | None = None
    data: str | None = None

    @model_validator(mode="after")
    def _has_an_image(self) -> "ImageBody":
        if self.url is None and _image_type(self.data) is None:
            raise ValueError(
                "needs a url, or data that is a PNG, JPEG, GIF or WebP file in base64; "
                "for another type send a data: URL that names it"
            )
        return self

    def at_url(self) -> str:
        return f"data:image/{_image_type(self.data)};base64,{self.data}" if self.url is None else self.url.uri


class TextItemBody(ClassicBody):
    type: Literal["text"]
    text: str


class ImageItemBody(ClassicBody):
    type: Literal["image"]
    image: ImageBody


ContentItemBody = Annotated[TextItemBody | ImageItemBody, Field(discriminator="type")]
ContentBody = str | ContentItemBody | list[ContentItemBody]

_IMAGE_TYPES = {"iVBORw0KGgo": "png", "/9j/": "jpeg", "R0lGOD": "gif", "UklGR": "webp"}
"""First base64 characters of a file of each type that vision models read."""


def _image_type(data: str | None) -> str | None:
    return next((kind for beginning, kind in _IMAGE_TYPES.items() if (data or "").startswith(beginning)), None)


def decode_content(body: ContentBody) -> Content:
    if isinstance(body, str):
        return body
    return [_decode_item(item) for item in (body if isinstance(body, list) else [body])]


def content_parts(content: Content) -> list[ContentPart]:
    """The content as parts, so that other parts can be put beside them."""
    return [TextPart(text=content)] if isinstance(content, str) else list(content)


def _decode_item(item: TextItemBody | ImageItemBody) -> ContentPart:
    if isinstance(item, TextItemBody):
        return TextPart(text=item.text)
    return ImagePart(url=item.image.at_url())


def encode_content(content: Content | None) -> str | list[JsonObject]:
    """A file or a piece of audio, for which the classic shape has no word, is named in text."""
    if content is None:
        return ""
    return content if isinstance(content, str) else [_encode_part(part) for part in content]


def _encode_part(part: ContentPart) -> JsonObject:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            return {"type": "image", "image": {"url": {"uri": part.url}}}
        case FilePart():
            return {"type": "text", "text": f"[file {part.filename or part.file_id or 'without a name'}]"}
        case AudioPart():
            return {"type": "text", "text": f"[audio in {part.format}]"}
