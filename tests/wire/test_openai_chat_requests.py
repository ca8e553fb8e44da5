"""OpenAI chat requests: what a caller sends becomes our words, and what is wrong is named."""

from typing import Any

import pytest

from llama_stack.api.inference import (
    ChatRequest,
    GrammarFormat,
    JsonObjectFormat,
    JsonSchemaFormat,
    Sampling,
)
from llama_stack.api.messages import (
    AssistantMessage,
    AudioPart,
    FilePart,
    ImagePart,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from llama_stack.api.tools import NamedToolChoice, ToolDefinition
from llama_stack.errors import InvalidRequest, UnsupportedParameter
from llama_stack.wire.openai_chat import (
    StreamWish,
    decode_chat_call,
    decode_chat_request,
    encode_chat_request,
)

HELLO: dict[str, Any] = {"role": "user", "content": "hello"}


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [HELLO], **fields}


def test_the_smallest_request() -> None:
    assert decode_chat_request(body()) == ChatRequest(model="m", messages=[UserMessage(content="hello")], whole=True)


def test_every_kind_of_message_and_part() -> None:
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "be brief"}]},
        {"role": "system", "content": "be kind", "name": "house"},
        {
            "role": "user",
            "name": "ada",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                {"type": "file", "file": {"file_data": "data:text/plain;base64,AA==", "filename": "a.txt"}},
                {"type": "file", "file": {"file_id": "file-1"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "signature": "s"}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "assistant", "content": [{"type": "text", "text": "no"}, {"type": "refusal", "refusal": "sorry"}]},
    ]
    assert decode_chat_request(body(messages=messages)).messages == [
        SystemMessage(content=[TextPart(text="be brief")]),
        SystemMessage(content="be kind", name="house"),
        UserMessage(
            name="ada",
            content=[
                TextPart(text="look"),
                ImagePart(url="data:image/png;base64,AA==", detail="low"),
                AudioPart(base64_audio="AA==", format="wav"),
                FilePart(data_url="data:text/plain;base64,AA==", filename="a.txt"),
                FilePart(file_id="file-1"),
            ],
        ),
        AssistantMessage(
            reasoning="hm", tool_calls=[ToolCall(id="c1", name="f", arguments="{}", extra={"signature": "s"})]
        ),
        ToolMessage(tool_call_id="c1", content="42"),
        AssistantMessage(content=[TextPart(text="no")], refusal="sorry"),
    ]


def test_a_message_of_the_openai_package_can_be_sent_back_as_it_came() -> None:
    dumped: dict[str, Any] = {
        "role": "assistant",
        "content": "hi",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
    }
    assert decode_chat_request(body(messages=[HELLO, dumped])).messages[1] == AssistantMessage(content="hi")


def test_a_message_that_the_openai_package_has_parsed_can_be_sent_back() -> None:
    called = {"name": "f", "arguments": '{"a": 1}', "parsed_arguments": {"a": 1}}
    parsed: dict[str, Any] = {
        "role": "assistant",
        "content": '{"b": 2}',
        "parsed": {"b": 2},
        "tool_calls": [{"id": "c1", "type": "function", "function": called}],
    }
    assert decode_chat_request(body(messages=[HELLO, parsed])).messages[1] == AssistantMessage(
        content='{"b": 2}', tool_calls=[ToolCall(id="c1", name="f", arguments='{"a": 1}')]
    )


def test_every_sampling_field_and_option() -> None:
    request, wish = decode_chat_call(
        body(
            temperature=0,
            top_p=0.5,
            top_k=3,
            min_p=0.1,
            frequency_penalty=-1,
            presence_penalty=1.5,
            repetition_penalty=1.1,
            seed=7,
            stop="END",
            max_completion_tokens=9,
            min_tokens=2,
            logit_bias={"5": -100},
            n=2,
            logprobs=True,
            top_logprobs=4,
            reasoning_effort="low",
            user="u",
            parallel_tool_calls=False,
            tool_prompt_format="json",
            stream=True,
            stream_options={"include_usage": True},
            guided_choice=["a", "b"],
            verbosity="low",
        )
    )
    assert wish == StreamWish(stream=True, include_usage=True)
    assert request.sampling == Sampling(
        temperature=0,
        top_p=0.5,
        top_k=3,
        min_p=0.1,
        frequency_penalty=-1,
        presence_penalty=1.5,
        repetition_penalty=1.1,
        seed=7,
        stop=["END"],
        max_tokens=9,
        min_tokens=2,
        logit_bias={"5": -100},
    )
    assert (request.n, request.logprobs, request.top_logprobs) == (2, True, 4)
    assert (request.reasoning_effort, request.user) == ("low", "u")
    assert (request.parallel_tool_calls, request.tool_prompt_format) == (False, "json")
    assert request.extra == {"guided_choice": ["a", "b"], "verbosity": "low"}


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        (None, "auto"),
        ({"type": "function", "function": {"name": "f"}}, NamedToolChoice(names=["f"])),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
            NamedToolChoice(names=["f"], mode="auto"),
        ),
    ],
)
def test_tools_and_every_tool_choice(choice: object, expected: object) -> None:
    request = decode_chat_request(body(tools=[TOOL], tool_choice=choice))
    assert request.tools == [ToolDefinition(name="f", parameters={"type": "object"}, strict=True)]
    assert request.tool_choice == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"type": "json_object"}, JsonObjectFormat()),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}},
            JsonSchemaFormat(name="n", json_schema={"type": "object"}, strict=True),
        ),
        ({"type": "grammar", "grammar": "root ::= [a-z]"}, GrammarFormat(grammar="root ::= [a-z]")),
    ],
)
def test_response_formats(asked: object, expected: object) -> None:
    assert decode_chat_request(body(response_format=asked)).response_format == expected


