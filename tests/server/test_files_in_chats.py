"""Files in the messages of chats, of Anthropic's Messages and of agents' turns, over a real server and a real stack."""

from base64 import b64encode
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from anthropic import BadRequestError as AnthropicBadRequest
from openai import BadRequestError, NotFoundError

from llama_stack.api.agents import AgentConfig
from llama_stack.api.common import Caller
from llama_stack.api.inference import Capabilities
from llama_stack.api.messages import FilePart, ImagePart, TextPart, UserMessage
from llama_stack.api.resources import Model
from llama_stack.api.sent_files import MAX_SENT_FILES, SentFile
from llama_stack.errors import NotFound
from llama_stack.memory.sent_files import MAX_INLINE_BYTES
from llama_stack.server.callers import LOCAL_OWNER
from llama_stack.testing.scripted import ScriptedInference, says
from tests.documents.files import pdf_file, png_file
from tests.responses.conftest import Start, start, told

__all__ = ["start"]

OWLS = TextPart(text="\nFile 'owls.txt':\n\nOwls fly by night.\n\n")
INLINE = {"filename": "owls.txt", "file_data": "data:text/plain;base64," + b64encode(b"Owls fly by night.").decode()}


def asking(*files: dict[str, Any]) -> Any:
    parts = [{"type": "file", "file": file} for file in files]
    return [{"role": "user", "content": [{"type": "text", "text": "What is it about?"}, *parts]}]


async def test_a_chat_reads_files_whole_streamed_and_stored(start: Start) -> None:
    async with start(says("Owls.")) as running:
        kept = await running.openai.files.create(file=("owls.txt", b"Owls fly by night."), purpose="user_data")
        messages = asking(INLINE, {"file_id": kept.id})
        chats = running.openai.chat.completions
        await chats.create(model="scripted", messages=messages)
        async for _ in await chats.create(model="scripted", messages=messages, stream=True):
            pass
        stored = await chats.create(model="scripted", messages=messages, store=True)
        asked = (await running.http.get(f"/v1/chat/completions/{stored.id}/messages")).json()
        body = {"model": "scripted", "messages": messages}
        counted = (await running.http.post("/v1/chat/completions/input_tokens", json=body)).json()
    for number in range(3):
        assert told(running, number)[0].content[1:] == [OWLS, OWLS]
    assert asked["data"][0]["content_parts"] == messages[0]["content"]
    assert counted["input_tokens"] > 15


async def test_a_picture_and_a_file_that_the_model_reads_itself_go_with_their_content(start: Start) -> None:
    content = pdf_file(["Owls fly by night."])
    reading = ScriptedInference(says("Owls."), capabilities=Capabilities(files=True, vision=True))
    async with start(inference=reading) as running:
        kept = await running.openai.files.create(file=("owls.pdf", content), purpose="user_data")
        seen = await running.openai.files.create(file=("white.png", png_file()), purpose="vision")
        messages = asking({"file_id": kept.id}, {"file_id": seen.id}, INLINE)
        await running.openai.chat.completions.create(model="scripted", messages=messages)
    assert told(running)[0].content[1:] == [
        FilePart(data_url="data:application/pdf;base64," + b64encode(content).decode(), filename="owls.pdf"),
        ImagePart(url="data:image/png;base64," + b64encode(png_file()).decode()),
        OWLS,
    ]


async def test_what_a_chat_cannot_read_names_the_field_as_it_was_sent(start: Start) -> None:
    empty = {"file_data": "data:text/plain,"}
    many: dict[str, Any] = {"model": "scripted", "messages": asking(*[INLINE] * (MAX_SENT_FILES + 1))}
    async with start(says("Owls.")) as running:
        for stream in (False, True):
            with pytest.raises(BadRequestError) as refused:
                await running.openai.chat.completions.create(
                    model="scripted", messages=asking(INLINE, empty), stream=stream
                )
            assert (refused.value.param, refused.value.code) == ("messages.0.content.2.file.file_data", "empty")
        with pytest.raises(NotFoundError) as missing:
            await running.openai.chat.completions.create(model="scripted", messages=asking({"file_id": "file-0"}))
        assert (missing.value.param, missing.value.code) == ("messages.0.content.1.file.file_id", "file_not_found")
        with pytest.raises(BadRequestError, match=f"may bring {MAX_SENT_FILES} files"):
            await running.openai.chat.completions.create(**many)
        with pytest.raises(NotFoundError) as unknown:
            await running.openai.chat.completions.create(model="nobody", messages=asking(INLINE))
        assert unknown.value.param == "model"
        assert running.inference.requests == []


