"""Tools the stack runs inside a response: MCP servers, web search, the code interpreter; and custom tools."""

import json
from typing import Any

import pytest
from openai import APIStatusError, BadRequestError

from llama_stack.api.common import Caller
from llama_stack.api.messages import AssistantMessage, ImagePart, TextPart, ToolMessage
from llama_stack.api.tools import NamedToolChoice, ToolDefinition, ToolGroup, ToolResult
from llama_stack.errors import ProviderUnavailable
from llama_stack.testing.scripted import ScriptedInference, calls, says
from tests.responses.conftest import FixedTools, Start, streamed, told

CRM: Any = {"type": "mcp", "server_label": "crm", "require_approval": "never"}


def a_page(query: str) -> ToolResult:
    pages = [
        {"title": "A guide to owls", "url": "https://owls.example/guide"},
        {"title": "Night birds of Europe", "url": "https://birds.example/night"},
    ]
    return ToolResult(content=f"[1] A guide to owls\n[2] Night birds, for {query}", metadata={"sources": pages})


async def test_the_tools_of_an_mcp_server_are_listed_called_and_shown(start: Start) -> None:
    crm = FixedTools(find=lambda name: ToolResult(content=f"{name} is a customer"))
    script = calls(("find", '{"name": "Ada"}'))
    async with start(script, says("Yes."), tools={"crm": crm}) as running:
        events = await streamed(running.openai, input="Is Ada a customer?", tools=[CRM])
        second = await running.openai.responses.create(
            model="scripted", input="Sure?", tools=[CRM], previous_response_id=events[0].response.id
        )
    assert [event.type.removeprefix("response.") for event in events][2:13] == [
        "output_item.added",
        "mcp_list_tools.in_progress",
        "mcp_list_tools.completed",
        "output_item.done",
        "output_item.added",
        "mcp_call.in_progress",
        "mcp_call_arguments.delta",
        "mcp_call_arguments.delta",
        "mcp_call_arguments.done",
        "mcp_call.completed",
        "output_item.done",
    ]
    listing, call, message = events[-1].response.output
    assert [tool.name for tool in listing.tools] == ["find"]
    assert (call.server_label, call.name, call.arguments) == ("crm", "find", '{"name": "Ada"}')
    assert (call.output, call.error, call.status) == ("Ada is a customer", None, "completed")
    assert message.content[0].text == "Yes."
    assert crm.calls == [("find", {"name": "Ada"})]
    # The chain has told of the tools already; the model sees the call and its result in it.
    assert [item.type for item in second.output] == ["message"]
    assert [message.role for message in told(running)] == ["user", "assistant", "tool", "assistant", "user"]


async def test_a_tool_that_fails_is_a_failed_call_and_the_model_goes_on(start: Start) -> None:
    crm = FixedTools(find=lambda: ToolResult(content="no such table", is_error=True))
    async with start(calls(("find", "{}")), says("Sorry."), tools={"crm": crm}) as running:
        events = await streamed(running.openai, input="?", tools=[CRM])
    assert "response.mcp_call.failed" in [event.type for event in events]
    call = events[-1].response.output[1]
    assert (call.status, call.output) == ("failed", None)
    assert call.error.content == [{"type": "text", "text": "no such table"}]


async def test_an_image_that_a_tool_gave_is_told_in_its_output(start: Start) -> None:
    content = [TextPart(text="The plan:"), ImagePart(url="data:image/png;base64,AAAA")]
    crm = FixedTools(find=lambda: ToolResult(content=content))
    async with start(calls(("find", "{}")), says("Nice."), tools={"crm": crm}) as running:
        response = await running.openai.responses.create(model="scripted", input="?", tools=[CRM])
    assert [item.output for item in response.output if item.type == "mcp_call"] == ["The plan:\n[An image.]"]


