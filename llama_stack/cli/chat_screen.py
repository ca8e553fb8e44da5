"""What a person sees of a turn: the answer as it is made, and one line for everything the agent does on the way."""

import json
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from llama_stack.api.agents import (
    AgentEvent,
    InferenceStep,
    MemoryRetrievalStep,
    ShieldCallStep,
    StepCompleted,
    StepProgress,
    ToolCallFinished,
    ToolCallStarted,
    Turn,
    TurnCompleted,
    TurnEndReason,
)
from llama_stack.api.inference import ReasoningDelta, RefusalDelta, TextDelta
from llama_stack.api.messages import Content, TextPart, ToolCall, text_of
from llama_stack.cli.chat_sources import named_sources, quoted_sources
from llama_stack.cli.printing import styled

RESULT_LINES = 6
MAX_VALUE_CHARS = 60
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_DIRECTION = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_ENDS: dict[TurnEndReason, str] = {
    "max_infer_iters": "the limit of model calls was reached",
    "max_tool_calls": "the limit of tool calls was reached",
    "max_tokens": "the limit of tokens was reached",
    "max_seconds": "the time was up",
    "interrupted": "it was stopped",
}


class ChatScreen:
    """Writes a turn to stdout. Text goes out as it comes; every note about it stands on a line of its own."""

    def __init__(self, *, wraps: bool = False) -> None:
        """wraps: lines break between words at the terminal's edge, which a word waits for; a pipe gets them whole."""
        self._wraps = wraps
        self._flow = Flow(None)
        self._in_line = False
        self._said = ""
        self._started: dict[str, float] = {}

    def show(self, event: AgentEvent) -> None:
        match event:
            case StepProgress(event=TextDelta(text=text) | RefusalDelta(text=text)):
                self._said += text
                self._write(text)
            case StepProgress(event=ReasoningDelta(text=text)):
                self._write(text, dim=True)
            case ToolCallStarted():
                self._started[event.tool_call.id] = time.monotonic()
                self.note(shown_call(event.tool_call), mark="*", fg="cyan")
            case ToolCallFinished():
                self._result(event)
            case StepCompleted(step=ShieldCallStep(violation=violation) as step) if violation is not None:
                self.note(f"{step.shield}: {violation.user_message or violation.level.value}", mark="!", fg="yellow")
            case StepCompleted(step=MemoryRetrievalStep() as step):
                self.note(_found(step), mark="*", fg="cyan")
            case StepCompleted(step=InferenceStep(messages_left_out=count)) if count:
                self.note(
                    f"left out {count} of the oldest messages: the model's window is too small", mark="!", dim=True
                )
            case TurnCompleted():
                self._end(event.turn)
            case _:
                pass

    def note(self, text: str, *, mark: str, **style: object) -> None:
        """A line beside the conversation; `mark` says what kind it is, with or without colours."""
        self.end_line()
        click.echo(styled(f"  {mark} {fitted(text)}", **style))

    def saved(self, file: Path) -> None:
        """Where a picture or file of a tool is now: whole, so that it can be copied and opened."""
        self.end_line()
        click.echo(styled(f"  + {printable(str(file))}", fg="cyan"))

    def ask(self, call: ToolCall) -> None:
        """A call that waits for a person's word, with all that is in it: who agrees has seen what to."""
        style: dict[str, Any] = {"fg": "yellow", "bold": True}
        opening = "The agent wants to call"
        line = f"{opening} {shown_call(call)}"
        arguments = _arguments(call)
        if arguments is None or (_is_short(arguments) and printable(line) == fitted(line)):
            self.end_line()
            click.echo(styled(f"  ? {_plain(line)}", **style))
            return
        self.note(f"{opening} {call.name}(", mark="?", **style)
        for name, value in arguments.items():
            first, *rest = _value_lines(value)
            click.echo(styled(_plain(f"      {name} = {first}"), **style))
            for more in rest:
                click.echo(styled(_plain(f"        {more}"), **style))
        click.echo(styled("    )", **style))

    def end_line(self) -> None:
        if self._in_line:
            click.echo(self._flow.end())
        self._in_line = False

    def _write(self, text: str, **style: object) -> None:
        if text := printable(text):
            if not self._in_line:
                # Looked at anew with each line: the window may have another size by now.
                self._flow.width = shutil.get_terminal_size().columns if self._wraps else None
            self._in_line = not text.endswith("\n")
            text = self._flow.feed(text)
            click.echo(styled(text, **style) if style else text, nl=False)

    def _result(self, event: ToolCallFinished) -> None:
        started = self._started.pop(event.result.tool_call_id, None)
        took = f"  ({time.monotonic() - started:.1f} s)" if started is not None else ""
        name = f"{event.result.name}: " if self._started else ""  # several run side by side
        lines = _lines(event.result.content)
        colour = "red" if event.is_error else None
        self.note(f"{name}{lines[0]}{took}", mark="=", fg=colour, dim=not event.is_error)
        for line in lines[1:RESULT_LINES]:
            click.echo(styled(f"    {fitted(line)}", fg=colour, dim=not event.is_error))
        if len(lines) > RESULT_LINES:
            click.echo(styled(f"    ... {len(lines) - RESULT_LINES} more lines", dim=True))

    def _end(self, turn: Turn) -> None:
        text = "" if turn.output is None else text_of(turn.output.content)
        if text and not self._said.endswith(text):
            # What a shield says, or the loop itself, was not streamed by any model.
            self.end_line()
            self._write(text)
        self.end_line()
        self._said = ""
        if text and (sources := named_sources(turn)):
            self.note(sources, mark="*", fg="cyan")
            for line in quoted_sources(turn):
                click.echo(styled(printable(line), dim=True))
        if turn.end_reason in _ENDS:
            self.note(f"The answer ends here: {_ENDS[turn.end_reason]}.", mark="!", fg="yellow")


