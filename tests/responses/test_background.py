"""Responses made in the background: queued, watched from any number on, cancelled, taken up after a crash."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError, NotFoundError

from llama_stack.api.inference import TextDelta, TokenLogprob
from llama_stack.api.tools import ToolResult
from llama_stack.errors import RateLimited
from llama_stack.testing.scripted import calls, says
from tests.responses.conftest import FixedTools, Running, Start, streamed, told

CRM: Any = {"type": "mcp", "server_label": "crm", "require_approval": "never"}
LIMIT_S = 60


async def ended(running: Running, response_id: str) -> Any:
    """The response once it has ended; its stream tells when."""
    stream = await running.openai.responses.retrieve(response_id, stream=True)
    async with asyncio.timeout(LIMIT_S):
        async for _ in stream:
            pass
    return await running.openai.responses.retrieve(response_id)


async def test_it_is_queued_made_and_can_be_watched_from_any_event(start: Start) -> None:
    async with start(says("Hello", " world")) as running:
        queued = await running.openai.responses.create(model="scripted", input="Hi", background=True)
        assert (queued.status, queued.background, queued.output) == ("queued", True, [])
        response = await ended(running, queued.id)
        everything = [event async for event in await running.openai.responses.retrieve(queued.id, stream=True)]
        rest = await running.openai.responses.retrieve(queued.id, stream=True, starting_after=4)
        numbers = [event.sequence_number async for event in rest]
    assert response.output_text == "Hello world"
    assert [event.type for event in everything][:4] == [
        "response.created",
        "response.queued",
        "response.in_progress",
        "response.output_item.added",
    ]
    assert [event.sequence_number for event in everything] == list(range(len(everything)))
    assert everything[-1].type == "response.completed"
    assert numbers == list(range(5, len(everything)))


async def test_it_goes_on_when_its_reader_leaves(start: Start) -> None:
    may_go_on = asyncio.Event()
    async with start([TextDelta(text="Hel"), may_go_on, *says("lo")]) as running:
        stream = await running.openai.responses.create(model="scripted", input="Hi", background=True, stream=True)
        response_id = ""
        async with asyncio.timeout(LIMIT_S):
            async for event in stream:
                if event.type == "response.created":
                    response_id = event.response.id
                if event.type == "response.output_text.delta":
                    break
        await stream.close()
        may_go_on.set()
        assert (await ended(running, response_id)).output_text == "Hello"
        assert not running.inference.closed_early.is_set()


async def test_it_can_be_cancelled(start: Start) -> None:
    never = asyncio.Event()
    async with start([TextDelta(text="Hel"), never]) as running:
        queued = await running.openai.responses.create(model="scripted", input="Hi", background=True)
        async with asyncio.timeout(LIMIT_S):
            await running.inference.opened.wait()
            cancelled = await running.openai.responses.cancel(queued.id)
            await running.inference.closed_early.wait()
        assert cancelled.status == "cancelled"
        again = await running.openai.responses.cancel(queued.id)
        assert again.model_dump() == cancelled.model_dump()
        with pytest.raises(BadRequestError, match="is cancelled; only one that was completed can be continued"):
            await running.openai.responses.create(model="scripted", input="?", previous_response_id=queued.id)


async def test_one_that_was_made_at_once_can_neither_be_cancelled_nor_watched(start: Start) -> None:
    async with start(says("Hi")) as running:
        response = await running.openai.responses.create(model="scripted", input="Hi")
        with pytest.raises(BadRequestError, match="was not made in the background"):
            await running.openai.responses.cancel(response.id)
        with pytest.raises(BadRequestError, match="its events were not kept"):
            await running.openai.responses.retrieve(response.id, stream=True)
        with pytest.raises(BadRequestError, match="background: needs the response to be stored"):
            await running.openai.responses.create(model="scripted", input="Hi", background=True, store=False)


async def test_deleting_it_stops_it(start: Start) -> None:
    never = asyncio.Event()
    async with start([TextDelta(text="Hel"), never]) as running:
        queued = await running.openai.responses.create(model="scripted", input="Hi", background=True)
        async with asyncio.timeout(LIMIT_S):
            await running.inference.opened.wait()
            await running.openai.responses.delete(queued.id)
            await running.inference.closed_early.wait()
        with pytest.raises(NotFoundError):
            await running.openai.responses.retrieve(queued.id)
        rows = await running.rows()
    assert (rows["responses"], rows["turns"], rows["response_events"]) == (0, 0, 0)


async def test_what_fails_is_told_by_the_response(start: Start) -> None:
    async with start([TextDelta(text="Hel"), RateLimited("slow down")]) as running:
        events = await streamed(running.openai, input="Hi", background=True)
        response = await running.openai.responses.retrieve(events[0].response.id)
    assert events[-1].type == "response.failed"
    assert response.status == "failed"
    assert response.error is not None
    assert (response.error.code, response.error.message) == ("rate_limit_exceeded", "slow down")
    assert response.output_text == "Hel"


DYING = """
import asyncio, os, signal, sys
from pathlib import Path
from llama_stack.api.common import Caller
from llama_stack.api.tools import ToolResult
from llama_stack.testing.scripted import calls, says
from llama_stack.testing.scripted_stack import open_scripted_stack
from llama_stack.wire.openai_responses.request import decode_response_request
from tests.responses.conftest import FixedTools

