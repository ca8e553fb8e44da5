"""How a turn runs: steps and events in order, tools side by side, wrong calls, pauses, cancellation."""

import asyncio
import sys
from contextlib import aclosing

import pytest

from llama_stack.agents.calls import MAX_PARALLEL_CALLS, REPEATED
from llama_stack.agents.loop import resume_turn, run_turn
from llama_stack.agents.tools import MAX_RESULT_CHARS, tool_from_schema
from llama_stack.agents.transcript import history_of, messages_of
from llama_stack.api.agents import (
    AgentEvent,
    InferenceStep,
    StepProgress,
    ToolCallFinished,
    ToolCallStarted,
    ToolExecutionStep,
    Turn,
    TurnAwaitingInput,
)
from llama_stack.api.inference import JsonSchemaFormat, Sampling, TextFormat
from llama_stack.api.messages import (
    AssistantMessage,
    ImagePart,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
    text_of,
)
from llama_stack.api.tools import NamedToolChoice, ToolDefinition, ToolResult
from llama_stack.errors import Conflict, InvalidRequest, ProviderFailed
from llama_stack.testing.scripted import ScriptedInference
from tests.agents.scripts import asks, calls, chats, everything, results_in, says, setup_of, text_out

LIMIT_S = 60.0


def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


def words(events: list[AgentEvent]) -> list[str]:
    return [event.type for event in events if not isinstance(event, StepProgress)]


async def test_a_turn_without_tools_is_one_step() -> None:
    script = ScriptedInference(says("Hello."))
    events, turn = await everything(run_turn(setup_of(script, instructions="Be brief."), [], asks("Hi")))

    assert words(events) == ["turn_started", "step_started", "step_completed", "turn_completed"]
    assert turn.end_reason == "completed"
    assert text_out(turn) == "Hello."
    assert turn.usage.output_tokens == 1
    assert turn.completed_at is not None and turn.completed_at >= turn.started_at
    assert chats(script)[0].messages == [SystemMessage(content="Be brief."), UserMessage(content="Hi")]
    assert chats(script)[0].tools == []


async def test_the_events_of_the_model_pass_through_as_they_come() -> None:
    answer = says("Hello.")
    events, _ = await everything(run_turn(setup_of(ScriptedInference(answer)), [], asks("Hi")))

    assert [event.event for event in events if isinstance(event, StepProgress)] == answer


async def test_a_tool_is_called_and_its_result_is_read_by_the_model() -> None:
    script = ScriptedInference(calls(("double", {"number": 21})), says("It is 42."))
    events, turn = await everything(run_turn(setup_of(script, double), [], asks("double 21")))

    assert words(events) == [
        "turn_started",
        "step_started",
        "step_completed",
        "step_started",
        "tool_call_started",
        "tool_call_finished",
        "step_completed",
        "step_started",
        "step_completed",
        "turn_completed",
    ]
    assert [step.type for step in turn.steps] == ["inference", "tool_execution", "inference"]
    assert chats(script)[1].messages[-1] == ToolMessage(tool_call_id="call_0", name="double", content="42")
    assert text_out(turn) == "It is 42."
    assert turn.usage.output_tokens == 2


async def test_history_stands_before_the_new_messages() -> None:
    first = (await everything(run_turn(setup_of(ScriptedInference(says("one"))), [], asks("a"))))[1]
    script = ScriptedInference(says("two"))
    await everything(run_turn(setup_of(script), history_of([first]), asks("b")))

    assert chats(script)[0].messages == [
        UserMessage(content="a"),
        AssistantMessage(content="one"),
        UserMessage(content="b"),
    ]


