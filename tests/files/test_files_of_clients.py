"""/v1/files for unmodified clients: `openai`, awaiting and not, and `llama-stack-client` 0.2.12."""

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import openai
import pytest
from llama_stack_client import LlamaStackClient
from llama_stack_client import NotFoundError as ClassicNotFound
from openai import AsyncOpenAI

from tests.files.conftest import Running, Start, contents_in

PDF = b"%PDF-1.7\r\n--\x00\xff\r\n" + os.urandom(300_000)


async def test_a_file_through_its_life(start: Start) -> None:
    async with start() as server:
        made = await server.openai.files.create(file=("a b.pdf", PDF), purpose="assistants")
        assert made.object == "file"
        assert (made.bytes, made.filename, made.purpose, made.status) == (
            len(PDF),
            "a b.pdf",
            "assistants",
            "processed",
        )
        assert made.expires_at is None
        assert made.to_dict()["sha256"] == hashlib.sha256(PDF).hexdigest()
        assert await server.openai.files.retrieve(made.id) == made
        assert (await server.openai.files.list()).data == [made]
        content = await server.openai.files.content(made.id)
        assert content.read() == PDF
        head = content.response.headers
        assert head["content-type"] == "application/pdf"
        assert head["content-disposition"] == "attachment; filename*=utf-8''a%20b.pdf"
        assert head["x-content-type-options"] == "nosniff"
        gone = await server.openai.files.delete(made.id)
        assert gone.to_dict() == {"id": made.id, "object": "file", "deleted": True}
        for ask in (server.openai.files.retrieve, server.openai.files.content, server.openai.files.delete):
            with pytest.raises(openai.NotFoundError, match=made.id) as refused:
                await ask(made.id)
            assert refused.value.code == "file_not_found"
        assert contents_in(server.folder) == set()


async def test_a_client_that_does_not_await(start: Start, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_bytes(b"# Notes")

    def work(client: openai.OpenAI) -> bytes:
        expiry: Any = {"anchor": "created_at", "seconds": 3600}
        with (tmp_path / "notes.md").open("rb") as opened:
            made = client.files.create(file=opened, purpose="user_data", expires_after=expiry)
        assert made.expires_at == made.created_at + 3600
        assert made.filename == "notes.md"
        assert client.files.wait_for_processing(made.id) == made
        assert [file.id for file in client.files.list(purpose="user_data")] == [made.id]
        content = client.files.content(made.id).read()
        assert client.files.delete(made.id).deleted
        return content

    async with start() as server:
        assert await asyncio.to_thread(work, server.sync) == b"# Notes"


async def test_lists(start: Start) -> None:
    async with start() as server:
        made = [
            await server.openai.files.create(file=(f"{number}.txt", b"x"), purpose="batch" if number % 2 else "evals")
            for number in range(5)
        ]
        ids = [file.id for file in made]
        # The client asks for the next page by itself.
        assert [file.id async for file in server.openai.files.list(limit=2)] == ids[::-1]
        assert [file.id async for file in server.openai.files.list(limit=2, order="asc")] == ids
        assert [file.id async for file in server.openai.files.list(purpose="batch", order="asc")] == ids[1::2]
        page = (await server.http.get("/v1/files?limit=2&order=asc")).json()
        assert (page["first_id"], page["last_id"], page["has_more"]) == (ids[0], ids[1], True)
        empty = (await server.http.get("/v1/files?purpose=vision")).json()
        assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
        for query, param in (
            ("limit=0", "limit"),
            ("limit=10001", "limit"),
            ("order=up", "order"),
            ("after=x", "after"),
        ):
            refused = await server.http.get(f"/v1/files?{query}")
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
        refused = await server.http.get("/v1/files?purpose=fun")
        assert refused.json()["error"]["message"].startswith("purpose: must be one of assistants, batch")


async def test_files_outlive_the_server(start: Start) -> None:
    async with start() as server:
        made = await server.openai.files.create(file=("a.txt", b"kept"), purpose="assistants")
    async with start() as again:
        assert await again.openai.files.retrieve(made.id) == made
        assert (await again.openai.files.content(made.id)).read() == b"kept"


async def test_the_classic_client(start: Start) -> None:
    async with start() as server:
        made = await server.classic.files.create(file=("a.txt", b"some text"), purpose="assistants")
        assert (made.bytes, made.filename, made.object) == (9, "a.txt", "file")
        assert await server.classic.files.retrieve(made.id) == made
        assert [file.id for file in (await server.classic.files.list(purpose="assistants", limit=1)).data] == [made.id]
        assert await server.classic.files.content(made.id) == "some text"
        assert (await server.classic.files.delete(made.id)).deleted
        with pytest.raises(ClassicNotFound):
            await server.classic.files.retrieve(made.id)

        def work() -> Any:
            with LlamaStackClient(base_url=server.url, max_retries=0) as client:
                made = client.files.create(file=Path(__file__), purpose="assistants")
                return client.files.content(made.id)

        assert "def work() -> Any:" in await asyncio.to_thread(work)


@pytest.mark.parametrize("kind", ["text/event-stream", "text/plain"])
async def test_under_the_older_prefix_the_bytes_are_the_same(start: Start, kind: str) -> None:
    content = b"data: {}\n\ndata: [DONE]\n\n"
    async with start() as server, AsyncOpenAI(base_url=f"{server.url}/v1/openai/v1", api_key="none") as older:
        made = await older.files.create(file=("a.txt", content, kind), purpose="assistants")
        answer = await older.files.content(made.id)
    assert answer.read() == content
    assert answer.response.headers["content-type"] == kind


async def refusal(server: Running, status: int, param: str, says: str, **form: Any) -> None:
    answer = await server.http.post("/v1/files", **form)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param), answer.text
    assert says in error["message"]