class Flow:
    """Text in lines of at most `width` characters, broken between words; None leaves it as it is."""

    def __init__(self, width: int | None) -> None:
        self.width = width
        self._column = 0
        self._gap = ""
        self._word = ""

    def feed(self, text: str) -> str:
        if self.width is None:
            return text
        out = ""
        for character in text:
            if not character.isspace():
                self._word += character
                continue
            out += self._placed()
            if character == "\n":
                out += "\n"
                self._column, self._gap = 0, ""
            else:
                self._gap += character
        return out

    def end(self) -> str:
        """The word that was waited with; the line ends after it."""
        rest = self._placed()
        self._column, self._gap = 0, ""
        return rest

    def _placed(self) -> str:
        if not self._word:
            return ""
        piece = self._gap + self._word
        breaks = self.width is not None and self._column > 0 and self._column + len(piece) > self.width
        piece = self._word if breaks else piece
        self._column = len(piece) if breaks else self._column + len(piece)
        self._gap = self._word = ""
        return f"\n{piece}" if breaks else piece


def _found(step: MemoryRetrievalStep) -> str:
    count = len(step.chunks)
    return f"found {count} {'passage' if count == 1 else 'passages'} in {', '.join(step.memory_banks)}"


def shown_call(call: ToolCall) -> str:
    """A call as a person writes it: name(key="value", ...), with long values cut."""
    arguments = _arguments(call)
    if arguments is None:
        return f"{call.name}({call.arguments})"
    return f"{call.name}({', '.join(f'{name}={_shortened(value)}' for name, value in arguments.items())})"


def _arguments(call: ToolCall) -> dict[str, Any] | None:
    """None where the model wrote none that can be read."""
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError:
        return None
    return arguments if isinstance(arguments, dict) else None


def _is_short(arguments: dict[str, Any]) -> bool:
    return all(len(_as_json(value)) <= MAX_VALUE_CHARS for value in arguments.values())


def _value_lines(value: object) -> list[str]:
    """A text of several lines as it will be read, such as code; anything else as JSON."""
    lines = value.splitlines() if isinstance(value, str) else []
    return ["", *lines] if len(lines) > 1 else [_as_json(value)]


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def shown_history(turns: Sequence[Turn]) -> list[str]:
    """A session as lines: who said what, and which tools were called."""
    lines: list[str] = []
    for turn in turns:
        said = " ".join(text_of(message.content) for message in turn.input if message.role == "user")
        lines.append(styled(f"> {fitted(' '.join(said.split()))}", bold=True))
        for step in turn.steps:
            if isinstance(step, InferenceStep):
                lines += [styled(f"  * {fitted(shown_call(call))}", fg="cyan") for call in step.message.tool_calls]
        if turn.output is not None:
            lines.append(printable(text_of(turn.output.content)))
            if sources := named_sources(turn):
                lines.append(styled(f"  * {fitted(sources)}", fg="cyan"))
        elif turn.end_reason is None:
            lines.append(styled("  ! (not finished)", fg="yellow"))
    return lines


def _shortened(value: object) -> str:
    text = _as_json(value)
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[: MAX_VALUE_CHARS - 4]}...{text[-1]}"


def printable(text: str) -> str:
    """Without the control characters by which a model or a tool could move the cursor or recolour the screen."""
    return _CONTROL.sub("", text)


def _plain(text: str) -> str:
    """Printable, and in the order it stands in: marks that turn the direction of writing are shown as their codes."""
    return _DIRECTION.sub(lambda mark: f"\\u{ord(mark[0]):04x}", printable(text))


def fitted(line: str) -> str:
    """The line cut to the terminal's width, room left for the mark before it."""
    line = printable(line)
    room = max(20, shutil.get_terminal_size().columns - 5)
    return line if len(line) <= room else f"{line[: room - 3]}..."


def _lines(content: Content) -> list[str]:
    if isinstance(content, str):
        text = content
    else:
        parts = [part.text if isinstance(part, TextPart) else f"[{part.type}]" for part in content]
        text = "\n".join(parts)
    return [line for line in text.splitlines() if line.strip()] or ["(nothing)"]
