"""The folder with the contents of files. Everything here blocks; it is called in threads.

    FOLDER/file-3f2a...             the content of a file, under its id; what people call it is never a path
    FOLDER/incoming/TOKEN/          what one process is receiving
    FOLDER/incoming/TOKEN/file-...  an empty mark: this file may not be known to the database yet
    FOLDER/incoming/TOKEN/*.part    its content as far as it has come
    FOLDER/incoming/TOKEN.lock      locked for as long as that process lives

Several processes, of one machine or of many, may share the folder. Only what a dead process left marked is ever cleared
up, so a folder that is opened with another database by mistake loses nothing.
"""

import hashlib
import os
import secrets
import shutil
import sys
import threading
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_READ_BYTES = 256 * 1024


class FileFolder:
    """The folder, for one process, from its making until `close`. Raises OSError where it cannot be used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        # Nobody else's to read, unless whoever made the folder wanted otherwise.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._incoming.mkdir(mode=0o700, exist_ok=True)
        token = secrets.token_hex(8)
        # Locked before the folder beside it is there, so nobody takes it for a dead process's.
        self._lock = _lock_of(self._incoming / token).open("xb")
        _lock(self._lock)
        self._own = self._incoming / token
        self._own.mkdir(mode=0o700)

    def close(self) -> None:
        """What is still marked, because clearing it up failed, is left for whoever opens the folder next."""
        with suppress(OSError):
            self._own.rmdir()
        is_empty = not self._own.exists()
        self._lock.close()
        if is_empty:
            _lock_of(self._own).unlink(missing_ok=True)

    def path(self, file_id: str) -> Path:
        """Where the content of a file lies. Only for an id that the database has, or that was just made."""
        return self._folder / file_id

    def remove(self, file_id: str) -> None:
        self.path(file_id).unlink(missing_ok=True)

    def receive(self, file_id: str) -> "IncomingContent":
        return IncomingContent(self._own / file_id, self.path(file_id))

    def take_abandoned(self) -> "list[Abandoned]":
        """What processes that are dead by now left behind; nobody else is given it until it was cleared up."""
        taken: list[Abandoned] = []
        for folder in self._incoming.iterdir():
            if not folder.is_dir() or folder == self._own:
                continue
            # It may just be cleared up by somebody else.
            with suppress(FileNotFoundError):
                lock = _lock_of(folder).open("r+b")
                if _lock(lock) and folder.is_dir():
                    taken.append(Abandoned(self, folder, lock))
                else:
                    lock.close()
        return taken


class Abandoned:
    """What one dead process was receiving. file_ids: of files that may lie in the folder without being known."""

    def __init__(self, folder: FileFolder, incoming: Path, lock: BinaryIO) -> None:
        self._folder = folder
        self._incoming = incoming
        self._lock = lock
        self.file_ids = [path.name for path in incoming.iterdir() if path.suffix != ".part"]

    def clear_up(self, known: Collection[str]) -> None:
        """Remove what came in part, and the contents of files that are not among the known ones."""
        for file_id in self.file_ids:
            if file_id not in known:
                self._folder.remove(file_id)
        shutil.rmtree(self._incoming)
        self.leave()
        _lock_of(self._incoming).unlink(missing_ok=True)

    def leave(self) -> None:
        """Let somebody else clear it up."""
        self._lock.close()


class IncomingContent:
    """The content of one file while it comes. Calls may come from several threads; they wait for each other."""

    def __init__(self, mark: Path, place: Path) -> None:
        self._mark = mark
        self._place = place
        self._guard = threading.Lock()
        self._digest = hashlib.sha256()
        mark.touch(mode=0o600)
        self._part_path = mark.with_name(f"{mark.name}.part")
        self._part = self._part_path.open("xb", buffering=0)

    def write(self, pieces: Sequence[bytes]) -> None:
        with self._guard:
            for piece in pieces:
                self._digest.update(piece)
                view = memoryview(piece)
                while view:
                    view = view[self._part.write(view) :]

    def place(self) -> str:
        """Put the content into its place, safe from a power failure; returns its SHA-256 in hexadecimal."""
        with self._guard:
            os.fsync(self._part.fileno())
            self._part.close()
            self._part_path.rename(self._place)
            _sync_folder(self._place.parent)
            return self._digest.hexdigest()

    def settle(self) -> None:
        """The database knows the file now."""
        self._mark.unlink(missing_ok=True)

    def discard(self) -> None:
        """Leave nothing of it, wherever it has come to."""
        with self._guard:
            self._part.close()
            self._part_path.unlink(missing_ok=True)
            self._place.unlink(missing_ok=True)
            self._mark.unlink(missing_ok=True)


def read_piece(file: BinaryIO) -> bytes:
    return file.read(_READ_BYTES)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _lock(file: BinaryIO) -> bool:
    """Lock the file until it is closed, or its process dies; False where somebody else has locked it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """A rename is safe only once its folder is; Windows neither needs nor allows it."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
