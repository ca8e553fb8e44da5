"""MCP's words for tools and their results, and ours (MCP specification 2025-11-25, "Tools")."""

import base64
import json
import re

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
    Tool,
)

from llama_stack.api.messages import Content, ContentPart, ImagePart, TextPart
from llama_stack.api.tools import ToolDefinition, ToolResult

_IMAGES = {"image/png": b"\x89PNG", "image/jpeg": b"\xff\xd8\xff", "image/gif": b"GIF8", "image/webp": b"RIFF"}
"""What models read, by how it begins. Any other image they refuse, and with it the whole conversation it stands in."""
_HEAD_CHARS = 16
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")


def definition_of(tool: Tool) -> ToolDefinition:
    """The tool as a model is told of it. Its schema is passed on whole, definitions and nesting included."""
    return ToolDefinition(name=tool.name, description=tool.description or tool.title, parameters=tool.input_schema)


def result_of(result: CallToolResult) -> ToolResult:
    """What the tool gave back. Structured content stays in the metadata, and is the text where there is no other."""
    parts = [part_of(block) for block in result.content]
    structured = result.structured_content
    if structured is not None and not any(isinstance(part, TextPart) for part in parts):
        parts.insert(0, TextPart(text=json.dumps(structured, ensure_ascii=False)))
    return ToolResult(
        content=joined(parts),
        is_error=bool(result.is_error),
        metadata={} if structured is None else {"structured_content": structured},
    )


def joined(parts: list[ContentPart]) -> Content:
    """Plain text where there is nothing else: every model reads that."""
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    return "\n".join(texts) if len(texts) == len(parts) else parts


def part_of(block: ContentBlock) -> ContentPart:
    """The block as a model reads it; what it cannot read, as a line that says what it is."""
    match block:
        case TextContent(text=text):
            return TextPart(text=text)
        case ImageContent(data=data, mime_type=mime_type):
            return _image(data, mime_type, "image")
        case AudioContent(data=data, mime_type=mime_type):
            return TextPart(text=f"[audio, {mime_type}, {_size(data)} bytes, not shown]")
        case EmbeddedResource(resource=TextResourceContents() as resource):
            return TextPart(text=f"[resource {resource.uri}]\n{resource.text}")
        case EmbeddedResource(resource=BlobResourceContents() as resource):
            return _image(resource.blob, resource.mime_type or "application/octet-stream", f"resource {resource.uri}")
        case ResourceLink():
            about = f": {block.description}" if block.description else ""
            return TextPart(text=f"[link to {block.title or block.name}, {block.uri}]{about}")
        case _:
            return TextPart(text=f"[content of type {block.type}, not shown]")


def _image(data: str, mime_type: str, what: str) -> ContentPart:
    text = "".join(data.split())
    if len(text) > _HEAD_CHARS and len(text) % 4 == 0 and _BASE64.fullmatch(text):
        head = base64.b64decode(text[:_HEAD_CHARS])
        for kind, beginning in _IMAGES.items():
            if head.startswith(beginning):
                return ImagePart(url=f"data:{kind};base64,{text}")
    return TextPart(text=f"[{what}, {mime_type}, {_size(data)} bytes, not shown]")


def _size(base64_text: str) -> int:
    return len(base64_text) * 3 // 4
