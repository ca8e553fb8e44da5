"""Texts that a caller's template makes: Jinja2 in its sandbox, and of its language only what cannot run away.

The sandbox keeps a template from leaving its data; it does not keep it from running for ever or filling the memory. So
what could is refused before it is run: assignments, calls, arithmetic on texts, loops within loops.
"""

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from llama_stack.errors import InvalidRequest

if TYPE_CHECKING:
    from jinja2 import Environment, Template, nodes

MAX_TEMPLATE_CHARACTERS = 20_000
MAX_TEXT_CHARACTERS = 200_000

_NODES = frozenset(
    {
        "Template", "Output", "TemplateData", "Name", "Const", "Getattr", "Getitem", "For", "If", "CondExpr",
        "Compare", "Operand", "And", "Or", "Not", "Filter", "Test", "Keyword", "List", "Tuple", "Slice", "Neg",
    }
)  # fmt: skip
_FILTERS = frozenset(
    {
        "capitalize", "count", "d", "default", "e", "escape", "first", "int", "join", "last", "length", "list", "lower",
        "map", "reverse", "selectattr", "rejectattr", "string", "title", "tojson", "trim", "truncate", "upper",
        "wordcount",
    }
)  # fmt: skip


async def render(template: str, values: dict[str, Any], *, param: str) -> str:
    """The template's text. Raises InvalidRequest, naming `param`, for one that is wrong, too long or not allowed."""
    if len(template) > MAX_TEMPLATE_CHARACTERS:
        raise InvalidRequest(f"{param}: a template has at most {MAX_TEMPLATE_CHARACTERS} characters", param=param)
    return await asyncio.to_thread(_rendered, template, values, param)


def _rendered(template: str, values: dict[str, Any], param: str) -> str:
    from jinja2 import TemplateError

    try:
        parts, length = [], 0
        for part in _compiled(template).generate(values):
            parts.append(part)
            length += len(part)
            if length > MAX_TEXT_CHARACTERS:
                raise InvalidRequest(
                    f"{param}: the template makes more than {MAX_TEXT_CHARACTERS} characters", param=param
                )
        return "".join(parts)
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise InvalidRequest(f"{param}: the template fails: {error}", param=param) from error


@lru_cache(maxsize=128)
def _compiled(template: str) -> "Template":
    """Raises ValueError for what is not allowed, TemplateError for what is no template."""
    environment = _environment()
    _check(environment.parse(template), inside_loop=False)
    return environment.from_string(template)


def _check(node: "nodes.Node", *, inside_loop: bool) -> None:
    kind = type(node).__name__
    if kind not in _NODES:
        raise ValueError(f"{kind} is not served here; a template has texts, values, filters, one loop and conditions")
    if kind == "Filter" and getattr(node, "name", "") not in _FILTERS:
        raise ValueError(
            f"the filter {getattr(node, 'name', '')!r} is not served; there are {', '.join(sorted(_FILTERS))}"
        )
    if kind == "For":
        if inside_loop or getattr(node, "recursive", False):
            raise ValueError("a loop within a loop is not served")
        inside_loop = True
    for child in node.iter_child_nodes():
        _check(child, inside_loop=inside_loop)


@lru_cache(maxsize=1)
def _environment() -> "Environment":
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