async def test_a_failure_after_a_tool_has_run_is_no_reason_to_run_it_again(start: Start) -> None:
    crm = FixedTools(find=lambda: ToolResult(content="x"))
    async with start(calls(("find", "{}")), [ProviderUnavailable("gone")], tools={"crm": crm}) as running:
        response = await running.openai.with_options(max_retries=2).responses.create(
            model="scripted", input="?", tools=[CRM]
        )
    assert response.status == "failed"
    assert response.error is not None
    assert response.error.message == "gone"
    assert [item.type for item in response.output] == ["mcp_list_tools", "mcp_call"]
    assert crm.calls == [("find", {})]


async def test_only_the_allowed_tools_are_offered(start: Start) -> None:
    crm = FixedTools(find=lambda: ToolResult(content="x"), drop=lambda: ToolResult(content="gone"))
    async with start(calls(("drop", "{}")), says("No."), tools={"crm": crm}) as running:
        some: Any = {**CRM, "allowed_tools": ["find"]}
        response = await running.openai.responses.create(model="scripted", input="?", tools=[some])
        first = running.inference.requests[0]
    assert [tool.name for tool in first.tools] == ["find"]  # type: ignore[union-attr]
    assert crm.calls == []
    # A tool the model made up is answered inside the loop and not shown.
    assert [item.type for item in response.output] == ["mcp_list_tools", "message"]


async def test_headers_reach_their_server_and_nothing_else(start: Start, tmp_path: Any) -> None:
    server = FixedTools(find=lambda: ToolResult(content="x"))
    async with start(says("Hi"), tools={"crm": server}) as running:
        with pytest.raises(BadRequestError) as refused:
            elsewhere: Any = {**CRM, "server_url": "https://crm.example/mcp", "headers": {"X-Key": "s3cret"}}
            await running.openai.responses.create(model="scripted", input="?", tools=[elsewhere])
        body = (await running.http.get("/v1/responses")).text
    assert "remote::mcp" in str(refused.value)
    assert "s3cret" not in str(refused.value)
    assert "s3cret" not in body
    assert b"s3cret" not in b"".join(file.read_bytes() for file in tmp_path.glob("**/*.db*"))


@pytest.mark.parametrize(
    ("tool", "param", "message"),
    [
        ({"server_label": "nope"}, "tools.0.server_label", "here is no tool group 'nope'"),
        (
            {"server_label": "crm", "server_url": "stdio:///bin/sh"},
            "tools.0.server_url",
            "must be an http or https URL",
        ),
    ],
)
async def test_a_server_that_is_none_is_named_as_the_request_names_it(
    start: Start, tool: Any, param: str, message: str
) -> None:
    tools: Any = [{"type": "mcp", **tool}]
    providers = {"tools": [{"provider_id": "mcp", "provider_type": "remote::mcp"}]}
    async with start(says("Hi"), providers=providers) as running:
        with pytest.raises(APIStatusError) as refused:
            await running.openai.responses.create(model="scripted", input="?", tools=tools)
        assert running.inference.requests == []
    assert (refused.value.status_code, refused.value.param) == (404 if "label" in param else 400, param)
    assert message in refused.value.message
    assert "mcp_endpoint" not in refused.value.message


async def test_a_server_that_cannot_be_reached_has_the_errors_own_status(start: Start) -> None:
    class Away(FixedTools):
        async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
            raise ProviderUnavailable("cannot reach it")

    async with start(says("Hi"), tools={"crm": Away()}) as running:
        for stream in (False, True):
            with pytest.raises(APIStatusError, match="MCP server 'crm': cannot reach it") as failed:
                await running.openai.responses.create(model="scripted", input="?", tools=[CRM], stream=stream)
            assert failed.value.status_code == 503
        rows = await running.rows()
    assert (rows["responses"], rows["sessions"], rows["turns"]) == (0, 0, 0)