async def test_calls_run_side_by_side_and_results_keep_the_order_of_the_calls() -> None:
    both_run = asyncio.Barrier(2)
    fast_is_done = asyncio.Event()

    async def slow() -> str:
        await both_run.wait()
        await fast_is_done.wait()
        return "slow"

    async def fast() -> str:
        await both_run.wait()
        fast_is_done.set()
        return "fast"

    script = ScriptedInference(calls(("slow", {}), ("fast", {})), says("done"))
    async with asyncio.timeout(LIMIT_S):
        events, turn = await everything(run_turn(setup_of(script, slow, fast), [], asks("both")))

    finished = [event.result.content for event in events if isinstance(event, ToolCallFinished)]
    assert finished == ["fast", "slow"]
    assert results_in(chats(script)[1]) == ["slow", "fast"]
    steps = [step for step in turn.steps if isinstance(step, ToolExecutionStep)]
    assert [result.content for step in steps for result in step.results] == ["fast", "slow"]


async def test_only_so_many_calls_run_at_once() -> None:
    running, most = 0, 0
    enough = asyncio.Event()

    async def work(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == MAX_PARALLEL_CALLS:
            enough.set()
        await enough.wait()
        running -= 1

    wanted = [("work", {"number": number}) for number in range(3 * MAX_PARALLEL_CALLS)]
    async with asyncio.timeout(LIMIT_S):
        await everything(run_turn(setup_of(ScriptedInference(calls(*wanted), says("done")), work), [], asks("work")))

    assert most == MAX_PARALLEL_CALLS


async def test_a_wrong_name_then_wrong_arguments_then_the_right_call_reach_the_answer() -> None:
    script = ScriptedInference(
        calls(("duble", {"number": 1})),
        calls(("double", {"number": "many"})),
        calls(("double", {"number": 4})),
        says("8"),
    )
    events, turn = await everything(run_turn(setup_of(script, double), [], asks("double 4")))

    wrong_name, wrong_argument, right = results_in(chats(script)[3])
    assert wrong_name == ("Error: There is no tool named 'duble'. Did you mean 'double'? Available tools: double.")
    assert wrong_argument.startswith("Error: Wrong arguments for double: number: input should be a valid integer")
    assert '"required": ["number"]' in wrong_argument
    assert right == "8"
    assert [event.is_error for event in events if isinstance(event, ToolCallFinished)] == [True, True, False]
    assert turn.end_reason == "completed"


async def test_five_made_up_tools_in_a_row_end_within_the_budget() -> None:
    made_up = [calls((f"tool_{number}", {})) for number in range(5)]
    script = ScriptedInference(*made_up, says("I cannot."))
    setup = setup_of(script, double, budget={"max_infer_iters": 6})
    _, turn = await everything(run_turn(setup, [], asks("?")))

    assert turn.end_reason == "max_infer_iters"
    assert text_out(turn) == "I cannot."


@pytest.mark.parametrize("arguments", ['{"number": ', "[1]", '"1"', "{'number': 1}", "[" * 100_000], ids=str.__len__)
async def test_arguments_that_are_no_json_object_go_back_to_the_model(arguments: str) -> None:
    script = ScriptedInference(calls(("double", arguments)), says("sorry"))
    await everything(run_turn(setup_of(script, double), [], asks("?")))

    (result,) = results_in(chats(script)[1])
    assert result.startswith("Error: The arguments of double")
    assert "JSON" in result


async def test_arguments_off_a_foreign_schema_go_back_to_the_model_and_the_tool_is_not_run() -> None:
    async def run(arguments: object) -> ToolResult:
        raise AssertionError("must not run")

    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tool = tool_from_schema(ToolDefinition(name="weather", parameters=schema), run)
    script = ScriptedInference(calls(("weather", {"town": "Bergen"})), says("sorry"))
    await everything(run_turn(setup_of(script, tool), [], asks("?")))

    assert results_in(chats(script)[1])[0].startswith("Error: Wrong arguments for weather: city is required.")


async def test_an_identical_call_is_told_to_the_model_however_it_is_spelled() -> None:
    script = ScriptedInference(
        calls(("double", '{"number": 4}')),
        calls(("double", '{ "number":4 }')),
        calls(("double", '{"number": 5}')),
        says("8 and 10"),
    )
    await everything(run_turn(setup_of(script, double), [], asks("?")))

    assert results_in(chats(script)[3]) == ["8", f"8\n{REPEATED}", "10"]


async def test_the_second_of_two_identical_calls_in_one_answer_is_told() -> None:
    script = ScriptedInference(calls(("double", {"number": 4}), ("double", {"number": 4})), says("8"))
    await everything(run_turn(setup_of(script, double), [], asks("?")))

    assert results_in(chats(script)[1]) == ["8", f"8\n{REPEATED}"]


async def test_a_tool_that_raises_is_an_error_the_model_can_read() -> None:
    def broken() -> str:
        raise RuntimeError("the disk is full")

    def leaving() -> str:
        sys.exit("bye")

    async def cancelling() -> str:
        raise asyncio.CancelledError

    script = ScriptedInference(
        calls(("broken", {}), ("leaving", {}), ("cancelling", {}), ("double", {"number": 1})), says("ok")
    )
    setup = setup_of(script, broken, leaving, cancelling, double)
    _, turn = await everything(run_turn(setup, [], asks("?")))

    assert results_in(chats(script)[1]) == [
        "Error: RuntimeError: the disk is full",
        "Error: RuntimeError: it tried to end the program with SystemExit: bye",
        "Error: The tool cancelled itself.",
        "2",
    ]
    assert turn.end_reason == "completed"


async def test_a_flood_of_output_is_cut_and_says_so() -> None:
    def flood() -> str:
        return "a" * 1_000_000 + "the end"

    script = ScriptedInference(calls(("flood", {})), says("much"))
    await everything(run_turn(setup_of(script, flood), [], asks("?")))

    (result,) = results_in(chats(script)[1])
    assert len(result) < MAX_RESULT_CHARS + 100
    assert "characters left out" in result
    assert result.endswith("the end")


async def test_a_flood_spread_over_parts_is_cut_as_a_whole() -> None:
    def flood() -> list[TextPart | ImagePart]:
        return [TextPart(text="a" * 10_000), ImagePart(url="data:image/png;base64,AA=="), TextPart(text="b" * 10_000)]

    script = ScriptedInference(calls(("flood", {})), says("much"))
    await everything(run_turn(setup_of(script, flood), [], asks("?")))

    message = chats(script)[1].messages[-1]
    assert len(text_of(message.content)) < MAX_RESULT_CHARS + 100
    assert isinstance(message.content, list)
    assert [part.type for part in message.content] == ["text", "image", "text"]


async def test_a_step_is_handed_out_before_its_tools_run() -> None:
    ran: list[int] = []

    def note(number: int) -> None:
        ran.append(number)

    async with aclosing(
        run_turn(setup_of(ScriptedInference(calls(("note", {"number": 1}))), note), [], asks("?"))
    ) as events:
        async for event in events:
            if event.type == "step_completed":
                assert isinstance(event.step, InferenceStep)
                break
    assert ran == []


async def test_errors_of_the_model_are_raised_to_the_reader() -> None:
    script = ScriptedInference([ProviderFailed("upstream answered 400", upstream_status=400)])
    with pytest.raises(ProviderFailed, match="upstream answered 400"):
        await everything(run_turn(setup_of(script), [], asks("?")))


async def test_a_turn_begins_with_a_message() -> None:
    with pytest.raises(InvalidRequest, match="at least one message"):
        await everything(run_turn(setup_of(ScriptedInference()), [], []))


# --- tools on and off ----------------------------------------------------------------------------------------------


async def test_calls_of_a_model_that_disobeys_none_are_not_run() -> None:
    script = ScriptedInference(calls(("double", {"number": 1})))
    events, turn = await everything(run_turn(setup_of(script, double, tool_choice="none"), [], asks("?")))

    assert chats(script)[0].tool_choice == "none"
    assert not any(isinstance(event, ToolCallStarted) for event in events)
    step = turn.steps[0]
    assert isinstance(step, InferenceStep)
    assert step.message.tool_calls == []
    assert turn.end_reason == "completed"


@pytest.mark.parametrize("choice", ["required", NamedToolChoice(names=["double"])])
async def test_a_demand_to_call_a_tool_is_met_by_the_first_call(choice: object) -> None:
    script = ScriptedInference(calls(("double", {"number": 1})), says("2"))
    await everything(run_turn(setup_of(script, double, tool_choice=choice), [], asks("?")))

    assert [request.tool_choice for request in chats(script)] == [choice, "auto"]


async def test_a_demand_without_tools_is_passed_on_to_be_refused() -> None:
    script = ScriptedInference(says("hm"))
    await everything(run_turn(setup_of(script, tool_choice="required"), [], asks("?")))

    assert chats(script)[0].tool_choice == "required"


async def test_the_answers_form_is_asked_for_once_the_tools_are_done() -> None:
    form = JsonSchemaFormat(json_schema={"type": "object"})
    script = ScriptedInference(calls(("double", {"number": 1})), says("It is 2."), says('{"answer": 2}'))
    _, turn = await everything(run_turn(setup_of(script, double, response_format=form), [], asks("?")))

    assert [request.response_format for request in chats(script)] == [TextFormat(), TextFormat(), form]
    assert [request.tool_choice for request in chats(script)] == ["auto", "auto", "none"]
    assert chats(script)[2].messages[-1].role == "tool"
    assert text_out(turn) == '{"answer": 2}'
    assert turn.end_reason == "completed"
    assert [message.role for message in messages_of(turn)] == ["user", "assistant", "tool", "assistant"]


async def test_the_answers_form_without_tools_is_asked_for_at_once() -> None:
    form = JsonSchemaFormat(json_schema={"type": "object"})
    script = ScriptedInference(says("{}"))
    await everything(run_turn(setup_of(script, response_format=form, sampling=Sampling(temperature=0)), [], asks("?")))

    assert chats(script)[0].response_format == form
    assert chats(script)[0].sampling == Sampling(temperature=0)


# --- the caller's own tools ----------------------------------------------------------------------------------------

PICK = tool_from_schema(ToolDefinition(name="pick", parameters={"type": "object", "required": ["color"]}))


async def paused(script: ScriptedInference) -> Turn:
    events, turn = await everything(run_turn(setup_of(script, double, PICK), [], asks("?")))
    assert isinstance(events[-1], TurnAwaitingInput)
    return Turn.model_validate_json(turn.model_dump_json())


async def test_a_call_of_the_callers_tool_pauses_the_turn_and_its_result_resumes_it() -> None:
    script = ScriptedInference(
        calls(("double", {"number": 1}), ("pick", {"color": "red"}), ("double", {"number": 3})), says("ok")
    )
    turn = await paused(script)
    assert turn.end_reason is None

    picked = ToolMessage(tool_call_id="call_1", content="red it is")
    _, turn = await everything(resume_turn(setup_of(script, double, PICK), [], turn, [picked]))

    assert turn.end_reason == "completed"
    assert results_in(chats(script)[1]) == ["2", "red it is", "6"]


async def test_a_turn_waits_until_every_awaited_call_is_answered() -> None:
    script = ScriptedInference(calls(("pick", {"color": "red"}), ("pick", {"color": "blue"})), says("ok"))
    turn = await paused(script)
    setup = setup_of(script, double, PICK)

    events, turn = await everything(resume_turn(setup, [], turn, [ToolMessage(tool_call_id="call_1", content="blue")]))
    last = events[-1]
    assert isinstance(last, TurnAwaitingInput)
    assert [call.id for call in last.tool_calls] == ["call_0"]

    _, turn = await everything(resume_turn(setup, [], turn, [ToolMessage(tool_call_id="call_0", content="red")]))
    assert results_in(chats(script)[1]) == ["red", "blue"]


async def test_wrong_arguments_for_the_callers_tool_do_not_pause_the_turn() -> None:
    script = ScriptedInference(calls(("pick", {})), says("which color?"))
    _, turn = await everything(run_turn(setup_of(script, PICK), [], asks("?")))

    assert turn.end_reason == "completed"
    assert results_in(chats(script)[1])[0].startswith("Error: Wrong arguments for pick: color is required.")


@pytest.mark.parametrize("call_id", ["call_9", "call_0"])
async def test_a_result_that_no_call_awaits_is_refused(call_id: str) -> None:
    turn = await paused(ScriptedInference(calls(("double", {"number": 1}), ("pick", {"color": "red"}))))
    wrong = ToolMessage(tool_call_id=call_id, content="2")

    with pytest.raises(InvalidRequest, match=rf"no call '{call_id}' awaits a result .* awaited: call_1"):
        await everything(resume_turn(setup_of(ScriptedInference(), double, PICK), [], turn, [wrong]))


async def test_a_second_result_for_one_call_is_refused() -> None:
    turn = await paused(ScriptedInference(calls(("pick", {"color": "red"}))))
    twice = [ToolMessage(tool_call_id="call_0", content=color) for color in ("red", "blue")]

    with pytest.raises(InvalidRequest, match=r"no call 'call_0' awaits a result in turn .* twice; send one result"):
        await everything(resume_turn(setup_of(ScriptedInference(), PICK), [], turn, twice))


async def test_a_turn_that_has_ended_cannot_be_resumed() -> None:
    _, turn = await everything(run_turn(setup_of(ScriptedInference(says("done"))), [], asks("?")))

    with pytest.raises(Conflict, match="has ended"):
        await everything(resume_turn(setup_of(ScriptedInference()), [], turn))


async def test_a_turn_cut_off_between_two_steps_goes_on_without_repeating_a_finished_tool() -> None:
    ran: list[int] = []

    def note(number: int) -> str:
        ran.append(number)
        return str(number)

    script = ScriptedInference(calls(("note", {"number": 1})), calls(("note", {"number": 2})), says("both"))
    setup = setup_of(script, note)
    stored = Turn.model_validate({"turn_id": "t", "session_id": "s", "input": asks("?"), "started_at": "2026-01-01"})
    # A new process takes the turn up after every single step.
    while stored.end_reason is None:
        async with aclosing(resume_turn(setup, [], stored)) as events:
            async for event in events:
                if event.type == "step_completed":
                    stored.steps.append(event.step)
                    break
                if event.type == "turn_completed":
                    stored = event.turn

    assert ran == [1, 2]
    assert text_out(stored) == "both"


async def test_a_call_nobody_answered_is_closed_in_the_history() -> None:
    turn = await paused(ScriptedInference(calls(("pick", {"color": "red"}))))

    last = messages_of(turn)[-1]
    assert last == ToolMessage(tool_call_id="call_0", name="pick", content="Error: no result was given for this call.")


# --- ending early --------------------------------------------------------------------------------------------------


async def test_closing_the_turn_stops_the_tools() -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with aclosing(run_turn(setup_of(ScriptedInference(calls(("hang", {}))), hang), [], asks("?"))) as events:
        async for event in events:
            if isinstance(event, ToolCallStarted):
                async with asyncio.timeout(LIMIT_S):
                    await started.wait()
                break
    assert stopped.is_set()


async def test_cancelling_the_reader_stops_tools_and_model() -> None:
    script = ScriptedInference([asyncio.Event()])
    reading = asyncio.create_task(everything(run_turn(setup_of(script), [], asks("?"))))
    async with asyncio.timeout(LIMIT_S):
        await script.opened.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert script.closed_early.is_set()


async def test_each_event_may_be_read_by_another_task() -> None:
    script = ScriptedInference(calls(("double", {"number": 1})), says("2"))
    events = run_turn(setup_of(script, double, budget={"max_seconds": 60}), [], asks("?"))
    seen: list[AgentEvent] = []
    while (event := await asyncio.create_task(anext(events, None))) is not None:
        seen.append(event)

    assert seen[-1].type == "turn_completed"
