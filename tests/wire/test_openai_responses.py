"""The Responses dialect on its own: citations, items as a conversation, what is held back, what is shown."""

from typing import Any

import pytest

from llama_stack.agents.loop import run_turn
from llama_stack.agents.setup import AgentSetup
from llama_stack.agents.tools import Toolbox, tool_from_schema
from llama_stack.api.agents import AgentConfig, StepCompleted
from llama_stack.api.common import Caller
from llama_stack.api.inference import JsonSchemaFormat, ReasoningDelta
from llama_stack.api.messages import UserMessage, text_of
from llama_stack.api.tools import ToolDefinition, ToolResult
from llama_stack.errors import InvalidRequest
from llama_stack.testing.scripted import ScriptedInference, calls, says
from llama_stack.wire.openai_responses.citations import url_citations
from llama_stack.wire.openai_responses.items import read_items, shown
from llama_stack.wire.openai_responses.manner import KnownTool, Manner
from llama_stack.wire.openai_responses.objects import new_response
from llama_stack.wire.openai_responses.request import decode_response_request
from llama_stack.wire.openai_responses.stream import ResponseEncoder, replayed
from llama_stack.wire.openai_responses.telling import tell

OWLS = {"title": "A guide to owls", "url": "https://owls.example/guide"}
BATS = {"title": "Bats", "url": "https://bats.example"}
DEEPER = {"title": "More of bats", "url": "https://bats.example/more"}


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("Owls see [1].", [("[1]", OWLS)]),
        ("Read A guide to owls for more.", [("A guide to owls", OWLS)]),
        ("See https://bats.example/more.", [("https://bats.example/more", DEEPER)]),
        ("[1][2], then [9] and [a].", [("[1]", OWLS), ("[2]", BATS)]),
        ("Bats is too short a title to mean the page.", []),
        ("A broken marker [1 cites nothing.", []),
        ("", []),
    ],
)
def test_sources_are_cited_where_the_text_names_them(text: str, cited: list[tuple[str, Any]]) -> None:
    found = url_citations(text, [[OWLS, BATS, DEEPER]])
    assert [(text[one["start_index"] : one["end_index"]], one["url"]) for one in found] == [
        (words, source["url"]) for words, source in cited
    ]


def test_a_number_means_the_latest_search_that_had_so_many() -> None:
    found = url_citations("[1] [2]", [[OWLS, BATS], [DEEPER]])
    assert [one["url"] for one in found] == [DEEPER["url"], BATS["url"]]


def test_flat_items_become_answers_with_their_calls_and_outputs() -> None:
    told = tell(
        read_items(
            [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
                {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
                {"role": "assistant", "content": "Let me see."},
                {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
                {"type": "function_call", "call_id": "b", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "b", "output": "2"},
                {"type": "function_call_output", "call_id": "a", "output": [{"type": "input_text", "text": "1"}]},
                {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "a", "output": "3"},
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
                {"role": "user", "content": "Why?"},
            ]
        )
    )
    assert [(one.role, text_of(one.content)) for one in told.messages] == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Let me see."),
        ("tool", "1"),
        ("tool", "2"),
        ("assistant", ""),
        ("tool", "3"),
        ("assistant", ""),
        ("user", "Why?"),
    ]
    answer: Any = told.messages[2]
    assert (answer.reasoning, [call.id for call in answer.tool_calls]) == ("hm", ["a", "b"])
    refusing: Any = told.messages[7]
    assert refusing.refusal == "No."


def test_a_sealed_text_of_somebody_else_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"input\.0\.encrypted_content: was not made by this stack"):
        tell(read_items([{"type": "compaction", "encrypted_content": "gAAAA"}]))


def test_our_own_keys_are_never_shown() -> None:
    item = {"id": "ws_1", "type": "web_search_call", "action": {"type": "search", "sources": [1]}, "_output": "secret"}
    assert shown(item) == {"id": "ws_1", "type": "web_search_call", "action": {"type": "search"}}
    assert shown(item, ["web_search_call.action.sources"])["action"]["sources"] == [1]


def encoder(**manner: Any) -> ResponseEncoder:
    request, _ = decode_response_request({"model": "m", "input": "?"})
    return ResponseEncoder(new_response(request, "resp_1", 0, "in_progress"), Manner(**manner))


async def test_a_stored_turn_encoded_again_gives_the_same_items() -> None:
    async def search(arguments: Any) -> ToolResult:
        return ToolResult(content="[1]", metadata={"sources": [OWLS]})

    scripts = ([ReasoningDelta(text="hm"), *calls(("web_search", '{"query": "owls"}'))], says("As ", "[1] says."))
    toolbox = Toolbox([tool_from_schema(ToolDefinition(name="web_search"), search)])
    setup = AgentSetup(ScriptedInference(*scripts), AgentConfig(model="m"), Caller(owner="o"), toolbox)
    live, again = (encoder(tools={"web_search": KnownTool("web_search")}) for _ in range(2))
    steps = []
    async for event in run_turn(setup, [], [UserMessage(content="?")]):
        live.feed(event)
        if isinstance(event, StepCompleted):
            steps.append(event.step)
    for event in replayed(steps):
        again.feed(event)
    assert len(live.response["output"]) == 3
    assert again.response["output"] == live.response["output"]


async def test_a_draft_before_the_answer_in_its_form_is_not_told() -> None:
    wanted = JsonSchemaFormat(json_schema={"type": "object", "properties": {"a": {"type": "integer"}}})
    toolbox = Toolbox([tool_from_schema(ToolDefinition(name="f"))])
    scripts = (says("It is one."), says('{"a": 1}'))
    config = AgentConfig(model="m", response_format=wanted)
    setup = AgentSetup(ScriptedInference(*scripts), config, Caller(owner="o"), toolbox)
    live = encoder()
    async for event in run_turn(setup, [], [UserMessage(content="?")]):
        live.feed(event)
    (message,) = live.response["output"]
    assert message["content"][0]["text"] == '{"a": 1}'
