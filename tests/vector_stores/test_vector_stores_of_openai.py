"""The unmodified openai package uses vector stores as its documentation shows."""

import asyncio
from typing import Any

import pytest
from openai import APIStatusError, BadRequestError, NotFoundError

from tests.vector_stores.conftest import TENT, Running, Start


async def test_a_store_is_made_listed_changed_and_deleted(server: Running) -> None:
    stores = server.openai.vector_stores
    made = await stores.create(
        name="Handbook",
        metadata={"team": "red"},
        expires_after={"anchor": "last_active_at", "days": 7},
        description="pages for new colleagues",
    )
    assert made.object == "vector_store"
    assert (made.name, made.metadata, made.status) == ("Handbook", {"team": "red"}, "completed")
    assert made.file_counts.total == 0
    assert made.expires_after is not None
    assert made.last_active_at is not None
    assert made.expires_at == made.last_active_at + 7 * 24 * 3600
    assert await stores.retrieve(made.id) == made

    assert made.to_dict()["description"] == "pages for new colleagues"

    changed = await stores.update(made.id, name="Pages", expires_after=None, metadata={"description": "mine"})
    assert (changed.name, changed.metadata, changed.expires_at) == ("Pages", {"description": "mine"}, None)
    assert changed.to_dict()["description"] == "pages for new colleagues"

    names = [(await stores.create(name=f"store {number}")).name for number in range(3)]
    listed = [store.name async for store in stores.list(limit=2, order="asc")]
    assert listed == ["Pages", *names]
    newest = await stores.list(limit=1)
    assert (newest.data[0].name, newest.has_more) == ("store 2", True)

    gone = await stores.delete(made.id)
    assert (gone.deleted, gone.object) == (True, "vector_store.deleted")
    with pytest.raises(NotFoundError, match="no memory bank"):
        await stores.retrieve(made.id)


async def test_a_list_goes_on_behind_what_is_deleted_or_changed_meanwhile(server: Running) -> None:
    stores = server.openai.vector_stores
    store_ids = [await server.store() for _ in range(5)]
    file_ids = [await server.upload(f"{number}.md", f"page {number}") for number in range(5)]
    await stores.file_batches.create_and_poll(store_ids[0], file_ids=file_ids, poll_interval_ms=20)
    async for attached in stores.files.list(store_ids[0], limit=2, filter="completed"):
        await stores.files.delete(attached.id, vector_store_id=store_ids[0])
    async for file in server.openai.files.list(limit=2):
        await server.openai.files.delete(file.id)
    assert (await stores.files.list(store_ids[0])).data == []
    async for store in stores.list(limit=2, order="asc"):
        await stores.delete(store.id)
    assert ((await stores.list()).data, (await server.openai.files.list()).data) == ([], [])
    with pytest.raises(BadRequestError, match="after: there is no 'file-x' in this list"):
        await server.openai.files.list(after="file-x")


async def test_files_are_read_in_the_background_and_found(server: Running) -> None:
    stores = server.openai.vector_stores
    store_id = await server.store(name="gear")
    attached = await stores.files.create_and_poll(
        await server.upload("tent.md", TENT),
        vector_store_id=store_id,
        attributes={"kind": "tent", "year": 2024, "new": True},
        poll_interval_ms=20,
    )
    assert (attached.status, attached.last_error) == ("completed", None)
    assert attached.attributes == {"kind": "tent", "year": 2024, "new": True}
    assert attached.usage_bytes == len(TENT)
    stove = await stores.files.upload_and_poll(
        vector_store_id=store_id, file=("stove.txt", b"The stove burns gas."), poll_interval_ms=20
    )
    assert stove.status == "completed"
    assert (await stores.retrieve(store_id)).file_counts.completed == 2

    page = await stores.search(store_id, query="How much does the tent weigh?", max_num_results=3)
    (best, *_) = page.data
    assert (best.filename, best.file_id, best.attributes) == ("tent.md", attached.id, attached.attributes)
    assert "1.8 kg" in best.content[0].text
    assert 0 < best.score <= 1

    content = [part.text async for part in stores.files.content(attached.id, vector_store_id=store_id)]
    assert "two poles" in "".join(text or "" for text in content)
    changed = await stores.files.update(attached.id, vector_store_id=store_id, attributes={"kind": "old"})
    assert changed.attributes == {"kind": "old"}
    for filters in ({"type": "eq", "key": "kind", "value": "old"}, {"kind": ["old", 7]}):
        found = await stores.search(store_id, query="gas", filters=filters)  # type: ignore[arg-type]  # two forms
        assert [one.filename for one in found.data] == ["tent.md"]
    assert len((await stores.search(store_id, query="gas", extra_body={"filters": {}})).data) == 2

    await stores.files.delete(attached.id, vector_store_id=store_id)
    assert [one.filename for one in (await stores.search(store_id, query="tent poles")).data] == ["stove.txt"]
    assert (await server.openai.files.retrieve(attached.id)).filename == "tent.md"


