"""Tool calls: chosen, forced, forbidden, and held to what was offered."""

import json
from typing import Any

import pytest

from llama_stack.api.answers import collect
from llama_stack.api.inference import ChatAnswer, JsonSchemaFormat
from llama_stack.api.tools import NamedToolChoice, ToolDefinition
from llama_stack.errors import InvalidRequest
from llama_stack_providers.inline.llama_cpp import LlamaCppInference
from tests.providers.inline.llama_cpp.conftest import CALLER, ask

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

WEATHER = ToolDefinition(
    name="get_weather",
    description="Get the current weather in a city",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string", "description": "The city name"}},
        "required": ["city"],
    },
)
SEARCH = ToolDefinition(name="brave_search")
NOTES = ToolDefinition(
    name="add_note",
    description="Write a note down",
    parameters={"type": "object", "properties": {"kind": {"enum": ["todo", "idea"]}}, "required": ["kind"]},
)


async def answered(inference: LlamaCppInference, model: str, text: str, **fields: Any) -> ChatAnswer:
    return await collect(inference.stream_chat(ask(model, text, **fields), CALLER))


async def test_a_forced_call_is_made_even_for_a_greeting(inference: LlamaCppInference, model: str) -> None:
    """Trap: llama.cpp's own `required` lets the model write text first."""
    answer = await answered(inference, model, "hello", tools=[WEATHER, NOTES], tool_choice="required")
    (call,) = answer.message.tool_calls
    assert call.name in ("get_weather", "add_note")
    assert answer.message.content is None
    assert answer.choices[0].finish_reason == "tool_calls"
    json.loads(call.arguments)


@pytest.mark.parametrize("tool", [WEATHER, SEARCH, NOTES], ids=lambda tool: tool.name)
async def test_a_named_tool_is_called(inference: LlamaCppInference, model: str, tool: ToolDefinition) -> None:
    """Trap: llama.cpp ignores a named choice, and does not read the builtin form at all."""
    choice = NamedToolChoice(names=[tool.name])
    answer = await answered(inference, model, "hello", tools=[WEATHER, SEARCH, NOTES], tool_choice=choice)
    assert [call.name for call in answer.message.tool_calls] == [tool.name]
    arguments = json.loads(answer.message.tool_calls[0].arguments)
    if tool is NOTES:
        assert arguments["kind"] in ("todo", "idea")


async def test_no_call_is_made_when_calls_are_forbidden(inference: LlamaCppInference, model: str) -> None:
    answer = await answered(inference, model, "Is it sunny in Lisbon?", tools=[WEATHER], tool_choice="none")
    assert answer.message.tool_calls == []
    assert answer.message.content


async def test_at_most_one_call_without_parallel_calls(inference: LlamaCppInference, model: str) -> None:
    answer = await answered(
        inference, model, "hello", tools=[WEATHER], tool_choice="required", parallel_tool_calls=False, n=3,
        temperature=1.5, seed=3,
    )  # fmt: skip
    assert [len(choice.message.tool_calls) for choice in answer.choices] == [1, 1, 1]


async def test_a_free_answer_names_only_offered_tools(inference: LlamaCppInference, model: str) -> None:
    answer = await answered(inference, model, "Is it sunny in Lisbon?", tools=[WEATHER, NOTES], temperature=2.0, seed=5)
    assert {call.name for call in answer.message.tool_calls} <= {"get_weather", "add_note"}


async def test_probabilities_are_kept_for_text_beside_tools(inference: LlamaCppInference, model: str) -> None:
    answer = await answered(inference, model, "hello", tools=[WEATHER], logprobs=True)
    (choice,) = answer.choices
    if choice.message.tool_calls:
        pytest.skip("this model calls a tool for a greeting")
    assert choice.logprobs is not None
    assert "".join(token.token for token in choice.logprobs) == choice.message.content


async def test_tools_and_a_response_format_go_together(inference: LlamaCppInference, model: str) -> None:
    form = JsonSchemaFormat(
        json_schema={
            "type": "object",
            "properties": {"done": {"type": "boolean"}},
            "required": ["done"],
            "additionalProperties": False,
        }
    )
    answer = await answered(inference, model, "hello", tools=[WEATHER], response_format=form)
    if not answer.message.tool_calls:
        assert isinstance(answer.message.content, str)
        assert set(json.loads(answer.message.content)) == {"done"}


async def test_a_schema_beyond_a_grammar_is_offered_loosely(inference: LlamaCppInference, model: str) -> None:
    odd = WEATHER.model_copy(update={"parameters": {"type": "object", "not": {"required": ["x"]}}})
    answer = await answered(inference, model, "hello", tools=[odd], tool_choice="required", max_tokens=60)
    assert [call.name for call in answer.message.tool_calls] == ["get_weather"]


async def test_a_strict_schema_beyond_a_grammar_is_refused(inference: LlamaCppInference, model: str) -> None:
    odd = WEATHER.model_copy(update={"strict": True, "parameters": {"type": "object", "not": {"required": ["x"]}}})
    with pytest.raises(InvalidRequest, match="not"):
        await answered(inference, model, "hello", tools=[odd], tool_choice="required")
