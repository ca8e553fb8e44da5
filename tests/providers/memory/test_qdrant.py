"""Banks in Qdrant: its local mode as it is, and its REST interface on a loopback server over the same engine."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import cast

import httpx
import pytest

from llama_stack.api.chunk_index import BankPlace, ChunkIndex
from llama_stack.api.inference import Inference
from llama_stack.api.memory import Chunk
from llama_stack.errors import ProviderFailed, ProviderTimeout, ProviderUnavailable, RateLimited, StackError
from llama_stack.provider import Ground, InferenceFloor
from llama_stack.testing.memory_contract import MemoryContract
from llama_stack.testing.memory_contract_ground import DIMENSION, axis, chunk, of_document, one, random_rows
from llama_stack_providers.inline.qdrant import Config as InlineConfig
from llama_stack_providers.inline.qdrant import open_qdrant as open_inline
from llama_stack_providers.remote.qdrant import Config as RemoteConfig
from llama_stack_providers.remote.qdrant import open_qdrant as open_remote
from tests.providers.memory.key_value_bank import check_key_value_bank
from tests.providers.memory.loopback_qdrant import LoopbackQdrant, open_loopback_qdrant


def floor(home: Path) -> InferenceFloor:
    return InferenceFloor(Ground(home=home, state=home), cast(Inference, None))


def remote(server: LoopbackQdrant, **settings: object) -> RemoteConfig:
    return RemoteConfig.model_validate({"url": server.url, **settings})


class TestInline(MemoryContract):
    def opened(self, home: Path) -> AbstractAsyncContextManager[ChunkIndex]:
        return open_inline(InlineConfig(), floor(home))


class TestRemote(MemoryContract):
    @asynccontextmanager
    async def opened(self, home: Path) -> AsyncIterator[ChunkIndex]:
        async with open_loopback_qdrant(home / "server") as server, open_remote(remote(server), floor(home)) as index:
            yield index


PLACE = BankPlace(key="bank", dimension=DIMENSION)


def pieces(document_id: str, version: int, count: int = 6) -> list[Chunk]:
    return [chunk(document_id, number, metadata={"version": version}) for number in range(count)]


async def seen_versions(index: ChunkIndex, document_id: str) -> list[tuple[int, int]]:
    """Version and position of every chunk of the document, from a search and from a listing that must agree."""
    found = await index.search_vector(PLACE, one(axis(0)), 50, of_document(document_id))
    listed = await index.list_chunks(PLACE, document_ids=[document_id])
    versions = sorted((hit.chunk.metadata["version"], hit.chunk.position) for hit in found)
    assert versions == sorted((hit.chunk.metadata["version"], hit.chunk.position) for hit in listed)
    return versions


def whole(version: int, count: int = 6) -> list[tuple[int, int]]:
    return [(version, number) for number in range(count)]


CRASHING_WRITE = """
import asyncio, os, sys
from pathlib import Path
from qdrant_client.local.persistence import CollectionPersistence
from tests.providers.memory.test_qdrant import InlineConfig, PLACE, floor, open_inline, pieces, random_rows

left = int(sys.argv[2])
persist, delete = CollectionPersistence.persist, CollectionPersistence.delete

def counted(real):
    def run(*arguments):
        global left
        if left == 0:
            os._exit(9)
        left -= 1
        return real(*arguments)
    return run

async def main():
    async with open_inline(InlineConfig(), floor(Path(sys.argv[1]))) as index:
        CollectionPersistence.persist, CollectionPersistence.delete = counted(persist), counted(delete)
        await index.write_chunks(PLACE, pieces("a", 2), random_rows(6), replace_documents=True)

