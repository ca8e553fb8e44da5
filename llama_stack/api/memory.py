"""Memory: documents go in, relevant chunks come out with their source."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Protocol

from pydantic import Field

from llama_stack.api.common import Caller, JsonObject, Page, Word
from llama_stack.api.filters import Comparison, Compound, GivenFilter
from llama_stack.api.messages import Content
from llama_stack.api.resources import MemoryBank
from llama_stack.api.sent_files import SentFiles

MAX_CHUNKS = 200
"""Most that one query may ask for."""


class Document(Word):
    """A document to remember. Inserting an id again replaces the document.

    content: text; parts, whose text counts; or a URL, `data:` or http(s), that is fetched. name: how citations call
    it, such as a file's name; the id where it has none. metadata: what filters compare, kept with every chunk.
    """

    document_id: str = Field(min_length=1, max_length=512)
    content: Content | None = None
    url: str | None = None
    name: str = ""
    mime_type: str = ""
    metadata: JsonObject = {}


class Chunk(Word):
    """A piece of a document, the unit that is found and cited.

    position: 0 for the document's first chunk. start, end: character span in the document's text. page: from 1, where
    the document has pages. headings: the titles it stands under, outermost first. token_count: in tokens of the
    bank's embedding model. score: higher is better; comparable within one query only.
    """

    chunk_id: str = Field(min_length=1, max_length=512)
    document_id: str = Field(min_length=1, max_length=512)
    content: str
    document_name: str = ""
    position: int = 0
    start: int = 0
    end: int = 0
    page: int | None = None
    headings: list[str] = []
    token_count: int = 0
    language: str = ""
    score: float = 0.0
    metadata: JsonObject = {}

    @property
    def indexed_text(self) -> str:
        """What is embedded, and whose words are indexed: the titles it stands under, which it often does not repeat,
        and its own text.
        """
        return f"{' > '.join(self.headings)}\n{self.content}" if self.headings else self.content

    def span_of(self, start: int, end: int) -> tuple[int, int]:
        """Where `content[start:end]` stands in the document; the chunk's own span where it does not tell.

        A chunk that continues a table begins with the table's header, which stands further up in the document.
        """
        own = self.end - self.start
        header = len(self.content) - own
        is_repeated = own > 0 and header > 0 and self.content[header - 1] == "\n"
        if header == 0 or (is_repeated and start >= header):
            return self.start + start - header, self.start + end - header
        return self.start, self.end


class Citation(Word):
    """What a place in an answer rests on.

    index: characters of the answer's text before the place; the cited words end there. quote: words of the chunk, as
    they stand in its content. start, end: their character span in the document's text, or the chunk's where it does
    not tell.
    """

    index: int
    document_id: str
    document_name: str = ""
    chunk_id: str
    page: int | None = None
    start: int = 0
    end: int = 0
    quote: str


class SearchMode(StrEnum):
    VECTOR = "vector"
    KEYWORD = "keyword"
    HYBRID = "hybrid"


class ReciprocalRankFusion(Word):
    """Sums 1 / (impact_factor + rank) over the searches (Cormack, Clarke and Buettcher, SIGIR 2009).

    The paper's 60 is for fusing many rankings; with two, a smaller one keeps what one of them is sure of.
    """

    type: Literal["rrf"] = "rrf"
    impact_factor: float = Field(default=10.0, gt=0)


class WeightedFusion(Word):
    """alpha times the vector score and 1 - alpha times the keyword score, each scaled to 0..1 within its search."""

    type: Literal["weighted"] = "weighted"
    alpha: float = Field(default=0.5, ge=0, le=1)


Fusion = Annotated[ReciprocalRankFusion | WeightedFusion, Field(discriminator="type")]


class Rewriting(Word):
    """How the question becomes a query.

    model: a chat model that is asked for a query; None to use the template alone. template: Jinja2, with `messages`
    (a list of `{role, content}`) and `query` (the last question).
    """

    model: str | None = None
    template: str | None = None


class MemoryQuery(Word):
    """What to look for.

    query: the question; None with `keys`, `entities` or a filter alone. max_chunks bounds the answer. mode: None is
    the best the bank can do. score_threshold: chunks below it are left out; of cosine similarity in vector mode,
    otherwise of the score that is given. diversity: 0 ranks by relevance alone, towards 1 similar chunks are avoided
    (maximal marginal relevance, Carbonell and Goldstein, SIGIR 1998). rerank_model: reads query and chunk together.
    keys: of a key-value bank. entities, depth: of a graph bank, whose relations up to `depth` steps away are found.
    """

    query: Content | None = None
    max_chunks: int = Field(default=5, ge=1, le=MAX_CHUNKS)
    score_threshold: float | None = None
    filters: GivenFilter = None
    mode: SearchMode | None = None
    fusion: Fusion = ReciprocalRankFusion()
    diversity: float = Field(default=0.0, ge=0, le=1)
    rerank_model: str | None = None
    rewriting: Rewriting | None = None
    keys: list[str] = []
    entities: list[str] = []
    depth: int = Field(default=1, ge=1, le=4)


class DocumentState(StrEnum):
    """A document's way into a bank."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class DocumentError(Word):
    """Why a document failed. code: one of those that `docs/memory.md` lists; message: for a person, with the remedy."""

    code: str
    message: str


