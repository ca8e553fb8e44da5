"""Chat completions with `store`: kept, listed, read, changed and deleted; those without it leave nothing behind."""

from typing import Any

import pytest
from openai import NotFoundError

from llama_stack.testing.scripted import says
from tests.responses.conftest import Start


async def test_a_stored_chat_is_read_again_after_a_restart(start: Start) -> None:
    async with start(says("Hello")) as running:
        parts: Any = [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "https://a.b/c.png"}}]
        made = await running.openai.chat.completions.create(
            model="scripted",
            store=True,
            metadata={"a": "b"},
            messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}],
        )
    async with start(says("Hello")) as running:
        completions = running.openai.chat.completions
        kept = await completions.retrieve(made.id)
        assert kept.choices == made.choices
        assert kept.usage == made.usage
        messages = [message async for message in completions.messages.list(made.id, limit=1)]
        assert [(message.role, message.content) for message in messages] == [("system", "Be brief."), ("user", "Hi")]
        assert messages[1].content_parts is not None
        assert len(messages[1].content_parts) == 2
        changed = await completions.update(made.id, metadata={"a": "c"})
        assert changed.metadata == {"a": "c"}
        gone = await completions.delete(made.id)
        assert (gone.id, gone.deleted, gone.object) == (made.id, True, "chat.completion.deleted")
        with pytest.raises(NotFoundError, match="only those made with store are kept"):
            await completions.retrieve(made.id)


async def test_a_streamed_chat_is_stored_whole(start: Start) -> None:
    async with start(says("Hel", "lo")) as running:
        stream = await running.openai.chat.completions.create(
            model="scripted", store=True, messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        ids = {chunk.id async for chunk in stream}
        kept = await running.openai.chat.completions.retrieve(ids.pop())
    assert kept.choices[0].message.content == "Hello"


async def test_they_are_listed_by_model_and_metadata(start: Start) -> None:
    async with start(says("Hello")) as running:
        completions = running.openai.chat.completions
        for number in range(5):
            await completions.create(
                model="scripted",
                store=True,
                metadata={"odd": str(number % 2)},
                messages=[{"role": "user", "content": str(number)}],
            )
        every = [one.id async for one in completions.list(limit=2)]
        odd = [one.id async for one in completions.list(limit=1, metadata={"odd": "1"})]
        other = [one.id async for one in completions.list(model="another")]
    assert len(every) == 5
    assert odd == [every[1], every[3]]
    assert other == []


async def test_nothing_is_kept_unless_asked_for(start: Start) -> None:
    async with start(says("Hello")) as running:
        create = running.openai.chat.completions.create
        await create(model="scripted", messages=[{"role": "user", "content": "Hi"}])
        await create(model="scripted", messages=[{"role": "user", "content": "Hi"}], store=False)
        assert (await running.rows())["chat_completions"] == 0
