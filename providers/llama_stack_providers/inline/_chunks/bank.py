"""One open bank: each operation is one transaction on its file, and runs in a thread of the caller's choosing."""

import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_stack.api.chunk_index import FoundChunk, IndexStats
from llama_stack.api.common import JsonObject
from llama_stack.api.filters import Comparison, Compound
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import FLOAT_BYTES, Vectors
from llama_stack.errors import InvalidRequest
from llama_stack.text import language_of, query_stems, stem_text
from llama_stack_providers.inline._chunks.files import Extend, Readers, disk_reads, sqlite_errors
from llama_stack_providers.inline._chunks.filters import Condition, attributes_of, selected_sources
from llama_stack_providers.inline._chunks.keeper import (
    TIE_MARGIN,
    Change,
    VectorKeeper,
    best_of,
    read_vectors,
    store_vectors,
    with_equals,
)
from llama_stack_providers.inline._chunks.rows import COLUMNS, details_of, json_list, read_chunk, read_found, select
from llama_stack_providers.inline._chunks.schema import BankFacts, transaction
from llama_stack_providers.inline._chunks.tidying import Tidying
from llama_stack_providers.inline._chunks.words import COUNTS_TABLE, best_by_words

if TYPE_CHECKING:
    import apsw

Where = Comparison | Compound | None
QUICK_LIMIT = 50
"""Chunks that are read in well under a millisecond."""
COLD_FOR_S = 10.0
"""Of a bank that a quick search had to read from the disk; so long it is searched in threads, which may wait."""
CLOSING_STEPS = 50
"""Of tidying, at most, when a bank is closed; the rest is done when it is open again."""

_TOP_BYTE = FLOAT_BYTES - 1 if sys.byteorder == "little" else 0
"""Of a number in a vector: its sign and the most of its exponent."""


