"""Search in vector stores: the question, its filters and ranking options, and what was found."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from llama_stack.api.common import JsonObject
from llama_stack.api.filters import Comparison, Compound, GivenFilter
from llama_stack.api.memory import (
    Chunk,
    Fusion,
    MemoryQuery,
    ReciprocalRankFusion,
    Rewriting,
    SearchMode,
    WeightedFusion,
)
from llama_stack.errors import InvalidRequest, NotFound
from llama_stack.wire.validation import Body, invalid_request

MAX_RESULTS = 50
MAX_QUESTIONS = 64
"""Each is a search of its own: thousands in one small request would be minutes of work."""
_FILTER: TypeAdapter[Comparison | Compound | None] = TypeAdapter(GivenFilter)


class HybridSearch(Body):
    embedding_weight: float = Field(ge=0)
    text_weight: float = Field(ge=0)


class RankingOptions(Body):
    """ranker: `auto` and OpenAI's own names rank as this stack does by default; `none` does not rank again.

    Ours: `rrf`, `weighted`, `vector`, `keyword`, and any model that reranks. alpha, impact_factor: of the first two.
    """

    ranker: str | None = None
    score_threshold: float | None = Field(None, ge=0, le=1)
    hybrid_search: HybridSearch | None = None
    alpha: float | None = Field(None, ge=0, le=1)
    impact_factor: float | None = Field(None, gt=0)
    diversity: float | None = Field(None, ge=0, le=1)


class SearchBody(Body):
    query: str | Annotated[list[str], Field(max_length=MAX_QUESTIONS)]
    filters: dict[str, Any] | None = None
    max_num_results: int | None = Field(None, ge=1, le=MAX_RESULTS)
    ranking_options: RankingOptions | None = None
    rewrite_query: bool | None = None
    search_mode: Literal["vector", "keyword", "hybrid"] | None = None


def decode_search(body: Any, *, rewriting: Rewriting | None) -> tuple[list[str], MemoryQuery]:
    """The questions, and how each is searched for. rewriting: what `rewrite_query` asks for; None where nobody can.

    Raises InvalidRequest, naming the field.
    """
    try:
        said = SearchBody.model_validate(body)
    except ValidationError as error:
        raise invalid_request(error, body) from error
    questions = [said.query] if isinstance(said.query, str) else said.query
    if not questions or any(not question.strip() for question in questions):
        raise InvalidRequest("query: is empty", param="query")
    if said.rewrite_query and rewriting is None:
        raise InvalidRequest(
            "rewrite_query: this stack has no chat model that could rewrite the query; leave it out",
            param="rewrite_query",
        )
    query = MemoryQuery(
        max_chunks=said.max_num_results or 10,
        filters=decode_filters(said.filters, "filters"),
        rewriting=rewriting if said.rewrite_query else None,
        mode=None if said.search_mode is None else SearchMode(said.search_mode),
    )
    return questions, with_ranking(query, said.ranking_options)


def decode_filters(filters: Any, param: str) -> Comparison | Compound | None:
    """Raises InvalidRequest that names the operator or the value that is wrong."""
    try:
        return _FILTER.validate_python(filters)
    except ValidationError as error:
        raise invalid_request(error, filters, under=param) from error


def with_ranking(query: MemoryQuery, options: RankingOptions | None) -> MemoryQuery:
    """The query, ranked as the options say."""
    if options is None:
        return query
    changes: dict[str, Any] = {"score_threshold": options.score_threshold or None}
    if options.diversity is not None:
        changes["diversity"] = options.diversity
    fusion: Fusion | None = None
    match options.ranker:
        case None | "auto" | "none" | "default-2024-08-21" | "default-2024-11-15" | "default_2024_08_21":
            pass
        case "rrf":
            fusion = (
                ReciprocalRankFusion()
                if options.impact_factor is None
                else ReciprocalRankFusion(impact_factor=options.impact_factor)
            )
        case "weighted":
            fusion = WeightedFusion(alpha=0.5 if options.alpha is None else options.alpha)
        case "vector" | "keyword":
            changes["mode"] = SearchMode(options.ranker)
        case model:
            changes["rerank_model"] = model
    weights = options.hybrid_search
    if weights is not None:
        total = weights.embedding_weight + weights.text_weight
        if total <= 0:
            raise InvalidRequest(
                "ranking_options.hybrid_search: one of the weights must be more than 0",
                param="ranking_options.hybrid_search",
            )
        fusion = WeightedFusion(alpha=weights.embedding_weight / total)
    if fusion is not None:
        changes |= {"fusion": fusion, "mode": SearchMode.HYBRID}
    return query.model_copy(update=changes)


def unknown_ranker(query: MemoryQuery, error: NotFound) -> InvalidRequest | None:
    """What a search says whose ranker is neither a way to rank nor a model; None where that is not what was missed."""
    if query.rerank_model is None or error.code != "model_not_found":
        return None
    return InvalidRequest(
        f"ranking_options.ranker: {query.rerank_model!r} is none of auto, none, rrf, weighted, vector and keyword, and "
        f"no model either: {error.message}",
        param="ranking_options.ranker",
        code=error.code,
    )


def encode_results(questions: Sequence[str], chunks: Sequence[Chunk]) -> JsonObject:
    return {
        "object": "vector_store.search_results.page",
        "search_query": list(questions),
        "data": [encode_result(chunk) for chunk in chunks],
        "has_more": False,
        "next_page": None,
    }


def encode_result(chunk: Chunk) -> JsonObject:
    """One chunk. Beside OpenAI's fields, where in the file it stands."""
    return {
        "file_id": chunk.document_id,
        "filename": chunk.document_name or chunk.document_id,
        "score": chunk.score,
        "attributes": chunk.metadata,
        "content": [{"type": "text", "text": chunk.content}],
        "chunk_id": chunk.chunk_id,
        "page": chunk.page,
        "start": chunk.start,
        "end": chunk.end,
    }
