"""Our linear search against Python's engine, on generated expressions, and what it refuses."""

import random
import re
import time

import pytest

from llama_stack_providers.inline._rules.expression import BadPattern
from llama_stack_providers.inline._rules.linear import LinearPattern, OutOfTime

ATOMS = [
    "a",
    "b",
    "c",
    "[ab]",
    "[^a]",
    ".",
    r"\w",
    r"\d",
    r"\s",
    r"\b",
    "^",
    "$",
    "x",
    r"\.",
    "[]a]",
    r"[\]b-]",
    r"\x61",
]


def expression(draw: random.Random, depth: int) -> str:
    chance = draw.random()
    if depth == 0 or chance < 0.35:
        return draw.choice(ATOMS)
    if chance < 0.6:
        return expression(draw, depth - 1) + expression(draw, depth - 1)
    if chance < 0.75:
        return f"(?:{expression(draw, depth - 1)}|{expression(draw, depth - 1)})"
    return f"({expression(draw, depth - 1)})" + draw.choice(["*", "+", "?", "{2}", "{1,3}", "{,2}", "{2,}", "*?"])


def test_it_finds_something_exactly_where_python_does() -> None:
    draw = random.Random(7)
    compared = matched = 0
    while compared < 4000:
        pattern = expression(draw, 4)
        try:
            linear = LinearPattern(pattern)
        except BadPattern:
            continue
        for _ in range(4):
            text = "".join(draw.choice("abcABx .1\n") for _ in range(draw.randint(0, 8))).rstrip("\n")
            found, theirs = linear.search(text), re.search(pattern, text, re.IGNORECASE)
            assert (found is None) == (theirs is None), (pattern, text)
            compared += 1
            if found and theirs:
                matched += 1
                assert found[1] >= theirs.end() or found[0] <= theirs.start(), (pattern, text)
    assert matched > 1000


@pytest.mark.parametrize(
    ("pattern", "text", "span"),
    [
        (r"\bkey\b", "a key here", (2, 5)),
        (r"(?m)^b$", "a\nb\nc", (2, 3)),
        (r"(?s)a.b", "xa\nb", (1, 4)),
        ("É", "café", (3, 4)),
        (r"a{2,3}", "caaaa", (1, 4)),
        (r"a{,x", "a{,x", (0, 4)),
        (r"(?P<year>\d{4})-\d\d", "in 2026-11", (3, 10)),
        (r"colou?r", "discolour", (3, 9)),
        (r"a\Z", "aba", (2, 3)),
    ],
)
def test_matches_and_their_places(pattern: str, text: str, span: tuple[int, int]) -> None:
    assert LinearPattern(pattern).search(text) == span


def test_case_counts_only_where_it_is_asked_for() -> None:
    assert LinearPattern("ABC").search("xabc") == (1, 4)
    assert LinearPattern("ABC", ignore_case=False).search("xabc") is None
    assert LinearPattern("(?i)ABC", ignore_case=False).search("xabc") == (1, 4)


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("(?=a)b", "look-around"),
        ("(?<!a)b", "look-around"),
        (r"(a)\1", "back-references"),
        (r"(?P<x>a)(?P=x)", "look-around"),
        ("a++", "possessive"),
        ("(?>a)b", "look-around"),
        ("a*", "every text"),
        ("(", "no regular expression"),
        ("a{1,99999}", "states"),
        ("(((a{1,40}){1,40}){1,40}){1,40}", "states"),
        ("(" * 5000 + ")" * 5000, "nested|no regular"),
    ],
)
def test_what_cannot_be_linear_is_refused_with_its_reason(pattern: str, complaint: str) -> None:
    with pytest.raises(BadPattern, match=complaint):
        LinearPattern(pattern)


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|aa)+b", "(.*a){12}b", "(a*)*(a*)*b", r"(\w+\s?)+!"])
def test_no_expression_makes_it_hang(pattern: str) -> None:
    assert LinearPattern(pattern).search("a" * 20_000) is None


def test_a_search_stops_at_its_deadline() -> None:
    with pytest.raises(OutOfTime):
        LinearPattern("ab").search("a" * 5000, time.monotonic() - 1)
