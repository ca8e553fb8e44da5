"""Our words for tools and their results in MCP's (MCP specification 2025-11-25, "Tools")."""

from typing import Any

from mcp_types import AudioContent, CallToolResult, ContentBlock, ImageContent, TextContent, Tool

from llama_stack.api.messages import AudioPart, Content, ContentPart, FilePart, ImagePart, TextPart
from llama_stack.api.tools import ToolResult
from llama_stack.mcp_host.offers import Offer

METADATA_KEY = "llama-stack/metadata"
"""Where a tool's word to the caller (its sources, its timings) stands in the result's `_meta`."""


def encode_offer(offer: Offer) -> Tool:
    return Tool(
        name=offer.name,
        description=offer.description,
        input_schema=offer.input_schema,
        output_schema=offer.output_schema,
    )


def encode_result(result: ToolResult) -> CallToolResult:
    metadata = dict(result.metadata)
    structure = metadata.pop("structured_content", None)
    figures = _figures(metadata.pop("figures", None))
    return CallToolResult(
        content=[*_blocks(result.content), *figures],
        structured_content=structure if isinstance(structure, dict) else None,
        is_error=result.is_error,
        _meta={METADATA_KEY: metadata} if metadata else None,
    )


def error_result(message: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=message)], is_error=True)


def _figures(drawn: Any) -> list[ContentBlock]:
    """What a tool drew for its caller's eyes; the code interpreter's model reads only that it is there."""
    shown = [one for one in drawn if isinstance(one, dict)] if isinstance(drawn, list) else []
    return [_block(ImagePart(url=one["url"])) for one in shown if isinstance(one.get("url"), str)]


def _blocks(content: Content) -> list[ContentBlock]:
    if isinstance(content, str):
        return [TextContent(text=content)]
    return [_block(part) for part in content]


def _block(part: ContentPart) -> ContentBlock:
    match part:
        case TextPart(text=text):
            return TextContent(text=text)
        case ImagePart(url=url):
            media, _, data = url.removeprefix("data:").partition(";base64,")
            return ImageContent(data=data, mime_type=media) if data else TextContent(text=f"[image {url}]")
        case AudioPart(base64_audio=data, format=audio_format):
            return AudioContent(data=data, mime_type=f"audio/{audio_format}")
        case FilePart(filename=filename, file_id=file_id):
            return TextContent(text=f"[file {filename or file_id or 'without a name'}, not shown]")
