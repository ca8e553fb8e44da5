"""The classic inference API, as the unmodified client sees it."""

import asyncio
import math
from typing import Any

import pytest
from llama_stack_client import BadRequestError, InferenceEventLogger, InternalServerError, NotFoundError, RateLimitError

from llama_stack.api.inference import (
    Capabilities,
    ChatEnd,
    ChatRequest,
    ChoiceEnd,
    CompletionRequest,
    EmbeddingRequest,
    GrammarFormat,
    JsonSchemaFormat,
    ReasoningDelta,
    Sampling,
    TextDelta,
    TokenLogprob,
)
from llama_stack.api.messages import (
    AssistantMessage,
    ImagePart,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from llama_stack.api.tools import NamedToolChoice, ToolDefinition
from llama_stack.errors import ProviderFailed, RateLimited
from llama_stack.testing.scripted import ScriptedInference, calls, says
from tests.classic.conftest import Running, Start, frames_of

NO_SCHEMA = {"type": "json_schema", "json_schema": {"type": 1}}
HELLO: Any = [{"role": "user", "content": "hello"}]
METRICS = [("prompt_tokens", 3.0), ("completion_tokens", 5.0), ("total_tokens", 8.0)]


def asked(server: Running) -> ChatRequest:
    request = server.inference.requests[-1]
    assert isinstance(request, ChatRequest)
    return request


async def test_a_whole_answer(start: Start) -> None:
    async with start(says("Hi", " there")) as server:
        answer = await server.client.inference.chat_completion(model_id="scripted", messages=HELLO)
    assert answer.completion_message.content == "Hi there"
    assert answer.completion_message.stop_reason == "end_of_turn"
    assert answer.completion_message.tool_calls == []
    assert [(metric.metric, metric.value) for metric in answer.metrics or ()] == METRICS
    assert asked(server) == ChatRequest(
        model="scripted", messages=[UserMessage(content="hello")], sampling=Sampling(temperature=0), whole=True
    )


async def test_a_streamed_answer_frame_by_frame(start: Start) -> None:
    body = {"model_id": "scripted", "messages": HELLO, "stream": True}
    async with start(says("Hi", " there", finish_reason="length")) as server:
        response = await server.http.post("/v1/inference/chat-completion", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")

    def event(kind: str, text: str, stop_reason: str | None = None) -> dict[str, Any]:
        delta = {"type": "text", "text": text}
        return {"event_type": kind, "delta": delta, "logprobs": None, "stop_reason": stop_reason}

    metrics = [{"metric": name, "value": int(value), "unit": "tokens"} for name, value in METRICS]
    assert frames_of(response.content) == [
        {"event": event("start", ""), "metrics": None},
        {"event": event("progress", "Hi"), "metrics": None},
        {"event": event("progress", " there"), "metrics": None},
        {"event": event("complete", "", "out_of_tokens"), "metrics": metrics},
    ]


async def test_the_event_logger_reads_any_stream(start: Start) -> None:
    """It reads `text` off every delta, which fails on one that has none."""
    script = [ReasoningDelta(text="hm"), TextDelta(text="so"), *calls(("add", '{"x": 1}'))]
    async with start(script) as server:

        def read() -> list[str]:
            stream = server.sync.inference.chat_completion(model_id="scripted", messages=HELLO, stream=True)
            return [printed.content for printed in InferenceEventLogger().log(stream)]

        printed = await asyncio.to_thread(read)
    assert printed == ["Assistant> ", "<thinking> ", "hm", "</thinking>", "so", "", "", "", "", ""]


async def test_tool_calls_whole_and_streamed(start: Start) -> None:
    tools: Any = [
        {
            "tool_name": "add",
            "description": "Adds",
            "parameters": {
                "x": {"param_type": "int", "description": "one", "required": True},
                "y": {"param_type": "list[float]", "default": [1]},
                "z": {"param_type": "Whatever", "required": False},
            },
        },
        {"tool_name": "now", "parameters": None},
    ]
    script = calls(("add", '{"x": 2}'), ("now", ""))
    async with start(script, script) as server:
        answer = await server.client.inference.chat_completion(
            model_id="scripted", messages=HELLO, tools=tools, tool_config={"tool_choice": "add"}
        )
        stream = await server.client.inference.chat_completion(
            model_id="scripted", messages=HELLO, tools=tools, stream=True
        )
        deltas: list[Any] = [chunk.event.delta async for chunk in stream]
    first, second = answer.completion_message.tool_calls or []
    assert (first.call_id, first.tool_name, first.arguments, first.arguments_json) == (
        "call_0",
        "add",
        {"x": 2.0},
        '{"x": 2}',
    )
    assert (second.arguments, second.arguments_json) == ({}, "{}")
    assert answer.completion_message.content == ""
    assert answer.completion_message.stop_reason == "end_of_message"

    statuses = [(delta.parse_status, delta.tool_call) for delta in deltas if delta.type == "tool_call"]
    assert [status for status, _ in statuses] == [
        *("started", "in_progress", "in_progress"),
        *("started", "in_progress", "in_progress"),
        *("succeeded", "succeeded"),
    ]
    assert statuses[1][1] + statuses[2][1] == '{"x": 2}'
    assert (statuses[6][1].tool_name, statuses[6][1].arguments_json) == ("add", '{"x": 2}')

    whole = server.inference.requests[0]
    assert isinstance(whole, ChatRequest)
    assert whole.tool_choice == NamedToolChoice(names=["add"])
    assert whole.tools == [
        ToolDefinition(
            name="add",
            description="Adds",
            parameters={
                "type": "object",
                "properties": {
                    "x": {"type": "integer", "description": "one"},
                    "y": {"type": "array", "items": {"type": "number"}, "default": [1]},
                    "z": {},
                },
                "required": ["x", "y"],
            },
        ),
        ToolDefinition(name="now"),
    ]


async def test_arguments_that_are_no_json_fail_to_parse(start: Start) -> None:
    async with start(calls(("add", '{"x": '))) as server:
        stream = await server.client.inference.chat_completion(model_id="scripted", messages=HELLO, stream=True)
        deltas: list[Any] = [chunk.event.delta async for chunk in stream]
    assert [(delta.parse_status, delta.tool_call) for delta in deltas if delta.type == "tool_call"][-1] == (
        "failed",
        '{"x": ',
    )


async def test_a_conversation_with_everything_in_it(start: Start) -> None:
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "image", "image": {"url": {"uri": "https://example.com/a.png"}}},
                {"type": "text", "text": "what?"},
            ],
        },
        {
            "role": "assistant",
            "content": "",
            "stop_reason": "end_of_message",
            "tool_calls": [{"call_id": "c1", "tool_name": "look", "arguments": {"at": "it"}}],
        },
        {"role": "tool", "call_id": "c1", "content": [{"type": "text", "text": "a cat"}]},
    ]
    async with start() as server:
        await server.client.inference.chat_completion(model_id="scripted", messages=messages)
    assert asked(server).messages[:2] == [
        SystemMessage(content="Be brief."),
        UserMessage(content=[ImagePart(url="https://example.com/a.png"), TextPart(text="what?")]),
    ]
    assert asked(server).messages[2:] == [
        AssistantMessage(tool_calls=[ToolCall(id="c1", name="look", arguments='{"at":"it"}')]),
        ToolMessage(tool_call_id="c1", content=[TextPart(text="a cat")]),
    ]


