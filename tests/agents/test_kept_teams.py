"""Hand-offs between agents that the stack keeps: who they are stands in their configs, by id."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from llama_stack.agents.teams import MAX_MEMBERS
from llama_stack.api.agents import AgentConfig, AgentRecord, Agents, Turn, TurnAwaitingInput, TurnCompleted
from llama_stack.api.common import Caller
from llama_stack.api.inference import ChatRequest
from llama_stack.api.messages import ToolMessage, UserMessage, text_of
from llama_stack.errors import InvalidRequest, NotFound
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from llama_stack.testing.scripted import ScriptedInference, calls, says
from llama_stack.testing.scripted_stack import open_scripted_stack

ALICE = Caller(owner="alice")
BOB = Caller(owner="bob")
TO_BILLING = calls(("transfer_to_billing", "{}"))


async def kept(agents: Agents, name: str | None, *handoffs: str, **more: Any) -> AgentRecord:
    settings = {"model": "scripted", "name": name, "instructions": f"You are {name}.", "handoffs": handoffs, **more}
    return await agents.create_agent(AgentConfig.model_validate(settings), ALICE)


async def asked(agents: Agents, agent: AgentRecord, session_id: str, words: str = "?") -> Turn:
    events = agents.create_turn(agent.agent_id, session_id, [UserMessage(content=words)], ALICE)
    last = [event async for event in events][-1]
    assert isinstance(last, TurnCompleted | TurnAwaitingInput)
    return last.turn


def systems(inference: ScriptedInference) -> list[str]:
    requests = [request for request in inference.requests if isinstance(request, ChatRequest)]
    return [text_of(request.messages[0].content) for request in requests]


async def test_a_conversation_stays_handed_over_after_a_restart(tmp_path: Path) -> None:
    pick = {"name": "pick", "parameters": {"type": "object"}}
    async with open_scripted_stack(TO_BILLING, calls(("pick", "{}")), home=tmp_path) as stack:
        agents = await stack.agents()
        billing = await kept(agents, "billing", description="For money.", client_tools=[pick])
        triage = await kept(agents, "triage", billing.agent_id)
        session = await agents.create_session(triage.agent_id, "s", ALICE)
        turn = await asked(agents, triage, session.session_id)
        assert turn.end_reason is None

    inference = ScriptedInference(says("Paid."), says("You are welcome."))
    async with open_scripted_stack(inference=inference, home=tmp_path) as stack:
        agents = await stack.agents()
        place = (triage.agent_id, session.session_id, turn.turn_id)
        result = ToolMessage(tool_call_id="call_0", content="red")
        events = [event async for event in agents.resume_turn(*place, ALICE, results=[result])]
        assert isinstance(events[-1], TurnCompleted)
        await asked(agents, triage, session.session_id, "Thanks.")
    assert systems(inference) == ["You are billing.", "You are billing."]


async def test_agents_that_hand_over_to_and_fro(tmp_path: Path) -> None:
    inference = ScriptedInference(TO_BILLING, calls(("transfer_to_triage", "{}")), says("Here I am."))
    async with open_scripted_stack(inference=inference, home=tmp_path) as stack:
        agents = await stack.agents()
        triage = await kept(agents, "triage")
        billing = await kept(agents, "billing", triage.agent_id)
        changed = triage.config.model_copy(update={"handoffs": [billing.agent_id, billing.agent_id]})
        triage = await agents.update_agent(triage.agent_id, changed, ALICE)
        session = await agents.create_session(triage.agent_id, "s", ALICE)
        await asked(agents, triage, session.session_id)
    assert systems(inference) == ["You are triage.", "You are billing.", "You are triage."]


async def test_an_agent_that_was_deleted_is_not_offered(tmp_path: Path) -> None:
    inference = ScriptedInference(says("Alone."))
    async with open_scripted_stack(inference=inference, home=tmp_path) as stack:
        agents = await stack.agents()
        billing = await kept(agents, "billing")
        triage = await kept(agents, "triage", billing.agent_id)
        await agents.delete_agent(billing.agent_id, ALICE)
        session = await agents.create_session(triage.agent_id, "s", ALICE)
        assert (await asked(agents, triage, session.session_id)).end_reason == "completed"
    (request,) = inference.requests
    assert isinstance(request, ChatRequest)
    assert request.tools == []


async def test_a_hand_off_to_nobody_or_to_somebody_without_a_name_is_refused(tmp_path: Path) -> None:
    async with open_scripted_stack(home=tmp_path) as stack:
        agents = await stack.agents()
        config = AgentConfig(model="scripted", name="theirs")
        theirs = await agents.create_agent(config, BOB)
        nameless = await kept(agents, None)
        twins = [(await kept(agents, "twin")).agent_id for _ in range(2)]
        for stranger in ("agent_nowhere", theirs.agent_id):
            with pytest.raises(NotFound, match=f"handoffs: there is no agent '{stranger}'") as raised:
                await kept(agents, "triage", stranger)
            assert raised.value.param == "handoffs"
        with pytest.raises(InvalidRequest, match="one has none"):
            await kept(agents, "triage", nameless.agent_id)
        with pytest.raises(InvalidRequest, match="one has none"):
            await kept(agents, None, twins[0])
        with pytest.raises(InvalidRequest, match="two are named 'twin'"):
            await kept(agents, "triage", *twins)


async def test_names_that_have_become_alike_are_told_before_a_turn_begins(tmp_path: Path) -> None:
    async with open_scripted_stack(home=tmp_path) as stack:
        agents = await stack.agents()
        billing = await kept(agents, "billing")
        triage = await kept(agents, "triage", billing.agent_id)
        renamed = billing.config.model_copy(update={"name": "triage"})
        await agents.update_agent(billing.agent_id, renamed, ALICE)
        session = await agents.create_session(triage.agent_id, "s", ALICE)
        with pytest.raises(InvalidRequest, match="two are named 'triage'"):
            await asked(agents, triage, session.session_id)
        assert (await agents.session(triage.agent_id, session.session_id, ALICE)).turns == []


async def test_a_team_has_a_bound(tmp_path: Path) -> None:
    async with open_scripted_stack(home=tmp_path) as stack:
        agents = await stack.agents()
        last = await kept(agents, "0")
        for number in range(1, MAX_MEMBERS + 1):
            last = await kept(agents, str(number), last.agent_id)
        session = await agents.create_session(last.agent_id, "s", ALICE)
        with pytest.raises(InvalidRequest, match=f"lead to more than {MAX_MEMBERS} agents"):
            await asked(agents, last, session.session_id)


async def test_over_rest_and_seen_by_a_classic_client(tmp_path: Path) -> None:
    pick = {"name": "pick", "parameters": {"type": "object"}}
    words = {"accept": "application/vnd.llama-stack+json"}
    async with (
        open_scripted_stack(TO_BILLING, calls(("pick", "{}")), says("Paid."), home=tmp_path) as stack,
        serving(create_app(stack)) as url,
        httpx.AsyncClient(base_url=f"{url}/v1", verify=False) as http,
    ):
        billing = {"model": "scripted", "name": "billing", "client_tools": [pick]}
        billing_id = (await http.post("agents", json=billing, headers=words)).json()["agent_id"]
        triage = {"model": "scripted", "name": "triage", "handoffs": [billing_id]}
        triage_id = (await http.post("agents", json=triage, headers=words)).json()["agent_id"]
        session_id = (await http.post(f"agents/{triage_id}/session", json={"session_name": "s"})).json()["session_id"]
        place = f"agents/{triage_id}/session/{session_id}"
        body = {"messages": [{"role": "user", "content": "?"}], "stream": False}
        paused = (await http.post(f"{place}/turn", json=body)).json()
        turn = f"{place}/turn/{paused['turn_id']}"
        read = (await http.get(turn)).json()
        session = (await http.get(place)).json()
        responses = {"tool_responses": [{"call_id": "call_0", "tool_name": "pick", "content": "red"}], "stream": False}
        ended = (await http.post(f"{turn}/resume", json=responses)).json()

    assert [call["tool_name"] for call in paused["output_message"]["tool_calls"]] == ["pick"]
    assert read["output_message"] == session["turns"][0]["output_message"] == paused["output_message"]
    assert ended["output_message"]["content"] == "Paid."
