"""A shipped distribution opened through the SDK: its provider asks a real server, the agent works on top."""

import pytest

from llama_stack import Agent, LlamaStack, SyncAgent, errors
from llama_stack.api.common import HealthStatus
from llama_stack.api.inference import ChatRequest
from llama_stack.sdk.loop_thread import LoopThread
from llama_stack.testing.scripted import ScriptedInference, calls, says
from tests.client.ways import play


def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


async def test_an_agent_works_through_a_remote_provider(inference: ScriptedInference, server: LoopThread[str]) -> None:
    play(inference, calls(("double", '{"number": 21}')), says("It is 42."))
    async with LlamaStack.open("openai-compatible", env={"OPENAI_COMPATIBLE_URL": f"{server.held}/v1"}) as stack:
        model = await stack.default_model()
        result = await Agent(stack, tools=[double]).run("What is twice 21?")

    assert model == "upstream/scripted"
    assert result.text == "It is 42."
    last = inference.requests[-1]
    assert isinstance(last, ChatRequest)
    assert (last.model, last.messages[-1].content) == ("scripted", "42")


def test_the_same_from_sync_code(inference: ScriptedInference, server: LoopThread[str]) -> None:
    play(inference, calls(("double", '{"number": 21}')), says("It is 42."))
    overrides = {"providers.inference.0.config.base_url": f"{server.held}/v1"}
    with LlamaStack.open("openai-compatible", overrides=overrides) as stack:
        assert SyncAgent(stack, tools=[double]).run("What is twice 21?").text == "It is 42."


async def test_a_provider_that_is_away_is_degraded_and_its_calls_say_why() -> None:
    async with LlamaStack.open("openai-compatible", env={"OPENAI_COMPATIBLE_URL": "http://127.0.0.1:9/v1"}) as stack:
        (provider,) = await stack.providers()
        assert provider.health.status == HealthStatus.DEGRADED
        with pytest.raises(errors.ProviderUnavailable):
            await Agent(stack, model="upstream/any").run("Hi")


async def test_a_missing_setting_is_named_before_anything_starts() -> None:
    with pytest.raises(errors.ConfigError, match=r"no-such-file\.yaml"):
        async with LlamaStack.open("no-such-file.yaml"):
            pass
    with pytest.raises(errors.ConfigError, match="modle"):
        async with LlamaStack.open("openai-compatible", overrides={"providers.inference.0.modle": "x"}):
            pass