async def test_a_web_search_is_shown_and_its_sources_are_cited(start: Start) -> None:
    web = FixedTools(web_search=a_page)
    answer = says("Owls see well [1], says https://birds.example/night too.")
    script = calls(("web_search", '{"query": "owls at night"}'))
    async with start(script, answer, tools={"builtin::websearch": web}) as running:
        events = await streamed(
            running.openai,
            input="Owls?",
            tools=[{"type": "web_search"}],
            include=["web_search_call.action.sources"],
        )
        without = await running.openai.responses.retrieve(events[0].response.id)
    types = [event.type.removeprefix("response.") for event in events]
    assert types[2:7] == [
        "output_item.added",
        "web_search_call.in_progress",
        "web_search_call.searching",
        "web_search_call.completed",
        "output_item.done",
    ]
    assert types.count("output_text.annotation.added") == 2
    search, message = events[-1].response.output
    assert search.action.query == "owls at night"
    assert [source.url for source in search.action.sources] == [
        "https://owls.example/guide",
        "https://birds.example/night",
    ]
    text = message.content[0].text
    cited = [(text[note.start_index : note.end_index], note.url, note.title) for note in message.content[0].annotations]
    assert cited == [
        ("[1]", "https://owls.example/guide", "A guide to owls"),
        ("https://birds.example/night", "https://birds.example/night", "Night birds of Europe"),
    ]
    assert without.output == events[-1].response.output


async def test_code_is_shown_as_it_is_written_and_its_outputs_when_asked_for(start: Start) -> None:
    def run(code: str) -> ToolResult:
        image = ImagePart(url="data:image/png;base64,AA==")
        return ToolResult(content=[TextPart(text="4\n"), image])

    code = FixedTools(code_interpreter=run)
    script = calls(("code_interpreter", json.dumps({"code": 'print("2" + "2")\nprint(2 + 2)'})))
    async with start(script, says("4"), tools={"builtin::code_interpreter": code}) as running:
        asked: Any = {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}], "input": "2+2?"}
        events = await streamed(running.openai, **asked)
        response_id = events[0].response.id
        outputs = await running.openai.responses.retrieve(response_id, include=["code_interpreter_call.outputs"])
    deltas = [event.delta for event in events if event.type == "response.code_interpreter_call_code.delta"]
    assert len(deltas) == 2
    assert "".join(deltas) == 'print("2" + "2")\nprint(2 + 2)'
    types = [event.type.removeprefix("response.") for event in events]
    assert types[2:10] == [
        "output_item.added",
        "code_interpreter_call.in_progress",
        "code_interpreter_call_code.delta",
        "code_interpreter_call_code.delta",
        "code_interpreter_call_code.done",
        "code_interpreter_call.interpreting",
        "code_interpreter_call.completed",
        "output_item.done",
    ]
    assert events[-1].response.output[0].outputs is None
    shown: Any = outputs.output[0]
    assert [output.type for output in shown.outputs] == ["logs", "image"]
    assert shown.outputs[0].logs == "4\n"
    assert shown.container_id.startswith("cntr_")


async def test_a_custom_tool_takes_plain_text(start: Start) -> None:
    script = calls(("sql", json.dumps({"input": "select 1 from animals"})))
    async with start(script, says("One.")) as running:
        events = await streamed(running.openai, input="?", tools=[{"type": "custom", "name": "sql"}])
        second = await running.openai.responses.create(
            model="scripted",
            previous_response_id=events[0].response.id,
            tools=[{"type": "custom", "name": "sql"}],
            input=[{"type": "custom_tool_call_output", "call_id": "call_0", "output": "1"}],
        )
    types = [event.type.removeprefix("response.") for event in events]
    assert types[2:7] == [
        "output_item.added",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.done",
        "output_item.done",
    ]
    assert events[-1].response.output[0].input == "select 1 from animals"
    assert second.output_text == "One."
    asked, answered = told(running)[1:]
    assert isinstance(asked, AssistantMessage)
    assert isinstance(answered, ToolMessage)
    assert answered.content == "1"


async def test_a_hosted_tool_this_stack_has_not_is_refused_by_name(start: Start) -> None:
    async with start(says("Hi")) as running:
        with pytest.raises(BadRequestError, match="no web_search; add a tool group 'builtin::websearch'"):
            await running.openai.responses.create(model="scripted", input="?", tools=[{"type": "web_search"}])


async def test_the_loop_ends_and_says_why(start: Start) -> None:
    crm = FixedTools(find=lambda: ToolResult(content="again"))
    script = ScriptedInference(calls(("find", "{}")))
    async with start(inference=script, tools={"crm": crm}) as running:
        response = await running.openai.responses.create(
            model="scripted", input="?", tools=[CRM], extra_body={"max_infer_iters": 3}
        )
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_messages"
    assert response.output_text.startswith("I had to stop")
    assert [item.type for item in response.output].count("mcp_call") == 2


