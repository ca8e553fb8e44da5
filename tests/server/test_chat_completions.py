"""Chat completions through a real socket, read by an unmodified OpenAI client."""

import asyncio
from typing import Any

import orjson
import pytest
from openai import AsyncOpenAI, OpenAIError
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion

from llama_stack.api.inference import (
    ChatEnd,
    ChatRequest,
    ChoiceEnd,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    Usage,
)
from llama_stack.api.messages import UserMessage
from llama_stack.testing.scripted import USAGE, Script, Step, calls, says
from tests.server.conftest import Start

HELLO: Any = [{"role": "user", "content": "hello"}]
TOOLS: Any = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]


async def whole_and_rebuilt(client: AsyncOpenAI, **fields: Any) -> tuple[ChatCompletion, ChatCompletion]:
    """The same answer asked for whole, and streamed and put together by OpenAI's own stream helper."""
    whole = await client.chat.completions.create(model="scripted", messages=HELLO, **fields)
    state: ChatCompletionStreamState[Any] = ChatCompletionStreamState()
    stream = await client.chat.completions.create(
        model="scripted", messages=HELLO, stream=True, stream_options={"include_usage": True}, **fields
    )
    async for chunk in stream:
        state.handle_chunk(chunk)
    return whole, state.current_completion_snapshot


def said(completion: ChatCompletion) -> dict[str, Any]:
    """Everything in the body but its identity, and what the helper adds of its own."""
    body = completion.model_dump(exclude_none=True, exclude={"id", "created", "object"})
    for choice in body["choices"]:
        choice["message"].pop("parsed", None)
        for call in choice["message"].get("tool_calls", ()):
            call.pop("index", None)
            call["function"].pop("parsed_arguments", None)
    return body


LOGPROB = TokenLogprob(token="Hi", logprob=-0.5, bytes=[72, 105], top=[TokenLogprob(token="Ho", logprob=-1.5)])


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(says("Hello", " ", "world"), id="text"),
        pytest.param(says("Hel", finish_reason="length"), id="length"),
        pytest.param([ChoiceEnd(finish_reason="stop"), ChatEnd(usage=USAGE)], id="nothing said"),
        pytest.param(calls(("f", '{"a": 1}')), id="one call"),
        pytest.param(calls(("f", "{}"), ("f", '{"a": [1, 2]}')), id="two calls"),
        pytest.param(calls(("f", '{"x": "é"}'), ("g", "{}"), ("f", '{"y": null}')), id="three calls"),
        pytest.param([TextDelta(text="I will."), *calls(("f", "{}"))], id="text and a call"),
        pytest.param(
            [ReasoningDelta(text="h"), ReasoningDelta(text="m"), *says("yes")],
            id="reasoning",
        ),
        pytest.param([ReasoningDelta(text="hm"), *calls(("f", "{}"))], id="reasoning and a call"),
        pytest.param([ReasoningDelta(text="hm"), *says()], id="reasoning alone"),
        pytest.param(
            [RefusalDelta(text="No"), RefusalDelta(text="."), ChoiceEnd(finish_reason="stop"), ChatEnd(usage=USAGE)],
            id="refusal",
        ),
        pytest.param(
            [TextDelta(text="Hi", logprobs=[LOGPROB]), TextDelta(text="!", logprobs=[]), *says()], id="logprobs"
        ),
        pytest.param(
            [
                TextDelta(text="a", choice=1),
                TextDelta(text="b", choice=0),
                TextDelta(text="c", choice=1),
                ChoiceEnd(finish_reason="stop", choice=0),
                ChoiceEnd(finish_reason="length", choice=1),
                ChatEnd(usage=USAGE),
            ],
            id="two choices",
        ),
        pytest.param(
            [
                TextDelta(text="a"),
                ChoiceEnd(finish_reason="stop", stop_sequence="END"),
                ChatEnd(
                    usage=Usage(input_tokens=1, output_tokens=2, cached_input_tokens=1, reasoning_tokens=0),
                    extra={"timings": {"ms": 1}},
                ),
            ],
            id="stop sequence, usage details and a partner's fields",
        ),
    ],
)
async def test_the_stream_rebuilds_the_whole_body(start: Start, script: Script) -> None:
    async with start(script) as server:
        whole, rebuilt = await whole_and_rebuilt(server.openai)
    whole_body, rebuilt_body = said(whole), said(rebuilt)
    # OpenAI's helper drops fields it does not know from all chunks but the first.
    whole_body.pop("timings", None)
    whole_body["choices"][0].pop("stop_reason", None)
    assert rebuilt_body == whole_body


