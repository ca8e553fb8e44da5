"""Schemas as they enter: what is none is refused each time, what is one is looked through once."""

import json
from typing import Any

import pytest

from llama_stack.errors import InvalidRequest
from llama_stack.wire import json_schemas
from llama_stack.wire.json_schemas import checked_parameters, checked_schema

CITY: Any = {"type": "object", "properties": {"city": {"type": "string"}}}


def test_what_was_found_good_is_not_looked_through_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh: Any = {**CITY, "title": "looked through once"}
    checked_parameters(fresh, "p")

    def never(schema: Any, *rest: Any) -> Any:
        raise AssertionError("looked through again")

    monkeypatch.setattr(json_schemas, "_parts", never)
    same = json.loads(json.dumps(fresh))
    assert checked_schema(same, "p") is same
    with pytest.raises(AssertionError):
        checked_schema({**fresh, "title": "another"}, "p")


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_schemas, "_MOST_REMEMBERED", 3)
    monkeypatch.setattr(json_schemas, "_good", type(json_schemas._good)())
    for number in range(10):
        checked_schema({"const": number}, "p")
    assert len(json_schemas._good) == 3


def test_what_is_no_schema_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="p: not a usable JSON schema: /properties/a has an unknown type"):
            checked_schema({"properties": {"a": {"type": "text"}}}, "p")


@pytest.mark.parametrize("reference", ["#", "#/$defs/a~1b", "#/%24defs/a~1b", "#/anyOf/1/items", "#name"])
def test_a_reference_may_lead_to_any_part(reference: str) -> None:
    schema: Any = {
        "$defs": {"a/b": {"type": "string"}},
        "anyOf": [{"type": "null"}, {"type": "array", "items": {"type": "string"}}],
        "properties": {"x": {"$ref": reference}},
    }
    assert checked_schema(schema, "p") is schema


@pytest.mark.parametrize("reference", ["#/$defs/c", "#/anyOf/2", "#/anyOf/x"])
def test_a_reference_to_nothing_is_refused(reference: str) -> None:
    with pytest.raises(InvalidRequest, match="which is not there"):
        checked_schema({"$defs": {}, "anyOf": [{}, {}], "properties": {"x": {"$ref": reference}}}, "p")


def test_a_schema_with_a_number_that_no_wire_carries_is_looked_through() -> None:
    assert checked_schema({"maximum": 2**80}, "p") == {"maximum": 2**80}