asyncio.run(main())
"""


async def test_values_are_found_by_their_keys(tmp_path: Path) -> None:
    async with open_inline(InlineConfig(), floor(tmp_path)) as index:
        await check_key_value_bank(index)


class TestCrashes:
    @pytest.mark.parametrize("commits", [0, 3, 6, 9, 12, 15, 21, 24, 27])
    async def test_a_killed_process_leaves_one_version(self, commits: int, tmp_path: Path) -> None:
        async with open_inline(InlineConfig(), floor(tmp_path)) as index:
            await index.create_bank(PLACE)
            await index.write_chunks(PLACE, pieces("a", 1), random_rows(6))
        killed = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CRASHING_WRITE, str(tmp_path), str(commits), cwd=Path(__file__).parents[3]
        )
        assert await killed.wait() == 9
        async with open_inline(InlineConfig(), floor(tmp_path)) as index:
            # 6 points are added, 6 marked; from the first of the 12 that are then shown and hidden, it is the new one.
            assert await seen_versions(index, "a") == whole(1 if commits <= 12 else 2)
            assert (await index.stats(PLACE)).chunks == 6

    @pytest.mark.parametrize(
        ("method", "rest"), [("PUT", "points"), ("POST", "points/payload"), ("POST", "points/delete")]
    )
    @pytest.mark.parametrize("fault", [500, "drop"])
    async def test_a_server_that_fails_within_a_write_shows_one_version(
        self, method: str, rest: str, fault: int | str, tmp_path: Path
    ) -> None:
        async with open_loopback_qdrant(tmp_path) as server, open_remote(remote(server), floor(tmp_path)) as index:
            await index.create_bank(PLACE)
            await index.write_chunks(PLACE, pieces("a", 1), random_rows(6))
            server.fault_at = (method, rest)
            # A connection that is closed without an answer is tried again where it was kept from before.
            server.faults.extend([fault] * 8)
            with pytest.raises(ProviderFailed):
                await index.write_chunks(PLACE, pieces("a", 2), random_rows(6), replace_documents=True)
            server.faults.clear()
            # Only the removal of the old version comes after the step that shows the new one.
            assert await seen_versions(index, "a") == whole(2 if rest == "points/delete" else 1)
            await index.write_chunks(PLACE, pieces("a", 3, 2), random_rows(2), replace_documents=True)
            assert await seen_versions(index, "a") == whole(3, 2)
            left = await LocalReader(server).count()
            assert left == 2

    async def test_the_step_that_shows_a_write_is_one_request(self, tmp_path: Path) -> None:
        async with open_loopback_qdrant(tmp_path) as server, open_remote(remote(server), floor(tmp_path)) as index:
            await index.create_bank(PLACE)
            await index.write_chunks(PLACE, pieces("a", 1), random_rows(6))
            server.asked.clear()
            await index.write_chunks(PLACE, pieces("a", 2), random_rows(6), replace_documents=True)
            assert [rest for _, rest in server.asked] == [
                "points/scroll", "points", "points/payload", "points/payload", "points/delete",
            ]  # fmt: skip


class LocalReader:
    """Looks at the server's points without the index."""

    def __init__(self, server: LoopbackQdrant) -> None:
        self._server = server

    async def count(self) -> int:
        async with httpx.AsyncClient(base_url=self._server.url) as http:
            answer = await http.post("/collections/llama_stack_bank/points/count", json={"exact": True})
            return int(answer.json()["result"]["count"])