async def test_the_whole_body_is_openais_shape(start: Start) -> None:
    async with start(calls(("f", '{"a": 1}'))) as server:
        response = await server.http.post("/v1/chat/completions", json={"model": "scripted", "messages": HELLO})
    body = response.json()
    assert response.headers["content-type"] == "application/json"
    assert body.pop("id").startswith("chatcmpl-")
    assert isinstance(body.pop("created"), int)
    assert body == {
        "object": "chat.completion",
        "model": "scripted",
        "system_fingerprint": None,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": None,
                    "refusal": None,
                    "tool_calls": [
                        {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
    }


async def frames_of(server: Any, **fields: Any) -> list[Any]:
    """The `data` of each frame, parsed; the bytes hold nothing but frames."""
    body = {"model": "scripted", "messages": HELLO, "stream": True, **fields}
    response = await server.http.post("/v1/chat/completions", json=body)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    frames = response.content.split(b"\n\n")
    assert frames.pop() == b""
    assert all(frame.startswith(b"data: ") for frame in frames)
    return [frame[6:].decode() if frame == b"data: [DONE]" else orjson.loads(frame[6:]) for frame in frames]


async def test_the_frames_of_a_stream_are_openais(start: Start) -> None:
    async with start(says("He", "llo")) as server:
        frames = await frames_of(server, stream_options={"include_usage": True})
    assert frames.pop() == "[DONE]"
    head = {key: frames[0][key] for key in ("id", "object", "created", "model", "system_fingerprint")}
    assert head["object"] == "chat.completion.chunk"

    def chunk(delta: Any, finish_reason: str | None = None) -> Any:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**head, "choices": [choice], "usage": None}

    assert frames == [
        chunk({"role": "assistant", "content": "", "refusal": None}),
        chunk({"content": "He"}),
        chunk({"content": "llo"}),
        chunk({}, "stop"),
        {**head, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}},
    ]


async def test_without_include_usage_there_is_no_usage_at_all(start: Start) -> None:
    async with start(says("Hi")) as server:
        frames = await frames_of(server)
    assert frames.pop() == "[DONE]"
    assert all("usage" not in frame and len(frame["choices"]) == 1 for frame in frames)


async def test_the_request_reaches_inference_whole(start: Start) -> None:
    async with start() as server:
        await server.openai.chat.completions.create(
            model="scripted",
            messages=HELLO,
            temperature=0.5,
            n=2,
            tools=TOOLS,
            tool_choice={"type": "function", "function": {"name": "g"}},
            extra_body={"top_k": 4, "guided_choice": ["a"]},
        )
    [request] = server.inference.requests
    assert isinstance(request, ChatRequest)
    assert request.messages == [UserMessage(content="hello")]
    assert (request.sampling.temperature, request.sampling.top_k, request.n) == (0.5, 4, 2)
    assert [tool.name for tool in request.tools] == ["f", "g"]
    assert request.extra == {"guided_choice": ["a"]}


async def test_structured_output_by_the_openai_helper(start: Start) -> None:
    from pydantic import BaseModel

    class Answer(BaseModel):
        city: str

    async with start(says('{"city":', ' "Paris"}')) as server:
        completion = await server.openai.chat.completions.parse(
            model="scripted", messages=HELLO, response_format=Answer
        )
    assert completion.choices[0].message.parsed == Answer(city="Paris")
    [request] = server.inference.requests
    assert isinstance(request, ChatRequest)
    assert request.response_format.type == "json_schema"


async def test_a_chunk_is_sent_when_it_is_made_not_when_the_answer_is_done(start: Start) -> None:
    go_on = asyncio.Event()
    script: list[Step] = [TextDelta(text="first"), go_on, TextDelta(text="second"), *says()]
    async with start(script) as server, asyncio.timeout(60):
        stream = await server.openai.chat.completions.create(model="scripted", messages=HELLO, stream=True)
        texts: list[str] = []
        async for chunk in stream:
            if text := chunk.choices[0].delta.content:
                texts.append(text)
                # Only what was read can let the script go on.
                go_on.set()
    assert texts == ["first", "second"]


async def test_many_streams_at_once_stay_apart(start: Start) -> None:
    scripts = [says(*(f"{number}." for _ in range(50))) for number in range(20)]
    async with start(*scripts) as server, asyncio.timeout(60):

        async def read() -> str:
            stream = await server.openai.chat.completions.create(model="scripted", messages=HELLO, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(read()) for _ in scripts]
    assert sorted(reader.result() for reader in readers) == sorted(f"{number}." * 50 for number in range(20))


async def test_an_openai_error_is_what_its_client_raises(start: Start) -> None:
    async with start(says("x")) as server:
        with pytest.raises(OpenAIError, match="temperature"):
            await server.openai.chat.completions.create(model="scripted", messages=HELLO, temperature=-3)
