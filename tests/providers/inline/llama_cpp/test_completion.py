"""Raw completion: text and token ids continued as they stand."""

import pytest

from llama_stack.api.answers import collect
from llama_stack.api.inference import CompletionRequest, Sampling
from llama_stack.errors import InvalidRequest, UnsupportedParameter
from llama_stack_providers.inline.llama_cpp import LlamaCppInference
from tests.providers.inline.llama_cpp.conftest import CALLER

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

PROMPT = "<|start_header_id|>user<|end_header_id|>\n\nhello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"


async def completed(inference: LlamaCppInference, request: CompletionRequest) -> str:
    content = (await collect(inference.complete(request, CALLER))).message.content
    assert isinstance(content, str)
    return content


async def test_text_is_continued(inference: LlamaCppInference, model: str) -> None:
    request = CompletionRequest(model=model, prompt=PROMPT, sampling=Sampling(max_tokens=4))
    answer = await collect(inference.complete(request, CALLER))
    assert answer.message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None and answer.usage.output_tokens == 4


async def test_token_ids_are_continued_like_their_text(inference: LlamaCppInference, model: str) -> None:
    async with inference.models.use(model) as engine:
        tokens = await engine.tokens_of(PROMPT, special=True)
    sampling = Sampling(max_tokens=8)
    from_text = await completed(inference, CompletionRequest(model=model, prompt=PROMPT, sampling=sampling))
    from_tokens = await completed(inference, CompletionRequest(model=model, prompt=tokens, sampling=sampling))
    assert from_text == from_tokens


async def test_an_echo_puts_the_prompt_first(inference: LlamaCppInference, model: str) -> None:
    request = CompletionRequest(model=model, prompt="one two", echo=True, n=2, sampling=Sampling(max_tokens=2))
    answer = await collect(inference.complete(request, CALLER))
    assert all(str(choice.message.content).startswith("one two") for choice in answer.choices)


async def test_token_ids_are_echoed_as_text(inference: LlamaCppInference, model: str) -> None:
    async with inference.models.use(model) as engine:
        tokens = await engine.tokens_of("one two", special=False)
    request = CompletionRequest(model=model, prompt=tokens, echo=True, sampling=Sampling(max_tokens=1))
    assert (await completed(inference, request)).startswith("one two")


async def test_each_token_has_its_probability(inference: LlamaCppInference, model: str) -> None:
    request = CompletionRequest(model=model, prompt=PROMPT, logprobs=3, sampling=Sampling(max_tokens=3))
    (choice,) = (await collect(inference.complete(request, CALLER))).choices
    assert choice.logprobs is not None
    assert [len(token.top) for token in choice.logprobs] == [3, 3, 3]
    assert "".join(token.token for token in choice.logprobs) == choice.message.content


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [5, 10**7]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": "x", "suffix": "y"}, "suffix"),
        ({"prompt": "x", "echo": True, "logprobs": 1}, "echo"),
    ],
    ids=str,
)
async def test_what_cannot_be_done_is_refused_by_name(
    inference: LlamaCppInference, model: str, fields: dict[str, object], param: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await collect(inference.complete(CompletionRequest.model_validate({"model": model, **fields}), CALLER))
    assert refused.value.param == param


async def test_an_embedding_model_completes_nothing(inference: LlamaCppInference, minilm: str) -> None:
    with pytest.raises(UnsupportedParameter, match="does not complete"):
        await collect(inference.complete(CompletionRequest(model=minilm, prompt="x"), CALLER))
