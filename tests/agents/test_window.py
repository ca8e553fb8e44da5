"""A conversation that outgrows the model's window: whole parts are left out, oldest first."""

from typing import Any

import pytest

from llama_stack.agents.loop import run_turn
from llama_stack.agents.window import fitted, without_oldest
from llama_stack.api.agents import InferenceStep
from llama_stack.api.common import Caller
from llama_stack.api.inference import Capabilities, ChatRequest
from llama_stack.api.messages import (
    AssistantMessage,
    ImagePart,
    Message,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
    text_of,
)
from llama_stack.api.token_estimate import estimated_tokens
from llama_stack.errors import ContextOverflow
from llama_stack.testing.scripted import ScriptedInference
from tests.agents.scripts import asks, calls, chats, everything, says, setup_of

WORDS = "word " * 40


def called(call_id: str) -> list[Message]:
    call = ToolCall(id=call_id, name="f", arguments="{}")
    return [AssistantMessage(tool_calls=[call]), ToolMessage(tool_call_id=call_id, content=WORDS)]


def exchange(number: int) -> list[Message]:
    return [UserMessage(content=f"question {number}"), *called(f"c{number}"), AssistantMessage(content=WORDS)]


def test_exchanges_of_the_history_go_first_and_go_whole() -> None:
    history = [SystemMessage(content="be kind"), *exchange(1), *exchange(2)]
    messages = [*history, UserMessage(content="now"), *called("n1"), *called("n2"), *called("n3")]

    shorter = without_oldest(messages, len(history))
    assert shorter == ([history[0], *exchange(2), *messages[len(history) :]], 5)
    shorter = without_oldest(*shorter)
    assert shorter == ([history[0], *messages[len(history) :]], 1)
    shorter = without_oldest(*shorter)
    assert shorter == ([history[0], UserMessage(content="now"), *called("n2"), *called("n3")], 1)
    shorter = without_oldest(*shorter)
    assert shorter == ([history[0], UserMessage(content="now"), *called("n3")], 1)
    assert without_oldest(*shorter) is None


@pytest.mark.parametrize("limit", range(20, 400, 20))
def test_whatever_is_left_out_no_call_is_split_from_its_result(limit: int) -> None:
    history = [message for number in range(4) for message in exchange(number)]
    messages, now = fitted([*history, UserMessage(content="now"), *called("a"), *called("b")], len(history), limit, [])

    assert messages[now] == UserMessage(content="now")
    made = [call.id for message in messages if isinstance(message, AssistantMessage) for call in message.tool_calls]
    assert [message.tool_call_id for message in messages if isinstance(message, ToolMessage)] == made
    least = estimated_tokens([UserMessage(content="now"), *called("b")])
    assert estimated_tokens(messages) <= max(limit, least)


def test_images_count() -> None:
    image = UserMessage(content=[TextPart(text="see"), ImagePart(url="data:image/png;base64,AAAA")])
    assert estimated_tokens([image]) > 500


async def test_what_is_sent_fits_and_the_step_says_how_much_was_left_out() -> None:
    history = [message for number in range(30) for message in exchange(number)]
    script = ScriptedInference(says("fine"))
    setup = setup_of(script, instructions="be kind")
    _, turn = await everything(run_turn(_with_window(setup, 1000), history, asks("now?")))

    sent = chats(script)[0].messages
    assert estimated_tokens(sent) <= 750
    assert (text_of(sent[0].content), text_of(sent[-1].content)) == ("be kind", "now?")
    step = turn.steps[0]
    assert isinstance(step, InferenceStep)
    assert step.messages_left_out == len(history) + 2 - len(sent)


class Narrow(ScriptedInference):
    """Refuses more than so many messages, as a provider does that counts better than we do."""

    def stream_chat(self, request: ChatRequest, caller: Caller) -> Any:
        if len(request.messages) > 5:
            return self._refuse()
        return super().stream_chat(request, caller)

    async def _refuse(self) -> Any:
        raise ContextOverflow("9 messages, 5 fit")
        yield


