"""`context_management`: a conversation over its threshold is compacted, and what follows goes on from there."""

import asyncio
from typing import Any

import pytest
from openai import BadRequestError
from openai.types.responses import ResponseCompactionItem

from llama_stack.api.common import Caller
from llama_stack.api.inference import TextDelta
from llama_stack.api.messages import AssistantMessage, SystemMessage, ToolMessage, UserMessage
from llama_stack.api.tools import ToolResult
from llama_stack.errors import ContextOverflow, ProviderFailed, RateLimited
from llama_stack.testing.scripted import ScriptedInference, calls, says
from tests.responses.conftest import FixedTools, Running, Start, streamed, told

LONG = "word " * 1100
"""Over the least threshold there is; the scripted model counts words."""
COMPACTION: Any = [{"type": "compaction", "compact_threshold": 1000}]
MCP: Any = {"type": "mcp", "server_label": "crm", "require_approval": "never"}
SUMMARY = "Summary of the conversation so far:\nAda wants words."


def read(running: Running, number: int = -1) -> list[tuple[str, Any]]:
    return [(message.role, message.content) for message in told(running, number)]


async def test_a_long_conversation_is_compacted_and_goes_on_from_there(start: Start) -> None:
    scripts = (says(LONG), says("Ada wants words."), says("Short."), says("Still short."))
    async with start(*scripts) as running:
        create = running.openai.responses.create
        first = await create(model="scripted", input="I am Ada.", context_management=COMPACTION)
        second = await create(
            model="scripted",
            input="Shorter, please.",
            instructions="Obey.",
            previous_response_id=first.id,
            context_management=COMPACTION,
        )
        answered = read(running)
        summed_up = read(running, -2)
        third = await create(model="scripted", input="And now?", previous_response_id=second.id)
        kept = await running.openai.responses.retrieve(second.id)
    assert [item.type for item in first.output] == ["message"]
    assert [item.type for item in second.output] == ["compaction", "message"]
    assert isinstance(second.output[0], ResponseCompactionItem)
    assert kept.model_dump() == second.model_dump()
    assert "I am Ada." in summed_up[1][1]
    assert "Shorter, please." not in summed_up[1][1]
    assert answered == [("system", "Obey."), ("system", SUMMARY), ("user", "Shorter, please.")]
    # The summary cost as much again as the answer: three tokens read, five written.
    assert second.usage is not None
    assert (second.usage.input_tokens, second.usage.output_tokens) == (6, 10)
    assert third.output_text == "Still short."
    assert read(running) == [
        ("system", SUMMARY),
        ("user", "Shorter, please."),
        ("assistant", "Short."),
        ("user", "And now?"),
    ]


async def test_the_compaction_is_streamed_before_the_answer_it_was_made_for(start: Start) -> None:
    async with start(says(LONG), says("Ada wants words."), says("Short.")) as running:
        first = await running.openai.responses.create(model="scripted", input="I am Ada.")
        events = await streamed(running.openai, input="?", previous_response_id=first.id, context_management=COMPACTION)
    assert [event.type for event in events][:5] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.output_item.done",
        "response.output_item.added",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[2].item.type, events[2].output_index, events[4].output_index) == ("compaction", 0, 1)
    assert events[3].item == events[-1].response.output[0]


