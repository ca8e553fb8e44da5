"""Containers in OpenAI's dialect (API reference, "Containers", "Container files"): a code interpreter's sessions and
their files, and where an answer cites such a file.

Ids are made of what they name: a container's of its session's, a file's of its container's and its path. So what a
response cites can be asked for without anything being kept.
"""

import hashlib
import re
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import Field, ValidationError

from llama_stack.api.common import JsonObject
from llama_stack.api.containers import Container, ContainerFile
from llama_stack.errors import InvalidRequest, NotFound
from llama_stack.wire.openai_body import refuse_unsupported
from llama_stack.wire.upload_forms import FormDecoder
from llama_stack.wire.validation import Body, OpenBody, invalid_request

MAX_FILES_AT_ONCE = 50
MAX_NAME_CHARS = 256
FOLDER = "/sandbox"
"""Where code finds its files."""
NO_CHOICE: dict[str, tuple[tuple[object, ...], str]] = {
    "memory_limit": (("1g",), "the limit is a setting of the code interpreter's provider"),
    "network_policy": (({"type": "disabled"},), "code has no network"),
    "skills": (([],), "put files into the container instead"),
}
"""Fields that are known and can have one value only, and why."""

_CONTAINER = "cntr_"
_SESSION = "session_"
_GIGABYTE = 1 << 30
_MEMORY_LIMITS = (1, 4, 16, 64)


# --- ids -----------------------------------------------------------------------------------------------------------


def container_of(session_id: str) -> str:
    """The id under which the session of a code interpreter is shown."""
    return _CONTAINER + session_id.rpartition("_")[2]


def session_of(container_id: str) -> str:
    """The session that `container_of` has shown under this id; for any other id one that there is not."""
    return _SESSION + container_id.removeprefix(_CONTAINER) if container_id.startswith(_CONTAINER) else container_id


def is_shown(container: Container) -> bool:
    """False for a session with an id of its caller's own making, which no container's id leads back to."""
    return session_of(container_of(container.session_id)) == container.session_id


def container_file_of(container_id: str, path: str) -> str:
    """The id of a file."""
    return "cfile_" + hashlib.sha256(f"{container_id}\0{path}".encode("utf-8", "replace")).hexdigest()[:32]


def no_container(container_id: str, error: NotFound, field: str = "container_id") -> NotFound:
    """The error of one who names a container, made of the error of who looked for its session."""
    shown = container_id[:100]
    return NotFound(
        f"{field}: there is no container {shown!r}: {error.message}", param=field, code="container_not_found"
    )


# --- requests ------------------------------------------------------------------------------------------------------


class ExpiresAfterBody(Body):
    anchor: Literal["last_active_at"]
    minutes: int = Field(ge=1)


class NewContainerBody(OpenBody):
    name: str = Field(min_length=1, max_length=MAX_NAME_CHARS)
    expires_after: ExpiresAfterBody | None = None
    file_ids: list[str] | None = Field(None, max_length=MAX_FILES_AT_ONCE)


class ContainerFileBody(Body):
    file_id: str = Field(min_length=1)


