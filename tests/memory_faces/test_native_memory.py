"""/v1/memory-banks and /v1/memory: banks of every kind, by their REST interface."""

from typing import Any

import httpx
import pytest

from llama_stack.server import memory_schema as shapes
from llama_stack.server.classic_schema import Removed
from llama_stack.server.routes import memory
from llama_stack.server.schema import Answer
from tests.memory_faces.stacks import DIMENSION, WORDS
from tests.server.test_openapi import strictly

LLAMAS = {"document_id": "animals", "content": "Llamas carry wool over the Andes.", "metadata": {"year": 2021}}
FERRIES = {
    "document_id": "travel/ferries",
    "content": [{"type": "text", "text": "Ferries cross the channel at night."}],
    "mime_type": "text/plain",
    "name": "ferries.txt",
    "metadata": {"year": 2023},
}


async def post(http: httpx.AsyncClient, path: str, body: Any, shape: type[Answer]) -> Any:
    answer = await http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    strictly(shape, answer.json())
    return answer.json()


async def get(http: httpx.AsyncClient, path: str, shape: type[Answer], **query: Any) -> Any:
    answer = await http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    strictly(shape, answer.json())
    return answer.json()


async def refusal(http: httpx.AsyncClient, path: str, body: Any) -> tuple[int, str]:
    answer = await http.post(path, json=body)
    return answer.status_code, answer.json()["error"]["message"]


async def make(http: httpx.AsyncClient, bank_id: str, kind: str, **params: Any) -> Any:
    body = {"memory_bank_id": bank_id, "params": {"memory_bank_type": kind, **params}}
    return await post(http, "/v1/memory-banks", body, shapes.MemoryBankAnswer)


async def insert(http: httpx.AsyncClient, bank_id: str, *documents: Any) -> Any:
    body = {"bank_id": bank_id, "documents": documents}
    return (await post(http, "/v1/memory/insert", body, shapes.DocumentStatusAnswerList))["data"]


async def query(http: httpx.AsyncClient, bank_id: str, question: Any = None, **params: Any) -> list[Any]:
    body = {"bank_id": bank_id, "query": question, "params": params}
    found = await post(http, "/v1/memory/query", body, shapes.FoundChunks)
    assert found["scores"] == [chunk["score"] for chunk in found["chunks"]]
    return list(found["chunks"])


def ids(chunks: list[Any]) -> list[str]:
    return [chunk["document_id"] for chunk in chunks]


async def test_banks_of_four_kinds_are_registered_listed_and_removed(http: httpx.AsyncClient) -> None:
    vector = await make(
        http,
        "team/notes",
        "vector",
        embedding_model=WORDS,
        chunk_size_in_tokens=128,
        overlap_size_in_tokens=None,
    )
    await make(http, "words", "keyword")
    await make(http, "values", "keyvalue")
    await make(http, "facts", "graph", extraction_model="scripted")
    listed = (await get(http, "/v1/memory-banks", shapes.MemoryBankAnswerList))["data"]
    one = await get(http, "/v1/memory-banks/team/notes", shapes.MemoryBankAnswer)
    removed = await http.delete("/v1/memory-banks/team/notes")
    strictly(Removed, removed.json())
    after = await http.get("/v1/memory-banks/team/notes")
    assert vector == one
    assert vector == {
        "identifier": "team/notes",
        "provider_id": "sqlite",
        "provider_resource_id": "team/notes",
        "type": "memory_bank",
        "memory_bank_type": "vector",
        "embedding_model": WORDS,
        "embedding_dimension": DIMENSION,
        "chunk_size_in_tokens": 128,
        "overlap_size_in_tokens": None,
        "provider_params": {},
    }
    assert {bank["identifier"]: bank["memory_bank_type"] for bank in listed} == {
        "team/notes": "vector",
        "words": "keyword",
        "values": "keyvalue",
        "facts": "graph",
    }
    assert after.status_code == 404
    assert "there is no memory bank 'team/notes'; there are: facts, values, words" in after.text