async def test_a_deleted_file_leaves_every_store(server: Running) -> None:
    stores = server.openai.vector_stores
    file_id = await server.upload("tent.md", TENT)
    store_ids = [await server.store(file_ids=[file_id]) for _ in range(2)]
    for store_id in store_ids:
        await stores.files.poll(file_id, vector_store_id=store_id, poll_interval_ms=20)
        assert (await stores.search(store_id, query="tent")).data
    await server.openai.files.delete(file_id)
    for store_id in store_ids:
        assert (await stores.search(store_id, query="tent")).data == []
        assert (await stores.retrieve(store_id)).file_counts.total == 0


async def test_a_file_that_was_read_in_part_says_what_was_left_out(server: Running) -> None:
    store_id = await server.store()
    wide = ",".join(f"c{number}" for number in range(1_200))
    files = server.openai.vector_stores.files
    shown = {}
    for name, content in {"wide.csv": f"{wide}\n{wide}\n", "page.md": "A page."}.items():
        file = await files.create_and_poll(await server.upload(name, content), vector_store_id=store_id)
        shown[name] = (file.status, (file.model_extra or {})["warnings"])
    assert shown == {
        "wide.csv": ("completed", ["a table has more than 1000 columns; the others were left out"]),
        "page.md": ("completed", []),
    }


async def test_a_batch_counts_each_file_and_keeps_each_error(server: Running) -> None:
    stores = server.openai.vector_stores
    store_id = await server.store()
    good = [await server.upload(f"page {number}.md", f"Page number {number}.") for number in range(5)]
    bad = await server.upload("blank.txt", "  \n\n  ")
    lying = await server.upload("picture.pdf", b"\x89PNG\r\n\x1a\n" + b"\0" * 64)
    batch = await stores.file_batches.create_and_poll(
        store_id, file_ids=[*good, bad, lying], attributes={"set": "pages"}, poll_interval_ms=20
    )
    assert batch.status == "completed"
    counts = batch.file_counts
    assert (counts.completed, counts.failed, counts.in_progress, counts.total) == (5, 2, 0, 7)
    failed = [one async for one in stores.file_batches.list_files(batch.id, vector_store_id=store_id, filter="failed")]
    errors = {one.id: one.last_error for one in failed if one.last_error is not None}
    assert errors.keys() == {bad, lying}
    assert errors[bad].code == "invalid_file"
    assert errors[bad].message.startswith("empty: ")
    assert errors[lying].code == "unsupported_file"
    completed = [one async for one in stores.files.list(store_id, filter="completed", limit=2, order="asc")]
    assert [one.id for one in completed] == good
    assert all(one.attributes == {"set": "pages"} for one in completed)
    cancelled = await stores.file_batches.cancel(batch.id, vector_store_id=store_id)
    assert (cancelled.status, cancelled.file_counts.completed) == ("completed", 5)


