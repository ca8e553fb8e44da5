"""The whole way of a response, on SQLite and on PostgreSQL: a chain, the background, a conversation."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

from llama_stack.api.common import Caller
from llama_stack.api.responses import ResponseRequest
from llama_stack.testing.scripted import calls, says
from llama_stack.testing.scripted_stack import open_scripted_stack
from llama_stack.wire.openai_responses.items import read_items
from llama_stack.wire.openai_responses.request import decode_response_request


def asked(said: Any, **fields: Any) -> ResponseRequest:
    return decode_response_request({"model": "scripted", "input": said, **fields})[0]


async def test_responses_are_made_and_continued(url: str, tmp_path: Path, alice: Caller) -> None:
    tool = {"type": "function", "name": "weather"}
    scripts = (calls(("weather", "{}")), says("Mild."), says("In the background."), says("Hello Ada."))
    async with open_scripted_stack(*scripts, home=tmp_path, storage_url=url) as stack:
        responses = await stack.responses()
        first = await responses.create(asked("Weather?", tools=[tool]), alice)
        output = {"type": "function_call_output", "call_id": "call_0", "output": "warm"}
        second = await responses.create(asked([output], previous_response_id=first["id"]), alice)
        assert second["output"][0]["content"][0]["text"] == "Mild."

        async with (
            asyncio.timeout(20),
            aclosing(responses.stream(asked("?", previous_response_id=second["id"], background=True), alice)) as events,
        ):
            told = [event async for event in events]
        assert [event["sequence_number"] for event in told] == list(range(len(told)))
        assert told[-1]["response"]["output"][0]["content"][0]["text"] == "In the background."

        conversations = await stack.conversations()
        made = await conversations.create(read_items("I am Ada."), {}, alice)
        await responses.create(asked("Hi", conversation=made.conversation_id), alice)
        items = await conversations.items(made.conversation_id, alice, order="asc")
        assert [item["role"] for item in items.entries] == ["user", "user", "assistant"]

        page = await responses.list_responses(alice, limit=10)
        assert [entry["status"] for entry in page.entries] == ["completed"] * 4
        for entry in page.entries:
            await responses.delete(entry["id"], alice)
        assert (await responses.list_responses(alice)).entries == []
