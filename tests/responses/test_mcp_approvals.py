"""Calls that wait for a person's word: kept over restarts, decided one by one, made at most once."""

from typing import Any

import pytest
from openai import BadRequestError, ConflictError, InternalServerError

from llama_stack.api.common import Caller
from llama_stack.api.messages import AssistantMessage, ToolMessage
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult
from llama_stack.errors import ProviderUnavailable
from llama_stack.testing.scripted import calls, says
from tests.responses.conftest import FixedTools, Running, Start, streamed, told

ASKING: Any = {"type": "mcp", "server_label": "crm", "require_approval": "always"}


def drop(name: str) -> ToolResult:
    return ToolResult(content=f"dropped {name}")


def decision(request_id: str, approve: bool, **more: Any) -> Any:
    return {"type": "mcp_approval_response", "approval_request_id": request_id, "approve": approve, **more}


async def ask_three(running: Running) -> Any:
    return await running.openai.responses.create(model="scripted", input="Drop a, b, c", tools=[ASKING])


THREE = calls(("drop", '{"name": "a"}'), ("drop", '{"name":  "b"}'), ("drop", '{"name": "c"}'))


async def test_approved_and_denied_in_any_order_over_restarts(start: Start) -> None:
    crm = FixedTools(drop=drop)
    async with start(THREE, tools={"crm": crm}) as running:
        first = await ask_three(running)
    assert first.status == "completed"
    assert crm.calls == []
    asked = [item for item in first.output if item.type == "mcp_approval_request"]
    assert [request.arguments for request in asked] == ['{"name": "a"}', '{"name":  "b"}', '{"name": "c"}']

    async with start(says("never said"), tools={"crm": crm}) as running:
        second = await running.openai.responses.create(
            model="scripted", tools=[ASKING], previous_response_id=first.id, input=[decision(asked[2].id, True)]
        )
        assert running.inference.requests == []
    assert crm.calls == [("drop", {"name": "c"})]
    # What was decided has been done; what was not is asked for again, under the same ids.
    assert [(item.type, item.id) for item in second.output[1:]] == [
        ("mcp_approval_request", asked[0].id),
        ("mcp_approval_request", asked[1].id),
    ]
    made: Any = second.output[0]
    assert (made.type, made.approval_request_id, made.output) == ("mcp_call", asked[2].id, "dropped c")

    async with start(says("Done."), tools={"crm": crm}) as running:
        third = await running.openai.responses.create(
            model="scripted",
            tools=[ASKING],
            previous_response_id=second.id,
            input=[decision(asked[0].id, False, reason="too old"), decision(asked[1].id, True)],
        )
        _, answer, *results = told(running)
    assert crm.calls == [("drop", {"name": "c"}), ("drop", {"name": "b"})]
    assert third.output_text == "Done."
    assert [item.type for item in third.output] == ["mcp_call", "message"]
    assert isinstance(answer, AssistantMessage)
    assert [call.arguments for call in answer.tool_calls] == [request.arguments for request in asked]
    assert all(isinstance(result, ToolMessage) for result in results)
    assert "too old" in results[0].content
    assert [result.content for result in results[1:]] == ["dropped b", "dropped c"]


async def test_approvals_in_one_stream(start: Start) -> None:
    crm = FixedTools(drop=drop)
    async with start(calls(("drop", '{"name": "a"}')), says("Done."), tools={"crm": crm}) as running:
        first = await streamed(running.openai, input="Drop a", tools=[ASKING])
        types = [event.type.removeprefix("response.") for event in first]
        assert types[-3:] == ["output_item.added", "output_item.done", "completed"]
        request = first[-1].response.output[-1]
        second = await streamed(
            running.openai,
            tools=[ASKING],
            previous_response_id=first[0].response.id,
            input=[decision(request.id, True)],
        )
    assert [event.type.removeprefix("response.") for event in second][2:9] == [
        "output_item.added",
        "mcp_call.in_progress",
        "mcp_call_arguments.delta",
        "mcp_call_arguments.done",
        "mcp_call.completed",
        "output_item.done",
        "output_item.added",
    ]
    assert second[-1].response.output[-1].content[0].text == "Done."


