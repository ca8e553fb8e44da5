"""Two servers on one database, and the older client."""

import asyncio
from pathlib import Path
from typing import Any

from llama_stack_client import AsyncLlamaStackClient

from llama_stack.api.inference import TextDelta
from llama_stack.testing.scripted import calls, says
from tests.responses.conftest import Start, streamed

LIMIT_S = 60


async def test_one_server_watches_what_the_other_makes(start: Start, tmp_path: Path) -> None:
    may_go_on = asyncio.Event()
    async with start([TextDelta(text="Hel"), may_go_on, *says("lo")]) as making, start(says("never")) as watching:
        queued = await making.openai.responses.create(model="scripted", input="Hi", background=True)
        async with asyncio.timeout(LIMIT_S):
            stream = await watching.openai.responses.retrieve(queued.id, stream=True)
            types = []
            async for event in stream:
                types.append(event.type)
                if event.type == "response.output_text.delta":
                    may_go_on.set()
        assert types[-1] == "response.completed"
        assert (await watching.openai.responses.retrieve(queued.id)).output_text == "Hello"
        assert watching.inference.requests == []


async def test_one_server_cancels_what_the_other_makes(start: Start) -> None:
    may_go_on = asyncio.Event()
    tool: Any = {"type": "function", "name": "f", "strict": False, "parameters": None}
    async with start([may_go_on, *calls(("f", "{}"))]) as making, start(says("never")) as other:
        queued = await making.openai.responses.create(model="scripted", input="Hi", background=True, tools=[tool])
        async with asyncio.timeout(LIMIT_S):
            await making.inference.opened.wait()
            cancelled = await other.openai.responses.cancel(queued.id)
            assert cancelled.status == "cancelled"
            may_go_on.set()
            events = [event async for event in await making.openai.responses.retrieve(queued.id, stream=True)]
        # Whoever makes it finds at its next write that it is no longer wanted.
        assert events[-1].type == "response.incomplete"
        assert (await making.openai.responses.retrieve(queued.id)).model_dump() == cancelled.model_dump()


async def test_the_older_client_makes_streams_and_lists_responses(start: Start) -> None:
    async with start(says("Hello")) as running, AsyncLlamaStackClient(base_url=running.url) as client:
        made = await client.responses.create(model="scripted", input="Hi", max_infer_iters=3)
        stream = await client.responses.create(model="scripted", input="Hi", stream=True)
        events = [event async for event in stream]
        again = await client.responses.retrieve(made.id)
        listed = await client.responses.list()
        items = await client.responses.input_items.list(made.id)
        newer = await streamed(running.openai, input="Hi")
    assert made.output[0].content[0].text == "Hello"
    assert [event.type for event in events] == [event.type for event in newer]
    assert again.output == made.output
    assert [one.id for one in listed.data] == [events[0].response.id, made.id]
    assert items.data[0].content[0].text == "Hi"
