"""Containers: the sandboxes in which a code interpreter's sessions run, and the files in them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from llama_stack.api.common import Caller, Word
from llama_stack.api.files import File, Files
from llama_stack.errors import InvalidRequest, NotFound

CODE_INTERPRETER_GROUP = "builtin::code_interpreter"
"""The tool group whose sessions are the containers of the stack."""
MAX_PATH_CHARS = 200


class Container(Word):
    """The sandbox of one session.

    name: as its maker called it; empty for one that began with a call. idle_s: it ends when nothing was asked of it for
    so long. memory_bytes: what the code in it may take.
    """

    session_id: str
    name: str
    created_at: datetime
    used_at: datetime
    idle_s: float
    memory_bytes: int


class ContainerFile(Word):
    """A file in the folder where code runs.

    path: below that folder; characters that a terminal or a page might obey are replaced. is_given: its caller put it
    there, or a file of that name before the code wrote another.
    """

    path: str
    size_bytes: int
    changed_at: datetime
    is_given: bool


class Containers(Protocol):
    """The containers there are at this moment. Every method sees the caller's own only.

    Each raises NotFound for a session that has no container, because there never was one or because it has ended, and
    for a file that is not in it; ProviderUnavailable where there is no sandbox to run code in. Whatever is asked of
    a container, but the list of all, counts as its use. A method waits while code runs in the container.
    """

    @property
    def max_file_bytes(self) -> int:
        """Of all files together that go in or out at once."""
        ...

    @property
    def max_idle_s(self) -> float: ...

    async def create(
        self, name: str, caller: Caller, *, files: Mapping[str, bytes] | None = None, idle_s: float | None = None
    ) -> Container:
        """A container before any code runs in it. idle_s: up to `max_idle_s`, which is also the default.

        Raises InvalidRequest for names or contents of files that cannot be put there, RateLimited when all containers
        are at work.
        """
        ...

    async def all(self, caller: Caller) -> list[Container]:
        """The oldest first."""
        ...

    async def container(self, session_id: str, caller: Caller) -> Container: ...

    async def delete(self, session_id: str, caller: Caller) -> None:
        """End it, with everything that runs there."""
        ...

    async def files(self, session_id: str, caller: Caller) -> list[ContainerFile]:
        """By path; hidden ones are left out, and so is what is beyond two thousand."""
        ...

    async def put(self, session_id: str, path: str, content: bytes, caller: Caller) -> ContainerFile:
        """Write a file there, over one of that path. Raises InvalidRequest for what cannot be put there."""
        ...

    async def read(self, session_id: str, path: str, caller: Caller) -> bytes:
        """Raises PayloadTooLarge for a file that is larger than `max_file_bytes`."""
        ...

    async def remove(self, session_id: str, path: str, caller: Caller) -> None: ...


async def files_to_give(
    files: Files, file_ids: Sequence[str], caller: Caller, field: str, most_bytes: int
) -> dict[str, File]:
    """Uploaded files by the paths under which code finds them.

    field: where the ids stand in the request. Raises NotFound for an unknown id, InvalidRequest for two files of one
    name and for more than most_bytes together.
    """
    found: dict[str, File] = {}
    for number, file_id in enumerate(file_ids):
        place = f"{field}.{number}"
        try:
            file = await files.file(file_id, caller)
        except NotFound as error:
            raise NotFound(f"{place}: {error.message}", param=place, code=error.code) from None
        path = path_of(file)
        if path in found:
            raise InvalidRequest(
                f"{place}: {file_id!r} and {found[path].file_id!r} are both named {path!r}; leave one out", param=place
            )
        found[path] = file
    size = sum(file.size_bytes for file in found.values())
    if size > most_bytes:
        raise InvalidRequest(
            f"{field}: the files have {size} bytes together; at most {most_bytes} are given to code", param=field
        )
    return found


def path_of(file: File) -> str:
    """As a container takes it: not hidden, not too long; and as a model can write it."""
    written = "".join(letter if letter.isprintable() else "_" for letter in file.filename)
    return written.lstrip(".")[-MAX_PATH_CHARS:] or file.file_id
