"""What a turn may spend, and that it ends with text when that is gone."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from llama_stack.agents.budget import Allowance
from llama_stack.agents.loop import run_turn
from llama_stack.agents.tools import tool_from_schema
from llama_stack.agents.transcript import messages_of
from llama_stack.api.agents import Budget, InferenceStep, ToolExecutionStep, Turn, TurnAwaitingInput
from llama_stack.api.inference import JsonSchemaFormat, Sampling, TextDelta, TextFormat, ToolCallStart
from llama_stack.api.messages import text_of
from llama_stack.api.tools import ToolDefinition
from llama_stack.testing.scripted import ScriptedInference
from tests.agents.scripts import asks, calls, chats, everything, results_in, says, setup_of, text_out, texts_in

LIMIT_S = 60.0


def again() -> str:
    """Always worth another try."""
    return "try again"


async def test_a_model_that_never_stops_calling_is_asked_for_an_answer_with_tools_off() -> None:
    script = ScriptedInference(*[calls(("again", {}))] * 3, says("enough"))
    _, turn = await everything(run_turn(setup_of(script, again, budget={"max_infer_iters": 4}), [], asks("?")))

    assert [request.tool_choice for request in chats(script)] == ["auto", "auto", "auto", "none"]
    assert turn.end_reason == "max_infer_iters"
    assert text_out(turn) == "enough"
    assert len(turn.steps) == 7


async def test_one_that_calls_even_then_gets_a_text_that_names_the_limit() -> None:
    script = ScriptedInference(calls(("again", {})))
    _, turn = await everything(run_turn(setup_of(script, again, budget={"max_infer_iters": 2}), [], asks("?")))

    assert len(chats(script)) == 2
    assert turn.end_reason == "max_infer_iters"
    assert text_out(turn) == (
        "I had to stop before an answer was ready: the limit of model calls for one turn was reached."
    )


async def test_a_single_allowed_step_offers_the_tools_and_its_plain_answer_is_complete() -> None:
    script = ScriptedInference(says("as I am"))
    _, turn = await everything(run_turn(setup_of(script, again, budget={"max_infer_iters": 1}), [], asks("?")))

    assert chats(script)[0].tool_choice == "auto"
    assert (text_out(turn), turn.end_reason) == ("as I am", "completed")


async def test_a_call_in_the_single_allowed_step_ends_the_turn_and_is_not_run() -> None:
    ran: list[int] = []

    def note(number: int) -> str:
        """Note a number."""
        ran.append(number)
        return "noted"

    script = ScriptedInference(calls(("note", {"number": 1})))
    setup = setup_of(script, note, budget={"max_infer_iters": 1})
    _, turn = await everything(run_turn(setup, [], asks("?")))

    assert (ran, turn.end_reason, len(chats(script))) == ([], "max_infer_iters", 1)
    assert text_out(turn).startswith("I had to stop before an answer was ready: the limit of model calls")
    (step,) = turn.steps
    assert isinstance(step, InferenceStep)
    assert [call.name for call in step.message.tool_calls] == ["note"]
    # The call has a result in the conversation that follows, or providers would refuse it.
    assert [message.role for message in messages_of(turn)] == ["user", "assistant", "tool"]


async def test_a_call_for_the_caller_in_the_single_allowed_step_is_handed_out() -> None:
    script = ScriptedInference(calls(("theirs", {})))
    theirs = tool_from_schema(ToolDefinition(name="theirs"))
    events, turn = await everything(run_turn(setup_of(script, theirs, budget={"max_infer_iters": 1}), [], asks("?")))

    (waiting,) = [event for event in events if isinstance(event, TurnAwaitingInput)]
    assert [call.name for call in waiting.tool_calls] == ["theirs"]
    assert turn.end_reason is None


async def test_a_single_allowed_step_with_tools_is_told_the_form_and_not_held_to_it() -> None:
    form = JsonSchemaFormat(json_schema={"type": "object", "required": ["a"]})
    script = ScriptedInference(says('{"a": 1}'))
    setup = setup_of(script, again, response_format=form, budget={"max_infer_iters": 1})
    _, turn = await everything(run_turn(setup, [], asks("?")))

    request = chats(script)[0]
    assert (request.tool_choice, request.response_format) == ("auto", TextFormat())
    assert '"required": ["a"]' in text_of(request.messages[0].content)
    assert (text_out(turn), turn.end_reason) == ('{"a": 1}', "completed")


async def test_an_answer_off_its_form_in_the_single_allowed_step_says_which_limit_left_it_so() -> None:
    form = JsonSchemaFormat(json_schema={"type": "object", "required": ["a"]})
    script = ScriptedInference(says("{}"))
    setup = setup_of(script, response_format=form, budget={"max_infer_iters": 1})
    events, turn = await everything(run_turn(setup, [], asks("?")))

    assert (text_out(turn), turn.end_reason) == ("{}", "max_infer_iters")
    assert texts_in(events) == ["{}"]


async def test_a_turn_without_tools_is_completed_by_its_single_step() -> None:
    _, turn = await everything(
        run_turn(setup_of(ScriptedInference(says("hi")), budget={"max_infer_iters": 1}), [], asks("?"))
    )

    assert turn.end_reason == "completed"


async def test_calls_beyond_the_limit_are_answered_without_being_run() -> None:
    ran: list[int] = []

    def note(number: int) -> str:
        ran.append(number)
        return str(number)

    script = ScriptedInference(calls(*[("note", {"number": number}) for number in range(4)]), says("two of four"))
    _, turn = await everything(run_turn(setup_of(script, note, budget={"max_tool_calls": 2}), [], asks("?")))

    refused = "Error: The call was not made: this turn may make no more tool calls."
    assert results_in(chats(script)[1]) == ["0", "1", refused, refused]
    assert sorted(ran) == [0, 1]
    assert chats(script)[1].tool_choice == "none"
    assert turn.end_reason == "max_tool_calls"
    assert text_out(turn) == "two of four"


async def test_no_tool_calls_allowed_means_tools_off_from_the_start() -> None:
    script = ScriptedInference(says("without"))
    _, turn = await everything(run_turn(setup_of(script, again, budget={"max_tool_calls": 0}), [], asks("?")))

    assert chats(script)[0].tool_choice == "none"
    assert text_out(turn) == "without"


async def test_tokens_the_model_makes_are_counted_over_the_steps() -> None:
    script = ScriptedInference(
        calls(("again", {}), tokens=50), calls(("again", {}), tokens=35), says("so far", tokens=5)
    )
    setup = setup_of(script, again, budget={"max_tokens": 100}, sampling=Sampling(max_tokens=60))
    _, turn = await everything(run_turn(setup, [], asks("?")))

    assert [request.sampling.max_tokens for request in chats(script)] == [60, 50, 15]
    assert [request.tool_choice for request in chats(script)] == ["auto", "auto", "none"]
    assert turn.end_reason == "max_tokens"
    assert text_out(turn) == "so far"
    assert turn.usage.output_tokens == 90


async def test_a_turn_whose_tokens_are_all_gone_says_so() -> None:
    script = ScriptedInference([TextDelta(text="Let me see."), *calls(("again", {}), tokens=100)])
    _, turn = await everything(run_turn(setup_of(script, again, budget={"max_tokens": 100}), [], asks("?")))

    assert turn.end_reason == "max_tokens"
    assert text_out(turn).startswith("I had to stop before an answer was ready: the limit of tokens")


async def test_an_answer_cut_off_by_its_length_says_so() -> None:
    _, turn = await everything(
        run_turn(setup_of(ScriptedInference(says("Once upon", finish_reason="length"))), [], asks("?"))
    )

    assert turn.end_reason == "max_tokens"
    assert text_out(turn) == "Once upon"


async def test_an_answer_withheld_by_a_filter_is_blocked() -> None:
    _, turn = await everything(
        run_turn(setup_of(ScriptedInference(says("", finish_reason="content_filter"))), [], asks("?"))
    )

    assert turn.end_reason == "blocked"


def test_a_share_of_the_time_is_kept_for_the_answer() -> None:
    turn = Turn(turn_id="t", session_id="s", input=asks("?"), started_at=datetime(2026, 1, 1, tzinfo=UTC))
    allowance = Allowance.starting(Budget(max_seconds=10), now=100.0)

    assert [allowance.spent(turn, now) for now in (107.9, 108.0)] == [None, "max_seconds"]
    assert [allowance.exhausted(turn, now) for now in (109.9, 110.0)] == [None, "max_seconds"]


async def test_a_tool_that_hangs_is_stopped_and_its_neighbour_is_not() -> None:
    stopped = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    script = ScriptedInference(calls(("hang", {}), ("again", {})), says("the tool hangs"))
    setup = setup_of(script, hang, again, budget={"max_seconds": 0.2})
    async with asyncio.timeout(LIMIT_S):
        _, turn = await everything(run_turn(setup, [], asks("?")))

    assert stopped.is_set()
    assert turn.end_reason == "max_seconds"
    steps = [step for step in turn.steps if isinstance(step, ToolExecutionStep)]
    assert [result.content for step in steps for result in step.results] == [
        "try again",
        "Error: hang was stopped: the time for this turn is used up.",
    ]


async def test_a_model_that_hangs_leaves_what_it_has_said() -> None:
    hanging: list[Any] = [TextDelta(text="The capital is"), asyncio.Event()]
    script = ScriptedInference(hanging)
    async with asyncio.timeout(LIMIT_S):
        _, turn = await everything(run_turn(setup_of(script, budget={"max_seconds": 0.1}), [], asks("?")))

    assert script.closed_early.is_set()
    assert turn.end_reason == "max_seconds"
    assert text_out(turn) == "The capital is"


async def test_a_call_that_was_cut_off_by_the_clock_is_not_made() -> None:
    hanging: list[Any] = [TextDelta(text="I look."), ToolCallStart(index=0, id="call_0", name="again"), asyncio.Event()]
    async with asyncio.timeout(LIMIT_S):
        setup = setup_of(ScriptedInference(hanging), again, budget={"max_seconds": 0.1})
        _, turn = await everything(run_turn(setup, [], asks("?")))

    assert len(turn.steps) == 1
    assert turn.output is not None
    assert (turn.output.content, turn.output.tool_calls) == ("I look.", [])


async def test_a_model_that_says_nothing_in_time_is_answered_for() -> None:
    async with asyncio.timeout(LIMIT_S):
        _, turn = await everything(
            run_turn(setup_of(ScriptedInference([asyncio.Event()]), budget={"max_seconds": 0.1}), [], asks("?"))
        )

    assert text_out(turn) == "I had to stop before an answer was ready: the time limit for one turn was reached."


async def test_a_form_that_can_no_longer_be_asked_for_leaves_the_text() -> None:
    form = JsonSchemaFormat(json_schema={"type": "object"})
    script = ScriptedInference(says("It is 2.", tokens=100))
    setup = setup_of(script, again, response_format=form, budget={"max_tokens": 100})
    _, turn = await everything(run_turn(setup, [], asks("?")))

    assert turn.end_reason == "max_tokens"
    assert text_out(turn) == "It is 2."


async def test_a_budget_that_is_used_up_before_the_first_step_is_answered_for() -> None:
    hanging = ScriptedInference(says("never"))
    _, turn = await everything(run_turn(setup_of(hanging, budget={"max_seconds": 1e-9}), [], asks("?")))

    assert hanging.requests == []
    assert turn.end_reason == "max_seconds"
    assert text_out(turn).startswith("I had to stop")
