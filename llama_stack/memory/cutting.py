"""A document that has been read becomes the chunks of a bank."""

from collections.abc import Sequence
from hashlib import sha256

from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.inference import Inference
from llama_stack.api.memory import Chunk, ChunkSizes
from llama_stack.api.resources import KeyValueBank, KeywordBank, MemoryBank, VectorBank
from llama_stack.api.token_estimate import estimated_text_tokens
from llama_stack.documents.blocks import ReadDocument
from llama_stack.documents.cutting import ChunkSettings, Piece, TokenCounter, cut
from llama_stack.errors import InvalidRequest
from llama_stack.text.languages import language_of

DEFAULT_CHUNK_TOKENS = 256
"""Small models that embed were mostly trained on texts of about this length, and a passage of it can be cited."""
OVERLAP_PART = 8
HEADER_TOKENS = 48
"""Room in a model's window for the titles that a chunk stands under, and for begin and end tokens."""
MAX_VALUE_CHARACTERS = 1_000_000


def sizes_of(bank: MemoryBank, wanted: ChunkSizes | None, window: int | None) -> ChunkSizes:
    """What a document of the bank is cut by: as wanted, as the bank says, or as suits; never over the model's window.

    Raises InvalidRequest for an overlap that leaves no way forward.
    """
    own = bank.bank if isinstance(bank.bank, VectorBank | KeywordBank) else KeywordBank()
    size = (wanted and wanted.chunk_size_tokens) or own.chunk_size_tokens or DEFAULT_CHUNK_TOKENS
    overlap = own.overlap_size_tokens if wanted is None else wanted.overlap_size_tokens
    if overlap is not None and overlap >= size:
        raise InvalidRequest(
            f"an overlap of {overlap} tokens does not fit chunks of {size}; make it smaller",
            param="overlap_size_tokens",
        )
    if window is not None:
        size = max(16, min(size, window - HEADER_TOKENS))
    return ChunkSizes(
        chunk_size_tokens=size,
        overlap_size_tokens=min(size // OVERLAP_PART if overlap is None else overlap, size // 2),
    )


async def chunks_of(
    bank: MemoryBank,
    document: ReadDocument,
    sizes: ChunkSizes,
    inference: Inference,
    caller: Caller,
    *,
    document_id: str,
    name: str,
    metadata: JsonObject,
) -> list[Chunk]:
    """The document's chunks in order. Raises InvalidRequest for a value of a key-value bank that is too long."""
    if isinstance(bank.bank, KeyValueBank):
        return [_whole(document, document_id, name, metadata)]
    settings = ChunkSettings(
        max_tokens=sizes.chunk_size_tokens or DEFAULT_CHUNK_TOKENS, overlap_tokens=sizes.overlap_size_tokens or 0
    )
    pieces = await cut(document, settings, counter_of(bank, inference, caller))
    return [
        _chunk(piece, position, document_id=document_id, name=name, metadata=metadata, title=document.title)
        for position, piece in enumerate(pieces)
    ]


def counter_of(bank: MemoryBank, inference: Inference, caller: Caller) -> TokenCounter:
    """Counts in tokens of the model that embeds, where there is one."""
    kind = bank.bank

    async def count(texts: Sequence[str]) -> list[int]:
        if isinstance(kind, VectorBank):
            return await inference.count_texts(kind.embedding_model, texts, caller)
        return [estimated_text_tokens(text) for text in texts]

    return count


def chunk_id_of(document_id: str, position: int) -> str:
    """The same for the same place of the same document, so that inserting it again replaces it."""
    return f"chunk_{sha256(document_id.encode(errors='replace')).hexdigest()[:24]}_{position}"


def _chunk(piece: Piece, position: int, *, document_id: str, name: str, metadata: JsonObject, title: str) -> Chunk:
    headings = list(piece.headings)
    if title and title not in headings and not piece.text.startswith(title):
        headings.insert(0, title)
    return Chunk(
        chunk_id=chunk_id_of(document_id, position),
        document_id=document_id,
        document_name=name or document_id,
        content=piece.text,
        position=position,
        start=piece.start,
        end=piece.end,
        page=piece.page,
        headings=headings,
        token_count=piece.token_count,
        language=language_of(piece.text),
        metadata=metadata,
    )


def _whole(document: ReadDocument, document_id: str, name: str, metadata: JsonObject) -> Chunk:
    if len(document.text) > MAX_VALUE_CHARACTERS:
        raise InvalidRequest(
            f"a value of a key-value bank has at most {MAX_VALUE_CHARACTERS} characters, and this one "
            f"{len(document.text)}; use a vector or keyword bank for documents",
            param="content",
            code="too_large",
        )
    return Chunk(
        chunk_id=chunk_id_of(document_id, 0),
        document_id=document_id,
        document_name=name or document_id,
        content=document.text,
        end=len(document.text),
        token_count=estimated_text_tokens(document.text),
        metadata=metadata,
    )
