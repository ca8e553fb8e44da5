"""inline::llama-guard: how the guard is asked, what its answers lead to, and the micro model in that role."""

import asyncio
import json
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.inference import (
    Capabilities,
    ChatEnd,
    ChatEvent,
    ChatRequest,
    ChoiceEnd,
    CompletionRequest,
    PartialInference,
    TextDelta,
    TokenLogprob,
)
from llama_stack.api.messages import (
    AssistantMessage,
    ImagePart,
    Message,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from llama_stack.api.resources import Model, Shield
from llama_stack.api.safety import Safety, Violation, ViolationLevel
from llama_stack.errors import (
    ContextOverflow,
    InvalidRequest,
    NotFound,
    ProviderFailed,
    ProviderTimeout,
    ProviderUnavailable,
    UnsupportedParameter,
)
from llama_stack.provider import Ground, InferenceFloor
from llama_stack.testing.safety_contract import Judge, SafetyContract
from llama_stack.testing.scripted import Script, ScriptedInference, says
from llama_stack.wire.llama_prompts.guard import render_guard
from llama_stack_providers.inline._llama_cpp.settings import Config as EngineConfig
from llama_stack_providers.inline._llama_guard.settings import Config
from llama_stack_providers.inline.llama_cpp import open_llama_cpp
from llama_stack_providers.inline.llama_guard import LlamaGuard, open_llama_guard

CALLER = Caller(owner="alice")
PICTURE = ImagePart(url="data:image/png;base64,AA==")
CASES = Path(__file__).parents[2] / "micro_model" / "cases" / "guard.jsonl"
TALKS_ONLY = Capabilities(completion=False, vision=True)


def shield(model: str = "guard", **params: Any) -> Shield:
    return Shield(identifier="llama-guard", provider_id="guard", provider_resource_id=model, params=params)


async def asked(
    inference: ScriptedInference,
    *messages: Message,
    params: JsonObject | None = None,
    model: str = "guard",
    **settings: Any,
) -> Violation | None:
    guard = LlamaGuard(Config(), inference)
    said = list(messages) or [UserMessage(content="hello")]
    return (await guard.run_shield(shield(model, **settings), said, CALLER, params)).violation


async def judged(answer: str, *messages: Message, **settings: Any) -> Violation | None:
    return await asked(ScriptedInference(says(answer)), *messages, **settings)


async def test_a_verdict_names_its_categories() -> None:
    assert await judged("\n\nunsafe\nS1,S10") == Violation(
        level=ViolationLevel.ERROR,
        user_message="The safety check does not allow this. (Violent Crimes, Hate)",
        metadata={
            "role": "User",
            "guard_model": "guard",
            "violation_type": "S1",
            "category": "Violent Crimes",
            "categories": {"S1": "Violent Crimes", "S10": "Hate"},
            "action": "block",
        },
    )


async def test_the_exact_prompt_is_asked_greedily_where_raw_text_can_be_completed() -> None:
    inference = ScriptedInference(says("safe"))
    conversation: list[Message] = [UserMessage(content="hi"), AssistantMessage(content="Hello")]
    assert await asked(inference, *conversation) is None
    (request,) = inference.requests
    assert isinstance(request, CompletionRequest)
    assert request.prompt == render_guard(conversation).as_text()
    assert (request.model, request.sampling.temperature, request.sampling.max_tokens) == ("guard", 0, 64)
    assert inference.callers == [CALLER]


async def test_a_server_with_its_own_template_gets_the_conversation() -> None:
    inference = ScriptedInference(says("safe"), capabilities=TALKS_ONLY)
    call = ToolCall(id="1", name="look", arguments='{"at": "x"}')
    said: list[Message] = [
        SystemMessage(content="be kind"),
        UserMessage(content="hi"),
        AssistantMessage(content="Looking", tool_calls=[call]),
        ToolMessage(tool_call_id="1", content="a page"),
        UserMessage(content="and?"),
    ]
    assert await asked(inference, *said) is None
    (request,) = inference.requests
    assert isinstance(request, ChatRequest)
    *before, last = request.messages
    assert [message.role for message in before] == ["user", "assistant"]
    assert before[1].content == 'Looking\n{"name": "look", "parameters": {"at": "x"}}'
    assert last == UserMessage(content="a page\n\nand?")


async def test_a_refusal_is_read_beside_the_text_and_once() -> None:
    inference = ScriptedInference(says("safe"), capabilities=TALKS_ONLY)
    assert await asked(inference, AssistantMessage(content="Sure.", refusal="No: S1.")) is None
    assert await asked(inference, AssistantMessage(content="No.", refusal="No.")) is None
    said = [request.messages[-1].content for request in inference.requests if isinstance(request, ChatRequest)]
    assert said == ["Sure.\nNo: S1.", "No."]


async def test_a_model_that_is_no_guard_gets_the_task_as_a_message() -> None:
    inference = ScriptedInference(says("safe"))
    assert await asked(inference, prompt="chat", excluded_categories=["S2"]) is None
    (request,) = inference.requests
    assert isinstance(request, ChatRequest)
    (message,) = request.messages
    assert isinstance(message.content, str)
    assert message.content.startswith("Task: Check if there is unsafe content in 'User' messages")
    assert "S1: Violent Crimes." in message.content
    assert "S2:" not in message.content


async def test_a_server_that_refuses_raw_completion_is_asked_by_conversation_from_then_on() -> None:
    inference = ScriptedInference([ProviderFailed("no such route", upstream_status=404)], says("unsafe\nS1"))
    guard = LlamaGuard(Config(), inference)
    for _ in range(2):
        verdict = await guard.run_shield(shield(), [UserMessage(content="x")], CALLER)
        assert verdict.violation is not None
    kinds = [type(request) for request in inference.requests]
    assert kinds == [CompletionRequest, ChatRequest, ChatRequest]


@pytest.mark.parametrize(
    ("model", "header", "last"),
    [("llama-guard3:8b", "start_header_id", "S14"), ("llama-guard3:1b", "start_header_id", "S13"),
     ("meta-llama/Llama-Guard-4-12B", "header_start", "S14")],
)  # fmt: skip
async def test_the_models_name_tells_its_tokens_and_what_it_was_trained_on(model: str, header: str, last: str) -> None:
    inference = ScriptedInference(says("safe"))
    assert await asked(inference, model=model) is None
    (request,) = inference.requests
    assert isinstance(request, CompletionRequest)
    assert isinstance(request.prompt, str)
    assert f"<|{header}|>user" in request.prompt
    assert request.prompt.partition("<END UNSAFE")[0].rstrip().splitlines()[-1].startswith(f"{last}:")


async def test_each_category_has_its_action() -> None:
    actions = {"S1": "log", "s10": "warn", "S2": "allow"}
    logged = await judged("unsafe\nS1", actions=actions)
    assert logged is not None
    assert (logged.level, logged.metadata["action"]) == (ViolationLevel.INFO, "log")
    warned = await judged("unsafe\nS1,S10", actions=actions)
    assert warned is not None
    assert (warned.level, warned.metadata["violation_type"]) == (ViolationLevel.WARN, "S10")
    assert await judged("unsafe\nS2", actions=actions) is None
    assert await judged("unsafe\nS5", excluded_categories=["S5"]) is None
    both = await judged("unsafe\nS5,S1", excluded_categories=["S5"])
    assert both is not None
    assert both.metadata["categories"] == {"S1": "Violent Crimes"}


async def test_a_category_may_have_a_code_of_any_form() -> None:
    house = {"S1": "Violent Crimes", "O3": "Gossip", "S100": "Riddles"}
    actions = {"O3": "warn", "S100": "log"}
    violation = await judged("unsafe\nS100, o3", categories=house, actions=actions)
    assert violation is not None
    assert (violation.level, violation.metadata["categories"]) == (
        ViolationLevel.WARN,
        {"O3": "Gossip", "S100": "Riddles"},
    )


async def test_a_code_that_nobody_asked_about_counts() -> None:
    unknown = await judged("unsafe\nS99")
    assert unknown is not None
    assert unknown.metadata["violation_type"] == "S99"
    bare = await judged("unsafe")
    assert bare is not None
    assert (bare.level, bare.metadata["violation_type"]) == (ViolationLevel.ERROR, "unsafe")


MALFORMED = [
    "", " ", "\n", "yes", "no", "not safe", "I cannot help with that.", "safe\nS1", "safe? unsafe", "safety first",
    "unsafety", "This is safe", "The message is unsafe", "{}", '{"safe": true}', "<|eot_id|>",
    "\x00", "S1", "S1,S2", "safe unsafe", "Unsicher", "sicher", "安全", "безопасно", "🙂", "safeunsafe", "-",
    "0" * 5000,
    "assistant\n\nsafe", "[safe]", "UNS AFE",
]  # fmt: skip
VERDICTS = ["SAFE", "<|python_tag|>safe", "Safe.",
             "**safe**", "'safe'", "safe\n\nThis is fine.", "\t safe", "unsafe S1", "Unsafe: S1; S2",
            "unsafe\nnothing", "UNSAFE\n\n s01", "`unsafe`\nS10"]  # fmt: skip


@pytest.mark.parametrize("answer", MALFORMED)
async def test_an_answer_that_is_no_verdict_follows_the_policy(answer: str) -> None:
    closed = await judged(answer)
    assert closed is not None
    assert (closed.level, closed.metadata["violation_type"]) == (ViolationLevel.ERROR, "unparsed")
    assert len(closed.metadata["guard_answer"]) <= 200
    assert await judged(answer, unparsed="allow") is None


@pytest.mark.parametrize("answer", VERDICTS)
async def test_small_deviations_are_still_verdicts(answer: str) -> None:
    violation = await judged(answer)
    assert (violation is not None) == answer.strip(" `").lower().startswith("unsafe")
    assert violation is None or violation.metadata["violation_type"] != "unparsed"


async def test_only_a_few_earlier_messages_are_shown_and_none_where_they_do_not_fit() -> None:
    history: list[Message] = [
        AssistantMessage(content=f"answer {number}") if number % 2 else UserMessage(content=f"question {number}")
        for number in range(9)
    ]
    inference = ScriptedInference([ContextOverflow("9 tokens")], says("safe"))
    assert await asked(inference, *history, earlier_messages=2) is None
    first, second = inference.requests
    assert isinstance(first, CompletionRequest)
    assert isinstance(second, CompletionRequest)
    assert first.prompt == render_guard(history[-3:]).as_text()
    assert second.prompt == render_guard(history[-1:]).as_text()


async def test_a_long_message_is_judged_in_pieces_and_the_piece_is_named() -> None:
    long = "harmless words " * 20 + "poison" + " and more" * 20
    guard = LlamaGuard(Config(window_chars=100), PatientGuard())
    verdict = await guard.run_shield(shield(), [UserMessage(content=long)], CALLER)
    assert verdict.violation is not None
    start, end = verdict.violation.metadata["start"], verdict.violation.metadata["end"]
    assert "poison" in long[start:end]
    assert end - start <= 100
    quiet = await guard.run_shield(shield(), [UserMessage(content="harmless words " * 40)], CALLER)
    assert quiet.violation is None
    with pytest.raises(InvalidRequest, match="judges up to"):
        await guard.run_shield(shield(), [UserMessage(content="x" * 10_000)], CALLER)


async def test_the_strongest_objection_of_all_pieces_counts() -> None:
    inference = ScriptedInference(says("unsafe\nS6"), says("safe"), says("unsafe\nS1"), says("safe"))
    violation = await asked(
        inference, UserMessage(content="x" * 450), window_chars=100, actions={"S6": "log", "S1": "warn"}
    )
    assert violation is not None
    assert violation.metadata["violation_type"] == "S1"
    assert len(inference.requests) == 5


def first_token(unsafe: float, answer: str) -> Script:
    """An answer whose first token had this probability of `unsafe`."""
    token = "unsafe" if answer.startswith("unsafe") else "safe"
    told = {"unsafe": unsafe, "safe": 1 - unsafe}
    top = [TokenLogprob(token=word, logprob=math.log(chance)) for word, chance in told.items()]
    start = TokenLogprob(token="\n\n", logprob=0.0)
    deciding = TokenLogprob(token=token, logprob=math.log(told[token]), top=top)
    return [TextDelta(text=answer, logprobs=[start, deciding]), ChoiceEnd(finish_reason="stop"), ChatEnd()]


@pytest.mark.parametrize(
    ("unsafe", "answer", "threshold", "violation_type"),
    [
        (0.6, "unsafe\nS1", 0.8, None),
        (0.9, "unsafe\nS1", 0.8, "S1"),
        (0.3, "safe", 0.2, "unsafe"),
        (0.1, "safe", 0.2, None),
        (0.6, "unsafe\nS1", None, "S1"),
    ],
)
async def test_a_threshold_moves_the_line(
    unsafe: float, answer: str, threshold: float | None, violation_type: str | None
) -> None:
    inference = ScriptedInference(first_token(unsafe, answer))
    violation = await asked(inference, threshold=threshold)
    assert (violation.metadata["violation_type"] if violation else None) == violation_type
    assert violation is None or violation.metadata["score"] == unsafe
    (request,) = inference.requests
    assert isinstance(request, CompletionRequest)
    assert request.logprobs == (None if threshold is None else 5)


async def test_an_answer_alone_has_a_message_before_it_for_templates_that_want_one() -> None:
    inference = ScriptedInference(says("safe"), capabilities=TALKS_ONLY)
    assert await asked(inference, AssistantMessage(content="Sure.")) is None
    assert await asked(inference, AssistantMessage(content="Hello"), UserMessage(content="hi")) is None
    alone, later = inference.requests
    assert isinstance(alone, ChatRequest)
    assert isinstance(later, ChatRequest)
    assert [message.role for message in alone.messages] == ["user", "assistant"]
    assert later.messages == [UserMessage(content="hi")]


async def test_images_are_refused_or_skipped_as_the_config_says() -> None:
    shown = UserMessage(content=[TextPart(text="what is this"), PICTURE])
    blind = Capabilities(completion=True, vision=False)
    with pytest.raises(UnsupportedParameter, match="images to skip"):
        await asked(ScriptedInference(says("safe"), capabilities=blind), shown)
    skipping = ScriptedInference(says("safe"), capabilities=blind)
    assert await asked(skipping, shown, images="skip") is None
    assert "what is this" in skipping.requests[0].model_dump_json()
    seeing = ScriptedInference(says("unsafe\nS12"))
    assert await asked(seeing, shown) is not None
    (request,) = seeing.requests
    assert isinstance(request, ChatRequest)
    assert request.messages[-1].content == [PICTURE, TextPart(text="what is this")]


async def test_an_image_in_an_earlier_message_is_left_out() -> None:
    inference = ScriptedInference(says("safe"))
    earlier = UserMessage(content=[TextPart(text="look"), PICTURE])
    assert await asked(inference, earlier, AssistantMessage(content="nice"), UserMessage(content="thanks")) is None
    assert isinstance(inference.requests[0], CompletionRequest)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([NotFound("There is no model 'guard'.", param="model")], ProviderFailed),
        ([ProviderUnavailable("down")], ProviderUnavailable),
        ([ContextOverflow("too long", param="messages")], ContextOverflow),
    ],
)
async def test_a_guard_that_cannot_be_asked_is_an_error_and_no_verdict(
    script: Script, expected: type[Exception]
) -> None:
    with pytest.raises(expected):
        await asked(ScriptedInference(script))


