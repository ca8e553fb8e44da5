"""Vector databases as the unmodified client registers, lists, finds and removes them."""

from pathlib import Path

import pytest
from llama_stack_client import BadRequestError, ConflictError, NotFoundError

from llama_stack.server.memory_schema import ClassicVectorDb, ClassicVectorDbList
from tests.classic.test_client_commands import command
from tests.memory_faces.stacks import DIMENSION, WORDS, serve_memory
from tests.server.test_openapi import strictly

TWO = [
    {"provider_id": "first", "provider_type": "inline::sqlite-vec"},
    {
        "provider_id": "second",
        "provider_type": "inline::sqlite-vec",
        "memory_banks": [{"identifier": "handbook", "bank": {"kind": "vector"}}],
    },
]


async def test_a_vector_db_is_registered_found_and_removed(tmp_path: Path) -> None:
    async with serve_memory(home=tmp_path, memory=TWO) as server:
        dbs = server.client.vector_dbs
        made = await dbs.register(vector_db_id="team/notes", embedding_model=WORDS, embedding_dimension=384)
        chosen = await dbs.register(
            vector_db_id="other", embedding_model=WORDS, provider_id="second", provider_vector_db_id="theirs"
        )
        again = await dbs.register(vector_db_id="team/notes", embedding_model=WORDS)
        found = await dbs.retrieve("team/notes")
        listed = await dbs.list()
        strictly(ClassicVectorDbList, (await server.http.get("/v1/vector-dbs")).json())
        strictly(ClassicVectorDb, (await server.http.get("/v1/vector-dbs/handbook")).json())
        await dbs.unregister("team/notes")
        with pytest.raises(NotFoundError, match="there is no memory bank 'team/notes'"):
            await dbs.retrieve("team/notes")
        with pytest.raises(NotFoundError):
            await dbs.unregister("team/notes")
    assert (made.identifier, made.type, made.provider_id) == ("team/notes", "vector_db", "first")
    assert made.provider_resource_id == "team/notes"
    assert (made.embedding_model, made.embedding_dimension) == (WORDS, DIMENSION), "the model's own dimension wins"
    assert found is not None
    assert found.model_dump() == made.model_dump() == again.model_dump()
    assert (chosen.provider_id, chosen.provider_resource_id) == ("second", "theirs")
    by_id = {db.identifier: db for db in listed}
    assert set(by_id) == {"handbook", "other", "team/notes"}
    assert (by_id["handbook"].embedding_model, by_id["handbook"].embedding_dimension) == (WORDS, DIMENSION)


async def test_what_cannot_be_a_vector_db_is_refused(tmp_path: Path) -> None:
    async with serve_memory(home=tmp_path) as server:
        dbs = server.client.vector_dbs
        await dbs.register(vector_db_id="notes", embedding_model=WORDS)
        with pytest.raises(ConflictError, match="registered with other values"):
            await dbs.register(vector_db_id="notes", embedding_model=WORDS, provider_vector_db_id="else")
        with pytest.raises(BadRequestError, match="'scripted' is not a model that embeds"):
            await dbs.register(vector_db_id="a", embedding_model="scripted")
        with pytest.raises(BadRequestError, match=r"embedding_model: .here is no model 'nope'"):
            await dbs.register(vector_db_id="a", embedding_model="nope")
        with pytest.raises(BadRequestError, match="there is no provider 'nope'"):
            await dbs.register(vector_db_id="a", embedding_model=WORDS, provider_id="nope")
        without_id = await server.http.post("/v1/vector-dbs", json={"embedding_model": WORDS})
        nulls = await server.http.post(
            "/v1/vector-dbs",
            json={"vector_db_id": "n", "embedding_model": WORDS, "provider_id": None, "embedding_dimension": None},
        )
        keyword = {"memory_bank_id": "words", "params": {"memory_bank_type": "keyword"}}
        assert (await server.http.post("/v1/memory-banks", json=keyword)).status_code == 200
        with pytest.raises(NotFoundError, match="of kind keyword"):
            await dbs.retrieve("words")
        listed = await dbs.list()
    assert without_id.status_code == 400
    assert without_id.json()["detail"] == "vector_db_id: is required"
    assert nulls.status_code == 200
    assert {db.identifier for db in listed} == {"notes", "n"}


async def test_programs_find_a_provider_of_vector_dbs(tmp_path: Path) -> None:
    async with serve_memory(home=tmp_path) as server:
        classic = await server.client.providers.list()
        one = await server.client.providers.retrieve("sqlite")
        plain = (await server.http.get("/v1/providers")).json()["data"]
        routes = await server.client.routes.list()
    assert [p.provider_id for p in classic if p.api == "vector_io"] == ["sqlite"]
    assert [p.provider_id for p in classic if p.api == "tool_runtime"] == ["rag"]
    assert one.api == "vector_io"
    assert {p["api"] for p in plain} == {"inference", "memory", "tools"}
    insert = next(route for route in routes if route.route == "/v1/vector-io/insert")
    assert insert.provider_types == ["inline::sqlite-vec"]


async def test_the_commands_of_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    async with serve_memory(home=tmp_path) as server:
        more = ("--provider-id", "sqlite", "--embedding-model", WORDS, "--embedding-dimension", "64")
        await command(server, "vector_dbs", "register", "team/notes", *more)
        listed = await command(server, "vector_dbs", "list")
        await command(server, "vector_dbs", "unregister", "team/notes")
        after = await server.client.vector_dbs.list()
    assert "team/notes" in listed
    assert WORDS in listed
    assert after == []
