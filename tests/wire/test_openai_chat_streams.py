"""Chunks of partners become one kind of events, whatever they do differently; our events become OpenAI's chunks."""

from typing import Any

import orjson
import pytest

from llama_stack.api.answers import AnswerBuilder
from llama_stack.api.inference import (
    ChatAnswer,
    ChatChoice,
    ChatEnd,
    ChatEvent,
    ChoiceEnd,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)
from llama_stack.api.messages import AssistantMessage, ToolCall
from llama_stack.errors import ContextOverflow, ProviderFailed, RateLimited
from llama_stack.wire.openai_chat import (
    AnswerHead,
    ChatChunkDecoder,
    ChatChunkEncoder,
    decode_answer,
    encode_answer,
)

HEAD = AnswerHead(model="m", id="chatcmpl-1", created=1)


def decoded(*chunks: Any, complete: bool = True) -> ChatAnswer:
    builder = AnswerBuilder()
    decoder = ChatChunkDecoder()
    for chunk in chunks:
        for event in decoder.feed(chunk):
            builder.feed(event)
    for event in decoder.end(complete=complete):
        builder.feed(event)
    return builder.answer


def delta(finish_reason: str | None = None, **fields: Any) -> Any:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish_reason}]}


def call(*, name: str | None = None, arguments: Any = None, **fields: Any) -> Any:
    """A delta with one piece of a call; only what is given is in it."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return delta(tool_calls=[{**fields, "function": function}])


def calls_of(*chunks: Any) -> list[tuple[str, str]]:
    answer = decoded(*chunks)
    assert answer.choices[0].finish_reason == "tool_calls"
    ids = [made.id for made in answer.message.tool_calls]
    assert all(ids) and len(set(ids)) == len(ids)
    return [(made.name, made.arguments) for made in answer.message.tool_calls]


STOP = delta("stop")
PARIS, ROME = '{"city": "Paris"}', '{"city": "Rome"}'
TWO = [("weather", PARIS), ("weather", ROME)]


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(
            [
                call(index=0, id="a", type="function", name="weather", arguments=""),
                call(index=0, arguments=PARIS[:5]),
                call(index=0, arguments=PARIS[5:]),
                call(index=1, id="b", type="function", name="weather", arguments=""),
                call(index=1, arguments=ROME),
            ],
            id="as OpenAI does",
        ),
        pytest.param(
            [
                call(index=0, id="a", name="weather", arguments=PARIS),
                call(index=0, id="b", name="weather", arguments=ROME),
            ],
            id="all at index 0",
        ),
        pytest.param(
            [
                call(index=0, id="a", name="weather", arguments=PARIS[:4]),
                call(index=0, arguments=PARIS[4:]),
                call(index=0, id="b", name="weather", arguments=ROME[:4]),
                call(index=0, arguments=ROME[4:]),
            ],
            id="all at index 0, in pieces",
        ),
        pytest.param(
            [call(id="a", name="weather", arguments=PARIS), call(id="b", name="weather", arguments=ROME)],
            id="no index",
        ),
        pytest.param(
            [
                call(id="a", name="weather"),
                call(id="b", name="weather"),
                call(id="a", arguments=PARIS),
                call(id="b", arguments=ROME),
            ],
            id="no index, interleaved by id",
        ),
        pytest.param(
            [call(index=0, name="weather", arguments=PARIS), call(index=0, name="weather", arguments=ROME)],
            id="no ids, all at index 0",
        ),
        pytest.param(
            [call(name="weather", arguments=PARIS), call(name="weather", arguments=ROME)], id="no ids, no index"
        ),
        pytest.param(
            [
                call(index=0, id="x", name="weather", arguments=PARIS),
                call(index=1, id="x", name="weather", arguments=ROME),
            ],
            id="one id for both",
        ),
        pytest.param(
            [
                call(index=0, id="", name="weather", arguments=PARIS),
                call(index=1, id="", name="weather", arguments=ROME),
            ],
            id="empty ids",
        ),
        pytest.param(
            [
                delta(
                    tool_calls=[
                        {"index": 0, "id": "a", "function": {"name": "weather", "arguments": PARIS}},
                        {"index": 0, "id": "b", "function": {"name": "weather", "arguments": ROME}},
                    ]
                )
            ],
            id="both in one delta",
        ),
        pytest.param(
            [
                call(index=0, id="a", name="weather", arguments={"city": "Paris"}),
                call(index=1, id="b", name="weather", arguments={"city": "Rome"}),
            ],
            id="arguments as objects",
        ),
        pytest.param(
            [
                call(index=0, id="a", name="weather", arguments="{}"),
                call(index=0, arguments=PARIS),
                call(index=1, id="b", name="weather", arguments={}),
                call(index=1, arguments=ROME[:3]),
                call(index=1, arguments=ROME[3:]),
            ],
            id="an empty object before the arguments",
        ),
        pytest.param(
            [
                call(index=0, id="a", name="weather", arguments=PARIS[:3]),
                call(index=0, id="a", name="weather", arguments=PARIS[3:]),
                call(index=1, id="b", name="weather", arguments=ROME[:3]),
                call(index=1, id="b", name="weather", arguments=ROME[3:]),
            ],
            id="id and name in every delta",
        ),
        pytest.param(
            [
                call(index=0, id="a"),
                call(index=0, arguments=PARIS[:3]),
                call(index=0, name="weather"),
                call(index=0, arguments=PARIS[3:]),
                call(index=1, name="weather"),
                call(index=1, id="b", arguments=ROME),
            ],
            id="the name comes late",
        ),
    ],
)
def test_two_calls_are_two_calls(chunks: list[Any]) -> None:
    normalised = [(name, orjson.loads(arguments)) for name, arguments in calls_of(*chunks, STOP)]
    assert normalised == [(name, orjson.loads(arguments)) for name, arguments in TWO]


@pytest.mark.parametrize(
    "chunks",
    [
        [call(index=0, id="a", name="f", arguments=None)],
        [call(index=0, id="a", name="f", arguments="")],
        [call(index=0, id="a", name="f", arguments="{}")],
        [call(index=0, id="a", name="f", arguments={})],
        [delta(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": None}}])],
        [delta(function_call={"name": "f"}), delta(function_call={"arguments": "{}"})],
    ],
)
def test_a_call_without_arguments_has_an_empty_object(chunks: list[Any]) -> None:
    assert calls_of(*chunks, STOP) == [("f", "{}")]


def test_two_calls_without_arguments_or_ids_are_told_apart_by_name() -> None:
    assert calls_of(call(index=0, name="f"), call(index=0, name="g"), STOP) == [("f", "{}"), ("g", "{}")]


def test_arguments_are_kept_as_the_model_wrote_them() -> None:
    for broken in ('{"a": ', "not json", '{"a":1}{"b":2}', "[1,2]", '  {"a": 1.0}\n'):
        assert calls_of(call(index=0, id="a", name="f", arguments=broken), STOP) == [("f", broken)]


def test_a_partners_own_fields_of_a_call_are_kept() -> None:
    [made] = decoded(call(index=0, id="a", name="f", arguments="{}", extra_content={"s": 1}), STOP).message.tool_calls
    assert made == ToolCall(id="a", name="f", arguments="{}", extra={"extra_content": {"s": 1}})


def test_a_call_that_never_gets_a_name_is_one_of_an_unknown_tool() -> None:
    nameless = call(index=1, id="b", name="", arguments='{"x": 1}')
    [named, made] = decoded(call(index=0, id="a", name="f", arguments="{}"), nameless, STOP).message.tool_calls
    assert named == ToolCall(id="a", name="f", arguments="{}")
    assert made == ToolCall(id="b", name="unnamed_tool", arguments='{"x": 1}')


@pytest.mark.parametrize(
    ("chunks", "content", "reasoning"),
    [
        ([delta(role="assistant", content=""), delta(content="Hi"), STOP], "Hi", None),
        ([delta(content="H"), delta("stop", content="i")], "Hi", None),
        ([delta(reasoning_content="hm"), delta(content="Hi"), STOP], "Hi", "hm"),
        ([delta(reasoning="hm", content=None), delta(content="Hi"), STOP], "Hi", "hm"),
        ([delta("stop"), delta(content="late")], "late", None),
        ([{"choices": []}, {"choices": None}, {}, delta(content="Hi"), STOP], "Hi", None),
        ([{"choices": [{"index": 0, "delta": None}]}, delta(content="Hi"), STOP], "Hi", None),
        ([{"choices": [{"delta": {"content": "Hi"}}]}, STOP], "Hi", None),
        ([delta(content="Hi", finish_reason=""), STOP], "Hi", None),
        (
            [
                delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
                delta(content=[{"type": "text", "text": "Hi"}]),
                STOP,
            ],
            "Hi",
            "hm",
        ),
        (
            [{"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}],
            "Hi",
            None,
        ),
    ],
)
def test_text_and_reasoning(chunks: list[Any], content: str, reasoning: str | None) -> None:
    answer = decoded(*chunks)
    assert answer.message == AssistantMessage(content=content, reasoning=reasoning)
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("content_filter", "content_filter"),
        ("eos_token", "stop"),
        ("tool_calls", "tool_calls"),
    ],
)
def test_finish_reasons(said: str, means: str) -> None:
    assert decoded(delta(content="x"), delta(said)).choices[0].finish_reason == means


@pytest.mark.parametrize(
    "chunks",
    [
        [delta(content="x"), STOP, {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}],
        [delta(content="x"), {**STOP, "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}],
        [
            {**delta(content="x"), "usage": {"prompt_tokens": 3, "completion_tokens": 1}},
            {**STOP, "usage": None},
            {"usage": {"prompt_tokens": 3, "completion_tokens": 2}},
        ],
    ],
)
def test_the_usage_may_be_anywhere(chunks: list[Any]) -> None:
    assert decoded(*chunks).usage == Usage(input_tokens=3, output_tokens=2)


def test_usage_details_model_and_the_partners_own_fields() -> None:
    usage = {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    answer = decoded(
        {**delta(content="x"), "id": "1", "object": "o", "created": 1, "model": "m-1", "x_groq": {"id": "r"}},
        {**STOP, "usage": usage, "system_fingerprint": "fp", "service_tier": None, "obfuscation": "abc"},
    )
    assert answer.usage == Usage(input_tokens=3, output_tokens=2, cached_input_tokens=1, reasoning_tokens=2)
    assert answer.model == "m-1"
    assert answer.extra == {"x_groq": {"id": "r"}, "system_fingerprint": "fp"}


def test_logprobs() -> None:
    token = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": [{"token": "Ho", "logprob": -1.0}]}
    chunk = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "logprobs": {"content": [token]}}]}
    assert decoded(chunk, STOP).choices[0].logprobs == [
        TokenLogprob(token="Hi", logprob=-0.5, bytes=[72, 105], top=[TokenLogprob(token="Ho", logprob=-1.0)])
    ]


def test_a_token_that_could_not_be_drawn_can_be_written_and_read() -> None:
    events: list[ChatEvent] = [
        TextDelta(text="x", logprobs=[TokenLogprob(token="x", logprob=float("-inf"))]),
        ChoiceEnd(finish_reason="stop"),
        ChatEnd(),
    ]
    [_, frame, *_] = frames_of(events)
    chunk = orjson.loads(frame[6:])
    assert chunk["choices"][0]["logprobs"]["content"][0]["logprob"] == -9999.0
    chunk["choices"][0]["logprobs"]["content"][0]["logprob"] = None
    [logprob] = decoded(chunk).choices[0].logprobs or []
    assert logprob.logprob == -9999.0


def test_choices_are_kept_apart() -> None:
    answer = decoded(
        {"choices": [{"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [{"index": 1, "delta": {"content": "B"}, "finish_reason": "length"}]},
    )
    assert [(choice.message.content, choice.finish_reason) for choice in answer.choices] == [
        ("a", "stop"),
        ("bB", "length"),
    ]


@pytest.mark.parametrize("chunks", [[], [{"choices": []}], [delta(content="x")]])
def test_a_stream_that_just_stops_is_a_failure(chunks: list[Any]) -> None:
    with pytest.raises(ProviderFailed):
        decoded(*chunks, complete=False)


def test_done_without_a_finish_reason_is_a_stop() -> None:
    assert decoded(delta(content="x"), complete=True).choices[0].finish_reason == "stop"


def test_a_finish_reason_without_done_is_enough() -> None:
    assert decoded(delta(content="x"), STOP, complete=False).message.content == "x"


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        ({"message": "m", "code": 429}, RateLimited, 429),
        ({"message": "m", "code": "429"}, RateLimited, 429),
        ({"message": "m", "code": "context_length_exceeded"}, ContextOverflow, 400),
        ({"message": "m", "code": 400}, ProviderFailed, 400),
        ({"message": "m", "code": 500}, ProviderFailed, 502),
        ({"message": "m"}, ProviderFailed, 502),
        ("m", ProviderFailed, 502),
    ],
)
def test_an_error_inside_the_stream(error: Any, kind: type[Exception], status: int) -> None:
    with pytest.raises(kind, match="m") as caught:
        decoded(delta(content="x"), {"error": error})
    assert caught.value.http_status == status  # type: ignore[attr-defined]  # each of them has it


@pytest.mark.parametrize(
    "chunk",
    [
        None,
        [],
        "x",
        3,
        {"choices": 3},
        {"choices": ["x"]},
        {"choices": [{"delta": "x"}]},
        {"choices": [{"delta": {"content": 3}}]},
        {"choices": [{"delta": {"tool_calls": [3]}}]},
        {"choices": [{"delta": {"tool_calls": [{"function": "f"}]}}]},
        {"choices": [{"delta": {"content": "x"}, "logprobs": {"content": [{}]}}]},
        {"choices": [{"delta": {}, "finish_reason": ["x"]}]},
        {"choices": [{"delta": {"content": "x"}, "index": "one"}]},
        {"choices": [], "usage": {"prompt_tokens": "three"}},
        {"choices": [], "usage": {"prompt_tokens_details": 3}},
    ],
)
def test_what_is_no_chunk_is_the_upstreams_failure(chunk: Any) -> None:
    with pytest.raises(ProviderFailed):
        decoded(chunk, STOP)


EVERYTHING: list[ChatEvent] = [
    ReasoningDelta(text="hm"),
    TextDelta(text="Hi", logprobs=[TokenLogprob(token="Hi", logprob=-0.5, bytes=None)]),
    TextDelta(text="é\n"),
    ToolCallStart(index=0, id="a", name="f", extra={"s": 1}),
    ToolCallDelta(index=0, arguments='{"a"'),
    ToolCallDelta(index=0, arguments=": 1}"),
    TextDelta(text="other", choice=1),
    RefusalDelta(text="no", choice=1),
    ToolCallStart(index=1, id="b", name="g"),
    ToolCallDelta(index=1, arguments="[]"),
    ChoiceEnd(finish_reason="tool_calls", choice=0),
    ChoiceEnd(finish_reason="stop", choice=1, stop_sequence="END"),
    ChatEnd(
        usage=Usage(input_tokens=1, output_tokens=2, cached_input_tokens=0, reasoning_tokens=1),
        model="m",
        extra={"timings": {"ms": 1}},
    ),
]


def frames_of(events: list[ChatEvent], **options: Any) -> list[bytes]:
    encoder = ChatChunkEncoder(HEAD, **options)
    return b"".join(encoder.encode(event) for event in events).removesuffix(b"\n\n").split(b"\n\n")


def answer_of(events: list[ChatEvent]) -> ChatAnswer:
    builder = AnswerBuilder()
    for event in events:
        builder.feed(event)
    return builder.answer


def test_what_we_write_we_read_streamed_and_whole() -> None:
    frames = frames_of(EVERYTHING, include_usage=True)
    assert frames.pop() == b"data: [DONE]"
    chunks = [orjson.loads(frame.removeprefix(b"data: ")) for frame in frames]
    expected = answer_of(EVERYTHING)
    assert decoded(*chunks) == expected
    assert decode_answer(encode_answer(expected, HEAD)) == expected


def test_an_answer_whose_usage_nobody_counted() -> None:
    events: list[ChatEvent] = [TextDelta(text="x"), ChoiceEnd(finish_reason="stop"), ChatEnd()]
    *_, last, _ = frames_of(events, include_usage=True)
    assert orjson.loads(last[6:])["usage"] is None
    assert encode_answer(answer_of(events), HEAD)["usage"] is None


def test_the_streams_frames_each_stand_on_one_line() -> None:
    for frame in frames_of([TextDelta(text="a\nb\r\u2028c"), *EVERYTHING]):
        assert b"\n" not in frame and b"\r" not in frame


def test_choices_begin_in_order_even_when_they_speak_out_of_order() -> None:
    chunks = [orjson.loads(frame[6:]) for frame in frames_of([TextDelta(text="x", choice=2)])]
    assert [chunk["choices"][0]["index"] for chunk in chunks] == [0, 1, 2, 2]
    assert [chunk["choices"][0]["delta"].get("role") for chunk in chunks] == ["assistant"] * 3 + [None]


def test_a_partners_fields_cannot_replace_ours() -> None:
    end = ChatEnd(extra={"id": "theirs", "choices": ["x"], "model": "y", "system_fingerprint": "fp"})
    [usage_frame, _] = frames_of([end], include_usage=True)
    body = orjson.loads(usage_frame[6:])
    assert (body["id"], body["choices"], body["model"], body["system_fingerprint"]) == ("chatcmpl-1", [], "m", "fp")
    answer = ChatAnswer(
        choices=[ChatChoice(message=AssistantMessage(content="x"), finish_reason="stop")], extra=end.extra
    )
    whole = encode_answer(answer, HEAD)
    assert (whole["id"], len(whole["choices"]), whole["model"]) == ("chatcmpl-1", 1, "m")
