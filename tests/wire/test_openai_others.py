"""Completions, embeddings, models and rankings: what one end writes, the other reads as the same."""

from base64 import b64encode
from typing import Any

import orjson
import pytest

from llama_stack.api.answers import AnswerBuilder
from llama_stack.api.inference import (
    ChatAnswer,
    ChatEnd,
    ChatEvent,
    ChoiceEnd,
    CompletionRequest,
    EmbeddingAnswer,
    EmbeddingRequest,
    GrammarFormat,
    ProviderModel,
    RankedDocument,
    RerankAnswer,
    RerankRequest,
    Sampling,
    TextDelta,
    TokenLogprob,
    Usage,
)
from llama_stack.api.resources import Model, ModelType
from llama_stack.errors import ProviderFailed
from llama_stack.wire.openai_answer import AnswerHead
from llama_stack.wire.openai_completions import (
    CompletionChunkDecoder,
    CompletionChunkEncoder,
    decode_completion_call,
    encode_completion,
    encode_completion_request,
)
from llama_stack.wire.openai_embeddings import (
    decode_embedding_call,
    decode_embeddings,
    encode_embedding_request,
    encode_embeddings,
)
from llama_stack.wire.openai_models import decode_model, decode_provider_models, encode_model
from llama_stack.wire.rerank import decode_rerank, decode_rerank_call, encode_rerank, encode_rerank_request

HEAD = AnswerHead(model="m", id="cmpl-1", created=1)


@pytest.mark.parametrize(
    "request_",
    [
        CompletionRequest(model="m", prompt="p"),
        CompletionRequest(model="m", prompt=[1, 2], whole=True),
        CompletionRequest(
            model="m",
            prompt="p",
            suffix="s",
            echo=True,
            response_format=GrammarFormat(grammar="g", syntax="regex"),
            sampling=Sampling(temperature=0, stop=["a"], max_tokens=3, top_k=2),
            n=2,
            logprobs=0,
            user="u",
            extra={"x": 1},
        ),
    ],
)
def test_a_completion_request_survives_the_wire(request_: CompletionRequest) -> None:
    [again], wish = decode_completion_call(encode_completion_request(request_, stream=not request_.whole))
    assert again == request_
    assert wish.stream is not request_.whole


def answer_of(events: list[ChatEvent]) -> ChatAnswer:
    builder = AnswerBuilder()
    for event in events:
        builder.feed(event)
    return builder.answer


def decoded(*chunks: Any, complete: bool = True) -> ChatAnswer:
    decoder = CompletionChunkDecoder()
    return answer_of([event for chunk in chunks for event in decoder.feed(chunk)] + decoder.end(complete=complete))


LOGPROBS = [TokenLogprob(token="Hi", logprob=-0.5, top=[TokenLogprob(token="Ho", logprob=-1.0)])]
EVENTS: list[ChatEvent] = [
    TextDelta(text="Hi", logprobs=LOGPROBS),
    TextDelta(text="b", choice=1),
    ChoiceEnd(finish_reason="length", stop_sequence="END"),
    ChoiceEnd(finish_reason="stop", choice=1),
    ChatEnd(usage=Usage(input_tokens=1, output_tokens=2), model="m", extra={"timings": 1}),
]


def test_a_completion_survives_the_wire_streamed_and_whole() -> None:
    encoder = CompletionChunkEncoder(HEAD, n=2, include_usage=True)
    frames = b"".join(encoder.encode(event) for event in EVENTS).removesuffix(b"\n\n").split(b"\n\n")
    assert frames.pop() == b"data: [DONE]"
    expected = answer_of(EVENTS)
    assert decoded(*(orjson.loads(frame[6:]) for frame in frames)) == expected.model_copy(update={"extra": {}})
    assert decoded(encode_completion([expected], HEAD)) == expected


def test_llama_cpps_form_of_log_probabilities() -> None:
    chunk = {"choices": [{"index": 0, "text": "Hi", "logprobs": {"content": [{"token": "Hi", "logprob": -0.5}]}}]}
    assert decoded(chunk).choices[0].logprobs == [TokenLogprob(token="Hi", logprob=-0.5)]


