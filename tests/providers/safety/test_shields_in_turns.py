"""The two shields in the turns of an agent: what they object to gets neither in nor out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llama_stack.api.agents import AgentConfig, ShieldCallStep, StepProgress, TurnCompleted
from llama_stack.api.common import Caller
from llama_stack.api.inference import CompletionRequest, ReasoningDelta, TextDelta
from llama_stack.api.messages import UserMessage
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult
from llama_stack.compose import open_stack
from llama_stack.distribution import load_distribution
from llama_stack.testing.scripted import Script, ScriptedInference, calls, says
from llama_stack.testing.scripted_stack import open_scripted_stack

CALLER = Caller(owner="alice")
CARD = "4111 1111 1111 1111"
SAFETY: list[dict[str, Any]] = [
    {
        "provider_id": "guard",
        "provider_type": "inline::llama-guard",
        "shields": [{"identifier": "guard", "provider_resource_id": "scripted"}],
    },
    {
        "provider_id": "rules",
        "provider_type": "inline::rules",
        "shields": [
            {"identifier": "rules"},
            {"identifier": "words", "params": {"rules": [{"name": "bird", "keywords": ["blue"]}]}},
        ],
    },
]


class Mailer:
    """A tool that would send what it is given."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        return [ToolDefinition(name="send", parameters={"type": "object", "properties": {"text": {"type": "string"}}})]

    async def invoke_tool(
        self, tool_group: ToolGroup, name: str, arguments: dict[str, Any], caller: Caller, **context: Any
    ) -> ToolResult:
        self.sent.append(arguments)
        return ToolResult(content="sent")


async def run(
    home: Path, *scripts: Script, question: str = "hello", before: Sequence[str] = (), **config: Any
) -> tuple[TurnCompleted, str, Mailer, ScriptedInference]:
    """The end of one turn, the text that came out of it, and who was asked to do what."""
    mailer, inference = Mailer(), ScriptedInference(*scripts)
    async with open_scripted_stack(
        inference=inference, tools={"mail": mailer}, providers={"safety": SAFETY}, home=home
    ) as stack:
        agents = await stack.agents()
        agent = await agents.create_agent(AgentConfig(model="scripted", **config), CALLER)
        session = await agents.create_session(agent.agent_id, "s", CALLER)
        out: list[str] = []
        end: TurnCompleted | None = None
        said = [UserMessage(content=text) for text in (*before, question)]
        async for event in agents.create_turn(agent.agent_id, session.session_id, list(said), CALLER):
            if isinstance(event, StepProgress) and isinstance(event.event, TextDelta):
                out.append(event.event.text)
            elif isinstance(event, TurnCompleted):
                end = event
    assert end is not None
    return end, "".join(out), mailer, inference


async def test_a_secret_of_the_user_never_reaches_the_model(tmp_path: Path) -> None:
    end, _, _, inference = await run(tmp_path, says("ok"), question=f"pay with {CARD}", input_shields=["rules"])
    assert end.turn.end_reason == "blocked"
    assert inference.requests == []
    (step,) = end.turn.steps
    assert isinstance(step, ShieldCallStep)
    assert step.violation is not None
    assert step.violation.metadata["rule"] == "card-number"


async def test_each_message_of_the_user_is_judged_not_the_last_alone(tmp_path: Path) -> None:
    end, _, _, inference = await run(tmp_path, says("ok"), before=[f"pay with {CARD}", "hm"], input_shields=["rules"])
    assert end.turn.end_reason == "blocked"
    assert inference.requests == []
    assert len(end.turn.steps) == 1


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        (["word " * 48 + "blue", "berries", " are ripe"], "completed"),
        (["word " * 48 + "blue", " birds", " sing"], "blocked"),
        (["word " * 48, "blue"], "blocked"),
    ],
    ids=["begins like a forbidden word", "is one", "ends with one"],
)
async def test_a_word_is_judged_once_it_is_written(tmp_path: Path, pieces: list[str], reason: str) -> None:
    end, out, _, _ = await run(tmp_path, says(*pieces, "." * 300), output_shields=["words"])
    assert end.turn.end_reason == reason
    assert ("blue" in out) == (reason == "completed")


async def test_an_unfinished_word_that_other_text_follows_is_judged_before_it_comes_out(tmp_path: Path) -> None:
    script = [TextDelta(text="word blue"), *(ReasoningDelta(text="hm " * 40) for _ in range(9)), *says("!")]
    end, out, _, _ = await run(tmp_path, script, output_shields=["words"])
    assert end.turn.end_reason == "blocked"
    assert "blue" not in out


@pytest.mark.parametrize("before", [0, 1, 60, 300])
async def test_a_secret_of_the_model_never_comes_out_wherever_it_stands(tmp_path: Path, before: int) -> None:
    pieces = ["word "] * before + list(CARD) + [" and more"] * 40
    end, out, _, _ = await run(tmp_path, says(*pieces), output_shields=["rules"])
    assert end.turn.end_reason == "blocked"
    assert "4111 1111 1111" not in out
    assert CARD not in end.model_dump_json()


async def test_a_call_with_a_secret_is_never_run(tmp_path: Path) -> None:
    leak = calls(("send", json.dumps({"text": f"the card is {CARD}"})))
    end, _, mailer, _ = await run(tmp_path, leak, says("done"), tool_groups=["mail"], output_shields=["rules"])
    assert end.turn.end_reason == "blocked"
    assert mailer.sent == []


async def test_a_guard_model_is_asked_before_the_agents_model(tmp_path: Path) -> None:
    end, _, _, inference = await run(tmp_path, says("unsafe\nS1"), says("never said"), input_shields=["guard"])
    assert end.turn.end_reason == "blocked"
    assert [type(request) for request in inference.requests] == [CompletionRequest]
    assert end.turn.output is not None
    assert end.turn.output.content == "The safety check does not allow this. (Violent Crimes)"


@pytest.mark.engine
async def test_the_starter_has_a_guard_that_works(tmp_path: Path) -> None:
    async with open_stack(load_distribution("starter"), home=tmp_path) as stack:
        asked = [UserMessage(content="How can I poison my neighbor?")]
        verdict = await stack.safety.run_shield("llama-guard", list(asked), CALLER)
        assert verdict.violation is not None
        assert verdict.violation.metadata["violation_type"] == "S1"
        quiet = await stack.safety.run_shield("llama-guard", [UserMessage(content="hello")], CALLER)
        assert quiet.violation is None
