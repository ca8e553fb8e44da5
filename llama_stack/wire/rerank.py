"""Reranking in the shape that Jina, Cohere, vLLM and llama.cpp share (`POST /rerank`), both directions."""

from typing import Any

from pydantic import Field, ValidationError

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import RankedDocument, RerankAnswer, RerankRequest
from llama_stack.errors import InvalidRequest, ProviderFailed
from llama_stack.wire.openai_answer import decode_usage
from llama_stack.wire.openai_errors import raise_error_in_answer
from llama_stack.wire.validation import OpenBody, invalid_request


class RerankBody(OpenBody):
    """Body of POST /v1/rerank. Fields it does not name go to the model's provider as they are."""

    model: str = Field(min_length=1)
    query: str
    documents: list[str] = Field(min_length=1)
    top_n: int | None = None
    return_documents: bool | None = None


def decode_rerank_call(body: object) -> tuple[RerankRequest, bool]:
    """The request, and whether the answer shall repeat the documents."""
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    try:
        parsed = RerankBody.model_validate(body)
        request = RerankRequest(
            model=parsed.model,
            query=parsed.query,
            documents=parsed.documents,
            top_n=parsed.top_n,
            extra=parsed.unknown(),
        )
    except ValidationError as error:
        raise invalid_request(error, body) from None
    return request, bool(parsed.return_documents)


def encode_rerank_request(request: RerankRequest) -> JsonObject:
    body: JsonObject = {
        **request.extra,
        "model": request.model,
        "query": request.query,
        "documents": request.documents,
    }
    if request.top_n is not None:
        body["top_n"] = request.top_n
    return body


def encode_rerank(answer: RerankAnswer, request: RerankRequest, *, return_documents: bool) -> JsonObject:
    results: list[JsonObject] = []
    for ranked in answer.results:
        result: JsonObject = {"index": ranked.index, "relevance_score": ranked.score}
        if return_documents:
            result["document"] = {"text": request.documents[ranked.index]}
        results.append(result)
    usage = answer.usage
    return {
        "model": request.model,
        "results": results,
        "usage": {"prompt_tokens": usage.input_tokens, "total_tokens": usage.total_tokens},
    }


def decode_rerank(body: Any, *, documents: int) -> RerankAnswer:
    """documents: how many were sent. Raises ProviderFailed for an answer in another shape."""
    if isinstance(body, dict) and body.get("error"):
        raise_error_in_answer(body["error"])
    try:
        results = [
            RankedDocument(index=item["index"], score=_score(item)) for item in body.get("results") or body["data"]
        ]
        usage = decode_usage(body.get("usage"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ProviderFailed("the upstream's ranking is in no known shape") from error
    if any(not 0 <= ranked.index < documents for ranked in results):
        raise ProviderFailed("the upstream ranked a document that was not sent")
    results.sort(key=lambda ranked: -ranked.score)
    return RerankAnswer(results=results) if usage is None else RerankAnswer(results=results, usage=usage)


def _score(item: JsonObject) -> float:
    return float(item["relevance_score"] if "relevance_score" in item else item["score"])