def decode_new_container(value: Any, max_idle_s: float) -> tuple[str, float, list[str]]:
    """Name, seconds until it ends when nothing is asked of it, and ids of files to copy there."""
    try:
        body = NewContainerBody.model_validate(value)
    except ValidationError as error:
        raise invalid_request(error, value) from None
    unknown = body.unknown()
    for name in unknown.keys() - NO_CHOICE.keys():
        raise InvalidRequest(f"{name}: is not a known field; remove it", param=name)
    refuse_unsupported(unknown, NO_CHOICE)
    idle_s = max_idle_s
    if body.expires_after is not None:
        most = max(1, int(max_idle_s // 60))
        if body.expires_after.minutes > most:
            raise InvalidRequest(
                f"expires_after.minutes: must be 1 to {most}, not {body.expires_after.minutes}; the code interpreter's "
                "idle_s sets the most",
                param="expires_after.minutes",
            )
        idle_s = min(max_idle_s, 60.0 * body.expires_after.minutes)
    return body.name, idle_s, list(dict.fromkeys(body.file_ids or ()))


def decode_file_id(value: Any) -> str:
    try:
        return ContainerFileBody.model_validate(value).file_id
    except ValidationError as error:
        raise invalid_request(error, value) from None


class ContainerFileForm(FormDecoder):
    """A form with a file for a container, or with the id of an uploaded one."""

    def __init__(self, content_type: str) -> None:
        super().__init__(content_type, ("file_id",))

    def end(self) -> tuple[str | None, str | None]:
        """The name of the file that came, and the id of an uploaded one: exactly one of them is there."""
        self.finish()
        file_id = self.text("file_id")
        if (self.filename is None) == (file_id is None):
            raise InvalidRequest("file: send either file or file_id", param="file")
        return self.filename, file_id


# --- answers -------------------------------------------------------------------------------------------------------


def encode_container(container: Container) -> JsonObject:
    gigabytes = container.memory_bytes / _GIGABYTE
    return {
        "id": container_of(container.session_id),
        "object": "container",
        "created_at": _seconds(container.created_at),
        "status": "running",
        "expires_after": {"anchor": "last_active_at", "minutes": max(1, round(container.idle_s / 60))},
        "last_active_at": _seconds(container.used_at),
        "memory_limit": f"{gigabytes:.0f}g" if gigabytes in _MEMORY_LIMITS else None,
        "network_policy": {"type": "disabled"},
        "name": container.name or "auto",
    }


def encode_container_file(container_id: str, file: ContainerFile) -> JsonObject:
    return {
        "id": container_file_of(container_id, file.path),
        "object": "container.file",
        "created_at": _seconds(file.changed_at),
        "bytes": file.size_bytes,
        "container_id": container_id,
        "path": f"{FOLDER}/{file.path}",
        "source": "user" if file.is_given else "assistant",
    }


def encode_deleted(identifier: str, kind: Literal["container", "container.file"]) -> JsonObject:
    return {"id": identifier, "object": f"{kind}.deleted", "deleted": True}


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


# --- citations -----------------------------------------------------------------------------------------------------


class MadeFiles:
    """Files that code of one response wrote, and which of them a message has cited."""

    def __init__(self) -> None:
        self._paths: dict[str, re.Pattern[str]] = {}
        self._cited: set[str] = set()

    def add(self, metadata: JsonObject) -> None:
        """What the interpreter tells of one call."""
        for kind in ("files", "figures"):
            told = metadata.get(kind)
            for file in told if isinstance(told, list) else ():
                if isinstance(file, dict) and isinstance(path := file.get("name"), str):
                    self._paths[path] = _place_of(path)
                    # It may have been written anew.
                    self._cited.discard(path)

    def citations(self, text: str, container_id: str) -> list[JsonObject]:
        """`container_file_citation` annotations in the order of the text, wherever it names one of the files.

        Files that no message has named are cited at the end of the first one that could have, so that whoever reads
        annotations finds every file. Positions count characters of the text.
        """
        places = [
            (match.start(), match.end(), path) for path, place in self._paths.items() for match in place.finditer(text)
        ]
        self._cited.update(path for _, _, path in places)
        places.extend((len(text), len(text), path) for path in self._paths if path not in self._cited)
        self._cited.update(self._paths)
        return [
            {
                "type": "container_file_citation",
                "container_id": container_id,
                "file_id": container_file_of(container_id, path),
                "filename": PurePosixPath(path).name,
                "start_index": start,
                "end_index": end,
            }
            for start, end, path in sorted(places)
        ]


def _place_of(path: str) -> re.Pattern[str]:
    """The path as models write it: alone, or as a link into the folder they believe to be in.

    One without a point may be a word like any other, and counts as a link only.
    """
    link = r"(?:sandbox:)?(?:/mnt/data/|/sandbox/|\./)"
    optional = "?" if "." in path else ""
    return re.compile(rf"(?<![\w./-])(?:{link}){optional}{re.escape(path)}(?![\w-]|\.\w)")