def test_null_means_not_given_everywhere() -> None:
    names = [name for name in ChatRequest.model_fields if name not in ("model", "messages", "sampling", "extra")]
    nulls = dict.fromkeys([*names, *Sampling.model_fields, "stream", "stream_options", "functions", "audio", "store"])
    assert decode_chat_request(body(**nulls)) == decode_chat_request(body())


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"model": None}, "model", "should be a valid string"),
        ({"model": ""}, "model", "at least 1 character"),
        ({"messages": []}, "messages", "at least 1 item"),
        ({"messages": "hi"}, "messages", "should be a valid list"),
        ({"messages": [{"content": "x"}]}, "messages.0.role", "is required"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role", "'assistant'"),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages.0.role", "'tool'"),
        (
            {"messages": [{"role": "user", "content": 3}]},
            "messages.0.content",
            "valid string or should be a valid list",
        ),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "is required"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages.0.content.0.type", "'image_url'"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "http://x"}]}]},
            "messages.0.content.0.image_url",
            "dictionary",
        ),
        ({"messages": [{"role": "user", "content": "x", "colour": 1}]}, "messages.0.colour", "not a known field"),
        ({"messages": [HELLO, {"role": "tool", "content": "x"}]}, "messages.1.tool_call_id", "is required"),
        (
            {
                "messages": [
                    {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {}}}]}
                ]
            },
            "messages.0.tool_calls.0.function.arguments",
            "valid string",
        ),
        ({"temperature": "hot"}, "temperature", "valid number"),
        ({"temperature": "0.5"}, "temperature", "valid number"),
        ({"temperature": -1}, "temperature", "greater than or equal to 0"),
        ({"top_p": 1.5}, "top_p", "less than or equal to 1"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"max_completion_tokens": 0}, "max_completion_tokens", "greater than or equal to 1"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_completion_tokens", "differs"),
        ({"max_tokens": 1.5}, "max_tokens", "valid integer"),
        ({"max_tokens": True}, "max_tokens", "valid integer"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": 1000}, "n", "less than or equal to 128"),
        ({"stop": [1]}, "stop.0", "valid string"),
        ({"logit_bias": {"5": "x"}}, "logit_bias.5", "valid number"),
        ({"top_logprobs": 3}, "top_logprobs", "needs logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "less than or equal to 20"),
        ({"stream": "yes"}, "stream", "valid boolean"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "when stream is true"),
        ({"tools": [{"type": "function"}]}, "tools.0.function", "is required"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools.0.type", "'function'"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools.0.function.name", "at least 1"),
        ({"tool_choice": "required"}, "tool_choice", "needs tools"),
        ({"tools": [TOOL], "tool_choice": "always"}, "tool_choice", "'required'"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice",
            "'g' is not among the tools sent (f)",
        ),
        ({"response_format": {"type": "xml"}}, "response_format.type", "'json_schema'"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "is required"),
        ({"reasoning_effort": "huge"}, "reasoning_effort", "'medium'"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_chat_request(body(**fields))
    assert caught.value.param == param
    assert words in caught.value.message
    assert caught.value.message.startswith(f"{param}: ")
    assert caught.value.http_status == 400


@pytest.mark.parametrize("wrong", [None, [], "text", 3])
def test_a_body_that_is_no_object(wrong: object) -> None:
    with pytest.raises(InvalidRequest, match="must be a JSON object"):
        decode_chat_request(wrong)


@pytest.mark.parametrize(
    ("fields", "param", "remedy"),
    [
        ({"functions": [{"name": "f"}]}, "functions", "send tools"),
        ({"function_call": "auto"}, "function_call", "send tool_choice"),
        ({"audio": {"voice": "a"}}, "audio", "only text"),
        ({"modalities": ["text", "audio"]}, "modalities", '["text"]'),
        ({"store": True}, "store", "set store to false"),
        ({"metadata": {"a": "b"}}, "metadata", "leave it out"),
        ({"service_tier": "flex"}, "service_tier", "one tier"),
        (
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
            "leave it out",
        ),
        (
            {"messages": [{"role": "assistant", "function_call": {"name": "f", "arguments": ""}}]},
            "messages.0.function_call",
            "tool_calls",
        ),
    ],
)
def test_what_openai_has_and_this_stack_has_not_is_refused(fields: dict[str, Any], param: str, remedy: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        decode_chat_request(body(**fields))
    assert caught.value.param == param
    assert remedy in caught.value.message


@pytest.mark.parametrize(
    "fields",
    [
        {"functions": []},
        {"modalities": ["text"]},
        {"store": False},
        {"metadata": {}},
        {"service_tier": "auto"},
        {"stream": True, "stream_options": {"include_obfuscation": False}},
    ],
)
def test_the_default_of_what_is_not_supported_is_accepted(fields: dict[str, Any]) -> None:
    assert decode_chat_request(body(**fields)).extra == {}


def test_an_upstream_receives_what_the_caller_sent() -> None:
    request = decode_chat_request(body(top_k=1, partner_field={"a": 1}))
    assert encode_chat_request(request) == {
        "model": "m",
        "messages": [HELLO],
        "top_k": 1,
        "partner_field": {"a": 1},
        "stream": True,
        "stream_options": {"include_usage": True},
    }


RICH = ChatRequest(
    model="m",
    messages=[
        SystemMessage(content="s"),
        UserMessage(content=[TextPart(text="t"), ImagePart(url="http://x", detail="high"), FilePart(file_id="f")]),
        UserMessage(content=[AudioPart(base64_audio="AA==", format="mp3")], name="n"),
        AssistantMessage(
            content="c",
            reasoning="r",
            refusal="no",
            name="a",
            tool_calls=[ToolCall(id="1", name="f", arguments="{", extra={"x": 1})],
            extra={"y": 2},
        ),
        ToolMessage(tool_call_id="1", content=[TextPart(text="t")], name="f"),
    ],
    tools=[ToolDefinition(name="f", description="d", parameters={}, strict=False), ToolDefinition(name="g")],
    tool_choice=NamedToolChoice(names=["f", "g"], mode="required"),
    parallel_tool_calls=True,
    tool_prompt_format="python_list",
    response_format=JsonSchemaFormat(name="n", json_schema={"type": "object"}, description="d", strict=False),
    sampling=Sampling(
        temperature=0.5,
        top_p=0.5,
        top_k=1,
        min_p=0.5,
        frequency_penalty=1,
        presence_penalty=1,
        repetition_penalty=1.5,
        seed=1,
        stop=["a", "b"],
        max_tokens=3,
        min_tokens=1,
        logit_bias={"1": 2.0},
    ),
    n=3,
    logprobs=True,
    top_logprobs=2,
    reasoning_effort="high",
    user="u",
    whole=True,
    extra={"z": [1]},
)


@pytest.mark.parametrize(
    "request_",
    [
        RICH,
        ChatRequest(model="m", messages=[UserMessage(content="")]),
        RICH.model_copy(update={"tool_choice": NamedToolChoice(names=["f"])}),
        RICH.model_copy(update={"response_format": GrammarFormat(grammar="g", syntax="lark")}),
        RICH.model_copy(update={"response_format": JsonObjectFormat(), "tools": [], "tool_choice": "auto"}).model_copy(
            update={"parallel_tool_calls": None}
        ),
    ],
)
def test_a_request_survives_the_wire(request_: ChatRequest) -> None:
    stream = not request_.whole
    assert decode_chat_request(encode_chat_request(request_, stream=stream)) == request_
    other_name = encode_chat_request(request_, stream=stream, max_tokens_name="max_completion_tokens")
    assert decode_chat_request(other_name) == request_


def test_the_rich_request_uses_every_field() -> None:
    """Keeps the round trip above honest when a field is added."""
    plain = ChatRequest(model="m", messages=[UserMessage(content="")])
    assert [name for name in ChatRequest.model_fields if getattr(RICH, name) == getattr(plain, name)] == ["model"]
    assert [name for name in Sampling.model_fields if getattr(RICH.sampling, name) in (None, [], {})] == []