async def test_a_choice_among_tools_reaches_the_model_by_their_names(start: Start) -> None:
    crm = FixedTools(find=lambda: ToolResult(content="x"), drop=lambda: ToolResult(content="x"))
    web = FixedTools(web_search=a_page)
    mine: Any = {"type": "function", "name": "mine", "parameters": None, "strict": False}
    choices: list[tuple[Any, Any]] = [
        ("auto", "auto"),
        ("none", "none"),
        ({"type": "function", "name": "mine"}, NamedToolChoice(names=["mine"])),
        ({"type": "mcp", "server_label": "crm"}, NamedToolChoice(names=["find", "drop"])),
        ({"type": "mcp", "server_label": "crm", "name": "drop"}, NamedToolChoice(names=["drop"])),
        ({"type": "web_search_preview"}, NamedToolChoice(names=["web_search"])),
        (
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "mine"}, {"type": "mcp", "server_label": "crm"}],
            },
            NamedToolChoice(names=["mine", "find", "drop"], mode="auto"),
        ),
    ]
    groups = {"crm": crm, "builtin::websearch": web}
    for choice, wanted in choices:
        # The model makes a call that the choice allows; the group's tools are then run until it has said enough.
        called = wanted.names[0] if isinstance(wanted, NamedToolChoice) else "mine"
        arguments = '{"query": "owls"}' if called == "web_search" else "{}"
        async with start(calls((called, arguments)), says("Done."), tools=groups) as running:
            await running.openai.responses.create(
                model="scripted", input="?", tools=[CRM, {"type": "web_search"}, mine], tool_choice=choice, store=False
            )
            assert running.inference.requests[0].tool_choice == wanted  # type: ignore[union-attr]


async def test_only_so_many_calls_are_made(start: Start) -> None:
    crm = FixedTools(find=lambda: ToolResult(content="again"))
    async with start(calls(("find", "{}")), says("Once is enough."), tools={"crm": crm}) as running:
        response = await running.openai.responses.create(model="scripted", input="?", tools=[CRM], max_tool_calls=1)
        last = running.inference.requests[-1]
    assert (response.status, response.output_text) == ("completed", "Once is enough.")
    assert last.tool_choice == "none"  # type: ignore[union-attr]
    assert len(crm.calls) == 1


async def test_code_finds_the_files_it_is_given_and_the_model_is_told_of_them(start: Start) -> None:
    code = FixedTools(code_interpreter=lambda code, files: ToolResult(content="completed\n[stdout]3[/stdout]"))
    script = calls(("code_interpreter", '{"code": "1 + 2"}'))
    async with start(script, says("Three."), tools={"builtin::code_interpreter": code}) as running:
        sales, other = [
            await running.openai.files.create(file=(name, b"a,b\n1,2\n"), purpose="user_data")
            for name in ("sales.csv", "other/sales.csv")
        ]
        asked: Any = {"model": "scripted", "input": "Sum?", "instructions": "Be brief."}

        def tool(*file_ids: str) -> Any:
            return [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": file_ids}}]

        response = await running.openai.responses.create(tools=tool(sales.id), **asked)
        for file_ids, status, message in (
            (["file-0"], 404, "tools.0.container.file_ids.0: there is no file"),
            ([sales.id, other.id], 400, "both named 'sales.csv'"),
        ):
            for background in (False, True):
                with pytest.raises(APIStatusError, match=message) as refused:
                    await running.openai.responses.create(tools=tool(*file_ids), background=background, **asked)
                assert refused.value.status_code == status
    assert response.output_text == "Three."
    ((_, arguments),) = code.calls
    assert arguments["files"] == {"sales.csv": "data:text/csv;base64,YSxiCjEsMgo="}
    instructions = told(running)[0].content
    assert instructions.startswith("Be brief.\n\n")
    assert "sales.csv (8 bytes)" in instructions
