"""Files that come with a response's input, with an unmodified `openai` client, real files and a real server."""

from base64 import b64encode
from typing import Any

import httpx
import pytest
from aiohttp import web
from openai import AsyncOpenAI, BadRequestError, NotFoundError

from llama_stack.api.inference import Capabilities
from llama_stack.api.messages import FilePart, ImagePart, TextPart
from llama_stack.testing.scripted import ScriptedInference, says
from tests.documents.files import pdf_file, png_file
from tests.documents.test_fetching import serving
from tests.responses.conftest import Start, told

TEXT = "data:text/plain;base64," + b64encode(b"Owls fly by night.").decode()
QUESTION: Any = {"type": "input_text", "text": "What is it about?"}


def asking(*parts: Any) -> Any:
    return [{"type": "message", "role": "user", "content": [QUESTION, *parts]}]


async def uploaded(openai: AsyncOpenAI, name: str, content: bytes) -> str:
    return (await openai.files.create(file=(name, content), purpose="user_data")).id


class Detour(httpx.AsyncBaseTransport):
    """Leads every public address to a server on loopback."""

    def __init__(self, base: str) -> None:
        self._base = httpx.URL(base)
        self._real = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(host=self._base.host, port=self._base.port)
        return await self._real.handle_async_request(request)

    async def aclose(self) -> None:
        await self._real.aclose()


async def test_an_uploaded_pdf_is_told_as_text_under_its_name(start: Start) -> None:
    async with start(says("Owls.")) as running:
        file_id = await uploaded(running.openai, "owls.pdf", pdf_file(["Owls fly by night.", "They eat mice."]))
        part = {"type": "input_file", "file_id": file_id}
        response = await running.openai.responses.create(model="scripted", input=asking(part))
        items = await running.openai.responses.input_items.list(response.id)
        counted = await running.openai.responses.input_tokens.count(model="scripted", input=asking(part))
    (message,) = told(running)
    assert message.content[0] == TextPart(text="What is it about?")
    assert message.content[1].text.startswith("\nFile 'owls.pdf':\n\n")
    assert "Owls fly by night." in message.content[1].text and "They eat mice." in message.content[1].text
    (item,) = items.data
    echoed = item.model_dump(exclude_none=True)["content"][1]
    assert echoed == part
    assert counted.input_tokens > 15


async def test_a_chain_goes_on_after_its_file_was_deleted(start: Start) -> None:
    async with start(says("Owls.")) as running:
        file_id = await uploaded(running.openai, "owls.txt", b"Owls fly by night.")
        first = await running.openai.responses.create(
            model="scripted", input=asking({"type": "input_file", "file_id": file_id})
        )
        await running.openai.files.delete(file_id)
        await running.openai.responses.create(model="scripted", input="Sure?", previous_response_id=first.id)
        assert [message.role for message in told(running)] == ["user", "assistant", "user"]
        assert "Owls fly by night." in told(running)[0].content[1].text
        with pytest.raises(NotFoundError) as refused:
            await running.openai.responses.create(
                model="scripted", input=asking({"type": "input_file", "file_id": file_id})
            )
    assert refused.value.param == "input.0.content.1.file_id"
    assert refused.value.code == "file_not_found"


async def test_a_file_is_told_that_comes_inline_or_in_a_tools_output_or_lies_in_a_conversation(start: Start) -> None:
    inline: Any = {"type": "input_file", "file_data": TEXT, "filename": "owls.txt"}
    async with start(says("Owls.")) as running:
        bare = {**inline, "file_data": TEXT.partition(",")[2]}
        await running.openai.responses.create(model="scripted", input=asking(inline, bare))
        content = told(running)[0].content
        assert content[1] == content[2] == TextPart(text="\nFile 'owls.txt':\n\nOwls fly by night.\n\n")
        call: Any = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
        output: Any = {"type": "function_call_output", "call_id": "c", "output": [inline]}
        await running.openai.responses.create(model="scripted", input=[call, output])
        assert "Owls fly by night." in told(running)[1].content
        conversation = await running.openai.conversations.create(items=asking(inline))
        await running.openai.responses.create(model="scripted", input="So?", conversation=conversation.id)
        assert content[1] in told(running)[0].content
        items = (await running.http.get(f"/v1/conversations/{conversation.id}/items")).text
    assert "_read_as" not in items


