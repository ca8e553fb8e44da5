"""Tools, schemas and models that misbehave: a result the model can use, never a lost session."""

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from llama_stack.agents.tools import MAX_RESULT_CHARS
from llama_stack.api.agents import AgentConfig, Budget, ToolExecutionStep, Turn
from llama_stack.api.messages import ImagePart, ToolMessage, UserMessage, text_of
from llama_stack.api.tools import ToolDefinition, ToolResult
from llama_stack.testing.scripted import calls, says
from tests.agents_faces.doors import LOCAL, Handiwork, Running, Start

KIT = "builtin::kit"
FLOOD = 10_000_000


def raising(error: BaseException) -> Callable[[], Any]:
    def tool() -> Any:
        raise error

    return tool


def as_bytes_read_wrong() -> str:
    """What `bytes.decode(errors="surrogateescape")` makes of bytes that are no UTF-8."""
    return b"caf\xe9 \xff\xfe ok".decode(errors="surrogateescape")


TOOLS: dict[str, tuple[Callable[[], Any], str]] = {
    "raises": (raising(RuntimeError("the pump is dry")), "RuntimeError: the pump is dry"),
    "raises without a word": (raising(ValueError()), "Error: ValueError"),
    "exits": (raising(SystemExit(3)), "SystemExit"),
    "raises what is no text": (raising(RuntimeError("\udcff")), "RuntimeError"),
    "floods": (lambda: "x" * FLOOD, "characters left out"),
    "is no text": (as_bytes_read_wrong, "caf"),
    "has control characters": (lambda: "bell \x07 nul \x00 end", "end"),
    "says nothing": (lambda: "", ""),
    "tells nonsense beside it": (
        lambda: ToolResult(content="ok", metadata={"score": math.nan, "far": math.inf, "odd": "\udc80"}), "ok",
    ),
}  # fmt: skip


async def turn_of(running: Running, **config: Any) -> tuple[Turn, tuple[str, str]]:
    """A turn through the service in this process, as it is stored afterwards; and its agent and session."""
    agents = await running.stack.agents()
    record = await agents.create_agent(AgentConfig(model="scripted", **config), LOCAL)
    session = await agents.create_session(record.agent_id, "s", LOCAL)
    messages: list[UserMessage | ToolMessage] = [UserMessage(content="go")]
    async for _ in agents.create_turn(record.agent_id, session.session_id, messages, LOCAL):
        pass
    (turn,) = (await agents.session(record.agent_id, session.session_id, LOCAL)).turns
    return turn, (record.agent_id, session.session_id)


@pytest.mark.parametrize("name", TOOLS)
async def test_what_a_tool_does_wrong_is_a_result_at_every_face(name: str, start: Start) -> None:
    tool, told = TOOLS[name]
    scripts = [calls(("use", "{}")), says("noted")]
    async with start(*scripts * 3, says("next"), tools={KIT: Handiwork(use=tool)}) as running:
        turn, ids = await turn_of(running, tool_groups=[KIT])
        executed = turn.steps[1]
        assert isinstance(executed, ToolExecutionStep)
        assert turn.end_reason == "completed"
        assert told in text_of(executed.results[0].content)
        assert len(text_of(executed.results[0].content)) <= MAX_RESULT_CHARS + 100
        classic = running.doors["classic-stream"]
        classic_ids = await classic.begin(tool_groups=[KIT])
        assert await classic.ask(*classic_ids) == "noted"
        group = {"type": "mcp", "server_label": KIT, "require_approval": "never"}
        response = await running.respond(input="go", tools=[group])
        assert response["status"] == "completed", response["error"]
        stored = await running.http.get(f"/v1/responses/{response['id']}")
        assert stored.json()["output"][-1]["content"][0]["text"] == "noted"
        assert await running.doors["sdk"].ask(*ids) == "next"
        assert await classic.ask(*classic_ids) == "next"
        invoked = await running.http.post("/v1/tool-runtime/invoke", json={"tool_name": "use", "kwargs": {}})
        # Not a turn's but a program's own call: what the error says stays in the log.
        assert invoked.status_code == 200
        failed = invoked.json()["error_message"]
        assert failed.startswith("use failed with ") if "raises" in name or name == "exits" else failed is None


