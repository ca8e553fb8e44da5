"""The memory of a connected stack fulfils the whole protocol: what goes in and comes out is what a local one has."""

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from llama_stack import LlamaStack, errors
from llama_stack.api.common import Caller
from llama_stack.api.files import FilePurpose, NewFile
from llama_stack.api.filters import Comparison
from llama_stack.api.memory import (
    BatchFile,
    Chunk,
    ChunkSizes,
    Document,
    DocumentState,
    Embedded,
    Entity,
    Expiry,
    Facts,
    ListedOrder,
    Memory,
    MemoryQuery,
    ReciprocalRankFusion,
    Relation,
    SearchMode,
    WeightedFusion,
)
from llama_stack.api.resources import GraphBank, MemoryBank, VectorBank
from llama_stack.client.memory import RemoteMemory
from llama_stack.sdk.loop_thread import LoopThread
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from llama_stack.wire.memory_words import MEMORY_OPERATIONS
from llama_stack.wire.words import MEDIA_TYPE
from tests.memory.hashed import DIMENSION, hashed, open_memory_stack

LOCAL = Caller(owner="local")


@asynccontextmanager
async def served(home: Path) -> AsyncIterator[str]:
    async with open_memory_stack(home) as local, serving(create_app(local)) as url:
        yield url


@pytest.fixture(params=["in-process", "http"])
async def stack(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LlamaStack]:
    """The server runs in a loop of its own."""
    if request.param == "in-process":
        async with open_memory_stack(tmp_path) as local:
            yield LlamaStack(local, LOCAL)
    else:
        with LoopThread(lambda: served(tmp_path)) as server:
            async with LlamaStack.connect(server.held) as connected:
                yield connected


@pytest.fixture
async def memory(stack: LlamaStack) -> Memory:
    return await stack.memory.service()


def bank(identifier: str, kind: Any = None) -> MemoryBank:
    return MemoryBank(
        identifier=identifier, provider_id="", provider_resource_id="", bank=kind or VectorBank(chunk_size_tokens=64)
    )


def test_every_operation_of_the_protocol_is_on_the_wire_with_all_it_takes() -> None:
    methods = {name: method for name, method in inspect.getmembers(Memory, inspect.isfunction) if name[0] != "_"}
    assert methods.keys() == MEMORY_OPERATIONS.keys()
    for name, method in methods.items():
        taken = inspect.signature(method).parameters.keys() - {"self", "caller"}
        assert MEMORY_OPERATIONS[name].body.model_fields.keys() == taken, name
        assert shape(getattr(RemoteMemory, name)) == shape(method)


def shape(method: Any) -> list[tuple[str, Any, Any]]:
    """Annotations aside, which mypy compares."""
    parameters = inspect.signature(method).parameters.values()
    return [(parameter.name, parameter.kind, parameter.default) for parameter in parameters]


async def test_banks_keep_their_name_metadata_and_expiry(memory: Memory) -> None:
    made = await memory.create_bank(bank("b"), LOCAL, name="Bank", metadata={"of": "ann"}, expiry=Expiry(days=2))
    assert (made.bank.provider_id, made.name, made.metadata) == ("sqlite-vec", "Bank", {"of": "ann"})
    assert made.expires_at is not None and (made.expires_at - made.last_active_at).days == 2

    changed = await memory.update_bank("b", LOCAL, name="Bench", expiry="never")
    assert (changed.name, changed.metadata, changed.expiry) == ("Bench", {"of": "ann"}, None)
    assert await memory.bank("b", LOCAL) == changed
    await memory.create_bank(bank("c", GraphBank()), LOCAL)
    newest = await memory.banks(LOCAL, limit=1)
    assert ([one.bank.identifier for one in newest.entries], newest.next_after) == (["c"], "c")
    oldest = await memory.banks(LOCAL, order=ListedOrder.OLDEST_FIRST, kind="vector")
    assert [one.bank.identifier for one in oldest.entries] == ["b"]


async def test_chunks_and_vectors_that_a_caller_brings(memory: Memory) -> None:
    await memory.create_bank(bank("b"), LOCAL)
    chunk = Chunk(
        chunk_id="d/0",
        document_id="d",
        content="Fisch ü 🐟",
        document_name="D",
        position=0,
        start=3,
        end=12,
        page=7,
        headings=["A", "B"],
        token_count=4,
        language="de",
        metadata={"n": 1.5, "deep": {"list": [None, True]}},
    )
    await memory.insert_chunks("b", [Embedded(chunk=chunk, vector=hashed("anything"))], LOCAL)
    (read,) = await memory.chunks_of("b", "d", LOCAL)
    assert read == chunk
    (found,) = await memory.query(
        ["b"], MemoryQuery(query="anything", mode=SearchMode.VECTOR, fusion=WeightedFusion(alpha=0.2)), LOCAL
    )
    assert found.score == pytest.approx(1.0, abs=1e-3)
    with pytest.raises(errors.InvalidRequest, match=rf"has 2 numbers; vectors of .* have {DIMENSION}") as raised:
        await memory.insert_chunks("b", [Embedded(chunk=chunk, vector=[1.0, 2.0])], LOCAL)
    assert raised.value.param == "chunks.0.embedding"