@pytest.mark.parametrize(
    ("params", "sampling"),
    [
        (None, Sampling(temperature=0)),
        ({"strategy": {"type": "greedy"}, "max_tokens": 0, "repetition_penalty": 1.0}, Sampling(temperature=0)),
        (
            {"strategy": {"type": "top_p", "temperature": 0.5, "top_p": 0.9}, "max_tokens": 7, "stop": ["."]},
            Sampling(temperature=0.5, top_p=0.9, max_tokens=7, stop=["."]),
        ),
        (
            {"strategy": {"type": "top_k", "top_k": 3}, "repetition_penalty": 1.2},
            Sampling(top_k=3, repetition_penalty=1.2),
        ),
        ({"strategy": None, "max_tokens": None, "stop": None, "stray": 1}, Sampling(temperature=0)),
    ],
)
async def test_sampling(start: Start, params: Any, sampling: Sampling) -> None:
    async with start() as server:
        await server.client.inference.chat_completion(model_id="scripted", messages=HELLO, sampling_params=params)
    assert asked(server).sampling == sampling


async def test_response_formats(start: Start) -> None:
    schema: Any = {"type": "object", "properties": {"x": {"type": "integer"}}}
    async with start() as server:
        for wanted in (
            {"type": "json_schema", "json_schema": schema},
            {"type": "grammar", "bnf": {"grammar": 'root ::= "x"'}},
        ):
            await server.client.inference.chat_completion(
                model_id="scripted",
                messages=HELLO,
                response_format=wanted,
            )
        with pytest.raises(BadRequestError, match=r"response_format\.bnf"):
            await server.client.inference.chat_completion(
                model_id="scripted", messages=HELLO, response_format={"type": "grammar", "bnf": {"a": "b"}}
            )
    requests = [request for request in server.inference.requests if isinstance(request, ChatRequest)]
    assert [request.response_format for request in requests] == [
        JsonSchemaFormat(json_schema=schema),
        GrammarFormat(grammar='root ::= "x"'),
    ]


