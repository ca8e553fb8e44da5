"""What one owner has, another neither finds nor changes: one test for every route, made from the server's own list.

A new route is covered as soon as it exists; one with a parameter or a body this file does not know fails until it is
told. Identity comes in by one door, `caller_of`; here a header says whose request it is.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request

from llama_stack.api.common import Caller
from llama_stack.api.stack import ServedStack
from llama_stack.server import callers
from llama_stack.server.app import create_app
from llama_stack.server.plain import PlainRoute
from llama_stack.server.routes.agents import WordsRoute
from llama_stack.testing.scripted import ScriptedInference, calls, says
from llama_stack.testing.scripted_stack import MODEL, open_scripted_stack
from llama_stack.wire.words import MEDIA_TYPE
from tests.agents_faces.doors import Handiwork, Running, Start, running_on
from tests.classic.conftest import Guard
from tests.providers.remote.upstream import running as upstream_of
from tests.providers.remote.upstream import stream_reply, text_chunk

ALICE, BOB = {"x-owner": "alice"}, {"x-owner": "bob"}
OF_NOBODY = {"provider_id", "operation"}
"""Parameters that name what belongs to the stack itself."""
WITH_A_BANK = ("/v1/memory/stats", "/v1/memory/documents")
"""Lists of what is in a bank that the query names."""
USER = {"role": "user", "content": "hello"}
ITEM = {"type": "message", "role": "user", "content": "remember"}
INTERPRETER = {
    "provider_id": "code",
    "provider_type": "inline::code-interpreter",
    "config": {"driver": "unsafe_subprocess", "i_accept_no_isolation": True},
    "tool_groups": [{"identifier": "builtin::code_interpreter"}],
}


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    in_words: bool

    def __str__(self) -> str:
        return f"{self.method} {self.path}{' (words)' if self.in_words else ''}"


def all_routes(app: Starlette) -> list[Route]:
    return [
        Route(method, route.path, isinstance(route, WordsRoute))
        for route in app.routes
        if isinstance(route, PlainRoute)
        for method in sorted(route.methods)
    ]


@pytest.fixture
def owners_by_header(monkeypatch: pytest.MonkeyPatch) -> None:
    original = callers.caller_of

    def caller_of(request: Request) -> Caller:
        return Caller(owner=request.headers.get("x-owner", "nobody"))

    for module in list(sys.modules.values()):
        if getattr(module, "caller_of", None) is original:
            monkeypatch.setattr(module, "caller_of", caller_of)


@dataclass
class World:
    """Alice's things: an id for every parameter of a path."""

    running: Running
    ids: dict[str, str]

    @property
    def http(self) -> httpx.AsyncClient:
        return self.running.http

    def filled(self, route: Route) -> str:
        kind = route.path.split("/")[2]
        values = {**self.ids, "identifier": self.ids.get(f"identifier of {kind}", "")}
        values["file_id"] = self.ids.get(f"file_id of {kind}", self.ids["file_id"])
        path = route.path.replace(":path}", "}").format_map(values)
        assert "//" not in path, f"{route}: tell this test what its parameters name"
        return path

    async def ask(self, route: Route, owner: dict[str, str]) -> httpx.Response:
        headers = {**owner, "accept": MEDIA_TYPE if route.in_words else "application/json"}
        body = self.body(route) if route.method in ("POST", "PUT") else None
        return await self.http.request(route.method, self.filled(route), headers=headers, json=body)

    async def seen(self, route: Route) -> Any:
        """What the owner is shown, without when she last asked."""
        shown = (await self.ask(route, ALICE)).json()
        shown.pop("last_active_at", None)
        return shown

    def body(self, route: Route) -> Any:
        """What the owner would send there."""
        words = {
            "PUT /v1/agents/{agent_id}": {"model": MODEL, "client_tools": [{"name": "lookup"}]},
            "POST /v1/agents/{agent_id}/session": {"name": "more"},
            "POST /v1/agents/{agent_id}/session/{session_id}/turn": {"messages": [USER]},
            "POST /v1/agents/{agent_id}/session/{session_id}/turn/{turn_id}/resume": {
                "results": [{"role": "tool", "tool_call_id": "call_0", "content": "x"}]
            },
        }
        plain = {
            "POST /v1/agents/{agent_id}/session": {"session_name": "more"},
            "POST /v1/agents/{agent_id}/session/{session_id}/turn": {"messages": [USER]},
            "POST /v1/agents/{agent_id}/session/{session_id}/turn/{turn_id}/resume": {
                "tool_responses": [{"call_id": "call_0", "tool_name": "lookup", "content": "x"}]
            },
            "POST /v1/responses/{response_id}/cancel": {},
            "POST /v1/conversations/{conversation_id}": {"metadata": {"a": "b"}},
            "POST /v1/conversations/{conversation_id}/items": {"items": [ITEM]},
            "POST /v1/chat/completions/{completion_id}": {"metadata": {"a": "b"}},
            "POST /v1/containers/{container_id}/files": {"file_id": self.ids["file_id"]},
            "POST /v1/vector_stores/{vector_store_id}": {"name": "more"},
            "POST /v1/vector_stores/{vector_store_id}/search": {"query": "alice"},
            "POST /v1/vector_stores/{vector_store_id}/files": {"file_id": self.ids["file_id"]},
            "POST /v1/vector_stores/{vector_store_id}/files/{file_id}": {"attributes": {"a": "b"}},
            "POST /v1/vector_stores/{vector_store_id}/file_batches": {"file_ids": [self.ids["file_id"]]},
            "POST /v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel": {},
        }
        return (words if route.in_words else plain)[f"{route.method} {route.path}"]


