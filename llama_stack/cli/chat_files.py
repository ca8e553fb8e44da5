"""Files of a chat: those that code may read, and the pictures and files of tools, which a terminal cannot show."""

import base64
import binascii
import mimetypes
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from llama_stack.api.agents import ToolCallFinished
from llama_stack.api.containers import CODE_INTERPRETER_GROUP
from llama_stack.api.messages import ImagePart
from llama_stack.cli.chat_screen import printable

MAX_KEPT = 32
"""Pictures and files of one result; a tool may be a stranger's."""
MAX_NAME_CHARS = 100


def with_files(groups: Sequence[Any], files: Sequence[Path]) -> list[Any]:
    """The tool groups, of which the code interpreter is one that has these files.

    groups: names, or what a ToolGroupUse is made of. Raises OSError for a file that cannot be read.
    """
    given = {file.name: f"data:application/octet-stream;base64,{_base64(file)}" for file in files}
    interpreter = {"identifier": CODE_INTERPRETER_GROUP, "args": {"files": given}}
    return [*(group for group in groups if _identifier(group) != CODE_INTERPRETER_GROUP), interpreter]


def told_of_files(instructions: str | None, files: Sequence[Path]) -> str:
    """The instructions with the names by which code finds the files: the model is not shown what a group is given."""
    names = ", ".join(file.name for file in files)
    told = f"Python code finds these files in its folder: {names}"
    return f"{instructions}\n\n{told}" if instructions else told


def keep_files(event: ToolCallFinished, folder: Path, session_id: str) -> list[Path]:
    """Write the pictures and files of a result into the session's part of the folder, and tell where each is.

    None replaces another: of two with one name the second has a number. Raises OSError where the folder takes none.
    """
    own = folder / _plain_name(session_id)
    kept = [_kept(own, name, content) for name, content in islice(_given(event), MAX_KEPT)]
    return list(dict.fromkeys(kept))


def _given(event: ToolCallFinished) -> Iterator[tuple[str, bytes]]:
    parts = [] if isinstance(event.result.content, str) else event.result.content
    urls: list[tuple[str, Any]] = [("picture", part.url) for part in parts if isinstance(part, ImagePart)]
    for kind, name in (("figures", "figure"), ("files", "file")):
        entries = event.metadata.get(kind)
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict):
                urls.append((str(entry.get("name") or name), entry.get("url")))
    for name, url in urls:
        head, comma, encoded = str(url).partition(";base64,")
        if not head.startswith("data:") or not comma:
            continue
        try:
            content = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            continue
        yield name if Path(name).suffix else f"{name}{mimetypes.guess_extension(head[5:]) or ''}", content


def _kept(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    wanted = folder / _plain_name(name)
    path, number = wanted, 1
    while True:
        try:
            with path.open("xb") as file:
                file.write(content)
            return path
        except FileExistsError:
            if path.is_file() and path.read_bytes() == content:
                return path
            number += 1
            path = wanted.with_stem(f"{wanted.stem}-{number}")


def _plain_name(name: str) -> str:
    """One that neither hides a file nor leads out of a folder, whatever a server or its code may mean by it."""
    return printable(name.replace("\\", "/").rpartition("/")[2])[-MAX_NAME_CHARS:].lstrip(". ") or "file"


def _identifier(group: Any) -> Any:
    if isinstance(group, str):
        return group.partition("/")[0]
    return group["identifier"] if isinstance(group, dict) else group.identifier


def _base64(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
