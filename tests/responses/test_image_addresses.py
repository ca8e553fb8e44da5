"""Where images may be: nobody who answers is asked to read a file of its own machine, at whatever face it is sent."""

from typing import Any

import pytest

from llama_stack.agents.functions import tool_from_function
from llama_stack.agents.loop import run_turn
from llama_stack.agents.setup import AgentSetup
from llama_stack.agents.tools import Toolbox
from llama_stack.api.agents import AgentConfig
from llama_stack.api.answers import collect
from llama_stack.api.common import Caller
from llama_stack.api.inference import ChatRequest
from llama_stack.api.messages import ImagePart, TextPart, UserMessage
from llama_stack.errors import InvalidRequest
from llama_stack.testing.scripted import calls, says
from tests.responses.conftest import Start, told

BAD = ["file:///etc/passwd", "ftp://host/cat.png", "FILE:/etc/passwd", "/etc/passwd", "javascript:alert(1)"]
GOOD = ["http://host/cat.png", "HTTPS://host/cat.png", "data:image/png;base64,iVBORw0KGgo="]
MODEL = "scripted"


def faces(url: str) -> list[tuple[str, dict[str, Any], str]]:
    """Path, body, and what the face calls the field."""
    openai = {"type": "image_url", "image_url": {"url": url}}
    anthropic = {"type": "image", "source": {"type": "url", "url": url}}
    classic = {"type": "image", "image": {"url": {"uri": url}}}
    responses = {"type": "input_image", "image_url": url}
    return [
        (
            "chat/completions",
            {"model": MODEL, "messages": [{"role": "user", "content": [openai]}]},
            "messages.0.content.0.image_url.url",
        ),
        (
            "responses",
            {"model": MODEL, "input": [{"role": "user", "content": [responses]}]},
            "input.0.content.0.image_url",
        ),
        (
            "messages",
            {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": [anthropic]}]},
            "messages.0.content.0.source.url",
        ),
        (
            "inference/chat-completion",
            {"model_id": MODEL, "messages": [{"role": "user", "content": [classic]}]},
            "messages.0.content.0.image.url.uri",
        ),
    ]


async def test_an_image_anywhere_but_on_the_web_is_400_naming_the_field(start: Start) -> None:
    async with start() as running:
        for url in BAD:
            for path, body, field in faces(url):
                answer = await running.http.post(f"/v1/{path}", json=body)
                assert answer.status_code == 400, (path, url, answer.text)
                assert f"{field}: must be an http, https or data URL" in answer.text, (path, url, answer.text)
        assert running.inference.requests == []


async def test_images_of_the_web_and_inline_ones_are_sent(start: Start) -> None:
    async with start(*[says("A cat.")] * 12) as running:
        for url in GOOD:
            for path, body, _ in faces(url):
                answer = await running.http.post(f"/v1/{path}", json=body)
                assert answer.status_code == 200, (path, url, answer.text)
                assert [part.url for part in told(running)[-1].content] == [url]


@pytest.mark.parametrize("url", BAD)
async def test_a_program_is_told_the_same_in_its_own_words(start: Start, url: str) -> None:
    said = [UserMessage(content="look"), UserMessage(content=[TextPart(text="here"), ImagePart(url=url)])]
    async with start(says("A cat.")) as running:
        with pytest.raises(InvalidRequest, match=r"messages\.1\.content\.1\.url: must be") as refused:
            await collect(
                running.stack.inference.stream_chat(ChatRequest(model=MODEL, messages=said), Caller(owner="a"))
            )
        assert refused.value.param == "messages.1.content.1.url"
        assert running.inference.requests == []


async def test_a_turn_in_the_stacks_own_words_is_400_before_it_begins(start: Start) -> None:
    own = {"accept": "application/vnd.llama-stack+json"}
    message = {"role": "user", "content": [{"type": "image", "url": "file:///etc/passwd"}]}
    async with start() as running:
        agent = (await running.http.post("/v1/agents", json={"model": MODEL}, headers=own)).json()["agent_id"]
        sessions = f"/v1/agents/{agent}/session"
        session = (await running.http.post(sessions, json={"name": "s"}, headers=own)).json()["session_id"]
        answer = await running.http.post(f"{sessions}/{session}/turn", json={"messages": [message]}, headers=own)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages.0.content.0.url"), answer.text
        assert (await running.rows())["turns"] == 0


async def test_an_address_that_a_tool_gave_is_told_to_the_model_and_ends_no_turn(start: Start) -> None:
    def look() -> list[ImagePart]:
        """Look."""
        return [ImagePart(url="file:///etc/passwd")]

    async with start(calls(("look", "{}")), says("I cannot see it.")) as running:
        toolbox = Toolbox([tool_from_function(look)])
        setup = AgentSetup(running.stack.inference, AgentConfig(model=MODEL), Caller(owner="a"), toolbox)
        async for _ in run_turn(setup, [], [UserMessage(content="look")]):
            pass
        assert told(running)[-1].content == [TextPart(text="[An image, whose address is no http, https or data URL.]")]