async def test_a_decision_can_be_sent_with_the_whole_conversation(start: Start) -> None:
    crm = FixedTools(drop=drop)
    async with start(calls(("drop", '{"name": "a"}')), says("Done."), tools={"crm": crm}) as running:
        said: list[Any] = [{"role": "user", "content": "Drop a"}]
        first = await running.openai.responses.create(model="scripted", input=said, tools=[ASKING], store=False)
        said += [item.model_dump() for item in first.output]
        said.append(decision(first.output[-1].id or "", True))
        second = await running.openai.responses.create(model="scripted", input=said, tools=[ASKING], store=False)
        said += [item.model_dump() for item in second.output]
        said.append({"role": "user", "content": "Thanks"})
        await running.openai.responses.create(model="scripted", input=said, tools=[ASKING], store=False)
    assert crm.calls == [("drop", {"name": "a"})]
    assert second.output_text == "Done."
    assert [message.role for message in told(running)] == ["user", "assistant", "tool", "assistant", "user"]


async def test_only_the_named_tools_wait(start: Start) -> None:
    crm = FixedTools(drop=drop, find=lambda name: ToolResult(content=f"found {name}"))
    rule: Any = {**ASKING, "require_approval": {"never": {"tool_names": ["find"]}}}
    script = calls(("find", '{"name": "a"}'), ("drop", '{"name": "a"}'))
    async with start(script, tools={"crm": crm}) as running:
        response = await running.openai.responses.create(model="scripted", input="?", tools=[rule])
    assert [item.type for item in response.output] == ["mcp_list_tools", "mcp_call", "mcp_approval_request"]
    assert crm.calls == [("find", {"name": "a"})]


async def test_what_nobody_approved_was_not_made(start: Start) -> None:
    crm = FixedTools(drop=drop)
    async with start(calls(("drop", '{"name": "a"}')), says("Fine."), tools={"crm": crm}) as running:
        first = await running.openai.responses.create(model="scripted", input="Drop a", tools=[ASKING])
        second = await running.openai.responses.create(
            model="scripted", input="Never mind.", previous_response_id=first.id
        )
        request_id = first.output[-1].id or ""
        assert second.output_text == "Fine."
        assert told(running)[2].content == "This call was not approved and was not made."
        with pytest.raises(BadRequestError, match="was answered already"):
            await running.openai.responses.create(
                model="scripted", tools=[ASKING], previous_response_id=second.id, input=[decision(request_id, True)]
            )
        with pytest.raises(BadRequestError, match="there is no approval request 'mcpr_x'"):
            await running.openai.responses.create(
                model="scripted", tools=[ASKING], previous_response_id=first.id, input=[decision("mcpr_x", True)]
            )
    assert crm.calls == []


async def test_decisions_one_by_one_in_a_conversation(start: Start) -> None:
    crm = FixedTools(drop=drop)
    async with start(THREE, says("Done."), tools={"crm": crm}) as running:
        conversation = await running.openai.conversations.create()
        first = await running.openai.responses.create(
            model="scripted", conversation=conversation.id, input="Drop a, b, c", tools=[ASKING]
        )
        ids = [item.id or "" for item in first.output if item.type == "mcp_approval_request"]
        for request_id, approve in ((ids[1], True), (ids[2], False), (ids[0], True)):
            last = await running.openai.responses.create(
                model="scripted", conversation=conversation.id, input=[decision(request_id, approve)], tools=[ASKING]
            )
        items = [item async for item in running.openai.conversations.items.list(conversation.id, order="asc")]
    assert last.output_text == "Done."
    assert crm.calls == [("drop", {"name": "b"}), ("drop", {"name": "a"})]
    answer, *results = told(running)[1:]
    assert [call.arguments for call in answer.tool_calls] == ['{"name": "a"}', '{"name":  "b"}', '{"name": "c"}']
    assert [result.tool_call_id for result in results] == [call.id for call in answer.tool_calls]
    assert [item.type for item in items].count("mcp_approval_request") == 3


async def test_a_function_of_the_callers_and_an_approval_together(start: Start) -> None:
    crm = FixedTools(drop=drop)
    mine: Any = {"type": "function", "name": "mine", "parameters": None, "strict": False}
    script = calls(("mine", "{}"), ("drop", '{"name": "a"}'))
    async with start(script, says("Done."), tools={"crm": crm}) as running:
        first = await running.openai.responses.create(model="scripted", input="?", tools=[ASKING, mine])
        assert [item.type for item in first.output[1:]] == ["function_call", "mcp_approval_request"]
        output: Any = {"type": "function_call_output", "call_id": "call_0", "output": "42"}
        agreed = decision(first.output[-1].id or "", True)
        with pytest.raises(BadRequestError, match="the call 'call_0' of mine has no output yet"):
            await running.openai.responses.create(
                model="scripted", previous_response_id=first.id, input=[agreed], tools=[ASKING, mine]
            )
        assert crm.calls == []
        last = await running.openai.responses.create(
            model="scripted", previous_response_id=first.id, input=[agreed, output], tools=[ASKING, mine]
        )
    assert last.output_text == "Done."
    assert [message.content for message in told(running)[2:]] == ["42", "dropped a"]


