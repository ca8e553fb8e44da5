"""What every safety provider does: inherit `SafetyContract`, give it a `judge` fixture, and these tests are yours.

class TestAcmeGuard(SafetyContract):
    @pytest.fixture
    async def judge(self) -> AsyncIterator[Judge]:
        async with open_acme(Config(), floor) as safety:
            yield Judge(safety, shield, harmless="What is the capital of France?", harmful="...")
"""

import asyncio
import json
from dataclasses import dataclass

import pytest

from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from llama_stack.api.resources import Shield
from llama_stack.api.safety import Safety, ShieldVerdict, Violation, ViolationLevel
from llama_stack.errors import InvalidRequest

CALLER = Caller(owner="contract")


@dataclass(frozen=True)
class Judge:
    """A shield of the provider, a text it lets pass, and one it holds back as an error."""

    safety: Safety
    shield: Shield
    harmless: str
    harmful: str

    async def verdict(self, *messages: Message, params: JsonObject | None = None) -> ShieldVerdict:
        return await self.safety.run_shield(self.shield, list(messages), CALLER, params)

    async def violation(self, *messages: Message) -> Violation:
        """The objection there has to be."""
        violation = (await self.verdict(*messages)).violation
        assert violation is not None
        return violation


class SafetyContract:
    """The fixture `judge` is the subclass's."""

    async def test_what_is_harmless_passes(self, judge: Judge) -> None:
        assert (await judge.verdict(UserMessage(content=judge.harmless))).violation is None

    async def test_what_is_harmful_is_an_error_that_says_why(self, judge: Judge) -> None:
        violation = await judge.violation(UserMessage(content=judge.harmful))
        assert violation.level is ViolationLevel.ERROR
        assert violation.user_message
        assert isinstance(violation.metadata["violation_type"], str)
        assert violation.metadata["role"]

    async def test_the_reason_is_json(self, judge: Judge) -> None:
        violation = await judge.violation(UserMessage(content=judge.harmful))
        assert json.loads(json.dumps(violation.metadata)) == violation.metadata

    async def test_text_in_parts_is_judged(self, judge: Judge) -> None:
        await judge.violation(UserMessage(content=[TextPart(text="Hello."), TextPart(text=judge.harmful)]))

    async def test_the_arguments_of_a_call_are_judged(self, judge: Judge) -> None:
        call = ToolCall(id="call_1", name="send", arguments=json.dumps({"text": judge.harmful}))
        await judge.violation(UserMessage(content=judge.harmless), AssistantMessage(tool_calls=[call]))

    async def test_what_a_tool_gave_back_is_judged(self, judge: Judge) -> None:
        call = ToolCall(id="call_1", name="read", arguments="{}")
        await judge.violation(
            UserMessage(content=judge.harmless),
            AssistantMessage(tool_calls=[call]),
            ToolMessage(tool_call_id="call_1", content=judge.harmful),
        )

    async def test_a_system_message_that_comes_last_is_judged(self, judge: Judge) -> None:
        await judge.violation(UserMessage(content=judge.harmless), SystemMessage(content=judge.harmful))

    async def test_nothing_to_judge_is_the_callers_mistake(self, judge: Judge) -> None:
        with pytest.raises(InvalidRequest) as refused:
            await judge.verdict()
        assert refused.value.param == "messages"

    async def test_empty_and_unknown_params_change_nothing(self, judge: Judge) -> None:
        for params in (None, {}, {"nobody_knows_this": [1]}):
            verdict = await judge.verdict(UserMessage(content=judge.harmful), params=params)
            assert verdict.violation is not None
            assert (await judge.verdict(UserMessage(content=judge.harmless), params=params)).violation is None

    async def test_many_are_judged_at_once_each_for_itself(self, judge: Judge) -> None:
        texts = [judge.harmful if number % 2 else judge.harmless for number in range(8)]
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(judge.verdict(UserMessage(content=text))) for text in texts]
        assert [task.result().violation is not None for task in running] == [bool(n % 2) for n in range(8)]

    async def test_the_messages_are_left_as_they_were(self, judge: Judge) -> None:
        messages: list[Message] = [UserMessage(content=judge.harmless), UserMessage(content=judge.harmful)]
        before = [message.model_copy(deep=True) for message in messages]
        await judge.verdict(*messages)
        assert messages == before
