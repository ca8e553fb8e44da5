"""Banks of values, which are found by their keys alone."""

import pytest

from llama_stack.api.chunk_index import BankPlace, ChunkIndex
from llama_stack.api.filters import Comparison
from llama_stack.errors import InvalidRequest
from llama_stack.testing.memory_contract_ground import chunk, everything, ids


async def check_key_value_bank(index: ChunkIndex) -> None:
    """Such a bank has neither vectors nor words."""
    bank = BankPlace(key="settings", dimension=0, keyword=False)
    await index.create_bank(bank)
    await index.create_bank(bank)
    values = [chunk(key, content=f"value of {key}", metadata={"n": number}) for number, key in enumerate("abc")]
    await index.write_chunks(bank, values, None)
    changed = chunk("b", content="another value")
    await index.write_chunks(bank, [changed], None, replace_documents=True)
    assert [hit.chunk for hit in await index.list_chunks(bank, document_ids=["b"])] == [changed]
    assert ids(await index.list_chunks(bank, where=Comparison(type="gt", key="n", value=0))) == ["c-0000"]
    assert await index.delete_documents(bank, ["a"]) == 1
    with pytest.raises(InvalidRequest, match="no chunk 'a-0000' to list after"):
        await index.list_chunks(bank, after="a-0000")
    assert await everything(index, bank) == [changed, values[2]]
    await index.drop_bank(bank)
