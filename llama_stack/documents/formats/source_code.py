"""Source code: a block for each function and class, so that what belongs together stays together."""

import ast
import re
import warnings
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise

from llama_stack.documents.blocks import Block, BlockKind, DocumentBuilder
from llama_stack.documents.formats.plain import text_of

LONG_CLASS_LINES = 60
"""A class with more lines gives a block for each of its methods."""

_GROUP = re.compile(r"\S")
_CLOSING = re.compile(r"[\])}]|end\b|else\b|elif\b|except\b|finally\b")


def read_python(content: bytes, builder: DocumentBuilder) -> None:
    text = text_of(content, builder)
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        _add_groups(text, builder)
        return
    lines = text.split("\n")
    _add_parts(text, lines, [(line, title) for line, title in _python_starts(tree.body, lines, "")], builder)


def read_code(content: bytes, builder: DocumentBuilder) -> None:
    """Any other language: a part begins where, after a blank line, a line stands at the margin."""
    _add_groups(text_of(content, builder), builder)


def _python_starts(body: Iterable[ast.stmt], lines: list[str], within: str) -> Iterator[tuple[int, str]]:
    """Line numbers, from 0, where a part begins, and what it defines; statements between definitions are one part."""
    loose = False
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if not loose:
                yield _with_comments(node.lineno - 1, lines), within
            loose = True
            continue
        loose = False
        title = f"{within}.{node.name}" if within else node.name
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
        yield _with_comments(first, lines), title
        length = (node.end_lineno or node.lineno) - node.lineno
        if isinstance(node, ast.ClassDef) and length > LONG_CLASS_LINES:
            methods = (inner for inner in node.body if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef))
            yield from _python_starts(methods, lines, title)


def _with_comments(line: int, lines: list[str]) -> int:
    """Comments right above a definition belong to it."""
    while line > 0 and lines[line - 1].lstrip().startswith("#"):
        line -= 1
    return line


def _add_groups(text: str, builder: DocumentBuilder) -> None:
    lines = text.split("\n")
    starts = [
        (number, "")
        for number, line in enumerate(lines)
        if number > 0 and not lines[number - 1].strip() and _GROUP.match(line) and not _CLOSING.match(line)
    ]
    _add_parts(text, lines, starts, builder)


def _add_parts(text: str, lines: list[str], starts: list[tuple[int, str]], builder: DocumentBuilder) -> None:
    positions = [0, *accumulate(len(line) + 1 for line in lines)]
    # What stands above the first statement is a part too: comments, a licence.
    bounds = dict([(0, ""), *starts])
    begins = [*sorted(bounds), len(lines)]
    blocks = []
    for first, last in pairwise(begins):
        part = text[positions[first] : positions[last]]
        if part.strip():
            start = positions[first] + len(part) - len(part.lstrip("\n"))
            blocks.append(Block(BlockKind.CODE, start, positions[first] + len(part.rstrip()), title=bounds[first]))
    builder.add_source(text, blocks)
