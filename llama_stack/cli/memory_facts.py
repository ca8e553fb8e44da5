"""`llama memory add --facts FILE`: entities and relations for a graph bank, out of a file of JSON."""

import json
from pathlib import Path

import click
from pydantic import TypeAdapter, ValidationError

from llama_stack.api.memory import Facts
from llama_stack.errors import InvalidRequest, NotFound
from llama_stack.sdk.stack import SyncLlamaStack
from llama_stack.wire.validation import invalid_request

_FACTS: TypeAdapter[list[Facts]] = TypeAdapter(list[Facts])


def read_facts(file: str) -> list[Facts]:
    """What documents say: a JSON list of objects with the fields of `Facts`. `-` is the standard input.

    Raises InvalidRequest naming the place in the file that is wrong.
    """
    try:
        with click.open_file(file, encoding="utf-8") as opened:
            text = opened.read()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"--facts: {file!r} cannot be read: {error}") from error
    where = "standard input" if file == "-" else Path(file).name
    try:
        said = json.loads(text)
        facts = _FACTS.validate_python(said)
    except ValidationError as error:
        raise invalid_request(error, said, under=where) from error
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{where} is not JSON: {error}") from error
    if not facts:
        raise InvalidRequest(f"--facts: there are none in {file!r}")
    return facts


def add_facts(stack: SyncLlamaStack, bank: str, facts: list[Facts]) -> bool:
    """Tells whether the bank had to be made."""
    is_new = False
    try:
        stack.memory.stats(bank)
    except NotFound:
        stack.memory.create_bank(bank, "graph")
        is_new = True
    stack.memory.add_facts(*facts, bank=bank)
    return is_new