async def test_a_guard_that_says_nothing_in_time_is_a_timeout() -> None:
    inference = ScriptedInference([asyncio.Event()])
    with pytest.raises(ProviderTimeout, match=r"within 0\.05 s"):
        await asked(inference, timeout_s=0.05)
    assert inference.closed_early.is_set()


async def test_a_call_may_choose_categories_but_not_the_guard() -> None:
    inference = ScriptedInference(says("unsafe\nS5"))
    assert await asked(inference, params={"excluded_categories": ["S5"], "prompt": "chat", "anything": 1}) is None
    assert isinstance(inference.requests[0], CompletionRequest)
    with pytest.raises(InvalidRequest, match="'unparsed' is wrong"):
        await asked(inference, params={"unparsed": "perhaps"})


class PatientGuard(PartialInference):
    """A guard model that objects to poison in the last message of the prompt, and to nothing else."""

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities(completion=True)

    async def complete(self, request: CompletionRequest, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
        conversation = str(request.prompt).partition("<BEGIN CONVERSATION>")[2].partition("<END CONVERSATION>")[0]
        last = re.split("(?:User|Agent): ", conversation)[-1]
        yield TextDelta(text="unsafe\nS1" if "poison" in last else "safe")
        yield ChoiceEnd(finish_reason="stop")
        yield ChatEnd()


class TestLlamaGuardContract(SafetyContract):
    @pytest.fixture
    async def judge(self, tmp_path: Path) -> AsyncIterator[Judge]:
        floor = InferenceFloor(Ground(home=tmp_path, state=tmp_path / "guard"), PatientGuard())
        async with open_llama_guard(Config(), floor) as safety:
            yield Judge(safety, shield(), harmless="What is 12 times 9?", harmful="How can I poison my neighbor?")


# --- the micro model as the guard ----------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def micro_guard(micro_model: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Safety]:
    """The shield over the real engine, as the starter distribution has it."""
    home = tmp_path_factory.mktemp("home")
    ground = Ground(home=home, state=home / "state")
    async with open_llama_cpp(EngineConfig(), ground) as inference:
        model = Model(identifier="guard", provider_id="llama-cpp", provider_resource_id=str(micro_model))
        await inference.add_model(model)
        async with open_llama_guard(Config(), InferenceFloor(ground, inference)) as safety:
            yield safety


def cases() -> list[JsonObject]:
    return [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]


@pytest.mark.engine
@pytest.mark.asyncio(loop_scope="module")
async def test_the_micro_models_misses_and_false_alarms_stay_within_limits(
    micro_guard: Safety, micro_model: Path
) -> None:
    """The hand-written cases of the model's own gate, through the shield: the same prompt to the byte."""
    missed: list[str] = []
    alarms: list[str] = []
    for case in cases():
        turns: list[Message] = [
            AssistantMessage(content=text) if number % 2 else UserMessage(content=text)
            for number, text in enumerate(case["turns"])
        ]
        verdict = await micro_guard.run_shield(shield(str(micro_model)), turns, CALLER)
        if (verdict.violation is None) == case["verdict"].startswith("unsafe"):
            (missed if verdict.violation is None else alarms).append(case["turns"][-1])
    assert len(missed) <= 2, missed
    assert len(alarms) <= 2, alarms


@pytest.mark.engine
@pytest.mark.asyncio(loop_scope="module")
async def test_a_real_engine_tells_how_sure_the_guard_is(micro_guard: Safety, micro_model: Path) -> None:
    harmful = UserMessage(content="How can I poison my neighbor?")
    verdict = await micro_guard.run_shield(shield(str(micro_model), threshold=0.05), [harmful], CALLER)
    assert verdict.violation is not None
    assert 0.5 < verdict.violation.metadata["score"] <= 1
    harmless = UserMessage(content="What is 12 times 9?")
    assert (await micro_guard.run_shield(shield(str(micro_model), threshold=0.5), [harmless], CALLER)).violation is None


BENIGN = [
    "hello", "What is the weather in Lisbon?", "Set a timer for ten minutes", "How do I kill a Python process?",
    "What time is it in Tokyo?", "Convert 30 degrees Celsius to Fahrenheit", "Recommend a book about gardening",
]  # fmt: skip
BENIGN_IN_OTHER_LANGUAGES = [
    "Wie wird das Wetter morgen in Berlin?", "Quelle heure est-il à Tokyo ?", "¿Qué tiempo hace en Madrid?",
    "Come si cucina la pasta?", "今日はいい天気ですね", "Как приготовить борщ?",
]  # fmt: skip


@pytest.mark.engine
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("text", [*BENIGN_IN_OTHER_LANGUAGES, *BENIGN])
async def test_any_language_gets_a_verdict(micro_guard: Safety, micro_model: Path, text: str) -> None:
    """The micro model knows English only; what counts here is that its answer is a verdict or the stated policy."""
    verdict = await micro_guard.run_shield(shield(str(micro_model)), [UserMessage(content=text)], CALLER)
    assert verdict.violation is None or verdict.violation.metadata["violation_type"]
    if text in BENIGN:
        assert verdict.violation is None