async def test_a_file_part_without_a_file_is_refused(start: Start) -> None:
    async with start(says("Owls.")) as running:
        part = {"type": "file", "file": {}}
        body = {"model": "scripted", "messages": [{"role": "user", "content": [part]}]}
        answer = await running.http.post("/v1/chat/completions", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "messages.0.content.0.file.file_data")
    assert "name an uploaded file" in error["message"]


async def test_a_model_that_a_caller_has_registered_is_given_files_too(start: Start) -> None:
    own = Model(identifier="mine", provider_id="scripted", provider_resource_id="scripted")
    async with start(says("Owls.")) as running:
        await running.stack.registry.register(own, Caller(owner=LOCAL_OWNER))
        await running.openai.chat.completions.create(model="mine", messages=asking(INLINE))
    assert told(running)[0].content[1:] == [OWLS]


async def test_a_picture_has_a_largest_size(start: Start) -> None:
    content = png_file() + bytes(MAX_INLINE_BYTES)
    async with start(says("Owls.")) as running:
        kept = await running.openai.files.create(file=("white.png", content), purpose="vision")
        with pytest.raises(BadRequestError, match=str(MAX_INLINE_BYTES)) as refused:
            await running.openai.chat.completions.create(model="scripted", messages=asking({"file_id": kept.id}))
    assert (refused.value.param, refused.value.code) == ("messages.0.content.1.file.file_id", "too_large")


async def test_the_model_is_told_what_could_not_be_read(start: Start) -> None:
    data = b64encode("Größe: 3 m".encode("cp1252")).decode()
    async with start(says("Owls.")) as running:
        await running.openai.chat.completions.create(
            model="scripted", messages=asking({"filename": "a.txt", "file_data": f"data:text/plain;base64,{data}"})
        )
    text = told(running)[0].content[1].text
    assert text.startswith("\nFile 'a.txt':\n\nGröße: 3 m\n\n[Note: ")


async def test_documents_of_anthropics_messages_are_read(start: Start) -> None:
    def document(media_type: str, content: bytes) -> Any:
        source = {"type": "base64", "media_type": media_type, "data": b64encode(content).decode()}
        return {"type": "document", "source": source}

    def after_a_call(document: Any) -> Any:
        call = {"type": "tool_use", "id": "c", "name": "look", "input": {}}
        result = {"type": "tool_result", "tool_use_id": "c", "content": [document]}
        return [
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [result, document]},
        ]

    pdf = document("application/pdf", pdf_file(["Owls fly by night."]))
    locked = document("application/pdf", pdf_file(["Owls"], password="p"))
    async with (
        start(says("Owls.")) as running,
        AsyncAnthropic(base_url=running.url, api_key="unused", max_retries=0) as client,
    ):
        await client.messages.create(model="scripted", max_tokens=9, messages=after_a_call(pdf))
        result, asked = told(running)[2:]
        for message in (result, asked):
            content = message.content if isinstance(message.content, str) else message.content[0].text
            assert content.startswith("\nFile 'document':\n\n") and "Owls fly by night." in content
        counted = await client.messages.count_tokens(model="scripted", messages=[{"role": "user", "content": [pdf]}])
        assert counted.input_tokens > 5
        with pytest.raises(AnthropicBadRequest, match=r"messages\.2\.content\.0\.content\.0\.source: .*password"):
            await client.messages.create(model="scripted", max_tokens=9, messages=after_a_call(locked))


async def test_a_turn_of_an_agent_keeps_what_was_read_of_its_callers_files(start: Start) -> None:
    me, other = Caller(owner=LOCAL_OWNER), Caller(owner="somebody")
    async with start(says("Owls.")) as running:
        agents = await running.stack.agents()
        record = await agents.create_agent(AgentConfig(model="scripted"), me)
        session = await agents.create_session(record.agent_id, "s", me)

        async def turn(*parts: Any) -> None:
            said = UserMessage(content=[TextPart(text="What is it about?"), *parts])
            async for _ in agents.create_turn(record.agent_id, session.session_id, [said], me):
                pass

        kept = await running.openai.files.create(file=("owls.txt", b"Owls fly by night."), purpose="user_data")
        await turn(FilePart(file_id=kept.id))
        await running.openai.files.delete(kept.id)
        await turn()
        with pytest.raises(NotFound) as refused:
            await turn(FilePart(file_id=kept.id))
        files = (await running.stack.memory()).sent_files
        mine = await running.openai.files.create(file=("owls.txt", b"Owls fly by night."), purpose="user_data")
        with pytest.raises(NotFound, match=r"^input: there is no file"):
            await files.read(SentFile(field="input", file_id=mine.id), Capabilities(), other)
        left = await agents.session(record.agent_id, session.session_id, me)
    assert told(running)[0].content[1:] == [OWLS]
    assert refused.value.param == "messages.0.content.1.file_id"
    assert [len(turn.input[0].content) for turn in left.turns] == [2, 1]
