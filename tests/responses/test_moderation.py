"""`moderation`: a shield judges what a response is given and what it says, and blocks what it shall block."""

from typing import Any

import pytest
from openai import NotFoundError

from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.messages import Message, text_of
from llama_stack.api.resources import Shield
from llama_stack.api.safety import ShieldVerdict, Violation, ViolationLevel
from llama_stack.errors import ProviderUnavailable
from llama_stack.testing.scripted import calls, says
from tests.responses.conftest import Start, streamed


class Words:
    """Objects to one word, and fails on another."""

    def __init__(self) -> None:
        self.judged: list[str] = []

    async def run_shield(
        self, shield: Shield, messages: list[Message], caller: Caller, params: JsonObject | None = None
    ) -> ShieldVerdict:
        text = text_of(messages[-1].content)
        self.judged.append(text)
        if "outage" in text:
            raise ProviderUnavailable("the guard is away")
        if "bomb" not in text:
            return ShieldVerdict()
        metadata: JsonObject = {"violation_type": "weapons", "score": 0.9}
        return ShieldVerdict(
            violation=Violation(level=ViolationLevel.ERROR, user_message="Not about that.", metadata=metadata)
        )


def wanted(**policy: str) -> Any:
    return {"model": "words", "policy": {name: {"mode": mode} for name, mode in policy.items()}}


async def test_what_is_given_and_what_is_said_are_scored(start: Start) -> None:
    words = Words()
    async with start(says("A bomb."), says("Hi."), shields={"words": words}) as running:
        create = running.openai.responses.create
        first = await create(model="scripted", input="What is it?", moderation={"model": "words"})
        again = await running.openai.responses.retrieve(first.id)
        second = await create(model="scripted", input="A bomb?", moderation=wanted(input="score", output="score"))
        plain = await create(model="scripted", input="Hi", store=False)
    assert first.output_text == "A bomb."
    assert first.moderation is not None
    given: Any = first.moderation.input
    told: Any = first.moderation.output
    assert (given.type, given.model, given.flagged) == ("moderation_result", "words", False)
    assert (told.flagged, told.categories["weapons"], told.category_scores["weapons"]) == (True, True, 0.9)
    assert told.category_applied_input_types["weapons"] == ["text"]
    assert again.moderation == first.moderation
    assert second.status == "completed"
    assert second.moderation is not None
    assert [one.flagged for one in (second.moderation.input, second.moderation.output)] == [True, False]  # type: ignore[union-attr]
    assert plain.moderation is None
    assert words.judged == ["What is it?", "A bomb.", "A bomb?", "Hi."]


async def test_all_that_is_given_is_scored(start: Start) -> None:
    said: Any = [{"role": "user", "content": "A bomb?"}, {"role": "user", "content": "Go on."}]
    async with start(says("Hi."), shields={"words": Words()}) as running:
        response = await running.openai.responses.create(model="scripted", input=said, moderation={"model": "words"})
    given: Any = response.moderation and response.moderation.input
    assert given.flagged


async def test_what_is_given_can_be_kept_from_the_model(start: Start) -> None:
    words = Words()
    async with start(says("Hi."), shields={"words": words}) as running:
        blocked = await running.openai.responses.create(
            model="scripted", input="A bomb?", moderation=wanted(input="block")
        )
        let_in = await running.openai.responses.create(model="scripted", input="Hi", moderation=wanted(input="block"))
        asked = len(running.inference.requests)
    assert (blocked.status, blocked.incomplete_details.reason) == ("incomplete", "content_filter")  # type: ignore[union-attr]
    message: Any = blocked.output[0]
    assert message.content[0].refusal == "Not about that."
    assert blocked.moderation.input.flagged  # type: ignore[union-attr]
    assert not blocked.moderation.output.flagged  # type: ignore[union-attr]
    assert not let_in.moderation.input.flagged  # type: ignore[union-attr]
    # The input was judged once, and only the one let in was answered.
    assert words.judged == ["A bomb?", "Hi", "Hi."]
    assert asked == 1


@pytest.mark.parametrize("background", [False, True])
async def test_what_is_said_can_be_kept_from_the_caller(start: Start, background: bool) -> None:
    async with start(says("A bo", "mb."), shields={"words": Words()}) as running:
        events = await streamed(running.openai, input="?", moderation=wanted(output="block"), background=background)
    last = events[-1].response
    assert (last.status, last.incomplete_details.reason) == ("incomplete", "content_filter")
    assert "bo" not in "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert last.output[0].content[0].refusal == "Not about that."
    assert (last.moderation.input.flagged, last.moderation.output.flagged) == (False, True)
    assert all(event.response.moderation is None for event in events[:2])


async def test_calls_of_the_callers_are_judged_too(start: Start) -> None:
    tool: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
    async with start(calls(("weather", "{}")), says("Mild."), shields={"words": Words()}) as running:
        create = running.openai.responses.create
        first = await create(model="scripted", input="?", tools=[tool], moderation=wanted(output="block"))
        output: Any = {"type": "function_call_output", "call_id": "call_0", "output": "a bomb"}
        second = await create(
            model="scripted",
            input=[output],
            tools=[tool],
            previous_response_id=first.id,
            moderation=wanted(input="score"),
        )
    assert first.status == "completed"
    assert [one.flagged for one in (first.moderation.input, first.moderation.output)] == [False, False]  # type: ignore[union-attr]
    assert [one.flagged for one in (second.moderation.input, second.moderation.output)] == [True, False]  # type: ignore[union-attr]


async def test_a_shield_that_fails_is_told_and_only_stops_what_it_shall_block(start: Start) -> None:
    async with start(says("An outage."), shields={"words": Words()}) as running:
        response = await running.openai.responses.create(model="scripted", input="Hi", moderation={"model": "words"})
        answer = await running.http.post(
            "/v1/responses", json={"model": "scripted", "input": "outage", "moderation": wanted(input="block")}
        )
        rows = await running.rows()
    told: Any = response.moderation.output  # type: ignore[union-attr]
    assert (response.status, response.output_text) == ("completed", "An outage.")
    assert (told.type, told.code, told.message) == ("error", "provider_unavailable", "the guard is away")
    assert (answer.status_code, rows["responses"]) == (503, 1)


async def test_a_shield_that_is_not_there_is_named(start: Start) -> None:
    async with start(says("Hi"), shields={"words": Words()}) as running:
        for background in (False, True):
            with pytest.raises(NotFoundError, match="GET /v1/shields") as missing:
                await running.openai.responses.create(
                    model="scripted", input="Hi", moderation={"model": "omni-latest"}, background=background
                )
            assert missing.value.param == "moderation.model"
        assert (await running.rows())["responses"] == 0
