"""The stack's memory as tools of an agent: `knowledge_search` finds passages, `insert_into_memory` keeps a text.

Which banks are meant is said by whoever gives an agent the group, in its argument `vector_db_ids`. It stands over what
the model writes, so a model reaches no other bank; a second name for it would be a way around. Where nobody says it, it
is the bank that the provider's `default_bank` names, as everywhere in the stack where no bank is named.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from typing import Any

from pydantic import Field

from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.memory import Chunk, Document, DocumentState, Memory
from llama_stack.api.resources import BankKind, KeywordBank, MemoryBank, VectorBank
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult, Tools
from llama_stack.errors import Conflict, InvalidRequest, NotFound, ProviderFailed, RateLimited
from llama_stack.memory.context import Passage, as_context, passages_of, told_passages
from llama_stack.provider import ProviderConfig, ToolsFloor, ToolsProvider
from llama_stack.wire.classic.memory.rag import RagQuery, decode_rag_query, encode_context

SEARCH = ToolDefinition(
    name="knowledge_search",
    description="Search the documents at hand for passages that help to answer a question",
    parameters={
        "type": "object",
        "properties": {
            "query": {
                "type": "string",
                "description": "What to search for: a question, or words that the documents would use",
            }
        },
        "required": ["query"],
    },
)
INSERT = ToolDefinition(
    name="insert_into_memory",
    description="Keep a text, so that knowledge_search finds it later, in other conversations too",
    parameters={
        "type": "object",
        "properties": {
            "content": {"type": "string", "description": "The text to keep, complete in itself"},
            "document_id": {
                "type": "string",
                "description": "A short name for it; a text kept under this name earlier is replaced",
            },
        },
        "required": ["content"],
    },
)
TOOLS = {tool.name: tool for tool in (SEARCH, INSERT)}
MAX_CONTENT_CHARACTERS = 100_000


class Config(ProviderConfig):
    default_bank: str | None = Field(
        default=None,
        min_length=1,
        description="memory bank that is meant where vector_db_ids is not given; made when used",
    )
    max_chunks: int = Field(5, ge=1, le=50, description="passages that a search gives")
    max_tokens: int = Field(3_000, ge=100, le=100_000, description="of all passages together, about")


class RagRuntime:
    """Fulfils the Tools protocol over the stack's memory."""

    def __init__(self, config: Config, memory: Callable[[], Awaitable[Memory]]) -> None:
        self._config = config
        self._memory = memory

    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        return [tool.model_copy(deep=True) for tool in TOOLS.values()]

    async def invoke_tool(
        self, tool_group: ToolGroup, name: str, arguments: dict[str, Any], caller: Caller
    ) -> ToolResult:
        if name not in TOOLS:
            known = ", ".join(TOOLS)
            raise NotFound(f"the tool group {tool_group.identifier!r} has no tool {name!r}; its tools are {known}")
        banks = _bank_ids(arguments, self._config.default_bank)
        if arguments.get("vector_db_ids") is None:
            await self._made(banks[0], caller)
        try:
            if name == SEARCH.name:
                return await self._search(self._asked(arguments, banks), arguments, caller)
            return await self._insert(banks[0], arguments, caller)
        except (ProviderFailed, RateLimited) as error:
            return ToolResult(content=f"Error: {error.message}", is_error=True, metadata={"code": error.code})

    async def _made(self, bank_id: str, caller: Caller) -> None:
        """The bank is there afterwards: of vectors, or of words alone in a stack without a model that embeds."""
        memory = await self._memory()
        with suppress(NotFound):
            await memory.bank(bank_id, caller)
            return
        kinds: tuple[BankKind, ...] = (VectorBank(), KeywordBank())
        for kind in kinds:
            bank = MemoryBank(identifier=bank_id, provider_id="", provider_resource_id="", bank=kind)
            with suppress(Conflict, InvalidRequest):  # somebody else was quicker; no model embeds
                await memory.create_bank(bank, caller)
                return

    def _asked(self, arguments: dict[str, Any], banks: list[str]) -> RagQuery:
        _text(arguments, "query")
        own = {"max_chunks": self._config.max_chunks, "max_tokens_in_context": self._config.max_tokens}
        config = arguments.get("query_config")
        given = {key: value for key, value in config.items() if value is not None} if isinstance(config, dict) else {}
        if config is not None and not isinstance(config, dict):
            raise InvalidRequest("query_config: should be an object", param="query_config")
        return decode_rag_query(
            {"content": arguments["query"], "vector_db_ids": banks, "query_config": {**own, **given}}
        )

    async def _search(self, asked: RagQuery, arguments: dict[str, Any], caller: Caller) -> ToolResult:
        memory = await self._memory()
        found = await memory.query(asked.bank_ids, asked.query, caller)
        if (arguments.get("query_config") or {}).get("chunk_template") and found:
            context = encode_context(asked, found)
            return ToolResult(content=context["content"], metadata=context["metadata"])
        passages = passages_of(found, asked.max_tokens)
        metadata = {**_sources(passages), **told_passages(passages)}
        return ToolResult(content=as_context(passages) or _nothing(asked, found), metadata=metadata)

    async def _insert(self, bank_id: str, arguments: dict[str, Any], caller: Caller) -> ToolResult:
        content = _text(arguments, "content", MAX_CONTENT_CHARACTERS)
        named = arguments.get("document_id")
        document_id = _text(arguments, "document_id", 512) if named is not None else _made_id(content)
        memory = await self._memory()
        [status] = await memory.insert_documents(
            bank_id, [Document(document_id=document_id, content=content, mime_type="text/plain")], caller
        )
        metadata: JsonObject = {"document_id": document_id, "bank_id": bank_id}
        if status.state is not DocumentState.COMPLETED:
            why = status.error.message if status.error is not None else "it is not known why"
            return ToolResult(content=f"Error: the text was not kept: {why}", is_error=True, metadata=metadata)
        return ToolResult(content=f"Kept as {document_id!r}.", metadata=metadata)