async def test_a_provider_that_refuses_is_asked_again_with_less() -> None:
    history = [message for number in range(3) for message in exchange(number)]
    script = Narrow(says("fine"))
    _, turn = await everything(run_turn(setup_of(script), history, asks("now?")))

    assert len(chats(script)[0].messages) == 5
    assert turn.end_reason == "completed"


async def test_with_truncation_disabled_the_overflow_is_the_callers_to_see() -> None:
    history = [message for number in range(3) for message in exchange(number)]
    with pytest.raises(ContextOverflow, match="9 messages, 5 fit"):
        await everything(run_turn(setup_of(Narrow(says("fine")), truncation="disabled"), history, asks("now?")))


@pytest.mark.parametrize("truncation", ["auto", "disabled"])
async def test_one_message_over_a_known_window_is_refused_with_the_numbers(truncation: Any) -> None:
    script = ScriptedInference(says("fine"))
    setup = _with_window(setup_of(script, truncation=truncation), 300)
    with pytest.raises(
        ContextOverflow, match=r"has about 2863 tokens, and the window of the model 'm' has 300: "
    ) as no:
        await everything(run_turn(setup, [], asks("word " * 2000)))
    assert ("truncation" in no.value.message) is (truncation == "disabled")
    assert script.requests == []


async def test_a_history_over_a_known_window_is_refused_where_nothing_may_be_left_out() -> None:
    history = [message for number in range(30) for message in exchange(number)]
    script = ScriptedInference(says("fine"))
    with pytest.raises(ContextOverflow, match="the window of the model 'm' has 300"):
        await everything(run_turn(_with_window(setup_of(script, truncation="disabled"), 300), history, asks("now?")))
    assert script.requests == []


async def test_an_estimate_that_is_over_the_window_by_less_than_half_is_not_believed() -> None:
    script = ScriptedInference(says("fine"))
    said = "word " * 250
    assert 300 < estimated_tokens([UserMessage(content=said)]) < 450
    _, turn = await everything(run_turn(_with_window(setup_of(script, truncation="disabled"), 300), [], asks(said)))
    assert turn.end_reason == "completed"


@pytest.mark.parametrize(("words", "fits"), [(300, True), (301, False)])
async def test_where_tokens_can_be_counted_the_count_decides(words: int, fits: bool) -> None:
    # The script counts a token for each word, however long it is.
    script = ScriptedInference(says("fine"), capabilities=Capabilities(token_counts=True))
    turn = run_turn(_with_window(setup_of(script, truncation="disabled"), 300), [], asks("conversation " * words))
    if fits:
        assert (await everything(turn))[1].end_reason == "completed"
    else:
        with pytest.raises(ContextOverflow, match="has 301 tokens, and the window of the model 'm' has 300"):
            await everything(turn)


async def test_a_count_over_the_window_leaves_out_the_oldest_exchange() -> None:
    # Short words: the estimate is far below the count.
    history = [
        UserMessage(content="a " * 200),
        AssistantMessage(content="b"),
        *asks("c"),
        AssistantMessage(content="d"),
    ]
    script = ScriptedInference(says("fine"), capabilities=Capabilities(token_counts=True))
    await everything(run_turn(_with_window(setup_of(script), 180), history, asks("now?")))
    assert [text_of(message.content) for message in chats(script)[-1].messages] == ["c", "d", "now?"]


async def test_a_turn_whose_own_results_outgrow_the_window_leaves_out_its_oldest_call() -> None:
    def long() -> str:
        """Say a lot."""
        return "word " * 500

    script = ScriptedInference(calls(("long", {})), calls(("long", {})), says("fine"))
    await everything(run_turn(_with_window(setup_of(script, long), 1500), [], asks("now?")))

    sent = chats(script)[2].messages
    assert [message.role for message in sent] == ["user", "assistant", "tool"]


def _with_window(setup: Any, tokens: int) -> Any:
    from dataclasses import replace

    return replace(setup, context_length=tokens)
