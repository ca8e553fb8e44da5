"""Tool calls in what a Llama model writes, for whole and for streamed text alike.

A closed list of shapes is read as calls:

- after the family's call token (`<|python_tag|>`): any of the shapes below, else code for the interpreter if offered;
- a message that is nothing but calls: JSON objects `{"name", "parameters"}` (also `"arguments"`, also wrapped as
  `{"type": "function", "function": {...}}`), one or several, separated by `;`, line ends or in a list; a list of
  Python calls `[f(a=1), g()]` with literal arguments; `name.call(query="...")` for an offered tool;
- anywhere: `<function=name>{...}</function>`.

JSON inside prose is never a call. A name nobody offered still makes a call: the agent loop tells the model so.
Text that turns out to be no call is given out as text; nothing that became a call ever was.
"""

import secrets
from collections.abc import Callable, Sequence
from typing import Literal

from llama_stack.api.inference import FinishReason, TextDelta, ToolCallDelta, ToolCallStart
from llama_stack.api.tools import ToolDefinition
from llama_stack.wire.llama_prompts.call_reading import ReadCall, arguments_json, code_json, read_calls
from llama_stack.wire.llama_prompts.call_scanner import CallScanner
from llama_stack.wire.llama_prompts.families import LlamaFamily, tokens_of
from llama_stack.wire.llama_prompts.function_tag import OPENING, FunctionTagReader
from llama_stack.wire.llama_prompts.tool_text import CODE_INTERPRETER

Piece = TextDelta | ToolCallStart | ToolCallDelta
Stop = Literal["eot", "eom", "stop", "length"]
"""Why the model stopped: end of turn, end of message, a stop text of the caller's, or the limit of tokens."""


def random_call_id() -> str:
    return f"call_{secrets.token_hex(12)}"


