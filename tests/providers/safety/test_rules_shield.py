"""inline::rules: keywords, regular expressions, secrets and card numbers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.messages import AssistantMessage, Message, TextPart, ToolCall, UserMessage
from llama_stack.api.resources import Shield
from llama_stack.api.safety import Violation, ViolationLevel
from llama_stack.errors import InvalidRequest, ProviderTimeout
from llama_stack.provider import Ground, InferenceFloor
from llama_stack.testing.safety_contract import Judge, SafetyContract
from llama_stack.testing.scripted import ScriptedInference
from llama_stack_providers.inline.rules import Config, open_rules

CALLER = Caller(owner="alice")
HOUSE = {
    "house": [
        {"name": "project", "keywords": ["bluebird", "naïve plan", "爆弾", "폭탄", "ระเบิด"]},
        {"name": "ticket", "regex": r"\bTCK-\d{4}\b", "action": "log"},
        {"name": "shouting", "regex": r"\b[A-Z]{12,}\b", "case_sensitive": True, "action": "warn"},
    ]
}


def floor(folder: Path) -> InferenceFloor:
    return InferenceFloor(Ground(home=folder, state=folder / "rules"), ScriptedInference())


def shield(**params: Any) -> Shield:
    return Shield(identifier="rules", provider_id="rules", provider_resource_id="rules", params=params)


async def judged(message: Message | str, *, params: JsonObject | None = None, **shield_params: Any) -> Violation | None:
    said = UserMessage(content=message) if isinstance(message, str) else message
    folder = Path()
    async with open_rules(Config.model_validate({"rule_sets": HOUSE}), floor(folder)) as safety:
        return (await safety.run_shield(shield(**shield_params), [said], CALLER, params)).violation


async def test_rules_are_named_by_what_they_found() -> None:
    violation = await judged("please tell me about bluebird")
    assert violation == Violation(
        level=ViolationLevel.ERROR,
        user_message="A rule of this service does not allow this. (project)",
        metadata={
            "violation_type": "project",
            "rule": "project",
            "rule_set": "house",
            "action": "block",
            "place": "content",
            "start": 21,
            "end": 29,
            "role": "user",
            "matches": [
                {"rule": "project", "rule_set": "house", "action": "block", "place": "content", "start": 21, "end": 29}
            ],
        },
    )


async def test_a_word_that_stands_across_two_parts_is_found_once() -> None:
    violation = await judged(UserMessage(content=[TextPart(text="about blue"), TextPart(text="bird: TCK-1234")]))
    assert violation is not None
    places = [(match["rule"], match["place"], match["start"]) for match in violation.metadata["matches"]]
    assert places == [("ticket", "content[1]", 6), ("project", "content", 6)]


async def test_an_escape_in_an_answer_that_is_json_hides_nothing() -> None:
    violation = await judged(
        AssistantMessage(content='{"a": "\\u7206\\u5f3e", "b": "\\u0062luebird", "c": "TCK-1234"}')
    )
    assert violation is not None
    places = [(match["rule"], match["place"]) for match in violation.metadata["matches"]]
    assert places == [("ticket", "content"), ("project", "content, unescaped")]
    assert await judged("a path: C:\\users\\u12") is None


class TestRulesContract(SafetyContract):
    @pytest.fixture
    async def judge(self, tmp_path: Path) -> AsyncIterator[Judge]:
        async with open_rules(Config.model_validate({"rule_sets": HOUSE}), floor(tmp_path)) as safety:
            yield Judge(safety, shield(), harmless="What is a bird?", harmful="what does bluebird do")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("BLUEBIRD", "BLUEBIRD"),
        ("blue\u200bbi\u00adrd!", "blue\u200bbi\u00adrd"),
        ("ｂｌｕｅｂｉｒｄ", "ｂｌｕｅｂｉｒｄ"),
        ("the NAI\u0308VE \n plan", "NAI\u0308VE \n plan"),
        ("これは爆弾です", "爆弾"),
        ("폭탄을 만드는 법", "폭탄"),
        ("วิธีทำระเบิดเอง", "ระเบิด"),
        ("die bluebird-Daten", "bluebird"),
        ("\N{FAMILY} bluebird", "bluebird"),
    ],
)
async def test_a_keyword_is_found_however_it_is_written(text: str, part: str) -> None:
    violation = await judged(text)
    assert violation is not None
    assert text[violation.metadata["start"] : violation.metadata["end"]] == part


@pytest.mark.parametrize(
    "text",
    [
        "bluebirds and blackbirds",
        "a naïveplan",
        "blue bird",
        "TCK-12345",
        "bluebird2",
        "bluebird\u0301",
        "Wie wird das Wetter in Oslo?",
        "今日はいい天気です",
        "Как приготовить борщ?",
        "كيف حالك اليوم؟",
        "the sk-learn package, see sk-learn-contrib-documentation-pages",
        "password: correct horse battery staple",
        "token = ${env.API_TOKEN_OF_THE_SERVICE}",
        "my order 4111111111111112 and 1234567890123456",
        "0000 0000 0000 0000",
        "commit 3f786850e387550fdab836ed7e6dc881de23001b",
        "https://example.org/a:b@c",
    ],
)
async def test_what_only_looks_alike_passes(text: str) -> None:
    assert await judged(text) is None


SECRETS = {
    "aws-access-key": "AKIAIOSFODNN7EXAMPLE",
    "github-token": "ghp_" + "a1B2" * 9,
    "gitlab-token": "glpat-" + "a1B2c3D4e5" * 2,
    "openai-key": "sk-proj-abcd1234efgh5678ijkl9012",
    "google-key": "AIza" + "Sy0_-" * 7,
    "hugging-face-token": "hf_" + "aB3" * 12,
    "slack-token": "xoxb-123456789012-abcdefABCDEF",
    "stripe-key": "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "private-key": "-----BEGIN RSA PRIVATE KEY-----",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
    "url-password": "hunter2x",
    "named-secret": "0f3a9b2c7d8e1f4a5b6c",
    "card-number": "4111 1111 1111 1111",
}
AROUND = {"url-password": "postgres://me:{}@db/x", "named-secret": 'export API_KEY="{}"'}


@pytest.mark.parametrize("kind", sorted(SECRETS))
async def test_a_secret_is_found_and_never_repeated(kind: str) -> None:
    secret = SECRETS[kind]
    text = "look: " + AROUND.get(kind, "{}").format(secret) + " thanks"
    violation = await judged(text)
    assert violation is not None
    found = [match for match in violation.metadata["matches"] if match["rule"] == kind]
    assert [text[match["start"] : match["end"]] for match in found] == [secret]
    assert secret not in violation.model_dump_json()


@pytest.mark.parametrize("before", [65_500, 65_520, 65_535, 65_536, 131_060])
async def test_a_secret_is_found_whole_wherever_a_long_text_is_cut(before: int) -> None:
    for kind, secret in SECRETS.items():
        text = "x" * (before - 1) + " " + AROUND.get(kind, "{}").format(secret) + " y" * 40_000
        violation = await judged(text, rule_sets={}, actions={other: "allow" for other in SECRETS if other != kind})
        assert violation is not None, kind
        assert text[violation.metadata["start"] : violation.metadata["end"]] == secret


@pytest.mark.parametrize("card", ["5555555555554444", "378282246310005", "3782 822463 10005", "6011-1111-1111-1117"])
async def test_cards_of_other_schemes(card: str) -> None:
    violation = await judged(f"pay with {card}, code 123")
    assert violation is not None
    assert violation.metadata["rule"] == "card-number"


async def test_an_escape_in_the_arguments_of_a_call_hides_nothing() -> None:
    call = ToolCall(id="1", name="post", arguments='{"to": "x", "body": [{"text": "bl\\u0075ebird"}]}')
    violation = await judged(AssistantMessage(tool_calls=[call]))
    assert violation is not None
    assert violation.metadata["place"] == "tool_calls[0].arguments.body[0].text"
    broken = await judged(AssistantMessage(tool_calls=[call.model_copy(update={"arguments": '{"x": "bluebird'})]))
    assert broken is not None
    assert broken.metadata["place"] == "tool_calls[0].arguments"
    named = AssistantMessage(tool_calls=[ToolCall(id="1", name="x", arguments='{"api_key": "0f3a9b2c7d8e1f4a5b6c"}')])
    assert await judged(named) is not None


async def test_the_strongest_action_decides_and_all_matches_are_told() -> None:
    assert (await judged("TCK-1234") or Violation(level=ViolationLevel.ERROR)).level is ViolationLevel.INFO
    assert (await judged("ABCDEFGHIJKLM") or Violation(level=ViolationLevel.ERROR)).level is ViolationLevel.WARN
    assert await judged("abcdefghijklm") is None
    both = await judged("TCK-1234 bluebird")
    assert both is not None
    assert both.metadata["rule"] == "project"
    assert {match["rule"] for match in both.metadata["matches"]} == {"project", "ticket"}


async def test_a_shields_params_choose_sets_and_actions() -> None:
    card = "4111 1111 1111 1111"
    assert await judged(card, use=["house"]) is None
    assert await judged(card, actions={"cards": "allow"}) is None
    warned = await judged(card, actions={"card-number": "warn"})
    assert warned is not None
    assert warned.level is ViolationLevel.WARN
    own = await judged("say please", use=[], rules=[{"name": "polite", "keywords": ["please"], "user_message": "No."}])
    assert own is not None
    assert own.user_message == "No."
    assert await judged(card, params={"use": ["house"]}) is None
    assert await judged("bluebird", params={"rules": [], "timeout_s": -1}) is not None


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ({"use": ["huose"]}, "there are: cards, house, secrets"),
        ({"uses": ["house"]}, "does not know; it knows: actions"),
        ({"rules": [{"name": "x", "regex": "(a)\\1"}]}, "back-references"),
        ({"rules": [{"name": "x", "keywords": ["\u200b"]}]}, "empty keyword"),
        ({"rules": [{"name": "x"}]}, "needs keywords or regex"),
        ({"actions": {"cards": "explode"}}, "actions.cards"),
    ],
)
async def test_wrong_params_are_named(params: JsonObject, complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        await judged("hello", **params)


def test_a_wrong_config_is_refused_when_it_is_read() -> None:
    with pytest.raises(ValidationError, match="built in"):
        Config.model_validate({"rule_sets": {"cards": []}})
    with pytest.raises(ValidationError, match="look-around"):
        Config.model_validate({"rules": [{"name": "x", "regex": "(?=a)b"}]})


async def test_a_long_text_is_searched_off_the_event_loop_and_within_its_time(tmp_path: Path) -> None:
    text = "lorem ipsum " * 40_000
    async with open_rules(Config.model_validate({"rule_sets": HOUSE}), floor(tmp_path)) as safety:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        ticking = asyncio.create_task(tick())
        found = await safety.run_shield(shield(), [UserMessage(content=text + "bluebird")], CALLER)
        ticking.cancel()
        assert found.violation is not None
        assert ticks > 3
        with pytest.raises(ProviderTimeout, match=r"0\.001 s"):
            await safety.run_shield(shield(timeout_s=0.001), [UserMessage(content=text)], CALLER)


async def test_json_that_is_nested_deeply_is_still_searched() -> None:
    deep = "[" * 50_000 + '"bluebird"' + "]" * 50_000
    assert await judged(AssistantMessage(tool_calls=[ToolCall(id="1", name="x", arguments=deep)])) is not None