async def test_log_probabilities(start: Start) -> None:
    token = TokenLogprob(token="a", logprob=-0.5, top=[TokenLogprob(token="b", logprob=-math.inf)])
    script = [TextDelta(text="a", logprobs=[token]), ChoiceEnd(finish_reason="stop"), ChatEnd()]
    async with start(script, script) as server:
        answer = await server.client.inference.chat_completion(
            model_id="scripted", messages=HELLO, logprobs={"top_k": 2}
        )
        stream = await server.client.inference.chat_completion(
            model_id="scripted", messages=HELLO, logprobs={"top_k": 2}, stream=True
        )
        events = [chunk.event async for chunk in stream]
    assert answer.metrics is None
    for logprobs in (answer.logprobs, events[1].logprobs):
        assert [position.logprobs_by_token for position in logprobs or ()] == [{"a": -0.5, "b": -9999.0}]
    assert (asked(server).logprobs, asked(server).top_logprobs) == (True, 2)


async def test_a_replaced_system_prompt_says_itself_where_tools_are(start: Start) -> None:
    tools: Any = [{"tool_name": "now", "description": "The time"}]
    replace: Any = {"system_message_behavior": "replace"}
    async with start() as server:
        for text in ("No tools.", "Call one of: {{function_definitions}}"):
            await server.client.inference.chat_completion(
                model_id="scripted",
                messages=[{"role": "system", "content": text}, *HELLO],
                tools=tools,
                tool_config=replace,
            )
    without, filled = [request for request in server.inference.requests if isinstance(request, ChatRequest)]
    assert without.tools == []
    assert [tool.name for tool in filled.tools] == ["now"]
    assert filled.messages[0] == SystemMessage(
        content='Call one of: {"name":"now","description":"The time","parameters":null}'
    )


async def test_completions(start: Start) -> None:
    async with start(says("a", "b"), says("a", "b"), says("c")) as server:
        content: Any = [{"type": "text", "text": "once "}, {"type": "text", "text": "upon"}]
        answer = await server.client.inference.completion(model_id="scripted", content=content, logprobs={"top_k": 1})
        stream = await server.client.inference.completion(model_id="scripted", content="once", stream=True)
        pieces: list[Any] = [chunk async for chunk in stream]
    assert (answer.content, answer.stop_reason) == ("ab", "end_of_turn")
    assert [piece.delta for piece in pieces] == ["a", "b", ""]
    assert [piece.stop_reason for piece in pieces] == [None, None, "end_of_turn"]
    assert server.inference.requests[0] == CompletionRequest(
        model="scripted", prompt="once upon", logprobs=1, sampling=Sampling(temperature=0), whole=True
    )


async def test_embeddings(start: Start) -> None:
    async with start() as server:
        plain = await server.client.inference.embeddings(model_id="e", contents=["abc", "d"])
        items = await server.client.inference.embeddings(
            model_id="e",
            contents=[{"type": "text", "text": "ab"}],
            text_truncation="end",
            output_dimension=2,
            task_type="query",
        )
        with pytest.raises(BadRequestError, match=r"contents\.0: only text"):
            await server.client.inference.embeddings(
                model_id="e", contents=[{"type": "image", "image": {"url": {"uri": "https://example.com/a.png"}}}]
            )
    assert plain.embeddings == [[3.0, 0.5], [1.0, 0.5]]
    assert items.embeddings == [[2.0, 0.5]]
    assert server.inference.requests[1] == EmbeddingRequest(
        model="e", inputs=["ab"], dimensions=2, truncate="end", task="query"
    )


async def test_batches_keep_their_order(start: Start) -> None:
    async with start(says("a"), says("b"), says("c"), says("d")) as server:
        chats = await server.client.inference.batch_chat_completion(model_id="scripted", messages_batch=[HELLO, HELLO])
        texts = await server.client.inference.batch_completion(model_id="scripted", content_batch=["x", "y"])
    batch: Any = chats.batch
    assert [answer.completion_message.content for answer in batch] == ["a", "b"]
    assert [answer.content for answer in texts.batch] == ["c", "d"]


