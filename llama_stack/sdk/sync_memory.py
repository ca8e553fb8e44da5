"""The face of StackMemory for code that does not await."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

from llama_stack.agents.tools import Tool
from llama_stack.api.common import JsonObject
from llama_stack.api.memory import (
    BankRecord,
    BankStats,
    Chunk,
    ChunkSizes,
    DocumentState,
    DocumentStatus,
    Facts,
    SearchMode,
)
from llama_stack.api.resources import BankKind
from llama_stack.sdk.adding import Added
from llama_stack.sdk.banks import KindName
from llama_stack.sdk.loop_thread import LoopThread
from llama_stack.sdk.memory import DEFAULT_BANK, Filter, SearchOptions, Source, StackMemory


class SyncStackMemory:
    """A StackMemory for code that does not await; arguments as there. held: the async one."""

    def __init__(self, stack: LoopThread[Any], held: StackMemory) -> None:
        self._stack = stack
        self.held = held

    def create_bank(
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
        """See StackMemory.create_bank."""
        return self._stack.wait(
            self.held.create_bank(
                bank,
                kind,
                provider_id=provider_id,
                name=name,
                metadata=metadata,
                expires_after_days=expires_after_days,
                exist_ok=exist_ok,
            )
        )

    def banks(self, kind: KindName | None = None) -> list[BankRecord]:
        """See StackMemory.banks."""
        return self._stack.wait(self.held.banks(kind))

    def drop_bank(self, bank: str) -> None:
        """See StackMemory.drop_bank."""
        self._stack.wait(self.held.drop_bank(bank))

    def stats(self, bank: str = DEFAULT_BANK) -> BankStats:
        """See StackMemory.stats."""
        return self._stack.wait(self.held.stats(bank))

    def add(
        self,
        *sources: Source,
        bank: str = DEFAULT_BANK,
        metadata: JsonObject | None = None,
        sizes: ChunkSizes | None = None,
    ) -> list[DocumentStatus]:
        """See StackMemory.add."""
        return self._stack.wait(self.held.add(*sources, bank=bank, metadata=metadata, sizes=sizes))

    def add_text(
        self,
        text: str,
        *,
        document_id: str | None = None,
        name: str = "",
        bank: str = DEFAULT_BANK,
        metadata: JsonObject | None = None,
        sizes: ChunkSizes | None = None,
    ) -> DocumentStatus:
        """See StackMemory.add_text."""
        return self._stack.wait(
            self.held.add_text(text, document_id=document_id, name=name, bank=bank, metadata=metadata, sizes=sizes)
        )

    def add_each(
        self,
        *sources: Source,
        bank: str = DEFAULT_BANK,
        metadata: JsonObject | None = None,
        sizes: ChunkSizes | None = None,
    ) -> Iterator[Added]:
        """See StackMemory.add_each."""
        return self._stack.iterate(self.held.add_each(*sources, bank=bank, metadata=metadata, sizes=sizes))

    def add_facts(self, *facts: Facts, bank: str) -> None:
        """See StackMemory.add_facts."""
        self._stack.wait(self.held.add_facts(*facts, bank=bank))

    def search(
        self,
        question: str = "",
        *,
        bank: str | Sequence[str] = DEFAULT_BANK,
        max_chunks: int = 5,
        mode: SearchMode | Literal["vector", "keyword", "hybrid"] | None = None,
        filters: Filter | None = None,
        **options: Unpack[SearchOptions],
    ) -> list[Chunk]:
        """See StackMemory.search."""
        return self._stack.wait(
            self.held.search(question, bank=bank, max_chunks=max_chunks, mode=mode, filters=filters, **options)
        )

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
        """See StackMemory.as_tool."""
        return self.held.as_tool(
            bank=bank,
            max_chunks=max_chunks,
            mode=mode,
            filters=filters,
            name=name,
            description=description,
            with_headings=with_headings,
            **options,
        )

    def documents(
        self, *, bank: str = DEFAULT_BANK, states: Sequence[DocumentState] | None = None
    ) -> list[DocumentStatus]:
        """See StackMemory.documents."""
        return self._stack.wait(self.held.documents(bank=bank, states=states))

    def delete(self, *documents: str | Path, bank: str = DEFAULT_BANK, where: Filter | None = None) -> int:
        """See StackMemory.delete."""
        return self._stack.wait(self.held.delete(*documents, bank=bank, where=where))
