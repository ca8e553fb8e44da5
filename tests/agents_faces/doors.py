"""One stack behind every door an agent has: the SDK in this process, the SDK connected, classic REST and Responses."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast
from urllib.parse import quote

import httpx
import orjson

from llama_stack import LlamaStack
from llama_stack.api.agents import AgentConfig, AgentEvent, Agents, ApprovalDecision, TurnAwaitingInput, TurnCompleted
from llama_stack.api.common import Caller
from llama_stack.api.messages import ToolMessage, UserMessage, text_of
from llama_stack.api.stack import ServedStack
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult
from llama_stack.compose import LocalStack
from llama_stack.errors import StackError
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from llama_stack.testing.scripted import ScriptedInference
from llama_stack.testing.scripted_stack import MODEL

LOCAL = Caller(owner="local")
DOORS = ("sdk", "connected", "classic")


class Refused(Exception):
    """What a door answered instead of what was asked for."""

    def __init__(self, status: int, code: str | None, param: str | None, message: str) -> None:
        super().__init__(f"{status} {code} {param}: {message}")
        self.status, self.code, self.param, self.message = status, code, param, message


class Handiwork:
    """Tools of a test: each call is answered by the function of its name, which may also wait or raise."""

    def __init__(self, *, schema: Any = None, **tools: Callable[..., Any]) -> None:
        self._tools = tools
        self._schema = {"type": "object"} if schema is None else schema

    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        return [ToolDefinition(name=name, description=f"Does {name}.", parameters=self._schema) for name in self._tools]

    async def invoke_tool(
        self, tool_group: ToolGroup, name: str, arguments: dict[str, Any], caller: Caller
    ) -> ToolResult:
        answer = self._tools[name](**arguments)
        if hasattr(answer, "__await__"):
            answer = await answer
        return answer if isinstance(answer, ToolResult) else ToolResult(content=answer)


class Door(Protocol):
    """What every door of the agents can be asked, spelled alike. Each raises Refused."""

    async def begin(self, **config: Any) -> tuple[str, str]:
        """A new agent and a session with it. config: `tool_groups`, `input_shields`, `client_tools` (by name)."""
        ...

    async def see_agent(self, agent_id: str) -> None: ...

    async def see_session(self, agent_id: str, session_id: str) -> list[str]:
        """Ids of its turns."""
        ...

    async def see_turn(self, agent_id: str, session_id: str, turn_id: str) -> str | None:
        """What it ended with; None while it has no answer."""
        ...

    async def new_session(self, agent_id: str) -> str: ...

    async def delete_agent(self, agent_id: str) -> None: ...

    async def delete_session(self, agent_id: str, session_id: str) -> None: ...

    async def ask(self, agent_id: str, session_id: str, question: str = "hello") -> str | None: ...

    async def bring(self, agent_id: str, session_id: str, turn_id: str, *results: tuple[str, str]) -> str | None:
        """Results of client tools, by call id."""
        ...

    async def decide(self, agent_id: str, session_id: str, turn_id: str, call_id: str) -> str | None: ...


class WordsDoor:
    """The agents' service, in this process or at the other end of a connection."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def begin(self, **config: Any) -> tuple[str, str]:
        client_tools = [ToolDefinition(name=name) for name in config.pop("client_tools", ())]
        wanted = AgentConfig(**{"model": MODEL, "client_tools": client_tools, **config})
        with _refusals():
            record = await self._agents.create_agent(wanted, LOCAL)
            session = await self._agents.create_session(record.agent_id, "s", LOCAL)
        return record.agent_id, session.session_id

    async def see_agent(self, agent_id: str) -> None:
        with _refusals():
            await self._agents.agent(agent_id, LOCAL)

    async def see_session(self, agent_id: str, session_id: str) -> list[str]:
        with _refusals():
            return [turn.turn_id for turn in (await self._agents.session(agent_id, session_id, LOCAL)).turns]

    async def see_turn(self, agent_id: str, session_id: str, turn_id: str) -> str | None:
        with _refusals():
            output = (await self._agents.turn(agent_id, session_id, turn_id, LOCAL)).output
        return None if output is None else text_of(output.content)

    async def new_session(self, agent_id: str) -> str:
        with _refusals():
            return (await self._agents.create_session(agent_id, "s", LOCAL)).session_id

    async def delete_agent(self, agent_id: str) -> None:
        with _refusals():
            await self._agents.delete_agent(agent_id, LOCAL)

    async def delete_session(self, agent_id: str, session_id: str) -> None:
        with _refusals():
            await self._agents.delete_session(agent_id, session_id, LOCAL)

    async def ask(self, agent_id: str, session_id: str, question: str = "hello") -> str | None:
        return await _answer(self._agents.create_turn(agent_id, session_id, [UserMessage(content=question)], LOCAL))

    async def bring(self, agent_id: str, session_id: str, turn_id: str, *results: tuple[str, str]) -> str | None:
        messages = [ToolMessage(tool_call_id=call_id, content=content) for call_id, content in results]
        return await _answer(self._agents.resume_turn(agent_id, session_id, turn_id, LOCAL, results=messages))

    async def decide(self, agent_id: str, session_id: str, turn_id: str, call_id: str) -> str | None:
        decisions = [ApprovalDecision(tool_call_id=call_id, approve=True)]
        return await _answer(self._agents.resume_turn(agent_id, session_id, turn_id, LOCAL, decisions=decisions))


