"""Responses, conversations and stored chats on both databases, each seen by its owner only."""

from dataclasses import replace
from typing import Any

import pytest

from llama_stack.api.agents import InferenceStep, Turn
from llama_stack.api.common import Caller
from llama_stack.api.messages import AssistantMessage, UserMessage
from llama_stack.api.responses import ResponseRequest, StoredCompletion
from llama_stack.errors import Conflict, InvalidRequest, NotFound
from llama_stack.storage import AgentStore, Database
from llama_stack.storage.columns import new_id, now
from llama_stack.storage.completions import CompletionStore
from llama_stack.storage.conversations import ConversationStore
from llama_stack.storage.responses import ResponseStore, StoredResponse


def new_record(caller: Caller, **fields: Any) -> StoredResponse:
    request = ResponseRequest.model_validate({"model": "m", "mcp_headers": {"https://a": {"k": "s3cret"}}, **fields})
    session_id = new_id("session")
    return StoredResponse(
        response_id=new_id("resp"),
        owner=caller.owner,
        session_id=session_id,
        turn_id=new_id("turn"),
        root_id=session_id,
        request=request,
        status="in_progress",
        created_at=now(),
    )


async def kept(database: Database, caller: Caller, said: str, **fields: Any) -> StoredResponse:
    """A response that was made and ended."""
    store, record = ResponseStore(database), new_record(caller, **fields)
    await store.create(record, caller)
    turn = Turn(
        turn_id=record.turn_id, session_id=record.session_id, input=[UserMessage(content=said)], started_at=now()
    )
    async with AgentStore(database).open_turn(turn, caller) as held:
        await held.append_step(InferenceStep(step_id=new_id("step"), message=AssistantMessage(content=f"{said}!")))
        await held.complete(held.turn.model_copy(update={"end_reason": "completed"}))
    assert await store.finish(record.response_id, {"status": "completed", "output": []}, caller)
    return await store.response(record.response_id, caller)


async def test_a_chain_is_read_oldest_first_with_its_turns(database: Database, alice: Caller, bob: Caller) -> None:
    store = ResponseStore(database)
    first = await kept(database, alice, "1")
    second = await kept(database, alice, "2", previous_response_id=first.response_id)
    third = await kept(database, alice, "3", previous_response_id=second.response_id)
    chain = await store.chain(third.response_id, alice)
    assert [(record.response_id, turn.input[0].content) for record, turn in chain] == [
        (first.response_id, "1"),
        (second.response_id, "2"),
        (third.response_id, "3"),
    ]
    assert third.request.mcp_headers == {}
    for work in (store.chain(third.response_id, bob), store.response(third.response_id, bob)):
        with pytest.raises(NotFound):
            await work
    await store.delete(first, alice)
    with pytest.raises(NotFound, match="was deleted"):
        await store.chain(third.response_id, alice)


async def test_what_has_ended_stays_as_it_ended(database: Database, alice: Caller) -> None:
    store = ResponseStore(database)
    record = await kept(database, alice, "1")
    assert not await store.finish(record.response_id, {"status": "failed", "output": []}, alice)
    assert (await store.response(record.response_id, alice)).status == "completed"
    await store.delete(record, alice)
    assert not await store.finish(record.response_id, {"status": "failed", "output": []}, alice)
    with pytest.raises(NotFound):
        await store.add_events(record.response_id, [{"sequence_number": 0}], alice)


async def test_pages_go_both_ways(database: Database, alice: Caller) -> None:
    store = ResponseStore(database)
    ids = [(await kept(database, alice, str(number))).response_id for number in range(3)]
    newest = await store.page(alice, limit=2, after=None, order="desc", model=None)
    rest = await store.page(alice, limit=2, after=newest.next_after, order="desc", model=None)
    assert [record.response_id for record in newest.entries + rest.entries] == ids[::-1]
    oldest = await store.page(alice, limit=5, after=ids[0], order="asc", model="m")
    assert [record.response_id for record in oldest.entries] == ids[1:]


