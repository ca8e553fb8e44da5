"""How many chunks a search fetches so that duplicates and thresholds leave enough."""

from pathlib import Path

from llama_stack.api.memory import Chunk, Embedded, MemoryQuery, SearchMode
from llama_stack.api.resources import MemoryBank, VectorBank
from tests.memory.hashed import ALICE, open_memory_stack


async def test_many_copies_of_the_best_leave_room_for_what_comes_after_them(tmp_path: Path) -> None:
    async with open_memory_stack(tmp_path) as stack:
        memory = await stack.memory()
        bank = MemoryBank(identifier="notes", provider_id="", provider_resource_id="", bank=VectorBank())
        await memory.create_bank(bank, ALICE)
        copies = [Chunk(chunk_id=f"c{number}", document_id=f"c{number}", content="gas stove") for number in range(20)]
        others = [
            Chunk(chunk_id=f"o{number}", document_id=f"o{number}", content=f"gas lamp number {number}")
            for number in range(10)
        ]
        await memory.insert_chunks("notes", [Embedded(chunk=chunk) for chunk in copies + others], ALICE)
        for mode in (SearchMode.VECTOR, SearchMode.KEYWORD):
            found = await memory.query(["notes"], MemoryQuery(query="gas stove", max_chunks=4, mode=mode), ALICE)
            contents = [chunk.content for chunk in found]
            assert contents[0] == "gas stove"
            assert len(set(contents)) == 4
