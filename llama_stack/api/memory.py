"""Memory: documents go in, relevant chunks come out with their source."""

from typing import Protocol

from llama_stack.api.common import Caller, JsonObject, Word
from llama_stack.api.messages import Content
from llama_stack.api.resources import MemoryBank


class Document(Word):
    """A document to remember. Inserting an id again replaces the document."""

    document_id: str
    content: Content
    mime_type: str = "text/plain"
    metadata: JsonObject = {}


class Chunk(Word):
    """A piece of a document, the unit that is found and cited.

    start, end: character span in the document's text. score: higher is better; comparable within one query only.
    """

    chunk_id: str
    document_id: str
    content: str
    start: int = 0
    end: int = 0
    score: float = 0.0
    metadata: JsonObject = {}


class MemoryQuery(Word):
    """What to look for. max_chunks bounds the answer; filters restrict by document metadata before ranking."""

    query: Content
    max_chunks: int = 5
    score_threshold: float | None = None
    filters: JsonObject | None = None


class Memory(Protocol):
    """Keeps the memory banks of one provider."""

    async def insert_documents(self, bank: MemoryBank, documents: list[Document], caller: Caller) -> None:
        """Remember the documents: all of a document becomes findable, or none of it."""
        ...

    async def query_documents(self, bank: MemoryBank, query: MemoryQuery, caller: Caller) -> list[Chunk]:
        """At most `max_chunks` chunks, best first. A filter that cannot be applied is InvalidRequest, never ignored."""
        ...

    async def delete_documents(self, bank: MemoryBank, document_ids: list[str], caller: Caller) -> None:
        """Forget the documents: afterwards no query finds any part of them. Unknown ids are no error."""
        ...
