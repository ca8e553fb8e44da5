"""The OpenAPI document: nothing dangles, nothing is missing, and the server answers as it says."""

import asyncio
import functools
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from llama_stack.api.inference import ReasoningDelta
from llama_stack.server import schema
from llama_stack.server.app import create_app
from llama_stack.server.openapi import openapi_document
from llama_stack.server.plain import PlainRoute
from llama_stack.testing.scripted import ScriptedStack, calls, says
from tests.server.conftest import Start


@functools.cache
def document() -> Any:
    return openapi_document(create_app(ScriptedStack()))


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_resolves() -> None:
    whole = document()
    found = set(references(whole))
    assert len(found) > 20
    for reference in found:
        node = whole
        for step in reference.removeprefix("#/").split("/"):
            assert step in node, f"{reference} leads nowhere"
            node = node[step]


def operations() -> list[tuple[str, str, Any]]:
    return [
        (path, method, operation)
        for path, methods in document()["paths"].items()
        for method, operation in methods.items()
    ]


def test_the_document_has_every_route() -> None:
    app = create_app(ScriptedStack())
    routes = {
        (route.path, method.lower())
        for route in app.routes
        if isinstance(route, PlainRoute)
        for method in route.methods
    }
    assert len(routes) >= 11
    in_document = {(path.replace("{identifier}", "{identifier:path}"), method) for path, method, _ in operations()}
    assert in_document == routes


@pytest.mark.parametrize(("path", "method", "operation"), operations())
def test_every_operation_says_what_goes_in_and_what_comes_out(path: str, method: str, operation: Any) -> None:
    assert operation["summary"]
    if path in ("/v1/files/{file_id}/content", "/v1/containers/{container_id}/files/{file_id}/content"):
        assert list(operation["responses"]["200"]["content"]) == ["application/octet-stream"]
    else:
        assert operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    for failure in ("4XX", "5XX"):
        assert operation["responses"][failure]["content"]["application/json"]["schema"]["$ref"].endswith("ErrorAnswer")
    if (path, method) == ("/v1/files", "post"):
        assert list(operation["requestBody"]["content"]) == ["multipart/form-data"]
    elif method == "post" and not path.endswith("/cancel"):
        assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert "422" not in operation["responses"]


def strictly(model: type[schema.Answer], body: Any) -> None:
    """The body fits the described shape, down to no field beyond it."""
    parsed = model.model_validate(body, strict=True)

    def beyond(node: Any) -> Iterator[str]:
        if isinstance(node, schema.Answer):
            yield from node.__pydantic_extra__ or ()
            for name in type(node).model_fields:
                yield from beyond(getattr(node, name))
        elif isinstance(node, list):
            for item in node:
                yield from beyond(item)

    assert list(beyond(parsed)) == []


async def test_answers_are_as_described(start: Start) -> None:
    chat = {"model": "scripted", "messages": [{"role": "user", "content": "x"}]}
    script = [ReasoningDelta(text="hm"), *calls(("f", "{}"))]
    posts: list[tuple[str, Any, type[schema.Answer]]] = [
        ("chat/completions", chat, schema.ChatCompletion),
        ("completions", {"model": "m", "prompt": "x"}, schema.Completion),
        ("embeddings", {"model": "m", "input": "x"}, schema.EmbeddingList),
        ("rerank", {"model": "m", "query": "q", "documents": ["a"], "return_documents": True}, schema.Ranking),
        ("chat/completions", {}, schema.ErrorAnswer),
    ]
    gets: list[tuple[str, type[schema.Answer]]] = [
        ("models", schema.ModelList),
        ("models/scripted", schema.Model),
        ("health", schema.HealthAnswer),
        ("version", schema.VersionAnswer),
        ("providers", schema.ProviderList),
        ("providers/scripted", schema.Provider),
        ("inspect/routes", schema.RouteList),
        ("providers/none", schema.ErrorAnswer),
    ]
    async with start(script, says("x")) as server:
        for path, body, model in posts:
            strictly(model, (await server.http.post(f"/v1/{path}", json=body)).json())
        for path, model in gets:
            strictly(model, (await server.http.get(f"/v1/{path}")).json())


async def test_the_document_is_served(start: Start) -> None:
    async with start() as server:
        served = (await server.http.get("/openapi.json")).json()
    assert served == document()


async def test_behind_a_prefix_the_document_says_where_the_server_is() -> None:
    app = create_app(ScriptedStack())
    transport = httpx.ASGITransport(app=app, root_path="/llama")
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        first, second = await asyncio.gather(http.get("/openapi.json"), http.get("/llama/openapi.json"))
    assert first.json()["servers"] == [{"url": "/llama"}] == second.json()["servers"]
    assert first.json()["paths"] == document()["paths"]


def test_a_server_starts_without_what_only_describes_it() -> None:
    program = "import sys; from llama_stack.server import app, serve; sys.exit('fastapi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
