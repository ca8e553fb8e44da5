"""Files of the caller's that the model's code is given: `container.file_ids` of the tool `code_interpreter`."""

import asyncio
from base64 import b64encode
from pathlib import Path

from llama_stack.api.common import Caller
from llama_stack.api.containers import files_to_give
from llama_stack.api.files import File
from llama_stack.api.responses import CodeInterpreterTool
from llama_stack.api.stack import ServedStack

MAX_GIVEN_BYTES = 32 * 1024 * 1024
"""Of all files together. They travel with each run of code; the interpreter's own limit may be lower."""


async def given_files(stack: ServedStack, tool: CodeInterpreterTool, caller: Caller, where: str) -> dict[str, File]:
    """The files by the names under which the code finds them.

    where: the tool's place in the request. Raises NotFound for an unknown id, InvalidRequest for two files of one name
    and for files that are too large.
    """
    if not tool.file_ids:
        return {}
    field = f"{where}.container.file_ids"
    return await files_to_give(await stack.files(), tool.file_ids, caller, field, MAX_GIVEN_BYTES)


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


def _base64(path: Path) -> str:
    return b64encode(path.read_bytes()).decode("ascii")
