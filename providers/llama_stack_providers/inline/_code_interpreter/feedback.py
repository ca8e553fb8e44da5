"""What the model reads of a call, and what its caller gets beside.

The words are those that Llama 3.1 was trained on for its code interpreter: `completed` or `failed`, then what was
printed between `[stdout]` and `[/stdout]`, and `[stderr]` and `[/stderr]`.
"""

import mimetypes
from typing import Any

from llama_stack.api.messages import ImagePart
from llama_stack.api.tools import ToolResult
from llama_stack_providers.inline._code_interpreter.protocol import decode_base64, png_size
from llama_stack_providers.inline._code_interpreter.session import Outcome


def tool_result(outcome: Outcome, shown_bytes: int, lost_before: str | None, details: dict[str, Any]) -> ToolResult:
    """lost_before: why variables of earlier calls are not there any more. details: more for the caller's eyes."""
    lines = ["failed" if outcome.error else "completed"]
    errors = "\n".join(part.strip("\n") for part in (outcome.printed["stderr"], outcome.error or "") if part)
    for stream, text in (("stdout", outcome.printed["stdout"]), ("stderr", errors)):
        if text.strip():
            lines.append(f"[{stream}]{shorten(text.strip(chr(10)), shown_bytes)}[/{stream}]")
    figures = []
    for number, image in enumerate(outcome.figures, 1):
        width, height = png_size(decode_base64(image))
        lines.append(f"<figure {number}: {width}x{height} png>")
        named = {"name": outcome.figure_names[number - 1]} if number <= len(outcome.figure_names) else {}
        figures.append({**ImagePart(url=f"data:image/png;base64,{image}").model_dump(exclude_none=True), **named})
    names = [*(f"{made.name} ({made.size} bytes)" for made in outcome.files), *outcome.figure_names]
    if names:
        lines.append(f"[files]{shorten(', '.join(names), shown_bytes)}[/files]")
    if lost_before:
        lines.append(f"[notice]Variables and files of earlier calls are lost: {lost_before}.[/notice]")
    if outcome.ended:
        lines.append("[notice]The interpreter was restarted; all variables and files are lost.[/notice]")
    metadata: dict[str, Any] = {**details, "exit_reason": outcome.exit_reason, "figures": figures}
    metadata["files"] = [_listed(made.name, made.size, made.content) for made in outcome.files]
    if outcome.limit is not None:
        metadata["limit"] = outcome.limit
    return ToolResult(content="\n".join(lines), is_error=outcome.error is not None, metadata=metadata)


def shorten(text: str, most_bytes: int) -> str:
    """The text, with its middle left out where it is longer: beginnings and ends say most."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= most_bytes:
        return text
    half = most_bytes // 2
    head, tail = encoded[:half].decode("utf-8", "ignore"), encoded[-half:].decode("utf-8", "ignore")
    return f"{head}\n... {len(encoded) - 2 * half} bytes left out ...\n{tail}"


def _listed(name: str, size: int, content: str | None) -> dict[str, Any]:
    """A file as a `data:` URL (RFC 2397); without one where it was too large."""
    kind = mimetypes.guess_type(name, strict=False)[0] or "application/octet-stream"
    url = None if content is None else f"data:{kind};base64,{content}"
    return {"name": name, "size_bytes": size, "url": url}
