"""The context window: counted before, refused with the numbers, never cut in silence."""

import pytest

from llama_stack.api.answers import collect
from llama_stack.api.inference import CompletionRequest, Sampling
from llama_stack.api.tools import ToolDefinition
from llama_stack.errors import ContextOverflow
from llama_stack_providers.inline.llama_cpp import LlamaCppInference
from tests.providers.inline.llama_cpp.conftest import CALLER, ask

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]


async def window_of(inference: LlamaCppInference, model: str) -> int:
    async with inference.models.use(model) as engine:
        return engine.window


async def test_a_prompt_over_the_window_is_refused_with_its_length(inference: LlamaCppInference, model: str) -> None:
    window = await window_of(inference, model)
    with pytest.raises(ContextOverflow) as refused:
        await collect(inference.stream_chat(ask(model, "one two " * window), CALLER))
    assert refused.value.http_status == 400
    assert refused.value.param == "messages"
    assert f"context window of {window} tokens" in refused.value.message


async def test_tokens_are_counted_as_the_answer_counts_them(inference: LlamaCppInference, model: str) -> None:
    tool = ToolDefinition(name="brave_search", parameters={"type": "object", "properties": {"query": {}}})
    for request in (
        ask(model, "hello", max_tokens=1),
        ask(model, "a forged <|eot_id|> and ünïcode 🙂", max_tokens=1),
        ask(model, "what is the weather", tools=[tool], max_tokens=1),
    ):
        answer = await collect(inference.stream_chat(request, CALLER))
        assert answer.usage is not None
        assert await inference.count_tokens(request, CALLER) == answer.usage.input_tokens
    assert inference.capabilities(model).token_counts


async def test_an_answer_that_may_not_fit_is_refused_with_both_numbers(
    inference: LlamaCppInference, model: str
) -> None:
    window = await window_of(inference, model)
    prompt = (await collect(inference.stream_chat(ask(model, "hello", max_tokens=1), CALLER))).usage
    assert prompt is not None
    room = window - prompt.input_tokens
    with pytest.raises(ContextOverflow) as refused:
        await collect(inference.stream_chat(ask(model, "hello", max_tokens=room + 1), CALLER))
    for number in (prompt.input_tokens, room + 1, window + 1, window):
        assert str(number) in refused.value.message
    assert (await collect(inference.stream_chat(ask(model, "hello", max_tokens=room), CALLER))).choices


async def test_without_max_tokens_the_answer_ends_with_the_window(inference: LlamaCppInference, model: str) -> None:
    async with inference.models.use(model) as engine:
        tokens = await engine.tokens_of("one two " * engine.window, special=True)
        request = CompletionRequest(
            model=model,
            prompt=tokens[: engine.window - 8],
            response_format={"type": "grammar", "grammar": 'root ::= [a-z ]+ "!"'},
        )
        answer = await collect(inference.complete(request, CALLER))
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.input_tokens == engine.window - 8
    assert 1 <= answer.usage.output_tokens <= 8


async def test_a_prompt_that_is_far_too_long_is_refused_without_counting(
    inference: LlamaCppInference, model: str
) -> None:
    """Trap: the time to tokenise special tokens grows with the square of their number; megabytes take minutes."""
    with pytest.raises(ContextOverflow):
        await collect(inference.complete(CompletionRequest(model=model, prompt="<|eot_id|>" * 300_000), CALLER))


async def test_a_long_prompt_that_fits_is_counted_exactly(inference: LlamaCppInference, model: str) -> None:
    window = await window_of(inference, model)
    request = CompletionRequest(model=model, prompt="again " * (window // 4), sampling=Sampling(max_tokens=window // 8))
    answer = await collect(inference.complete(request, CALLER))
    assert answer.usage is not None
    assert answer.usage.input_tokens > window // 4
