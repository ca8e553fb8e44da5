"""What may not go in, whatever bank it is for."""

import json
from collections import Counter
from collections.abc import Sequence

from llama_stack.api.common import JsonObject
from llama_stack.api.memory import SearchMode
from llama_stack.api.resources import GraphBank, KeyValueBank, MemoryBank
from llama_stack.errors import InvalidRequest, UnsupportedParameter

MAX_BANK_ID_CHARACTERS = 512
MAX_METADATA_KEYS = 64
MAX_METADATA_CHARACTERS = 16_384
_NOT_IN_BANK_IDS = frozenset("?#%\\")


def check_bank_id(identifier: str) -> None:
    """Raises InvalidRequest for an id that a client could not put into a path."""
    is_fit = identifier.isprintable() and not _NOT_IN_BANK_IDS.intersection(identifier)
    parts = identifier.split("/")
    if (
        not is_fit
        or not 1 <= len(identifier) <= MAX_BANK_ID_CHARACTERS
        or any(part in ("", ".", "..") for part in parts)
    ):
        raise InvalidRequest(
            f"identifier: {identifier[:64]!r} cannot be the id of a memory bank: it has 1 to {MAX_BANK_ID_CHARACTERS} "
            "letters, digits, spaces and marks such as - _ . : @, in parts between /; not ? # % \\ nor control "
            "characters, and no part is empty, . or ..",
            param="identifier",
        )


def check_metadata(metadata: JsonObject) -> None:
    """Raises InvalidRequest for more than what every backend keeps, and for what is no JSON."""
    if len(metadata) > MAX_METADATA_KEYS:
        raise InvalidRequest(
            f"metadata has {len(metadata)} keys; at most {MAX_METADATA_KEYS} are kept", param="metadata"
        )
    try:
        size = len(json.dumps(metadata, allow_nan=False))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidRequest(f"metadata is not JSON: {error}", param="metadata") from error
    if size > MAX_METADATA_CHARACTERS:
        raise InvalidRequest(
            f"metadata has {size} characters as JSON; at most {MAX_METADATA_CHARACTERS} are kept with every chunk",
            param="metadata",
        )


def check_ids(document_ids: Sequence[str]) -> None:
    if not document_ids:
        raise InvalidRequest("documents: there are none", param="documents")
    twice = next((one for one, times in Counter(document_ids).items() if times > 1), None)
    if twice is not None:
        raise InvalidRequest(
            f"documents: {twice!r} stands twice; every document has an id of its own", param="documents"
        )


def check_mode(banks: Sequence[MemoryBank], mode: SearchMode | None) -> None:
    """Raises UnsupportedParameter for a mode where a bank is asked by what it holds, not searched."""
    for bank in banks if mode is not None else ():
        match bank.bank:
            case KeyValueBank():
                asked = "a key-value bank, which is asked for `keys`"
            case GraphBank():
                asked = "a graph bank, which is asked for `entities`"
            case _:
                continue
        raise UnsupportedParameter(f"{bank.identifier!r} is {asked}; leave out mode", param="mode")
