"""What was deleted leaves the folder of Chroma's own engine: run as a program, with the folder as its argument.

The engine keeps the pages and index entries of deleted records, the log of what was added until a thousand more
changes have come, and the folders of dropped collections. It holds the database through a SQLite of its own, and two
of those in one process do not see each other's locks (https://www.sqlite.org/howtocorrupt.html, 2.2.1): hence a process
apart. It ends with 0 when nothing is left, and with `AGAIN` when the engine was at work.
"""

import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from uuid import UUID

AGAIN = 75
"""EX_TEMPFAIL of sysexits.h."""
WAIT_S = 5.0

# Of the log, what was said of records that were deleted later. A record's vector stays, because the index of vectors is
# made again from the log; its words are read by the index of words only, which has them behind it. 3 is DELETE.
_DELETED_LATER = """
    FROM embeddings_queue AS said JOIN (
        SELECT topic, id, max(seq_id) AS seq_id FROM embeddings_queue WHERE operation = 3 GROUP BY topic, id
    ) AS gone ON gone.topic = said.topic AND gone.id = said.id AND gone.seq_id > said.seq_id
    WHERE said.metadata IS NOT NULL
"""
_OUTDATED = f"""
    SELECT said.seq_id {_DELETED_LATER} AND said.seq_id <= (
        SELECT max(read.seq_id) FROM max_seq_id AS read JOIN segments ON segments.id = read.segment_id
        WHERE segments.scope = 'METADATA' AND said.topic LIKE '%' || segments.collection
    )
"""  # noqa: S608  constants


def erase(folder: Path) -> bool:
    """False where the engine has not come to an end with something yet. Raises sqlite3.Error."""
    file = folder / "chroma.sqlite3"
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=WAIT_S)) as connection:
        connection.isolation_level = None
        connection.execute(f"UPDATE embeddings_queue SET metadata = NULL WHERE seq_id IN ({_OUTDATED})")  # noqa: S608
        (left,) = connection.execute(f"SELECT count(*) {_DELETED_LATER}").fetchone()
        connection.execute("INSERT INTO embedding_fulltext_search (embedding_fulltext_search) VALUES ('optimize')")
        connection.execute("VACUUM")
        segments = {name for (name,) in connection.execute("SELECT id FROM segments")}
    for entry in folder.iterdir():
        # Its own folders are called as their segments; one is made only after its segment is known.
        if entry.is_dir() and _is_segment(entry.name) and entry.name not in segments:
            shutil.rmtree(entry, ignore_errors=True)
    return bool(left == 0)


def _is_segment(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False


if __name__ == "__main__":
    try:
        sys.exit(0 if erase(Path(sys.argv[1])) else AGAIN)
    except sqlite3.OperationalError:
        sys.exit(AGAIN)