async def _answer(events: AsyncGenerator[AgentEvent, None]) -> str | None:
    """The turn's answer; None where it waits. Checks that there is one last event and nothing after it."""
    last: AgentEvent | None = None
    with _refusals():
        async with aclosing(events):
            async for event in events:
                assert not isinstance(last, TurnCompleted | TurnAwaitingInput)
                last = event
    assert isinstance(last, TurnCompleted | TurnAwaitingInput)
    return None if last.turn.output is None else text_of(last.turn.output.content)


class _refusals:
    """StackErrors as Refused."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, StackError):
            raise Refused(error.http_status, error.code, error.param, error.message) from error


class ClassicDoor:
    """/v1/agents as a classic client uses it, with plain HTTP, so that nothing is repeated or read generously."""

    def __init__(self, http: httpx.AsyncClient, *, stream: bool = False) -> None:
        self._http = http
        self._stream = stream

    async def begin(self, **config: Any) -> tuple[str, str]:
        client_tools = [{"name": name, "description": "", "parameters": []} for name in config.pop("client_tools", ())]
        toolgroups = config.pop("tool_groups", [])
        body = {"model": MODEL, "instructions": "", "client_tools": client_tools, "toolgroups": toolgroups, **config}
        agent_id = (await self._post("/v1/agents", {"agent_config": body}))["agent_id"]
        return agent_id, await self.new_session(agent_id)

    async def see_agent(self, agent_id: str) -> None:
        await self._get(f"/v1/agents/{quote(agent_id, safe='')}")

    async def see_session(self, agent_id: str, session_id: str) -> list[str]:
        session = await self._get(f"/v1/agents/{agent_id}/session/{quote(session_id, safe='')}")
        return [turn["turn_id"] for turn in session["turns"]]

    async def see_turn(self, agent_id: str, session_id: str, turn_id: str) -> str | None:
        turn = await self._get(f"/v1/agents/{agent_id}/session/{session_id}/turn/{turn_id}")
        return cast(str | None, turn["output_message"]["content"])

    async def new_session(self, agent_id: str) -> str:
        return str((await self._post(f"/v1/agents/{agent_id}/session", {"session_name": "s"}))["session_id"])

    async def delete_agent(self, agent_id: str) -> None:
        _read(await self._http.delete(f"/v1/agents/{agent_id}"))

    async def delete_session(self, agent_id: str, session_id: str) -> None:
        _read(await self._http.delete(f"/v1/agents/{agent_id}/session/{session_id}"))

    async def ask(self, agent_id: str, session_id: str, question: str = "hello") -> str | None:
        return await self._turn(agent_id, session_id, "", {"messages": [{"role": "user", "content": question}]})

    async def bring(self, agent_id: str, session_id: str, turn_id: str, *results: tuple[str, str]) -> str | None:
        responses = [{"call_id": call_id, "tool_name": "t", "content": content} for call_id, content in results]
        return await self._turn(agent_id, session_id, f"/{turn_id}/resume", {"tool_responses": responses})

    async def decide(self, agent_id: str, session_id: str, turn_id: str, call_id: str) -> str | None:
        decisions = [{"call_id": call_id, "approve": True}]
        return await self._turn(
            agent_id, session_id, f"/{turn_id}/resume", {"tool_responses": [], "approvals": decisions}
        )

    async def _turn(self, agent_id: str, session_id: str, rest: str, body: Any) -> str | None:
        path = f"/v1/agents/{agent_id}/session/{session_id}/turn{rest}"
        if not self._stream:
            turn = await self._post(path, {**body, "stream": False})
            return cast(str | None, turn["output_message"]["content"])
        response = await self._http.post(path, json={**body, "stream": True})
        if response.status_code != 200:
            _read(response)
        *_, last = frames_of(response.content)
        if "error" in last:
            raise refused(response.status_code, last["error"])
        turn = last["event"]["payload"]["turn"]
        return cast(str | None, turn["output_message"]["content"])

    async def _get(self, path: str) -> Any:
        return _read(await self._http.get(path))

    async def _post(self, path: str, body: Any) -> Any:
        return _read(await self._http.post(path, json=body))


def _read(response: httpx.Response) -> Any:
    if response.status_code != 200:
        raise refused(response.status_code, response.json()["error"])
    return response.json()


def refused(status: int, error: Mapping[str, Any]) -> Refused:
    return Refused(status, error.get("code"), error.get("param"), error["message"])


def frames_of(body: bytes) -> list[Any]:
    """The `data` of every frame of a stream; its `[DONE]` left out."""
    fields = [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: ")]
    return [orjson.loads(field) for field in fields if field != b"[DONE]"]


@dataclass(frozen=True)
class Running:
    """A stack, its server and its script."""

    stack: LocalStack
    url: str
    http: httpx.AsyncClient
    inference: ScriptedInference
    doors: Mapping[str, Door]

    async def respond(self, **body: Any) -> Any:
        """A response, whole. Raises Refused."""
        return _read(await self.http.post("/v1/responses", json={"model": MODEL, **body}))


Start = Callable[..., AbstractAsyncContextManager[Running]]


@asynccontextmanager
async def running_on(stack: LocalStack, inference: ScriptedInference | None = None) -> AsyncIterator[Running]:
    async with AsyncExitStack() as exits:
        url = await exits.enter_async_context(serving(create_app(cast(ServedStack, stack))))
        http = await exits.enter_async_context(httpx.AsyncClient(base_url=url, verify=False, timeout=30))
        far = await exits.enter_async_context(LlamaStack.connect(url))
        doors: dict[str, Door] = {
            "sdk": WordsDoor(await stack.agents()),
            "connected": WordsDoor(await far.agents()),
            "classic": ClassicDoor(http),
            "classic-stream": ClassicDoor(http, stream=True),
        }
        yield Running(stack, url, http, inference or ScriptedInference(), doors)