def test_an_echoed_prompts_first_token_has_no_probability() -> None:
    logprobs = {"tokens": ["a", "b"], "token_logprobs": [None, -1.0], "top_logprobs": None}
    answer = decoded({"choices": [{"index": 0, "text": "ab", "logprobs": logprobs, "finish_reason": "stop"}]})
    assert [token.logprob for token in answer.choices[0].logprobs or ()] == [0.0, -1.0]


@pytest.mark.parametrize(
    "chunk",
    [
        None,
        {"error": "x"},
        {"choices": ["x"]},
        {"choices": [{"text": 3}]},
        {"choices": [{"text": "x", "logprobs": {"tokens": ["a"], "token_logprobs": []}}]},
        {"choices": [{"text": "x"}], "usage": {"prompt_tokens": "x"}},
        {"choices": []},
    ],
)
def test_what_is_no_completion_is_the_upstreams_failure(chunk: Any) -> None:
    with pytest.raises(ProviderFailed):
        decoded(chunk)


def test_a_completion_that_breaks_off_is_a_failure() -> None:
    with pytest.raises(ProviderFailed, match="broke off"):
        decoded({"choices": [{"index": 0, "text": "x"}]}, complete=False)


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_embeddings_survive_the_wire(encoding_format: Any) -> None:
    request = EmbeddingRequest(
        model="e", inputs=["a", "b"], dimensions=2, truncate="start", task="document", user="u", extra={"x": 1}
    )
    assert decode_embedding_call(encode_embedding_request(request, encoding_format)) == (request, encoding_format)
    answer = EmbeddingAnswer(vectors=[[0.5, -1.25], [3.0, 0.0]], usage=Usage(input_tokens=4), truncated=[1])
    assert decode_embeddings(encode_embeddings(answer, "e", encoding_format), expected=2) == answer


def test_tokens_can_be_embedded() -> None:
    for given, inputs in (([1, 2], [[1, 2]]), ([[1], [2]], [[1], [2]])):
        assert decode_embedding_call({"model": "e", "input": given})[0].inputs == inputs


@pytest.mark.parametrize("vector", ["not base64!", b64encode(b"abc").decode(), None, ["x"], {}])
def test_a_vector_that_is_none_is_the_upstreams_failure(vector: Any) -> None:
    with pytest.raises(ProviderFailed):
        decode_embeddings({"data": [{"index": 0, "embedding": vector}]}, expected=1)


@pytest.mark.parametrize(
    "model",
    [
        Model(identifier="a/b", provider_id="p", provider_resource_id="r", context_length=10, metadata={"x": 1}),
        Model(
            identifier="e",
            provider_id="p",
            provider_resource_id="r",
            model_type=ModelType.EMBEDDING,
            embedding_dimension=384,
            created=5,
        ),
    ],
)
def test_a_model_survives_the_wire(model: Model) -> None:
    assert decode_model(encode_model(model)) == model


def test_lists_of_models_in_the_forms_of_partners() -> None:
    rows = [{"id": "a", "context_window": 8}, {"name": "no id"}, "text", {"id": "b", "max_model_len": None}]
    expected = [ProviderModel(id="a", context_length=8), ProviderModel(id="b")]
    assert decode_provider_models({"data": rows}) == decode_provider_models(rows) == expected
    for wrong in ({}, {"data": None}, "x", None):
        with pytest.raises(ProviderFailed):
            decode_provider_models(wrong)


def test_a_ranking_survives_the_wire() -> None:
    request = RerankRequest(model="r", query="q", documents=["a", "b"], top_n=1, extra={"x": 1})
    assert decode_rerank_call(encode_rerank_request(request)) == (request, False)
    answer = RerankAnswer(results=[RankedDocument(index=1, score=0.5)], usage=Usage(input_tokens=3))
    assert decode_rerank(encode_rerank(answer, request, return_documents=True), documents=2) == answer


@pytest.mark.parametrize(
    "body",
    [None, {}, {"results": [{"index": 0}]}, {"results": [{"index": 9, "score": 1}]}, {"results": [{"score": 1}]}],
)
def test_a_ranking_in_no_known_shape(body: Any) -> None:
    with pytest.raises(ProviderFailed):
        decode_rerank(body, documents=2)


def test_the_other_names_in_rankings() -> None:
    body = {"data": [{"index": 0, "score": 0.1}, {"index": 1, "score": 0.2}]}
    assert [ranked.index for ranked in decode_rerank(body, documents=2).results] == [1, 0]