async def test_documents_their_states_and_metadata(memory: Memory) -> None:
    await memory.create_bank(bank("b"), LOCAL)
    good, bad = await memory.insert_documents(
        "b",
        [
            Document(document_id="good/1", content="Fish."),
            Document(document_id="bad", url="data:application/pdf;base64,JVBERi0="),
        ],
        LOCAL,
        sizes=ChunkSizes(chunk_size_tokens=32),
    )
    assert (good.state, bad.state) == (DocumentState.COMPLETED, DocumentState.FAILED)
    assert bad.error is not None and bad.error.code == "damaged"
    failed = await memory.documents("b", LOCAL, states=[DocumentState.FAILED])
    assert [one.document_id for one in failed.entries] == ["bad"]
    page = await memory.documents("b", LOCAL, limit=1, order=ListedOrder.OLDEST_FIRST)
    rest = await memory.documents("b", LOCAL, after=page.next_after, order=ListedOrder.OLDEST_FIRST)
    assert {one.document_id for one in page.entries + rest.entries} == {"good/1", "bad"}

    marked = await memory.set_metadata("b", "good/1", {"kind": "fish"}, LOCAL)
    assert marked == await memory.document("b", "good/1", LOCAL)
    assert await memory.delete_where("b", Comparison(type="eq", key="kind", value="fish"), LOCAL) == 1
    assert await memory.delete_documents("b", ["bad", "unknown"], LOCAL) == 1
    assert (await memory.stats("b", LOCAL)).chunks == 0
    await memory.drop_bank("b", LOCAL)
    with pytest.raises(errors.NotFound, match="there is no memory bank 'b'"):
        await memory.stats("b", LOCAL)


async def test_files_attached_together_and_one_by_one(stack: LlamaStack, memory: Memory) -> None:
    await memory.create_bank(bank("b"), LOCAL)
    files = await stack.files()

    async def upload(text: str) -> str:
        async def content() -> AsyncIterator[bytes]:
            yield text.encode()

        about = NewFile(filename="fish.txt", purpose=FilePurpose.ASSISTANTS)
        return (await files.create(content(), about, LOCAL)).file_id

    first, second, third = await upload("Fish one."), await upload("Fish two."), await upload("Fish three.")
    batch = await memory.attach_batch("b", [BatchFile(file_id=first), BatchFile(file_id=second)], LOCAL)
    alone = await memory.attach_file("b", third, LOCAL, metadata={"alone": True})
    assert alone.metadata == {"alone": True}
    assert sum((await memory.batch("b", batch.batch_id, LOCAL)).counts.values()) == 2
    cancelled = await memory.cancel_batch("b", batch.batch_id, LOCAL)
    # What is read already by then is not cancelled any more.
    assert cancelled.is_cancelled or cancelled.counts == {DocumentState.COMPLETED: 2}
    listed = await memory.documents("b", LOCAL, batch_id=batch.batch_id)
    assert {one.document_id for one in listed.entries} == {first, second}


async def test_facts_of_a_graph_bank(memory: Memory) -> None:
    await memory.create_bank(bank("g", GraphBank()), LOCAL)
    said = Facts(
        document_id="d",
        entities=[Entity(name="Ada", type="person")],
        relations=[Relation(subject="Ada", relation="knows", object="Charles", evidence="Ada knows Charles.")],
    )
    await memory.insert_facts("g", [said], LOCAL)
    found = await memory.query(["g"], MemoryQuery(entities=["ada"], depth=2, fusion=ReciprocalRankFusion()), LOCAL)
    assert any("Charles" in chunk.content for chunk in found)


async def test_a_request_that_is_not_understood_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as url, httpx.AsyncClient(base_url=url, headers={"accept": MEDIA_TYPE}) as http:
        unknown = await http.post("/v1/memory/burn", json={})
        wrong = await http.post("/v1/memory/query", json={"bank_ids": "b", "query": {}})
        bank = {"identifier": "b", "provider_id": "", "provider_resource_id": "", "bank": {"kind": "vector"}}
        newer = await http.post("/v1/memory/create_bank", json={"bank": bank, "colour": "red"})

    assert (unknown.status_code, wrong.status_code, newer.status_code) == (404, 400, 400)
    assert "memory has no operation 'burn'; there are: create_bank, " in unknown.json()["error"]["message"]
    assert (wrong.json()["error"]["param"], newer.json()["error"]["param"]) == ("bank_ids", "colour")
