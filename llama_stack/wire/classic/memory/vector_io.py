"""Chunks in, chunks out (`vector_io` of `llama-stack-client` 0.2.12)."""

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated

from pydantic import Field, FiniteFloat

from llama_stack.api.common import JsonObject
from llama_stack.api.memory import MAX_CHUNKS, Chunk, Embedded, Fusion, MemoryQuery, ReciprocalRankFusion, SearchMode
from llama_stack.api.messages import text_of
from llama_stack.api.token_estimate import estimated_text_tokens
from llama_stack.errors import InvalidRequest
from llama_stack.wire.classic.body import ClassicBody, parse_body
from llama_stack.wire.classic.content import ContentBody, decode_content
from llama_stack.wire.classic.memory.documents import QueryBody, decode_query, refuse_expiring
from llama_stack.wire.validation import Body

MAX_CHUNKS_IN = 10_000
"""In one request."""

# --- in --------------------------------------------------------------------------------------------------------------


_MAX_FLOAT32 = 3.4e38
Float32 = Annotated[FiniteFloat, Field(ge=-_MAX_FLOAT32, le=_MAX_FLOAT32)]


class ChunkBody(ClassicBody):
    """A chunk as it is to be found. metadata: `document_id` names its document. chunk_id: later clients'."""

    content: ContentBody
    metadata: JsonObject | None = None
    embedding: list[Float32] | None = Field(None, min_length=1)
    chunk_id: str | None = Field(None, min_length=1, max_length=512)


class InsertChunksBody(ClassicBody):
    """Body of POST /v1/vector-io/insert."""

    vector_db_id: str = Field(min_length=1)
    chunks: list[ChunkBody] = Field(min_length=1, max_length=MAX_CHUNKS_IN)
    ttl_seconds: int | None = None


def decode_chunks(body: object) -> tuple[str, list[Embedded]]:
    """The bank's id and the chunks. Raises InvalidRequest naming the wrong field.

    Ids that are not given are made of the content, so that sending the same again changes nothing.
    """
    parsed = parse_body(InsertChunksBody, body)
    refuse_expiring(parsed.ttl_seconds)
    seen: Counter[tuple[str, str]] = Counter()
    positions: Counter[str] = Counter()
    decoded = []
    for number, one in enumerate(parsed.chunks):
        text = text_of(decode_content(one.content))
        if not text.strip():
            raise InvalidRequest(f"chunks.{number}.content: has no text to be found by", param=f"chunks.{number}")
        metadata = dict(one.metadata or {})
        document_id = _document_id(metadata.pop("document_id", None), text, number)
        seen[document_id, text] += 1
        chunk = Chunk(
            chunk_id=one.chunk_id or _made_id("chunk", document_id, text, str(seen[document_id, text])),
            document_id=document_id,
            content=text,
            document_name=document_id,
            position=positions[document_id],
            end=len(text),
            token_count=_token_count(metadata.pop("token_count", None)) or estimated_text_tokens(text),
            metadata=metadata,
        )
        positions[document_id] += 1
        decoded.append(Embedded(chunk=chunk, vector=one.embedding))
    return parsed.vector_db_id, decoded


def _document_id(given: object, text: str, number: int) -> str:
    if given is None or given == "":
        return _made_id("doc", text)
    if not isinstance(given, str) or len(given) > 512:
        where = f"chunks.{number}.metadata.document_id"
        raise InvalidRequest(f"{where}: should be a text of at most 512 characters", param=where)
    return given


def _made_id(prefix: str, *parts: str) -> str:
    return f"{prefix}_{sha256(chr(0).join(parts).encode(errors='replace')).hexdigest()[:32]}"


def _token_count(given: object) -> int:
    """What comes back from a query may be sent again; the classic client has made a float of it then."""
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    return int(given) if is_number and 0 < given < 1e9 else 0  # type: ignore[operator, call-overload]  # just tested


# --- out -------------------------------------------------------------------------------------------------------------


class QueryParamsBody(Body):
    """`params` of a query. Others than these would be ignored, so they are refused. ranker: for mode hybrid."""

    max_chunks: int | None = Field(None, ge=1, le=MAX_CHUNKS)
    score_threshold: FiniteFloat | None = None
    mode: SearchMode | None = Field(None, strict=False)
    ranker: Fusion | None = None


class QueryChunksBody(ClassicBody):
    """Body of POST /v1/vector-io/query."""

    vector_db_id: str = Field(min_length=1)
    query: QueryBody
    params: QueryParamsBody | None = None


def decode_chunk_query(body: object) -> tuple[str, MemoryQuery]:
    """The bank's id and what is looked for. Raises InvalidRequest naming the wrong field."""
    parsed = parse_body(QueryChunksBody, body)
    params = parsed.params or QueryParamsBody()
    defaults = MemoryQuery()
    query = MemoryQuery(
        query=decode_query(parsed.query),
        max_chunks=params.max_chunks or defaults.max_chunks,
        score_threshold=params.score_threshold,
        mode=params.mode,
        fusion=params.ranker or ReciprocalRankFusion(),
    )
    return parsed.vector_db_id, query


def encode_chunks(chunks: Sequence[Chunk]) -> JsonObject:
    """Two lists side by side, best first. Vectors are not given back."""
    return {
        "chunks": [
            {"content": chunk.content, "metadata": chunk_metadata(chunk), "embedding": None} for chunk in chunks
        ],
        "scores": [chunk.score for chunk in chunks],
    }


def chunk_metadata(chunk: Chunk) -> JsonObject:
    """The document's own, and where the chunk comes from."""
    where: JsonObject = {"document_name": chunk.document_name} if chunk.document_name != chunk.document_id else {}
    if chunk.page is not None:
        where["page"] = chunk.page
    if chunk.headings:
        where["headings"] = chunk.headings
    return {**where, **chunk.metadata, "document_id": chunk.document_id, "token_count": chunk.token_count}
