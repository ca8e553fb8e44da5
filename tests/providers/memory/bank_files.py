"""What holds for every provider that keeps its banks in files of its own: crashes, deleted bytes, foreign files."""

import asyncio
import signal
import sqlite3
import sys
from pathlib import Path
from typing import cast

import pytest

from llama_stack.api.chunk_index import BankPlace
from llama_stack.api.filters import Comparison, matches
from llama_stack.api.vectors import Vectors
from llama_stack.errors import InvalidRequest, NotFound, ProviderFailed
from llama_stack.testing.memory_contract_ground import (
    DIMENSION,
    OpensIndexes,
    axis,
    chunk,
    everything,
    ids,
    one,
    random_rows,
)
from llama_stack_providers.inline._chunks.index import InlineIndex
from tests.providers.memory.endless_writer import BANK, DOCUMENTS, PIECES

ROOT = Path(__file__).parents[3]
LIMIT_S = 60.0


class BankFiles(OpensIndexes):
    """module: of the provider, for a process of its own."""

    module: str

    async def test_a_killed_writer_leaves_whole_documents(self, tmp_path: Path) -> None:
        for finished in (1, DOCUMENTS, 3 * DOCUMENTS):
            written = await self._killed_after(finished, tmp_path)
            async with self.opened(tmp_path) as index, asyncio.timeout(LIMIT_S):
                listed = await everything(index, BANK)
                found = await index.search_vector(BANK, one(axis(0, dimension=32)), DOCUMENTS * PIECES)
                by_word = await index.search_keyword(BANK, "zeppelin", DOCUMENTS * PIECES)
            for seen in (listed, [hit.chunk for hit in found], [hit.chunk for hit in by_word]):
                for name, version in written.items():
                    pieces = [piece for piece in seen if piece.document_id == name]
                    versions = {piece.metadata["version"] for piece in pieces}
                    assert len(pieces) == PIECES
                    assert len(versions) == 1
                    assert versions.pop() >= version, "a write that was reported is lost"

    async def _killed_after(self, finished: int, home: Path) -> dict[str, int]:
        """Versions that a writer had reported when it was killed at its work."""
        writer = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.providers.memory.endless_writer", self.module, str(home)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        assert writer.stdout is not None
        written: dict[str, int] = {}
        async with asyncio.timeout(LIMIT_S):
            for _ in range(finished):
                name, version = (await writer.stdout.readline()).split()
                written[name.decode()] = int(version)
            writer.send_signal(signal.SIGKILL)
            await writer.wait()
        return written

    async def test_deleted_text_is_nowhere_in_the_files(self, tmp_path: Path) -> None:
        bank = self.place(64)
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            for number in range(20):
                name = "secret" if number % 2 else "open"
                pieces = [
                    chunk(
                        f"{name}{number}",
                        position,
                        f"{name}text{number} stands at {position}" + " filler" * 50,
                        language="en",
                        metadata={"note": f"{name}note{number}"},
                    )
                    for position in range(20)
                ]
                await index.write_chunks(bank, pieces, random_rows(20, 64))
            # While it is open, tidied in the background; the test waits for the same work.
            assert await index.delete_documents(bank, [f"secret{number}" for number in range(20)]) == 200
            await cast(InlineIndex, index).tidy(bank)
            assert _bytes_of(tmp_path).count(b"opentext0") > 0
            for left in (b"secrettext", b"secretnote", b"secret"):
                assert left not in _bytes_of(tmp_path)
            assert len(await index.search_keyword(bank, "opentext", 500)) == 200
            assert await index.search_keyword(bank, "secrettext", 500) == []

    async def test_files_grow_shorter_after_deletes(self, tmp_path: Path) -> None:
        bank = self.place(64)
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            for number in range(20):
                pieces = [chunk(f"d{number}", position, "filler " * 100) for position in range(50)]
                await index.write_chunks(bank, pieces, random_rows(50, 64))
            before = (await index.stats(bank)).size_bytes
            await index.delete_documents(bank, [f"d{number}" for number in range(2, 20)])
            await cast(InlineIndex, index).tidy(bank)
            after = (await index.stats(bank)).size_bytes
            assert before is not None
            assert after is not None
            assert after < before / 3
            await index.drop_bank(bank)
            assert _files_in(tmp_path) == []

    async def test_writing_a_document_again_and_again_takes_no_more_room(self, tmp_path: Path) -> None:
        bank = self.place(64)
        sizes: list[int] = []
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            for version in range(30):
                pieces = [chunk("d", position, f"version {version} " + "filler " * 50) for position in range(100)]
                await index.write_chunks(bank, pieces, random_rows(100, 64), replace_documents=True)
                await cast(InlineIndex, index).tidy(bank)
                sizes.append((await index.stats(bank)).size_bytes or 0)
        assert max(sizes[10:]) <= 2 * max(sizes[:3])

    async def test_wide_integers_are_compared_exactly(self, tmp_path: Path) -> None:
        bank = self.place()
        numbers = [2**63 - 1, 2**63, 2**63 + 1, 10**40, 10**40 + 1, -(2**63), -(2**63) - 1, 10**400, 9.2e18, 5]
        chunks = [chunk(f"d{place:02}", metadata={"n": number}) for place, number in enumerate(numbers)]
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            await index.write_chunks(bank, chunks, random_rows(len(chunks)))
            for number in numbers:
                for operator in ("eq", "ne", "gt", "gte", "lt", "lte"):
                    where = Comparison(type=operator, key="n", value=number)
                    expected = [one.chunk_id for one in chunks if matches(where, one.metadata)]
                    assert ids(await index.list_chunks(bank, where=where)) == expected, where

    async def test_a_chunk_named_twice_in_one_write_is_the_last(self, tmp_path: Path) -> None:
        bank = self.place()
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            await index.write_chunks(bank, [chunk("a", 0, "first"), chunk("a", 0, "second")], random_rows(2))
            found = await index.search_vector(bank, random_rows(2).row_bytes(1), 5, with_vectors=True)
            assert [hit.chunk.content for hit in found] == ["second"]
            assert found[0].vector == random_rows(2).row_bytes(1)

    async def test_half_a_surrogate_pair_is_refused_and_harms_nothing(self, tmp_path: Path) -> None:
        bank = self.place()
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            await index.write_chunks(bank, [chunk("a")], random_rows(1))
            broken = chunk("a", 1).model_copy(update={"content": "half \ud83e"})
            with pytest.raises(InvalidRequest, match="surrogate"):
                await index.write_chunks(bank, [chunk("a", 2), broken], random_rows(2))
            assert ids(await index.list_chunks(bank)) == ["a-0000"]

    @pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
    async def test_numbers_that_are_none_are_refused(self, number: float, tmp_path: Path) -> None:
        bank, broken = self.place(), Vectors.of([axis(0), axis(1, number)], DIMENSION)
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            with pytest.raises(InvalidRequest, match="NaN"):
                await index.write_chunks(bank, [chunk("a"), chunk("b")], broken)
            with pytest.raises(InvalidRequest, match="NaN"):
                await index.search_vector(bank, broken.row_bytes(1), 5)
            assert await index.list_chunks(bank) == []

    async def test_the_greatest_numbers_are_kept(self, tmp_path: Path) -> None:
        bank, rows = self.place(), Vectors.of([axis(0, 3.4e38), axis(1, -3.4e38)], DIMENSION)
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            await index.write_chunks(bank, [chunk("a"), chunk("b")], rows)
            listed = await index.list_chunks(bank, with_vectors=True)
        assert [found.vector for found in listed] == [rows.row_bytes(0), rows.row_bytes(1)]

    async def test_the_details_of_a_chunk_come_back_as_they_were(self, tmp_path: Path) -> None:
        bank = self.place()
        details = {"document_name": 'Größe \x1f"n".md', "start": 2**70, "end": 2**71, "page": 3, "headings": ["Ж", ""]}
        written = chunk("a").model_copy(update=details)
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            await index.write_chunks(bank, [written, chunk("b")], random_rows(2))
            assert [found.chunk for found in await index.list_chunks(bank)] == [written, chunk("b")]

    async def test_a_vector_of_zeros_is_like_nothing(self, tmp_path: Path) -> None:
        bank = self.place()
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            rows = Vectors.of([axis(0, 0.0), axis(0), axis(0, -1.0)], DIMENSION)
            await index.write_chunks(bank, [chunk("zero"), chunk("same"), chunk("opposite")], rows)
            found = await index.search_vector(bank, one(axis(0)), 5)
            assert [(hit.chunk.document_id, round(hit.score, 3)) for hit in found] == [
                ("same", 1.0),
                ("zero", 0.0),
                ("opposite", -1.0),
            ]

    @pytest.mark.parametrize("key", ["../outside", "a/b", "", "UPPER", "a.b", "a" * 49, "1st", "a\nb"])
    async def test_a_key_is_no_path(self, key: str, tmp_path: Path) -> None:
        place = BankPlace.model_construct(key=key, dimension=4, keyword=True, params={})
        async with self.opened(tmp_path) as index:
            with pytest.raises(InvalidRequest, match="key"):
                await index.create_bank(place)
            with pytest.raises(InvalidRequest, match="key"):
                await index.drop_bank(place)

    async def test_files_of_others_and_of_the_future_are_refused(self, tmp_path: Path) -> None:
        foreign, newer, noise = (self.place() for _ in range(3))
        async with self.opened(tmp_path) as index:
            await index.create_bank(newer)
        (file,) = _files_in(tmp_path)
        folder = file.parent
        with sqlite3.connect(file) as database:
            database.execute("PRAGMA user_version = 99")
        database.close()
        with sqlite3.connect(folder / f"{foreign.key}.bank") as database:
            database.execute("CREATE TABLE theirs (x)")
        database.close()
        (folder / f"{noise.key}.bank").write_bytes(b"no database, whatever its name says" * 1_000)
        async with self.opened(tmp_path) as index:
            for bank, reason in ((newer, "newer"), (foreign, "no bank"), (noise, "damaged")):
                with pytest.raises(ProviderFailed, match=reason):
                    await index.list_chunks(bank)
                with pytest.raises(ProviderFailed, match=reason):
                    await index.create_bank(bank)

    async def test_a_bank_whose_making_was_broken_off_is_not_there(self, tmp_path: Path) -> None:
        bank = self.place()
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            (file,) = _files_in(tmp_path)
            await index.drop_bank(bank)
            file.touch()
            with pytest.raises(NotFound):
                await index.list_chunks(bank)
            await index.create_bank(bank)
            assert await index.list_chunks(bank) == []


def _files_in(home: Path) -> list[Path]:
    return [file for file in home.rglob("*") if file.is_file()]


def _bytes_of(home: Path) -> bytes:
    return b"".join(file.read_bytes() for file in _files_in(home))
