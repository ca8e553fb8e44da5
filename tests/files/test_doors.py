"""The same files through the SDK: in this process, and connected to a server."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from llama_stack import LlamaStack
from llama_stack.api.files import FilePurpose
from llama_stack.errors import InvalidRequest, NotFound, PayloadTooLarge, StackError
from llama_stack.sdk.stack import LlamaStack as OpenedStack
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from llama_stack.testing.scripted_stack import open_scripted_stack
from tests.files.conftest import ALICE, about, pieces, read

LOCAL = ALICE.model_copy(update={"owner": "local"})


@pytest.fixture(params=["in process", "connected"])
async def stack(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenedStack]:
    async with AsyncExitStack() as exits:
        scripted = await exits.enter_async_context(open_scripted_stack(home=tmp_path))
        scripted.distribution.storage.max_file_bytes = 5_000_000
        if request.param == "in process":
            yield OpenedStack(scripted, LOCAL)
            return
        url = await exits.enter_async_context(serving(create_app(scripted)))
        yield await exits.enter_async_context(LlamaStack.connect(url))


async def test_a_file_through_its_life(stack: OpenedStack) -> None:
    files, caller = await stack.files(), stack.caller
    content = bytes(range(256)) * 10_000
    new = about('../ä "b".bin', mime_type="image/png", expires_after_s=7200, purpose=FilePurpose.VISION)
    made = await files.create(pieces(content[:7], content[7:]), new, caller)
    assert (made.filename, made.mime_type, made.size_bytes) == ('ä "b".bin', "image/png", len(content))
    assert made.expires_at is not None
    assert (made.expires_at - made.created_at).total_seconds() == 7200
    assert (await files.file(made.file_id, caller)).sha256 == made.sha256
    assert await read(files.content(made.file_id, caller)) == content
    other = await files.create(pieces(b"x"), about(), caller)
    first = await files.page(caller, limit=1, order="asc")
    assert [file.file_id for file in first.entries] == [made.file_id]
    rest = await files.page(caller, limit=1, order="asc", after=first.next_after)
    assert ([file.file_id for file in rest.entries], rest.next_after) == ([other.file_id], None)
    assert len((await files.page(caller, purpose=FilePurpose.VISION)).entries) == 1
    await files.delete(made.file_id, caller)
    for work in (files.file(made.file_id, caller), read(files.content(made.file_id, caller))):
        with pytest.raises(NotFound, match=made.file_id):
            await work


@pytest.mark.parametrize(
    ("chunks", "refused", "code"),
    [([], InvalidRequest, "empty_file"), ([b"x" * 1_000_000] * 6, PayloadTooLarge, "file_too_large")],
)
async def test_a_refusal_is_the_same(
    stack: OpenedStack, chunks: list[bytes], refused: type[StackError], code: str
) -> None:
    files = await stack.files()
    with pytest.raises(refused) as error:
        await files.create(pieces(*chunks), about(), stack.caller)
    assert (error.value.code, error.value.param) == (code, "file")
    assert (await files.page(stack.caller)).entries == []


def test_code_that_does_not_await(tmp_path: Path) -> None:
    from llama_stack.sdk.loop_thread import LoopThread

    with LoopThread(lambda: open_scripted_stack(home=tmp_path)) as held:
        files = held.wait(held.held.files())
        made = held.wait(files.create(pieces(b"x"), about(), LOCAL))
        assert list(held.iterate(files.content(made.file_id, LOCAL))) == [b"x"]
