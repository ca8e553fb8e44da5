"""What every memory provider must do, as tests to inherit.

    class TestAcmeIndex(MemoryContract):
        @asynccontextmanager
        async def opened(self, home: Path) -> AsyncIterator[ChunkIndex]:
            async with open_acme(Config(folder=home), floor(home)) as index:
                yield index

The class needs pytest, and pytest-asyncio in its `auto` mode.
"""

import asyncio
import math
from pathlib import Path

import pytest

from llama_stack.api.chunk_index import BankPlace
from llama_stack.api.filters import Comparison, matches
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import Vectors, floats_of
from llama_stack.errors import Conflict, InvalidRequest, NotFound
from llama_stack.testing.memory_contract_filters import few_filters, varied_filters, varied_metadata
from llama_stack.testing.memory_contract_ground import (
    DIMENSION,
    LIMIT_S,
    axis,
    chunk,
    everything,
    ids,
    of_document,
    one,
    random_rows,
)
from llama_stack.testing.memory_contract_words import KeywordContract

MANY = 2_000
SIDE_BY_SIDE = 20
NOWHERE = BankPlace(key="never_made", dimension=DIMENSION)

ODD_TEXTS = (
    "line one\nline two\r\n\ttabbed",
    "Zürich 東京 \U0001f999 e\u0301 \u202eright to left\u202c",
    'quotes " and \' and \\ and {"json": [1, 2]}',
    "\u2028\u2029\ufeff\u200b\x01\x1f\x7f",
    "'; DROP TABLE chunks; --",
    "x" * 100_000,
)


