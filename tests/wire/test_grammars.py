"""Grammars hold a real engine's answers: to schemas, and to calls of offered tools in every form."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import from_json

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import ChatRequest, TextDelta, ToolCallDelta, ToolCallStart, ToolPromptFormat
from llama_stack.api.messages import UserMessage
from llama_stack.api.tools import NamedToolChoice, ToolChoice, ToolDefinition
from llama_stack.errors import InvalidRequest
from llama_stack.wire.grammars import chosen_tools, json_object_grammar, json_schema_grammar, tool_grammar
from llama_stack.wire.json_schemas import checked_schema, narrowed
from llama_stack.wire.llama_prompts.families import LlamaFamily, preserved_tokens
from llama_stack.wire.llama_prompts.parse import ToolCallParser
from llama_stack.wire.llama_prompts.render import render_chat

FAMILY = LlamaFamily.LLAMA_3_1
WEATHER = ToolDefinition(
    name="get_weather",
    description="Weather of a city",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string", "enum": ["Paris", "Bern"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
            "tags": {"type": "array", "items": {"enum": ["sun", "rain"]}, "minItems": 1, "maxItems": 2},
        },
        "required": ["city", "days", "tags"],
    },
)
OPTIONAL = ToolDefinition(
    name="set",
    parameters={"type": "object", "properties": {"a": {"enum": [1, 2]}, "b": {"enum": [True]}, "c": {"enum": ["x"]}}},
)
NOW = ToolDefinition(name="now", description="The time")
ODD = ToolDefinition(
    name="odd", parameters={"type": "object", "properties": {"not-a-word": {"enum": [1]}}, "required": ["not-a-word"]}
)
CITY: JsonObject = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SEARCH = ToolDefinition(name="brave_search")
WOLFRAM = ToolDefinition(name="wolfram_alpha")
CODE = ToolDefinition(name="code_interpreter")


@dataclass
class Answer:
    raw: str
    text: str
    calls: list[tuple[str, Any]]
    finish: str


class Engine:
    """llama.cpp in this process, with the smallest model there is."""

    def __init__(self, model: Path) -> None:
        import xllamacpp

        settings = xllamacpp.CommonParams()
        settings.model.path = str(model)
        settings.n_ctx, settings.n_parallel = 4096, 1
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
        settings.port, settings.ui, settings.warmup, settings.verbosity = 0, False, False, 0
        self.server = xllamacpp.Server(settings)

    def complete(
        self, prompt: str | list[int | str], grammar: str | None = None, *, max_tokens: int = 200
    ) -> JsonObject:
        body: JsonObject = {"prompt": prompt, "max_tokens": max_tokens, "temperature": 0}
        body["preserved_tokens"] = preserved_tokens(FAMILY)
        if grammar is not None:
            body["grammar"] = grammar
        answer: JsonObject = self.server.handle_completions(body)
        assert "error" not in answer, answer
        return answer

    def chat(
        self,
        ask: str,
        tools: list[ToolDefinition],
        choice: ToolChoice,
        *,
        parallel: bool | None = None,
        form: ToolPromptFormat | None = None,
        max_tokens: int = 200,
    ) -> Answer:
        request = ChatRequest(model="m", messages=[UserMessage(content=ask)], tools=tools, tool_prompt_format=form)
        prompt = render_chat(request, family=FAMILY, today=date(2026, 11, 21))
        grammar = tool_grammar(tools, choice, FAMILY, parallel, form=form)
        raw = self.complete(prompt.as_text(), grammar, max_tokens=max_tokens)["choices"][0]
        parser = ToolCallParser(chosen_tools(tools, choice))
        events = [*parser.feed(raw["text"]), *parser.finish("length" if raw["finish_reason"] == "length" else "eot")]
        names = [event.name for event in events if isinstance(event, ToolCallStart)]
        arguments = [event.arguments for event in events if isinstance(event, ToolCallDelta)]
        text = "".join(event.text for event in events if isinstance(event, TextDelta))
        calls = [(name, json.loads(written)) for name, written in zip(names, arguments, strict=True)]
        return Answer(raw["text"], text, calls, parser.finish_reason)


@pytest.fixture(scope="module")
def engine(micro_model: Path) -> Iterator[Engine]:
    made = Engine(micro_model)
    yield made
    del made.server


def assert_weather(arguments: Any) -> None:
    assert set(arguments) == {"city", "days", "tags"}
    assert arguments["city"] in ("Paris", "Bern") and arguments["days"] in range(1, 10)
    assert 1 <= len(arguments["tags"]) <= 2 and set(arguments["tags"]) <= {"sun", "rain"}


@pytest.mark.engine
class TestForcedCalls:
    # The question has nothing to do with the tools: only the grammar can make the model call.
    @pytest.mark.parametrize("form", ["json", "function_tag", "python_list"])
    def test_required(self, engine: Engine, form: ToolPromptFormat) -> None:
        answer = engine.chat("hello", [WEATHER], "required", parallel=False, form=form)
        assert (answer.text, answer.finish) == ("", "tool_calls")
        ((name, arguments),) = answer.calls
        assert name == "get_weather"
        assert_weather(arguments)

    @pytest.mark.parametrize("form", ["json", "function_tag", "python_list"])
    def test_a_named_tool_among_others(self, engine: Engine, form: ToolPromptFormat) -> None:
        choice = NamedToolChoice(names=["now"])
        answer = engine.chat("weather in Paris?", [WEATHER, NOW, SEARCH], choice, parallel=False, form=form)
        assert answer.calls == [("now", {})]

    @pytest.mark.parametrize("tool", [SEARCH, WOLFRAM])
    def test_builtin_tools_in_their_own_form(self, engine: Engine, tool: ToolDefinition) -> None:
        answer = engine.chat("hello", [WEATHER, SEARCH, WOLFRAM], NamedToolChoice(names=[tool.name]))
        assert answer.raw.startswith(f'<|python_tag|>{tool.name}.call(query="') and answer.raw.endswith("<|eom_id|>")
        ((name, arguments),) = answer.calls
        assert name == tool.name and list(arguments) == ["query"] and arguments["query"]

    def test_code(self, engine: Engine) -> None:
        answer = engine.chat("hello", [CODE, SEARCH], NamedToolChoice(names=["code_interpreter"]), max_tokens=60)
        assert answer.raw.startswith("<|python_tag|>")
        assert [name for name, _ in answer.calls] == ["code_interpreter"]

    @pytest.mark.parametrize("form", ["json", "python_list"])
    def test_several_calls_are_counted(self, engine: Engine, form: ToolPromptFormat) -> None:
        one = engine.chat("hello", [NOW], "required", parallel=False, form=form)
        several = engine.chat("hello", [NOW], "required", parallel=True, form=form)
        assert one.calls == [("now", {})]
        assert 1 <= len(several.calls) <= 8 and set(map(str, several.calls)) == {"('now', {})"}

    def test_optional_arguments_and_names_that_python_cannot_spell(self, engine: Engine) -> None:
        ((_, arguments),) = engine.chat("hello", [OPTIONAL], "required", parallel=False, form="python_list").calls
        allowed: dict[str, list[Any]] = {"a": [1, 2], "b": [True], "c": ["x"]}
        assert all(value in allowed[key] for key, value in arguments.items())
        answer = engine.chat("hello", [ODD], "required", parallel=False, form="python_list")
        assert answer.calls == [("odd", {"not-a-word": 1})]

    @pytest.mark.parametrize("form", ["json", "function_tag", "python_list"])
    def test_auto_leaves_the_model_to_talk(self, engine: Engine, form: ToolPromptFormat) -> None:
        plain = engine.chat("hello", [NOW], "none")
        answer = engine.chat("hello", [NOW, SEARCH, CODE], "auto", form=form)
        assert plain.text and not plain.calls
        assert answer.finish in ("stop", "tool_calls") and (answer.text or answer.calls)

    def test_auto_allows_only_offered_calls(self, engine: Engine) -> None:
        other = ToolDefinition(name="get_time", description="Time in a city", parameters=CITY)
        request = ChatRequest(model="m", messages=[UserMessage(content="time in Paris?")], tools=[other])
        prompt = render_chat(request, family=FAMILY, today=date(2026, 11, 21)).as_text()
        free: str = engine.complete(prompt)["choices"][0]["text"]
        assert free.startswith('{"name": "get_time"'), "the model must want to call for this to show anything"
        held: str = engine.complete(prompt, tool_grammar([WEATHER], "auto", FAMILY))["choices"][0]["text"]
        assert not held.startswith("{") or held.startswith('{"name": "get_weather", "parameters": {"city": "')


@pytest.mark.engine
class TestSchemas:
    PROMPT = (
        "<|start_header_id|>user<|end_header_id|>\n\nhello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )

    def answer(self, engine: Engine, grammar: str) -> Any:
        choice = engine.complete(self.PROMPT, grammar)["choices"][0]
        assert choice["finish_reason"] == "stop", choice["text"]
        return json.loads(choice["text"].removesuffix("<|eot_id|>"))

    def test_nested_objects_arrays_enums_and_integers(self, engine: Engine) -> None:
        schema = {
            "type": "object",
            "properties": {
                "kind": {"type": "string", "enum": ["a", "b"]},
                "count": {"type": "integer", "minimum": 3, "maximum": 5},
                "ok": {"type": "boolean"},
                "rows": {
                    "type": "array",
                    "minItems": 2,
                    "maxItems": 2,
                    "items": {"$ref": "#/$defs/row"},
                },
                "maybe": {"type": ["integer", "null"], "maximum": 3, "minimum": 1},
            },
            "required": ["kind", "count", "ok", "rows", "maybe"],
            "$defs": {"row": {"type": "object", "properties": {"x": {"const": 7}}, "required": ["x"]}},
        }
        answer = self.answer(engine, json_schema_grammar(schema))
        assert set(answer) == {"kind", "count", "ok", "rows", "maybe"}
        assert answer["kind"] in ("a", "b") and answer["count"] in (3, 4, 5) and answer["ok"] in (True, False)
        assert answer["rows"] == [{"x": 7}, {"x": 7}] and answer["maybe"] in (1, 2, 3, None)

    def test_a_list_at_the_top(self, engine: Engine) -> None:
        schema = {"type": "array", "items": {"const": 'é " \\ 日'}, "minItems": 1, "maxItems": 1}
        assert self.answer(engine, json_schema_grammar(schema)) == ['é " \\ 日']

    def test_an_object_of_any_kind(self, engine: Engine) -> None:
        """A small model may find no end; what it has written by then begins an object all the same."""
        text: str = engine.complete(self.PROMPT, json_object_grammar())["choices"][0]["text"]
        begun = from_json(text.removesuffix("<|eot_id|>"), allow_partial="trailing-strings")
        assert isinstance(begun, dict)

    def test_pieces_keep_a_spelled_out_token_text(self, engine: Engine) -> None:
        """The engine counts as many tokens as the text has pieces: the forged end of turn is none."""
        head, tail = "<|start_header_id|>user<|end_header_id|>\n\na", "<|eot_id|>"
        exact = engine.complete([0, head + "<|", "eot_id|>" + tail], max_tokens=1)["usage"]["prompt_tokens"]
        parsed = engine.complete(head + "<|eot_id|>" + tail, max_tokens=1)["usage"]["prompt_tokens"]
        honest = engine.complete([0, head + tail], max_tokens=1)["usage"]["prompt_tokens"]
        assert parsed == honest + 1
        assert exact > honest + 3
        assert honest == engine.complete(head + tail, max_tokens=1)["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ("text", "str"),
        ({"type": "nonsense"}, "'nonsense'"),
        ({"type": ["string", "x"]}, "'x'"),
        ({"properties": []}, "properties"),
        ({"properties": {"a": {"items": 1}}}, "/properties/a/items"),
        ({"type": "string", "minLength": "1"}, "minLength"),
        ({"enum": []}, "enum"),
        ({"required": "a"}, "required"),
        ({"anyOf": {}}, "anyOf"),
        ({"$ref": "#/$defs/missing"}, "#/\\$defs/missing"),
        ({"$defs": {"a": {"type": 1}}}, "/\\$defs/a"),
        ({"type": "integer", "minimum": 3, "maximum": 1}, "minimum is above maximum"),
        ({"pattern": 1}, "pattern"),
    ],
)
def test_what_is_no_schema_names_the_field_and_the_place(schema: Any, place: str) -> None:
    with pytest.raises(InvalidRequest, match=place) as refused:
        json_schema_grammar(schema)
    assert refused.value.param == "response_format"


def test_a_tools_parameters_are_named_by_their_position() -> None:
    bad = ToolDefinition(name="bad", parameters={"type": "objekt"})
    with pytest.raises(InvalidRequest, match="objekt") as refused:
        tool_grammar([NOW, bad], "required", FAMILY)
    assert refused.value.param == "tools[1].parameters"


def test_a_schema_without_end_is_refused_and_one_that_refers_to_itself_is_not() -> None:
    deep: JsonObject = {"type": "string"}
    for _ in range(100):
        deep = {"type": "array", "items": deep}
    with pytest.raises(InvalidRequest, match="too deeply"):
        checked_schema(deep, "response_format")
    tree = {"$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"}
    assert checked_schema(tree, "response_format") == tree


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("required", "none is offered"),
        (NamedToolChoice(names=["f"]), "none is offered"),
    ],
)
def test_a_choice_without_tools(choice: ToolChoice, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        tool_grammar([], choice, FAMILY)
    assert refused.value.param == "tool_choice"


def test_a_choice_of_a_tool_nobody_offered() -> None:
    with pytest.raises(InvalidRequest, match="names other; offered are now, get_weather"):
        tool_grammar([NOW, WEATHER], NamedToolChoice(names=["now", "other"]), FAMILY)


def test_nothing_to_hold() -> None:
    assert tool_grammar([NOW], "none", FAMILY) is None
    assert tool_grammar([], "auto", FAMILY) is None
    assert chosen_tools([NOW, WEATHER], NamedToolChoice(names=["now"], mode="auto")) == [NOW]


def test_narrowing_keeps_to_the_schema() -> None:
    small = {"minimum": -(2**53 - 1), "maximum": 2**53 - 1}
    one = {"type": "object", "properties": {"type": {"type": "integer"}, "b": {"type": "integer", "maximum": 9}}}
    assert narrowed(one) == {
        "type": "object",
        "properties": {"type": {"type": "integer", **small}, "b": {"type": "integer", "maximum": 9}},
        "additionalProperties": False,
    }
    assert narrowed({"properties": {}, "additionalProperties": True}) == {
        "properties": {},
        "additionalProperties": True,
    }


@pytest.mark.parametrize(
    "combined",
    [
        {"properties": {"a": {}}, "required": ["b"]},
        {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
        {"properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}}]},
        {"not": {"properties": {"a": {"type": "integer"}}}},
    ],
)
def test_what_closing_would_exclude_is_not_closed(combined: JsonObject) -> None:
    assert narrowed(combined) == combined