class ToolCallParser:
    """Reads one choice of an answer: `feed` each piece of text, then `finish` once.

    tools: those offered; with none, everything is text. choice: number put into the events.
    Special tokens the engine leaves in the text (`preserved_tokens`) are taken out: the call token, and tokens of the
    end where they are the last of the text. The events include no ChoiceEnd: the caller knows why the model stopped,
    and `finish_reason` says what that means here.
    """

    def __init__(
        self,
        tools: Sequence[ToolDefinition],
        *,
        family: LlamaFamily = LlamaFamily.LLAMA_3_1,
        choice: int = 0,
        new_id: Callable[[], str] = random_call_id,
    ) -> None:
        tokens = tokens_of(family)
        self._tools = {tool.name: tool for tool in tools}
        self._choice = choice
        self._new_id = new_id
        self._call_start = tokens.call_start
        self._call_end = tokens.call_end
        self._ends = (tokens.end_of_message, tokens.end_of_turn, tokens.end_of_text)
        self._marks = [mark for mark in (tokens.call_start, tokens.call_end) if mark is not None]
        self._marks += [OPENING] if tools else []
        self._state: Literal["start", "candidate", "prose", "tagged", "function"] = "start"
        self._buffer = ""
        self._blank = ""
        self._scanner = CallScanner(())
        self._function = FunctionTagReader()
        self._calls = 0
        self._stop: Stop | None = None
        self._pieces: list[Piece] = []

    @property
    def finish_reason(self) -> FinishReason:
        """What the choice ends with; meaningful after `finish`."""
        if self._stop == "length":
            return "length"
        return "tool_calls" if self._calls else "stop"

    def feed(self, text: str) -> list[Piece]:
        """Take more of the model's text; returns what is certain by now."""
        self._buffer += text
        while self._buffer and self._advance():
            pass
        return self._taken()

    def finish(self, stop: Stop) -> list[Piece]:
        """The rest, once the model has stopped.

        A call of an offered tool that breaks off is given out with arguments that are no JSON: it cannot be run by
        mistake, and the model, or the caller who raises the limit, can see how far it came.
        """
        self._stop = stop
        self._buffer = self._buffer[: len(self._buffer) - self._ends_held(len(self._buffer))]
        while self._finish_state():
            while self._buffer and self._advance():
                pass
        return self._taken()

    # --- what is given out ---

    def _taken(self) -> list[Piece]:
        pieces, self._pieces = self._pieces, []
        return pieces

    def _say(self, text: str) -> None:
        if text:
            self._pieces.append(TextDelta(text=self._blank + text, choice=self._choice))
            self._blank = ""

    def _call(self, call: ReadCall) -> None:
        # Blanks around calls only set them apart.
        self._blank = ""
        index, self._calls = self._calls, self._calls + 1
        self._pieces.append(ToolCallStart(index=index, id=self._new_id(), name=call.name, choice=self._choice))
        self._pieces.append(ToolCallDelta(index=index, arguments=call.arguments, choice=self._choice))

    # --- the states; each takes what it can from the buffer and says whether to go on with another ---

    def _advance(self) -> bool:
        match self._state:
            case "start":
                return self._start()
            case "candidate":
                return self._candidate()
            case "prose":
                return self._prose()
            case "tagged":
                return self._tagged()
            case "function":
                return self._function_tag()

    def _start(self) -> bool:
        """At the beginning or behind a call: nothing is decided before the first character that is no blank."""
        body = self._buffer.lstrip("; \t\r\n" if self._calls else " \t\r\n")
        self._blank += self._buffer[: len(self._buffer) - len(body)]
        self._buffer = body
        if self._held() == len(body):
            return False
        if self._tools and not body.startswith(tuple(self._marks)):
            self._scanner = CallScanner(self._tools)
            self._state = "candidate"
        else:
            self._state = "prose"
        return True

    def _candidate(self) -> bool:
        """All so far may be calls: it waits until that is refuted or the text ends."""
        certain = len(self._buffer) - self._held()
        if self._scanner.feed(self._buffer[len(self._scanner.text) : certain]):
            return False
        self._state = "prose"
        return True

    def _prose(self) -> bool:
        """Text goes out at once, up to the mark of a call."""
        found = [(at, mark) for mark in self._marks if (at := self._buffer.find(mark)) >= 0]
        at, mark = min(found, default=(len(self._buffer) - self._held(), ""))
        self._say(self._buffer[:at])
        self._buffer = self._buffer[at:]
        if not mark:
            return False
        if mark == OPENING:
            self._function = FunctionTagReader()
            self._state = "function"
            return True
        self._buffer = self._buffer.removeprefix(mark)
        if mark == self._call_start and self._tools:
            self._state = "tagged"
        return True

    def _tagged(self) -> bool:
        """Behind the call token: all belongs to the call, up to the closing token where the family has one."""
        body = self._buffer.lstrip()
        if body.startswith(OPENING):
            self._buffer = body
            self._function = FunctionTagReader()
            self._state = "function"
            return True
        if self._call_end is None or self._call_end not in self._buffer:
            return False
        body, _, self._buffer = self._buffer.partition(self._call_end)
        self._give_tagged(body, cut=False)
        self._state = "start"
        return True

    def _function_tag(self, *, ended: bool = False) -> bool:
        call = self._function.read(self._buffer, ended=ended)
        if call is not None:
            self._call(ReadCall(call.name, arguments_json(call.name, call.arguments, self._tools)))
            self._buffer = self._buffer[call.end :]
            self._state = "start"
            return True
        if self._function.possible:
            return False
        # It only began like one: its first character is text, the rest is looked at again.
        self._say(self._buffer[:1])
        self._buffer = self._buffer[1:]
        self._state = "prose"
        return True

    def _give_tagged(self, body: str, *, cut: bool) -> None:
        code_offered = CODE_INTERPRETER in self._tools
        scanner = CallScanner(None)
        calls = read_calls(scanner, self._tools, known_names_only=code_offered) if scanner.feed(body) else None
        if calls is None and code_offered and body.strip():
            calls = [ReadCall(CODE_INTERPRETER, code_json(body, cut=cut))]
        for call in calls or ():
            self._call(call)
        if calls is None:
            self._say(body)

    # --- the end ---

    def _finish_state(self) -> bool:
        """Give out what the state held back; returns whether text remains that another state must read."""
        if self._state == "function" and self._buffer:
            return self._finish_function()
        body, self._buffer = self._buffer, ""
        if self._state == "tagged":
            self._give_tagged(body, cut=self._stop == "length")
        elif self._state == "candidate" and self._scanner.feed(body[len(self._scanner.text) :]):
            calls = read_calls(self._scanner, self._tools)
            for call in calls or ():
                self._call(call)
            if calls is None:
                self._say(body)
        else:
            self._say(body)
        if not self._calls:
            blank, self._blank = self._blank, ""
            self._say(blank)
        return False

    def _finish_function(self) -> bool:
        if self._function_tag(ended=True):
            return True
        begun = self._function.cut(self._buffer)
        if begun is not None and begun[0] in self._tools:
            self._call(ReadCall(*begun))
        else:
            self._say(self._buffer)
        self._buffer = ""
        return False

    # --- what must wait ---

    def _held(self) -> int:
        """How many characters at the end of the buffer must wait: tokens of the end, and what may become a mark."""
        kept = len(self._buffer)
        at = self._buffer.rfind("<")
        tail = self._buffer[at:] if at >= 0 else ""
        if tail and any(len(mark) > len(tail) and mark.startswith(tail) for mark in (*self._marks, *self._ends)):
            kept = at
        return len(self._buffer) - kept + self._ends_held(kept)

    def _ends_held(self, kept: int) -> int:
        """How many of the first `kept` characters of the buffer are tokens of the end, at their end."""
        end = next((end for end in self._ends if self._buffer.endswith(end, 0, kept)), None)
        return 0 if end is None else len(end) + self._ends_held(kept - len(end))
