"""A chat from its first question to its end: lines in, turns out, and a person's word where a call wants it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import click

from llama_stack.api.agents import AgentEvent, ApprovalDecision, ToolCallFinished, TurnAwaitingInput
from llama_stack.api.messages import ToolCall
from llama_stack.api.tools import ToolDefinition
from llama_stack.cli.chat_files import keep_files
from llama_stack.cli.chat_input import ChatInput
from llama_stack.cli.chat_screen import ChatScreen, fitted, shown_history
from llama_stack.cli.lazy import nearest
from llama_stack.cli.printing import print_error, print_note, styled
from llama_stack.errors import StackError
from llama_stack.sdk.session import Question
from llama_stack.sdk.sync_agent import SyncAgentSession

COMMANDS = {
    "/help": "this list",
    "/tools": "what the agent may call",
    "/history": "what was said in this chat",
    "/resume": "go on with an answer that was stopped",
    "/new": "begin a new chat",
    "/quit": "leave; the chat is kept",
}
NOBODY_THERE = "nobody was there to ask"


class ChatLoop:
    """begin: opens the session at its first question. tools: what the agent may call, told when asked.

    files: the folder for what tools give beside words, with a folder of its own for each session.
    """

    def __init__(
        self,
        begin: Callable[[str], SyncAgentSession],
        tools: Callable[[], Sequence[ToolDefinition]],
        files: Path,
        session: SyncAgentSession | None = None,
    ) -> None:
        self._begin = begin
        self._tools = tools
        self._files = files
        self._session = session
        self._input = ChatInput()
        self._screen = ChatScreen(wraps=self._input.is_terminal)
        self.has_failed = False

    @property
    def is_terminal(self) -> bool:
        return self._input.is_terminal

    @property
    def has_session(self) -> bool:
        return self._session is not None

    def run(self) -> None:
        """Until /quit or the end of the input; Ctrl-C stops an answer, and at an empty line it leaves."""
        while True:
            try:
                line = self._input.ask("> ")
            except KeyboardInterrupt:
                click.echo()
                return
            if line is None or line.split()[:1] == ["/quit"]:
                if line is None and self._input.is_terminal:
                    click.echo()
                return
            if line.strip():
                self._handle(line.strip())

    def _handle(self, line: str) -> None:
        try:
            if line.startswith("/"):
                self._command(line)
            else:
                if self._session is None:
                    self._session = self._begin(line)
                self._turn(line)
        except StackError as error:
            self._screen.end_line()
            self.has_failed = True
            print_error(str(error))

    def _command(self, line: str) -> None:
        match line.split()[0]:
            case "/help":
                for name, meaning in COMMANDS.items():
                    click.echo(f"  {name:<10}{meaning}")
                click.echo("Ctrl-C stops an answer.")
            case "/tools":
                self._show_tools()
            case "/history":
                for shown in shown_history(self._session.turns if self._session else ()):
                    click.echo(shown)
            case "/resume":
                if self._session is None:
                    print_note("Nothing was said yet.")
                else:
                    self._turn(None)
            case "/new":
                self._session = None
                print_note("A new chat.")
            case unknown:
                print_note(f"There is no {unknown}. {nearest(unknown, COMMANDS)}")

    def _show_tools(self) -> None:
        tools = self._tools()
        for tool in tools:
            click.echo(f"  {styled(tool.name, fg='cyan')}  {fitted(tool.description or '')}")
        if not tools:
            click.echo("  none; start with --tools GROUP")

    def _turn(self, question: Question | None) -> None:
        """One turn to its end, through every pause for a person's word. Ctrl-C stops it and keeps the chat."""
        assert self._session is not None
        try:
            while True:
                waiting = self._shown(self._session.stream(question))
                if waiting is None:
                    break
                question = [self._decision(call) for call in waiting.approvals]
        except KeyboardInterrupt:
            self._screen.end_line()
            print_note("Stopped. Ask something else, or /resume.")
        if self._input.is_terminal:
            click.echo()

    def _shown(self, events: Iterator[AgentEvent]) -> TurnAwaitingInput | None:
        """The event of a turn that waits for a person; None for one that has ended."""
        last: AgentEvent | None = None
        with closing(events):  # type: ignore[type-var]  # a generator, though it is declared as an iterator
            for last in events:
                self._screen.show(last)
                if isinstance(last, ToolCallFinished):
                    self._keep_files(last)
        return last if isinstance(last, TurnAwaitingInput) and last.approvals else None

    def _keep_files(self, event: ToolCallFinished) -> None:
        assert self._session is not None
        try:
            for path in keep_files(event, self._files, self._session.session_id):
                self._screen.saved(path)
        except OSError as error:
            self._screen.note(f"its files could not be saved: {error}", mark="!", fg="yellow")

    def _decision(self, call: ToolCall) -> ApprovalDecision:
        self._screen.ask(call)
        while True:
            typed = self._input.ask("  Allow it? yes, no, or why not: ")
            word = NOBODY_THERE if typed is None else typed.strip()
            if word.lower() in ("y", "yes"):
                return ApprovalDecision(tool_call_id=call.id, approve=True)
            if word:
                reason = None if word.lower() in ("n", "no") else word
                return ApprovalDecision(tool_call_id=call.id, approve=False, reason=reason)
