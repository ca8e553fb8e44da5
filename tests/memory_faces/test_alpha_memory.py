"""The paths of 2024: bare lists, null for what is not there, and the same banks behind them."""

import base64
from typing import Any

import httpx

from tests.memory_faces.stacks import DIMENSION, WORDS

BANK: Any = {
    "memory_bank_id": "team/notes",
    "params": {"memory_bank_type": "vector", "embedding_model": WORDS, "chunk_size_in_tokens": 64},
}
LLAMAS: Any = {
    "document_id": "animals",
    "content": {"uri": "data:text/plain;base64," + base64.b64encode(b"Llamas carry wool.").decode()},
    "mime_type": "text/plain",
    "metadata": {},
}


async def test_a_bank_is_made_filled_asked_and_removed(http: httpx.AsyncClient) -> None:
    made = (await http.post("/alpha/memory-banks/register", json=BANK)).json()
    listed = (await http.get("/alpha/memory-banks/list")).json()
    one = (await http.get("/alpha/memory-banks/get", params={"memory_bank_id": "team/notes"})).json()
    document = {**LLAMAS, "content": "Llamas carry wool."}
    inserted = await http.post("/alpha/memory/insert", json={"bank_id": "team/notes", "documents": [document]})
    params = {"max_chunks": 3, "score_threshold": 0.0}
    asked = {"bank_id": "team/notes", "query": ["wool", "llamas"], "params": params}
    found = (await http.post("/alpha/memory/query", json=asked)).json()
    removed = await http.post("/alpha/memory-banks/unregister", json={"memory_bank_id": "team/notes"})
    gone = await http.get("/alpha/memory-banks/get", params={"memory_bank_id": "team/notes"})
    assert listed == [made]
    assert one == made
    assert (made["type"], made["memory_bank_type"], made["embedding_dimension"]) == ("memory_bank", "vector", DIMENSION)
    assert (inserted.status_code, inserted.json()) == (200, None)
    [chunk] = found["chunks"]
    assert (chunk["content"], chunk["document_id"]) == ("Llamas carry wool.", "animals")
    assert isinstance(chunk["token_count"], int)
    assert found["scores"] == [chunk["score"]]
    assert (removed.status_code, removed.json()) == (200, None)
    assert (gone.status_code, gone.json()) == (200, None)


async def test_what_means_nothing_is_refused(http: httpx.AsyncClient) -> None:
    await http.post("/alpha/memory-banks/register", json=BANK)
    unread = await http.post(
        "/alpha/memory/insert",
        json={"bank_id": "team/notes", "documents": [{**LLAMAS, "content": {"uri": "data:text/plain,"}}]},
    )
    nameless = await http.post("/alpha/memory-banks/unregister", json={})
    unknown = await http.post("/alpha/memory-banks/unregister", json={"memory_bank_id": "nope"})
    assert unread.status_code == 400
    assert "'animals' was not read" in unread.json()["error"]["message"]
    assert (nameless.status_code, nameless.json()["error"]["param"]) == (400, "memory_bank_id")
    assert unknown.status_code == 404
