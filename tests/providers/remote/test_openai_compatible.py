"""The OpenAI-compatible provider against a scripted upstream: what is sent, how answers are read, how calls end."""

import asyncio
import gzip
from typing import Any

import pytest
from pydantic import ValidationError

from llama_stack.agents.loop import run_turn
from llama_stack.agents.setup import AgentSetup
from llama_stack.agents.tools import Toolbox, tool_from_schema
from llama_stack.api.agents import AgentConfig, TurnCompleted
from llama_stack.api.answers import collect
from llama_stack.api.common import Caller, HealthStatus
from llama_stack.api.inference import (
    ChatAnswer,
    ChatChoice,
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    RerankRequest,
    Sampling,
    TextDelta,
    Usage,
)
from llama_stack.api.messages import AssistantMessage, ImagePart, TextPart, ToolCall, ToolMessage, UserMessage
from llama_stack.api.resources import Model
from llama_stack.api.tools import ToolDefinition
from llama_stack.errors import (
    ConfigError,
    InvalidRequest,
    ProviderFailed,
    ProviderTimeout,
    ProviderUnavailable,
    UnsupportedParameter,
)
from llama_stack_providers.remote._openai.failures import container_hint
from llama_stack_providers.remote.openai_compatible import Config
from tests.providers.remote.conftest import KEY, Open
from tests.providers.remote.upstream import CUT, HANG, Reply, json_reply, running, stream_reply, text_chunk

CHAT = ChatRequest(model="m", messages=[UserMessage(content="hello")])
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
GOOD = stream_reply(text_chunk("Hel"), text_chunk("lo", "stop"), {"choices": [], "usage": USAGE})
ANSWER = ChatAnswer(
    choices=[ChatChoice(message=AssistantMessage(content="Hello"), finish_reason="stop")],
    usage=Usage(input_tokens=3, output_tokens=2),
)


async def test_a_chat(open_provider: Open, caller: Caller) -> None:
    async with running(GOOD) as upstream, open_provider(upstream.url) as inference:
        answer = await collect(inference.stream_chat(CHAT, caller))
    assert answer == ANSWER
    [received] = upstream.received
    assert (received.method, received.path) == ("POST", "/v1/chat/completions")
    assert received.headers["authorization"] == f"Bearer {KEY}"
    assert received.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize("suffix", ["", "/"])
async def test_the_base_url_may_end_in_a_slash(open_provider: Open, caller: Caller, suffix: str) -> None:
    async with running(GOOD) as upstream, open_provider(upstream.url + suffix) as inference:
        await collect(inference.stream_chat(CHAT, caller))
    assert upstream.received[0].path == "/v1/chat/completions"


IMAGE = ImagePart(url="data:image/png;base64,iVBORw0KGgo=")


async def test_images_that_tools_gave_follow_the_results_as_the_users(open_provider: Open, caller: Caller) -> None:
    """OpenAI's API takes text alone from a tool ("Create chat completion", tool message, content)."""
    calling = AssistantMessage(tool_calls=[ToolCall(id=name, name=f"see_{name}", arguments="{}") for name in "abc"])
    messages = [
        calling,
        ToolMessage(tool_call_id="a", content=[TextPart(text="a plot"), IMAGE]),
        ToolMessage(tool_call_id="b", content=[IMAGE]),
        ToolMessage(tool_call_id="c", content="nothing"),
        AssistantMessage(tool_calls=[ToolCall(id="a", name="again", arguments="{}")]),
        ToolMessage(tool_call_id="a", content=[IMAGE]),
    ]
    async with running(GOOD) as upstream, open_provider(upstream.url) as inference:
        await collect(inference.stream_chat(ChatRequest(model="m", messages=messages), caller))
    sent = upstream.received[0].body["messages"]
    shown = {"type": "image_url", "image_url": {"url": IMAGE.url}}
    assert [message["role"] for message in sent] == ["assistant", *["tool"] * 3, "user", "assistant", "tool", "user"]
    assert [message["content"] for message in sent if message["role"] == "tool"] == [
        [{"type": "text", "text": "a plot"}],
        "[See the message that follows.]",
        "nothing",
        "[See the message that follows.]",
    ]
    assert [message["content"] for message in sent if message["role"] == "user"] == [
        [
            {"type": "text", "text": "From the tool see_a (call a):"},
            shown,
            {"type": "text", "text": "From the tool see_b (call b):"},
            shown,
        ],
        [{"type": "text", "text": "From the tool again (call a):"}, shown],
    ]


