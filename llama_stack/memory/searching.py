"""What was asked is found: by vector, by words or by both, filtered, without duplicates, best first."""

import asyncio
from collections.abc import Mapping, Sequence

from llama_stack.api.chunk_index import FoundChunk
from llama_stack.api.common import Caller
from llama_stack.api.filters import MAX_COMPARISONS, MAX_DEPTH, Comparison, Compound, size_of
from llama_stack.api.inference import Inference
from llama_stack.api.memory import Chunk, MemoryQuery, SearchMode
from llama_stack.api.messages import text_of
from llama_stack.api.resources import GraphBank, KeyValueBank, VectorBank
from llama_stack.errors import InvalidRequest, UnsupportedParameter
from llama_stack.gathering import gathered
from llama_stack.memory.diversity import diverse, without_duplicates
from llama_stack.memory.embedding import Embedder
from llama_stack.memory.fusion import fuse
from llama_stack.memory.graph import neighbourhood
from llama_stack.memory.ingestion import Share
from llama_stack.memory.pooling import BankFindings, pooled
from llama_stack.memory.reranking import MAX_RERANKED, reranked
from llama_stack.memory.rewriting import rewritten

LEAST_CANDIDATES = 40
CANDIDATES_A_CHUNK = 4
MOST_CANDIDATES = 500
SPARE_CHUNKS = 3
"""Asked for beyond what is wanted where the ranking is the answer; with more duplicates all candidates are fetched."""

Space = tuple[str, int]
"""Of vectors that can be compared: embedding model and dimension."""


async def search(
    shares: Sequence[Share], query: MemoryQuery, caller: Caller, inference: Inference, embedder: Embedder
) -> list[Chunk]:
    """The best chunks over all the banks. Raises InvalidRequest for what a bank cannot be asked."""
    check_filter(query.filters)
    if query.rerank_model is not None:
        inference.capabilities(query.rerank_model)  # an unknown model is told also where nothing is found
    question = text_of(query.query)
    if query.rewriting is not None:
        question = await rewritten(query.rewriting, question, inference, caller)
        query = query.model_copy(update={"query": question})
    vectors = await _embedded(shares, query, question, caller, embedder)
    if len(shares) == 1:
        found = await _found_in(shares[0], query, question, vectors)
    else:
        banks = await gathered(_findings(share, query, question, vectors) for share in shares)
        found = await asyncio.to_thread(pooled, question, banks, query.fusion)
    is_ranked_again = query.rerank_model is not None or query.diversity > 0
    found = without_duplicates(found, None if is_ranked_again else query.max_chunks)
    if query.rerank_model is not None:
        _require_question(question)
        found = await reranked(query.rerank_model, question, found[:MAX_RERANKED], inference, caller)
    if query.diversity:
        found = diverse(found, query.max_chunks, query.diversity)
    if query.score_threshold is not None:
        found = [one for one in found if one.score >= query.score_threshold]
    return [one.chunk.model_copy(update={"score": one.score}) for one in found[: query.max_chunks]]


async def _embedded(
    shares: Sequence[Share], query: MemoryQuery, question: str, caller: Caller, embedder: Embedder
) -> dict[Space, bytes]:
    """The question's vector in each space that the banks need."""
    kinds = {
        space
        for share in shares
        if (space := _space(share)) is not None and mode_of(share, query) is not SearchMode.KEYWORD
    }
    if kinds:
        _require_question(question)
    keys = sorted(kinds)
    made = await gathered(embedder.embed_query(model, question, dimension, caller) for model, dimension in keys)
    return dict(zip(keys, made, strict=True))


def check_filter(condition: Comparison | Compound | None) -> None:
    """Raises InvalidRequest for a filter that is nested too deeply or compares too much."""
    if condition is None:
        return
    depth, comparisons = size_of(condition)
    if depth > MAX_DEPTH or comparisons > MAX_COMPARISONS:
        raise InvalidRequest(
            f"filters: {comparisons} comparisons in {depth} levels; at most {MAX_COMPARISONS} in {MAX_DEPTH} are taken",
            param="filters",
        )