async def test_items_before_a_compaction_may_be_sent_again_or_left_out(start: Start) -> None:
    scripts = (says(LONG), says("Ada wants words."), says("Short."), says("Yes."))
    async with start(*scripts) as running:
        create = running.openai.responses.create
        window: list[Any] = [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": "I am Ada."}]
        first = await create(model="scripted", input=window, store=False)
        window += [item.to_dict() for item in first.output]
        window.append({"role": "user", "content": "?"})
        second = await create(model="scripted", input=window, store=False, context_management=COMPACTION)
        output: list[Any] = [item.to_dict() for item in second.output]
        again: Any = {"role": "user", "content": "Sure?"}
        await create(model="scripted", input=[*window, *output, again], store=False, context_management=COMPACTION)
        whole = read(running)
        await create(model="scripted", input=[*output, again], store=False, context_management=COMPACTION)
    assert whole == read(running)
    assert whole == [
        ("system", "Be kind."),
        ("system", SUMMARY),
        ("user", "?"),
        ("assistant", "Short."),
        ("user", "Sure?"),
    ]


async def test_results_that_fill_the_window_are_compacted_between_two_steps(start: Start) -> None:
    tools = {"crm": FixedTools(find=lambda: ToolResult(content=LONG))}
    scripts = (calls(("find", "{}")), says("Found it."), calls(("find", "{}")), says("Found more."), says("Done."))
    async with start(*scripts, tools=tools) as running:
        response = await running.openai.responses.create(
            model="scripted", input="Find it.", tools=[MCP], context_management=COMPACTION
        )
        end = read(running)
        await running.openai.responses.create(model="scripted", input="And?", previous_response_id=response.id)
    kinds = ["mcp_list_tools", "mcp_call", "compaction", "mcp_call", "compaction", "message"]
    assert [item.type for item in response.output] == kinds
    window = [("system", "Summary of the conversation so far:\nFound more."), ("user", "Find it.")]
    assert end == window
    assert read(running) == [*window, ("assistant", "Done."), ("user", "And?")]


async def test_what_a_compaction_stands_for_is_not_read_again_in_the_same_response(start: Start) -> None:
    tools = {"crm": FixedTools(find=lambda: ToolResult(content="Here."))}
    scripts = (says(LONG), says("Ada wants words."), calls(("find", "{}")), says("Done."))
    async with start(*scripts, tools=tools) as running:
        first = await running.openai.responses.create(model="scripted", input="I am Ada.")
        second = await running.openai.responses.create(
            model="scripted",
            input="Find it.",
            tools=[MCP],
            previous_response_id=first.id,
            context_management=COMPACTION,
        )
        answered = told(running)
        await running.openai.responses.create(model="scripted", input="And?", previous_response_id=second.id)
    assert [item.type for item in second.output] == ["mcp_list_tools", "compaction", "mcp_call", "message"]
    assert [type(message) for message in answered] == [SystemMessage, UserMessage, AssistantMessage, ToolMessage]
    assert told(running)[:4] == answered


async def test_a_call_of_the_callers_is_answered_after_a_compaction(start: Start) -> None:
    tool: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
    scripts = (says(LONG), says("Ada wants words."), calls(("weather", "{}")), says("Mild."))
    async with start(*scripts) as running:
        create = running.openai.responses.create
        first = await create(model="scripted", input="I am Ada.")
        second = await create(
            model="scripted", input="?", tools=[tool], previous_response_id=first.id, context_management=COMPACTION
        )
        output: Any = {"type": "function_call_output", "call_id": "call_0", "output": "warm"}
        third = await create(model="scripted", input=[output], tools=[tool], previous_response_id=second.id)
    assert [item.type for item in second.output] == ["compaction", "function_call"]
    assert third.output_text == "Mild."
    assert [message.role for message in told(running)] == ["system", "user", "assistant", "tool"]


async def test_a_conversation_object_goes_on_from_its_compaction(start: Start) -> None:
    scripts = (says(LONG), says("Ada wants words."), says("Short."), says("Yes."))
    async with start(*scripts) as running:
        conversation = await running.openai.conversations.create()
        for said in ("I am Ada.", "Shorter.", "Sure?"):
            await running.openai.responses.create(
                model="scripted", input=said, conversation=conversation.id, context_management=COMPACTION
            )
        items = await running.openai.conversations.items.list(conversation.id, order="asc")
    assert [item.type for item in items.data] == [*["message"] * 3, "compaction", *["message"] * 3]
    assert read(running) == [("system", SUMMARY), ("user", "Shorter."), ("assistant", "Short."), ("user", "Sure?")]


async def test_a_compaction_survives_a_restart_and_the_background(start: Start) -> None:
    async with start(says(LONG), says("Ada wants words."), says("Short.")) as running:
        first = await running.openai.responses.create(model="scripted", input="I am Ada.")
        events = await streamed(
            running.openai,
            input="Shorter.",
            previous_response_id=first.id,
            background=True,
            context_management=COMPACTION,
        )
    second = events[-1].response
    async with start(says("Yes.")) as running:
        await running.openai.responses.create(model="scripted", input="Sure?", previous_response_id=second.id)
        count = await running.openai.responses.input_tokens.count(
            model="scripted", input="Sure?", previous_response_id=second.id
        )
        reading = read(running)
    assert [item.type for item in second.output] == ["compaction", "message"]
    assert reading == [("system", SUMMARY), ("user", "Shorter."), ("assistant", "Short."), ("user", "Sure?")]
    assert count.input_tokens < 100


async def test_nothing_is_compacted_that_must_stay(start: Start) -> None:
    async with start(says("Yes.")) as running:
        response = await running.openai.responses.create(
            model="scripted", input=LONG, instructions="Obey.", context_management=COMPACTION
        )
    assert [item.type for item in response.output] == ["message"]
    assert read(running) == [("system", "Obey."), ("user", LONG)]


async def test_the_threshold_is_three_quarters_of_the_window_unless_it_is_said(start: Start) -> None:
    scripts = (says(LONG), says("Ada wants words."), says("Short."))
    wanted: Any = [{"type": "compaction"}]
    async with start(*scripts, context_length=1400) as running:
        first = await running.openai.responses.create(model="scripted", input="I am Ada.")
        second = await running.openai.responses.create(
            model="scripted",
            input="Shorter.",
            previous_response_id=first.id,
            context_management=wanted,
            truncation="auto",
        )
    assert [item.type for item in second.output] == ["compaction", "message"]
    async with start(says("Hi")) as running:
        for background in (False, True):
            with pytest.raises(BadRequestError, match="the window of this model is not known") as refused:
                await running.openai.responses.create(
                    model="scripted", input="Hi", context_management=wanted, background=background
                )
            assert refused.value.param == "context_management.0.compact_threshold"


class Narrow(ScriptedInference):
    """Refuses a summary of what is longer than its window."""

    def stream_chat(self, request: Any, caller: Caller) -> Any:
        if len(str(request.messages[-1].content)) > 3000:
            return self._play_error(request)
        return super().stream_chat(request, caller)

    async def _play_error(self, request: Any) -> Any:
        self.requests.append(request)
        raise ContextOverflow("too long")
        yield


async def test_what_has_outgrown_the_models_window_is_summed_up_from_its_ends(start: Start) -> None:
    history: list[Any] = [
        {"role": "user", "content": "I am Ada."},
        {"role": "assistant", "content": f"First. {LONG} Last."},
        {"role": "user", "content": "?"},
    ]
    model = Narrow(says("Ada wants words."), says("Short."))
    async with start(inference=model) as running:
        response = await running.openai.responses.create(model="scripted", input=history, context_management=COMPACTION)
    assert response.output_text == "Short."
    (_, text) = read(running, -2)[1]
    assert text.startswith("User: I am Ada.\n\nAssistant: First. word")
    assert text.endswith("word  Last.")
    assert " [...] " in text


async def test_a_failure_of_the_compaction_is_the_responses(start: Start) -> None:
    async with start(says(LONG), [RateLimited("slow down")], says("")) as running:
        first = await running.openai.responses.create(model="scripted", input="I am Ada.")
        before = await running.rows()
        for status in (429, 502):
            answer = await running.http.post(
                "/v1/responses",
                json={
                    "model": "scripted",
                    "input": "?",
                    "previous_response_id": first.id,
                    "context_management": COMPACTION,
                },
            )
            assert answer.status_code == status, answer.text
        assert await running.rows() == before
    assert "gave no summary" in answer.json()["error"]["message"]
    assert ProviderFailed.status == 502


WRONG: list[tuple[Any, str, str]] = [
    ({"type": "compaction"}, "context_management", "list"),
    (["compaction"], "context_management.0", "dictionary"),
    ([{}], "context_management.0.type", "is required"),
    ([{"type": "truncation"}], "context_management.0.type", "'compaction'"),
    ([{"type": "compaction", "compact_threshold": 999}], "context_management.0.compact_threshold", "1000"),
    ([{"type": "compaction", "compact_threshold": "1000"}], "context_management.0.compact_threshold", "integer"),
    ([{"type": "compaction", "keep": 1}], "context_management.0.keep", "is not a known field"),
    (COMPACTION * 2, "context_management", "at most 1"),
]


async def test_wrong_shapes_are_refused_by_their_place(start: Start) -> None:
    async with start(says("Hi")) as running:
        for value, param, message in WRONG:
            answer = await running.http.post(
                "/v1/responses", json={"model": "scripted", "input": "Hi", "context_management": value}
            )
            error = answer.json()["error"]
            assert (answer.status_code, error["param"]) == (400, param), (value, error)
            assert message in error["message"], (value, error)
        forged: Any = [{"type": "compaction", "encrypted_content": "eyJ2IjoyLCJ0ZXh0IjoiIiwiYWZ0ZXIiOjN9"}]
        with pytest.raises(BadRequestError, match=r"input\.0\.encrypted_content: was not made by this stack"):
            await running.openai.responses.create(model="scripted", input=forged)
        empty: list[Any] = []
        for nothing in (None, empty):
            response = await running.openai.responses.create(model="scripted", input="Hi", context_management=nothing)
            assert response.status == "completed"


async def test_what_is_taken_up_by_the_next_server_is_compacted_again(start: Start) -> None:
    never = asyncio.Event()
    crm = FixedTools(find=lambda: ToolResult(content=LONG))
    scripts = (calls(("find", "{}")), says("Lost."), [TextDelta(text="Half an ans"), never])
    async with start(*scripts, tools={"crm": crm}) as running:
        queued = await running.openai.responses.create(
            model="scripted", input="Find it.", tools=[MCP], background=True, context_management=COMPACTION
        )
        async with asyncio.timeout(60):
            stream = await running.openai.responses.retrieve(queued.id, stream=True)
            async for event in stream:
                if event.type == "response.output_text.delta":
                    break
            await stream.close()
    async with start(says("Found it."), says("Done."), says("Yes."), tools={"crm": crm}) as running:
        watched = await running.openai.responses.retrieve(queued.id, stream=True)
        async with asyncio.timeout(60):
            response = [event async for event in watched][-1].response  # type: ignore[union-attr]
        await running.openai.responses.create(model="scripted", input="Sure?", previous_response_id=queued.id)
    assert [item.type for item in response.output] == ["mcp_list_tools", "mcp_call", "compaction", "message"]
    assert len(crm.calls) == 1
    assert read(running) == [
        ("system", "Summary of the conversation so far:\nFound it."),
        ("user", "Find it."),
        ("assistant", "Done."),
        ("user", "Sure?"),
    ]