async def test_a_batch_keeps_its_counts_when_its_files_are_added_again(server: Running) -> None:
    stores = server.openai.vector_stores
    store_id = await server.store()
    files = [await server.upload(f"page {number}.md", f"Page number {number}.") for number in range(3)]
    first = await stores.file_batches.create_and_poll(store_id, file_ids=files, poll_interval_ms=20)
    again = await stores.file_batches.create_and_poll(store_id, file_ids=files[:1], poll_interval_ms=20)
    await stores.files.create_and_poll(files[1], vector_store_id=store_id, poll_interval_ms=20)
    kept = await stores.file_batches.retrieve(first.id, vector_store_id=store_id)
    assert (kept.status, kept.file_counts.completed, kept.file_counts.total) == ("completed", 3, 3)
    assert (again.file_counts.completed, again.file_counts.total) == (1, 1)


async def test_files_of_a_batch_may_differ(server: Running) -> None:
    stores = server.openai.vector_stores
    store_id = await server.store()
    long = " ".join(f"Sentence number {number} is here." for number in range(60))
    first, second = await server.upload("a.txt", long), await server.upload("b.txt", long + " End.")
    sizes: Any = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 10}}
    batch = await stores.file_batches.create(
        store_id,
        files=[
            {"file_id": first, "attributes": {"n": 1}, "chunking_strategy": sizes},
            {"file_id": second, "attributes": {"n": 2}, "chunking_strategy": {"type": "auto"}},
        ],
    )
    await stores.file_batches.poll(batch.id, vector_store_id=store_id, poll_interval_ms=20)
    small = await stores.files.retrieve(first, vector_store_id=store_id)
    assert small.chunking_strategy is not None
    assert small.chunking_strategy.model_dump() == {
        "type": "static",
        "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 10},
    }
    parts = [part async for part in stores.files.content(first, vector_store_id=store_id)]
    assert len(parts) > len([part async for part in stores.files.content(second, vector_store_id=store_id)])


async def test_a_restart_goes_on_with_what_was_accepted(start: Start) -> None:
    async with start() as server:
        store_id = await server.store(name="kept")
        memory = await server.stack.memory()
        # As if the process had died before it began to read.
        memory.jobs.wake = lambda: None  # type: ignore[method-assign]
        file_id = await server.upload("tent.md", TENT)
        await server.openai.vector_stores.files.create(store_id, file_id=file_id)
    async with start() as server:
        await server.stack.take_up()
        status = await server.openai.vector_stores.files.poll(file_id, vector_store_id=store_id, poll_interval_ms=20)
        assert status.status == "completed"
        assert (await server.openai.vector_stores.search(store_id, query="tent")).data


