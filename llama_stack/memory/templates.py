"""Texts that a caller's template makes: Jinja2 in its sandbox, with limits on what it may take."""

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from llama_stack.errors import InvalidRequest

if TYPE_CHECKING:
    from jinja2 import Environment, Template

MAX_TEMPLATE_CHARACTERS = 20_000
MAX_TEXT_CHARACTERS = 200_000
TIME_LIMIT_S = 2.0


async def render(template: str, values: dict[str, Any], *, param: str) -> str:
    """The template's text. Raises InvalidRequest, naming `param`, for one that is wrong, too long or too slow."""
    if len(template) > MAX_TEMPLATE_CHARACTERS:
        raise InvalidRequest(f"{param}: a template has at most {MAX_TEMPLATE_CHARACTERS} characters", param=param)
    try:
        async with asyncio.timeout(TIME_LIMIT_S):
            text = await asyncio.to_thread(_rendered, template, values, param)
    except TimeoutError:
        raise InvalidRequest(f"{param}: the template takes longer than {TIME_LIMIT_S:g} s", param=param) from None
    return text


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
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, OverflowError, MemoryError) as error:
        raise InvalidRequest(f"{param}: the template fails: {error}", param=param) from error


@lru_cache(maxsize=128)
def _compiled(template: str) -> "Template":
    return _environment().from_string(template)


@lru_cache(maxsize=1)
def _environment() -> "Environment":
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # It refuses attributes that lead out of the data, and `range` over 100,000.
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