async def main() -> None:
    crm = FixedTools(find=lambda: ToolResult(content="found it"))
    home = Path(sys.argv[1])
    async with open_scripted_stack(calls(("find", "{}")), [asyncio.Event()], tools={"crm": crm}, home=home) as stack:
        responses = await stack.responses()
        tool = {"type": "mcp", "server_label": "crm", "require_approval": "never"}
        asked = {"model": "scripted", "input": "?", "tools": [tool], "background": sys.argv[2] == "background"}
        request, _ = decode_response_request(asked)
        async for event in responses.stream(request, Caller(owner="local")):
            if event["type"] == "response.mcp_call.completed":
                print(event["sequence_number"], flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            if event["type"] == "response.created":
                print(event["response"]["id"], flush=True)

asyncio.run(main())
"""


async def killed_after_a_call(home: Path, manner: str) -> tuple[str, int]:
    """Kill a process that makes a response, once its tool has run; its id and the number of its last event."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        DYING,
        str(home),
        manner,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    async with asyncio.timeout(LIMIT_S):
        output, errors = await process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    response_id, last_number = output.decode().split()
    return response_id, int(last_number)


async def test_it_is_taken_up_after_its_last_step_when_its_process_was_killed(start: Start, tmp_path: Path) -> None:
    response_id, last_number = await killed_after_a_call(tmp_path, "background")
    crm = FixedTools(find=lambda: ToolResult(content="found again"))
    async with start(says("Done."), tools={"crm": crm}) as running:
        await running.stack.responses()
        response = await ended(running, response_id)
        since = await running.openai.responses.retrieve(response_id, stream=True, starting_after=last_number)
        numbers = [event.sequence_number async for event in since]
    assert response.status == "completed"
    assert response.output_text == "Done."
    # The finished call was not made again, and the model read its result.
    assert crm.calls == []
    assert told(running)[-1].content == "found it"
    assert [item.type for item in response.output] == ["mcp_list_tools", "mcp_call", "message"]
    # The log began again, with numbers after all that were given out.
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert numbers[0] > last_number


async def test_a_stopping_server_leaves_it_to_the_next(start: Start) -> None:
    never = asyncio.Event()
    crm = FixedTools(find=lambda: ToolResult(content="found it"))
    async with start(calls(("find", "{}")), [never], tools={"crm": crm}) as running:
        queued = await running.openai.responses.create(model="scripted", input="?", tools=[CRM], background=True)
        async with asyncio.timeout(LIMIT_S):
            stream = await running.openai.responses.retrieve(queued.id, stream=True)
            async for event in stream:
                if event.type == "response.mcp_call.completed":
                    break
            await stream.close()
    async with start(says("Done."), tools={"crm": crm}) as running:
        assert (await running.openai.responses.retrieve(queued.id)).status == "in_progress"
        assert (await ended(running, queued.id)).output_text == "Done."
    assert len(crm.calls) == 1


async def test_log_probabilities_are_told_again_with_the_steps_they_belong_to(start: Start) -> None:
    logprob = TokenLogprob(token="Wait.", logprob=-0.5, bytes=[87], top=[TokenLogprob(token="Hm", logprob=-1.5)])
    never = asyncio.Event()
    crm = FixedTools(find=lambda: ToolResult(content="found it"))
    scripts = ([TextDelta(text="Wait.", logprobs=[logprob]), *calls(("find", "{}"))], [never])
    asked: Any = {"model": "scripted", "input": "?", "tools": [CRM], "background": True, "top_logprobs": 1}
    async with start(*scripts, tools={"crm": crm}) as running:
        queued = await running.openai.responses.create(**asked)
        async with asyncio.timeout(LIMIT_S):
            stream = await running.openai.responses.retrieve(queued.id, stream=True)
            async for event in stream:
                if event.type == "response.mcp_call.completed":
                    break
            await stream.close()
    async with start(says("Done."), tools={"crm": crm}) as running:
        response = await ended(running, queued.id)
    message = next(item for item in response.output if item.type == "message")
    (told_again,) = message.content[0].logprobs
    assert (told_again.token, told_again.logprob, told_again.bytes) == ("Wait.", -0.5, [87])
    assert [(one.token, one.logprob) for one in told_again.top_logprobs] == [("Hm", -1.5)]


async def test_one_whose_caller_waited_ends_as_failed_when_its_process_was_killed(start: Start, tmp_path: Path) -> None:
    response_id, _ = await killed_after_a_call(tmp_path, "foreground")
    crm = FixedTools(find=lambda: ToolResult(content="found again"))
    async with start(says("Never."), tools={"crm": crm}) as running:
        assert (await running.openai.responses.retrieve(response_id)).status == "in_progress"
        background = (await running.stack.responses()).background
        # Found once it may be about to end; found twice nobody works on it.
        await background.take_care_of_abandoned(await background.take_care_of_abandoned(set()))
        response = await running.openai.responses.retrieve(response_id)
    assert response.status == "failed"
    assert response.error is not None
    assert "ask again" in response.error.message
    assert [item.type for item in response.output] == ["mcp_call"]
    assert (crm.calls, running.inference.requests) == ([], [])