async def test_an_approval_that_is_sent_twice_is_carried_out_once(start: Start) -> None:
    crm = FixedTools(drop=drop)
    async with start(calls(("drop", '{"name": "a"}')), says("Done."), tools={"crm": crm}) as running:
        first = await running.openai.responses.create(model="scripted", input="Drop a", tools=[ASKING])
        request = first.output[-1]
        again: Any = {"tools": [ASKING], "previous_response_id": first.id, "input": [decision(request.id or "", True)]}
        second = await running.openai.responses.create(model="scripted", **again)
    async with start(says("never said"), tools={"crm": crm}) as running:
        ways: list[Any] = [{}, {"background": True}, {"stream": True}]
        for more in ways:
            with pytest.raises(ConflictError, match=f"answered by the response '{second.id}'") as refused:
                await running.openai.responses.create(model="scripted", **again, **more)
            assert refused.value.code == "approval_already_used"
        denied = [decision(request.id or "", False)]
        with pytest.raises(ConflictError):
            await running.openai.responses.create(model="scripted", **{**again, "input": denied})
        assert running.inference.requests == []
        listed = (await running.http.get("/v1/responses")).json()["data"]
    assert crm.calls == [("drop", {"name": "a"})]
    assert {response["id"] for response in listed} == {first.id, second.id}


async def test_an_approval_in_a_conversation_that_nobody_keeps_is_carried_out_once(start: Start) -> None:
    crm = FixedTools(drop=drop)
    async with start(calls(("drop", '{"name": "a"}')), says("Done."), tools={"crm": crm}) as running:
        said: list[Any] = [{"role": "user", "content": "Drop a"}]
        first = await running.openai.responses.create(model="scripted", input=said, tools=[ASKING], store=False)
        said += [item.model_dump() for item in first.output]
        said.append(decision(first.output[-1].id or "", True))
        await running.openai.responses.create(model="scripted", input=said, tools=[ASKING], store=False)
        with pytest.raises(ConflictError, match="what was approved is run once"):
            await running.openai.responses.create(model="scripted", input=said, tools=[ASKING], store=False)
    assert crm.calls == [("drop", {"name": "a"})]


async def test_an_approval_whose_response_failed_before_the_call_may_be_sent_again(start: Start) -> None:
    class AwayOnce(FixedTools):
        is_away = False

        async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
            if self.is_away:
                raise ProviderUnavailable("cannot reach it")
            return await super().list_tools(tool_group, caller)

    crm = AwayOnce(drop=drop)
    async with start(calls(("drop", '{"name": "a"}')), says("Done."), tools={"crm": crm}) as running:
        first = await running.openai.responses.create(model="scripted", input="Drop a", tools=[ASKING])
        again: Any = {
            "tools": [ASKING],
            "previous_response_id": first.id,
            "input": [decision(first.output[-1].id or "", True)],
        }
        crm.is_away = True
        with pytest.raises(InternalServerError, match="cannot reach it"):
            await running.openai.responses.create(model="scripted", **again)
        crm.is_away = False
        second = await running.openai.responses.create(model="scripted", **again)
    assert crm.calls == [("drop", {"name": "a"})]
    assert second.output_text == "Done."


async def test_what_was_denied_may_be_thought_over(start: Start) -> None:
    crm = FixedTools(drop=drop)
    async with start(
        calls(("drop", '{"name": "a"}')), says("As you like."), says("Done."), tools={"crm": crm}
    ) as running:
        first = await running.openai.responses.create(model="scripted", input="Drop a", tools=[ASKING])
        for approve in (False, True):
            await running.openai.responses.create(
                model="scripted",
                tools=[ASKING],
                previous_response_id=first.id,
                input=[decision(first.output[-1].id or "", approve)],
            )
    assert crm.calls == [("drop", {"name": "a"})]
