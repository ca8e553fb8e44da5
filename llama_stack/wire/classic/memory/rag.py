"""The RAG tool (`tool_runtime.rag_tool` of `llama-stack-client` 0.2.12): documents in, context for a prompt out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import orjson
from pydantic import Field

from llama_stack.api.common import JsonObject
from llama_stack.api.memory import (
    MAX_CHUNKS,
    Chunk,
    ChunkSizes,
    Document,
    Fusion,
    MemoryQuery,
    ReciprocalRankFusion,
    Rewriting,
    SearchMode,
)
from llama_stack.api.token_estimate import estimated_text_tokens
from llama_stack.errors import InvalidRequest
from llama_stack.wire.classic.body import ClassicBody, parse_body
from llama_stack.wire.classic.memory.documents import (
    MAX_DOCUMENTS,
    QueryBody,
    RagDocumentBody,
    decode_documents,
    decode_query,
)
from llama_stack.wire.classic.memory.vector_io import chunk_metadata

CHUNK_TEMPLATE = "Result {index}\nContent: {chunk.content}\nMetadata: {metadata}\n"
_PLACEHOLDER = re.compile(r"\{(index|chunk\.content|metadata)\}")
MAX_BANKS = 100
"""That one query may search."""

# --- in --------------------------------------------------------------------------------------------------------------


class RagInsertBody(ClassicBody):
    """Body of POST /v1/tool-runtime/rag-tool/insert."""

    documents: list[RagDocumentBody] = Field(min_length=1, max_length=MAX_DOCUMENTS)
    vector_db_id: str = Field(min_length=1)
    chunk_size_in_tokens: int | None = Field(None, ge=16, le=8192)


def decode_rag_insert(body: object) -> tuple[str, list[Document], ChunkSizes | None]:
    """The bank's id, the documents, and how they are cut; None as the bank says. Raises InvalidRequest."""
    parsed = parse_body(RagInsertBody, body)
    size = parsed.chunk_size_in_tokens
    sizes = None if size is None else ChunkSizes(chunk_size_tokens=size, overlap_size_tokens=size // 4)
    return parsed.vector_db_id, decode_documents(parsed.documents), sizes


# --- out -------------------------------------------------------------------------------------------------------------


class DefaultQueryGeneratorBody(ClassicBody):
    """The texts of the content, with the separator between them, are the query."""

    type: Literal["default"]
    separator: str | None = Field(None, max_length=100)


class LlmQueryGeneratorBody(ClassicBody):
    """A model is asked for the query. template: Jinja2, with `messages`."""

    type: Literal["llm"]
    model: str = Field(min_length=1)
    template: str | None = None


class RagQueryConfigBody(ClassicBody):
    """How context is looked for, and how it is written. mode: left out, the best that the banks can do."""

    query_generator_config: (
        Annotated[DefaultQueryGeneratorBody | LlmQueryGeneratorBody, Field(discriminator="type")] | None
    ) = None
    max_tokens_in_context: int | None = Field(None, ge=1, le=1_000_000)
    max_chunks: int | None = Field(None, ge=1, le=MAX_CHUNKS)
    chunk_template: str | None = Field(None, max_length=20_000)
    mode: SearchMode | None = Field(None, strict=False)
    ranker: Fusion | None = None


class RagQueryBody(ClassicBody):
    """Body of POST /v1/tool-runtime/rag-tool/query."""

    content: QueryBody
    vector_db_ids: list[str] = Field(min_length=1, max_length=MAX_BANKS)
    query_config: RagQueryConfigBody | None = None


@dataclass(frozen=True)
class RagQuery:
    """question: the user's own words. query: what is looked for. max_tokens: of the context."""

    bank_ids: list[str]
    question: str
    query: MemoryQuery
    max_tokens: int
    chunk_template: str


def decode_rag_query(body: object) -> RagQuery:
    """Raises InvalidRequest naming the wrong field."""
    parsed = parse_body(RagQueryBody, body)
    config = parsed.query_config or RagQueryConfigBody()
    template = config.chunk_template or CHUNK_TEMPLATE
    for needed in ("{index}", "{chunk.content}"):
        if needed not in template:
            raise InvalidRequest(
                f"query_config.chunk_template: must contain {needed}; {{metadata}} may be there, too",
                param="query_config.chunk_template",
            )
    generator = config.query_generator_config
    separator, rewriting = " ", None
    if isinstance(generator, LlmQueryGeneratorBody):
        rewriting = Rewriting(model=generator.model, template=generator.template)
    elif generator is not None and generator.separator is not None:
        separator = generator.separator
    question = decode_query(parsed.content, separator)
    query = MemoryQuery(
        query=question,
        max_chunks=config.max_chunks or 5,
        mode=config.mode,
        fusion=config.ranker or ReciprocalRankFusion(),
        rewriting=rewriting,
    )
    return RagQuery(parsed.vector_db_ids, question, query, config.max_tokens_in_context or 4096, template)


def encode_context(asked: RagQuery, found: Sequence[Chunk]) -> JsonObject:
    """Content for a prompt: a header, an item for each chunk, an end mark, and the question once more.

    Whole chunks, best first, as many as the budget of tokens holds. Raises InvalidRequest when it holds none of them.
    """
    if not found:
        return {"content": None, "metadata": {"document_ids": [], "chunks": [], "scores": []}}
    picked: list[Chunk] = []
    items: list[str] = []
    left, smallest = asked.max_tokens, 0
    for chunk in found:
        item = _filled(asked.chunk_template, len(picked) + 1, chunk)
        tokens = estimated_text_tokens(item)
        smallest = min(smallest or tokens, tokens)
        if tokens <= left:
            picked.append(chunk)
            items.append(item)
            left -= tokens
    if not picked:
        raise InvalidRequest(
            f"query_config.max_tokens_in_context: {asked.max_tokens} tokens do not hold any of the {len(found)} chunks "
            f"that were found; the shortest takes about {smallest}",
            param="query_config.max_tokens_in_context",
        )
    header = f"The search of the documents found {len(picked)} chunks.\nResults begin here:\n"
    footer = f'Use these results, as far as they help, to answer the question: "{asked.question}"\n'
    texts = [header, *items, "Results end here.\n", footer]
    return {
        "content": [{"type": "text", "text": text} for text in texts],
        "metadata": {
            "document_ids": [chunk.document_id for chunk in picked],
            "chunks": [chunk.content for chunk in picked],
            "scores": [chunk.score for chunk in picked],
        },
    }


def _filled(template: str, index: int, chunk: Chunk) -> str:
    """Only the three placeholders are filled in: what else stands in braces belongs to the caller's text."""
    values = {
        "index": str(index),
        "chunk.content": chunk.content,
        "metadata": orjson.dumps(chunk_metadata(chunk), default=str).decode(),
    }
    return _PLACEHOLDER.sub(lambda found: values[found.group(1)], template)
