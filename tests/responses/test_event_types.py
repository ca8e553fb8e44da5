"""Which of OpenAI's event types are sent, each held against the `openai` package's own type, and which are not."""

import json
from typing import Any, get_args

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from llama_stack.api.common import Caller
from llama_stack.api.inference import ChatEnd, ChoiceEnd, ReasoningDelta, RefusalDelta, TextDelta, Usage
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult
from llama_stack.errors import ProviderUnavailable, RateLimited
from llama_stack.testing.scripted import Script, calls, says
from tests.responses.conftest import FixedTools, Start
from tests.responses.manuals import search, with_files

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
EVERY_TYPE = {get_args(one.model_fields["type"].annotation)[0] for one in get_args(get_args(ResponseStreamEvent)[0])}

UNSERVED = tuple(f"response.{kind}" for kind in ("audio", "image_generation", "shell"))
NOT_SENT = {
    # A stream that breaks ends with response.failed; what fails before it begins has an HTTP status.
    "error",
    # It tells of an item `compaction_trigger`, which is refused.
    "response.compaction.compacting",
    # Tools and kinds of answers that are not served.
    *(one for one in EVERY_TYPE if one.startswith(UNSERVED)),
}

MCP: Any = {"type": "mcp", "server_label": "crm", "require_approval": "never"}
REFUSES: Script = [RefusalDelta(text="No."), ChoiceEnd(finish_reason="stop"), ChatEnd(usage=Usage())]
TOOLS: list[Any] = [
    MCP,
    {"type": "web_search"},
    {"type": "code_interpreter", "container": {"type": "auto"}},
    {"type": "function", "name": "mine"},
    {"type": "custom", "name": "plain"},
]
INCLUDE = ["code_interpreter_call.outputs", "reasoning.encrypted_content", "file_search_call.results"]


class Away(FixedTools):
    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        raise ProviderUnavailable("cannot reach it")


SEARCHED = ToolResult(content="[1]", metadata={"sources": [{"title": "A page", "url": "https://a.example"}]})
GROUPS = {
    "crm": FixedTools(
        find=lambda: ToolResult(content="found"), fail=lambda: ToolResult(content="failed", is_error=True)
    ),
    "builtin::websearch": FixedTools(web_search=lambda query: SEARCHED),
    "builtin::code_interpreter": FixedTools(code_interpreter=lambda code: ToolResult(content="4")),
    "away": Away(),
}
REQUESTS: list[tuple[list[Script], dict[str, Any]]] = [
    (
        [
            calls(("find", "{}"), ("fail", "{}"), ("web_search", '{"query": "owls"}')),
            calls(("code_interpreter", '{"code": "2 + 2"}'), ("file_search", '{"query": "lamps"}')),
            [ReasoningDelta(text="hm"), *says("As [1] says.")],
        ],
        {"tools": TOOLS, "include": INCLUDE},
    ),
    ([calls(("mine", '{"a": 1}'), ("plain", '{"input": "some plain text"}'))], {"tools": TOOLS}),
    ([[ReasoningDelta(text="hm"), *says("Hi")]], {"reasoning": {"summary": "auto"}}),
    ([REFUSES], {}),
    ([says("Hel", finish_reason="length")], {"max_output_tokens": 16}),
    ([[TextDelta(text="Hel"), RateLimited("slow down")]], {}),
    ([says("Hi")], {"background": True}),
    ([says("Hi")], {"background": True, "tools": [{**MCP, "server_label": "away"}]}),
]


async def test_every_type_is_sent_or_known_not_to_be(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    sent: set[str] = set()
    for scripts, fields in REQUESTS:
        async with with_files(start, *scripts, tools=GROUPS) as (running, store_id):
            body: dict[str, Any] = {"model": "scripted", "input": "?", "stream": True, **fields}
            if body.get("tools") is TOOLS:
                body["tools"] = [*TOOLS, search(store_id)]
            answer = await running.http.post("/v1/responses", json=body)
        assert answer.status_code == 200, answer.text
        events = frames(answer.text)
        for event in events:
            EVENT.validate_python(event)
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        check_rebuilt(events)
        sent.update(event["type"] for event in events)
    assert sent == EVERY_TYPE - NOT_SENT
    with capsys.disabled():
        print(f"\n{len(sent)} of OpenAI's {len(EVERY_TYPE)} event types are sent")


def frames(text: str) -> list[Any]:
    """The events of a body; each frame names its event's type and holds it."""
    events = []
    for one in text.removesuffix("\n\n").split("\n\n"):
        name, data = one.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def check_rebuilt(events: list[Any]) -> None:
    """What the deltas build is what the items say, and the items are the response's output."""
    last = events[-1]["response"]
    Response.model_validate(last)
    done = {event["output_index"]: event["item"] for event in events if event["type"] == "response.output_item.done"}
    assert [done[index] for index in sorted(done)] == last["output"]
    texts: dict[str, str] = {}
    for event in events:
        if event["type"].endswith(".delta"):
            texts[event["item_id"]] = texts.get(event["item_id"], "") + event["delta"]
    for item in last["output"]:
        if item["id"] in texts:
            assert texts[item["id"]] == said_by(item)


def said_by(item: Any) -> str:
    match item["type"]:
        case "message" | "reasoning":
            parts = [*(item.get("content") or ()), *(item.get("summary") or ())]
            return "".join(part.get("text") or part.get("refusal") or "" for part in parts)
        case "code_interpreter_call":
            return str(item["code"])
        case "custom_tool_call":
            return str(item["input"])
        case _:
            return str(item["arguments"])
