"""Every golden output is read alike whole, cut in two anywhere, one character at a time and in random pieces."""

import itertools
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from llama_stack.api.inference import TextDelta, ToolCallDelta, ToolCallStart
from llama_stack.api.tools import ToolDefinition
from llama_stack.wire.llama_prompts.families import LlamaFamily
from llama_stack.wire.llama_prompts.parse import Stop, ToolCallParser, random_call_id

CASES: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "llama_calls.yaml").read_text(encoding="utf-8"))

TYPED = {
    "type": "object",
    "properties": {
        "n": {"type": "integer"},
        "x": {"type": "number"},
        "ok": {"type": "boolean"},
        "s": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "o": {"type": "object", "properties": {"k": {"type": "integer"}}},
        "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    },
}
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOLS = {
    "f": ToolDefinition(name="f"),
    "g": ToolDefinition(name="g"),
    "typed": ToolDefinition(name="typed", parameters=TYPED),
    "get_weather": ToolDefinition(name="get_weather", parameters=WEATHER),
    "brave_search": ToolDefinition(name="brave_search"),
    "wolfram_alpha": ToolDefinition(name="wolfram_alpha"),
}
CODE = {"code_interpreter": ToolDefinition(name="code_interpreter")}

Reading = tuple[str, list[tuple[str, str]]]


def parser_for(case: dict[str, Any]) -> ToolCallParser:
    tools = [(TOOLS | CODE)[name] for name in case.get("tools", TOOLS)]
    ids = itertools.count()
    family = LlamaFamily(case.get("family", "llama3.1"))
    return ToolCallParser(tools, family=family, new_id=lambda: f"call_{next(ids)}")


def read(case: dict[str, Any], pieces: Iterable[str]) -> Reading:
    """Text and calls the pieces make; checks that the events are well formed on the way."""
    parser = parser_for(case)
    stop: Stop = case.get("stop", "eot")
    events = [event for piece in pieces for event in parser.feed(piece)]
    events += parser.finish(stop)
    text, calls = "", list[tuple[str, str]]()
    for event in events:
        match event:
            case TextDelta(text=more):
                assert more, "an empty delta says nothing"
                text += more
            case ToolCallStart(index=index, id=call_id, name=name):
                assert (index, call_id) == (len(calls), f"call_{len(calls)}")
                calls.append((name, ""))
            case ToolCallDelta(index=index, arguments=arguments):
                assert index == len(calls) - 1
                calls[index] = (calls[index][0], calls[index][1] + arguments)
    assert parser.finish_reason == ("length" if stop == "length" else "tool_calls" if calls else "stop")
    return text, calls


def golden(case: dict[str, Any]) -> Reading:
    return case.get("text", ""), [(name, arguments) for name, arguments in case.get("calls", [])]


def test_there_are_enough_and_their_names_differ() -> None:
    assert len({case["name"] for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
class TestGolden:
    def test_whole(self, case: dict[str, Any]) -> None:
        assert read(case, [case["model"]]) == golden(case)

    def test_cut_at_every_character(self, case: dict[str, Any]) -> None:
        model = case["model"]
        for cut in range(len(model) + 1):
            assert read(case, [model[:cut], model[cut:]]) == golden(case), f"cut at {cut}: {model[:cut]!r}"

    def test_one_character_at_a_time(self, case: dict[str, Any]) -> None:
        assert read(case, case["model"]) == golden(case)

    def test_random_pieces(self, case: dict[str, Any]) -> None:
        dice = random.Random(case["name"])
        model = case["model"]
        for _ in range(20):
            cuts = sorted(dice.choices(range(len(model) + 1), k=dice.randint(1, 6)))
            pieces = [model[a:b] for a, b in itertools.pairwise([0, *cuts, len(model)])]
            assert read(case, pieces) == golden(case), pieces


FRAGMENTS = [
    *(
        '{"name": "f", "parameters": ',
        '{"a": 1}',
        '"}',
        "}",
        "{",
        "[f(",
        "a=1",
        ")",
        "]",
        "[",
        "g()",
        ", ",
        "; ",
        "\n",
        " ",
    ),
    *(
        "<function=f>",
        "<function=",
        "</function>",
        "</func",
        ">",
        "<",
        "<|python_tag|>",
        "<|python",
        "<|eot_id|>",
        "<|eom_id|>",
    ),
    *(
        'brave_search.call(query="',
        '")',
        "brave_search",
        ".call(",
        "'",
        '"',
        "\\",
        "prose",
        "é",
        "1",
        '{"answer"',
        ":",
        "print(1)",
    ),
]


@pytest.mark.parametrize("seed", range(12))
def test_texts_of_any_making_are_read_alike_in_any_pieces(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(150):
        model = "".join(dice.choices(FRAGMENTS, k=dice.randint(1, 9)))
        case = {
            "tools": dice.choice([list(TOOLS), ["f", "code_interpreter"], []]),
            "stop": dice.choice(["eot", "length"]),
        }
        whole = read(case, [model])
        for _ in range(4):
            cuts = sorted(dice.choices(range(len(model) + 1), k=dice.randint(1, 5)))
            pieces = [model[a:b] for a, b in itertools.pairwise([0, *cuts, len(model)])]
            assert read(case, pieces) == whole, (model, pieces)
        assert read(case, model) == whole, model
        if not whole[1]:
            # Without a call nothing is lost but special tokens.
            assert without_marks(whole[0]) == without_marks(model), model


def without_marks(text: str) -> str:
    for mark in ("<|python_tag|>", "<|eot_id|>", "<|eom_id|>"):
        text = text.replace(mark, "")
    return text


def test_prose_is_given_out_as_it_comes() -> None:
    parser = ToolCallParser(list(TOOLS.values()))
    said = []
    for char in "Hello {a} [b] <i> x":
        said.append("".join(event.text for event in parser.feed(char) if isinstance(event, TextDelta)))
    # Only the `<` waits one character, for it may begin a token.
    assert said == [*"Hello {a} [b] ", "", "<i", *"> x"]


@pytest.mark.parametrize(
    ("answer", "certain_after"),
    [
        ('{"answer": 42, "more": "text"}', '{"an'),
        ('{"name": "Ann", "age": 3, "more": "text"}', '{"name": "Ann", "ag'),
        ('{"na": 1, "more": "text"}', '{"na"'),
        ("[1, 2, 3]", "[1"),
        ("[link](x) and prose", "[link]"),
        ('{"name":"f","parameters":{}} calls f and more', '{"name":"f","parameters":{}} c'),
        ("brave news today", "brave "),
    ],
)
def test_what_cannot_be_a_call_is_held_no_longer(answer: str, certain_after: str) -> None:
    parser = ToolCallParser(list(TOOLS.values()))
    before = [event for char in certain_after[:-1] for event in parser.feed(char)]
    assert before == []
    assert parser.feed(certain_after[-1]) == [TextDelta(text=certain_after)]
    rest = answer.removeprefix(certain_after)
    assert "".join(e.text for e in parser.feed(rest) if isinstance(e, TextDelta)) == rest


def test_a_long_call_in_small_pieces_takes_time_in_proportion_to_its_length() -> None:
    # Reading it all again for each piece would take 4e10 steps and run into the time limit of the tests.
    text = '{"name": "f", "parameters": {"q": "' + "x" * 200_000 + '"}}'
    assert read({}, text)[1] == [("f", '{"q": "' + "x" * 200_000 + '"}')]


@pytest.mark.parametrize("depth", [200, 330, 480, 700, 960, 5000, 100_000])
def test_deep_nesting_is_no_failure(depth: int) -> None:
    arguments = "[" * depth + "]" * depth
    text, calls = read({}, [f'{{"name": "f", "parameters": {{"a": {arguments}}}}}'])
    assert (text, calls) == ("", [("f", f'{{"a": {arguments}}}')])
    deep = f"[f(a={arguments})]"
    assert read({}, [deep]) in (("", [("f", f'{{"a": {arguments}}}')]), (deep, []))


def test_call_ids_are_unique_and_marked() -> None:
    ids = {random_call_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(call_id.startswith("call_") and len(call_id) == 29 for call_id in ids)


def test_events_carry_their_choice() -> None:
    parser = ToolCallParser(list(TOOLS.values()), choice=2)
    events = parser.feed('x <function=f>{"a":1}</function>') + parser.finish("eot")
    assert [event.choice for event in events] == [2, 2, 2]
