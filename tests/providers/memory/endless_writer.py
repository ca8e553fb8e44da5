"""Writes documents into a bank until it is killed, and says of each when it is written.

python -m tests.providers.memory.endless_writer PROVIDER_MODULE HOME
"""

import asyncio
import sys
from importlib import import_module
from pathlib import Path

from llama_stack.api.chunk_index import BankPlace
from llama_stack.testing.memory_contract_ground import chunk, random_rows
from tests.providers.memory.floors import floor

BANK = BankPlace(key="crash", dimension=32)
DOCUMENTS = 5
PIECES = 40


async def write_on(module: str, home: Path) -> None:
    provider = import_module(module).provider
    async with provider.open(provider.config(), floor(home)) as index:
        await index.create_bank(BANK)
        version = 0
        while True:
            version += 1
            name = f"d{version % DOCUMENTS}"
            metadata = {"version": version}
            pieces = [chunk(name, number, f"zeppelin {version}", metadata=metadata) for number in range(PIECES)]
            await index.write_chunks(BANK, pieces, random_rows(PIECES, BANK.dimension), replace_documents=True)
            print(name, version, flush=True)


if __name__ == "__main__":
    asyncio.run(write_on(sys.argv[1], Path(sys.argv[2])))
