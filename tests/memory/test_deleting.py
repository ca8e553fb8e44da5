"""Deletions that were broken off are finished: nothing is found that nobody can delete any more."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from llama_stack.api.memory import Document, MemoryQuery
from llama_stack.api.resources import MemoryBank, VectorBank
from llama_stack.compose import LocalStack
from llama_stack.errors import NotFound, ProviderUnavailable
from llama_stack.storage import deletions, holders
from tests.memory.hashed import ALICE, open_memory_stack
from tests.storage.conftest import create_postgres_database

__all__ = ["create_postgres_database"]

LIMIT_S = 60
NOTES = MemoryBank(identifier="notes", provider_id="", provider_resource_id="", bank=VectorBank())
TENT = Document(document_id="tent", content="The tent weighs 1.8 kg.")
STOVE = Document(document_id="stove", content="The stove burns gas.")


class Died(BaseException):
    """What a killed process does next: nothing."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'stack.db'}"
    create: Callable[[], str] = request.getfixturevalue("create_postgres_database")
    return create()


@pytest.fixture
def dead_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever begins a deletion here was, by the time of the next look, a process that is gone."""
    gone = f"{holders._place()}/{os.getpid()}/an-earlier-process/0"
    monkeypatch.setattr(deletions, "new_holder", lambda: gone)


async def filled(stack: LocalStack) -> None:
    memory = await stack.memory()
    await memory.create_bank(NOTES, ALICE)
    await memory.insert_documents("notes", [TENT, STOVE], ALICE)


def break_off(stack: LocalStack, method: str, error: BaseException, patch: pytest.MonkeyPatch) -> None:
    """Whatever is deleted in the index from now on is not."""

    async def broken(*given: object) -> None:
        raise error

    (slot,) = [one for one in stack._slots if one.resolved.api == "memory"]
    patch.setattr(slot.implementation(), method, broken)


async def eventually(seen: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not await seen():  # noqa: ASYNC110  nothing tells that a deletion has ended
            await asyncio.sleep(0)


async def found(stack: LocalStack) -> list[str]:
    chunks = await (await stack.memory()).query(["notes"], MemoryQuery(query="tent stove"), ALICE)
    return sorted({chunk.document_id for chunk in chunks})


@pytest.mark.parametrize("error", [Died(), ProviderUnavailable("the index is away")], ids=["death", "failure"])
async def test_a_document_whose_deletion_broke_off_is_not_found_for_ever(
    error: BaseException, storage_url: str, tmp_path: Path, dead_holder: None
) -> None:
    async with open_memory_stack(tmp_path, storage_url=storage_url) as stack:
        await filled(stack)
        with pytest.MonkeyPatch.context() as patch:
            break_off(stack, "delete_documents", error, patch)
            with pytest.raises(type(error)):
                await (await stack.memory()).delete_documents("notes", ["tent"], ALICE)
        assert await found(stack) == ["stove", "tent"]
    async with open_memory_stack(tmp_path, storage_url=storage_url) as stack:

        async def is_gone() -> bool:
            return await found(stack) == ["stove"]

        await eventually(is_gone)
        assert [one.document_id for one in (await (await stack.memory()).documents("notes", ALICE)).entries] == [
            "stove"
        ]


async def test_a_document_that_came_again_since_is_kept(storage_url: str, tmp_path: Path, dead_holder: None) -> None:
    async with open_memory_stack(tmp_path, storage_url=storage_url) as stack:
        await filled(stack)
        memory = await stack.memory()
        with pytest.MonkeyPatch.context() as patch:
            break_off(stack, "delete_documents", Died(), patch)
            with pytest.raises(Died):
                await memory.delete_documents("notes", ["tent", "stove"], ALICE)
        await memory.insert_documents("notes", [TENT], ALICE)
    async with open_memory_stack(tmp_path, storage_url=storage_url) as stack:

        async def is_gone() -> bool:
            return await found(stack) == ["tent"]

        await eventually(is_gone)
        assert (await (await stack.memory()).document("notes", "tent", ALICE)).chunks == 1


@pytest.mark.parametrize("after", ["begin", "drop_bank", "unregister"])
async def test_a_bank_whose_dropping_broke_off_is_dropped(
    after: str, storage_url: str, tmp_path: Path, dead_holder: None
) -> None:
    async with open_memory_stack(tmp_path, storage_url=storage_url) as stack:
        await filled(stack)
        memory = await stack.memory()
        with pytest.MonkeyPatch.context() as patch:

            async def dies(*given: object) -> None:
                raise Died

            match after:
                case "begin":
                    break_off(stack, "drop_bank", Died(), patch)
                case "drop_bank":
                    patch.setattr(stack.registry, "unregister", dies)
                case _:
                    patch.setattr(memory._banks._store, "forget", dies)
            with pytest.raises(Died):
                await memory.drop_bank("notes", ALICE)
    async with open_memory_stack(tmp_path, storage_url=storage_url) as stack:
        memory = await stack.memory()

        async def is_gone() -> bool:
            return not (await memory.deleting._store.of_bank("notes", ALICE))

        await eventually(is_gone)
        with pytest.raises(NotFound):
            await memory.bank("notes", ALICE)
        assert (await memory.banks(ALICE)).entries == []
        await memory.create_bank(NOTES, ALICE)
        assert await found(stack) == []


async def test_a_bank_that_is_made_again_at_once_holds_nothing_of_the_earlier_one(tmp_path: Path) -> None:
    """Its deletion still looks as if its process worked on it."""
    async with open_memory_stack(tmp_path) as stack:
        await filled(stack)
        memory = await stack.memory()
        with pytest.MonkeyPatch.context() as patch:
            break_off(stack, "drop_bank", Died(), patch)
            with pytest.raises(Died):
                await memory.drop_bank("notes", ALICE)
        await memory.create_bank(NOTES, ALICE)
        assert await found(stack) == []
        assert (await memory.documents("notes", ALICE)).entries == []
