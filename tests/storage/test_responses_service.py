"""The whole way of a response, on SQLite and on PostgreSQL: a chain, the background, a conversation."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

from llama_stack.api.common import Caller
from llama_stack.api.responses import ResponseRequest
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult
from llama_stack.errors import Conflict
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
            asyncio.timeout(60),
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


class Crm:
    """One tool, whose calls are counted."""

    calls = 0

    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        return [ToolDefinition(name="drop", parameters={"type": "object", "properties": {}})]

    async def invoke_tool(
        self, tool_group: ToolGroup, name: str, arguments: dict[str, Any], caller: Caller
    ) -> ToolResult:
        self.calls += 1
        return ToolResult(content="dropped")


async def test_an_approval_is_carried_out_by_one_of_two_that_come_at_once(
    url: str, tmp_path: Path, alice: Caller
) -> None:
    crm = Crm()
    tool = {"type": "mcp", "server_label": "crm", "require_approval": "always"}
    scripts = (calls(("drop", "{}")), says("Done."))
    async with open_scripted_stack(*scripts, home=tmp_path, storage_url=url, tools={"crm": crm}) as stack:
        responses = await stack.responses()
        first = await responses.create(asked("Drop it", tools=[tool]), alice)
        said = {
            "type": "mcp_approval_response",
            "approval_request_id": first["output"][-1]["id"],
            "approve": True,
        }
        both = await asyncio.gather(
            *(responses.create(asked([said], tools=[tool], previous_response_id=first["id"]), alice) for _ in "ab"),
            return_exceptions=True,
        )
        [refused] = [one for one in both if isinstance(one, Conflict)]
        [made] = [one for one in both if not isinstance(one, BaseException)]
    assert refused.code == "approval_already_used"
    assert made["id"] in refused.message
    assert crm.calls == 1