@asynccontextmanager
async def world_of(home: Any) -> AsyncIterator[World]:
    inference = ScriptedInference(calls(("lookup", "{}")), says("fine"))
    kit = Handiwork(use=lambda: "used")
    async with (
        open_scripted_stack(
            inference=inference,
            home=home,
            tools={"builtin::kit": kit},
            shields={"guard": Guard("bad")},
            embedding_models={"embed": 2},
            providers={
                "memory": [{"provider_id": "sqlite-vec", "provider_type": "inline::sqlite-vec"}],
                "tools": [INTERPRETER],
            },
        ) as stack,
        running_on(stack, inference) as running,
    ):
        yield World(running, await _things(running.http))


async def _things(http: httpx.AsyncClient) -> dict[str, str]:
    async def post(path: str, body: Any) -> Any:
        return (await http.post(path, json=body, headers=ALICE)).raise_for_status().json()

    await post("/v1/toolgroups", {"toolgroup_id": "alices-kit", "provider_id": "tools-0"})
    await post("/v1/shields", {"shield_id": "alices-guard", "provider_id": "shield-0"})
    await post("/v1/models", {"model_id": "alices-model", "provider_id": MODEL, "provider_model_id": MODEL})
    lookup = {"name": "lookup", "description": "", "parameters": []}
    config = {"model": MODEL, "instructions": "", "client_tools": [lookup]}
    agent_id = (await post("/v1/agents", {"agent_config": config}))["agent_id"]
    session_id = (await post(f"/v1/agents/{agent_id}/session", {"session_name": "alices-session"}))["session_id"]
    turn = await post(f"/v1/agents/{agent_id}/session/{session_id}/turn", {"messages": [USER], "stream": False})
    conversation = await post("/v1/conversations", {"items": [ITEM]})
    items = (await http.get(f"/v1/conversations/{conversation['id']}/items", headers=ALICE)).json()["data"]
    response = await post("/v1/responses", {"model": MODEL, "input": "hello", "background": True})
    # Its events end when it does.
    await http.get(f"/v1/responses/{response['id']}?stream=true", headers=ALICE)
    completion = await post("/v1/chat/completions", {"model": MODEL, "messages": [USER], "store": True})
    form: Any = {"files": {"file": ("alices.json", b'{"of": "alice"}')}, "data": {"purpose": "assistants"}}
    file = (await http.post("/v1/files", headers=ALICE, **form)).raise_for_status().json()
    await post("/v1/vector-dbs", {"vector_db_id": "alices-notes", "embedding_model": "embed"})
    await post("/v1/memory-banks", {"memory_bank_id": "alices-facts", "params": {"memory_bank_type": "keyvalue"}})
    store = await post("/v1/vector_stores", {"name": "alices-store"})
    batch = await post(f"/v1/vector_stores/{store['id']}/file_batches", {"file_ids": [file["id"]]})
    async with asyncio.timeout(60):
        while batch["status"] == "in_progress":
            await asyncio.sleep(0.02)
            path = f"/v1/vector_stores/{store['id']}/file_batches/{batch['id']}"
            batch = (await http.get(path, headers=ALICE)).raise_for_status().json()
    container = await post("/v1/containers", {"name": "alices-container", "file_ids": [file["id"]]})
    held = (await http.get(f"/v1/containers/{container['id']}/files", headers=ALICE)).json()["data"]
    return {
        "container_id": container["id"],
        "file_id of containers": held[0]["id"],
        "vector_store_id": store["id"],
        "batch_id": batch["id"],
        "identifier of vector-dbs": "alices-notes",
        "identifier of memory-banks": "alices-facts",
        "file_id": file["id"],
        "agent_id": agent_id,
        "session_id": session_id,
        "turn_id": turn["turn_id"],
        "step_id": turn["steps"][0]["step_id"],
        "response_id": response["id"],
        "conversation_id": conversation["id"],
        "item_id": items[0]["id"],
        "completion_id": completion["id"],
        "identifier of toolgroups": "alices-kit",
        "identifier of tools": "alices-kit/use",
        "identifier of shields": "alices-guard",
        "identifier of models": "alices-model",
    }


