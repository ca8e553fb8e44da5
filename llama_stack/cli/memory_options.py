"""What the commands about memory share: which stack, which bank, and KEY=VALUE whose values have a type."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import click

from llama_stack.api.filters import Comparison, Compound
from llama_stack.cli.agent_chat import open_stack
from llama_stack.cli.chat_screen import printable
from llama_stack.cli.choosing import DEFAULT_DISTRIBUTION
from llama_stack.sdk.memory import DEFAULT_BANK
from llama_stack.sdk.stack import SyncLlamaStack

_OPERATORS = {"=": "eq", "!=": "ne", ">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_BREAK = re.compile(r"\r\n|[\t\n\v\f\r\x85\u2028\u2029]")
_CONDITION = re.compile(r"([^=!<>]+?)\s*(!=|>=|<=|=|>|<)\s*(.*)", re.DOTALL)


def memory_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that choose a stack. The command receives `where`, for `opened`."""

    @wraps(command)
    def receive(*args: Any, distribution: str, url: str | None, api_key: str | None, **kwargs: Any) -> None:
        command(*args, where=(distribution, url, api_key), **kwargs)

    for option in _OPTIONS:
        receive = option(receive)
    return receive


def bank_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option("--bank", metavar="BANK", default=DEFAULT_BANK, show_default=True, help="The memory bank.")(
        command
    )


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--api-key", envvar="LLAMA_STACK_API_KEY", help="What the server at --url asks for."),
    click.option("--url", metavar="URL", help="A served stack, in place of a distribution."),
    click.option(
        "--distribution",
        metavar="NAME|PATH",
        default=DEFAULT_DISTRIBUTION,
        show_default=True,
        help="The stack that is opened in this process.",
    ),
)


@contextmanager
def opened(where: tuple[str, str | None, str | None]) -> Iterator[SyncLlamaStack]:
    """The stack that `memory_options` chose."""
    with open_stack(*where, None).start() as stack:
        yield stack


def one_line(text: str) -> str:
    """For a cell of a table: each break of a line, and each tab, is a space."""
    return printable(_BREAK.sub(" ", text))


def read_attributes(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, Any]:
    """An option's callback: each KEY=VALUE as metadata."""
    found: dict[str, Any] = {}
    for given in values:
        key, equals, value = given.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{given!r} is not KEY=VALUE, such as --attribute product=kettle", ctx, param)
        found[key] = typed(value)
    return found


def read_filters(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> Comparison | Compound | None:
    """An option's callback: all conditions must be fulfilled; of several equalities of one key, one."""
    parts: list[Comparison | Compound] = []
    equal: dict[str, list[Any]] = {}
    for given in values:
        match = _CONDITION.fullmatch(given)
        if match is None:
            raise click.BadParameter(f"{given!r} is not KEY=VALUE, such as --filter product=kettle", ctx, param)
        key, operator, value = match.groups()
        if operator == "=":
            equal.setdefault(key, []).append(typed(value))
        else:
            parts.append(Comparison.model_validate({"type": _OPERATORS[operator], "key": key, "value": typed(value)}))
    for key, wanted in equal.items():
        several = len(wanted) > 1
        parts.append(Comparison(type="in" if several else "eq", key=key, value=wanted if several else wanted[0]))
    if len(parts) > 1:
        return Compound(type="and", filters=parts)
    return parts[0] if parts else None


def typed(value: str) -> str | int | float | bool:
    """true, false and numbers are what they look like; anything else, and what stands in double quotes, is text."""
    try:
        read = json.loads(value, parse_constant=lambda name: name)
    except ValueError:
        return value
    return read if isinstance(read, str | int | float | bool) else value