async def test_a_vector_bank_from_end_to_end(http: httpx.AsyncClient) -> None:
    await make(http, "notes", "vector", embedding_model=WORDS)
    statuses = await insert(http, "notes", LLAMAS, FERRIES)
    by_default = await query(http, "notes", "who carries wool?")
    filtered = await query(http, "notes", "wool", filters={"type": "gt", "key": "year", "value": 2022})
    plain = await query(http, "notes", "wool", filters={"year": [2023, 2024]})
    assert plain == filtered
    weighted = await query(http, "notes", "wool", mode="hybrid", fusion={"type": "weighted", "alpha": 1})
    reranked = await query(http, "notes", "wool", rerank_model="scripted", max_chunks=2)
    diverse = await query(http, "notes", "wool", mode="vector", diversity=0.5)
    rewritten = await query(http, "notes", "?", rewriting={"template": "channel ferries"}, max_chunks=1)
    several = await post(
        http, "/v1/memory/query", {"bank_ids": ["notes", "notes"], "query": ["wool", "llamas"]}, shapes.FoundChunks
    )
    assert [(one["document_id"], one["state"], one["name"]) for one in statuses] == [
        ("animals", "completed", ""),
        ("travel/ferries", "completed", "ferries.txt"),
    ]
    assert ids(by_default)[0] == "animals"
    assert by_default[0]["metadata"] == {"year": 2021}
    assert ids(filtered) == ["travel/ferries"]
    assert ids(weighted)[0] == "animals"
    assert ids(reranked) == ["travel/ferries", "animals"], "the scripted model ranks by length"
    assert set(ids(diverse)) == {"animals", "travel/ferries"}
    assert ids(rewritten) == ["travel/ferries"]
    assert ids(several["chunks"])[0] == "animals"


async def test_a_keyword_bank_from_end_to_end(http: httpx.AsyncClient) -> None:
    await make(http, "words", "keyword", chunk_size_in_tokens=64)
    await insert(http, "words", LLAMAS, FERRIES)
    assert ids(await query(http, "words", "crossing the channel")) == ["travel/ferries"]
    assert ids(await query(http, "words", "ferry", mode="keyword")) == ["travel/ferries"]
    status, message = await refusal(
        http, "/v1/memory/query", {"bank_id": "words", "query": "x", "params": {"mode": "vector"}}
    )
    assert (status, "has not vectors" in message) == (400, True)


async def test_a_key_value_bank_from_end_to_end(http: httpx.AsyncClient) -> None:
    await make(http, "values", "keyvalue")
    await insert(http, "values", LLAMAS, FERRIES)
    by_keys = await query(http, "values", keys=["travel/ferries", "nothing", "animals"])
    by_question = await query(http, "values", "animals")
    by_filter = await query(http, "values", filters={"type": "eq", "key": "year", "value": 2023})
    status, message = await refusal(http, "/v1/memory/query", {"bank_id": "values"})
    assert [chunk["content"] for chunk in by_keys] == [FERRIES["content"][0]["text"], LLAMAS["content"]]  # type: ignore[index]
    assert ids(by_question) == ["animals"]
    assert [(chunk["document_id"], chunk["score"]) for chunk in by_filter] == [("travel/ferries", 1.0)]
    assert (status, message) == (400, "a key-value bank is asked for `keys`")


async def test_a_graph_bank_from_end_to_end(http: httpx.AsyncClient) -> None:
    await make(http, "family", "graph")
    facts = {
        "document_id": "tree",
        "entities": [{"name": "Ada", "type": "person"}],
        "relations": [
            {"subject": "Ada", "relation": "is the mother of", "object": "Ben", "evidence": "p. 3"},
            {"subject": "Ben", "relation": "lives in", "object": "Oslo"},
        ],
    }
    body = {"bank_id": "family", "facts": [facts]}
    inserted = await post(http, "/v1/memory/facts", body, shapes.Inserted)
    near = await query(http, "family", entities=["ada"], max_chunks=20)
    far = await query(http, "family", entities=["ada"], depth=2, max_chunks=20)
    named = await query(http, "family", "Where does Ben live?", max_chunks=20)
    status, message = await refusal(http, "/v1/memory/facts", {"bank_id": "family", "facts": [{"entities": []}]})
    assert inserted == {"inserted": 1}
    assert "Ada is the mother of Ben. (p. 3)" in [chunk["content"] for chunk in near]
    assert "Ben lives in Oslo." not in [chunk["content"] for chunk in near]
    assert "Ben lives in Oslo." in [chunk["content"] for chunk in far]
    assert "Ben lives in Oslo." in [chunk["content"] for chunk in named]
    assert (status, message) == (400, "facts.0.document_id: is required")


