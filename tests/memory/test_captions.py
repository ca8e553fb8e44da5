"""Pictures go into a bank as the words of a model that sees."""

import base64
from io import BytesIO
from pathlib import Path

from PIL import Image

from llama_stack.api.memory import Document, DocumentState, MemoryQuery
from llama_stack.api.messages import ImagePart, UserMessage
from llama_stack.api.resources import MemoryBank, VectorBank
from tests.agents.scripts import chats, says
from tests.memory.hashed import ALICE, EmbeddingInference, open_memory_stack


def picture() -> str:
    file = BytesIO()
    Image.new("RGB", (32, 16), "red").save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


async def test_a_picture_is_found_by_its_description(tmp_path: Path) -> None:
    inference = EmbeddingInference(says("A red banner without text."))
    async with open_memory_stack(tmp_path, inference=inference) as stack:
        stack.distribution.documents.caption_model = "scripted"
        memory = await stack.memory()
        bank = MemoryBank(identifier="notes", provider_id="", provider_resource_id="", bank=VectorBank())
        await memory.create_bank(bank, ALICE)
        (status,) = await memory.insert_documents(
            "notes", [Document(document_id="banner", name="banner.png", url=picture())], ALICE
        )
        assert (status.state, status.error) == (DocumentState.COMPLETED, None)
        (found,) = await memory.query(["notes"], MemoryQuery(query="red banner"), ALICE)
        assert found.content == "A red banner without text."
        (asked,) = chats(inference)[0].messages
        assert isinstance(asked, UserMessage)
        assert any(isinstance(part, ImagePart) for part in asked.content)


async def test_a_picture_that_nobody_can_describe_says_what_to_install(tmp_path: Path) -> None:
    async with open_memory_stack(tmp_path) as stack:
        memory = await stack.memory()
        bank = MemoryBank(identifier="notes", provider_id="", provider_resource_id="", bank=VectorBank())
        await memory.create_bank(bank, ALICE)
        (status,) = await memory.insert_documents(
            "notes", [Document(document_id="banner", name="banner.png", url=picture())], ALICE
        )
        assert status.error is not None
        assert (status.error.code, "llama-stack[ocr]" in status.error.message) == ("missing_library", True)