async def test_errors_come_as_the_clients_own(start: Start) -> None:
    limited = RateLimited("slow down", retry_after_s=3)
    async with start([ProviderFailed("broken")], [limited], [ProviderFailed("no such", upstream_status=404)]) as server:
        chat = server.client.inference.chat_completion
        with pytest.raises(InternalServerError, match="broken"):
            await chat(model_id="scripted", messages=HELLO)
        with pytest.raises(RateLimitError) as slow:
            await chat(model_id="scripted", messages=HELLO, stream=True)
        with pytest.raises(NotFoundError, match="no such"):
            await chat(model_id="scripted", messages=HELLO)
        with pytest.raises(BadRequestError) as bad:
            await chat(model_id="scripted", messages=[{"role": "user", "content": 1}])
    assert slow.value.response.headers["retry-after"] == "3"
    body: Any = bad.value.body
    assert body["error"]["param"] == "messages.0.content"
    assert body["detail"] == body["error"]["message"]


async def test_a_form_of_prompts_has_no_meaning_where_the_provider_writes_them_itself(start: Start) -> None:
    writes_itself = ScriptedInference(says("hi"), capabilities=Capabilities())
    async with start(inference=writes_itself) as server:
        asked: Any = {"model_id": "scripted", "tool_prompt_format": "json"}
        await server.client.inference.chat_completion(messages=HELLO, **asked)
        del asked["tool_prompt_format"]
        await server.client.inference.batch_chat_completion(
            messages_batch=[HELLO], tool_config={"tool_prompt_format": "json"}, **asked
        )
    assert [request.tool_prompt_format for request in writes_itself.requests] == [None, None]  # type: ignore[union-attr]


async def test_errors_name_fields_as_the_classic_bodies_do(start_agents: Start) -> None:
    async with start_agents() as server:
        params = []
        for path, body in (
            ("chat-completion", {"messages": HELLO, "stream": True}),
            ("completion", {"content": "x"}),
            ("batch-completion", {"content_batch": ["x"]}),
            ("embeddings", {"contents": ["x"]}),
        ):
            answer = await server.http.post(f"/v1/inference/{path}", json={"model_id": "nope", **body})
            assert answer.status_code == 404
            params.append(answer.json()["error"]["param"])
    assert params == ["model_id"] * 4


async def test_a_stream_that_fails_ends_with_one_error_frame(start: Start) -> None:
    async with start([TextDelta(text="a"), ProviderFailed("broken")]) as server:
        stream = await server.client.inference.chat_completion(model_id="scripted", messages=HELLO, stream=True)
        chunks: list[Any] = [chunk async for chunk in stream]
        body = {"model_id": "scripted", "messages": HELLO, "stream": True}
        response = await server.http.post("/v1/inference/chat-completion", json=body)
    assert chunks[-1].error["message"] == "broken"
    assert frames_of(response.content)[-1]["error"]["message"] == "broken"
    assert len([frame for frame in frames_of(response.content) if "error" in frame]) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "the body must be a JSON object"),
        ({"messages": HELLO}, "model_id: is required"),
        ({"model_id": "m", "messages": []}, "messages"),
        ({"model_id": "m", "messages": [{"role": "robot", "content": ""}]}, "messages.0.role: must be one of"),
        (
            {"model_id": "m", "messages": HELLO, "tool_choice": "none", "tool_config": {"tool_choice": "auto"}},
            "tool_choice: differs from tool_config.tool_choice",
        ),
        (
            {"model_id": "m", "messages": HELLO, "tool_config": {"tool_choice": "nope"}},
            "'nope' is neither auto, required, none nor one of the tools sent",
        ),
        (
            {"model_id": "m", "messages": HELLO, "sampling_params": {"repetition_penalty": -1}},
            "sampling_params.repetition_penalty",
        ),
        (
            {
                "model_id": "m",
                "messages": HELLO,
                "response_format": {"type": "json_schema", "json_schema": {"type": 1}},
            },
            "response_format.json_schema",
        ),
    ],
)
async def test_bad_requests_name_the_field(start: Start, body: Any, message: str) -> None:
    async with start() as server:
        response = await server.http.post("/v1/inference/chat-completion", json=body)
    assert response.status_code == 400
    answer = response.json()
    assert message in f"{answer['error']['param']} {answer['error']['message']}"


async def test_keys_of_the_callers_own_reach_the_provider(start: Start) -> None:
    async with start() as server:
        client = server.client.with_options(
            default_headers={"X-LlamaStack-Provider-Data": '{"together_api_key": "mine"}'}
        )
        await client.inference.chat_completion(model_id="scripted", messages=HELLO)
    assert server.inference.callers[-1].provider_credentials == {"together_api_key": "mine"}
