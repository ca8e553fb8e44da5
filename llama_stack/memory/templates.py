"""Texts that a caller's template makes: Jinja2 in its sandbox, and of its language only what cannot run away.

The sandbox keeps a template from leaving its data; it does not keep it from running for ever or filling the memory. So
what could is refused before it is run: assignments, calls, arithmetic on texts, loops within loops. What a filter makes
of a text is bounded, because filters follow one another.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any

from llama_stack.errors import InvalidRequest

if TYPE_CHECKING:
    from jinja2 import Environment, Template, nodes
    from jinja2.nodes import EvalContext

MAX_TEMPLATE_CHARACTERS = 20_000
MAX_TEXT_CHARACTERS = 200_000
MAX_NESTING = 40
"""Of expressions in one another, such as filters in a row; the time to compile them grows faster than they do."""

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
    except (TemplateError, SyntaxError, RecursionError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise InvalidRequest(f"{param}: the template fails: {error}", param=param) from error


@lru_cache(maxsize=128)
def _compiled(template: str) -> "Template":
    """Raises ValueError for what is not allowed, TemplateError for what is no template."""
    environment = _environment()
    _check(environment.parse(template), inside_loop=False, depth=0)
    return environment.from_string(template)


def _check(node: "nodes.Node", *, inside_loop: bool, depth: int) -> None:
    kind = type(node).__name__
    if depth > MAX_NESTING:
        raise ValueError(f"it is nested deeper than {MAX_NESTING} levels")
    if kind not in _NODES:
        raise ValueError(f"{kind} is not served here; a template has texts, values, filters, one loop and conditions")
    if kind == "Filter" and getattr(node, "name", "") not in _FILTERS:
        raise ValueError(
            f"the filter {getattr(node, 'name', '')!r} is not served; there are {', '.join(sorted(_FILTERS))}"
        )
    if kind in ("List", "Tuple") and any(type(item).__name__ != "Const" for item in getattr(node, "items", ())):
        raise ValueError("a list has texts and numbers, no values: the template would repeat them")
    if kind == "For":
        if inside_loop or getattr(node, "recursive", False):
            raise ValueError("a loop within a loop is not served")
        inside_loop = True
    for child in node.iter_child_nodes():
        _check(child, inside_loop=inside_loop, depth=depth + 1)


@lru_cache(maxsize=1)
def _environment() -> "Environment":
    from jinja2 import StrictUndefined, pass_eval_context
    from jinja2.filters import FILTERS
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            # Nothing is called here, and a method as a text tells where in this process's memory it lies.
            return not callable(value) and super().is_safe_attribute(obj, attr, value)

    environment = Sandbox(undefined=StrictUndefined, autoescape=False)
    environment.globals.clear()
    environment.filters = {name: _bounded(FILTERS[name]) for name in _FILTERS}
    environment.filters["join"] = pass_eval_context(_joined)
    return environment


def _bounded(make: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, which refuses to make a text that is too long for the next one."""

    @wraps(make)
    def filtered(*arguments: Any, **named: Any) -> Any:
        made = make(*arguments, **named)
        if isinstance(made, str):
            _check_length(len(made))
        return made

    return filtered


def _joined(context: "EvalContext", values: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    """Jinja's `join`, which counts before it makes the text: every other filter makes a few times what it is given."""
    from jinja2.filters import do_join

    kept, length = [], 0
    for value in values:
        kept.append(value)
        length += len(str(value)) + len(str(separator))
        _check_length(length)
    return str(do_join(context, kept, separator, attribute))


def _check_length(length: int) -> None:
    if length > MAX_TEXT_CHARACTERS:
        raise ValueError(f"a filter makes more than {MAX_TEXT_CHARACTERS} characters")