class Interruption:
    """Lets the event loop stop what a thread does to a bank; nothing of it is then kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._connection: apsw.Connection | None = None

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._connection is not None:
                self._connection.interrupt()

    def check(self) -> None:
        """Raises InterruptedError once stopped."""
        if self._stopped:
            raise InterruptedError

    @contextmanager
    def of(self, connection: "apsw.Connection") -> Iterator[None]:
        with self._lock:
            self.check()
            self._connection = connection
        try:
            yield
        finally:
            with self._lock:
                self._connection = None


class Bank:
    """Its reads may run at once, in as many threads as like; of its writes, `tidy` and `close` only one at a time."""

    def __init__(
        self, path: Path, facts: BankFacts, writer: "apsw.Connection", extend: Extend, keeper: VectorKeeper
    ) -> None:
        self.facts = facts
        self._path = path
        self._writer = writer
        self._readers = Readers(path, _searching_words(extend) if facts.keyword else extend)
        self._keeper = keeper
        self._tidying = Tidying(writer, words=facts.keyword)
        self._quick_from = 0.0

    def write(self, chunks: list[Chunk], vectors: Vectors | None, replacing: bool, interruption: Interruption) -> int:
        """Tells how many earlier chunks went."""
        if vectors is not None:
            _check_numbers(vectors.buffer, "vectors")
        places = {chunk.chunk_id: place for place, chunk in enumerate(chunks)}
        if len(places) < len(chunks):
            # Named twice: the last one counts, as if they had been written one after the other.
            chunks = [chunks[place] for place in places.values()]
            if vectors is not None:
                rows = b"".join(vectors.row_bytes(place) for place in places.values())
                vectors = Vectors(rows, vectors.dimension)
        analysed = self._analysed(chunks, interruption)
        documents = {chunk.document_id for chunk in chunks}

        def change(connection: "apsw.Connection") -> Change:
            gone = _ids(connection, "chunk_id IN (SELECT value FROM json_each(?))", [json_list(places)])
            if replacing:
                gone |= _ids(connection, *_of_documents(documents))
            sources = self._forget(connection, gone)
            first: int = connection.execute("SELECT next_id FROM bank").get
            added = range(first, first + len(chunks))
            self._insert(connection, chunks, added)
            if self.facts.keyword:
                connection.executemany(
                    "INSERT INTO words (rowid, stems) VALUES (?, ?)",
                    ((key, words) for key, (_, words) in zip(added, analysed, strict=True)),
                )
                languages = {language for language, _ in analysed}
                connection.executemany(
                    "INSERT OR IGNORE INTO languages VALUES (?)", ((language,) for language in languages)
                )
            _forget_unused(connection, sources)
            connection.execute("UPDATE bank SET next_id = ?", (added.stop,))
            return Change(added, vectors, sorted(gone))

        return len(self._changed(change, interruption).removed)

    def delete_documents(self, document_ids: list[str], interruption: Interruption) -> int:
        return self._delete(_of_documents(document_ids), interruption)

    def delete_where(self, where: Comparison | Compound, interruption: Interruption) -> int:
        sources, values = selected_sources(where)
        return self._delete((f"source IN ({sources})", list(values)), interruption)

    def set_metadata(self, document_id: str, metadata: JsonObject, interruption: Interruption) -> None:
        def change(connection: "apsw.Connection") -> Change:
            old = select(connection, "SELECT id FROM sources WHERE document_id = ?", (document_id,))
            if old:
                new = _source_of(connection, document_id, metadata)
                connection.executemany("UPDATE chunks SET source = ? WHERE source = ?", [(new, key) for (key,) in old])
                _forget_unused(connection, {key for (key,) in old})
            return Change()

        self._changed(change, interruption)

    def search_vector(
        self, vector: bytes, limit: int, where: Where, with_vectors: bool, interruption: Interruption
    ) -> list[FoundChunk]:
        _check_numbers(memoryview(vector), "vector")
        with self._reading(interruption, nearest=True) as connection:
            selected = _selected_chunks(where)
            scored = with_equals(lambda count: self._keeper.nearest(connection, vector, count, selected), limit)
            return self._found(connection, scored, limit, with_vectors)

    def search_quickly(self, vector: bytes, limit: int) -> list[FoundChunk] | None:
        """As `search_vector` without a filter, where that takes less than changing threads; None where it may not."""
        if limit > QUICK_LIMIT or time.monotonic() < self._quick_from:
            return None
        _check_numbers(memoryview(vector), "vector")
        reads = disk_reads()
        found = self._found_quickly(vector, limit)
        if disk_reads() != reads:
            self._quick_from = time.monotonic() + COLD_FOR_S
        return found

    def _found_quickly(self, vector: bytes, limit: int) -> list[FoundChunk] | None:
        import apsw

        with sqlite_errors(self._path), suppress(apsw.BusyError), self._readers.borrow_quickly() as connection:
            if connection is None:
                return None
            with self._keeper.reading_quickly(connection) as is_reading:
                wanted = limit + TIE_MARGIN
                if is_reading and (
                    scored := best_of(self._keeper.nearest(connection, vector, wanted, None), wanted, limit)
                ):
                    return self._found(connection, scored, limit, with_vectors=False)
        return None

    def search_words(self, query: str, limit: int, where: Where, interruption: Interruption) -> list[FoundChunk]:
        if not self.facts.keyword:
            raise InvalidRequest("this bank was made without keyword search; make one with it to search by words")
        with self._reading(interruption) as connection:
            languages = [language for (language,) in select(connection, "SELECT language FROM languages")]
            asked = query_stems(query, languages)
            if not asked:
                return []
            selected = _selected_chunks(where)
            scored = with_equals(lambda count: best_by_words(connection, asked, count, selected), limit)
            return self._found(connection, scored, limit, with_vectors=False)

    def list_chunks(
        self,
        document_ids: list[str] | None,
        where: Where,
        limit: int,
        after: str | None,
        with_vectors: bool,
        interruption: Interruption,
    ) -> list[FoundChunk]:
        with self._reading(interruption) as connection:
            conditions, values = ["TRUE"], list[Any]()
            if document_ids is not None:
                conditions.append("s.document_id IN (SELECT value FROM json_each(?))")
                values.append(json_list(document_ids))
            if where is not None:
                sources, bound = selected_sources(where)
                conditions.append(f"s.id IN ({sources})")
                values += bound
            if after is not None:
                start = _listed_at(connection, after)
                # The first comparison is implied by the second, but it alone can use an index.
                conditions.append("s.document_id >= ? AND (s.document_id, c.position, c.chunk_id) > (?, ?, ?)")
                values += [start[0], *start]
            rows = select(
                connection,
                # CROSS JOIN: document by document, or SQLite would read and sort all chunks for the first page.
                f"SELECT {COLUMNS} FROM sources AS s CROSS JOIN chunks AS c ON c.source = s.id"  # noqa: S608  values are bound
                f" WHERE {' AND '.join(conditions)} ORDER BY s.document_id, c.position, c.chunk_id LIMIT ?",
                (*values, limit),
            )
            vectors = read_vectors(connection, [row[0] for row in rows]) if self._gives(with_vectors) else {}
        return [FoundChunk(chunk=read_chunk(row), score=0.0, vector=vectors.get(row[0])) for row in rows]

    def stats(self, interruption: Interruption) -> IndexStats:
        with self._reading(interruption) as connection:
            chunks = connection.execute("SELECT count(*) FROM chunks").get
            documents = connection.execute("SELECT count(DISTINCT document_id) FROM sources").get
        size = sum(file.stat().st_size for file in files_of(self._path) if file.exists())
        return IndexStats(chunks=chunks, documents=documents, size_bytes=size)

    @property
    def untidy(self) -> bool:
        return self._tidying.needed or self._keeper.untidy

    def tidy(self, interruption: Interruption) -> bool:
        """Do a part of what deletes have left to do; tells whether there is more."""
        with sqlite_errors(self._path), interruption.of(self._writer):
            return self._tidying.step() or self._keeper.tidy(self._writer)

    def close(self) -> None:
        with sqlite_errors(self._path):
            try:
                for _ in range(CLOSING_STEPS):
                    if not self._tidying.step():
                        break
                self._keeper.close()
            finally:
                self._readers.close()
                self._writer.close()

    @contextmanager
    def _reading(self, interruption: Interruption, *, nearest: bool = False) -> Iterator["apsw.Connection"]:
        with (
            sqlite_errors(self._path),
            self._readers.borrow() as connection,
            interruption.of(connection),
            self._keeper.reading(connection) if nearest else transaction(connection, writing=False),
        ):
            yield connection

    def _changed(self, change: Callable[["apsw.Connection"], Change], interruption: Interruption) -> Change:
        connection = self._writer
        with sqlite_errors(self._path), interruption.of(connection):
            connection.execute("BEGIN IMMEDIATE")
            try:
                made = change(connection)
                if made.removed:
                    connection.execute("UPDATE bank SET removed = removed + ?", (len(made.removed),))
                    self._tidying.needed = True
                number: Any = connection.execute("UPDATE bank SET changes = changes + 1 RETURNING changes").get
                made = replace(made, number=number)
                if self.facts.dimension:
                    store_vectors(connection, made)
                interruption.check()
                with self._keeper.committing(made):
                    connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        return made

    def _analysed(self, chunks: list[Chunk], interruption: Interruption) -> list[tuple[str, str]]:
        """Language and stems of each chunk. Done before the transaction, in which others would have to wait for it."""
        analysed: list[tuple[str, str]] = []
        if self.facts.keyword:
            for chunk in chunks:
                interruption.check()
                language = chunk.language or language_of(chunk.content)
                analysed.append((language, stem_text(chunk.indexed_text, language)))
        return analysed

    def _insert(self, connection: "apsw.Connection", chunks: list[Chunk], added: range) -> None:
        sources: dict[tuple[str, str], int] = {}
        rows: list[tuple[Any, ...]] = []
        for key, chunk in zip(added, chunks, strict=True):
            # Chunks of a document nearly always have the same metadata; comparing its text finds them all.
            named = (chunk.document_id, repr(chunk.metadata))
            source = sources.get(named)
            if source is None:
                source = sources[named] = _source_of(connection, chunk.document_id, chunk.metadata)
            details = details_of(chunk)
            rows.append((key, chunk.chunk_id, source, chunk.position, chunk.language, details, chunk.content))
        connection.executemany("INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def _delete(self, condition: Condition, interruption: Interruption) -> int:
        def change(connection: "apsw.Connection") -> Change:
            gone = _ids(connection, *condition)
            _forget_unused(connection, self._forget(connection, gone))
            return Change(removed=sorted(gone))

        return len(self._changed(change, interruption).removed)

    def _forget(self, connection: "apsw.Connection", gone: set[int]) -> set[int]:
        """Delete chunks and their words; gives the sources that they were of."""
        if not gone:
            return set()
        keys = json_list(gone)
        statement = "SELECT DISTINCT source FROM chunks WHERE id IN (SELECT value FROM json_each(?))"
        sources = select(connection, statement, (keys,))
        connection.execute("DELETE FROM chunks WHERE id IN (SELECT value FROM json_each(?))", (keys,))
        if self.facts.keyword:
            connection.executemany("DELETE FROM words WHERE rowid = ?", ((key,) for key in gone))
        return {source for (source,) in sources}

    def _found(
        self, connection: "apsw.Connection", scored: list[tuple[int, float]], limit: int, with_vectors: bool
    ) -> list[FoundChunk]:
        found = read_found(connection, scored, limit)
        vectors = read_vectors(connection, [key for key, _, _ in found]) if self._gives(with_vectors) else {}
        return [FoundChunk(chunk=chunk, score=score, vector=vectors.get(key)) for key, score, chunk in found]

    def _gives(self, with_vectors: bool) -> bool:
        return with_vectors and self.facts.dimension > 0


def files_of(path: Path) -> list[Path]:
    """The file of a bank and those that SQLite lays beside it."""
    return [path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")]


def _searching_words(extend: Extend) -> Extend:
    def extend_reader(connection: "apsw.Connection") -> None:
        extend(connection)
        connection.execute(COUNTS_TABLE)

    return extend_reader


def _check_numbers(buffer: memoryview, param: str) -> None:
    # One of them would be near to nothing, or spoil the graph that it becomes a part of. All bits of its exponent are
    # set, as they nearly are in numbers from 1.7e38 on: only for these it takes a sum, in which it shows.
    tops = bytes(buffer)[_TOP_BYTE::FLOAT_BYTES]
    if (b"\x7f" in tops or b"\xff" in tops) and not math.isfinite(sum(buffer.cast("f"))):
        raise InvalidRequest("a vector holds an infinity or NaN; embed the text again", param=param)


def _selected_chunks(where: Where) -> Condition | None:
    if where is None:
        return None
    sources, values = selected_sources(where)
    return f"SELECT id FROM chunks WHERE source IN ({sources})", values  # noqa: S608  every value is bound


def _of_documents(document_ids: Iterable[str]) -> Condition:
    documents = "SELECT value FROM json_each(?)"
    sql = f"source IN (SELECT id FROM sources WHERE document_id IN ({documents}))"  # noqa: S608  a constant
    return sql, [json_list(document_ids)]


def _ids(connection: "apsw.Connection", condition: str, values: Sequence[Any]) -> set[int]:
    statement = f"SELECT id FROM chunks WHERE {condition}"  # noqa: S608  every value is bound
    return {key for (key,) in select(connection, statement, values)}


def _listed_at(connection: "apsw.Connection", chunk_id: str) -> tuple[str, int, str]:
    row = connection.execute(
        "SELECT s.document_id, c.position, c.chunk_id FROM chunks AS c JOIN sources AS s ON s.id = c.source"
        " WHERE c.chunk_id = ?",
        (chunk_id,),
    ).fetchone()
    if row is None:
        raise InvalidRequest(f"there is no chunk {chunk_id!r} to list after; begin again without it", param="after")
    return row[0], row[1], row[2]


def _source_of(connection: "apsw.Connection", document_id: str, metadata: JsonObject) -> int:
    """The source with this metadata, made where it is not there."""
    kept = json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))
    row = connection.execute(
        "SELECT id FROM sources WHERE document_id = ? AND metadata = ?", (document_id, kept)
    ).fetchone()
    if row is not None:
        return int(row[0])
    connection.execute("INSERT INTO sources (document_id, metadata) VALUES (?, ?)", (document_id, kept))
    source = connection.last_insert_rowid()
    connection.executemany(
        "INSERT INTO attributes VALUES (?, ?, ?, ?)", ((*attribute, source) for attribute in attributes_of(metadata))
    )
    return source


def _forget_unused(connection: "apsw.Connection", sources: set[int]) -> None:
    unused = select(
        connection,
        "SELECT id, metadata FROM sources WHERE id IN (SELECT value FROM json_each(?))"
        " AND NOT EXISTS (SELECT 1 FROM chunks WHERE source = sources.id)",
        (json_list(sources),),
    )
    for source, metadata in unused:
        connection.execute("DELETE FROM sources WHERE id = ?", (source,))
        connection.executemany(
            "DELETE FROM attributes WHERE key = ? AND kind = ? AND value = ? AND source = ?",
            ((*attribute, source) for attribute in attributes_of(json.loads(metadata))),
        )
