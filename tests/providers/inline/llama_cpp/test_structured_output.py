"""Answers held to a form, and forms that cannot be held."""

import json
import re
from typing import Any

import pytest

from llama_stack.api.answers import collect
from llama_stack.api.inference import (
    CompletionRequest,
    GrammarFormat,
    JsonObjectFormat,
    JsonSchemaFormat,
    ResponseFormat,
    Sampling,
)
from llama_stack.errors import InvalidRequest
from llama_stack_providers.inline.llama_cpp import LlamaCppInference
from tests.providers.inline.llama_cpp.conftest import CALLER, ask

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

COLOUR = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "count": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}


async def said(inference: LlamaCppInference, model: str, form: ResponseFormat, **fields: Any) -> str:
    answer = await collect(inference.stream_chat(ask(model, "hello", response_format=form, **fields), CALLER))
    assert isinstance(answer.message.content, str)
    return answer.message.content


async def test_an_answer_follows_a_json_schema(inference: LlamaCppInference, model: str) -> None:
    value = json.loads(await said(inference, model, JsonSchemaFormat(json_schema=COLOUR)))
    assert value["colour"] in ("red", "green")
    assert 1 <= value["count"] <= 9


async def test_json_comes_on_one_line(inference: LlamaCppInference, model: str) -> None:
    """Trap: with free whitespace a weak model writes line ends until its tokens run out."""
    text = await said(inference, model, JsonSchemaFormat(json_schema=COLOUR), temperature=2.0, seed=1)
    assert "\n" not in text
    assert text == json.dumps(json.loads(text))


async def test_a_json_object_begins_as_one(inference: LlamaCppInference, model: str) -> None:
    assert (await said(inference, model, JsonObjectFormat(), max_tokens=5)).startswith("{")


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        (GrammarFormat(grammar='root ::= "yes" | "no"'), "yes|no"),
        (GrammarFormat(syntax="regex", grammar="[0-9]{3}/[a-c]"), "[0-9]{3}/[a-c]"),
        (GrammarFormat(syntax="regex", grammar=r"[0-9]{2}\/[a-c]\\"), r"[0-9]{2}/[a-c]\\"),
        (GrammarFormat(syntax="regex", grammar="a\nb"), "a\nb"),
        (GrammarFormat(syntax="lark", grammar='start: "<" NAME ">"\nNAME: /[a-z]{2,4}/'), "<[a-z]{2,4}>"),
        (GrammarFormat(syntax="lark", grammar="%llguidance {}\nstart: /ab{1,6}c/"), "ab{1,6}c"),
    ],
    ids=["gbnf", "regex", "escaped slash", "two lines", "lark", "lark with header"],
)
async def test_an_answer_follows_a_grammar(
    inference: LlamaCppInference, model: str, form: GrammarFormat, pattern: str
) -> None:
    assert re.fullmatch(pattern, await said(inference, model, form))


async def test_raw_completion_follows_a_grammar_too(inference: LlamaCppInference, model: str) -> None:
    request = CompletionRequest(
        model=model, prompt="a", response_format=GrammarFormat(syntax="regex", grammar="[xyz]{4}"), sampling=Sampling()
    )
    text = (await collect(inference.complete(request, CALLER))).message.content
    assert isinstance(text, str) and re.fullmatch("[xyz]{4}", text)


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (JsonSchemaFormat(json_schema={"type": "nonsense"}), "nonsense"),
        (JsonSchemaFormat(json_schema={"properties": {"a": {"$ref": "#/nowhere"}}}), "nowhere"),
        (JsonSchemaFormat(json_schema={"not": {"type": "string"}}), "not"),
        (GrammarFormat(syntax="regex", grammar="[0-9"), "unclosed character class"),
        (GrammarFormat(syntax="regex", grammar=""), "empty"),
        (GrammarFormat(syntax="lark", grammar="start: missing"), "missing"),
        (GrammarFormat(syntax="lark", grammar=""), ""),
        (GrammarFormat(grammar='root ::= "a" missing'), "grammar"),
        (GrammarFormat(grammar="root ::= root"), "grammar"),
        (GrammarFormat(grammar="  "), "GBNF"),
        (GrammarFormat(grammar="root ::= " + "(" * 20_000 + "x" + ")" * 20_000), "nests more than 500 deep"),
        (GrammarFormat(grammar='root ::= "a"' + ' | "b"' * 100_000), "may have 65536 characters, not 600012"),
        (GrammarFormat(syntax="lark", grammar='start: "a"{100000000}'), "Too many items"),
    ],
    ids=[
        *(
            "schema type",
            "reference",
            "not",
            "regex",
            "lark rule",
            "empty lark",
            "gbnf rule",
            "left recursion",
            "empty",
        ),
        *("no gbnf", "a grammar that ends the process", "one that stops it for minutes", "repetition"),
    ],
)
async def test_a_form_that_cannot_be_enforced_is_refused(
    inference: LlamaCppInference, model: str, form: ResponseFormat, reason: str
) -> None:
    """Trap: llama.cpp only logs what is wrong with a Lark grammar or a schema in it, and answers unconstrained."""
    with pytest.raises(InvalidRequest) as refused:
        await said(inference, model, form, max_tokens=20)
    assert reason in str(refused.value)
    assert refused.value.http_status == 400


async def test_a_grammar_error_harms_no_other_request(inference: LlamaCppInference, model: str) -> None:
    with pytest.raises(InvalidRequest):
        await said(inference, model, GrammarFormat(syntax="regex", grammar="("))
    assert await said(inference, model, GrammarFormat(syntax="regex", grammar="ok")) == "ok"
