"""A provider's settings of a bank, and what is written down beside the bank."""

from typing import TypeVar

from pydantic import ValidationError

from llama_stack.api.chunk_index import BankPlace
from llama_stack.api.common import JsonObject
from llama_stack.errors import Conflict, InvalidRequest
from llama_stack.provider import ProviderConfig

SettingsT = TypeVar("SettingsT", bound=ProviderConfig)


def settings_of(bank: BankPlace, defaults: SettingsT, who: str) -> SettingsT:
    """The bank's params over the provider's defaults. Raises InvalidRequest that names the wrong one."""
    try:
        return type(defaults).model_validate({**defaults.model_dump(), **bank.params})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(["params", *map(str, first["loc"])])
        known = ", ".join(type(defaults).model_fields)
        raise InvalidRequest(f"{name}: {first['msg']}; {who} knows {known}", param=name) from None


def check_no_settings(bank: BankPlace) -> None:
    if bank.params:
        raise InvalidRequest(f"this provider has no settings for a bank, not {sorted(bank.params)}", param="params")


def record_of(bank: BankPlace, number: int) -> JsonObject:
    """What is kept with the bank. number: of the format in which its chunks are kept."""
    return {"format": number, "dimension": bank.dimension, "keyword": bank.keyword}


def check_record(record: object, number: int, name: str, bank: BankPlace) -> None:
    """Holds what is there already, under this name, against the bank that is asked for. Raises Conflict."""
    if not isinstance(record, dict) or not isinstance(record.get("format"), int):
        raise Conflict(f"{name} is there and was not made by this provider; rename or drop it")
    if record["format"] > number:
        raise Conflict(f"{name} was made by a newer version, format {record['format']}; this one reads {number}")
    check_same(bank, record.get("dimension"), keyword=record.get("keyword"))


def check_same(bank: BankPlace, dimension: object, *, keyword: object) -> None:
    """dimension, keyword: of the bank that is there. Raises Conflict."""
    if dimension != bank.dimension:
        raise Conflict(
            f"the bank is there with vectors of {dimension} numbers, not {bank.dimension}:"
            " give the new one another id, or delete the old one"
        )
    if keyword != bank.keyword:
        raise Conflict(f"the bank is there {'without' if bank.keyword else 'with'} keyword search")