async def test_ranking_options_and_several_questions(server: Running) -> None:
    stores = server.openai.vector_stores
    store_id = await server.store()
    for name, text in (("a.txt", "gas stove"), ("b.txt", "tent poles"), ("c.txt", "gas stove with a long story")):
        await stores.files.upload_and_poll(vector_store_id=store_id, file=(name, text.encode()), poll_interval_ms=20)
    both = await stores.search(store_id, query=["gas stove", "tent poles"], max_num_results=2)
    assert {one.filename for one in both.data} == {"a.txt", "b.txt"}
    assert both.search_query == ["gas stove", "tent poles"]  # type: ignore[attr-defined]
    by_model: Any = {"ranker": "scripted"}
    reranked = await stores.search(store_id, query="gas", ranking_options=by_model)
    assert reranked.data[0].filename == "c.txt"
    by_vector: Any = {"ranker": "vector", "score_threshold": 0.99}
    strict = await stores.search(store_id, query="gas stove", ranking_options=by_vector)
    assert [one.filename for one in strict.data] == ["a.txt"]
    ranking: Any
    for ranker in ("auto", "default-2024-11-15", "none", "rrf", "weighted", "keyword"):
        ranking = {"ranker": ranker}
        found = await stores.search(store_id, query="stove", ranking_options=ranking)
        assert {one.filename for one in found.data} >= {"a.txt", "c.txt"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"query": ""}, "query"),
        ({"query": []}, "query"),
        ({"query": ["x"] * 65}, "query"),
        ({}, "query"),
        ({"query": "x", "max_num_results": 0}, "max_num_results"),
        ({"query": "x", "max_num_results": 51}, "max_num_results"),
        ({"query": "x", "filters": {"type": "like", "key": "a", "value": "b"}}, "filters.type"),
        ({"query": "x", "filters": {"type": "gt", "key": "a", "value": True}}, "filters.value"),
        ({"query": "x", "filters": {"type": "in", "key": "a", "value": "b"}}, "filters.value"),
        ({"query": "x", "filters": {"type": "and", "filters": []}}, "filters.filters"),
        ({"query": "x", "filters": {"type": "eq", "key": "a", "value": None}}, "filters.value"),
        ({"query": "x", "filters": {"key": "a", "value": "b"}}, "filters.type"),
        ({"query": "x", "filters": {"type": "eq"}}, "filters.key"),
        ({"query": "x", "filters": {"year": {"$gt": 2022}}}, "filters"),
        ({"query": "x", "ranking_options": {"ranker": "nobody"}}, "ranking_options.ranker"),
        ({"query": "x", "ranking_options": {"score_threshold": 1.5}}, "ranking_options.score_threshold"),
        ({"query": "x", "ranking_options": {"score_threshold": -0.5}}, "ranking_options.score_threshold"),
        ({"query": "x", "unknown": 1}, "unknown"),
    ],
)
async def test_a_bad_search_names_its_field(server: Running, body: dict[str, object], param: str) -> None:
    store_id = await server.store()
    answer = await server.http.post(f"/v1/vector_stores/{store_id}/search", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param, answer.text


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"embedding_model": "nobody"}, "embedding_model"),
        ({"embedding_model": "scripted"}, "embedding_model"),
        ({"embedding_dimension": 3}, "embedding_dimension"),
        ({"provider_id": "nobody"}, "provider_id"),
        ({"file_ids": ["file-none"]}, "file_id"),
        ({"expires_after": {"anchor": "created_at", "days": 3}}, "expires_after.anchor"),
        ({"expires_after": {"anchor": "last_active_at", "days": 0}}, "expires_after.days"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata"),
        (
            {
                "chunking_strategy": {
                    "type": "static",
                    "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 60},
                }
            },
            "chunking_strategy.static.chunk_overlap_tokens",
        ),
        ({"chunking_strategy": {"type": "other"}}, "chunking_strategy.type"),
        ({"name": 7}, "name"),
    ],
)
async def test_a_bad_store_names_its_field_and_is_not_made(
    server: Running, body: dict[str, object], param: str
) -> None:
    answer = await server.http.post("/v1/vector_stores", json=body)
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["param"] == param, answer.text
    assert (await server.openai.vector_stores.list()).data == []


async def test_what_is_not_there_is_not_found(server: Running) -> None:
    stores = server.openai.vector_stores
    store_id = await server.store()
    file_id = await server.upload("a.txt", "text")
    for work in (
        stores.search("vs_none", query="x"),
        stores.files.create("vs_none", file_id=file_id),
        stores.files.create(store_id, file_id="file-none"),
        stores.files.retrieve(file_id, vector_store_id=store_id),
        stores.files.delete(file_id, vector_store_id=store_id),
        stores.files.update(file_id, vector_store_id=store_id, attributes={}),
        stores.file_batches.retrieve("vsfb_none", vector_store_id=store_id),
        stores.file_batches.create(store_id, file_ids=[file_id, "file-none"]),
    ):
        with pytest.raises(NotFoundError):
            await work
    with pytest.raises(BadRequestError, match="either file_ids or files"):
        await stores.file_batches.create(store_id)
    with pytest.raises(BadRequestError, match="at most 16"):
        await stores.files.create(store_id, file_id=file_id, attributes={str(number): 1.0 for number in range(17)})
    assert (await stores.retrieve(store_id)).file_counts.total == 0


