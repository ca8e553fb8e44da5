"""A process that is killed while it keeps a file: `python dying.py FOLDER DATABASE written|placed|known`."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from llama_stack.api.common import Caller
from llama_stack.api.files import FilePurpose, NewFile
from llama_stack.files.folder import IncomingContent
from llama_stack.files.service import open_files
from llama_stack.storage import open_database
from llama_stack.storage.files import FileStore


def die(*arguments: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def run(folder: Path, database_file: Path, moment: str) -> None:
    async with (
        open_database(f"sqlite:///{database_file}") as database,
        open_files(folder, database, max_file_bytes=1 << 30) as files,
        files.receive() as incoming,
    ):
        await incoming.write(b"x" * 2_000_000)
        match moment:
            case "written":
                die()
            case "placed":
                FileStore.add = die  # type: ignore[assignment,method-assign]
            case _:
                IncomingContent.settle = die  # type: ignore[assignment,method-assign]
        await incoming.keep(NewFile(filename="a", purpose=FilePurpose.BATCH), Caller(owner="alice"))


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