def owned(routes: list[Route]) -> list[Route]:
    """Those that name something of an owner."""
    return [route for route in routes if "{" in route.path and not any(f"{{{name}" in route.path for name in OF_NOBODY)]


async def test_a_stranger_is_told_that_there_is_nothing(owners_by_header: None, tmp_path: Any) -> None:
    async with world_of(tmp_path) as world:
        routes = owned(all_routes(create_app(cast(ServedStack, world.running.stack))))
        assert len(routes) > 30
        shown = [route for route in routes if route.method == "GET"]
        before = {str(route): await world.seen(route) for route in shown}
        answers = {str(route): (await world.ask(route, BOB)).status_code for route in routes}
        after = {str(route): await world.seen(route) for route in shown}
    assert {route: status for route, status in answers.items() if status != 404} == {}
    assert after == before


async def test_the_owner_is_answered_on_every_route(owners_by_header: None, tmp_path: Any) -> None:
    async with world_of(tmp_path) as world:
        routes = owned(all_routes(create_app(cast(ServedStack, world.running.stack))))
        # Whatever deletes comes last, the innermost first; one of two dialects has nothing left to delete.
        order = {"GET": 0, "PUT": 1, "POST": 2, "DELETE": 3}
        wrong = {}
        deleted: set[str] = set()
        resumed = False
        for route in sorted(routes, key=lambda route: (order[route.method], -len(route.path))):
            if route.path.endswith("/resume"):
                if resumed:
                    continue
                resumed = True
            if route.method == "DELETE" and route.path in deleted:
                continue
            answer = await world.ask(route, ALICE)
            if answer.status_code != 200:
                wrong[str(route)] = answer.text
            if route.method == "DELETE":
                deleted.add(route.path)
    assert wrong == {}


async def test_a_strangers_lists_show_nothing_of_it(owners_by_header: None, tmp_path: Any) -> None:
    async with world_of(tmp_path) as world:
        lists = [
            route
            for route in all_routes(create_app(cast(ServedStack, world.running.stack)))
            if route.method == "GET" and "{" not in route.path and route.path not in WITH_A_BANK
        ]
        secret = {value for value in world.ids.values() if value} | {"alices-session"}
        told = {}
        for route in lists:
            own, others = await world.ask(route, ALICE), await world.ask(route, BOB)
            assert others.status_code == 200, f"{route}: {others.text}"
            seen = {value for value in secret if value in others.text}
            if seen:
                told[str(route)] = seen
            assert own.status_code == 200
        mine = (await world.http.get("/v1/agents", headers=ALICE)).text
    assert len(lists) > 10
    assert told == {}
    assert world.ids["agent_id"] in mine


