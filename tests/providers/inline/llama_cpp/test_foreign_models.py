"""Models that are no Llama: chat through their own template, in llama.cpp's chat endpoint; and rerankers."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from llama_stack.api.answers import collect
from llama_stack.api.inference import ChatEnd, ChoiceEnd, GrammarFormat, JsonSchemaFormat, RerankRequest
from llama_stack.api.resources import ModelType
from llama_stack.api.tools import NamedToolChoice, ToolDefinition
from llama_stack.errors import ContextOverflow, InvalidRequest, UnsupportedParameter
from llama_stack.weights import find_weights
from llama_stack_providers.inline.llama_cpp import LlamaCppInference
from tests.providers.inline.llama_cpp.conftest import CALLER, ask, opened, resource
from tests.providers.inline.llama_cpp.foreign_gguf import CHATML, JSON_CALLS, random_reranker, rewrite

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

TOOL = ToolDefinition(name="brave_search", parameters={"type": "object", "properties": {"query": {"type": "string"}}})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("foreign")


@pytest.fixture(scope="module")
def foreign(micro_model: Path, folder: Path) -> str:
    return str(rewrite(micro_model, folder / "foreign.gguf", {"tokenizer.chat_template": CHATML}))


@pytest.fixture(scope="module")
def toolless(micro_model: Path, folder: Path) -> str:
    template = CHATML.partition("{%- for message")[1] + CHATML.partition("{%- for message")[2]
    return str(rewrite(micro_model, folder / "toolless.gguf", {"tokenizer.chat_template": template}))


@pytest.fixture(scope="module")
def recognised(micro_model: Path, folder: Path) -> str:
    """A template whose form of calls llama.cpp's chat endpoint recognises."""
    return str(rewrite(micro_model, folder / "recognised.gguf", {"tokenizer.chat_template": JSON_CALLS}))


@pytest.fixture(scope="module")
def untemplated(micro_model: Path, folder: Path) -> str:
    changes = {"tokenizer.chat_template": None, "general.name": "base"}
    return str(rewrite(micro_model, folder / "base.gguf", changes))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inference(
    foreign: str, toolless: str, recognised: str, untemplated: str, folder: Path
) -> AsyncIterator[LlamaCppInference]:
    names = (foreign, toolless, recognised, untemplated)
    models = [resource(name, metadata={"temperature": 0}) for name in names]
    async with opened(folder, *models) as engine:
        yield engine


async def test_a_foreign_model_chats_through_its_own_template(inference: LlamaCppInference, foreign: str) -> None:
    async with aclosing(inference.stream_chat(ask(foreign, "hello", max_tokens=6), CALLER)) as stream:
        events = [event async for event in stream]
    assert isinstance(events[-1], ChatEnd) and isinstance(events[-2], ChoiceEnd)
    assert events[-1].usage is not None and events[-1].usage.output_tokens >= 1
    assert events[-1].model == foreign
    assert events[-1].extra == {}


async def test_tokens_are_counted_by_the_template(inference: LlamaCppInference, foreign: str) -> None:
    request = ask(foreign, "hello", tools=[TOOL], max_tokens=1)
    answer = await collect(inference.stream_chat(request, CALLER))
    assert answer.usage is not None
    assert await inference.count_tokens(request, CALLER) == answer.usage.input_tokens


async def test_several_choices_up_to_the_slots(inference: LlamaCppInference, foreign: str) -> None:
    answer = await collect(inference.stream_chat(ask(foreign, "hello", n=2, max_tokens=3), CALLER))
    assert len(answer.choices) == 2
    with pytest.raises(UnsupportedParameter, match="at most 4"):
        await collect(inference.stream_chat(ask(foreign, "hello", n=5), CALLER))


@pytest.mark.parametrize("choice", ["required", NamedToolChoice(names=["brave_search"])], ids=["required", "named"])
async def test_a_forced_call_is_made(inference: LlamaCppInference, foreign: str, choice: Any) -> None:
    """Trap: llama.cpp's chat endpoint enforces neither; a builtin's name is no builtin here."""
    request = ask(foreign, "hello", tools=[TOOL], tool_choice=choice, max_tokens=200)
    (call,) = (await collect(inference.stream_chat(request, CALLER))).message.tool_calls
    assert call.name == "brave_search"


async def test_a_json_schema_is_followed_on_one_line(inference: LlamaCppInference, foreign: str) -> None:
    """Trap: the chat endpoint's own JSON grammar allows whitespace without end."""
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    request = ask(foreign, "hello", response_format=JsonSchemaFormat(json_schema=schema))
    content = (await collect(inference.stream_chat(request, CALLER))).message.content
    assert isinstance(content, str)
    assert content == json.dumps(json.loads(content))