class ChunkSizes(Word):
    """How a document is cut; what is None is the bank's own."""

    chunk_size_tokens: int | None = Field(default=None, ge=16, le=8192)
    overlap_size_tokens: int | None = Field(default=None, ge=0, le=4096)


class DocumentStatus(Word):
    """What a bank knows of a document.

    error: why it failed. warnings: what of a completed one was left out or guessed, a sentence each, at most 20; empty
    where it was read whole. file_id: the uploaded file that it is. batch_id: what it was added with.
    """

    document_id: str
    bank_id: str
    name: str = ""
    mime_type: str = ""
    state: DocumentState
    error: DocumentError | None = None
    warnings: list[str] = []
    chunks: int = 0
    size_bytes: int = 0
    metadata: JsonObject = {}
    sizes: ChunkSizes | None = None
    file_id: str | None = None
    batch_id: str | None = None
    created_at: datetime


class Expiry(Word):
    """A bank goes when it has not been used for so many days."""

    days: int = Field(ge=1, le=365)


class BankRecord(Word):
    """A caller's bank with what is kept about it; `bank` is what the registry holds.

    last_active_at: when it was last written or searched. expires_at: None for one that does not expire.
    documents: how many are in each state. size_bytes: of the documents that are in the bank, as they came.
    """

    bank: MemoryBank
    name: str = ""
    metadata: dict[str, str] = {}
    expiry: Expiry | None = None
    created_at: datetime
    last_active_at: datetime
    expires_at: datetime | None = None
    documents: dict[DocumentState, int] = {}
    size_bytes: int = 0


class BankStats(Word):
    """documents: how many are in each state. size_bytes: on the provider's disk, where it can tell."""

    bank_id: str
    documents: dict[DocumentState, int]
    chunks: int
    size_bytes: int | None = None


class Embedded(Word):
    """A chunk that a caller brings, with its vector where it brings that, too."""

    chunk: Chunk
    vector: list[float] | None = None


class Entity(Word):
    """Something a graph bank knows. Names are compared without regard to case and surrounding space."""

    name: str = Field(min_length=1, max_length=512)
    type: str = ""
    description: str = ""


class Relation(Word):
    """subject --relation--> object, as a document says it. evidence: the words that say so."""

    subject: str = Field(min_length=1, max_length=512)
    relation: str = Field(min_length=1, max_length=512)
    object: str = Field(min_length=1, max_length=512)
    evidence: str = ""


class Facts(Word):
    """What a document says about entities; for graph banks."""

    document_id: str = Field(min_length=1, max_length=512)
    entities: list[Entity] = []
    relations: list[Relation] = []
    metadata: JsonObject = {}


class ListedOrder(StrEnum):
    OLDEST_FIRST = "asc"
    NEWEST_FIRST = "desc"


class MemorySearch(Protocol):
    """What an agent needs of a memory."""

    async def query(self, bank_ids: Sequence[str], query: MemoryQuery, caller: Caller) -> list[Chunk]:
        """At most `max_chunks` chunks over all the banks, best first. Raises NotFound for an unknown bank."""
        ...


