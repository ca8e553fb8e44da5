"""The code interpreter's files through OpenAI's own client: cited, listed, fetched, sent, gone with their container."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import APIStatusError, AsyncOpenAI

from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from llama_stack.testing.scripted import Script, says
from llama_stack.testing.scripted_stack import open_scripted_stack
from tests.providers.code_interpreter.conftest import ALICE, needs_bubblewrap, open_desk, printed, settings, until
from tests.responses.test_real_code import INTERPRETER, TOOL, runs

WITHOUT_ISOLATION: Any = {
    **INTERPRETER,
    "config": {"driver": "unsafe_subprocess", "i_accept_no_isolation": True, "files_kb": 1, "idle_s": 600},
}


@asynccontextmanager
async def client_of(home: Path, interpreter: Any, *scripts: Script) -> AsyncIterator[AsyncOpenAI]:
    providers = {"tools": [interpreter]} if interpreter else {}
    async with (
        open_scripted_stack(*scripts, providers=providers, home=home) as stack,
        serving(create_app(stack)) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as openai,
    ):
        yield openai


@needs_bubblewrap
async def test_a_file_that_code_wrote_is_cited_and_fetched(tmp_path: Path) -> None:
    code = "open('report.csv', 'w').write('a,b'); open('other.txt', 'w').write('x')"
    answer = "See [the report](sandbox:/mnt/data/report.csv)."
    async with client_of(tmp_path, INTERPRETER, runs(code), says(answer)) as openai:
        response = await openai.responses.create(model="scripted", input="Report.", tools=[TOOL])
        kept = await openai.responses.retrieve(response.id)
        message: Any = response.output[1].to_dict()["content"]
        report, other = message[0]["annotations"]
        content = await openai.containers.files.content.retrieve(report["file_id"], container_id=report["container_id"])
        listed = [file async for file in openai.containers.files.list(report["container_id"], order="asc")]
        one = await openai.containers.files.retrieve(other["file_id"], container_id=report["container_id"])
    assert answer[report["start_index"] : report["end_index"]] == "sandbox:/mnt/data/report.csv"
    assert (report["filename"], other["filename"], other["start_index"]) == ("report.csv", "other.txt", len(answer))
    assert (content.read(), content.response.headers["content-type"]) == (b"a,b", "text/csv")
    assert content.response.headers["content-disposition"] == "attachment; filename*=utf-8''report.csv"
    assert {file.id for file in listed} == {report["file_id"], other["file_id"]}
    assert (one.path, one.bytes, one.source) == ("/sandbox/other.txt", 1, "assistant")
    assert kept.output[1].to_dict() == response.output[1].to_dict()


@needs_bubblewrap
async def test_a_container_that_was_made_holds_what_is_put_there(tmp_path: Path) -> None:
    script = [runs("print(open('a.txt').read() + open('b.txt').read())"), says("ab")]
    async with client_of(tmp_path, INTERPRETER, *script) as openai:
        kept = await openai.files.create(file=("a.txt", b"A"), purpose="user_data")
        more = await openai.files.create(file=("c.txt", b"C"), purpose="user_data")
        made = await openai.containers.create(
            name="mine", expires_after={"anchor": "last_active_at", "minutes": 20}, file_ids=[kept.id]
        )
        sent = await openai.containers.files.create(made.id, file=("b.txt", b"B"))
        named = await openai.containers.files.create(made.id, file_id=more.id)
        asked: Any = {"tools": [{**TOOL, "container": made.id}], "include": ["code_interpreter_call.outputs"]}
        response = await openai.responses.create(model="scripted", input="Both.", **asked)
        await openai.containers.files.delete(named.id, container_id=made.id)
        files = [file async for file in openai.containers.files.list(made.id, limit=1)]
        listed = [one.id async for one in openai.containers.list(name="mine")]
        await openai.containers.delete(made.id)
        with pytest.raises(APIStatusError) as gone:
            await openai.responses.create(model="scripted", input="Both.", **asked)
    assert response.output[0].to_dict()["outputs"] == [{"type": "logs", "logs": "AB"}]
    assert (sent.path, sent.source, named.bytes) == ("/sandbox/b.txt", "user", 1)
    assert {file.path for file in files} == {"/sandbox/a.txt", "/sandbox/b.txt"}
    assert listed == [made.id]
    assert made.expires_after is not None
    assert (made.status, made.expires_after.minutes) == ("running", 20)
    error: Any = gone.value.body
    assert (gone.value.status_code, error["param"], error["code"]) == (
        404,
        "tools.0.container",
        "container_not_found",
    )


async def test_lists_go_on_behind_what_was_deleted(tmp_path: Path) -> None:
    async with client_of(tmp_path, WITHOUT_ISOLATION) as openai:
        made = await openai.containers.create(name="mine")
        for number in range(3):
            await openai.containers.files.create(made.id, file=(f"{number}.txt", b""))
        async for file in openai.containers.files.list(made.id, limit=1):
            await openai.containers.files.delete(file.id, container_id=made.id)
        assert (await openai.containers.files.list(made.id)).data == []


async def test_what_cannot_be_is_refused_with_its_field(tmp_path: Path) -> None:
    too_long: Any = {"anchor": "last_active_at", "minutes": 11}
    async with client_of(tmp_path, WITHOUT_ISOLATION) as openai:
        made = (await openai.containers.create(name="mine")).id
        containers, files = openai.containers, openai.containers.files
        refused: list[tuple[Any, int, str]] = [
            (containers.retrieve("cntr_0"), 404, "container_id"),
            (containers.delete("other"), 404, "container_id"),
            (files.list("cntr_0"), 404, "container_id"),
            (files.create("cntr_0", file=("a", b"")), 404, "container_id"),
            (files.retrieve("cfile_0", container_id=made), 404, "file_id"),
            (files.delete("cfile_0", container_id=made), 404, "file_id"),
            (files.content.retrieve("cfile_0", container_id=made), 404, "file_id"),
            (files.create(made), 400, "file_id"),
            (files.create(made, file_id="file-0"), 404, "file_id"),
            (files.create(made, file=("a", b""), file_id="file-0"), 400, "file"),
            (files.create(made, file=(".hidden", b"")), 400, "file"),
            (files.create(made, file=("big", b"x" * 1025)), 413, "file"),
            (files.create(made, file=("bigger", b"x" * 100_000)), 413, "file"),
            (files.list(made, after="cfile_0"), 400, "after"),
            (containers.create(name=""), 400, "name"),
            (containers.create(name="x", expires_after=too_long), 400, "expires_after.minutes"),
            (containers.create(name="x", memory_limit="4g"), 400, "memory_limit"),
            (containers.create(name="x", file_ids=["file-0"]), 404, "file_ids.0"),
            (containers.create(name="x", extra_body={"cpus": 2}), 400, "cpus"),
        ]
        for asking, status, param in refused:
            with pytest.raises(APIStatusError) as told:
                await asking
            error: Any = told.value.body
            assert (told.value.status_code, error["param"]) == (status, param), error
        assert [one.id async for one in containers.list()] == [made]


async def test_a_stack_without_an_interpreter_says_so(tmp_path: Path) -> None:
    async with client_of(tmp_path, None) as openai:
        asked: list[Any] = [openai.containers.list(), openai.containers.create(name="x")]
        for asking in asked:
            with pytest.raises(APIStatusError, match="this stack has no code_interpreter; add a tool group") as told:
                await asking
            assert told.value.status_code == 400


@needs_bubblewrap
async def test_whoever_leaves_a_list_ends_no_session_and_whoever_deletes_ends_its_code(stack_home: Path) -> None:
    async with open_desk(stack_home, settings("bubblewrap", timeout_s=600)) as desk:
        await desk.says("n = 6")
        containers = desk.interpreter.containers
        (session,) = (await desk.interpreter.sessions()).kept(ALICE.owner).values()
        leaving = asyncio.create_task(containers.files("s", ALICE))
        while not session.at_work:  # noqa: ASYNC110  # it is at work for some turns of the event loop only
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert printed(await desk.says("n")) == "6"
        endless = asyncio.create_task(desk.says("while True: pass"))
        await until(lambda: session.at_work)
        await containers.delete("s", ALICE)
        assert "The interpreter ended." in await endless
        assert await containers.all(ALICE) == []


async def test_a_container_that_was_idle_says_so(stack_home: Path) -> None:
    async with open_desk(stack_home, settings("unsafe_subprocess")) as desk:
        containers = desk.interpreter.containers
        made = await containers.create("mine", ALICE, idle_s=60)
        sessions = await desk.interpreter.sessions()
        (session,) = sessions.kept(ALICE.owner).values()
        session.used_at -= 59
        await sessions.end_idle()
        # Asking for it is a use of it.
        await containers.container(made.session_id, ALICE)
        session.used_at -= 61
        await sessions.end_idle()
        with pytest.raises(Exception, match="it has ended: the session was idle for 60 seconds"):
            await containers.container(made.session_id, ALICE)
