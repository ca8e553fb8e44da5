"""OpenAI chat completions, streamed (API reference, "The chat completion chunk object"), both directions.

`ChatChunkEncoder` writes our events as the frames an OpenAI client expects. `ChatChunkDecoder` reads the chunks of an
upstream and puts right what partners do differently; its rules are in its docstring. Whole answers go through the
same decoder, so that a whole and a streamed answer can not be understood differently.
"""

from typing import Any
from uuid import uuid4

import orjson

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import (
    ChatEnd,
    ChatEvent,
    ChoiceEnd,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)
from llama_stack.errors import ProviderFailed
from llama_stack.wire.openai_answer import (
    AnswerHead,
    decode_logprobs,
    decode_usage,
    encode_logprobs,
    encode_usage,
    finish_reason_of,
    response_fields,
)
from llama_stack.wire.openai_errors import raise_error_in_answer

DONE_FRAME = b"data: [DONE]\n\n"


class ChatChunkEncoder:
    """Writes the events of one answer as server-sent `data:` frames, ending with `[DONE]`.

    Text is the bulk of every stream, so its frames are put together from bytes made once.
    """

    def __init__(self, head: AnswerHead, *, include_usage: bool = False) -> None:
        self._head: JsonObject = {
            "id": head.id,
            "object": "chat.completion.chunk",
            "created": head.created,
            "model": head.model,
            "system_fingerprint": None,
        }
        self._include_usage = include_usage
        self._before = b"data: " + orjson.dumps(self._head)[:-1] + b',"choices":[{"index":'
        self._after = b"}]" + (b',"usage":null' if include_usage else b"") + b"}\n\n"
        self._begun: dict[int, _Said] = {}

    def encode(self, event: ChatEvent) -> bytes:
        """The event's frames; empty for an event that OpenAI's stream has no word for."""
        match event:
            case TextDelta(choice=choice, logprobs=None):
                head = b"" if choice in self._begun else self._begin(choice, content="")
                self._begun[choice].plainly = True
                return b'%b%b%d,"delta":{"content":%b},"logprobs":null,"finish_reason":null%b' % (
                    head,
                    self._before,
                    choice,
                    orjson.dumps(event.text),
                    self._after,
                )
            case TextDelta(choice=choice):
                head = b"" if choice in self._begun else self._begin(choice, content="")
                self._begun[choice].plainly = True
                logprobs = encode_logprobs(event.logprobs or [])
                return head + self._frame(choice, {"content": event.text}, logprobs=logprobs)
            case ReasoningDelta(choice=choice):
                return self._head_of(choice) + self._frame(choice, {"reasoning_content": event.text})
            case RefusalDelta(choice=choice):
                head = self._head_of(choice)
                self._begun[choice].otherwise = True
                return head + self._frame(choice, {"refusal": event.text})
            case ToolCallStart(choice=choice):
                head = self._head_of(choice)
                self._begun[choice].otherwise = True
                call = {
                    "index": event.index,
                    **event.extra,
                    "id": event.id,
                    "type": "function",
                    "function": {"name": event.name, "arguments": ""},
                }
                return head + self._frame(choice, {"tool_calls": [call]})
            case ToolCallDelta(choice=choice):
                call = {"index": event.index, "function": {"arguments": event.arguments}}
                return self._frame(choice, {"tool_calls": [call]})
            case ChoiceEnd():
                return self._end_of_choice(event)
            case ChatEnd():
                return self._end(event)

    def _head_of(self, choice: int) -> bytes:
        return b"" if choice in self._begun else self._begin(choice, content=None)

    def _begin(self, choice: int, content: str | None) -> bytes:
        """OpenAI's own client expects choices to begin in the order of their numbers."""
        earlier = b"".join(self._begin(number, None) for number in range(choice) if number not in self._begun)
        self._begun[choice] = _Said()
        return earlier + self._frame(choice, {"role": "assistant", "content": content, "refusal": None})

    def _end_of_choice(self, event: ChoiceEnd) -> bytes:
        head = self._head_of(event.choice)
        said = self._begun[event.choice]
        # As in a whole answer: where nothing was said in another form, `content` is text, if empty.
        delta: JsonObject = {} if said.plainly or said.otherwise else {"content": ""}
        return head + self._frame(
            event.choice, delta, finish_reason=event.finish_reason, stop_sequence=event.stop_sequence
        )

    def _end(self, event: ChatEnd) -> bytes:
        if not self._include_usage:
            return DONE_FRAME
        usage = None if event.usage is None else encode_usage(event.usage)
        last = {**self._head, **_without(event.extra, self._head), "choices": [], "usage": usage}
        return b"data: " + orjson.dumps(last) + b"\n\n" + DONE_FRAME

    def _frame(
        self,
        choice: int,
        delta: JsonObject,
        *,
        logprobs: JsonObject | None = None,
        finish_reason: str | None = None,
        stop_sequence: str | None = None,
    ) -> bytes:
        rest: JsonObject = {"delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        if stop_sequence is not None:
            rest["stop_reason"] = stop_sequence
        return b"%b%d,%b%b" % (self._before, choice, orjson.dumps(rest)[1:-1], self._after)


class _Said:
    """What a choice has brought so far: text, or something else that stands for it."""

    __slots__ = ("otherwise", "plainly")

    def __init__(self) -> None:
        self.plainly = False
        self.otherwise = False


def _without(extra: JsonObject, reserved: JsonObject) -> JsonObject:
    return {name: value for name, value in extra.items() if name not in reserved or reserved[name] is None}


class ChatChunkDecoder:
    """Reads an upstream's chunks, parsed from JSON, and gives our events; `end` closes what is open.

    What partners send and how it is read:
    - empty or missing `choices`, null `delta`, missing `role`: nothing is said; usage and other fields are kept;
    - the usage may be in any chunk, the last one counts;
    - a tool call is new when its id is new, or, without an id, when it brings a name after complete arguments;
      so calls that all claim index 0, have no index, or come whole in one chunk are told apart;
    - a missing or repeated call id is replaced, so ids are unique in the answer;
    - arguments may be null (none: `{}`), an object (written as JSON), or begin with an empty `{}` before the real ones;
    - reasoning may be called `reasoning_content` or `reasoning`, or be a "thinking" part of the content;
    - `finish_reason` is "tool_calls" when calls were made and the partner said "stop"; unknown reasons are "stop";
    - an `error` member raises the error it tells of.

    Choices end when the stream does, because some partners send text or calls after the finish reason.
    """

    def __init__(self) -> None:
        self._choices: dict[int, _ChoiceReader] = {}
        self._usage: Usage | None = None
        self._model: str | None = None
        self._extra: JsonObject = {}
        self._ids: set[str] = set()

    def feed(self, chunk: object) -> list[ChatEvent]:
        """Raises ProviderFailed for an error inside the stream, or for what is no chunk at all."""
        if not isinstance(chunk, dict):
            raise ProviderFailed(f"the upstream sent {type(chunk).__name__} where a chat completion chunk was expected")
        if chunk.get("error"):
            raise_error_in_answer(chunk["error"])
        self._extra.update(response_fields(chunk))
        if self._model is None and isinstance(chunk.get("model"), str):
            self._model = chunk["model"] or None
        events: list[ChatEvent] = []
        try:
            if chunk.get("usage"):
                self._usage = decode_usage(chunk["usage"])
            for position, choice in enumerate(chunk.get("choices") or ()):
                index = choice.get("index")
                number = position if index is None else index
                reader = self._choices.get(number)
                if reader is None:
                    reader = self._choices[number] = _ChoiceReader(number, self._ids)
                reader.feed(choice, events)
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            raise ProviderFailed("the upstream sent a chunk that is not in OpenAI's shape") from error
        return events

    def end(self, *, complete: bool = False) -> list[ChatEvent]:
        """The closing events. complete: the upstream itself said that the stream is over (`[DONE]`, or a whole body).

        Raises ProviderFailed when the stream broke off: nothing said that it was over.
        """
        if not self._choices:
            raise ProviderFailed("the upstream's answer ended without any choice")
        if not complete and any(choice.finish_reason is None for choice in self._choices.values()):
            raise ProviderFailed("the upstream's answer broke off before it was finished")
        events: list[ChatEvent] = []
        for _, choice in sorted(self._choices.items()):
            choice.end(events)
        events.append(ChatEnd(usage=self._usage, model=self._model, extra=self._extra))
        return events


NAMELESS = "unnamed_tool"
"""For a call that never got a name. As an unknown tool it goes back to the model, in a conversation that all accept."""


class _CallReader:
    """One tool call under way. It starts for the reader of events when its name is known.

    id: what the partner calls it, if it does. held: arguments read and not sent on yet.
    """

    __slots__ = ("extra", "held", "id", "name", "sent", "started")

    def __init__(self, call_id: str | None) -> None:
        self.id = call_id
        self.name = ""
        self.extra: JsonObject = {}
        self.held = ""
        self.sent = ""
        self.started = False

    def is_complete(self) -> bool:
        try:
            orjson.loads(self.sent + self.held)
        except orjson.JSONDecodeError:
            return False
        return True


class _ChoiceReader:
    """Reads the deltas of one choice."""

    def __init__(self, number: int, ids: set[str]) -> None:
        self._number = number
        self._ids = ids
        self._calls: list[_CallReader] = []
        self._at: dict[int, int] = {}
        self.finish_reason: FinishReason | None = None
        self._stop_sequence: str | None = None

    def feed(self, choice: JsonObject, events: list[ChatEvent]) -> None:
        delta = choice.get("delta") or choice.get("message") or {}
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if reasoning:
            events.append(ReasoningDelta(text=reasoning, choice=self._number))
        self._feed_content(delta.get("content"), choice.get("logprobs"), events)
        if refusal := delta.get("refusal"):
            events.append(RefusalDelta(text=refusal, choice=self._number))
        if calls := delta.get("tool_calls"):
            for call in calls:
                self._feed_call(call, events)
        elif function := delta.get("function_call"):
            self._feed_call({"index": 0, "function": function}, events)
        if reason := choice.get("finish_reason"):
            self.finish_reason = finish_reason_of(reason)
            if isinstance(choice.get("stop_reason"), str):
                self._stop_sequence = choice["stop_reason"]

    def _feed_content(self, content: Any, logprobs: Any, events: list[ChatEvent]) -> None:
        if isinstance(content, list):
            for part in content:
                if part.get("type") == "text":
                    self._feed_content(part["text"], logprobs, events)
                    logprobs = None
                elif part.get("type") == "thinking":
                    thought = part["thinking"]
                    text = thought if isinstance(thought, str) else "".join(piece.get("text", "") for piece in thought)
                    events.append(ReasoningDelta(text=text, choice=self._number))
            return
        if logprobs:
            decoded = decode_logprobs(logprobs)
            if content or decoded:
                events.append(TextDelta(text=content or "", choice=self._number, logprobs=decoded))
        elif content:
            events.append(TextDelta(text=content, choice=self._number))

    def _feed_call(self, body: JsonObject, events: list[ChatEvent]) -> None:
        function = body.get("function") or {}
        index = self._call_of(body, function)
        call = self._calls[index]
        if name := function.get("name"):
            call.name = name
        for key, value in body.items():
            if key not in ("index", "id", "type", "function") and value is not None:
                call.extra[key] = value
        arguments = function.get("arguments")
        if arguments is not None and not isinstance(arguments, str):
            arguments = orjson.dumps(arguments).decode()
        call.held = _joined(call.held, arguments or "")
        if call.name and not call.started:
            self._start(index, call, events)
        if call.started and call.held and call.held.strip() != "{}":
            self._send(index, call, events)

    def _call_of(self, body: JsonObject, function: JsonObject) -> int:
        """Position of the call this delta belongs to; a new one is opened when it belongs to none."""
        call_id, index = body.get("id") or None, body.get("index")
        slot = index if isinstance(index, int) else None
        position = self._at.get(slot) if slot is not None else (len(self._calls) - 1 if self._calls else None)
        if position is not None:
            call = self._calls[position]
            if call_id is None:
                name = function.get("name")
                if not name or not call.name or (name == call.name and not call.is_complete()):
                    return position
            elif call_id == call.id:
                return position
            elif call.id is None and not (call.name and function.get("name")):
                call.id = call_id
                return position
            else:
                for earlier, other in enumerate(self._calls):
                    if other.id == call_id:
                        return earlier
        self._calls.append(_CallReader(call_id))
        position = len(self._calls) - 1
        self._at[position if slot is None else slot] = position
        return position

    def _start(self, index: int, call: _CallReader, events: list[ChatEvent]) -> None:
        call.started = True
        public_id = call.id
        if public_id is None or public_id in self._ids:
            public_id = f"call_{uuid4().hex[:24]}"
        self._ids.add(public_id)
        events.append(ToolCallStart(index=index, id=public_id, name=call.name, choice=self._number, extra=call.extra))

    def _send(self, index: int, call: _CallReader, events: list[ChatEvent]) -> None:
        events.append(ToolCallDelta(index=index, arguments=call.held, choice=self._number))
        call.sent += call.held
        call.held = ""

    def end(self, events: list[ChatEvent]) -> None:
        for index, call in enumerate(self._calls):
            if not call.started:
                call.name = NAMELESS
                self._start(index, call, events)
            if call.held or not call.sent:
                call.held = call.held or "{}"
                self._send(index, call, events)
        reason = self.finish_reason or "stop"
        if self._calls and reason == "stop":
            reason = "tool_calls"
        events.append(ChoiceEnd(finish_reason=reason, choice=self._number, stop_sequence=self._stop_sequence))


def _joined(held: str, more: str) -> str:
    """An empty object that some partners send before the real arguments gives way to them."""
    if held.strip() == "{}" and more.lstrip().startswith("{"):
        return more
    return held + more