async def test_a_picture_from_a_tool_stays_a_picture(start: Start) -> None:
    picture = ImagePart(url="data:image/png;base64,iVBORw0KGgo=")
    tools = {KIT: Handiwork(use=lambda: ToolResult(content=[picture]))}
    async with start(calls(("use", "{}")), says("seen"), tools=tools) as running:
        turn, _ = await turn_of(running, tool_groups=[KIT])
    executed = turn.steps[1]
    assert isinstance(executed, ToolExecutionStep)
    assert executed.results[0].content == [picture]


async def test_a_tool_that_hangs_ends_with_the_turns_time(start: Start) -> None:
    stopped = asyncio.Event()

    async def hang() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return "never"

    async with start(calls(("use", "{}")), says("late"), says("next"), tools={KIT: Handiwork(use=hang)}) as running:
        async with asyncio.timeout(60):
            turn, ids = await turn_of(running, tool_groups=[KIT], budget=Budget(max_seconds=0.5))
        assert stopped.is_set()
        executed = turn.steps[1]
        assert isinstance(executed, ToolExecutionStep)
        assert "was stopped: the time for this turn is used up" in text_of(executed.results[0].content)
        assert executed.failed == ["call_0"]
        assert turn.end_reason == "max_seconds"
        assert await running.doors["sdk"].ask(*ids) == "next"


# --- schemas --------------------------------------------------------------------------------------------------------


def nested(depth: int) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


CYCLE: Any = {"type": "object", "properties": {"a": {"$ref": "#"}}}
SCHEMAS: dict[str, Any] = {
    "no object": {"type": "string"},
    "unknown type": {"type": "quaternion", "properties": {"a": {"type": "telepathy"}}},
    "a cycle": CYCLE,
    "a cycle of itself": {"$ref": "#"},
    # Each level of checking would double the work.
    "a cycle that branches": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
    "a choice of itself": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}, {"type": "object"}]},
    "a reference to nowhere": {"properties": {"a": {"$ref": "#/$defs/none"}}},
    "a megabyte": {"type": "object", "properties": {"a": {"enum": ["x" * 100] * 10_000}}},
    "keywords of wrong kinds": {
        "type": 5, "properties": [1], "required": 7, "allOf": 3, "anyOf": {"a": 1}, "enum": "x", "items": [1],
        "minItems": "x", "pattern": "(", "additionalProperties": "no",
    },
    "required of wrong kinds": {"required": [1, None, {"a": 1}]},
    "a pattern without an end": {"properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}},
}  # fmt: skip


async def test_strange_schemas_neither_stop_the_server_nor_the_turn(start: Start) -> None:
    arguments = json.dumps({"a": "a" * 40 + "!"})
    tools = {name: Handiwork(schema=schema, use=lambda **given: "used") for name, schema in SCHEMAS.items()}
    script = [calls(("use", arguments)), says("noted"), says("next")]
    async with start(*script * len(SCHEMAS), tools=tools) as running:
        for name in SCHEMAS:
            async with asyncio.timeout(60):
                turn, ids = await turn_of(running, tool_groups=[name])
            executed = turn.steps[1]
            assert isinstance(executed, ToolExecutionStep), name
            assert turn.end_reason == "completed", name
            assert len(text_of(executed.results[0].content)) <= MAX_RESULT_CHARS + 100, name
            assert await running.doors["sdk"].ask(*ids) == "next", name


async def test_strange_schemas_of_the_callers_own_tools(start: Start) -> None:
    arguments = json.dumps({"a": "a" * 40 + "!"})
    async with start(calls(("use", arguments)), says("noted")) as running:
        for name, schema in SCHEMAS.items():
            running.inference._scripts[:] = [calls(("use", arguments)), says("noted")]
            function = {"type": "function", "name": "use", "parameters": schema}
            body = {"model": "scripted", "input": "go", "tools": [function]}
            async with asyncio.timeout(60):
                answer = await running.http.post("/v1/responses", json=body)
                running.inference._scripts[:] = [calls(("use", arguments)), says("noted")]
                turn, _ = await turn_of(running, client_tools=[ToolDefinition(name="use", parameters=schema)])
            assert answer.status_code in (200, 400), f"{name}: {answer.text[:300]}"
            if answer.status_code == 400:
                assert (answer.json()["error"]["param"] or "").startswith("tools.0"), f"{name}: {answer.text[:300]}"
            assert turn.end_reason in ("completed", None), name


