"""Events of the agent loop as events of a response (API reference, "Responses", "Streaming").

The encoder is fed in order and gives, for each loop event, the response's events, numbered without a gap. It also
holds the response as it is by then, so that a whole answer is what its stream says in the end, and a stored turn
encoded again gives the same items: their ids come from the ids of the steps.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from secrets import token_urlsafe
from typing import Any, Literal

import orjson

from llama_stack.api.agents import (
    AgentEvent,
    InferenceStep,
    Step,
    StepCompleted,
    StepProgress,
    StepStarted,
    StepType,
    ToolCallStarted,
    ToolExecutionStep,
    Turn,
    TurnAwaitingInput,
    TurnCompleted,
)
from llama_stack.api.common import JsonObject
from llama_stack.api.inference import TokenLogprob, Usage
from llama_stack.api.messages import ToolCall, text_of
from llama_stack.errors import StackError
from llama_stack.wire.openai_answer import decode_token_logprobs
from llama_stack.wire.openai_containers import MadeFiles
from llama_stack.wire.openai_responses.answering import AnswerUnderWay, bare
from llama_stack.wire.openai_responses.citations import sources_in
from llama_stack.wire.openai_responses.items import new_item_id, shown
from llama_stack.wire.openai_responses.manner import Manner, McpListing
from llama_stack.wire.openai_responses.objects import (
    encode_failure,
    encode_response_usage,
    incomplete_reason,
    shown_response,
)
from llama_stack.wire.openai_responses.under_way import CallItem, CodeItem, Item, McpItem, MessageItem

LAST_EVENTS = frozenset({"response.completed", "response.failed", "response.incomplete"})
"""One of these ends every stream."""
OBFUSCATED_CHARS = 32
"""Deltas and their padding together are as many characters, or a multiple."""


def frame(event: JsonObject) -> bytes:
    """One event as a server-sent event."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event))


def obfuscated_frame(event: JsonObject) -> bytes:
    return frame(obfuscated(event))


def obfuscated(event: JsonObject) -> JsonObject:
    """A delta with random characters beside it that hide its length (API reference, `stream_options`)."""
    delta = event.get("delta")
    if not isinstance(delta, str):
        return event
    missing = -len(delta) % OBFUSCATED_CHARS
    return {**event, "obfuscation": token_urlsafe(missing)[:missing]}


