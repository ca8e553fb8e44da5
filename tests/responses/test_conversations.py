"""/v1/conversations with the `openai` client: items, responses in a conversation, and one of them at a time."""

import asyncio
from typing import Any

import pytest
from openai import BadRequestError, ConflictError, NotFoundError

from llama_stack.api.inference import TextDelta
from llama_stack.testing.scripted import calls, says
from tests.responses.conftest import Start, told


async def test_a_conversation_is_kept_changed_and_deleted(start: Start) -> None:
    async with start(says("Hi")) as running:
        made = await running.openai.conversations.create(
            metadata={"topic": "owls"}, items=[{"role": "user", "content": "Hello"}]
        )
    async with start(says("Hi")) as running:
        conversations = running.openai.conversations
        assert await conversations.retrieve(made.id) == made
        changed = await conversations.update(made.id, metadata={"topic": "bats"})
        assert changed.metadata == {"topic": "bats"}
        gone = await conversations.delete(made.id)
        assert (gone.id, gone.deleted, gone.object) == (made.id, True, "conversation.deleted")
        with pytest.raises(NotFoundError, match="there is no conversation"):
            await conversations.retrieve(made.id)


async def test_items_are_added_listed_by_pages_read_and_deleted(start: Start) -> None:
    async with start(says("Hi")) as running:
        conversations = running.openai.conversations
        made = await conversations.create()
        words: list[Any] = [{"role": "user", "content": f"word {number}"} for number in range(5)]
        added = await conversations.items.create(made.id, items=words)
        ids = [item.id or "" for item in added.data]
        first = await conversations.items.list(made.id, limit=2, order="asc")
        assert [item.id for item in first.data] == ids[:2]
        assert first.has_more
        every = [item.id async for item in conversations.items.list(made.id, limit=2, order="asc")]
        assert every == ids
        assert [item.id async for item in conversations.items.list(made.id)] == ids[::-1]
        one: Any = await conversations.items.retrieve(ids[3], conversation_id=made.id)
        assert one.content[0].text == "word 3"
        await conversations.items.delete(ids[3], conversation_id=made.id)
        with pytest.raises(NotFoundError, match="has no item"):
            await conversations.items.retrieve(ids[3], conversation_id=made.id)
        with pytest.raises(ConflictError, match="in the conversation already"):
            again: Any = [{"id": ids[0], "role": "user", "content": "twice"}]
            await conversations.items.create(made.id, items=again)


async def test_responses_read_the_conversation_and_add_to_it(start: Start) -> None:
    tool: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
    async with start(says("Hello Ada."), calls(("weather", "{}")), says("Mild.")) as running:
        made = await running.openai.conversations.create(items=[{"role": "developer", "content": "Be kind."}])
        ask = running.openai.responses.create
        first = await ask(model="scripted", conversation=made.id, input="I am Ada.")
        await ask(model="scripted", conversation={"id": made.id}, input="Weather?", tools=[tool])
        output: Any = {"type": "function_call_output", "call_id": "call_0", "output": "warm"}
        await ask(model="scripted", conversation=made.id, input=[output], tools=[tool])
        items = [item async for item in running.openai.conversations.items.list(made.id, order="asc")]
    assert first.conversation is not None
    assert first.conversation.id == made.id
    assert [message.role for message in told(running)] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "tool",
    ]
    assert [item.type for item in items] == [
        "message",
        "message",
        "message",
        "message",
        "function_call",
        "function_call_output",
        "message",
    ]


async def test_one_response_of_a_conversation_is_made_at_a_time(start: Start) -> None:
    may_go_on = asyncio.Event()
    async with start([TextDelta(text="a"), may_go_on, *says("b")], says("c")) as running:
        made = await running.openai.conversations.create()
        stream = await running.openai.responses.create(model="scripted", conversation=made.id, input="1", stream=True)
        async for event in stream:
            if event.type == "response.output_text.delta":
                break
        with pytest.raises(ConflictError, match="is being worked on; wait for it to end"):
            await running.openai.responses.create(model="scripted", conversation=made.id, input="2")
        may_go_on.set()
        async for _ in stream:
            pass
        response = await running.openai.responses.create(model="scripted", conversation=made.id, input="3")
    assert response.output_text == "c"
    assert [message.content for message in told(running)] == ["1", "ab", "3"]


async def test_what_does_not_fit_is_refused(start: Start) -> None:
    async with start(says("Hi")) as running:
        made = await running.openai.conversations.create()
        ask = running.openai.responses.create
        with pytest.raises(BadRequestError, match="conversation: cannot be used with previous_response_id"):
            await ask(model="scripted", conversation=made.id, previous_response_id="resp_1", input="?")
        with pytest.raises(BadRequestError, match="store: a conversation keeps the items"):
            await ask(model="scripted", conversation=made.id, input="?", store=False)
        with pytest.raises(NotFoundError, match="there is no conversation 'conv_x'"):
            await ask(model="scripted", conversation="conv_x", input="?")
        with pytest.raises(BadRequestError, match=r"items\.0\.type"):
            wrong: Any = [{"type": "nonsense"}]
            await running.openai.conversations.items.create(made.id, items=wrong)
