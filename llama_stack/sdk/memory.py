"""stack.memory: documents in, the passages that answer a question out.

async with LlamaStack.open("starter") as stack:
    await stack.memory.add("report.pdf", "notes/")
    for chunk in await stack.memory.search("When is the report due?"):
        print(chunk.document_name, chunk.page, chunk.content)
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict, Unpack

from pydantic import TypeAdapter, ValidationError

from llama_stack.agents.tools import Tool, tool_from_schema
from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.files import Files
from llama_stack.api.filters import Comparison, Compound, MetadataFilter, from_plain
from llama_stack.api.memory import (
    BankRecord,
    BankStats,
    Chunk,
    ChunkSizes,
    Document,
    DocumentState,
    DocumentStatus,
    Expiry,
    Facts,
    Fusion,
    Memory,
    MemoryQuery,
    Rewriting,
    SearchMode,
)
from llama_stack.api.resources import BankKind, MemoryBank, ModelType
from llama_stack.api.tools import ToolDefinition, ToolResult
from llama_stack.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    ProviderFailed,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    StackError,
)
from llama_stack.memory.context import passages_of, told_passages
from llama_stack.sdk.adding import PATH, Added, Adding, added, all_documents, forget
from llama_stack.sdk.banks import KindName, kind_of, require_same_kind, require_same_notes
from llama_stack.sdk.folders import find_files
from llama_stack.sdk.requests import wrong_option

DEFAULT_BANK = "default"
"""The bank of those who name none; made when it is first used."""
DOCUMENTS_A_REQUEST = 16

Source = str | Path | Document
"""A file, a folder with all that is in it, an http(s) address, or a document as the protocol has it."""
Filter = Comparison | Compound | Mapping[str, Any]
"""In the language of `api.filters`, or a plain mapping of metadata that must be equal; a list there is one of them."""

_FILTER: TypeAdapter[Comparison | Compound | None] = TypeAdapter(MetadataFilter | None)


class SearchOptions(TypedDict, total=False):
    """Fields of MemoryQuery beyond those that every search has."""

    fusion: Fusion
    score_threshold: float
    diversity: float
    rerank_model: str
    rewriting: Rewriting
    keys: list[str]
    entities: list[str]
    depth: int


class WithMemory(Protocol):
    """What is needed of the stack whose memory it is."""

    @property
    def caller(self) -> Caller: ...

    async def files(self) -> Files: ...

    async def default_model(self, kind: ModelType) -> str: ...


class StackMemory:
    """The memory of a stack, local or connected, with short ways for what is done most. bank: by its id."""

    def __init__(self, stack: WithMemory, opening: Callable[[], Awaitable[Memory]]) -> None:
        self._stack = stack
        self._opening = opening
        self._has_default = False

    async def service(self) -> Memory:
        """The protocol, for what has no short way here. Raises ConfigError when the database cannot be used."""
        return await self._opening()

    # --- banks -------------------------------------------------------------------------------------------------------

    async def create_bank(
        self,
        bank: str = "",
        kind: KindName | BankKind = "vector",
        *,
        provider_id: str = "",
        name: str = "",
        metadata: dict[str, str] | None = None,
        expires_after_days: int | None = None,
        exist_ok: bool = False,
    ) -> BankRecord:
        """A new bank; an empty id becomes one that the stack makes up.

        kind: its name, or the whole of it, such as `VectorBank(chunk_size_tokens=256)`. provider_id: default is the
        first that serves. exist_ok: a bank of this id that is there already is given, if it is what is asked for;
        what is left open may be anything.
        Raises Conflict, naming what differs, for an id that another bank has, InvalidRequest for a model or provider
        that cannot serve it.
        """
        memory = await self.service()
        new = MemoryBank(identifier=bank, provider_id=provider_id, provider_resource_id="", bank=kind_of(kind))
        expiry = None if expires_after_days is None else Expiry(days=expires_after_days)
        try:
            made = await memory.create_bank(new, self._stack.caller, name=name, metadata=metadata, expiry=expiry)
        except Conflict:
            if not exist_ok:
                raise
            made = await memory.bank(bank, self._stack.caller)
            require_same_kind(new, made.bank)
        if exist_ok:
            require_same_notes(made, name, metadata, expiry)
        return made

    async def banks(self, kind: KindName | None = None) -> list[BankRecord]:
        """All banks that were used, newest first."""
        memory, found, after = await self.service(), [], None
        while True:
            page = await memory.banks(self._stack.caller, limit=1000, after=after, kind=kind)
            found += page.entries
            after = page.next_after
            if after is None:
                return found

    async def drop_bank(self, bank: str) -> None:
        """Forget the bank and all that is in it."""
        memory = await self.service()
        uploaded = await all_documents(memory, bank, self._stack.caller)
        await forget(memory, await self._stack.files(), bank, uploaded, self._stack.caller)
        await memory.drop_bank(bank, self._stack.caller)
        self._has_default = self._has_default and bank != DEFAULT_BANK

    async def stats(self, bank: str = DEFAULT_BANK) -> BankStats:
        return await (await self._ready(bank)).stats(bank, self._stack.caller)

    # --- documents in ------------------------------------------------------------------------------------------------

    async def add(
        self,
        *sources: Source,
        bank: str = DEFAULT_BANK,
        metadata: JsonObject | None = None,
        sizes: ChunkSizes | None = None,
    ) -> list[DocumentStatus]:
        """Remember files, folders and addresses; returns when they can be found.

        A file that is in the bank already and has not changed is left as it is; one that changed is replaced.
        metadata: of each of them, what filters compare; for files, `path` is added. sizes: how they are cut.
        Raises, with the reason, when one cannot be read, and the others are there; `add_each` tells it instead.
        Raises InvalidRequest for a path where nothing is.
        """
        results = [one async for one in self.add_each(*sources, bank=bank, metadata=metadata, sizes=sizes)]
        failed = [one for one in results if one.error is not None]
        if failed:
            raise _unread(failed, len(results))
        return [one.status for one in results if one.status is not None]

    async def add_text(
        self,
        text: str,
        *,
        document_id: str | None = None,
        name: str = "",
        bank: str = DEFAULT_BANK,
        metadata: JsonObject | None = None,
        sizes: ChunkSizes | None = None,
    ) -> DocumentStatus:
        """Remember a text. document_id: adding one again replaces it, in a key-value bank it is the key; default is a
        digest of the text. name: how citations call it.
        """
        identity = document_id or f"text-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:16]}"
        document = Document(document_id=identity, content=text, name=name, metadata=metadata or {})
        (status,) = await self.add(document, bank=bank, sizes=sizes)
        return status

    async def add_each(
        self,
        *sources: Source,
        bank: str = DEFAULT_BANK,
        metadata: JsonObject | None = None,
        sizes: ChunkSizes | None = None,
    ) -> AsyncGenerator[Added, None]:
        """As `add`, one by one as they are ready, in any order; what cannot be read is told, not raised."""
        documents = [_document(one, metadata or {}) for one in sources if _is_document(one)]
        named = [one for one in sources if isinstance(one, str | Path) and not _is_document(one)]
        paths = (await asyncio.to_thread(find_files, named)).files if named else []
        memory, caller = await self._ready(bank), self._stack.caller
        for first in range(0, len(documents), DOCUMENTS_A_REQUEST):
            some = documents[first : first + DOCUMENTS_A_REQUEST]
            for status in await memory.insert_documents(bank, some, caller, sizes=sizes):
                yield added(status.document_id, status)
        if paths:
            adding = Adding(memory, await self._stack.files(), bank, caller, metadata or {}, sizes)
            async with aclosing(adding.each(paths)) as results:
                async for one in results:
                    yield one

    async def add_facts(self, *facts: Facts, bank: str) -> None:
        """Tell a graph bank entities and relations. Those of a document that is there replace what it told before.

        Raises InvalidRequest for a bank of another kind, and for two of the same document.
        """
        await (await self._ready(bank)).insert_facts(bank, list(facts), self._stack.caller)

    # --- found -------------------------------------------------------------------------------------------------------

    async def search(
        self,
        question: str = "",
        *,
        bank: str | Sequence[str] = DEFAULT_BANK,
        max_chunks: int = 5,
        mode: SearchMode | Literal["vector", "keyword", "hybrid"] | None = None,
        filters: Filter | None = None,
        **options: Unpack[SearchOptions],
    ) -> list[Chunk]:
        """The passages that fit best, best first, each with its document, page, headings and score.

        bank: one or several. mode: default is the best the bank can do. filters: what the metadata must fulfil; without
        a question, all that do, in the order of the documents' ids. options: see MemoryQuery. Raises InvalidRequest for
        a wrong one, NotFound for an unknown bank.
        """
        banks = [bank] if isinstance(bank, str) else list(bank)
        try:
            query = MemoryQuery(
                query=question or None,
                max_chunks=max_chunks,
                mode=None if mode is None else SearchMode(mode),
                filters=as_filter(filters),
                **options,
            )
        except ValidationError as error:
            raise wrong_option(error, MemoryQuery.model_fields) from error
        except ValueError as error:
            raise InvalidRequest(f"mode: {error}; there are vector, keyword and hybrid", param="mode") from error
        memory = await self._ready(*banks)
        return await memory.query(banks, query, self._stack.caller)

    def as_tool(
        self,
        *,
        bank: str | Sequence[str] = DEFAULT_BANK,
        max_chunks: int = 5,
        mode: SearchMode | Literal["vector", "keyword", "hybrid"] | None = None,
        filters: Filter | None = None,
        name: str = "knowledge_search",
        description: str = "Search the documents.",
        with_headings: bool = True,
        **options: Unpack[SearchOptions],
    ) -> Tool:
        """The same search as a tool for an agent, which then says itself what it looks for, and cites what it found.

        name, description: what the model is told of it. with_headings: whether it is shown the titles that a passage
        stands under; small models copy them into their answers. Nothing found is an answer, too, and no failure.
        """

        async def run(arguments: Mapping[str, Any]) -> ToolResult:
            query = str(arguments["query"])
            found = await self.search(query, bank=bank, max_chunks=max_chunks, mode=mode, filters=filters, **options)
            passages = passages_of(found)
            texts = [one.text if with_headings else _without_headings(one.number, one.chunk) for one in passages]
            text = "\n\n".join(texts)
            return ToolResult(
                content=text or f"Nothing was found for {query!r}.", metadata=told_passages(passages, found)
            )

        query = {"type": "string", "description": "The query"}
        parameters = {"type": "object", "properties": {"query": query}, "required": ["query"]}
        return tool_from_schema(ToolDefinition(name=name, description=description, parameters=parameters), run)

    async def documents(
        self, *, bank: str = DEFAULT_BANK, states: Sequence[DocumentState] | None = None
    ) -> list[DocumentStatus]:
        """What is in the bank, or on its way, or failed; newest first."""
        return await all_documents(await self._ready(bank), bank, self._stack.caller, states)

    # --- going -------------------------------------------------------------------------------------------------------

    async def delete(self, *documents: str | Path, bank: str = DEFAULT_BANK, where: Filter | None = None) -> int:
        """Forget documents, and what was uploaded for them; tells how many there were.

        documents: by id, by the path they were read from, by the folder they lay in, or by a name that only one has.
        where: all whose metadata fulfil it. Raises NotFound for a document that is not there.
        """
        memory, caller = await self._ready(bank), self._stack.caller
        gone = 0
        if documents:
            kept = await all_documents(memory, bank, caller)
            chosen = {one.document_id: one for named in documents for one in _meant(named, kept, bank)}
            gone += await forget(memory, await self._stack.files(), bank, list(chosen.values()), caller)
        condition = as_filter(where)
        if condition is not None:
            gone += await memory.delete_where(bank, condition, caller)
        return gone

    async def _ready(self, *banks: str) -> Memory:
        """The memory, with the default bank in it when that is asked for."""
        memory = await self.service()
        if DEFAULT_BANK in banks and not self._has_default:
            try:
                await memory.bank(DEFAULT_BANK, self._stack.caller)
            except NotFound:
                kind = await self._default_kind()
                with suppress(Conflict):  # somebody else was quicker
                    await self.create_bank(DEFAULT_BANK, kind)
            self._has_default = True
        return memory

    async def _default_kind(self) -> KindName:
        try:
            await self._stack.default_model(ModelType.EMBEDDING)
        except NotFound:
            return "keyword"
        return "vector"


def as_filter(filters: Filter | None) -> Comparison | Compound | None:
    """A plain mapping as comparisons. Raises InvalidRequest naming what is wrong."""
    if filters is None or isinstance(filters, Comparison | Compound):
        return filters
    if not isinstance(filters, Mapping):
        raise InvalidRequest(
            f"filters: must be a mapping such as {{'year': 2024}}, a Comparison or a Compound, not {filters!r}",
            param="filters",
        )
    try:
        return _FILTER.validate_python(from_plain(dict(filters)))
    except ValidationError as error:
        raise InvalidRequest(f"filters: {error.errors(include_url=False)[0]['msg']}", param="filters") from error
    except ValueError as error:
        raise InvalidRequest(f"filters: {error}", param="filters") from error


def is_address(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def own_text(chunk: Chunk) -> str:
    """The passage without the titles at its beginning, where it has them among its headings, too."""
    lines = chunk.content.splitlines()
    while lines and (not lines[0].strip() or lines[0].lstrip("# ").rstrip() in chunk.headings):
        del lines[0]
    return "\n".join(lines) or chunk.content


def _without_headings(number: int, chunk: Chunk) -> str:
    page = "" if chunk.page is None else f", page {chunk.page}"
    return f"[{number}] {chunk.document_name or chunk.document_id}{page}\n{own_text(chunk)}"


def _is_document(source: Source) -> bool:
    return isinstance(source, Document) or (isinstance(source, str) and is_address(source))


def _document(source: Source, metadata: JsonObject) -> Document:
    if isinstance(source, Document):
        return source.model_copy(update={"metadata": {**metadata, **source.metadata}})
    return Document(document_id=str(source), url=str(source), metadata=metadata)


def _meant(named: str | Path, kept: Sequence[DocumentStatus], bank: str) -> list[DocumentStatus]:
    """The documents that a person means by an id, a path, a folder or a name. Raises NotFound for none."""
    by_id = [one for one in kept if one.document_id == str(named)]
    if by_id:
        return by_id
    place = Path(named).expanduser().absolute()
    by_path = [one for one in kept if PATH in one.metadata and Path(one.metadata[PATH]).is_relative_to(place)]
    if by_path:
        return by_path
    by_name = [one for one in kept if one.name == str(named)]
    if len(by_name) > 1:
        raise InvalidRequest(
            f"{len(by_name)} documents of {bank!r} are called {str(named)!r}; give the path or the id",
            param="documents",
        )
    if not by_name:
        raise NotFound(
            f"the memory bank {bank!r} has no document {str(named)!r}; list its documents for what there is",
            param="documents",
            code="document_not_found",
        )
    return by_name


_OF_OTHERS: dict[str, type[ProviderFailed] | type[RateLimited]] = {
    kind.code: kind for kind in (ProviderFailed, ProviderUnavailable, ProviderTimeout, RateLimited)
}


def _unread(failed: Sequence[Added], of: int) -> StackError:
    """The error of sources that could not be read; its code is that of the first."""
    told = "; ".join(f"{one.source}: {one.error.message}" for one in failed[:5] if one.error is not None)
    more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
    rest = f". The other {of - len(failed)} are there" if of > len(failed) else ""
    code = failed[0].error.code if failed[0].error is not None else InvalidRequest.code
    message = f"not remembered: {told}{more}{rest}"
    if code in _OF_OTHERS:
        return _OF_OTHERS[code](message, code=code)
    return InvalidRequest(message, param="sources", code=code)
