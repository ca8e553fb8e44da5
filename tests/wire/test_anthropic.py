"""Anthropic's Messages dialect: what a request means, what is refused, and answers that come back as requests."""

import json
from typing import Any

import pytest

from llama_stack.api.answers import AnswerBuilder
from llama_stack.api.inference import (
    ChatEnd,
    ChatEvent,
    ChatRequest,
    ChoiceEnd,
    JsonSchemaFormat,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)
from llama_stack.api.messages import (
    AssistantMessage,
    FilePart,
    ImagePart,
    Message,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from llama_stack.errors import (
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    ProviderFailed,
    ProviderTimeout,
    UnsupportedParameter,
)
from llama_stack.wire.anthropic import messages as reading
from llama_stack.wire.anthropic.answer import MessageHead, encode_answer
from llama_stack.wire.anthropic.errors import encode_error, error_frame, error_type
from llama_stack.wire.anthropic.request import decode_count_call, decode_messages_call
from llama_stack.wire.anthropic.stream import MessageStreamEncoder

USER = {"role": "user", "content": "hi"}
TOOL = {"name": "look", "input_schema": {"type": "object"}}


def body(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 100, "messages": list(messages) or [USER], **fields}


def decoded(*messages: Any, **fields: Any) -> ChatRequest:
    return decode_messages_call(body(*messages, **fields))[0]


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(said: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **fields}


def call(call_id: str = "c", **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "look", "input": arguments}


def result(content: Any = None, call_id: str = "c", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, **fields}


# --- messages ------------------------------------------------------------------------------------------------------


def test_messages_of_one_side_in_a_row_are_one() -> None:
    request = decoded(
        USER, user(text("there")), assistant(text("a")), {"role": "assistant", "content": "b"}, USER, system="Be kind."
    )
    assert request.messages == [
        SystemMessage(content="Be kind."),
        UserMessage(content=[TextPart(text="hi\n\n"), TextPart(text="there")]),
        AssistantMessage(content=[TextPart(text="a"), TextPart(text="b")]),
        UserMessage(content="hi"),
    ]


def test_a_long_row_of_one_side_is_put_together_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a body of some megabytes would keep the server from everybody else for minutes."""
    made = 0

    class Counted(UserMessage):
        def __init__(self, **fields: Any) -> None:
            nonlocal made
            made += len(fields["content"])
            super().__init__(**fields)

    monkeypatch.setattr(reading, "UserMessage", Counted)
    (joined,) = decoded(*[user(text("a"), text("b"))] * 100).messages
    assert len(joined.content or "") == 200
    assert made == 400


def test_instructions_may_come_in_the_middle() -> None:
    request = decoded(USER, {"role": "system", "content": [text("now in French")]}, USER)
    assert [message.role for message in request.messages] == ["user", "system", "user"]


def test_a_call_and_its_result_keep_their_names_and_texts() -> None:
    request = decoded(
        USER,
        assistant(
            {"type": "thinking", "thinking": "hm", "signature": "x"},
            {"type": "redacted_thinking", "data": "zzz"},
            text("Looking.", citations=None),
            {**call(at="ü"), "caller": {"type": "direct"}, "cache_control": {"type": "ephemeral"}},
            call("d"),
        ),
        user(result("one"), result([text("two"), text("three")], "d", is_error=False), text("So?")),
    )
    expected: list[Message] = [
        UserMessage(content="hi"),
        AssistantMessage(
            content="Looking.",
            reasoning="hm",
            tool_calls=[
                ToolCall(id="c", name="look", arguments='{"at": "ü"}'),
                ToolCall(id="d", name="look", arguments="{}"),
            ],
        ),
        ToolMessage(tool_call_id="c", name="look", content="one"),
        ToolMessage(tool_call_id="d", name="look", content=[TextPart(text="two"), TextPart(text="three")]),
        UserMessage(content="So?"),
    ]
    assert request.messages == expected


@pytest.mark.parametrize(
    ("content", "read"),
    [
        ("no such city", "Error: no such city"),
        ("ERROR 404", "ERROR 404"),
        (None, "Error: "),
        ([text("no")], [TextPart(text="Error: "), TextPart(text="no")]),
    ],
)
def test_that_a_tool_failed_is_told_in_words(content: Any, read: Any) -> None:
    request = decoded(USER, assistant(call()), user(result(content, is_error=True)))
    assert request.messages[-1].content == read


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
            [ImagePart(url="data:image/png;base64,AA==")],
        ),
        ({"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}, [ImagePart(url="https://x/y.png")]),
        (
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "body"},
                "title": "T",
                "context": "C",
                "citations": {"enabled": False},
            },
            [TextPart(text="T\nC\n\n"), TextPart(text="body")],
        ),
        (
            {"type": "document", "source": {"type": "content", "content": [text("a"), text("b")]}},
            [TextPart(text="a"), TextPart(text="b")],
        ),
        (
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA=="}},
            [FilePart(data_url="data:application/pdf;base64,AA==")],
        ),
        (
            {"type": "search_result", "source": "https://x", "title": "T", "content": [text("found")]},
            [TextPart(text="T\nhttps://x\n\nfound")],
        ),
    ],
)
def test_what_a_user_shows(block: Any, parts: list[Any]) -> None:
    # Models are given the parts without anything between them; a text of another kind does not run on.
    see = "see\n\n" if isinstance(parts[0], TextPart) else "see"
    assert decoded(user(text("see"), block)).messages[-1].content == [TextPart(text=see), *parts]
    after = decoded(user(block, text("see"))).messages[-1].content
    assert isinstance(after, list)
    assert after[-1] == TextPart(text="see")
    assert not isinstance(after[-2], TextPart) or after[-2].text.endswith("\n\n")


# --- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "effort", "shown"),
    [
        ({}, None, False),
        ({"thinking": {"type": "disabled"}}, "none", False),
        ({"thinking": {"type": "adaptive"}}, None, True),
        ({"thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "max"}}, "xhigh", False),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low", True),
        ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, "medium", True),
        ({"thinking": {"type": "enabled", "budget_tokens": 32000}}, "high", True),
        ({"output_config": {"effort": "medium"}}, "medium", False),
    ],
)
def test_thinking_becomes_effort_and_is_shown_to_who_asked(fields: Any, effort: str | None, shown: bool) -> None:
    request, wish = decode_messages_call(body(**{"max_tokens": 64000, **fields}))
    assert (request.reasoning_effort, wish.shows_thinking) == (effort, shown)


def test_a_form_a_tools_examples_and_fields_of_others() -> None:
    request = decoded(
        tools=[{**TOOL, "input_examples": [{"at": "x"}], "strict": True, "cache_control": {"type": "ephemeral"}}],
        output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}},
        cache_control={"type": "ephemeral"},
        service_tier="auto",
        min_p=0.1,
    )
    assert request.tools[0].parameters == {"type": "object", "examples": [{"at": "x"}]}
    assert request.tools[0].strict is True
    assert request.response_format == JsonSchemaFormat(json_schema={"type": "object"}, strict=True)
    assert request.extra == {"min_p": 0.1}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [USER, assistant(text("The best answer is ("))]}, "messages"),
        ({"messages": [user(result("x"))]}, "messages.0.content.0.tool_use_id"),
        ({"messages": [USER, assistant(call()), user(text("x"), result("x"))]}, "messages.2.content.1"),
        ({"messages": [USER, assistant(call()), USER]}, "messages.1.content.0"),
        ({"messages": [USER, assistant(call()), USER, assistant(text("x")), USER]}, "messages.1.content.0"),
        ({"messages": [{"role": "system", "content": "Be brief."}]}, "messages"),
        ({"messages": [user({"type": "video"})]}, "messages.0.content.0.type"),
        ({"messages": [assistant({"type": "server_tool_use"}), USER]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"temperature": -1}, "temperature"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "luck"}}, "tool_choice.name"),
        ({"tools": [{"name": "x", "input_schema": {"type": "objekt"}}]}, "tools.0.input_schema"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 10}}, "thinking.budget_tokens"),
        ({"stop_sequences": "x"}, "stop_sequences"),
    ],
)
def test_what_is_wrong_is_named(fields: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decoded(**fields)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
        ({"container": "c"}, "container"),
        ({"speed": "fast"}, "speed"),
        ({"context_management": {"edits": [{}]}}, "context_management"),
        ({"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]},
         "messages.0.content.0.source"),
        ({"messages": [user({"type": "document", "source": {"type": "url", "url": "https://x"}})]},
         "messages.0.content.0.source"),
        ({"messages": [user({"type": "document", "citations": {"enabled": True},
                             "source": {"type": "text", "media_type": "text/plain", "data": "x"}})]},
         "messages.0.content.0.citations"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_name(fields: Any, param: str) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        decoded(**fields)
    assert refused.value.param == param
    assert refused.value.message.startswith(param)


def test_a_count_needs_no_limit() -> None:
    request = decode_count_call({"model": "m", "messages": [USER], "tools": [TOOL], "system": "s"})
    assert request.messages == [SystemMessage(content="s"), UserMessage(content="hi")]
    assert request.tools[0].name == "look"
    with pytest.raises(InvalidRequest):
        decode_count_call([])


# --- answers -------------------------------------------------------------------------------------------------------


def frames_of(events: list[ChatEvent], **head: Any) -> list[dict[str, Any]]:
    encoder = MessageStreamEncoder(MessageHead("m", **head))
    written = b"".join(encoder.encode(event) for event in events)
    frames = []
    for frame in written.decode().removesuffix("\n\n").split("\n\n"):
        name, data = frame.split("\n")
        told = json.loads(data.removeprefix("data: "))
        assert name == f"event: {told['type']}"
        frames.append(told)
    return frames


def content_of(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The content that a client puts together, one block open at a time."""
    content: list[dict[str, Any]] = []
    is_open = False
    for frame in frames:
        match frame["type"]:
            case "content_block_start":
                assert not is_open
                assert frame["index"] == len(content)
                content.append({**frame["content_block"], "json": ""})
                is_open = True
            case "content_block_delta":
                assert is_open
                assert frame["index"] == len(content) - 1
                block, delta = content[-1], frame["delta"]
                match delta["type"]:
                    case "text_delta":
                        block["text"] += delta["text"]
                    case "thinking_delta":
                        block["thinking"] += delta["thinking"]
                    case "input_json_delta":
                        block["json"] += delta["partial_json"]
            case "content_block_stop":
                is_open = False
    for block in content:
        written = block.pop("json")
        if written:
            block["input"] = json.loads(written)
    assert not is_open
    return content


MIXED: list[ChatEvent] = [
    ReasoningDelta(text="h"),
    ReasoningDelta(text="m"),
    TextDelta(text="Look"),
    TextDelta(text="ing"),
    ToolCallStart(index=0, id="a", name="look"),
    ToolCallStart(index=1, id="b", name="look"),
    ToolCallDelta(index=1, arguments='{"at":'),
    ToolCallDelta(index=0, arguments='{"at": "x"'),
    ToolCallDelta(index=0, arguments="}"),
    ToolCallDelta(index=1, arguments=' "y"}'),
    ToolCallStart(index=2, id="c", name="look"),
    TextDelta(text="done"),
    ChoiceEnd(finish_reason="tool_calls"),
    ChatEnd(usage=Usage(input_tokens=9, cached_input_tokens=3, output_tokens=4)),
]


def test_calls_that_come_mixed_are_streamed_one_after_the_other() -> None:
    frames = frames_of(MIXED, shows_thinking=True)
    assert content_of(frames) == [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "Looking"},
        {"type": "tool_use", "id": "a", "name": "look", "input": {"at": "x"}},
        {"type": "tool_use", "id": "b", "name": "look", "input": {"at": "y"}},
        {"type": "tool_use", "id": "c", "name": "look", "input": {}},
        {"type": "text", "text": "done"},
    ]
    assert frames[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert frames[-2]["usage"] == {
        "input_tokens": 6,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 3,
        "output_tokens": 4,
    }


def test_what_follows_complete_arguments_is_white_space_or_an_error() -> None:
    first: list[ChatEvent] = [
        ToolCallStart(index=0, id="a", name="look"),
        ToolCallDelta(index=0, arguments="{}"),
        ToolCallStart(index=1, id="b", name="look"),
        ToolCallDelta(index=0, arguments=" \n"),
    ]
    frames_of(first)
    with pytest.raises(ProviderFailed, match="after they were complete"):
        frames_of([*first, ToolCallDelta(index=0, arguments='{"at": 1}')])


def test_a_piece_is_sent_when_it_comes() -> None:
    encoder = MessageStreamEncoder(MessageHead("m"))
    assert b"message_start" in encoder.encode(TextDelta(text="a"))
    assert b'"text":"b"' in encoder.encode(TextDelta(text="b"))
    assert b'"partial_json":"{"' in encoder.encode(ToolCallStart(index=0, id="a", name="x")) + encoder.encode(
        ToolCallDelta(index=0, arguments="{")
    )


def test_a_whole_answer_says_what_its_stream_says() -> None:
    builder = AnswerBuilder()
    for event in MIXED[:11] + MIXED[12:]:
        builder.feed(event)
    whole = encode_answer(builder.answer, MessageHead("m", shows_thinking=True))
    frames = frames_of(MIXED[:11] + MIXED[12:], shows_thinking=True)
    assert whole["content"] == content_of(frames)
    assert whole["usage"] == frames[-2]["usage"]
    assert (whole["stop_reason"], whole["stop_sequence"]) == ("tool_use", None)


def test_an_answer_comes_back_as_it_was() -> None:
    builder = AnswerBuilder()
    for event in [*MIXED[:11], *MIXED[12:]]:
        builder.feed(event)
    whole = encode_answer(builder.answer, MessageHead("m", shows_thinking=True))
    results = user(*(result("x", call_id) for call_id in "abc"))
    again = decoded(USER, {"role": "assistant", "content": whole["content"]}, results).messages[1]
    said = builder.answer.message
    assert isinstance(again, AssistantMessage)
    assert (again.content, again.reasoning) == (said.content, said.reasoning)
    assert [json.loads(one.arguments) for one in again.tool_calls] == [{"at": "x"}, {"at": "y"}, {}]


@pytest.mark.parametrize("arguments", ['{"at": ', "[1]", "nonsense", "3"])
def test_arguments_that_are_no_object_survive_the_way_there_and_back(arguments: str) -> None:
    events: list[ChatEvent] = [
        ToolCallStart(index=0, id="c", name="look"),
        ToolCallDelta(index=0, arguments=arguments),
        ChoiceEnd(finish_reason="tool_calls"),
        ChatEnd(),
    ]
    builder = AnswerBuilder()
    for event in events:
        builder.feed(event)
    whole = encode_answer(builder.answer, MessageHead("m"))
    assert whole["content"][0]["input"] == {"INVALID_JSON": arguments}
    again = decoded(USER, {"role": "assistant", "content": whole["content"]}, user(result("x"))).messages[1]
    assert isinstance(again, AssistantMessage)
    assert again.tool_calls[0].arguments == arguments


def test_a_refusal_is_text_and_the_reason() -> None:
    events: list[ChatEvent] = [RefusalDelta(text="No."), ChoiceEnd(finish_reason="stop"), ChatEnd()]
    builder = AnswerBuilder()
    for event in events:
        builder.feed(event)
    whole = encode_answer(builder.answer, MessageHead("m"))
    assert (whole["content"], whole["stop_reason"]) == ([{"type": "text", "text": "No."}], "refusal")
    assert frames_of(events)[-2]["delta"]["stop_reason"] == "refusal"


def test_an_answer_without_a_word_is_still_a_message() -> None:
    frames = frames_of([ChoiceEnd(finish_reason="stop"), ChatEnd()])
    assert [frame["type"] for frame in frames] == ["message_start", "ping", "message_delta", "message_stop"]


# --- errors --------------------------------------------------------------------------------------------------------


def test_errors() -> None:
    assert encode_error(NotFound("no model", param="model"), "req_1") == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "no model", "param": "model", "code": "not_found"},
        "request_id": "req_1",
    }
    assert error_frame(ProviderTimeout("late")).startswith(b'event: error\ndata: {"type":"error"')
    assert error_type(PayloadTooLarge("big").http_status) == "request_too_large"
    assert [error_type(status) for status in (422, 500, 502, 503, 504)] == [
        "invalid_request_error",
        "api_error",
        "api_error",
        "overloaded_error",
        "timeout_error",
    ]
