"""The form of the final answer: native, told, checked, repaired once, and refused with a typed error."""

import asyncio
import json
from typing import Any

import pytest

from llama_stack.agents.loop import run_turn
from llama_stack.api.agents import InferenceStep, StepProgress
from llama_stack.api.inference import (
    Capabilities,
    JsonObjectFormat,
    JsonSchemaFormat,
    RefusalDelta,
    Sampling,
    TextDelta,
    TextFormat,
    ToolCallStart,
)
from llama_stack.api.messages import text_of
from llama_stack.errors import StructuredOutputInvalid
from llama_stack.testing.scripted import ScriptedInference
from tests.agents.scripts import asks, calls, chats, everything, says, setup_of, text_out, texts_in

SCHEMA = {"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"]}
FORM = JsonSchemaFormat(json_schema=SCHEMA)
VOUCHES = Capabilities(form_guaranteed=True)
RIGHT, WRONG, BROKEN = '{"total": 3}', '{"sum": 3}', '{"total": 3'


def one() -> int:
    """One."""
    return 1


def two() -> int:
    """Two."""
    return 2


@pytest.mark.parametrize("native", [True, False])
async def test_two_tools_and_a_schema_whatever_the_provider_can_do(native: bool) -> None:
    script = ScriptedInference(
        calls(("one", {}), ("two", {})),
        says("It is 3."),
        says(RIGHT),
        capabilities=Capabilities(json_schema=native),
    )
    _, turn = await everything(run_turn(setup_of(script, one, two, response_format=FORM), [], asks("add")))

    assert text_out(turn) == RIGHT
    forms = [request.response_format for request in chats(script)]
    assert forms == [TextFormat(), TextFormat(), FORM if native else TextFormat()]
    told = json.dumps(SCHEMA) in text_of(chats(script)[2].messages[0].content)
    assert told is not native


async def test_an_answer_that_has_the_form_already_is_not_asked_for_again() -> None:
    script = ScriptedInference(calls(("one", {})), says(RIGHT))
    events, turn = await everything(run_turn(setup_of(script, one, response_format=FORM), [], asks("add")))

    assert len(chats(script)) == 2
    assert (text_out(turn), turn.end_reason, texts_in(events)) == (RIGHT, "completed", [RIGHT])


@pytest.mark.parametrize("tools", [(), (one,)])
async def test_readers_of_the_stream_are_told_the_answer_that_has_its_form_and_no_other(tools: tuple[Any, ...]) -> None:
    drafts = [says(WRONG)] * (1 + len(tools))
    script = ScriptedInference(*drafts, [TextDelta(text='{"total"'), *says(": 3}")])
    events, turn = await everything(run_turn(setup_of(script, *tools, response_format=FORM), [], asks("add")))

    assert texts_in(events) == ['{"total"', ": 3}"]
    assert text_out(turn) == RIGHT


async def test_a_form_that_the_provider_vouches_for_is_told_as_it_comes() -> None:
    """The rest of the answer is made when its beginning was told."""
    rest = asyncio.Event()
    script = ScriptedInference(
        says("It is 3."), [TextDelta(text='{"total"'), rest, *says(": 3}")], capabilities=VOUCHES
    )
    told: list[str] = []
    async for event in run_turn(setup_of(script, one, response_format=FORM), [], asks("add")):
        told += texts_in([event])
        if told:
            rest.set()
    assert told == ['{"total"', ": 3}"]


async def test_a_provider_that_breaks_its_word_is_an_error_and_not_a_second_answer() -> None:
    script = ScriptedInference(says(WRONG), capabilities=VOUCHES)
    with pytest.raises(StructuredOutputInvalid, match="total is required"):
        await everything(run_turn(setup_of(script, response_format=FORM), [], asks("add")))
    assert len(chats(script)) == 1


async def test_an_answer_that_a_text_may_end_anywhere_is_checked_first() -> None:
    script = ScriptedInference(says(BROKEN), says(RIGHT), capabilities=VOUCHES)
    setup = setup_of(script, response_format=FORM, sampling=Sampling(stop=["}"]))
    events, _ = await everything(run_turn(setup, [], asks("add")))
    assert texts_in(events) == [RIGHT]


async def test_what_is_said_before_a_call_is_told_with_the_call() -> None:
    script = ScriptedInference([TextDelta(text="I look."), *calls(("one", {}))], says(RIGHT))
    events, _ = await everything(run_turn(setup_of(script, one, response_format=FORM), [], asks("add")))

    kinds = [type(event.event) for event in events if isinstance(event, StepProgress)]
    assert kinds.index(TextDelta) < kinds.index(ToolCallStart)
    assert texts_in(events) == ["I look.", RIGHT]


async def test_a_refusal_is_an_answer_without_a_form() -> None:
    script = ScriptedInference([RefusalDelta(text="I won't."), *says("")])
    _, turn = await everything(run_turn(setup_of(script, response_format=FORM), [], asks("add")))

    assert turn.output is not None
    assert (turn.output.refusal, turn.end_reason, len(chats(script))) == ("I won't.", "completed", 1)


@pytest.mark.parametrize("bad", [WRONG, BROKEN, "", "[]"])
async def test_an_answer_off_the_form_is_asked_for_once_more(bad: str) -> None:
    script = ScriptedInference(says(bad), says(RIGHT))
    _, turn = await everything(run_turn(setup_of(script, response_format=FORM), [], asks("add")))

    assert (text_out(turn), turn.end_reason) == (RIGHT, "completed")
    again = chats(script)[1].messages
    assert [message.role for message in again] == ["user", "assistant", "user"]
    assert "does not have the form" in text_of(again[-1].content)
    assert [step.is_formed for step in turn.steps if isinstance(step, InferenceStep)] == [True, True]


async def test_a_second_answer_off_the_form_is_an_error_with_the_text() -> None:
    script = ScriptedInference(says(WRONG), says(BROKEN))
    with pytest.raises(StructuredOutputInvalid, match="is not valid JSON") as caught:
        await everything(run_turn(setup_of(script, response_format=FORM), [], asks("add")))
    assert BROKEN in caught.value.message
    assert len(script.requests) == 2


async def test_any_object_will_do_where_no_schema_is_named() -> None:
    script = ScriptedInference(says("3"), says(WRONG))
    _, turn = await everything(run_turn(setup_of(script, response_format=JsonObjectFormat()), [], asks("add")))
    assert text_out(turn) == WRONG


async def test_a_cut_off_answer_is_not_taken_for_a_wrong_one() -> None:
    script = ScriptedInference(says(BROKEN, finish_reason="length"))
    _, turn = await everything(run_turn(setup_of(script, response_format=FORM), [], asks("add")))
    assert (text_out(turn), turn.end_reason) == (BROKEN, "max_tokens")
