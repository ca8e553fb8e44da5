"""How the tests ask for agents, sessions and turns."""

from typing import Any

from llama_stack.api.inference import ChatRequest
from tests.classic.conftest import Running

HELLO: Any = [{"role": "user", "content": "hello"}]
ADD: Any = {
    "name": "add",
    "description": "Adds",
    "parameters": [{"name": "x", "parameter_type": "int", "description": "", "required": True, "default": None}],
    "metadata": {},
    "tool_prompt_format": "python_list",
}


def config(**more: Any) -> Any:
    return {"model": "scripted", "instructions": "Be brief.", **more}


async def begin(server: Running, **more: Any) -> tuple[str, str]:
    """A new agent and a session with it."""
    agent = await server.client.agents.create(agent_config=config(**more))
    session = await server.client.agents.session.create(agent.agent_id, session_name="s")
    return agent.agent_id, session.session_id


async def turn(server: Running, ids: tuple[str, str], messages: Any = HELLO, **more: Any) -> Any:
    """A whole turn."""
    return await server.client.agents.turn.create(ids[1], agent_id=ids[0], messages=messages, **more)


def asked(server: Running) -> ChatRequest:
    request = server.inference.requests[-1]
    assert isinstance(request, ChatRequest)
    return request


def path(ids: tuple[str, str], *more: str) -> str:
    return "/".join([f"/v1/agents/{ids[0]}/session/{ids[1]}/turn", *more])
