"""Banks in Chroma: its engine in this process, and its own server behind REST."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import cast
from uuid import uuid4

import httpx
import pytest

from llama_stack.api.chunk_index import BankPlace, ChunkIndex
from llama_stack.api.inference import Inference
from llama_stack.api.memory import Chunk
from llama_stack.errors import ProviderFailed, ProviderUnavailable, RateLimited, StackError
from llama_stack.provider import Ground, InferenceFloor
from llama_stack.testing.memory_contract import MemoryContract
from llama_stack.testing.memory_contract_ground import DIMENSION, axis, chunk, of_document, one, random_rows
from llama_stack_providers._chroma import erasing
from llama_stack_providers._chroma.local import open_local
from llama_stack_providers._chroma.store import ChromaStore
from llama_stack_providers._vector_database.index import marked_index
from llama_stack_providers.inline.chroma import Config as InlineConfig
from llama_stack_providers.inline.chroma import open_chroma as open_inline
from llama_stack_providers.remote.chroma import Config as RemoteConfig
from llama_stack_providers.remote.chroma import open_chroma as open_remote
from tests.providers.memory.key_value_bank import check_key_value_bank
from tests.providers.memory.loopback_chroma import run_chroma_server


def floor(home: Path, transport: httpx.AsyncBaseTransport | None = None) -> InferenceFloor:
    return InferenceFloor(Ground(home=home, state=home, transport=transport), cast(Inference, None))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_chroma_server(tmp_path_factory.mktemp("chroma")) as running:
        yield running


def remote(url: str, **settings: object) -> RemoteConfig:
    return RemoteConfig.model_validate({"url": url, **settings})


class TestInline(MemoryContract):
    def opened(self, home: Path) -> AbstractAsyncContextManager[ChunkIndex]:
        return open_inline(InlineConfig(), floor(home))


class TestRemote(MemoryContract):
    @pytest.fixture(autouse=True)
    def _server(self, url: str) -> None:
        self.url = url

    def opened(self, home: Path) -> AbstractAsyncContextManager[ChunkIndex]:
        return open_remote(remote(self.url), floor(home))


def new_place() -> BankPlace:
    return BankPlace(key=f"b{uuid4().hex[:24]}", dimension=DIMENSION)


def pieces(document_id: str, version: int, count: int = 6) -> list[Chunk]:
    return [chunk(document_id, number, metadata={"version": version}) for number in range(count)]


def whole(version: int, count: int = 6) -> list[tuple[int, int]]:
    return [(version, number) for number in range(count)]


async def seen_versions(index: ChunkIndex, bank: BankPlace, document_id: str) -> list[tuple[int, int]]:
    """Version and position of every chunk of the document, from a search and from a listing that must agree."""
    found = await index.search_vector(bank, one(axis(0)), 50, of_document(document_id))
    listed = await index.list_chunks(bank, document_ids=[document_id])
    versions = sorted((hit.chunk.metadata["version"], hit.chunk.position) for hit in found)
    assert versions == sorted((hit.chunk.metadata["version"], hit.chunk.position) for hit in listed)
    return versions


class Faulty(httpx.AsyncHTTPTransport):
    """The network to the real server, until it breaks: a status, or None for a lost connection.

    breaks_at: how the path of the request ends that does not come through.
    """

    breaks_at: str | None = None
    status: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path.rpartition("/")[2])
        if self.breaks_at is not None and request.url.path.endswith(self.breaks_at):
            if self.status is None:
                raise httpx.ReadError("the connection was lost", request=request)
            return httpx.Response(self.status, json={"error": "InternalError", "message": "told to fail"})
        return await super().handle_async_request(request)


async def test_values_are_found_by_their_keys(tmp_path: Path) -> None:
    async with open_inline(InlineConfig(), floor(tmp_path)) as index:
        await check_key_value_bank(index)


class TestCrashes:
    @pytest.mark.parametrize("step", ["/add", "/update", "/delete"])
    @pytest.mark.parametrize("status", [500, None])
    async def test_a_server_that_fails_within_a_write_shows_one_version(
        self, step: str, status: int | None, url: str, tmp_path: Path
    ) -> None:
        bank, network = new_place(), Faulty()
        async with open_remote(remote(url), floor(tmp_path, network)) as index:
            await index.create_bank(bank)
            await index.write_chunks(bank, pieces("a", 1), random_rows(6))
            network.breaks_at, network.status = step, status
            with pytest.raises(ProviderFailed):
                await index.write_chunks(bank, pieces("a", 2), random_rows(6), replace_documents=True)
            network.breaks_at = None
            # Only the removal of the old version comes after the step that shows the new one.
            assert await seen_versions(index, bank, "a") == whole(2 if step == "/delete" else 1)
            await index.write_chunks(bank, pieces("a", 3, 2), random_rows(2), replace_documents=True)
            assert await seen_versions(index, bank, "a") == whole(3, 2)
            async with httpx.AsyncClient(base_url=f"{url}/api/v2/tenants/default_tenant/databases/") as http:
                found = await http.get(f"default_database/collections/llama_stack_{bank.key}")
                counted = await http.get(f"default_database/collections/{found.json()['id']}/count")
                assert counted.json() == 2, "nothing of the broken write is left"

    async def test_the_step_that_shows_a_write_is_one_request(self, url: str, tmp_path: Path) -> None:
        bank, network = new_place(), Faulty()
        async with open_remote(remote(url), floor(tmp_path, network)) as index:
            await index.create_bank(bank)
            await index.write_chunks(bank, pieces("a", 1), random_rows(6))
            network.asked.clear()
            await index.write_chunks(bank, pieces("a", 2), random_rows(6), replace_documents=True)
            assert network.asked == ["get", "get", "add", "update", "delete"]

    @pytest.mark.parametrize("operation", ["add", "update", "delete"])
    async def test_a_killed_process_leaves_one_version(self, operation: str, tmp_path: Path) -> None:
        bank = BankPlace(key="bank", dimension=DIMENSION)
        async with open_inline(InlineConfig(), floor(tmp_path)) as index:
            await index.create_bank(bank)
            await index.write_chunks(bank, pieces("a", 1), random_rows(6))
        killed = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED_AFTER, str(tmp_path), operation,
            cwd=Path(__file__).parents[3], env={**os.environ, "PYTHONPATH": "."},
        )  # fmt: skip
        assert await killed.wait() == 9
        async with open_inline(InlineConfig(), floor(tmp_path)) as index:
            assert await seen_versions(index, bank, "a") == whole(1 if operation == "add" else 2)
            assert (await index.stats(bank)).chunks == 6


KILLED_AFTER = """
import asyncio, os, sys
from pathlib import Path
from chromadb.api.models.Collection import Collection
from llama_stack.api.chunk_index import BankPlace
from tests.providers.memory.test_chroma import DIMENSION, InlineConfig, floor, open_inline, pieces, random_rows

