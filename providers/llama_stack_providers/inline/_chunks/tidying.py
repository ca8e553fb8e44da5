"""Giving back what deletes leave: stems of dead chunks in the word index, free pages, old pages in the log.

A delete itself overwrites the text (`secure_delete`), but FTS5 only marks the words of a deleted row, and leaves them
in their segment until it is merged with another. A step is short, so that whoever wants to write waits little.
"""

from typing import TYPE_CHECKING

from llama_stack_providers.inline._chunks.schema import transaction

if TYPE_CHECKING:
    import apsw

MERGED_PAGES = 500
"""Of the word index in one step."""
VACUUMED_PAGES = 1_000
"""Of the file in one step."""
REMOVED_SHARE = 10
"""One dead chunk to so many live ones, and the word index is merged."""
FREE_SHARE = 8
"""One free page to so many others, and the file is made shorter. Fewer are soon filled by the next write."""
_FILLER = 0
"""Id of a row that is no chunk's."""


class Tidying:
    """needed: something was removed since all was tidied."""

    def __init__(self, writer: "apsw.Connection", *, words: bool) -> None:
        self.needed = words and writer.execute("SELECT removed FROM bank").get > 0
        self._writer = writer
        self._words = words
        self._merging = False

    def step(self) -> bool:
        """Tells whether there is more to do."""
        if not self.needed:
            return False
        if self._merge_words() or self._vacuum():
            return True
        # What was deleted stands in the log until its pages are written back.
        busy, _, _ = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").get
        self.needed = bool(busy)
        return False

    def _merge_words(self) -> bool:
        writer = self._writer
        if not self._words:
            return False
        if not self._merging:
            live = writer.execute("SELECT count(*) FROM chunks").get
            if writer.execute("SELECT removed FROM bank").get * REMOVED_SHARE <= live:
                return False
            self._begin_merging()
        before = writer.total_changes()
        with transaction(writer, writing=True):
            writer.execute("INSERT INTO words (words, rank) VALUES ('merge', ?)", (MERGED_PAGES,))
        # How FTS5 tells that nothing was left to merge (https://sqlite.org/fts5.html#the_merge_command).
        self._merging = writer.total_changes() - before >= 2
        return True

    def _begin_merging(self) -> None:
        """Segments are rewritten when they are merged, so there must be two: a row that comes and goes is another."""
        writer = self._writer
        with transaction(writer, writing=True):
            writer.execute("INSERT INTO words (rowid, stems) VALUES (?, 'filler')", (_FILLER,))
        with transaction(writer, writing=True):
            writer.execute("DELETE FROM words WHERE rowid = ?", (_FILLER,))
            writer.execute("INSERT INTO words (words, rank) VALUES ('merge', ?)", (-MERGED_PAGES,))
            writer.execute("UPDATE bank SET removed = 0")

    def _vacuum(self) -> bool:
        free: int = self._writer.pragma("freelist_count")
        pages: int = self._writer.pragma("page_count")
        if free * FREE_SHARE < pages:
            return False
        self._writer.execute(f"PRAGMA incremental_vacuum({VACUUMED_PAGES})").fetchall()
        left: int = self._writer.pragma("freelist_count")
        return left < free
