"""JSON and JSON lines as text: a line a value, under its path."""

import json
from collections.abc import Iterator
from typing import Any

from llama_stack.documents.blocks import BlockKind, DocumentBuilder
from llama_stack.documents.failures import DocumentUnreadable
from llama_stack.documents.formats.plain import add_plain, text_of


def read_json(content: bytes, builder: DocumentBuilder) -> None:
    """Elements of the outermost array are blocks of their own, as are the members of the outermost object."""
    text = text_of(content, builder)
    try:
        value = _parsed(text)
    except ValueError:
        _read_lines(text, builder)
        return
    _add_value(value, builder)


def read_json_lines(content: bytes, builder: DocumentBuilder) -> None:
    _read_lines(text_of(content, builder), builder)


def _read_lines(text: str, builder: DocumentBuilder) -> None:
    lines = [line for line in text.split("\n") if line.strip()]
    try:
        values = [_parsed(line) for line in lines]
    except ValueError as error:
        builder.warn(f"it is not valid JSON ({error}); it was read as plain text")
        add_plain(text, builder)
        return
    for value in values:
        _add_block("", value, builder)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise DocumentUnreadable(
            "its JSON is nested too deeply to be read; flatten it and send it again", code="too_complex"
        ) from error


def _add_value(value: Any, builder: DocumentBuilder) -> None:
    if isinstance(value, list):
        for element in value:
            _add_block("", element, builder)
    elif isinstance(value, dict):
        simple = {key: inner for key, inner in value.items() if not isinstance(inner, dict | list)}
        _add_block("", simple, builder)
        for key, inner in value.items():
            if isinstance(inner, list) and any(isinstance(element, dict | list) for element in inner):
                for index, element in enumerate(inner):
                    _add_block(f"{key}[{index}]", element, builder)
            elif isinstance(inner, dict | list):
                _add_block(key, inner, builder)
    else:
        _add_block("", value, builder)


def _add_block(path: str, value: Any, builder: DocumentBuilder) -> None:
    lines, size = [], 0
    for line in _lines(path, value):
        lines.append(line)
        size += len(line)
        # Long keys repeat in every path below them: a small file can give a text without bound.
        if size > builder.max_text_characters:
            break
    builder.add(BlockKind.LIST, "\n".join(lines))


def _lines(path: str, value: Any) -> Iterator[str]:
    """A line for each value that holds no other; lists of simple values stand on one line."""
    waiting: list[tuple[str, Any]] = [(path, value)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict) and value:
            waiting += [(f"{path}.{key}" if path else str(key), inner) for key, inner in reversed(value.items())]
        elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
            waiting += [(f"{path}[{index}]", inner) for index, inner in reversed(list(enumerate(value)))]
        else:
            shown = ", ".join(map(_shown, value)) if isinstance(value, list | dict) else _shown(value)
            yield f"{path}: {shown}" if path else shown


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value)
