"""Files of the caller's that the model's code is given: `container.file_ids` of the tool `code_interpreter`."""

import asyncio
from base64 import b64encode
from pathlib import Path

from llama_stack.api.common import Caller
from llama_stack.api.files import File
from llama_stack.api.responses import CodeInterpreterTool
from llama_stack.api.stack import ServedStack
from llama_stack.errors import InvalidRequest, NotFound

MAX_NAME_CHARS = 200
MAX_GIVEN_BYTES = 32 * 1024 * 1024
"""Of all files together. They travel with each run of code; the interpreter's own limit may be lower."""


async def given_files(stack: ServedStack, tool: CodeInterpreterTool, caller: Caller, where: str) -> dict[str, File]:
    """The files by the names under which the code finds them.

    where: the tool's place in the request. Raises NotFound for an unknown id, InvalidRequest for two files of one name
    and for files that are too large.
    """
    found: dict[str, File] = {}
    files = await stack.files() if tool.file_ids else None
    for number, file_id in enumerate(tool.file_ids):
        assert files is not None
        field = f"{where}.container.file_ids.{number}"
        try:
            file = await files.file(file_id, caller)
        except NotFound as error:
            raise NotFound(f"{field}: {error.message}", param=field, code=error.code) from None
        name = _name(file)
        if name in found:
            raise InvalidRequest(
                f"{field}: {file_id!r} and {found[name].file_id!r} are both named {name!r}; leave one out", param=field
            )
        found[name] = file
    size = sum(file.size_bytes for file in found.values())
    if size > MAX_GIVEN_BYTES:
        field = f"{where}.container.file_ids"
        raise InvalidRequest(
            f"{field}: the files have {size} bytes together; at most {MAX_GIVEN_BYTES} are given to code", param=field
        )
    return found


async def contents(stack: ServedStack, given: dict[str, File], caller: Caller) -> dict[str, str]:
    """Each file as a `data:` URL, by its name."""
    files = await stack.files()
    return {
        name: f"data:{file.mime_type};base64,{await asyncio.to_thread(_base64, await files.path(file.file_id, caller))}"
        for name, file in given.items()
    }


def told_of(given: dict[str, File]) -> str:
    """What the model is told of them."""
    listed = ", ".join(f"{name} ({file.size_bytes} bytes)" for name, file in given.items())
    return f"These files are in the folder where code_interpreter runs code: {listed}."


def _name(file: File) -> str:
    """As the interpreter takes it: not hidden, not too long; and as the model can write it."""
    written = "".join(letter if letter.isprintable() else "_" for letter in file.filename)
    return written.lstrip(".")[-MAX_NAME_CHARS:] or file.file_id


def _base64(path: Path) -> str:
    return b64encode(path.read_bytes()).decode("ascii")
