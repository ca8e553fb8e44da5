"""Who may address the server: a page whose name leads to this machine is not one of them."""

import httpx
import pytest

from llama_stack.cli.stack_run import server_options
from llama_stack.distribution import ServerSettings
from llama_stack.server.options import ServerOptions
from tests.server.conftest import start_server

LOCAL = server_options(ServerSettings())


@pytest.mark.parametrize("host", ["localhost", "localhost:8321", "127.0.0.1:1", "[::1]:8321", "[::1]", "LOCALHOST:80"])
async def test_this_machines_own_names_are_answered(host: str) -> None:
    async with start_server(options=LOCAL) as server:
        answer = await server.http.get("/v1/health", headers={"host": host})
    assert answer.status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8321", "localhost.evil.example", "127.0.0.1.evil", ""])
async def test_any_other_name_is_refused_before_anything_is_done(host: str) -> None:
    async with start_server(options=LOCAL) as server:
        answer = await server.http.post(
            "/v1/chat/completions",
            headers={"host": host},
            json={"model": "scripted", "messages": [{"role": "user", "content": "hi"}]},
        )
        assert server.inference.requests == []
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "host_not_allowed"
    assert "allowed_hosts" in answer.json()["error"]["message"]
    assert answer.headers["x-request-id"]


async def test_a_name_that_the_distribution_lists_is_answered() -> None:
    options = server_options(ServerSettings(allowed_hosts=["Stack.Example"]))
    async with start_server(options=options) as server:
        answers = [
            await server.http.get("/v1/health", headers={"host": host}) for host in ("stack.example", "localhost")
        ]
    assert [answer.status_code for answer in answers] == [200, 200]


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        (ServerSettings(host="0.0.0.0"), None),
        (ServerSettings(host="0.0.0.0", allowed_hosts=["a.example"]), frozenset({"a.example"})),
        (ServerSettings(host="127.0.0.1"), frozenset({"localhost", "127.0.0.1", "::1"})),
    ],
)
def test_what_others_can_reach_has_names_that_only_its_operator_knows(
    settings: ServerSettings, allowed: frozenset[str] | None
) -> None:
    assert server_options(settings).allowed_hosts == allowed


async def test_an_application_without_the_option_answers_everybody() -> None:
    async with start_server(options=ServerOptions()) as server:
        answer: httpx.Response = await server.http.get("/v1/health", headers={"host": "anything.example"})
    assert answer.status_code == 200