async def test_a_call_without_a_name_goes_back_to_the_model(open_provider: Open, caller: Caller) -> None:
    nameless = {"index": 0, "id": "a", "type": "function", "function": {"name": "", "arguments": "{}"}}
    calling = stream_reply(
        {"choices": [{"index": 0, "delta": {"tool_calls": [nameless]}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
    )
    toolbox = Toolbox([tool_from_schema(ToolDefinition(name="look"))])
    async with running(calling, GOOD) as upstream, open_provider(upstream.url) as inference:
        setup = AgentSetup(inference, AgentConfig(model="m"), caller, toolbox)
        async for event in run_turn(setup, [], [UserMessage(content="look")]):
            last = event
    assert isinstance(last, TurnCompleted)
    assert last.turn.output == AssistantMessage(content="Hello")
    assert upstream.received[1].body["messages"][-1]["content"] == (
        "Error: There is no tool named 'unnamed_tool'. Available tools: look."
    )


async def test_a_server_whose_models_do_not_see_can_be_told_of(open_provider: Open) -> None:
    model = Model(identifier="m", provider_id="p", provider_resource_id="m", metadata={"vision": "no"})
    async with open_provider("http://127.0.0.1:9/v1", vision=False) as inference:
        assert inference.capabilities("m").vision is False
        assert inference.capabilities("m").form_guaranteed is False
    async with open_provider("http://127.0.0.1:9/v1", form_guaranteed=True) as inference:
        assert inference.capabilities("m").form_guaranteed is True
        with pytest.raises(ConfigError, match=r"metadata\.vision of model 'm' is 'no'"):
            await inference.add_model(model)
    async with open_provider("http://127.0.0.1:9/v1") as inference:
        assert inference.capabilities("m").vision is True


async def test_a_completion(open_provider: Open, caller: Caller) -> None:
    reply = stream_reply(
        {"choices": [{"index": 0, "text": "lo", "finish_reason": None}]},
        {"choices": [{"index": 0, "text": "", "finish_reason": "length"}]},
        {"choices": [], "usage": USAGE},
    )
    request = CompletionRequest(model="m", prompt="Hel", sampling=Sampling(max_tokens=1), logprobs=2)
    async with running(reply) as upstream, open_provider(upstream.url) as inference:
        answer = await collect(inference.complete(request, caller))
    assert (answer.message.content, answer.choices[0].finish_reason) == ("lo", "length")
    body = upstream.received[0].body
    assert (body["prompt"], body["max_tokens"], body["logprobs"]) == ("Hel", 1, 2)


async def test_embeddings_and_reranking(open_provider: Open, caller: Caller) -> None:
    embeddings = json_reply(
        {
            "data": [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": "AACAPw=="}],
            "usage": {"prompt_tokens": 4, "total_tokens": 4},
        }
    )
    ranking = json_reply({"results": [{"index": 1, "relevance_score": 0.1}, {"index": 0, "relevance_score": 0.9}]})
    async with running(embeddings, ranking) as upstream, open_provider(upstream.url) as inference:
        embedded = await inference.embed(EmbeddingRequest(model="e", inputs=["a", "b"]), caller)
        ranked = await inference.rerank(RerankRequest(model="r", query="q", documents=["x", "y"], top_n=2), caller)
    assert (embedded.vectors, embedded.usage.input_tokens) == ([[1.0], [2.0]], 4)
    assert [(result.index, result.score) for result in ranked.results] == [(0, 0.9), (1, 0.1)]
    assert upstream.received[0].body == {"model": "e", "input": ["a", "b"], "encoding_format": "float"}
    assert upstream.received[1].body == {"model": "r", "query": "q", "documents": ["x", "y"], "top_n": 2}


@pytest.mark.parametrize(
    "body",
    [{}, {"data": None}, {"data": [{"index": 0}]}, {"data": [{"index": 0, "embedding": ["x"]}]}, [], {"data": []}],
)
async def test_embeddings_in_no_known_shape(open_provider: Open, caller: Caller, body: Any) -> None:
    async with running(json_reply(body)) as upstream, open_provider(upstream.url) as inference:
        with pytest.raises(ProviderFailed):
            await inference.embed(EmbeddingRequest(model="e", inputs=["a"]), caller)


async def test_what_the_format_cannot_say_is_refused(open_provider: Open, caller: Caller) -> None:
    async with running(GOOD) as upstream, open_provider(upstream.url) as inference:
        with pytest.raises(UnsupportedParameter, match="truncate"):
            await inference.embed(EmbeddingRequest(model="e", inputs=["a"], truncate="end"), caller)
        with pytest.raises(UnsupportedParameter, match="task"):
            await inference.embed(EmbeddingRequest(model="e", inputs=["a"], task="query"), caller)
        with pytest.raises(UnsupportedParameter, match="tool_prompt_format"):
            await collect(inference.stream_chat(CHAT.model_copy(update={"tool_prompt_format": "json"}), caller))
    assert upstream.received == []


# --- keys ----------------------------------------------------------------------------------------------------------


async def test_the_callers_own_key_goes_before_the_configured_one_and_to_no_other_request(open_provider: Open) -> None:
    own = Caller(owner="bob", provider_credentials={"acme_key": "sk-own"})
    async with running(GOOD) as upstream, open_provider(upstream.url, credential_name="acme_key") as inference:
        for caller in (own, Caller(owner="alice")):
            await collect(inference.stream_chat(CHAT, caller))
    assert [received.headers["authorization"] for received in upstream.received] == ["Bearer sk-own", f"Bearer {KEY}"]


async def test_keys_of_many_callers_at_once_stay_with_their_owners(open_provider: Open) -> None:
    async with (
        running(GOOD) as upstream,
        open_provider(upstream.url, max_connections=8) as inference,
        asyncio.TaskGroup() as group,
    ):
        for number in range(100):
            caller = Caller(owner=str(number), provider_credentials={"openai_compatible_api_key": f"sk-{number}"})
            request = CHAT.model_copy(update={"user": str(number), "whole": bool(number % 2)})
            group.create_task(collect(inference.stream_chat(request, caller)))
    sent = [(received.headers["authorization"], received.body["user"]) for received in upstream.received]
    assert sorted(sent) == sorted((f"Bearer sk-{number}", str(number)) for number in range(100))


async def test_without_a_key_none_is_sent(open_provider: Open, caller: Caller) -> None:
    async with running(GOOD) as upstream, open_provider(upstream.url, api_key="") as inference:
        await collect(inference.stream_chat(CHAT, caller))
    assert "authorization" not in upstream.received[0].headers


@pytest.mark.parametrize("own", ["a\r\nx-admin: 1", "schlüssel", "", 3, {"a": "b"}])
async def test_a_callers_key_that_is_none_is_refused(open_provider: Open, own: Any) -> None:
    caller = Caller(owner="bob", provider_credentials={"openai_compatible_api_key": own})
    async with running(GOOD) as upstream, open_provider(upstream.url) as inference:
        with pytest.raises(InvalidRequest) as caught:
            await collect(inference.stream_chat(CHAT, caller))
    assert caught.value.param == "openai_compatible_api_key"
    assert upstream.received == []


def test_a_configured_key_that_is_none_is_refused_without_being_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({"base_url": "http://x", "api_key": "hunter\ncret"})
    assert "cret" not in str(caught.value)
    assert "api_key" in str(caught.value)


async def test_cookies_are_kept_for_nobody(open_provider: Open, caller: Caller) -> None:
    reply = stream_reply(text_chunk("x", "stop"))
    reply.headers["set-cookie"] = "session=of-alice; Path=/"
    async with running(reply) as upstream, open_provider(upstream.url) as inference:
        for _ in range(2):
            await collect(inference.stream_chat(CHAT, caller))
    assert "cookie" not in upstream.received[1].headers


# --- connections ---------------------------------------------------------------------------------------------------


async def test_a_connection_is_used_again(open_provider: Open, caller: Caller) -> None:
    async with running(GOOD) as upstream, open_provider(upstream.url) as inference:
        for _ in range(5):
            await collect(inference.stream_chat(CHAT, caller))
    assert (len(upstream.received), upstream.connections) == (5, 1)


async def test_a_kept_connection_that_the_server_closed_is_replaced(open_provider: Open, caller: Caller) -> None:
    """As cpp-httplib does, and any server whose patience ends before ours."""
    closes_after = stream_reply(text_chunk("x", "stop"))
    closes_on_next = Reply(None, then=CUT)
    replies = (closes_after, closes_on_next, GOOD)
    async with running(*replies) as upstream, open_provider(upstream.url) as inference:
        await collect(inference.stream_chat(CHAT, caller))
        assert await collect(inference.stream_chat(CHAT, caller)) == ANSWER
    assert (len(upstream.received), upstream.connections) == (3, 2)


async def test_a_fresh_connection_that_is_closed_is_not_tried_again(open_provider: Open, caller: Caller) -> None:
    async with running(Reply(None, then=CUT)) as upstream, open_provider(upstream.url) as inference:
        with pytest.raises(ProviderFailed, match="without an answer"):
            await collect(inference.stream_chat(CHAT, caller))
    assert len(upstream.received) == 1


async def test_closing_a_stream_closes_the_upstream_connection(open_provider: Open, caller: Caller) -> None:
    reply = stream_reply(text_chunk("x"), done=False, then=HANG)
    async with running(reply) as upstream, open_provider(upstream.url) as inference, asyncio.timeout(60):
        stream = inference.stream_chat(CHAT, caller)
        assert await anext(stream) == TextDelta(text="x")
        await stream.aclose()
        async with asyncio.timeout(60):
            await upstream.hung_up.wait()


@pytest.mark.parametrize("head_was_sent", [True, False])
async def test_cancelling_the_reader_closes_the_upstream_connection(
    open_provider: Open, caller: Caller, head_was_sent: bool
) -> None:
    reply = stream_reply(done=False, then=HANG)
    reply.status = 200 if head_was_sent else None
    async with running(reply) as upstream, open_provider(upstream.url) as inference, asyncio.timeout(60):
        reading = asyncio.create_task(collect(inference.stream_chat(CHAT, caller)))
        await upstream.asked.wait()
        reading.cancel()
        async with asyncio.timeout(60):
            await upstream.hung_up.wait()


async def test_a_compressed_answer(open_provider: Open, caller: Caller) -> None:
    plain = b"".join(GOOD.body)
    reply = stream_reply(gzip.compress(plain), done=False)
    reply.headers["content-encoding"] = "gzip"
    async with running(reply) as upstream, open_provider(upstream.url) as inference:
        assert await collect(inference.stream_chat(CHAT, caller)) == ANSWER


async def test_more_calls_than_connections_wait_their_turn(open_provider: Open, caller: Caller) -> None:
    async with (
        running(GOOD) as upstream,
        open_provider(upstream.url, max_connections=2) as inference,
        asyncio.timeout(60),
        asyncio.TaskGroup() as group,
    ):
        for _ in range(10):
            group.create_task(collect(inference.stream_chat(CHAT, caller)))
    assert (len(upstream.received), upstream.connections) == (10, 2)


async def test_a_proxy_of_the_environment_is_used(
    open_provider: Open, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(GOOD) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with open_provider("http://partner.invalid/v1") as inference:
            assert await collect(inference.stream_chat(CHAT, caller)) == ANSWER
    assert proxy.received[0].path == "http://partner.invalid/v1/chat/completions"


async def test_a_whole_answer_is_waited_for_longer_than_the_next_piece_of_a_stream(
    open_provider: Open, caller: Caller
) -> None:
    silent = Reply(None, then=HANG)
    async with (
        running(silent) as upstream,
        open_provider(upstream.url, timeout_s=1, answer_timeout_s=60) as inference,
        asyncio.timeout(60),
    ):
        whole = asyncio.create_task(collect(inference.stream_chat(CHAT.model_copy(update={"whole": True}), caller)))
        await upstream.asked.wait()
        with pytest.raises(ProviderTimeout, match="timeout_s"):
            await collect(inference.stream_chat(CHAT, caller))
        assert not whole.done()
        whole.cancel()


# --- models and health ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        ({"data": [{"id": "a", "max_model_len": 4096}, {"id": "b"}]}, 200, [("a", 4096), ("b", None)]),
        ([{"id": "a", "context_length": 9}], 200, [("a", 9)]),
        ({"detail": "Not Found"}, 404, []),
    ],
)
async def test_listing_models(open_provider: Open, body: Any, status: int, expected: Any) -> None:
    async with running(json_reply(body, status)) as upstream, open_provider(upstream.url) as inference:
        models = await inference.list_models()
    assert [(model.id, model.context_length) for model in models] == expected


async def test_configured_models_are_listed_without_asking(open_provider: Open) -> None:
    async with running(GOOD) as upstream, open_provider(upstream.url, models=["a"]) as inference:
        assert [model.id for model in await inference.list_models()] == ["a"]
    assert upstream.received == []


@pytest.mark.parametrize(
    ("status", "health"),
    [
        (200, HealthStatus.OK),
        (404, HealthStatus.OK),
        (401, HealthStatus.FAILED),
        (503, HealthStatus.DEGRADED),
    ],
)
async def test_health(open_provider: Open, status: int, health: HealthStatus) -> None:
    async with running(json_reply({"data": []}, status)) as upstream, open_provider(upstream.url) as inference:
        assert (await inference.health()).status is health


async def test_an_unreachable_server_is_degraded_and_comes_back(open_provider: Open) -> None:
    async with running(GOOD) as gone:
        pass
    async with open_provider(gone.url) as inference:
        health = await inference.health()
        assert health.status is HealthStatus.DEGRADED
        assert health.message is not None and gone.url in health.message
        with pytest.raises(ProviderUnavailable):
            await inference.list_models()
    assert KEY not in health.message


def test_the_hint_for_a_loopback_address_in_a_container(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert container_hint("localhost", root=tmp_path) == ""
    (tmp_path / ".dockerenv").touch()
    assert "host.docker.internal" in container_hint("localhost", root=tmp_path)
    assert container_hint("partner.example", root=tmp_path) == ""