async def test_events_are_read_from_a_number_on_and_cleared(database: Database, alice: Caller, bob: Caller) -> None:
    store, record = ResponseStore(database), await kept(database, alice, "1")
    await store.add_events(record.response_id, [{"sequence_number": 0}, {"sequence_number": 1}], alice)
    await store.add_events(record.response_id, [{"sequence_number": 2}], alice)
    assert [event["sequence_number"] for event in await store.events(record.response_id, alice)] == [0, 1, 2]
    late = await store.events(record.response_id, alice, from_number=2)
    assert [event["sequence_number"] for event in late] == [2]
    assert await store.events(record.response_id, bob) == []
    assert await store.clear_events(record.response_id, alice) == 3
    assert await store.events(record.response_id, alice) == []


async def test_only_what_nobody_works_on_is_abandoned(database: Database, alice: Caller) -> None:
    store, record = ResponseStore(database), new_record(alice, background=True)
    await store.create(record, alice)
    turn = Turn(turn_id=record.turn_id, session_id=record.session_id, input=[], started_at=now())

    async def is_abandoned() -> bool:
        return record.response_id in {one.response_id for one in await store.abandoned(1000)}

    assert not await is_abandoned()
    async with AgentStore(database).open_turn(turn, alice):
        assert not await is_abandoned()
    assert await is_abandoned()
    await store.take_away(record, alice)
    with pytest.raises(Conflict):
        async with AgentStore(database).reopen_turn(record.session_id, record.turn_id, alice):
            pass


async def test_a_conversation_outlives_neither_its_items_nor_its_owner(
    database: Database, alice: Caller, bob: Caller
) -> None:
    store = ConversationStore(database)
    made = await store.create([{"id": "a"}, {"id": "b"}], {"k": "v"}, alice)
    await store.add_missing_items(made.conversation_id, [{"id": "b"}, {"id": "c"}], alice)
    assert [item["id"] for item in await store.all_items(made.conversation_id, alice)] == ["a", "b", "c"]
    page = await store.items(made.conversation_id, alice, limit=2, after=None, order="desc")
    assert ([item["id"] for item in page.entries], page.next_after) == (["c", "b"], "b")
    with pytest.raises(InvalidRequest, match="there is no 'x' in this list"):
        await store.items(made.conversation_id, alice, limit=2, after="x", order="desc")
    with pytest.raises(NotFound):
        await store.item(made.conversation_id, "a", bob)
    session_id = await store.session_id(made.conversation_id, alice)
    record = replace(new_record(alice, conversation=made.conversation_id), session_id=session_id)
    await ResponseStore(database).create(record, alice)
    await store.delete(made.conversation_id, alice)
    # Its responses stay until they are deleted themselves.
    assert (await ResponseStore(database).response(record.response_id, alice)).session_id == session_id
    await ResponseStore(database).delete(record, alice)
    with pytest.raises(NotFound):
        await store.conversation(made.conversation_id, alice)


async def test_stored_chats_are_found_by_their_metadata(database: Database, alice: Caller, bob: Caller) -> None:
    store = CompletionStore(database)
    for number in range(4):
        chat = StoredCompletion(
            completion_id=f"{alice.owner}-{number}", model="m", metadata={"odd": str(number % 2)}, messages=[], body={}
        )
        await store.keep(chat, alice)
    page = await store.completions(alice, limit=1, metadata={"odd": "1"})
    rest = await store.completions(alice, limit=1, metadata={"odd": "1"}, after=page.next_after)
    assert [one.completion_id[-1] for one in page.entries + rest.entries] == ["1", "3"]
    assert rest.next_after is None
    for work in (store.completion(chat.completion_id, bob), store.delete(chat.completion_id, bob)):
        with pytest.raises(NotFound):
            await work