async def test_searches_side_by_side_while_files_go_in(server: Running) -> None:
    stores = server.openai.vector_stores
    store_id = await server.store()
    file_ids = [await server.upload(f"{number}.txt", f"gas stove number {number}") for number in range(30)]
    batch = await stores.file_batches.create(store_id, file_ids=file_ids)

    async def search() -> int:
        return len((await stores.search(store_id, query="gas stove", max_num_results=50)).data)

    seen = await asyncio.gather(*(search() for _ in range(20)))
    done = await stores.file_batches.poll(batch.id, vector_store_id=store_id, poll_interval_ms=20)
    assert done.file_counts.completed == 30
    assert all(0 <= count <= 30 for count in seen)
    assert await search() == 30


async def test_the_query_is_rewritten_when_asked(start: Start) -> None:
    from tests.agents.scripts import says

    async with start(says("gas stove")) as server:
        store_id = await server.store()
        await server.openai.vector_stores.files.upload_and_poll(
            vector_store_id=store_id, file=("a.txt", b"gas stove"), poll_interval_ms=20
        )
        found = await server.openai.vector_stores.search(store_id, query="what do I cook on?", rewrite_query=True)
        assert found.data[0].score == pytest.approx(1.0)


async def test_errors_are_openais(server: Running) -> None:
    with pytest.raises(APIStatusError) as refused:
        await server.openai.vector_stores.retrieve("vs_none")
    assert refused.value.code == "vector_store_not_found"


async def test_ids_with_slashes_are_found_escaped_and_as_they_are(server: Running) -> None:
    stores = server.openai.vector_stores
    for bank_id in ("team/red", "team/files/x"):
        memory = await server.http.post(
            "/v1/memory-banks", json={"memory_bank_id": bank_id, "params": {"memory_bank_type": "vector"}}
        )
        assert memory.status_code == 200, memory.text
    documents = [
        {"document_id": "/home/ann/tent.md", "content": TENT},
        {"document_id": "a/content", "content": "The stove burns gas."},
    ]
    await server.http.post("/v1/memory/insert", json={"bank_id": "team/red", "documents": documents})
    await server.http.post("/v1/memory/insert", json={"bank_id": "team/files/x", "documents": documents})

    async for store in stores.list():
        assert (await stores.retrieve(store.id)).id == store.id
        assert {file.id async for file in stores.files.list(store.id)} == {"/home/ann/tent.md", "a/content"}
        assert (await stores.files.retrieve("a/content", vector_store_id=store.id)).status == "completed"
        assert (await stores.search(store.id, query="gas stove")).data[0].file_id == "a/content"
        assert (await stores.files.content("a/content", vector_store_id=store.id)).data[
            0
        ].text == "The stove burns gas."
        batch = await stores.file_batches.create(store.id, file_ids=[await server.upload("n.md", "# Note")])
        assert (await stores.file_batches.retrieve(batch.id, vector_store_id=store.id)).vector_store_id == store.id

    one = "/v1/vector_stores/team/red"
    assert (await server.http.get(one)).json()["id"] == "team/red"
    assert (await server.http.post(one, json={"name": "Red"})).json()["name"] == "Red"
    assert (await server.http.post(f"{one}/search", json={"query": "tent"})).json()["data"]
    assert (await server.http.get(f"{one}/files//home/ann/tent.md")).json()["id"] == "/home/ann/tent.md"
    content = (await server.http.get(f"{one}/files//home/ann/tent.md/content")).json()
    assert "two poles" in content["data"][0]["text"]
    gone = await server.http.delete(f"{one}/files//home/ann/tent.md")
    assert gone.json()["deleted"] is True
    assert (await server.http.delete("/v1/openai/v1/vector_stores/team/red")).json()["id"] == "team/red"
    # Unescaped, `files` ends the store's id.
    missing = (await server.http.get("/v1/vector_stores/team/files/x")).json()["error"]
    assert missing["param"] == "vector_store_id"
    assert (await stores.delete("team/files/x")).deleted
