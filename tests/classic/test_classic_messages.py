"""Messages and content in the classic shape, both directions."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from llama_stack.api.common import JsonObject
from llama_stack.api.messages import (
    AssistantMessage,
    AudioPart,
    FilePart,
    ImagePart,
    Message,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from llama_stack.errors import InvalidRequest
from llama_stack.wire.classic.inference import decode_chat
from llama_stack.wire.classic.messages import (
    MessageBody,
    decode_messages,
    encode_messages,
    encode_tool_call,
    parse_arguments,
    stop_reason_of,
)

BODIES: TypeAdapter[list[MessageBody]] = TypeAdapter(list[MessageBody])


def decoded(*messages: JsonObject) -> list[Message]:
    return decode_messages(BODIES.validate_python(list(messages)))


def test_every_role_there_and_back() -> None:
    bodies: list[JsonObject] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image", "image": _HTTP_IMAGE}]},
        {
            "role": "assistant",
            "content": "",
            "stop_reason": "end_of_message",
            "tool_calls": [
                {"call_id": "c1", "tool_name": "add", "arguments": {"x": 2}, "arguments_json": '{"x": 2}'},
            ],
        },
        {"role": "tool", "call_id": "c1", "content": "4", "tool_name": "add"},
        {"role": "assistant", "content": "It is 4.", "stop_reason": "end_of_turn", "tool_calls": []},
    ]
    messages = decoded(*bodies)
    assert messages == [
        SystemMessage(content="Be brief."),
        UserMessage(content=[TextPart(text="look"), ImagePart(url="https://example.com/a.png")]),
        AssistantMessage(tool_calls=[ToolCall(id="c1", name="add", arguments='{"x": 2}')]),
        ToolMessage(tool_call_id="c1", content="4", name="add"),
        AssistantMessage(content="It is 4."),
    ]
    assert encode_messages(messages) == bodies


_HTTP_IMAGE = {"url": {"uri": "https://example.com/a.png"}}


def test_the_exact_arguments_are_kept_where_the_client_has_lost_them() -> None:
    """The client turns 2 into 2.0; `arguments_json` has what the model wrote."""
    call = {"call_id": "c", "tool_name": "t", "arguments": {"x": 2.0}, "arguments_json": '{"x":2}'}
    plain = {"call_id": "d", "tool_name": "t", "arguments": {"x": 2}}
    text = {"call_id": "e", "tool_name": "t", "arguments": '{"x": 3}', "arguments_json": None}
    (message,) = decoded({"role": "assistant", "content": "", "stop_reason": None, "tool_calls": [call, plain, text]})
    assert isinstance(message, AssistantMessage)
    assert [call.arguments for call in message.tool_calls] == ['{"x":2}', '{"x":2}', '{"x": 3}']


def test_unknown_keys_and_nulls_are_let_in() -> None:
    body = {"role": "user", "content": {"type": "text", "text": "hi", "stray": 1}, "context": None, "stray": None}
    assert decoded(body) == [UserMessage(content=[TextPart(text="hi")])]


def test_context_comes_after_the_content() -> None:
    assert decoded({"role": "user", "content": "q", "context": "facts"}) == [UserMessage(content="q\nfacts")]
    parts = decoded({"role": "user", "content": [{"type": "text", "text": "q"}], "context": "facts"})[0].content
    assert parts == [TextPart(text="q"), TextPart(text="\n"), TextPart(text="facts")]


@pytest.mark.parametrize(
    ("data", "kind"), [("iVBORw0KGgoAAA", "png"), ("/9j/4AAQ", "jpeg"), ("R0lGODlh", "gif"), ("UklGRgAA", "webp")]
)
def test_image_data_is_named_by_its_first_bytes(data: str, kind: str) -> None:
    (message,) = decoded({"role": "user", "content": {"type": "image", "image": {"data": data, "url": None}}})
    assert message.content == [ImagePart(url=f"data:image/{kind};base64,{data}")]


@pytest.mark.parametrize("image", [{}, {"data": "AAAA"}, {"data": None, "url": None}])
def test_an_image_of_no_known_kind_is_refused(image: dict[str, Any]) -> None:
    said = {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image", "image": image}]}
    with pytest.raises(InvalidRequest, match="PNG, JPEG, GIF or WebP") as caught:
        decode_chat({"model_id": "m", "messages": [said]})
    assert caught.value.param == "messages.0.content.1.image"


def test_what_the_classic_shape_has_no_word_for_is_named() -> None:
    content = [FilePart(file_id="f1", filename="a.pdf"), FilePart(), AudioPart(base64_audio="AA", format="wav")]
    (body,) = encode_messages([UserMessage(content=list(content))])
    assert [item["text"] for item in body["content"]] == ["[file a.pdf]", "[file without a name]", "[audio in wav]"]


def test_reasoning_goes_with_the_message() -> None:
    (body,) = encode_messages([AssistantMessage(content="4", reasoning="2+2")])
    assert body["reasoning"] == "2+2"
    assert decoded(body) == [AssistantMessage(content="4", reasoning="2+2")]


def test_a_refusal_is_the_content_where_there_is_no_other() -> None:
    (body,) = encode_messages([AssistantMessage(refusal="No.")])
    assert body["content"] == "No."


def test_arguments_that_are_no_object_stay_text() -> None:
    broken = encode_tool_call(ToolCall(id="c", name="t", arguments='{"x":'))
    assert (broken["arguments"], broken["arguments_json"]) == ('{"x":', '{"x":')
    empty = encode_tool_call(ToolCall(id="c", name="t", arguments=""))
    assert (empty["arguments"], empty["arguments_json"]) == ({}, "{}")
    assert parse_arguments("[1]") is None


def test_stop_reasons() -> None:
    assert stop_reason_of("stop") == "end_of_turn"
    assert stop_reason_of("tool_calls") == "end_of_message"
    assert stop_reason_of("length") == "out_of_tokens"
    assert stop_reason_of("content_filter") == "end_of_turn"