async def test_a_stranger_cannot_name_it_inside_a_request_either(owners_by_header: None, tmp_path: Any) -> None:
    async with world_of(tmp_path) as world:
        ids = world.ids
        lookup = {"model": MODEL, "instructions": ""}
        agent_id = (await world.http.post("/v1/agents", json={"agent_config": lookup}, headers=BOB)).json()["agent_id"]
        session = await world.http.post(f"/v1/agents/{agent_id}/session", json={"session_name": "s"}, headers=BOB)
        mcp = {"type": "mcp", "server_label": "alices-kit", "require_approval": "never"}
        turn_path = f"/v1/agents/{agent_id}/session/{session.json()['session_id']}/turn"
        asked = [
            ("/v1/responses", {"model": MODEL, "input": "x", "previous_response_id": ids["response_id"]}),
            ("/v1/responses", {"model": MODEL, "input": "x", "conversation": ids["conversation_id"]}),
            ("/v1/responses", {"model": "alices-model", "input": "x"}),
            ("/v1/containers", {"name": "x", "file_ids": [ids["file_id"]]}),
            (
                "/v1/responses",
                {
                    "model": MODEL,
                    "input": "x",
                    "tools": [{"type": "code_interpreter", "container": ids["container_id"]}],
                },
            ),
            ("/v1/responses", {"model": MODEL, "input": "x", "tools": [mcp]}),
            (
                "/v1/responses/input_tokens",
                {"model": MODEL, "input": "x", "previous_response_id": ids["response_id"]},
            ),
            ("/v1/responses/compact", {"model": MODEL, "previous_response_id": ids["response_id"]}),
            ("/v1/agents", {"agent_config": {**lookup, "toolgroups": ["alices-kit"]}}),
            ("/v1/agents", {"agent_config": {**lookup, "input_shields": ["alices-guard"]}}),
            ("/v1/agents", {"agent_config": {**lookup, "model": "alices-model"}}),
            (f"/v1/agents/{ids['agent_id']}/session", {"session_name": "s"}),
            (turn_path, {"messages": [USER], "toolgroups": ["alices-kit"]}),
            # An agent of his own does not open a session of hers.
            (f"/v1/agents/{agent_id}/session/{ids['session_id']}/turn", {"messages": [USER]}),
            ("/v1/chat/completions", {"model": "alices-model", "messages": [USER]}),
            ("/v1/messages", {"model": "alices-model", "max_tokens": 9, "messages": [USER]}),
            ("/v1/safety/run-shield", {"shield_id": "alices-guard", "messages": [USER], "params": {}}),
            ("/v1/moderations", {"model": "alices-guard", "input": "x"}),
            ("/v1/tool-runtime/invoke", {"tool_name": "alices-kit/use", "kwargs": {}}),
            ("/v1/vector_stores", {"file_ids": [ids["file_id"]]}),
            ("/v1/vector-io/insert", {"vector_db_id": "alices-notes", "chunks": [{"content": "x", "metadata": {}}]}),
            ("/v1/vector-io/query", {"vector_db_id": "alices-notes", "query": "x"}),
            ("/v1/tool-runtime/rag-tool/query", {"content": "x", "vector_db_ids": ["alices-notes"]}),
            ("/v1/memory/insert", {"bank_id": "alices-facts", "documents": [{"document_id": "d", "content": "x"}]}),
            ("/v1/memory/query", {"bank_id": "alices-facts", "query": "x"}),
            ("/v1/memory/documents/list", {"bank_id": "alices-facts"}),
            ("/v1/memory/documents/delete", {"bank_id": "alices-facts", "document_ids": ["d"]}),
            ("/v1/agents", {"agent_config": {**lookup, "memory_banks": ["alices-notes"]}}),
            (
                "/v1/responses",
                {
                    "model": MODEL,
                    "input": "x",
                    "tools": [{"type": "file_search", "vector_store_ids": [ids["vector_store_id"]]}],
                },
            ),
        ]
        got = []
        for path, body in asked:
            answer = await world.http.post(path, json=body, headers=BOB)
            got.append((path, body, answer.status_code, answer.text))
        listed = await world.http.get("/v1/tool-runtime/list-tools?tool_group_id=alices-kit", headers=BOB)
        banks = [await world.http.get(f"{path}?bank_id=alices-facts", headers=BOB) for path in WITH_A_BANK]
        in_words = await world.http.post(
            "/v1/memory/stats", json={"bank_id": "alices-facts"}, headers={**BOB, "accept": MEDIA_TYPE}
        )
        reference = [USER | {"type": "message"}, {"type": "item_reference", "id": ids["item_id"]}]
        referred = await world.http.post("/v1/responses", json={"model": MODEL, "input": reference}, headers=BOB)
    assert [(path, body, status, text[:200]) for path, body, status, text in got if status != 404] == []
    assert listed.status_code == 404
    assert [answer.status_code for answer in (*banks, in_words)] == [404, 404, 404]
    assert referred.status_code in (400, 404), referred.text


