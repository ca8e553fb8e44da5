"""One answer of the model while it is being made, as the items it becomes: its reasoning, its message, its calls."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from llama_stack.api.agents import InferenceStep
from llama_stack.api.common import JsonObject
from llama_stack.api.inference import (
    ChatEvent,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallStart,
)
from llama_stack.api.memory import Citation
from llama_stack.api.messages import text_of
from llama_stack.wire.openai_containers import MadeFiles
from llama_stack.wire.openai_responses.manner import KnownTool, Manner
from llama_stack.wire.openai_responses.under_way import (
    CallItem,
    CodeItem,
    CustomItem,
    FileSearchItem,
    FunctionItem,
    McpItem,
    MessageItem,
    Output,
    ReasoningItem,
    WebSearchItem,
)


class AnswerOutput(Output, Protocol):
    """searches: sources that tools of this response have found. logprobs: of messages told before, by item id.

    made: files that code of this response has written.
    """

    manner: Manner
    made: MadeFiles
    logprobs: Mapping[str, Sequence[TokenLogprob]]

    @property
    def searches(self) -> Sequence[Sequence[JsonObject]]: ...


class AnswerUnderWay:
    """One answer of the model, as items: its reasoning, its message, its calls."""

    def __init__(self, output: AnswerOutput, step_id: str) -> None:
        self.step_id = step_id
        self.calls: dict[str, CallItem] = {}
        self._output = output
        self._by_index: dict[int, CallItem] = {}
        self._seen: list[str] = []
        self._reasoning: ReasoningItem | None = None
        self._message: MessageItem | None = None
        self._reasonings = 0
        self._messages = 0
        self._told = ""
        self._citations: Sequence[Citation] = ()
        self._unsaid_logprobs: list[TokenLogprob] = []
        self._refused = ""

    def feed(self, event: ChatEvent) -> None:
        match event:
            case ReasoningDelta() if event.text:
                self._reason(event.text)
            case TextDelta():
                self._unsaid_logprobs += event.logprobs or ()
                if event.text:
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
        self._citations = step.citations
        # What lacks its form is no part of the output; the loop has kept its text from everybody.
        if not step.is_draft:
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
            if not self._told and not self._unsaid_logprobs:
                self._unsaid_logprobs += self._output.logprobs.get(self._item_id("msg", 0), ())
            self._say(text[len(self._told) :])
        if refusal.startswith(self._refused) and len(refusal) > len(self._refused):
            self._refuse(refusal[len(self._refused) :])

    def _reason(self, text: str) -> None:
        if self._reasoning is None:
            self._end_said()
            item_id = self._item_id("rs", self._reasonings)
            self._reasonings += 1
            self._reasoning = ReasoningItem(self._output, item_id, is_summarised=self._output.manner.is_summarised)
        self._reasoning.add(text)

    def _say(self, text: str) -> None:
        self._told += text
        self._begun_message().add(text, self._unsaid_logprobs)
        self._unsaid_logprobs = []

    def _refuse(self, text: str) -> None:
        self._refused += text
        self._begun_message().refuse(text)

    def _begun_message(self) -> MessageItem:
        if self._message is None:
            self._end_said()
            self._message = MessageItem(self._output, self._item_id("msg", self._messages))
            self._messages += 1
        return self._message

    def _end_said(self, status: str = "completed") -> None:
        """Something else follows the reasoning or the message under way."""
        if self._reasoning is not None:
            self._reasoning.end()
            self._reasoning = None
        if self._message is not None:
            self._message.searches = self._output.searches
            self._message.made = self._output.made
            self._message.container_id = self._output.manner.container_id
            self._message.citations = self._citations
            self._message.offset = len(self._told) - len(self._message.text)
            self._message.status = status
            self._message.end()
            self._message = None

    def _item_id(self, prefix: str, number: int) -> str:
        """The first of its kind, nearly always the only one, has the step's own number."""
        return f"{prefix}_{bare(self.step_id)}" + (f"_{number}" if number else "")

    def _begun(self, call_id: str, name: str) -> CallItem | None:
        """An item for the call; None for one that is shown otherwise or not at all: a tool the model made up."""
        number = len(self._seen)
        self._seen.append(call_id)
        known = self._output.manner.tools.get(name)
        if known is None or known.needs_approval:
            return None
        item = _call_item(self._output, known, f"{bare(self.step_id)}_{number}", call_id, name)
        self.calls[call_id] = item
        return item


def _call_item(output: AnswerOutput, known: KnownTool, bare_id: str, call_id: str, name: str) -> CallItem:
    match known.kind:
        case "function":
            return FunctionItem(output, f"fc_{bare_id}", call_id, name)
        case "custom":
            return CustomItem(output, f"ctc_{bare_id}", call_id, name)
        case "mcp":
            return McpItem(output, f"mcp_{bare_id}", name, known.server_label)
        case "web_search":
            return WebSearchItem(output, f"ws_{bare_id}", name)
        case "file_search":
            return FileSearchItem(output, f"fs_{bare_id}", name)
        case "code_interpreter":
            return CodeItem(output, f"ci_{bare_id}", name, output.manner.container_id)


def bare(identifier: str) -> str:
    """An id without what says which kind it is."""
    return identifier.rpartition("_")[2]