class MemoryContract(KeywordContract):
    """Inherit it and write `opened`; see `OpensIndexes` for what else can be said."""

    async def test_a_chunk_comes_back_as_it_was(self, tmp_path: Path) -> None:
        bank = self.place()
        written = [
            Chunk(
                chunk_id=f"c/{number} ü'\"%",
                document_id=f"d/{number} 東\\京",
                content=text,
                document_name=f"file {number}.pdf",
                position=number,
                start=number * 10,
                end=number * 10 + 7,
                page=number or None,
                headings=["One", f"Two {text[:40]}"],
                token_count=12,
                language="de",
                metadata={
                    "text": text,
                    "list": [1, "two", None],
                    "nested": {"a.b": {"c": True}},
                    "float": 0.1,
                    "no": None,
                },
            )
            for number, text in enumerate(ODD_TEXTS)
        ]
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            await index.write_chunks(bank, written, random_rows(len(written)))
        async with self.opened(tmp_path) as index:
            assert await everything(index, bank) == written
            found = await index.search_vector(bank, random_rows(1).row_bytes(0), len(written))
            assert sorted((one.chunk for one in found), key=lambda one: one.position) == written

    async def test_scores_are_cosines_best_first(self, tmp_path: Path) -> None:
        bank, half = self.place(), 1 / math.sqrt(2)
        rows = [axis(0, 3.0), axis(1, 0.5), axis(0, -2.0), [half, half, *axis(0)[2:]], [3.0, 4.0, *axis(0)[2:]]]
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            await index.write_chunks(bank, [chunk("d", number) for number in range(5)], Vectors.of(rows, DIMENSION))
            found = await index.search_vector(bank, one(axis(0, 10.0)), 10)
        assert ids(found) == ["d-0000", "d-0003", "d-0004", "d-0001", "d-0002"]
        assert [hit.score for hit in found] == pytest.approx([1.0, half, 0.6, 0.0, -1.0], abs=self.score_tolerance)

    async def test_vectors_are_given_where_they_are_asked_for(self, tmp_path: Path) -> None:
        bank, rows = self.place(), random_rows(6)
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            await index.write_chunks(bank, [chunk("d", number) for number in range(6)], rows)
            found = await index.search_vector(bank, rows.row_bytes(2), 6, with_vectors=True)
            listed = await index.list_chunks(bank, with_vectors=True)
            assert [hit.vector for hit in await index.search_vector(bank, rows.row_bytes(2), 6)] == [None] * 6
            assert [hit.vector for hit in await index.list_chunks(bank)] == [None] * 6
        for hit in found + listed:
            assert hit.vector is not None
            expected = rows.row(hit.chunk.position)
            assert floats_of(hit.vector) == pytest.approx(expected, abs=self.vector_tolerance)

    async def test_equal_scores_come_in_the_order_of_chunk_ids(self, tmp_path: Path) -> None:
        bank = self.place()
        names = ["b", "A", "c", "a", "B", "é", "10", "9", "d", "e"]
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            await index.write_chunks(bank, [chunk(name) for name in names], Vectors.of([axis(3)] * 10, DIMENSION))
            expected = sorted(f"{name}-0000" for name in names)
            for limit in (10, 4, 1):
                assert ids(await index.search_vector(bank, one(axis(3)), limit)) == expected[:limit]

    async def test_a_filter_selects_exactly_what_it_says(self, tmp_path: Path) -> None:
        bank = self.place()
        chunks = [chunk(f"m{number:03}", metadata=metadata) for number, metadata in enumerate(varied_metadata())]
        rows = random_rows(len(chunks))
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            await index.write_chunks(bank, chunks, rows)
            for where in varied_filters():
                expected = [one.chunk_id for one in chunks if matches(where, one.metadata)]
                assert ids(await index.list_chunks(bank, where=where)) == expected, where
            for where in few_filters():
                expected = [one.chunk_id for one in chunks if matches(where, one.metadata)]
                found = await index.search_vector(bank, rows.row_bytes(0), len(chunks), where)
                assert sorted(ids(found)) == expected, where
            for operator, count in (("eq", 1), ("ne", len(chunks) - 1), ("lt", 5), ("gte", len(chunks) - 5)):
                where = Comparison(type=operator, key="document_id", value="m005")
                assert len(await index.list_chunks(bank, where=where)) == count

    async def test_filters_come_before_the_limit(self, tmp_path: Path) -> None:
        bank = self.place()
        # The wanted chunks are the farthest from the query.
        rows = [axis(1) if number % 97 == 3 else [1.0, number / 1000, *axis(0)[2:]] for number in range(970)]
        chunks = [chunk(f"d{number:04}", metadata={"rare": number % 97 == 3}) for number in range(970)]
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            await index.write_chunks(bank, chunks, Vectors.of(rows, DIMENSION))
            where = Comparison(type="eq", key="rare", value=True)
            found = await index.search_vector(bank, one(axis(0)), 10, where)
            assert ids(found) == [f"d{number:04}-0000" for number in range(3, 970, 97)]
            assert len(await index.search_vector(bank, one(axis(0)), 4, where)) == 4
            assert ids(await index.search_vector(bank, one(axis(0)), 10, of_document("d0100"))) == ["d0100-0000"]

    async def test_a_write_replaces_chunks_with_its_ids(self, tmp_path: Path) -> None:
        bank = self.place()
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            await index.write_chunks(bank, [chunk("a", 0), chunk("a", 1)], Vectors.of([axis(0), axis(1)], DIMENSION))
            changed = chunk("a", 1, "changed", metadata={"new": True})
            await index.write_chunks(bank, [changed], Vectors.of([axis(2)], DIMENSION))
            assert await everything(index, bank) == [chunk("a", 0), changed]
            found = await index.search_vector(bank, one(axis(2)), 5)
            assert found[0].chunk == changed
            assert len(found) == 2
            # A chunk may move to another document, too.
            moved = changed.model_copy(update={"document_id": "b"})
            await index.write_chunks(bank, [moved], Vectors.of([axis(2)], DIMENSION))
            assert await everything(index, bank) == [chunk("a", 0), moved]
            await index.write_chunks(bank, [], None)
            assert await everything(index, bank) == [chunk("a", 0), moved]

    async def test_replacing_a_document_leaves_nothing_of_it(self, tmp_path: Path) -> None:
        bank = self.place()
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            old = [chunk("a", number, metadata={"old": True}) for number in range(5)]
            await index.write_chunks(bank, [*old, chunk("b")], random_rows(6))
            new = [chunk("a", number, f"new {number}") for number in range(3, 5)]
            await index.write_chunks(bank, new, random_rows(2), replace_documents=True)
            assert await everything(index, bank) == [*new, chunk("b")]
            assert len(await index.search_vector(bank, one(axis(0)), 10)) == 3
            assert await index.list_chunks(bank, where=Comparison(type="eq", key="old", value=True)) == []

    async def test_what_is_deleted_is_found_nowhere(self, tmp_path: Path) -> None:
        bank = self.place()
        chunks = [chunk(f"d{document}", number, metadata={"n": number}) for document in range(6) for number in range(4)]
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            await index.write_chunks(bank, chunks, random_rows(len(chunks)))
            assert await index.delete_documents(bank, ["d1", "d3", "unknown"]) == 8
            assert await index.delete_documents(bank, ["d1"]) == 0
            assert await index.delete_documents(bank, []) == 0
            where = Comparison(type="gte", key="n", value=2)
            assert await index.delete_where(bank, where) == 8
            assert await index.delete_where(bank, where) == 0
            left = [one for one in chunks if one.document_id not in ("d1", "d3") and one.metadata["n"] < 2]
            assert await everything(index, bank) == left
        async with self.opened(tmp_path) as index:
            found = await index.search_vector(bank, one(axis(0)), 100)
            assert sorted(ids(found)) == [one.chunk_id for one in left]
            assert await index.list_chunks(bank, document_ids=["d1"]) == []
            stats = await index.stats(bank)
            assert (stats.chunks, stats.documents) == (8, 4)

    async def test_metadata_of_a_document_can_be_changed(self, tmp_path: Path) -> None:
        bank = self.place()
        chunks = [chunk(name, number, metadata={"state": "draft"}) for name in ("a", "b") for number in range(3)]
        draft = Comparison(type="eq", key="state", value="draft")
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            await index.write_chunks(bank, chunks, random_rows(6))
            await index.set_metadata(bank, "a", {"state": "final", "it's": [1]})
            await index.set_metadata(bank, "unknown", {"state": "final"})
            assert ids(await index.list_chunks(bank, where=draft)) == [one.chunk_id for one in chunks[3:]]
        async with self.opened(tmp_path) as index:
            final = Comparison(type="eq", key="state", value="final")
            found = await index.search_vector(bank, one(axis(0)), 10, final)
            assert sorted(ids(found)) == [one.chunk_id for one in chunks[:3]]
            assert [hit.chunk.metadata for hit in found] == [{"state": "final", "it's": [1]}] * 3

    async def test_listing_goes_page_by_page_in_order(self, tmp_path: Path) -> None:
        bank = self.place()
        # Chunk ids and the order of writing say the opposite of the positions.
        chunks = [
            Chunk(
                chunk_id=f"{99 - number}{name}", document_id=name, content=name, position=number, metadata={"n": number}
            )
            for name in ("c", "A", "é", "a", "b")
            for number in (2, 10, 1, 0)
        ]
        chunks.append(Chunk(chunk_id="0", document_id="a", content="same position", position=1, metadata={"n": 1}))
        expected = sorted(chunks, key=lambda one: (one.document_id, one.position, one.chunk_id))
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            await index.write_chunks(bank, chunks, random_rows(len(chunks)))
            assert [hit.chunk for hit in await index.list_chunks(bank)] == expected
            for where, document_ids in (
                (None, None),
                (None, ["a", "c"]),
                (Comparison(type="lt", key="n", value=9), None),
            ):
                pages: list[Chunk] = []
                after: str | None = None
                while page := await index.list_chunks(
                    bank, where=where, document_ids=document_ids, limit=4, after=after
                ):
                    assert len(page) <= 4
                    pages += [hit.chunk for hit in page]
                    after = page[-1].chunk.chunk_id
                wanted = [one for one in expected if document_ids is None or one.document_id in document_ids]
                assert pages == [one for one in wanted if matches(where, one.metadata)]
            assert await index.list_chunks(bank, document_ids=[]) == []

    async def test_a_restart_keeps_everything(self, tmp_path: Path) -> None:
        bank, rows = self.place(), random_rows(50)
        chunks = [chunk("d", number, metadata={"n": number}) for number in range(50)]
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            await index.write_chunks(bank, chunks[:30], Vectors(rows.buffer[: 30 * DIMENSION * 4], DIMENSION))
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            assert await everything(index, bank) == chunks[:30]
            await index.write_chunks(bank, chunks[30:], Vectors(rows.buffer[30 * DIMENSION * 4 :], DIMENSION))
            before = await index.search_vector(bank, rows.row_bytes(44), 10)
        async with self.opened(tmp_path) as index:
            assert await everything(index, bank) == chunks
            again = await index.search_vector(bank, rows.row_bytes(44), 10)
            assert ids(again) == ids(before)
            assert ids(again)[0] == "d-0044"

    async def test_banks_know_nothing_of_each_other(self, tmp_path: Path) -> None:
        narrow, wide = self.place(3), self.place(16)
        async with self.opened(tmp_path) as index:
            for bank in (narrow, wide):
                await index.create_bank(bank)
                await index.write_chunks(bank, [chunk("a"), chunk(bank.key)], random_rows(2, bank.dimension))
            await index.delete_documents(narrow, ["a"])
            assert ids(await index.list_chunks(narrow)) == [f"{narrow.key}-0000"]
            found = await index.search_vector(wide, random_rows(1, 16).row_bytes(0), 5)
            assert sorted(ids(found)) == sorted(["a-0000", f"{wide.key}-0000"])
            await index.drop_bank(narrow)
            assert len(await index.list_chunks(wide)) == 2

    async def test_a_wrong_width_is_refused(self, tmp_path: Path) -> None:
        bank = self.place()
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            await index.create_bank(bank)
            with pytest.raises(Conflict):
                await index.create_bank(bank.model_copy(update={"dimension": DIMENSION + 1}))
            for width in (-1, index.abilities().max_dimension + 1):
                with pytest.raises(InvalidRequest):
                    await index.create_bank(self.place(width))
            for rows in (random_rows(1, DIMENSION + 1), random_rows(2), None):
                with pytest.raises(InvalidRequest):
                    await index.write_chunks(bank, [chunk("a")], rows)
            with pytest.raises(InvalidRequest):
                await index.search_vector(bank, random_rows(1, DIMENSION - 1).row_bytes(0), 5)
            assert await index.list_chunks(bank) == []
            assert await index.search_vector(bank, one(axis(0)), 5) == []

    async def test_an_unknown_bank_is_not_found(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as index:
            with pytest.raises(NotFound):
                await index.write_chunks(NOWHERE, [chunk("a")], random_rows(1))
            with pytest.raises(NotFound):
                await index.search_vector(NOWHERE, one(axis(0)), 5)
            with pytest.raises(NotFound):
                await index.list_chunks(NOWHERE)
            with pytest.raises(NotFound):
                await index.set_metadata(NOWHERE, "a", {})
            with pytest.raises(NotFound):
                await index.delete_documents(NOWHERE, ["a"])
            with pytest.raises(NotFound):
                await index.delete_where(NOWHERE, of_document("a"))
            with pytest.raises(NotFound):
                await index.stats(NOWHERE)
            await index.drop_bank(NOWHERE)

    async def test_a_dropped_bank_is_gone_and_its_name_free(self, tmp_path: Path) -> None:
        bank = self.place()
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            await index.write_chunks(bank, [chunk("a")], random_rows(1))
            await index.drop_bank(bank)
            with pytest.raises(NotFound):
                await index.list_chunks(bank)
            other = bank.model_copy(update={"dimension": 4})
            await index.create_bank(other)
            assert await index.list_chunks(other) == []
            assert await index.search_vector(other, random_rows(1, 4).row_bytes(0), 5) == []
            await index.write_chunks(other, [chunk("b")], random_rows(1, 4))
        async with self.opened(tmp_path) as index:
            assert ids(await index.list_chunks(other)) == ["b-0000"]

    async def test_many_chunks_go_in_one_write(self, tmp_path: Path) -> None:
        bank, rows = self.place(), random_rows(MANY)
        chunks = [chunk("d", number) for number in range(MANY)]
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            await index.write_chunks(bank, chunks, rows)
            assert await everything(index, bank) == chunks
            for number in (0, MANY // 2, MANY - 1):
                found = await index.search_vector(bank, rows.row_bytes(number), 3)
                assert ids(found)[0] == chunks[number].chunk_id
            stats = await index.stats(bank)
            assert (stats.chunks, stats.documents) == (MANY, 1)

    async def test_readers_see_whole_documents_while_many_write(self, tmp_path: Path) -> None:
        bank = self.place()

        def version(name: str, number: int) -> list[Chunk]:
            return [chunk(name, position, metadata={"version": number}) for position in range(5 + number)]

        async with self.opened(tmp_path) as index, asyncio.timeout(LIMIT_S):
            await index.create_bank(bank)

            async def write(name: str) -> None:
                for number in range(3):
                    pieces = version(name, number)
                    await index.write_chunks(bank, pieces, random_rows(len(pieces)), replace_documents=True)

            async def read(name: str) -> None:
                for _ in range(3):
                    listed = await index.list_chunks(bank, document_ids=[name])
                    found = await index.search_vector(bank, one(axis(0)), 50, of_document(name))
                    for seen in (listed, found):
                        versions = {hit.chunk.metadata["version"] for hit in seen}
                        assert not seen or len(seen) == 5 + versions.pop(), "a part of a write was seen"
                        assert not versions, "two versions of a document were seen at once"

            names = [f"d{number}" for number in range(SIDE_BY_SIDE)]
            await asyncio.gather(*(write(name) for name in names), *(read(name) for name in names))
            assert await everything(index, bank) == [piece for name in sorted(names) for piece in version(name, 2)]

    async def test_a_cancelled_write_is_whole_or_not_there(self, tmp_path: Path) -> None:
        bank = self.place()
        rows = random_rows(MANY // 4)
        async with self.opened(tmp_path) as index:
            await index.create_bank(bank)
            for turns in (0, 1, 2, 5, 20, 100):
                pieces = [chunk(f"d{turns:03}", number) for number in range(len(rows))]
                write = asyncio.create_task(index.write_chunks(bank, pieces, rows))
                for _ in range(turns):
                    await asyncio.sleep(0)
                write.cancel()
                await asyncio.wait([write], timeout=LIMIT_S)
                assert write.done()
                listed = await index.list_chunks(bank, document_ids=[f"d{turns:03}"])
                assert len(listed) in (0, len(rows))
            # A write that comes after is not harmed.
            await index.write_chunks(bank, [chunk("z")], random_rows(1))
            assert ids(await index.list_chunks(bank, document_ids=["z"])) == ["z-0000"]
        async with self.opened(tmp_path) as index:
            counts = [
                len(await index.list_chunks(bank, document_ids=[f"d{turns:03}"])) for turns in (0, 1, 2, 5, 20, 100)
            ]
            assert set(counts) <= {0, len(rows)}
