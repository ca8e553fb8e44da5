"""Events of the agent loop as events of a response (API reference, "Responses", "Streaming").

The encoder is fed in order and gives, for each loop event, the response's events, numbered without a gap. It also
holds the response as it is by then, so that a whole answer is what its stream says in the end, and a stored turn
encoded again gives the same items: their ids come from the ids of the steps.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
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
from llama_stack.api.inference import (
    ChatEvent,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from llama_stack.api.messages import ToolCall, text_of
from llama_stack.api.tools import ToolDefinition
from llama_stack.errors import StackError
from llama_stack.wire.openai_responses.citations import sources_in
from llama_stack.wire.openai_responses.items import shown
from llama_stack.wire.openai_responses.objects import (
    encode_failure,
    encode_response_usage,
    incomplete_reason,
    shown_response,
)
from llama_stack.wire.openai_responses.under_way import (
    CallItem,
    CodeItem,
    CustomItem,
    FunctionItem,
    Item,
    McpItem,
    MessageItem,
    ReasoningItem,
    WebSearchItem,
)


@dataclass(frozen=True)
class KnownTool:
    """What a tool's calls look like. needs_approval: a call ends the response as a request for approval."""

    kind: Literal["function", "custom", "mcp", "web_search", "code_interpreter"]
    server_label: str = ""
    needs_approval: bool = False


@dataclass(frozen=True)
class McpListing:
    """The tools of one MCP server, or why they could not be listed."""

    item_id: str
    server_label: str
    tools: Sequence[ToolDefinition] = ()
    error: str | None = None


@dataclass(frozen=True)
class Manner:
    """How a response is encoded.

    tools: by name. requests: approval requests that earlier responses made, by the id of their call. root_id: what
    tools that keep state keep it by. holds_text: text is told at the end of its step, once it is known to be part of
    the answer.
    """

    tools: Mapping[str, KnownTool] = field(default_factory=dict)
    requests: Mapping[str, str] = field(default_factory=dict)
    root_id: str = ""
    include: Collection[str] = ()
    is_summarised: bool = False
    holds_text: bool = False