async def test_a_picture_becomes_an_image_whichever_part_brings_it(start: Start) -> None:
    picture = png_file()
    url = "data:image/png;base64," + b64encode(picture).decode()
    async with start(says("White.")) as running:
        file_id = await uploaded(running.openai, "white.png", picture)
        parts = ({"type": "input_image", "file_id": file_id, "detail": "low"}, {"type": "input_file", "file_data": url})
        response = await running.openai.responses.create(model="scripted", input=asking(*parts))
        items = await running.openai.responses.input_items.list(response.id)
        text_id = await uploaded(running.openai, "owls.txt", b"Owls")
        with pytest.raises(BadRequestError, match="no PNG, JPEG, GIF or WebP") as refused:
            await running.openai.responses.create(
                model="scripted", input=asking({"type": "input_image", "file_id": text_id})
            )
    assert told(running)[0].content[1:] == [ImagePart(url=url, detail="low"), ImagePart(url=url)]
    assert items.data[0].model_dump(exclude_none=True)["content"][1] == parts[0]
    assert (refused.value.param, refused.value.code) == ("input.0.content.1.file_id", "unsupported_file")


async def test_a_model_that_reads_files_gets_the_file_and_the_next_model_its_text(start: Start) -> None:
    content = pdf_file(["Owls fly by night."])
    url = "data:application/pdf;base64," + b64encode(content).decode()
    reading = ScriptedInference(says("Owls."), capabilities=Capabilities(files=True))
    async with start(inference=reading) as running:
        file_id = await uploaded(running.openai, "owls.pdf", content)
        first = await running.openai.responses.create(
            model="scripted", input=asking({"type": "input_file", "file_id": file_id})
        )
    assert told(running)[0].content[1] == FilePart(data_url=url, filename="owls.pdf")
    async with start(says("Night.")) as running:
        await running.openai.responses.create(model="scripted", input="When?", previous_response_id=first.id)
    assert "Owls fly by night." in told(running)[0].content[1].text


async def test_an_address_is_fetched_but_never_one_of_our_own_network(start: Start) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/gone.txt":
            return web.Response(status=404)
        return web.Response(text="Owls fly by night.")

    async with serving(answer) as base, start(says("Owls."), transport=Detour(base)) as running:
        part = {"type": "input_file", "file_url": "http://93.184.215.14/owls.txt"}
        await running.openai.responses.create(model="scripted", input=asking(part))
        assert told(running)[0].content[1] == TextPart(text="\nFile 'owls.txt':\n\nOwls fly by night.\n\n")
        refused = (
            ("http://127.0.0.1:9/private", "address_not_allowed"),
            ("http://93.184.215.14/gone.txt", "file_not_fetched"),
        )
        for url, code in refused:
            with pytest.raises(BadRequestError) as error:
                await running.openai.responses.create(
                    model="scripted", input=asking({"type": "input_file", "file_url": url})
                )
            assert (error.value.param, error.value.code) == ("input.0.content.1.file_url", code)


async def test_what_cannot_be_read_names_its_field_and_the_readers_code(start: Start) -> None:
    locked = "data:application/pdf;base64," + b64encode(pdf_file(["x"], password="p")).decode()
    wrong = (
        ({"type": "input_file", "file_data": locked, "filename": "a.pdf"}, "file_data", "encrypted"),
        ({"type": "input_file", "file_data": "data:text/plain,"}, "file_data", "empty"),
        ({"type": "input_file", "file_data": "no base64!"}, "file_data", "invalid_request"),
        ({"type": "input_file", "filename": "a.pdf"}, "file_data", "invalid_request"),
        ({"type": "input_file", "file_data": TEXT, "file_id": "file-1"}, "file_data", "invalid_request"),
        ({"type": "input_file", "file_data": TEXT, "_read_as": {}}, "_read_as", "invalid_request"),
    )
    async with start(says("Owls.")) as running:
        for background in (False, True):
            for part, field, code in wrong:
                body = {"model": "scripted", "input": asking(part), "background": background}
                answer = await running.http.post("/v1/responses", json=body)
                error = answer.json()["error"]
                assert (answer.status_code, error["code"]) == (400, code), (part, error)
                assert error["param"].startswith("input.0.content.1") and error["param"].endswith(f".{field}"), error
        assert running.inference.requests == []


async def test_a_model_without_eyes_refuses_a_picture_by_its_field(start: Start) -> None:
    url = "data:image/png;base64," + b64encode(png_file()).decode()
    async with start(inference=ScriptedInference(capabilities=Capabilities(vision=False))) as running:
        for part, field in (
            ({"type": "input_image", "image_url": url}, "image_url"),
            ({"type": "input_file", "file_data": url}, "file_data"),
        ):
            with pytest.raises(BadRequestError, match="cannot read") as refused:
                await running.openai.responses.create(model="scripted", input=asking(part))
            assert refused.value.param == f"input.0.content.1.{field}"
            assert refused.value.code == "unsupported_parameter"
        assert running.inference.requests == []