def mode_of(share: Share, query: MemoryQuery) -> SearchMode:
    """How the bank is searched. Raises UnsupportedParameter for a mode it has not."""
    has_words = share.place.keyword and share.index.abilities().keyword
    has_vectors = bool(share.place.dimension)
    mode = query.mode
    if mode is None:
        mode = (SearchMode.HYBRID if has_words else SearchMode.VECTOR) if has_vectors else SearchMode.KEYWORD
    if (mode is not SearchMode.KEYWORD and not has_vectors) or (mode is not SearchMode.VECTOR and not has_words):
        missing = "vectors" if not has_vectors else "an index of words"
        raise UnsupportedParameter(
            f"the memory bank {share.bank.identifier!r} has not {missing}, so it cannot be searched by {mode.value}; "
            "leave out mode for what it can",
            param="mode",
        )
    return mode


def _require_question(question: str) -> None:
    if not question.strip():
        raise InvalidRequest("query: has no text to search for", param="query")


async def _found_in(
    share: Share, query: MemoryQuery, question: str, vectors: Mapping[Space, bytes]
) -> list[FoundChunk]:
    """What the only bank found."""
    match share.bank.bank:
        case KeyValueBank():
            return await _values(share, query, question)
        case GraphBank():
            return await _facts(share, query)
    few = query.max_chunks + SPARE_CHUNKS
    is_final = mode_of(share, query) is not SearchMode.HYBRID and not query.diversity and query.rerank_model is None
    if is_final and few < _limit(query):
        vector_ranking, keyword_ranking = await _rankings(share, query, question, vectors, few)
        found = vector_ranking or keyword_ranking
        if len(found) < few or len(without_duplicates(found)) >= query.max_chunks:
            return found
    vector_ranking, keyword_ranking = await _rankings(share, query, question, vectors, _limit(query))
    if mode_of(share, query) is SearchMode.HYBRID:
        return fuse(vector_ranking, keyword_ranking, query.fusion)
    return vector_ranking or keyword_ranking


async def _findings(share: Share, query: MemoryQuery, question: str, vectors: Mapping[Space, bytes]) -> BankFindings:
    """What one bank of several found."""
    match share.bank.bank:
        case KeyValueBank():
            return BankFindings(named=await _values(share, query, question))
        case GraphBank():
            facts = await _facts(share, query)
            return BankFindings(named=facts) if query.entities else BankFindings(near=facts)
    vector_ranking, keyword_ranking = await _rankings(share, query, question, vectors, _limit(query))
    return BankFindings(
        mode=mode_of(share, query), space=_space(share), by_meaning=vector_ranking, by_words=keyword_ranking
    )


def _limit(query: MemoryQuery) -> int:
    return min(max(query.max_chunks * CANDIDATES_A_CHUNK, LEAST_CANDIDATES), MOST_CANDIDATES)


def _space(share: Share) -> Space | None:
    kind = share.bank.bank
    return (kind.embedding_model, share.place.dimension) if isinstance(kind, VectorBank) else None


async def _rankings(
    share: Share, query: MemoryQuery, question: str, vectors: Mapping[Space, bytes], limit: int
) -> list[list[FoundChunk]]:
    """By meaning and by words; empty where the bank is not searched so."""
    mode, space = mode_of(share, query), _space(share)
    vector = None if space is None or mode is SearchMode.KEYWORD else vectors.get(space)
    if mode is not SearchMode.VECTOR:
        _require_question(question)
    searches = []
    if vector is not None:
        is_diverse = query.diversity > 0
        searches.append(share.index.search_vector(share.place, vector, limit, query.filters, with_vectors=is_diverse))
    if mode is not SearchMode.VECTOR:
        searches.append(share.index.search_keyword(share.place, question, limit, query.filters))
    found = await gathered(searches)
    return [found.pop(0) if vector is not None else [], found.pop() if found else []]


async def _facts(share: Share, query: MemoryQuery) -> list[FoundChunk]:
    chunks = await neighbourhood(share.index, share.place, query)
    return [FoundChunk(chunk=chunk, score=chunk.score) for chunk in chunks]


async def _values(share: Share, query: MemoryQuery, question: str) -> list[FoundChunk]:
    """The values of the keys, in the order in which they are asked for; the question is a key where none is named."""
    keys = query.keys or ([question] if question else [])
    if not keys:
        raise InvalidRequest("a key-value bank is asked for `keys`", param="keys")
    found = await share.index.list_chunks(share.place, document_ids=keys, where=query.filters, limit=len(keys))
    by_key = {one.chunk.document_id: one for one in found}
    return [by_key[key].model_copy(update={"score": 1.0}) for key in dict.fromkeys(keys) if key in by_key]