operation = sys.argv[2]
real = getattr(Collection, operation)

def last(*arguments, **named):
    real(*arguments, **named)
    os._exit(9)

async def main():
    async with open_inline(InlineConfig(), floor(Path(sys.argv[1]))) as index:
        setattr(Collection, operation, last)
        bank = BankPlace(key="bank", dimension=DIMENSION)
        await index.write_chunks(bank, pieces("a", 2), random_rows(6), replace_documents=True)

asyncio.run(main())
"""


class TestRemoteFailures:
    async def test_an_unreachable_server_is_unavailable(self, tmp_path: Path) -> None:
        with pytest.raises(ProviderUnavailable, match="Chroma cannot be reached"):
            async with open_remote(remote("http://127.0.0.1:9"), floor(tmp_path)):
                pass

    async def test_a_key_is_sent_and_never_told(self, tmp_path: Path) -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            key = request.headers["x-chroma-token"]
            return httpx.Response(401, json={"error": "AuthError", "message": f"Forbidden: {key}"})

        network = httpx.MockTransport(answer)
        with pytest.raises(ProviderFailed, match="check the provider's api_key") as failed:
            async with open_remote(remote("http://chroma", api_key="secret-wrong"), floor(tmp_path, network)):
                pass
        assert "secret-wrong" not in str(failed.value)
        assert failed.value.http_status == 401

    async def test_another_http_server_is_no_chroma(self, tmp_path: Path) -> None:
        network = httpx.MockTransport(lambda request: httpx.Response(200, text="<html>hello</html>"))
        with pytest.raises(ProviderFailed, match="check that url leads to"):
            async with open_remote(remote("http://chroma"), floor(tmp_path, network)):
                pass

    @pytest.mark.parametrize(("status", "error"), [(429, RateLimited), (503, ProviderUnavailable)])
    async def test_a_refusal_keeps_its_status_and_message(
        self, status: int, error: type[StackError], url: str, tmp_path: Path
    ) -> None:
        bank, network = new_place(), Faulty()
        async with open_remote(remote(url, first_pause_s=0.001), floor(tmp_path, network)) as index:
            await index.create_bank(bank)
            network.breaks_at, network.status = "/query", status
            with pytest.raises(error, match=f"{status}: told to fail") as failed:
                await index.search_vector(bank, one(axis(0)), 5)
            assert failed.value.http_status == status

    async def test_a_bank_that_another_server_made_anew_is_found(self, url: str, tmp_path: Path) -> None:
        bank = new_place()
        async with (
            open_remote(remote(url), floor(tmp_path)) as here,
            open_remote(remote(url), floor(tmp_path)) as there,
        ):
            await asyncio.gather(here.create_bank(bank), there.create_bank(bank))
            await here.write_chunks(bank, pieces("a", 1), random_rows(6))
            await there.drop_bank(bank)
            await there.create_bank(bank)
            await there.write_chunks(bank, pieces("a", 2), random_rows(6))
            assert await seen_versions(here, bank, "a") == whole(2)


class TestInlineFolder:
    async def test_a_missing_library_names_the_extra(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "chromadb", None)
        with pytest.raises(ProviderUnavailable, match=r"pip install 'llama-stack\[chroma\]'"):
            async with open_inline(InlineConfig(), floor(tmp_path)):
                pass

    async def test_a_folder_that_cannot_be_used_is_told(self, tmp_path: Path) -> None:
        blocked = tmp_path / "file"
        blocked.write_text("no folder")
        with pytest.raises(ProviderUnavailable, match="Chroma cannot open its folder"):
            async with open_inline(InlineConfig(folder=blocked / "banks"), floor(tmp_path)):
                pass


SECRET = b"nightingale"


def holding_secret(folder: Path) -> list[str]:
    """Names of the files in whose bytes it stands. What the index of vectors has not filled yet is left out: the
    engine writes memory there as it finds it."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != "data_level0.bin"]
    return sorted(file.name for file in files if SECRET in file.read_bytes().lower())


