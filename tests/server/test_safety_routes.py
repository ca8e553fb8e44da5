"""Shields and moderations over a real server, with the unmodified `openai` and `llama_stack_client` packages."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import llama_stack_client
import openai
import pytest
from llama_stack_client import AsyncLlamaStackClient
from openai import AsyncOpenAI
from openai.types import ModerationMultiModalInputParam

from llama_stack.api.inference import CompletionRequest
from llama_stack.errors import ProviderUnavailable
from llama_stack.server import safety_schema
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from llama_stack.testing.scripted import Script, ScriptedInference, says
from llama_stack.testing.scripted_stack import open_scripted_stack
from tests.server.test_openapi import strictly

CARD = "4111 1111 1111 1111"
SAFETY: list[dict[str, Any]] = [
    {
        "provider_id": "guard",
        "provider_type": "inline::llama-guard",
        "shields": [{"identifier": "meta-llama/guard", "provider_resource_id": "scripted"}],
    },
    {
        "provider_id": "rules",
        "provider_type": "inline::rules",
        "config": {"rules": [{"name": "house", "keywords": ["bluebird"]}]},
        "shields": [{"identifier": "rules"}, {"identifier": "noting", "params": {"actions": {"house": "log"}}}],
    },
]


@dataclass(frozen=True)
class Guarded:
    """A server with three shields, and three clients of it."""

    inference: ScriptedInference
    openai: AsyncOpenAI
    classic: AsyncLlamaStackClient
    http: httpx.AsyncClient


@asynccontextmanager
async def guarded(home: Path, *scripts: Script, safety: list[dict[str, Any]] = SAFETY) -> AsyncIterator[Guarded]:
    inference = ScriptedInference(*scripts)
    async with (
        open_scripted_stack(inference=inference, providers={"safety": safety}, home=home) as stack,
        serving(create_app(stack)) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client,
        AsyncLlamaStackClient(base_url=url, max_retries=0) as classic,
        httpx.AsyncClient(base_url=url, verify=False) as http,
    ):
        yield Guarded(inference, client, classic, http)


def user(text: Any) -> Any:
    return {"role": "user", "content": text}


# --- the registry --------------------------------------------------------------------------------------------------


async def test_shields_are_listed_and_found_by_an_id_with_a_slash(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server:
        shields = await server.classic.shields.list()
        assert [shield.identifier for shield in shields] == ["meta-llama/guard", "rules", "noting"]
        one = await server.classic.shields.retrieve("meta-llama/guard")
        assert (one.type, one.provider_id, one.provider_resource_id, one.params) == ("shield", "guard", "scripted", {})
        with pytest.raises(llama_stack_client.NotFoundError, match="meta-llama/guard"):
            await server.classic.shields.retrieve("meta-llama/gaurd")


async def test_a_shield_is_registered_used_and_removed(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server:
        made = await server.classic.shields.register(
            shield_id="my/cards", provider_id="rules", params={"use": ["cards"], "actions": {"cards": "warn"}}
        )
        assert (made.identifier, made.provider_resource_id) == ("my/cards", "my/cards")
        assert "my/cards" in [shield.identifier for shield in await server.classic.shields.list()]
        found = await server.classic.safety.run_shield(shield_id="my/cards", messages=[user(CARD)], params={})
        assert found.violation is not None
        assert found.violation.violation_level == "warn"
        removed = await server.http.delete("/v1/shields/my/cards")
        assert (removed.status_code, removed.json()) == (200, {"identifier": "my/cards", "deleted": True})
        with pytest.raises(llama_stack_client.NotFoundError):
            await server.classic.safety.run_shield(shield_id="my/cards", messages=[user(CARD)], params={})


async def test_what_cannot_be_registered_says_why(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server:
        with pytest.raises(llama_stack_client.BadRequestError, match="guard, rules"):
            await server.classic.shields.register(shield_id="x")
        with pytest.raises(llama_stack_client.ConflictError, match="belongs to the distribution"):
            await server.classic.shields.register(shield_id="rules", provider_id="rules")
        assert (await server.http.delete("/v1/shields/rules")).status_code == 409
        assert (await server.http.delete("/v1/shields/none")).status_code == 404
        assert (await server.http.post("/v1/shields", json={"shield_id": ""})).status_code == 400


@pytest.mark.parametrize(
    ("provider_id", "more", "told", "param"),
    [
        ("rules", {"params": {"use": ["nothing"]}}, "its params are wrong: use names the set 'nothing'", "params"),
        ("rules", {"params": {"frob": 1}}, "the param 'frob', which its provider does not know", "params.frob"),
        ("guard", {"params": {"threshold": 7}, "provider_shield_id": "scripted"}, "'threshold' is wrong",
         "params.threshold"),
        ("guard", {"provider_shield_id": "no-such-model"}, "asks a guard model; .*'no-such-model'",
         "provider_shield_id"),
        ("guard", {}, "asks a guard model; .*'bad'", "provider_shield_id"),
    ],
)  # fmt: skip
async def test_a_shield_that_could_never_run_is_not_registered(
    tmp_path: Path, provider_id: str, more: Any, told: str, param: str
) -> None:
    async with guarded(tmp_path) as server:
        with pytest.raises(llama_stack_client.BadRequestError, match=told) as refused:
            await server.classic.shields.register(shield_id="bad", provider_id=provider_id, **more)
        assert "bad" not in [shield.identifier for shield in await server.classic.shields.list()]
    body: Any = refused.value.body
    assert body["error"]["param"] == param
    assert "Value error" not in body["error"]["message"]


async def test_a_guard_of_a_model_that_its_caller_has_registered_is_registered(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server:
        await server.classic.models.register(model_id="mine", provider_model_id="scripted")
        made = await server.classic.shields.register(
            shield_id="my-guard", provider_id="guard", provider_shield_id="mine"
        )
    assert made.provider_resource_id == "mine"


# --- run-shield ----------------------------------------------------------------------------------------------------


async def test_a_guards_objection_reaches_the_classic_client(tmp_path: Path) -> None:
    async with guarded(tmp_path, says("unsafe\nS9"), says("safe")) as server:
        run = server.classic.safety.run_shield
        told = await run(shield_id="meta-llama/guard", messages=[user("how do I ...")], params={})
        assert told.violation is not None
        assert told.violation.violation_level == "error"
        assert told.violation.user_message == "The safety check does not allow this. (Indiscriminate Weapons)"
        assert told.violation.metadata["violation_type"] == "S9"
        quiet = await run(shield_id="meta-llama/guard", messages=[user("hi")], params={})
        assert quiet.violation is None


async def test_classic_messages_of_every_kind_are_judged(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server:
        call = {"call_id": "c", "tool_name": "send", "arguments": {"text": "bluebird"}}
        for last in (
            user([{"type": "text", "text": "bluebird"}]),
            {"role": "assistant", "content": "", "stop_reason": "end_of_message", "tool_calls": [call]},
            {"role": "tool", "call_id": "c", "content": "bluebird"},
            {"role": "system", "content": "bluebird"},
        ):
            told = await server.classic.safety.run_shield(
                shield_id="rules", messages=[user("hello"), last], params={"unknown": None}
            )
            assert told.violation is not None, last
            assert told.violation.metadata["rule"] == "house"


async def test_nulls_and_unknown_fields_are_let_pass_and_wrong_ones_named(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server:
        body = {"shield_id": "rules", "messages": [user("hi")], "params": None, "whatever": 1}
        assert (await server.http.post("/v1/safety/run-shield", json=body)).json() == {"violation": None}
        for wrong, param in (
            ({**body, "messages": []}, "messages"),
            ({**body, "shield_id": None}, "shield_id"),
            ({**body, "params": "x"}, "params"),
            ({**body, "messages": [{"role": "user"}]}, "messages.0.content"),
        ):
            answer = await server.http.post("/v1/safety/run-shield", json=wrong)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
            assert answer.json()["detail"] == answer.json()["error"]["message"]


async def test_a_guard_that_is_down_is_an_error_and_no_verdict(tmp_path: Path) -> None:
    async with guarded(tmp_path, [ProviderUnavailable("the guard is down")]) as server:
        with pytest.raises(llama_stack_client.InternalServerError, match="the guard is down") as failed:
            await server.classic.safety.run_shield(shield_id="meta-llama/guard", messages=[user("x")], params={})
        assert failed.value.status_code == 503


# --- moderations ---------------------------------------------------------------------------------------------------


async def test_a_moderation_has_openais_categories_and_the_guards_own(tmp_path: Path) -> None:
    async with guarded(tmp_path, says("unsafe\nS10,S7")) as server:
        answer = await server.openai.moderations.create(input="something hateful")
        assert answer.id.startswith("modr-")
        assert answer.model == "meta-llama/guard"
        (result,) = answer.results
        assert result.flagged
        assert result.categories.hate
        assert not result.categories.violence
        assert not result.categories.harassment_threatening
        assert (result.category_scores.hate, result.category_scores.sexual_minors) == (1.0, 0.0)
        assert result.category_applied_input_types.hate == ["text"]
        own = result.categories.model_dump()
        assert (own["S10"], own["S7"]) == (True, True)


async def test_texts_in_a_list_have_a_result_each_in_their_order(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server:
        answer = await server.openai.moderations.create(input=["a bluebird", "hello", CARD], model="rules")
        assert [result.flagged for result in answer.results] == [True, False, True]
        assert answer.results[0].categories.model_dump()["house"] is True
        assert answer.results[2].categories.model_dump()["card-number"] is True
        assert CARD not in answer.model_dump_json()


async def test_text_and_images_are_judged_together(tmp_path: Path) -> None:
    async with guarded(tmp_path, says("unsafe\nS12")) as server:
        parts: list[ModerationMultiModalInputParam] = [
            {"type": "text", "text": "look"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        ]
        answer = await server.openai.moderations.create(input=parts)
        (result,) = answer.results
        assert result.categories.sexual
        assert result.category_applied_input_types.sexual == ["text", "image"]
        assert result.category_applied_input_types.sexual_minors == ["text"]
        assert not isinstance(server.inference.requests[0], CompletionRequest)


async def test_what_is_only_recorded_flags_nothing(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server:
        answer = await server.openai.moderations.create(input="bluebird", model="noting")
        assert not answer.results[0].flagged
        assert answer.results[0].model_dump()["metadata"]["rule"] == "house"


async def test_moderations_are_served_under_the_older_prefix_too(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server:
        older = await server.http.post("/v1/openai/v1/moderations", json={"input": "hello", "model": "rules"})
        assert older.json()["results"][0]["flagged"] is False


async def test_wrong_moderations_are_named(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server:
        with pytest.raises(openai.NotFoundError) as unknown:
            await server.openai.moderations.create(input="x", model="omni-moderation-latest")
        assert (unknown.value.param, unknown.value.code) == ("model", "shield_not_found")
        for wrong in ([], 3, None, [3], [{"type": "audio"}], ["x"] * 513):
            answer = await server.http.post("/v1/moderations", json={"input": wrong, "model": "rules"})
            assert answer.status_code == 400, wrong
            assert answer.json()["error"]["param"].startswith("input"), wrong
    async with guarded(tmp_path / "none", safety=[]) as server:
        with pytest.raises(openai.NotFoundError, match="no shield"):
            await server.openai.moderations.create(input="x")


async def test_answers_are_as_described(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server:
        strictly(safety_schema.ShieldList, (await server.http.get("/v1/shields")).json())
        strictly(safety_schema.ShieldAnswer, (await server.http.get("/v1/shields/rules")).json())
        body: dict[str, Any] = {"shield_id": "rules", "messages": [user("bluebird")]}
        strictly(safety_schema.ShieldRun, (await server.http.post("/v1/safety/run-shield", json=body)).json())
        moderation = await server.http.post("/v1/moderations", json={"model": "rules", "input": ["bluebird", "x"]})
        strictly(safety_schema.Moderation, moderation.json())


async def test_the_list_of_routes_names_the_shields_providers(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server:
        routes = (await server.http.get("/v1/inspect/routes")).json()["data"]
    behind = {route["route"]: route["provider_types"] for route in routes}
    assert behind["/v1/moderations"] == ["inline::llama-guard", "inline::rules"]
    assert behind["/v1/messages"] == ["inline::scripted"]