async def test_a_schema_ten_thousand_levels_deep_is_refused_before_it_is_read(start: Start) -> None:
    deep = '{"type":"object","properties":{"a":' * 5000 + "{}" + "}}" * 5000
    function = f'{{"type":"function","name":"use","parameters":{deep}}}'
    body = f'{{"model":"scripted","input":"go","tools":[{function}]}}'
    json_type = {"content-type": "application/json"}
    async with start(says("fine")) as running:
        answer = await running.http.post("/v1/responses", content=body, headers=json_type)
        register = await running.http.post("/v1/agents", content=f'{{"agent_config":{deep}}}', headers=json_type)
        after = await running.respond(input="hello")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")
    assert (register.status_code, register.json()["error"]["code"]) == (400, "invalid_json")
    assert after["status"] == "completed"


async def test_a_tool_servers_schema_of_some_hundred_levels_can_be_called(start: Start) -> None:
    value: Any = "x"
    for _ in range(100):
        value = {"a": value}
    tools = {KIT: Handiwork(schema=nested(150), use=lambda **given: "used")}
    async with start(calls(("use", json.dumps(value))), says("noted"), tools=tools) as running:
        turn, _ = await turn_of(running, tool_groups=[KIT])
    assert turn.end_reason == "completed"


# --- models ---------------------------------------------------------------------------------------------------------

ARGUMENTS: dict[str, tuple[str, str]] = {
    "half": ('{"a": "x', "not valid JSON"),
    "no object": ("[1, 2]", "must be a JSON object"),
    "a number": ("7", "must be a JSON object"),
    "deep": ('{"a":' * 5000 + "1" + "}" * 5000, "not valid JSON"),
    "nothing": ("", "used"),
    "not a number": ('{"a": NaN}', ""),
    "a lone surrogate": ('{"a": "\\ud800"}', ""),
    "a huge number": ('{"a": 1e999, "b": ' + "9" * 400 + "}", ""),
}


async def test_arguments_that_are_none_are_told_to_the_model(start: Start) -> None:
    async with start(tools={KIT: Handiwork(use=lambda **given: "used")}) as running:
        for name, (arguments, told) in ARGUMENTS.items():
            running.inference._scripts[:] = [*[calls(("use", arguments)), says("noted")] * 3, says("next")]
            turn, ids = await turn_of(running, tool_groups=[KIT])
            executed = turn.steps[1]
            assert isinstance(executed, ToolExecutionStep), name
            assert told in text_of(executed.results[0].content), name
            assert turn.end_reason == "completed", name
            for face in ("classic", "classic-stream"):
                door = running.doors[face]
                classic_ids = await door.begin(tool_groups=[KIT])
                assert await door.ask(*classic_ids) == "noted", name
                assert len(await door.see_session(*classic_ids)) == 1, name
            assert await running.doors["sdk"].ask(*ids) == "next", name


async def test_a_model_that_loops_is_told_and_ends(start: Start) -> None:
    tools = {KIT: Handiwork(use=lambda: "same")}
    async with start(calls(("use", "{}")), tools=tools) as running:
        turn, ids = await turn_of(running, tool_groups=[KIT], budget=Budget(max_infer_iters=4))
        response = await running.respond(
            input="go", max_infer_iters=4, tools=[{"type": "mcp", "server_label": KIT, "require_approval": "never"}]
        )
        assert await running.doors["connected"].ask(*ids) is not None
    results = [text_of(step.results[0].content) for step in turn.steps if isinstance(step, ToolExecutionStep)]
    assert turn.end_reason == "max_infer_iters"
    assert turn.output is not None
    assert text_of(turn.output.content)
    assert results[0] == "same"
    assert all("already made in this turn" in result for result in results[1:])
    assert response["status"] in ("completed", "incomplete")
    assert response["output"][-1]["type"] == "message"


async def test_a_model_that_calls_what_there_is_not(start: Start) -> None:
    script = [calls(("uze", "{}"), ("x" * 20_000, "{}")), says("noted")]
    async with start(*script, tools={KIT: Handiwork(use=lambda: "used")}) as running:
        turn, _ = await turn_of(running, tool_groups=[KIT])
    results = [text_of(step.results[0].content) for step in turn.steps if isinstance(step, ToolExecutionStep)]
    assert "There is no tool named 'uze'. Did you mean 'use'?" in results[0]
    assert all(len(result) <= MAX_RESULT_CHARS + 100 for result in results)
    assert turn.end_reason == "completed"