def frame(event: JsonObject) -> bytes:
    """One event as a server-sent event."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event))


class ResponseEncoder:
    """response: the response now, whole; `shown_response` makes of it what callers see."""

    def __init__(self, response: JsonObject, manner: Manner, *, first_number: int = 0) -> None:
        self.response = response
        self.manner = manner
        self._number = first_number
        self._events: list[JsonObject] = []
        self._items: list[Item] = []
        self._step: _InferenceUnderWay | None = None
        self._calls: dict[str, CallItem] = {}
        self._searches: list[list[JsonObject]] = []

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

    def failed(self, error: StackError, completed_at: int) -> list[JsonObject]:
        self._abandon(is_kept=True)
        self.response["error"] = encode_failure(error)
        self._finish("failed", completed_at)
        return self._taken()

    def cancelled(self, completed_at: int) -> list[JsonObject]:
        """OpenAI has no event for it: the stream ends with the response as it was left."""
        self._abandon(is_kept=True)
        self.response.update(status="cancelled", completed_at=completed_at)
        self._keep_output()
        self._lifecycle("incomplete")
        return self._taken()

    # --- the loop --------------------------------------------------------------------------------------------------

    def feed(self, event: AgentEvent) -> list[JsonObject]:
        match event:
            case StepStarted(step_type=StepType.INFERENCE):
                self._abandon()
                self._step = _InferenceUnderWay(self, event.step_id)
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
            self._step = _InferenceUnderWay(self, step.step_id)
        self._step.end(step)
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
            item = McpItem(self, f"mcp_{_bare(step_id)}", call.name, known.server_label, request_id)
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
        if output is not None and (last is None or last.message != output):
            # Said by the loop itself: that a limit was reached, or what a shield says instead.
            item = MessageItem(self, f"msg_{_bare(turn.turn_id)}")
            if output.refusal:
                item.refuse(output.refusal)
            else:
                item.add(text_of(output.content))
            item.end()
        self.response["usage"] = encode_response_usage(turn.usage)
        why = incomplete_reason(turn.end_reason)
        self.response["incomplete_details"] = None if why is None else {"reason": why}
        completed_at = turn.completed_at or turn.started_at
        self._finish("completed" if why is None else "incomplete", int(completed_at.timestamp()))

    def _abandon(self, *, is_kept: bool = False) -> None:
        """What is open belongs to work that was cut off. is_kept: and that is not done again."""
        for item in self._items:
            item.abandon(is_kept=is_kept)
        self._step = None
        self._calls = {}

    def _finish(self, status: Literal["completed", "incomplete", "failed"], completed_at: int) -> None:
        self.response.update(status=status, completed_at=completed_at)
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


class _InferenceUnderWay:
    """One answer of the model, as items: its reasoning, its message, its calls."""

    def __init__(self, encoder: ResponseEncoder, step_id: str) -> None:
        self.step_id = step_id
        self.calls: dict[str, CallItem] = {}
        self._encoder = encoder
        self._by_index: dict[int, CallItem] = {}
        self._seen: list[str] = []
        self._reasoning: ReasoningItem | None = None
        self._message: MessageItem | None = None
        self._reasonings = 0
        self._messages = 0
        self._told = ""
        self._refused = ""

    def feed(self, event: ChatEvent) -> None:
        match event:
            case ReasoningDelta() if event.text:
                self._reason(event.text)
            case TextDelta() if event.text and not self._encoder.manner.holds_text:
                self._say(event.text)
            case RefusalDelta() if event.text:
                self._refuse(event.text)
            case ToolCallStart():
                self._end_said()
                if (item := self._begun(event.id, event.name)) is not None:
                    self._by_index[event.index] = item
            case ToolCallDelta() if event.arguments and event.index in self._by_index:
                self._by_index[event.index].add(event.arguments)

    def end(self, step: InferenceStep) -> None:
        """Tell what has not been told yet, and close everything."""
        message = step.message
        if message.reasoning and not self._reasonings:
            self._reason(message.reasoning)
        is_draft = not message.tool_calls and step.ends_turn is None and self._encoder.manner.holds_text
        if not is_draft:
            self._tell_rest(text_of(message.content), message.refusal or "")
        self._end_said("incomplete" if step.finish_reason == "length" else "completed")
        for call in message.tool_calls:
            if call.id not in self._seen and (item := self._begun(call.id, call.name)) is not None:
                item.add(call.arguments)
        kept = {call.id for call in message.tool_calls}
        for call_id, item in self.calls.items():
            if call_id in kept:
                item.said()
            else:
                item.abandon()

    def _tell_rest(self, text: str, refusal: str) -> None:
        """What the step's message says beyond what was told while it was made."""
        if refusal and refusal == text:
            # A shield's refusal stands in both places, for readers that look in one.
            text = ""
        if text.startswith(self._told) and len(text) > len(self._told):
            self._say(text[len(self._told) :])
        if refusal.startswith(self._refused) and len(refusal) > len(self._refused):
            self._refuse(refusal[len(self._refused) :])

    def _reason(self, text: str) -> None:
        if self._reasoning is None:
            self._end_said()
            item_id = self._item_id("rs", self._reasonings)
            self._reasonings += 1
            self._reasoning = ReasoningItem(self._encoder, item_id, is_summarised=self._encoder.manner.is_summarised)
        self._reasoning.add(text)

    def _say(self, text: str) -> None:
        self._told += text
        self._begun_message().add(text)

    def _refuse(self, text: str) -> None:
        self._refused += text
        self._begun_message().refuse(text)

    def _begun_message(self) -> MessageItem:
        if self._message is None:
            self._end_said()
            self._message = MessageItem(self._encoder, self._item_id("msg", self._messages))
            self._messages += 1
        return self._message

    def _end_said(self, status: str = "completed") -> None:
        """Something else follows the reasoning or the message under way."""
        if self._reasoning is not None:
            self._reasoning.end()
            self._reasoning = None
        if self._message is not None:
            self._message.searches = self._encoder.searches
            self._message.status = status
            self._message.end()
            self._message = None

    def _item_id(self, prefix: str, number: int) -> str:
        """The first of its kind, nearly always the only one, has the step's own number."""
        return f"{prefix}_{_bare(self.step_id)}" + (f"_{number}" if number else "")

    def _begun(self, call_id: str, name: str) -> CallItem | None:
        """An item for the call; None for one that is shown otherwise or not at all: a tool the model made up."""
        number = len(self._seen)
        self._seen.append(call_id)
        known = self._encoder.manner.tools.get(name)
        if known is None or known.needs_approval:
            return None
        item = _call_item(self._encoder, known, f"{_bare(self.step_id)}_{number}", call_id, name)
        self.calls[call_id] = item
        return item


def _call_item(encoder: ResponseEncoder, known: KnownTool, bare_id: str, call_id: str, name: str) -> CallItem:
    match known.kind:
        case "function":
            return FunctionItem(encoder, f"fc_{bare_id}", call_id, name)
        case "custom":
            return CustomItem(encoder, f"ctc_{bare_id}", call_id, name)
        case "mcp":
            return McpItem(encoder, f"mcp_{bare_id}", name, known.server_label)
        case "web_search":
            return WebSearchItem(encoder, f"ws_{bare_id}", name)
        case "code_interpreter":
            container_id = f"cntr_{_bare(encoder.manner.root_id)}"
            return CodeItem(encoder, f"ci_{bare_id}", name, container_id)


def replayed(steps: Sequence[Step]) -> list[AgentEvent]:
    """Stored steps as the events that made them, as far as steps tell."""
    events: list[AgentEvent] = []
    for step in steps:
        if isinstance(step, ToolExecutionStep):
            events.extend(ToolCallStarted(step_id=step.step_id, tool_call=call) for call in step.tool_calls)
        events.append(StepCompleted(step=step))
    return events


def _request_id(turn: Turn, call: ToolCall) -> str:
    """Names the answer that made the call, and which of its calls it is."""
    asked_in = next(step for step in reversed(turn.steps) if isinstance(step, InferenceStep))
    number = [one.id for one in asked_in.message.tool_calls].index(call.id)
    return f"mcpr_{_bare(asked_in.step_id)}_{number}"


def _bare(identifier: str) -> str:
    return identifier.rpartition("_")[2]