def _bank_ids(arguments: dict[str, Any], default: str | None) -> list[str]:
    """The banks that are meant. Raises InvalidRequest where none is."""
    given = arguments.get("vector_db_ids")
    if given is None:
        given = default
    if given is None:
        raise InvalidRequest(
            "vector_db_ids: is required; name the memory banks in the arguments of the tool group, such as "
            '{"name": "builtin::rag", "args": {"vector_db_ids": ["notes"]}}',
            param="vector_db_ids",
        )
    listed = [given] if isinstance(given, str) else given
    if isinstance(listed, list) and listed and all(isinstance(one, str) and one for one in listed):
        return listed
    raise InvalidRequest("vector_db_ids: should be a list of the ids of memory banks", param="vector_db_ids")


def _text(arguments: dict[str, Any], name: str, most: int = 10_000) -> str:
    value = arguments.get(name)
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequest(f"{name}: should be a text with something in it", param=name)
    if len(value) > most:
        raise InvalidRequest(f"{name}: has {len(value)} characters; at most {most} are taken", param=name)
    return value


def _made_id(content: str) -> str:
    return f"doc_{sha256(content.encode(errors='replace')).hexdigest()[:24]}"


def _nothing(asked: RagQuery, found: Sequence[Chunk]) -> str:
    if found:
        return f"Passages were found, but none of them fits {asked.max_tokens} tokens."
    return f"Nothing was found for {asked.question[:200]!r}. Try other words, or answer without."


def _sources(passages: Sequence[Passage]) -> JsonObject:
    """Of each passage by its number, for whoever shows them; and the lists of the classic RAG tool."""
    return {
        "sources": [
            {
                "number": passage.number,
                "document_id": passage.chunk.document_id,
                "document_name": passage.chunk.document_name,
                "chunk_id": passage.chunk.chunk_id,
                "page": passage.chunk.page,
                "headings": passage.chunk.headings,
                "score": passage.chunk.score,
            }
            for passage in passages
        ],
        "document_ids": [passage.chunk.document_id for passage in passages],
        "chunks": [passage.chunk.content for passage in passages],
        "scores": [passage.chunk.score for passage in passages],
    }


@asynccontextmanager
async def open_rag_runtime(config: Config, floor: ToolsFloor) -> AsyncIterator[Tools]:
    yield RagRuntime(config, floor.memory)


provider = ToolsProvider(
    summary="Search of the stack's memory banks, and notes into them, as tools of an agent",
    config=Config,
    open=open_rag_runtime,
)