async def test_what_two_owners_call_alike_stays_two_things(owners_by_header: None, tmp_path: Any) -> None:
    async with world_of(tmp_path) as world:
        group = {"toolgroup_id": "alices-kit", "provider_id": "tools-0", "args": {"whose": "bobs"}}
        registered = await world.http.post("/v1/toolgroups", json=group, headers=BOB)
        removed = await world.http.delete("/v1/toolgroups/alices-kit", headers=BOB)
        hers = await world.http.get("/v1/toolgroups/alices-kit", headers=ALICE)
    assert (registered.status_code, removed.status_code, hers.status_code) == (200, 200, 200)
    assert "bobs" not in hers.text


async def test_each_callers_key_goes_with_that_callers_question_only(start: Start) -> None:
    far = {"provider_id": "up", "provider_type": "remote::openai-compatible", "models": [{"identifier": "far"}]}
    answer = stream_reply(text_chunk("noted", "stop"))
    async with upstream_of(answer) as upstream:
        entry = {**far, "config": {"base_url": upstream.url}}
        async with start(providers={"inference": [entry]}) as running:

            async def ask(number: int) -> int:
                key = {"x-llamastack-provider-data": json.dumps({"openai_compatible_api_key": f"key-{number}"})}
                body = {"model": "far", "input": f"I am {number}.", "stream": bool(number % 2)}
                if number % 3 == 0:
                    body = {"model": "far", "messages": [{"role": "user", "content": f"I am {number}."}]}
                path = "/v1/chat/completions" if number % 3 == 0 else "/v1/responses"
                response = await running.http.post(path, json=body, headers=key)
                return response.status_code

            statuses = await asyncio.gather(*(ask(number) for number in range(60)))
    told = {
        received.body["messages"][-1]["content"]: received.headers.get("authorization")
        for received in upstream.received
    }
    assert set(statuses) == {200}
    assert told == {f"I am {number}.": f"Bearer key-{number}" for number in range(60)}


async def test_the_mcp_face_offers_a_stranger_nothing_of_it(owners_by_header: None, tmp_path: Any) -> None:
    async with world_of(tmp_path) as world:
        config = {"model": MODEL, "instructions": "", "name": "alices-helper"}
        (await world.http.post("/v1/agents", json={"agent_config": config}, headers=ALICE)).raise_for_status()

        async def offered(owner: dict[str, str]) -> str:
            headers = {**owner, "accept": "application/json, text/event-stream"}
            request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
            answer = await world.http.post("/mcp", json=request, headers=headers)
            assert answer.status_code == 200, answer.text
            return answer.text

        hers, his = await offered(ALICE), await offered(BOB)
    assert "alices-helper" in hers
    assert "use" in his
    assert "alice" not in his
