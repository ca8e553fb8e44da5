"""Content blocks of messages as they come in (API reference, "Messages", `messages[].content`), and what they become.

`cache_control` is accepted everywhere and left alone: it says what to keep, and cannot change an answer.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from llama_stack.api.common import JsonObject
from llama_stack.api.messages import Content, ContentPart, FilePart, ImagePart, TextPart, ToolCall, is_image_url
from llama_stack.errors import InvalidRequest, UnsupportedParameter
from llama_stack.wire.validation import Body

UNREADABLE_INPUT = "INVALID_JSON"
"""Key under which arguments stand that are no JSON object, as Anthropic's guide to streamed tool use has it."""


class Block(Body):
    cache_control: Any = None


class TextBlock(Block):
    """citations: of an earlier answer; they say where its text came from and are no part of it."""

    type: Literal["text"]
    text: str
    citations: Any = None


class Base64Source(Body):
    type: Literal["base64"]
    media_type: str
    data: str


class UrlSource(Body):
    type: Literal["url"]
    url: str


class FileSource(Body):
    type: Literal["file"]
    file_id: str


class TextSource(Body):
    type: Literal["text"]
    media_type: Literal["text/plain"]
    data: str


ImageSource = Annotated[Base64Source | UrlSource | FileSource, Field(discriminator="type")]


class ImageBlock(Block):
    type: Literal["image"]
    source: ImageSource
    transformations: Any = None


class ContentSource(Body):
    type: Literal["content"]
    content: str | list[Annotated[TextBlock | ImageBlock, Field(discriminator="type")]]


class CitationsSetting(Body):
    enabled: bool | None = None


class DocumentBlock(Block):
    """title, context: told to the model before the document."""

    type: Literal["document"]
    source: Annotated[Base64Source | UrlSource | FileSource | TextSource | ContentSource, Field(discriminator="type")]
    title: str | None = None
    context: str | None = None
    citations: CitationsSetting | None = None


class SearchResultBlock(Block):
    type: Literal["search_result"]
    source: str
    title: str
    content: list[TextBlock]
    citations: CitationsSetting | None = None


class ToolResultBlock(Block):
    type: Literal["tool_result"]
    tool_use_id: str
    content: "str | list[ReadableBlock] | None" = None
    is_error: bool | None = None
    toolset_name: None = None


class ToolUseBlock(Block):
    type: Literal["tool_use"]
    id: str
    name: str
    input: JsonObject
    caller: Any = None
    toolset_name: None = None


class ThinkingBlock(Body):
    type: Literal["thinking"]
    thinking: str
    signature: str | None = None


class RedactedThinkingBlock(Body):
    """Thinking that only its maker can read."""

    type: Literal["redacted_thinking"]
    data: str


ReadableBlock = Annotated[TextBlock | ImageBlock | DocumentBlock | SearchResultBlock, Field(discriminator="type")]
UserBlock = Annotated[
    TextBlock | ImageBlock | DocumentBlock | SearchResultBlock | ToolResultBlock, Field(discriminator="type")
]
AssistantBlock = Annotated[
    TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock, Field(discriminator="type")
]

ToolResultBlock.model_rebuild()


def decode_readable(
    blocks: Sequence[TextBlock | ImageBlock | DocumentBlock | SearchResultBlock], path: str
) -> list[ContentPart]:
    """What a model reads, in reading order; raises as `decode_block`."""
    return [part for number, block in enumerate(blocks) for part in decode_block(block, f"{path}.{number}")]


def decode_block(block: TextBlock | ImageBlock | DocumentBlock | SearchResultBlock, path: str) -> list[ContentPart]:
    """What a model reads of one block. Raises UnsupportedParameter for what nothing here can read."""
    match block:
        case TextBlock(text=text):
            return [TextPart(text=text)]
        case ImageBlock(source=source, transformations=transformations):
            if transformations:
                raise UnsupportedParameter(
                    f"{path}.transformations: images are handed on as they are; leave it out",
                    param=f"{path}.transformations",
                )
            return [ImagePart(url=_image_url(source, path))]
        case SearchResultBlock(title=title, source=where, content=content, citations=citations):
            _refuse_citations(citations, path)
            return [TextPart(text="\n".join([title, where, "", *(part.text for part in content)]))]
        case DocumentBlock():
            return _decode_document(block, path)


def _image_url(source: Base64Source | UrlSource | FileSource, path: str) -> str:
    match source:
        case Base64Source(media_type=media_type, data=data):
            if not media_type.startswith("image/"):
                raise InvalidRequest(
                    f"{path}.source.media_type: {media_type!r} is no image", param=f"{path}.source.media_type"
                )
            return f"data:{media_type};base64,{data}"
        case UrlSource(url=url):
            if not is_image_url(url):
                raise InvalidRequest(
                    f"{path}.source.url: must be an http, https or data URL", param=f"{path}.source.url"
                )
            return url
        case FileSource():
            raise _no_files(path)


def _decode_document(block: DocumentBlock, path: str) -> list[ContentPart]:
    _refuse_citations(block.citations, path)
    about = [text for text in (block.title, block.context) if text]
    head: list[ContentPart] = [TextPart(text="\n".join(about) + "\n\n")] if about else []
    match block.source:
        case TextSource(data=text):
            return [*head, TextPart(text=text)]
        case ContentSource(content=content):
            blocks = [TextBlock(type="text", text=content)] if isinstance(content, str) else content
            return [*head, *decode_readable(blocks, f"{path}.source.content")]
        case Base64Source(media_type=media_type, data=data):
            return [*head, FilePart(data_url=f"data:{media_type};base64,{data}", filename=block.title)]
        case UrlSource():
            raise UnsupportedParameter(
                f"{path}.source: documents are not fetched; send the text, or the file in base64",
                param=f"{path}.source",
            )
        case FileSource():
            raise _no_files(path)


def _no_files(path: str) -> UnsupportedParameter:
    return UnsupportedParameter(
        f"{path}.source: Anthropic's file store is not here; send base64 or a URL", param=f"{path}.source"
    )


def _refuse_citations(citations: CitationsSetting | None, path: str) -> None:
    if citations is not None and citations.enabled:
        raise UnsupportedParameter(
            f"{path}.citations: answers have no citations here; leave it out", param=f"{path}.citations"
        )


def decode_tool_result(block: ToolResultBlock, path: str) -> Content:
    """What the model reads of it. That the tool failed is said in words, because there is no other way to say it."""
    content: Content
    if block.content is None or isinstance(block.content, str):
        content = block.content or ""
    else:
        content = decode_readable(block.content, f"{path}.content")
    if not block.is_error:
        return content
    if isinstance(content, str):
        return content if "error" in content[:40].lower() else f"Error: {content}"
    return [TextPart(text="Error: "), *content]


def decode_tool_use(block: ToolUseBlock) -> ToolCall:
    unreadable = block.input.get(UNREADABLE_INPUT)
    if len(block.input) == 1 and isinstance(unreadable, str):
        return ToolCall(id=block.id, name=block.name, arguments=unreadable)
    return ToolCall(id=block.id, name=block.name, arguments=json.dumps(block.input, ensure_ascii=False))


def encode_tool_input(arguments: str) -> JsonObject:
    """The arguments of a call as an object, which they must be here; others stand under `INVALID_JSON`."""
    try:
        parsed = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        parsed = None
    return parsed if isinstance(parsed, dict) else {UNREADABLE_INPUT: arguments}
