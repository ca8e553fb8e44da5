"""Counting the tokens of a request: the provider's own count, or a stated estimate."""

from pathlib import Path

import pytest

from llama_stack.api.common import Caller
from llama_stack.api.inference import Capabilities, ChatRequest
from llama_stack.api.messages import AssistantMessage, ImagePart, TextPart, ToolCall, UserMessage
from llama_stack.api.token_estimate import estimated_tokens
from llama_stack.api.tools import ToolDefinition
from llama_stack.errors import NotFound, UnsupportedParameter
from llama_stack.testing.scripted import ScriptedInference
from llama_stack.testing.scripted_stack import open_scripted_stack

CALLER = Caller(owner="alice")
TOOL = ToolDefinition(name="look", description="Look at something", parameters={"type": "object"})
ASKED = ChatRequest(model="scripted", messages=[UserMessage(content="three small words")], tools=[TOOL])


async def test_a_provider_that_counts_is_asked_by_its_own_name_of_the_model(tmp_path: Path) -> None:
    inference = ScriptedInference(capabilities=Capabilities(token_counts=True))
    async with open_scripted_stack(inference=inference, home=tmp_path) as stack:
        assert await stack.inference.count_tokens(ASKED, CALLER) == 3
        assert await stack.inference.count_tokens(ASKED.model_copy(update={"tool_choice": "none"}), CALLER) == 3
    first, second = inference.requests
    assert isinstance(first, ChatRequest)
    assert isinstance(second, ChatRequest)
    assert (first.tools, second.tools) == ([TOOL], [])


async def test_where_the_provider_cannot_count_there_is_an_estimate(tmp_path: Path) -> None:
    inference = ScriptedInference()
    async with open_scripted_stack(inference=inference, home=tmp_path) as stack:
        assert not stack.inference.capabilities("scripted").token_counts
        assert await stack.inference.count_tokens(ASKED, CALLER) == estimated_tokens(ASKED.messages, [TOOL])
        with pytest.raises(NotFound):
            await stack.inference.count_tokens(ASKED.model_copy(update={"model": "none"}), CALLER)
    assert inference.requests == []


async def test_an_embedding_model_has_no_conversations_to_count(tmp_path: Path) -> None:
    inference = ScriptedInference(capabilities=Capabilities(chat=False, embedding=True))
    async with open_scripted_stack(inference=inference, home=tmp_path) as stack:
        with pytest.raises(UnsupportedParameter):
            await stack.inference.count_tokens(ASKED, CALLER)


def test_the_estimate_sees_every_part_of_a_conversation() -> None:
    def estimate(*messages: UserMessage | AssistantMessage) -> int:
        return estimated_tokens(list(messages))

    plain = estimate(UserMessage(content="hello"))
    assert estimate(UserMessage(content=[TextPart(text="hello"), ImagePart(url="data:")])) > plain + 500
    call = ToolCall(id="1", name="look", arguments='{"at": "something far away"}')
    assert estimate(AssistantMessage(tool_calls=[call])) > estimate(AssistantMessage()) + 5
    in_japanese = "今日はいい天気です"
    assert 7 <= estimate(UserMessage(content=in_japanese)) - estimate(UserMessage(content="")) <= len(in_japanese)
    assert estimate(UserMessage(content="half \ud83d a pair")) > 0
