"""Metadata and filters on which a backend can get `api.filters.matches` wrong, for the memory contract."""

from collections.abc import Iterator
from typing import Any

from llama_stack.api.common import JsonObject
from llama_stack.api.filters import Comparison, Compound, Scalar

ODD_KEYS = (
    "it's",
    '"quoted"',
    "100%",
    "under_score",
    "back\\slash",
    "a.b",
    "a[0]",
    "[0]",
    "$where",
    "$",
    "$.plain",
    "#",
    "with space",
    " ",
    "`tick`",
    "{brace}",
    "x:y",
    "a/b?c&d=e",
    "'; DROP TABLE chunks; --",
    '") OR 1=1 --',
    "line\nbreak",
    "ключ",
    "schlüssel",
    "鍵",
    "llama \U0001f999",
    "AND",
    "content",
    "chunk_id",
    "id",
    "_id",
    "metadata",
    "vector",
    "score",
)
"""Each is fine as a JSON key, and has a meaning of its own in some query language or table."""

ODD_VALUES: tuple[Scalar, ...] = (
    "",
    "a",
    "A",
    "b",
    "ab",
    "1",
    "true",
    "null",
    "%",
    "a_b",
    "it's",
    'say "hi"',
    "back\\slash",
    "'; DROP TABLE chunks; --",
    "Zürich",
    "zürich",
    "東京",
    "\U0001f999",
    "two words",
    "line\nbreak",
    "2024-05-17T10:00:00Z",
    True,
    False,
    0,
    1,
    -1,
    7,
    1.5,
    -0.25,
    0.1,
    1e-9,
    1e300,
    2**53,
    1_000_000_007,
)
ORDERED = ("gt", "gte", "lt", "lte")


def varied_metadata() -> list[JsonObject]:
    """One for each chunk: the same key with values of every kind, keys that are missing, values that are no scalar."""
    varied: list[JsonObject] = [{}, {"value": None}, {"value": ["a", 1]}, {"value": []}, {"value": {"a": 1}}]
    varied += [{"value": value} for value in ODD_VALUES]
    varied += [{key: "here", "number": position} for position, key in enumerate(ODD_KEYS)]
    varied += [{key: position, "value": "a"} for position, key in enumerate(ODD_KEYS)]
    # What a key with a dot or an index would reach if it were taken for a path.
    varied += [{"a": {"b": "here"}}, {"a": ["here"]}, {"plain": "here"}, {"under": "here", "score": "here"}]
    varied += [{"topic": topic, "year": 2000 + year} for topic in ("llamas", "alpacas") for year in range(5)]
    return varied


def varied_filters() -> Iterator[Comparison | Compound]:
    """Every operator over the metadata above, alone and within each other."""
    for value in ODD_VALUES:
        yield _compare("eq", "value", value)
        yield _compare("ne", "value", value)
        if not isinstance(value, bool):
            for operator in ORDERED:
                yield _compare(operator, "value", value)
    for key in ODD_KEYS:
        yield _compare("eq", key, "here")
        yield _compare("ne", key, "here")
        yield _compare("gte", key, 3)
        yield _compare("in", key, ["here", 5, True])
        yield _compare("nin", key, ["here", 5])
    yield from _lists()
    yield from _compounds()


def few_filters() -> list[Comparison | Compound]:
    """One of each kind, for searches that are dearer than a listing."""
    return [
        _compare("eq", "value", "a"),
        _compare("eq", "value", 1),
        _compare("eq", "value", True),
        _compare("ne", "value", "a"),
        _compare("gt", "value", 0),
        _compare("lte", "value", "a"),
        _compare("in", "topic", ["llamas", "camels"]),
        _compare("nin", "topic", ["llamas"]),
        _compare("eq", "'; DROP TABLE chunks; --", "here"),
        _compare("eq", "topic", "nobody's"),
        *_compounds(),
    ]


def _lists() -> Iterator[Comparison]:
    for operator in ("in", "nin"):
        yield _compare(operator, "value", [])
        yield _compare(operator, "value", ["a"])
        yield _compare(operator, "value", ["a", 1, True, "1", "nowhere"])
        yield _compare(operator, "value", [False, 1.5, "it's", "東京"])
        yield _compare(operator, "value", list(ODD_VALUES))
        yield _compare(operator, "nowhere", ["a", 1])


def _compounds() -> Iterator[Compound]:
    llamas, late = _compare("eq", "topic", "llamas"), _compare("gte", "year", 2002)
    alpacas, early = _compare("eq", "topic", "alpacas"), _compare("lt", "year", 2001)
    yield Compound(type="and", filters=[llamas])
    yield Compound(type="or", filters=[llamas])
    yield Compound(type="and", filters=[llamas, late])
    yield Compound(type="or", filters=[llamas, late])
    yield Compound(type="and", filters=[llamas, alpacas])
    both = [Compound(type="and", filters=[llamas, late]), Compound(type="and", filters=[alpacas, early])]
    yield Compound(type="or", filters=[*both, _compare("eq", "value", 7)])
    yield Compound(type="and", filters=[Compound(type="or", filters=[llamas, alpacas]), _compare("ne", "year", 2003)])
    deep: Comparison | Compound = llamas
    for depth in range(6):
        deep = Compound(type="or" if depth % 2 else "and", filters=[deep, late])
    assert isinstance(deep, Compound)
    yield deep


def _compare(operator: Any, key: str, value: Any) -> Comparison:
    return Comparison(type=operator, key=key, value=value)