class Memory(MemorySearch, Protocol):
    """Memory over all banks of the stack. A caller sees its own documents only, in shared banks, too.

    Every method that takes a bank id raises NotFound, naming the banks there are.
    """

    async def create_bank(
        self,
        bank: MemoryBank,
        caller: Caller,
        *,
        name: str = "",
        metadata: dict[str, str] | None = None,
        expiry: Expiry | None = None,
    ) -> BankRecord:
        """An empty provider_id is the first provider that serves, an empty identifier becomes `vs_...`.

        Raises InvalidRequest for a model that does not embed or a dimension that is not its own, Conflict for an
        identifier in use.
        """
        ...

    async def bank(self, bank_id: str, caller: Caller) -> BankRecord: ...

    async def banks(
        self,
        caller: Caller,
        *,
        limit: int = 100,
        after: str | None = None,
        before: str | None = None,
        order: ListedOrder = ListedOrder.NEWEST_FIRST,
        kind: Literal["vector", "keyword", "keyvalue", "graph"] | None = None,
    ) -> Page[BankRecord]:
        """The caller's banks, of one kind or of all; those of the distribution once the caller has used them."""
        ...

    async def update_bank(
        self,
        bank_id: str,
        caller: Caller,
        *,
        name: str | None = None,
        metadata: dict[str, str] | None = None,
        expiry: Expiry | Literal["never"] | None = None,
    ) -> BankRecord:
        """Changes what is not None."""
        ...

    async def drop_bank(self, bank_id: str, caller: Caller) -> None:
        """Forget the bank and all that is in it. A bank of the distribution is emptied of what is the caller's."""
        ...

    async def insert_documents(
        self, bank_id: str, documents: Sequence[Document], caller: Caller, *, sizes: ChunkSizes | None = None
    ) -> list[DocumentStatus]:
        """Remember the documents, and return when they can be found.

        One that cannot be read is FAILED in the answer, with its error; the others are there.
        """
        ...

    async def insert_chunks(self, bank_id: str, chunks: Sequence[Embedded], caller: Caller) -> None:
        """Remember chunks as they are; those without a vector are embedded. All of them or none."""
        ...

    async def insert_facts(self, bank_id: str, facts: Sequence[Facts], caller: Caller) -> None:
        """For a graph bank: entities and relations that the caller brings."""
        ...

    async def attach_file(
        self,
        bank_id: str,
        file_id: str,
        caller: Caller,
        *,
        metadata: JsonObject | None = None,
        sizes: ChunkSizes | None = None,
    ) -> DocumentStatus:
        """Have an uploaded file remembered, in the background; its document id is the file's."""
        ...

    async def attach_batch(self, bank_id: str, files: Sequence["BatchFile"], caller: Caller) -> "FileBatch":
        """As `attach_file`, for many; each is counted under the batch."""
        ...

    async def batch(self, bank_id: str, batch_id: str, caller: Caller) -> "FileBatch": ...

    async def cancel_batch(self, bank_id: str, batch_id: str, caller: Caller) -> "FileBatch":
        """What has not begun yet is cancelled."""
        ...

    async def documents(
        self,
        bank_id: str,
        caller: Caller,
        *,
        limit: int = 100,
        after: str | None = None,
        before: str | None = None,
        order: ListedOrder = ListedOrder.NEWEST_FIRST,
        states: Sequence[DocumentState] | None = None,
        batch_id: str | None = None,
    ) -> Page[DocumentStatus]: ...

    async def document(self, bank_id: str, document_id: str, caller: Caller) -> DocumentStatus: ...

    async def chunks_of(self, bank_id: str, document_id: str, caller: Caller) -> list[Chunk]:
        """All chunks of a document, in order."""
        ...

    async def set_metadata(
        self, bank_id: str, document_id: str, metadata: JsonObject, caller: Caller
    ) -> DocumentStatus: ...

    async def delete_documents(self, bank_id: str, document_ids: Sequence[str], caller: Caller) -> int:
        """Forget the documents; tells how many there were. Unknown ids are no error."""
        ...

    async def delete_where(self, bank_id: str, where: Comparison | Compound, caller: Caller) -> int:
        """Forget every document whose metadata fulfils the filter; tells how many there were."""
        ...

    async def stats(self, bank_id: str, caller: Caller) -> BankStats: ...


class LocalMemory(Memory, Protocol):
    """The memory of this process."""

    @property
    def sent_files(self) -> SentFiles:
        """Reads files that come with messages as it reads documents; none of them is remembered."""
        ...

    async def require_live(self, bank_ids: Sequence[str], caller: Caller) -> None:
        """See that the banks can be asked, at less cost than reading them. Raises InvalidRequest, its code
        `vector_store_expired`, for one that has expired.
        """
        ...


class BatchFile(Word):
    file_id: str
    metadata: JsonObject = {}
    sizes: ChunkSizes | None = None


class FileBatch(Word):
    """Files that were attached together. counts: how many documents are in each state."""

    batch_id: str
    bank_id: str
    is_cancelled: bool = False
    counts: dict[DocumentState, int]
    created_at: datetime