async def test_documents_are_listed_read_and_deleted(http: httpx.AsyncClient) -> None:
    await make(http, "team/notes", "vector", embedding_model=WORDS)
    await insert(http, "team/notes", LLAMAS, FERRIES)
    bank = {"bank_id": "team/notes"}
    first = await get(http, "/v1/memory/documents", shapes.DocumentStatusAnswerList, **bank, limit=1)
    rest = await post(
        http,
        "/v1/memory/documents/list",
        {**bank, "after": first["next_after"], "state": "completed"},
        shapes.DocumentStatusAnswerList,
    )
    failed = await get(http, "/v1/memory/documents", shapes.DocumentStatusAnswerList, **bank, state="failed")
    read = await post(
        http, "/v1/memory/documents/get", {**bank, "document_ids": ["travel/ferries"]}, shapes.DocumentAnswerList
    )
    stats = await get(http, "/v1/memory/stats", shapes.BankStatsAnswer, **bank)
    nothing = await http.post("/v1/memory/documents/delete", json={**bank, "filters": {}})
    assert (nothing.status_code, nothing.json()["error"]["param"]) == (400, "document_ids")
    old = {"type": "lt", "key": "year", "value": 2022}
    by_filter = await post(http, "/v1/memory/documents/delete", {**bank, "filters": old}, shapes.DeletedDocuments)
    by_id = await post(
        http,
        "/v1/memory/documents/delete",
        {**bank, "document_ids": ["travel/ferries", "nope"]},
        shapes.DeletedDocuments,
    )
    empty = await get(http, "/v1/memory/stats", shapes.BankStatsAnswer, **bank)
    assert {one["document_id"] for one in [*first["data"], *rest["data"]]} == {"animals", "travel/ferries"}
    assert (len(first["data"]), len(rest["data"]), rest["next_after"], failed["data"]) == (1, 1, None, [])
    [ferries] = read["data"]
    assert ferries["document"]["metadata"] == {"year": 2023}
    assert [chunk["content"] for chunk in ferries["chunks"]] == [FERRIES["content"][0]["text"]]  # type: ignore[index]
    assert (stats["chunks"], stats["documents"]["completed"]) == (2, 2)
    assert (by_filter, by_id) == ({"deleted": 1}, {"deleted": 1})
    assert empty["chunks"] == 0