def folders_of_vectors(folder: Path) -> int:
    return sum(entry.is_dir() for entry in folder.iterdir())


class TestErasing:
    @pytest.fixture(autouse=True)
    def _at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(erasing, "PAUSE_S", 0.01)

    async def _filled(self, index: ChunkIndex, bank: BankPlace) -> None:
        await index.create_bank(bank)
        for name, text in (("secret", "Project Nightingale begins in May. "), ("kept", "An owl hunts at night. ")):
            some = [chunk(name, number, text * 5, metadata={"about": text}) for number in range(10)]
            await index.write_chunks(bank, some, random_rows(10))

    async def test_deleted_text_leaves_the_folder(self, tmp_path: Path) -> None:
        bank, dropped = new_place(), new_place()
        async with open_local(tmp_path) as door:
            index = marked_index(ChromaStore(door, prefix="bank_"))
            for place in (bank, dropped):
                await self._filled(index, place)
            assert holding_secret(tmp_path) == ["chroma.sqlite3"]
            await index.delete_documents(bank, ["secret"])
            await index.drop_bank(dropped)
            await door.erased()
            assert holding_secret(tmp_path) == []
            assert folders_of_vectors(tmp_path) == 1
            more = [chunk("more", number, "A lark sings at dawn.") for number in range(10)]
            await index.write_chunks(bank, more, random_rows(10))
        async with open_local(tmp_path) as door:
            index = marked_index(ChromaStore(door, prefix="bank_"))
            found = await index.search_vector(bank, one(axis(0)), 50)
            assert sorted({hit.chunk.document_id for hit in found}) == ["kept", "more"]
            assert len(found) == (await index.stats(bank)).chunks == 20

    async def test_what_was_deleted_just_before_the_end_is_erased_with_it(self, tmp_path: Path) -> None:
        bank = new_place()
        async with open_local(tmp_path) as door:
            index = marked_index(ChromaStore(door, prefix="bank_"))
            await self._filled(index, bank)
            await index.delete_documents(bank, ["secret"])
        assert holding_secret(tmp_path) == []
