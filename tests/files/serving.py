"""A server in a process of its own: `python serving.py HOME`. Prints its URL when it listens; ends with its input."""

import asyncio
import sys
from pathlib import Path

from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from llama_stack.testing.scripted_stack import open_scripted_stack


async def run(home: Path) -> None:
    async with open_scripted_stack(home=home) as stack, serving(create_app(stack)) as url:
        print(url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1])))