async def test_a_document_that_cannot_be_read_is_told_beside_the_others(http: httpx.AsyncClient) -> None:
    await make(http, "notes", "vector", embedding_model=WORDS)
    broken = {"document_id": "broken", "content": {"uri": "data:application/pdf;base64,JVBERi0xLjc="}}
    statuses = await insert(http, "notes", broken, LLAMAS)
    assert [one["state"] for one in statuses] == ["failed", "completed"]
    assert statuses[0]["error"]["message"]
    assert ids(await query(http, "notes", "wool")) == ["animals"]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("memory-banks", {"params": {"memory_bank_type": "keyword"}}, 400, "memory_bank_id: is required"),
        ("memory-banks", {"memory_bank_id": "b"}, 400, "params: is required"),
        ("memory-banks", {"memory_bank_id": "b", "params": {}}, 400, "params.memory_bank_type: is required"),
        (
            "memory-banks",
            {"memory_bank_id": "b", "params": {"memory_bank_type": "disk"}},
            400,
            "params.memory_bank_type: must be one of 'vector', 'keyword', 'keyvalue', 'graph', not 'disk'",
        ),
        (
            "memory-banks",
            {"memory_bank_id": "b", "params": {"memory_bank_type": "keyword", "embedding_model": "m"}},
            400,
            "params.embedding_model: is not a known field",
        ),
        (
            "memory-banks",
            {"memory_bank_id": "b", "params": {"memory_bank_type": "vector", "embedding_dimension": 3}},
            400,
            "embedding_dimension is 3, but 'acme/words' makes vectors of 64 numbers; leave it out",
        ),
        (
            "memory-banks",
            {"memory_bank_id": "b", "params": {"memory_bank_type": "vector", "embedding_model": "scripted"}},
            400,
            "'scripted' is not a model that embeds",
        ),
        (
            "memory-banks",
            {"memory_bank_id": "b", "params": {"memory_bank_type": "graph", "extraction_model": "nope"}},
            400,
            "here is no model 'nope'",
        ),
        ("memory-banks", {"memory_bank_id": "notes", "params": {"memory_bank_type": "keyword"}}, 409, "other values"),
        ("memory/insert", {"bank_id": "nope", "documents": [LLAMAS]}, 404, "there is no memory bank 'nope'"),
        ("memory/insert", {"bank_id": "notes", "documents": []}, 400, "documents: "),
        ("memory/insert", {"bank_id": "notes", "documents": [{"content": "x"}]}, 400, "documents.0.document_id: is"),
        ("memory/insert", {"bank_id": "notes", "documents": [LLAMAS], "ttl_seconds": 5}, 400, "ttl_seconds: documents"),
        (
            "memory/insert",
            {"bank_id": "notes", "documents": [{"document_id": "d", "content": "file:///etc/passwd"}]},
            400,
            "documents.0.content: is a URL of the scheme 'file'",
        ),
        ("memory-banks", {"memory_bank_id": "a?b", "params": {"memory_bank_type": "keyword"}}, 400, "not ? # %"),
        ("memory/query", {"query": "x"}, 400, "bank_id: name the bank"),
        ("memory/query", {"bank_id": "notes"}, 400, "query: has no text"),
        ("memory/query", {"bank_id": "notes", "query": " "}, 400, "query: has no text"),
        ("memory/query", {"bank_id": "notes", "params": {"mode": "keyword"}}, 400, "query: has no text"),
        ("memory/query", {"bank_id": "notes", "query": "x", "params": {"mode": "odd"}}, 400, "params.mode: should be"),
        ("memory/query", {"bank_id": "notes", "query": "x", "params": {"top": 1}}, 400, "params.top: is not a known"),
        ("memory/query", {"bank_id": "notes", "query": "x", "params": {"query": "y"}}, 400, "params.query: stands"),
        ("memory/query", {"bank_id": "notes", "query": "x", "params": {"depth": 9}}, 400, "params.depth: should be"),
        (
            "memory/query",
            {"bank_id": "notes", "query": "x", "params": {"filters": {"type": "like", "key": "k", "value": 1}}},
            400,
            "params.filters.type: must be one of",
        ),
        (
            "memory/query",
            {"bank_id": "notes", "query": "x", "params": {"filters": {"type": "in", "key": "k", "value": 1}}},
            400,
            "the value of 'in' is a list",
        ),
        (
            "memory/query",
            {"bank_id": "notes", "query": "x", "params": {"rerank_model": "nope"}},
            404,
            "here is no model 'nope'",
        ),
        ("memory/facts", {"bank_id": "notes", "facts": [{"document_id": "d"}]}, 400, "'notes' is no graph bank"),
        ("memory/facts", {"bank_id": "notes", "facts": [{"document_id": ""}]}, 400, "facts.0.document_id: "),
        ("memory/documents/get", {"bank_id": "notes", "document_ids": ["nope"]}, 404, "nope"),
        ("memory/documents/delete", {"bank_id": "notes"}, 400, "document_ids: name the documents"),
        ("memory/documents/list", {"bank_id": "notes", "state": "lost"}, 400, "state: should be 'pending'"),
    ],
)
async def test_what_means_nothing_is_refused(
    http: httpx.AsyncClient, path: str, body: Any, status: int, message: str
) -> None:
    await make(http, "notes", "vector", embedding_model=WORDS)
    assert (await insert(http, "notes", LLAMAS))[0]["state"] == "completed"
    found_status, found_message = await refusal(http, f"/v1/{path}", body)
    assert message in found_message
    assert found_status == status


async def test_an_answer_has_an_end(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_CHUNKS_READ", 1)
    await make(http, "notes", "keyword")
    await insert(http, "notes", LLAMAS, FERRIES)
    both = ["animals", "travel/ferries"]
    status, message = await refusal(http, "/v1/memory/documents/get", {"bank_id": "notes", "document_ids": both})
    one = await http.post("/v1/memory/documents/get", json={"bank_id": "notes", "document_ids": both[:1]})
    assert (status, one.status_code) == (413, 200)
    assert "these documents have 2 chunks" in message


async def test_what_a_query_string_lacks_is_named(http: httpx.AsyncClient) -> None:
    for path in ("/v1/memory/stats", "/v1/memory/documents"):
        answer = await http.get(path)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "bank_id")
    unknown = await http.get("/v1/memory/stats", params={"bank_id": "nope"})
    assert unknown.status_code == 404