class ResponseEncoder:
    """response: the response now, whole; `shown_response` makes of it what callers see.

    logprobs: of messages that were told before, by item id; used where a stored step is encoded again.
    """

    def __init__(self, response: JsonObject, manner: Manner, *, first_number: int = 0) -> None:
        self.response = response
        self.manner = manner
        self.logprobs: Mapping[str, Sequence[TokenLogprob]] = {}
        self._number = first_number
        self._events: list[JsonObject] = []
        self._items: list[Item] = []
        self._step: AnswerUnderWay | None = None
        self._calls: dict[str, CallItem] = {}
        self._searches: list[list[JsonObject]] = []
        self.made = MadeFiles()
        self._usage = Usage()

    # --- the response as a whole -----------------------------------------------------------------------------------

    def created(self, *, is_queued: bool = False) -> list[JsonObject]:
        self._lifecycle("created")
        if is_queued:
            self._lifecycle("queued")
        return self._taken()

    def in_progress(self) -> list[JsonObject]:
        self.response["status"] = "in_progress"
        self._lifecycle("in_progress")
        return self._taken()

    def listed(self, listing: McpListing) -> list[JsonObject]:
        """The tools of an MCP server, told before the model is asked."""
        body: JsonObject = {
            "id": listing.item_id,
            "type": "mcp_list_tools",
            "server_label": listing.server_label,
            "tools": [],
            "error": None,
        }
        item = Item(self, body)
        item.begin()
        item.emit("mcp_list_tools.in_progress")
        if listing.error is None:
            body["tools"] = [
                {
                    "name": tool.name,
                    "description": tool.description,
                    "input_schema": tool.parameters or {"type": "object"},
                    "annotations": None,
                }
                for tool in listing.tools
            ]
            item.emit("mcp_list_tools.completed")
        else:
            body["error"] = listing.error
            item.emit("mcp_list_tools.failed")
        item.end()
        self._keep_output()
        return self._taken()

    def failed(self, error: StackError) -> list[JsonObject]:
        self._abandon(is_kept=True)
        self.response["error"] = encode_failure(error)
        self._finish("failed")
        return self._taken()

    def cancelled(self) -> list[JsonObject]:
        """OpenAI has no event for it: the stream ends with the response as it was left."""
        self._abandon(is_kept=True)
        self.response["status"] = "cancelled"
        self._keep_output()
        self._lifecycle("incomplete")
        return self._taken()

    def compacted(self, content: str, usage: Usage, steps: int) -> None:
        """The conversation was made shorter for the answer that has begun; told with the next of the loop's events.

        content: the sealed window. steps: of the turn, those it stands for.
        """
        item_id = f"cmp_{bare(self._step.step_id)}" if self._step is not None else new_item_id("compaction")
        body = {"id": item_id, "type": "compaction", "encrypted_content": content, "_steps": steps}
        item = Item(self, body)
        item.begin()
        item.end()
        self._usage = self._usage.plus(usage)
        self._keep_output()

    # --- the loop --------------------------------------------------------------------------------------------------

    def feed(self, event: AgentEvent) -> list[JsonObject]:
        match event:
            case StepStarted(step_type=StepType.INFERENCE):
                self._abandon()
                self._step = AnswerUnderWay(self, event.step_id)
            case StepProgress() if self._step is not None:
                self._step.feed(event.event)
            case StepCompleted(step=InferenceStep() as step):
                self._end_inference(step)
            case ToolCallStarted():
                self._run(event.step_id, event.tool_call)
            case StepCompleted(step=ToolExecutionStep() as step):
                self._end_tools(step)
            case TurnAwaitingInput():
                for call in event.approvals:
                    self._ask(event.turn, call)
                self._end_turn(event.turn, "completed")
            case TurnCompleted():
                self._end_turn(event.turn, event.turn.end_reason or "completed")
        return self._taken()

    def _end_inference(self, step: InferenceStep) -> None:
        if self._step is None or self._step.step_id != step.step_id:
            self._abandon()
            self._step = AnswerUnderWay(self, step.step_id)
        self._step.end(step)
        if step.messages_left_out:
            # Ours: OpenAI's object has no word for what `truncation: auto` has left out.
            self.response["messages_left_out"] = step.messages_left_out
        self._calls = {call_id: item for call_id, item in self._step.calls.items() if not item.is_done}
        self._step = None
        self._keep_output()

    def _run(self, step_id: str, call: ToolCall) -> None:
        item = self._calls.get(call.id)
        if item is None:
            # A call of an earlier response that a person has approved since.
            known = self.manner.tools.get(call.name)
            if known is None or known.kind != "mcp":
                return
            request_id = self.manner.requests.get(call.id)
            item = McpItem(self, f"mcp_{bare(step_id)}", call.name, known.server_label, request_id)
            item.add(call.arguments)
            item.said()
            self._calls[call.id] = item
        item.run()

    def _end_tools(self, step: ToolExecutionStep) -> None:
        for result in step.results:
            call_id = result.tool_call_id
            metadata = step.metadata.get(call_id, {})
            item = self._calls.pop(call_id, None)
            if sources := sources_in(metadata):
                self._searches.append(sources)
            if isinstance(item, CodeItem):
                self.made.add(metadata)
            if item is not None:
                item.finish(result, call_id in step.failed, metadata)
        self._keep_output()

    def _ask(self, turn: Turn, call: ToolCall) -> None:
        known = self.manner.tools.get(call.name)
        body = {
            "id": self.manner.requests.get(call.id) or _request_id(turn, call),
            "type": "mcp_approval_request",
            "server_label": known.server_label if known is not None else "",
            "name": call.name,
            "arguments": call.arguments,
            "_call_id": call.id,
        }
        item = Item(self, body)
        item.begin()
        item.end()

    def _end_turn(self, turn: Turn, reason: str) -> None:
        self._abandon(is_kept=True)
        last = next((step for step in reversed(turn.steps) if isinstance(step, InferenceStep)), None)
        output = turn.output
        if output is not None and (last is None or last.message != output or last.is_draft):
            # Said by the loop itself: that a limit was reached, or what a shield says instead; or a draft that no
            # answer could follow.
            item = MessageItem(self, f"msg_{bare(turn.turn_id)}")
            if output.refusal:
                item.refuse(output.refusal)
            else:
                item.add(text_of(output.content))
            item.end()
        self.response["usage"] = encode_response_usage(turn.usage.plus(self._usage))
        why = incomplete_reason(turn.end_reason)
        self.response["incomplete_details"] = None if why is None else {"reason": why}
        if why is None:
            self.response["completed_at"] = int((turn.completed_at or datetime.now(UTC)).timestamp())
        self._finish("completed" if why is None else "incomplete")

    def _abandon(self, *, is_kept: bool = False) -> None:
        """What is open belongs to work that was cut off. is_kept: and that is not done again."""
        for item in self._items:
            item.abandon(is_kept=is_kept)
        self._step = None
        self._calls = {}

    def _finish(self, status: Literal["completed", "incomplete", "failed"]) -> None:
        self.response["status"] = status
        self._keep_output()
        self._lifecycle(status)

    # --- what items need -------------------------------------------------------------------------------------------

    @property
    def searches(self) -> Sequence[Sequence[JsonObject]]:
        return self._searches

    def place(self, item: Item) -> int:
        self._items.append(item)
        return len(self._items) - 1

    def added(self, item: Item) -> None:
        self.emit("output_item.added", output_index=item.index, item=shown(item.body, self.manner.include))

    def done(self, item: Item) -> None:
        self.emit("output_item.done", output_index=item.index, item=shown(item.body, self.manner.include))

    def emit(self, kind: str, **fields: Any) -> None:
        self._events.append({"type": f"response.{kind}", "sequence_number": self._number, **fields})
        self._number += 1

    def _lifecycle(self, kind: str) -> None:
        self.emit(kind, response=shown_response(self.response, self.manner.include))

    def _keep_output(self) -> None:
        self.response["output"] = [item.body for item in self._items if item.is_done and item.is_kept]

    def _taken(self) -> list[JsonObject]:
        events, self._events = self._events, []
        return events


def replayed(steps: Sequence[Step]) -> list[AgentEvent]:
    """Stored steps as the events that made them, as far as steps tell."""
    events: list[AgentEvent] = []
    for step in steps:
        if isinstance(step, ToolExecutionStep):
            events.extend(ToolCallStarted(step_id=step.step_id, tool_call=call) for call in step.tool_calls)
        events.append(StepCompleted(step=step))
    return events


def logprobs_in(events: Iterable[JsonObject]) -> dict[str, list[TokenLogprob]]:
    """Log probabilities that a response's events told, by the id of their message."""
    return {
        event["item_id"]: decode_token_logprobs(event["logprobs"])
        for event in events
        if event["type"] == "response.output_text.done" and event["logprobs"]
    }


def _request_id(turn: Turn, call: ToolCall) -> str:
    """Names the answer that made the call, and which of its calls it is."""
    asked_in = next(step for step in reversed(turn.steps) if isinstance(step, InferenceStep))
    number = [one.id for one in asked_in.message.tool_calls].index(call.id)
    return f"mcpr_{bare(asked_in.step_id)}_{number}"