async def test_what_cannot_be_used_is_refused_by_field(start: Start) -> None:
    purpose, file = {"purpose": "assistants"}, {"file": ("a.txt", b"x")}
    short = {**purpose, "expires_after[anchor]": "created_at", "expires_after[seconds]": "60"}
    async with start(max_file_bytes=100_000) as server:
        await refusal(server, 400, "file", "is required", files={"purpose": (None, "assistants")})
        await refusal(server, 400, "purpose", "is required, one of assistants", files=file)
        await refusal(server, 400, "purpose", "not 'fun'", data={"purpose": "fun"}, files=file)
        await refusal(server, 400, "file", "is empty", data=purpose, files={"file": ("a.txt", b"")})
        await refusal(server, 400, "expires_after.seconds", "3600 to 2592000, not '60'", data=short, files=file)
        await refusal(server, 400, "Content-Type", "must be multipart/form-data", json={"purpose": "assistants"})
        await refusal(server, 400, "colour", "not a known field", data={**purpose, "colour": "red"}, files=file)
        await refusal(
            server, 413, "file", "larger than 100000 bytes", data=purpose, files={"file": ("a", b"x" * 100_001)}
        )
        await refusal(
            server, 413, "file", "larger than 100000 bytes", data=purpose, files={"file": ("a", b"x" * 999_999)}
        )
        assert contents_in(server.folder) == set()
        with pytest.raises(openai.APIStatusError) as refused:
            await server.openai.files.create(file=("a", b"x" * 5_000_000), purpose="batch")
        assert (refused.value.status_code, refused.value.code) == (413, "file_too_large")


async def test_a_body_of_unknown_length_is_measured_as_it_comes(start: Start) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'

    async def far_too_much() -> AsyncGenerator[bytes, None]:
        yield head
        for _ in range(100):
            yield b"x" * 65536

    headers = {"content-type": "multipart/form-data; boundary=b"}
    async with start(max_file_bytes=1_000_000) as server:
        answer = await server.http.post("/v1/files", content=far_too_much(), headers=headers)
        assert answer.status_code == 413
        assert contents_in(server.folder) == set()


async def test_a_page_of_somebody_else_uploads_nothing(start: Start) -> None:
    form: Any = {"data": {"purpose": "assistants"}, "files": {"file": ("a.txt", b"x")}}
    async with start() as server:
        for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
            refused = await server.http.post("/v1/files", headers={"origin": origin}, **form)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "origin_not_allowed")
        own = await server.http.post("/v1/files", headers={"origin": server.url}, **form)
        assert own.status_code == 200
        assert len(contents_in(server.folder)) == 1


async def test_part_of_a_content(start: Start) -> None:
    async with start() as server:
        made = await server.openai.files.create(file=("a.txt", b"0123456789"), purpose="assistants")
        part = await server.http.get(f"/v1/files/{made.id}/content", headers={"range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")


async def test_bad_ids(start: Start) -> None:
    async with start() as server:
        for file_id in ("file-0", "x" * 600, "%00", "..%2F..%2Fstack.db", "incoming"):
            for path in (f"/v1/files/{file_id}", f"/v1/files/{file_id}/content"):
                answer = await server.http.get(path, headers={"content-type": "application/json"})
                assert answer.status_code in (400, 404), path
                assert answer.json()["error"]["message"]