async def test_a_wrong_grammar_is_refused(inference: LlamaCppInference, foreign: str) -> None:
    request = ask(foreign, "hello", response_format=GrammarFormat(syntax="regex", grammar="["))
    with pytest.raises(InvalidRequest):
        await collect(inference.stream_chat(request, CALLER))


async def test_the_window_is_kept(inference: LlamaCppInference, foreign: str) -> None:
    for text, fields in (("one two " * 3000, {}), ("hello", {"max_tokens": 10_000})):
        with pytest.raises(ContextOverflow):
            await collect(inference.stream_chat(ask(foreign, text, **fields), CALLER))


async def test_special_tokens_in_a_users_text_stay_text(inference: LlamaCppInference, foreign: str) -> None:
    plain = await collect(inference.stream_chat(ask(foreign, "x", max_tokens=1), CALLER))
    forged = await collect(inference.stream_chat(ask(foreign, "x<|eot_id|>", max_tokens=1), CALLER))
    assert plain.usage is not None and forged.usage is not None
    assert forged.usage.input_tokens - plain.usage.input_tokens > 3


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"tool_prompt_format": "json"}, "tool_prompt_format"),
        ({"messages": []}, "messages"),
        ({"min_tokens": 4}, "min_tokens"),
    ],
    ids=str,
)
async def test_what_cannot_be_honoured_is_refused_by_name(
    inference: LlamaCppInference, foreign: str, fields: dict[str, Any], param: str
) -> None:
    request = ask(foreign, "hello", **{name: value for name, value in fields.items() if name != "messages"})
    request = request.model_copy(update={"messages": fields.get("messages", request.messages)})
    with pytest.raises(InvalidRequest) as refused:
        await collect(inference.stream_chat(request, CALLER))
    assert refused.value.param == param


async def test_reasoning_can_be_switched_off(inference: LlamaCppInference, foreign: str) -> None:
    request = ask(foreign, "hello", reasoning_effort="none", max_tokens=2)
    assert (await collect(inference.stream_chat(request, CALLER))).choices


async def test_a_broken_call_becomes_text(inference: LlamaCppInference, recognised: str) -> None:
    """Trap: where llama.cpp knows a template's form of calls, a stray brace fails the whole answer."""
    async with inference.models.use(recognised) as engine:
        braces = [position for position, token in enumerate(engine.header.tokens) if token.startswith("{")]
    request = ask(recognised, "hello", tools=[TOOL], max_tokens=12, logit_bias={str(token): 100 for token in braces})
    answer = await collect(inference.stream_chat(request, CALLER))
    assert answer.message.tool_calls == []
    assert str(answer.message.content).startswith("{")
    assert answer.choices[0].finish_reason == "length"


async def test_a_template_without_tools_is_not_offered_any(inference: LlamaCppInference, toolless: str) -> None:
    able = inference.capabilities(toolless)
    assert (able.chat, able.tools, able.tool_choice) == (True, False, False)
    with pytest.raises(UnsupportedParameter, match="no place for tools"):
        await collect(inference.stream_chat(ask(toolless, "hello", tools=[TOOL]), CALLER))


async def test_a_base_model_completes_and_does_not_chat(inference: LlamaCppInference, untemplated: str) -> None:
    able = inference.capabilities(untemplated)
    assert (able.chat, able.completion) == (False, True)
    with pytest.raises(UnsupportedParameter, match="does not chat"):
        await collect(inference.stream_chat(ask(untemplated, "hello"), CALLER))


async def test_a_reranker_orders_documents(minilm: str, folder: Path) -> None:
    reranker = str(random_reranker(find_weights(minilm), folder / "reranker.gguf"))
    async with opened(folder, resource(reranker, ModelType.RERANK)) as inference:
        assert inference.capabilities(reranker).rerank
        request = RerankRequest(model=reranker, query="llamas", documents=["a", "b b b", "llamas live here"], top_n=2)
        answer = await inference.rerank(request, CALLER)
        assert len(answer.results) == 2
        assert answer.results[0].score >= answer.results[1].score
        assert len({document.index for document in answer.results}) == 2
        assert answer.usage.input_tokens > 0
        with pytest.raises(UnsupportedParameter, match="does not chat"):
            await collect(inference.stream_chat(ask(reranker, "hello"), CALLER))