class TestRemoteFailures:
    async def test_an_unreachable_server_is_unavailable(self, tmp_path: Path) -> None:
        config = RemoteConfig.model_validate({"url": "http://127.0.0.1:9"})
        with pytest.raises(ProviderUnavailable, match="Qdrant cannot be reached"):
            async with open_remote(config, floor(tmp_path)):
                pass

    async def test_a_wrong_key_is_told_without_the_key(self, tmp_path: Path) -> None:
        async with open_loopback_qdrant(tmp_path, api_key="right") as server:
            with pytest.raises(ProviderFailed, match="check the provider's api_key") as failed:
                async with open_remote(remote(server, api_key="secret-wrong"), floor(tmp_path)):
                    pass
            assert "secret-wrong" not in str(failed.value)
            assert failed.value.http_status == 401
            async with open_remote(remote(server, api_key="right"), floor(tmp_path)) as index:
                await index.create_bank(PLACE)

    @pytest.mark.parametrize(
        ("status", "error"),
        [(429, RateLimited), (503, ProviderUnavailable), (504, ProviderTimeout), (400, ProviderFailed)],
    )
    async def test_a_refusal_keeps_its_status_and_message(
        self, status: int, error: type[StackError], tmp_path: Path
    ) -> None:
        async with (
            open_loopback_qdrant(tmp_path) as server,
            open_remote(remote(server, attempts=1), floor(tmp_path)) as index,
        ):
            await index.create_bank(PLACE)
            server.faults.append(status)
            with pytest.raises(error, match=f"{status}: told to fail") as failed:
                await index.search_vector(PLACE, one(axis(0)), 5)
            assert failed.value.http_status == status

    async def test_a_busy_server_is_asked_again(self, tmp_path: Path) -> None:
        async with (
            open_loopback_qdrant(tmp_path) as server,
            open_remote(remote(server, first_pause_s=0.001), floor(tmp_path)) as index,
        ):
            await index.create_bank(PLACE)
            server.faults.extend([429, 503])
            await index.write_chunks(PLACE, pieces("a", 1), random_rows(6))
            server.faults.extend([503, 429])
            assert await seen_versions(index, "a") == whole(1)

    async def test_another_http_server_is_no_qdrant(self, tmp_path: Path) -> None:
        page = httpx.MockTransport(lambda request: httpx.Response(200, text="<html>hello</html>"))
        ground = Ground(home=tmp_path, state=tmp_path, transport=page)
        with pytest.raises(ProviderFailed, match="check that url leads to its REST interface"):
            async with open_remote(RemoteConfig(), InferenceFloor(ground, cast(Inference, None))):
                pass

    async def test_two_servers_may_make_a_bank_at_once(self, tmp_path: Path) -> None:
        async with (
            open_loopback_qdrant(tmp_path) as server,
            open_remote(remote(server), floor(tmp_path)) as here,
            open_remote(remote(server), floor(tmp_path)) as there,
        ):
            await asyncio.gather(here.create_bank(PLACE), there.create_bank(PLACE))
            await here.write_chunks(PLACE, pieces("a", 1), random_rows(6))
            await there.write_chunks(PLACE, pieces("a", 2), random_rows(6), replace_documents=True)
            assert await seen_versions(here, "a") == whole(2)


class TestInlineFolder:
    # The library leaves its lock file open when it cannot have the lock.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    async def test_a_folder_serves_one_process(self, tmp_path: Path) -> None:
        async with open_inline(InlineConfig(), floor(tmp_path)):
            with pytest.raises(ProviderUnavailable, match="another process has Qdrant's folder"):
                async with open_inline(InlineConfig(), floor(tmp_path)):
                    pass

    async def test_a_missing_library_names_the_extra(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "qdrant_client", None)
        with pytest.raises(ProviderUnavailable, match=r"pip install 'llama-stack\[qdrant\]'"):
            async with open_inline(InlineConfig(), floor(tmp_path)):
                pass

    async def test_a_cancelled_write_leaves_nothing_to_filter_out(self, tmp_path: Path) -> None:
        async with open_inline(InlineConfig(), floor(tmp_path)) as index:
            await index.create_bank(PLACE)
            await index.write_chunks(PLACE, pieces("a", 1), random_rows(6))
            write = asyncio.create_task(index.write_chunks(PLACE, pieces("a", 2, 600), random_rows(600)))
            while not write.done():
                write.cancel()
                await asyncio.sleep(0)
            assert await seen_versions(index, "a") in (whole(1), whole(2, 600))
            size = (await index.stats(PLACE)).size_bytes
            assert size is not None
            assert size > 0
