"""Faults of a call's arguments against a foreign schema, each named with its place."""

from typing import Any

import pytest

from llama_stack.agents.json_schema import schema_faults
from llama_stack.api.common import JsonObject

ORDER: JsonObject = {
    "type": "object",
    "properties": {
        "item": {"type": "string", "minLength": 2, "pattern": "^[a-z]+$"},
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
        "size": {"enum": ["s", "m", 1]},
        "to": {"$ref": "#/$defs/place"},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "kind": {"const": "order"},
        "price": {"type": ["number", "null"]},
    },
    "required": ["item"],
    "additionalProperties": False,
    "$defs": {
        "place": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.mark.parametrize(
    "value",
    [
        {"item": "tea"},
        {"item": "tea", "count": 9, "size": 1, "to": {"city": "Bergen"}, "tags": ["a"], "note": None},
        {"item": "tea", "count": 3.0, "kind": "order", "price": 2},
    ],
)
def test_what_fits_has_no_fault(value: Any) -> None:
    assert schema_faults(value, ORDER) == []


@pytest.mark.parametrize(
    ("value", "faults"),
    [
        ([], ["the arguments must be of type object, not []"]),
        ({}, ["item is required"]),
        ({"item": 3}, ["item must be of type string, not 3"]),
        ({"item": "x"}, ["item must have at least 2 characters"]),
        ({"item": "Tea"}, ["item must match ^[a-z]+$"]),
        ({"item": "tea", "count": 1.5}, ["count must be of type integer, not 1.5"]),
        ({"item": "tea", "count": True}, ["count must be of type integer, not true"]),
        ({"item": "tea", "count": 0}, ["count must be at least 1"]),
        ({"item": "tea", "count": 10}, ["count must be at most 9"]),
        ({"item": "tea", "size": "xl"}, ['size must be one of "s", "m", 1, not "xl"']),
        ({"item": "tea", "size": True}, ['size must be one of "s", "m", 1, not true']),
        ({"item": "tea", "to": {}}, ["to.city is required"]),
        ({"item": "tea", "tags": ["a", 2]}, ["tags[1] must be of type string, not 2"]),
        ({"item": "tea", "tags": ["a", "b", "c"]}, ["tags must have at most 2 items"]),
        ({"item": "tea", "note": 1}, ["note must be of type string, not 1 or note must be of type null, not 1"]),
        ({"item": "tea", "kind": "gift"}, ['kind must be "order", not "gift"']),
        ({"item": "tea", "price": "2"}, ['price must be of type number or null, not "2"']),
        ({"item": "tea", "colour": "red"}, [
            "colour is not known; known are item, count, size, to, tags, note, kind, price"
        ]),
    ],
)  # fmt: skip
def test_each_fault_is_named_with_its_place(value: Any, faults: list[str]) -> None:
    assert schema_faults(value, ORDER) == faults


def test_additional_properties_with_a_schema_are_checked() -> None:
    schema = {"type": "object", "additionalProperties": {"type": "integer"}}
    assert schema_faults({"a": 1}, schema) == []
    assert schema_faults({"a": "1"}, schema) == ['a must be of type integer, not "1"']


def test_every_part_of_all_of_is_checked() -> None:
    schema = {"allOf": [{"required": ["a"]}, {"required": ["b"]}]}
    assert schema_faults({}, schema) == ["a is required", "b is required"]


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "colour"},
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "#"},
        {"properties": {"a": {"$ref": "#/properties/a"}}},
        {"properties": {"a": {"pattern": "("}}},
        {"required": None, "properties": [], "anyOf": []},
    ],
)
def test_a_schema_that_cannot_be_read_lets_everything_pass(schema: JsonObject) -> None:
    assert schema_faults({"a": "x"}, schema) == []


def test_half_of_a_surrogate_pair_is_not_the_patterns_matter() -> None:
    assert schema_faults("smile \ud83d", {"type": "string", "pattern": "\\S"}) == []
    assert schema_faults("\ud83d", {"type": "string", "pattern": "^[a-z]*$"}) == ["the arguments must match ^[a-z]*$"]
