"""A terminal agent on the embedded model: it chooses tools, calls them, and answers from what they return.

    python examples/first_agent.py                      # on a server: llama stack run starter
    python examples/first_agent.py --in-process         # without one
    python examples/first_agent.py --ask "What is 12 times 9?"
    python examples/first_agent.py --chat

Every line is shown as it happens: what was asked, which tool the model called with what, what the tool returned, and
the answer. Nothing is scripted; the exit status is 1 when a question was not answered as it should have been.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from examples.calculator import calculate
from examples.knowledge_search import Knowledge
from llama_stack import LlamaStack, Sampling, StackError, SyncAgent, SyncAgentSession
from llama_stack.api.agents import (
    AgentEvent,
    StepCompleted,
    StepProgress,
    ToolCallFinished,
    ToolCallStarted,
    TurnCompleted,
)
from llama_stack.api.inference import TextDelta
from llama_stack.api.messages import text_of

# Example data, not a weather report.
WEATHER = {
    "bergen": "rain, 9 degrees",
    "cairo": "sunny, 33 degrees",
    "lisbon": "sunny, 21 degrees",
    "nairobi": "cloudy, 24 degrees",
    "oslo": "snow, -2 degrees",
    "tokyo": "windy, 17 degrees",
}


def get_weather(city: str) -> str:
    """Get the current weather in a city.

    Args:
        city: City name
    """
    if city.lower() not in WEATHER:
        raise ValueError(f"no weather for {city}; there is {', '.join(WEATHER)}")
    return f"The weather in {city} is {WEATHER[city.lower()]}."


def set_timer(minutes: int) -> str:
    """Start a timer.

    Args:
        minutes: How many minutes
    """
    if not 1 <= minutes <= 24 * 60:
        raise ValueError("the timer takes 1 to 1440 minutes")
    return f"Timer set for {minutes} minutes."


@dataclass(frozen=True)
class Question:
    """tool: the one that must be called, None for none. must_hold: what the answer must contain."""

    text: str
    tool: str | None
    must_hold: str = ""


QUESTIONS = [
    Question("What is 12 times 9?", "calculate", "108"),
    Question("Which port does the server listen on?", "knowledge_search", "8321"),
    Question("What is the weather in Lisbon?", "get_weather", "21"),
    Question("Set a timer for 5 minutes", "set_timer", "5 minutes"),
    Question("hello", None),
]


class Terminal:
    """Prints the steps of a turn as they happen; in colour only where somebody looks."""

    def __init__(self) -> None:
        self._in_colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._is_answering = False

    def say(self, text: str, style: str = "0", *, end: str = "\n") -> None:
        print(f"\033[{style}m{text}\033[0m" if self._in_colour and text else text, end=end, flush=True)

    def ask(self, session: SyncAgentSession, question: str) -> tuple[str, list[str]]:
        """Ask, and print what happens. Returns the answer and the names of the tools that were called."""
        called: list[str] = []
        answer = ""
        for event in session.stream(question):
            self.show(event)
            if isinstance(event, ToolCallStarted):
                called.append(event.tool_call.name)
            elif isinstance(event, TurnCompleted) and event.turn.output is not None:
                answer = text_of(event.turn.output.content)
        return answer, called

    def show(self, event: AgentEvent) -> None:
        match event:
            case StepProgress(event=TextDelta(text=text)):
                self.say(text if self._is_answering else f"agent  {text}", "32", end="")
                self._is_answering = True
            case StepCompleted() if self._is_answering:
                self.say("")
                self._is_answering = False
            case ToolCallStarted(tool_call=call):
                self.say(f"call   {call.name}({call.arguments})", "36")
            case ToolCallFinished(result=result, is_error=is_error):
                indented = text_of(result.content).replace("\n", "\n       ")
                self.say(f"result {indented}", "31" if is_error else "2")
            case TurnCompleted(turn=turn) if turn.end_reason != "completed":
                self.say(f"       (the turn was ended by {turn.end_reason})", "31")


def work_through(agent: SyncAgent, terminal: Terminal, questions: list[Question]) -> int:
    """Ask each question in a session of its own. Returns how many were not answered as they should have been."""
    rows: list[tuple[str, Question, float]] = []
    for question in questions:
        started = time.perf_counter()
        terminal.say(f"you    {question.text}", "1")
        answer, called = terminal.ask(agent.session(), question.text)
        seconds = time.perf_counter() - started
        good = called == ([question.tool] if question.tool else []) and answer and question.must_hold in answer
        rows.append(("ok" if good else "FAILED", question, seconds))
        print()
    for verdict, question, seconds in rows:
        shown = f"{verdict:<7}{seconds * 1000:>6.0f} ms  {question.tool or 'no tool':<17} {question.text}"
        terminal.say(shown, "32" if verdict == "ok" else "31")
    failed = sum(verdict != "ok" for verdict, _, _ in rows)
    print(f"{len(rows) - failed} of {len(rows)} questions answered in {sum(row[2] for row in rows):.1f} s")
    return failed


def chat(session: SyncAgentSession, terminal: Terminal) -> None:
    print("Ask about sums, the documents, the weather or a timer; an empty line ends.\n")
    while question := input("you    ").strip():
        try:
            terminal.ask(session, question)
        except StackError as error:
            terminal.say(f"error  {error}", "31")
        print()


def main(arguments: argparse.Namespace) -> int:
    terminal = Terminal()
    if arguments.in_process:
        opening = LlamaStack.open("starter", model=arguments.model)
    else:
        opening = LlamaStack.connect(arguments.url)
    with opening as stack:
        tools: list[Callable[..., str]] = [get_weather, set_timer, calculate, Knowledge(stack).knowledge_search]
        agent = SyncAgent(stack, tools=tools, sampling=Sampling(temperature=0, max_tokens=200))
        if arguments.chat:
            chat(agent.session(), terminal)
            return 0
        if arguments.ask:
            terminal.say(f"you    {arguments.ask}", "1")
            answer, _ = terminal.ask(agent.session(), arguments.ask)
            return 0 if answer else 1
        print(f"{stack.default_model()} answers, with {len(tools)} tools to choose from\n")
        return 1 if work_through(agent, terminal, QUESTIONS) else 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="with --in-process: a GGUF in place of the shipped model, by path or hf: id")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--url", default="http://localhost:8321", help="a served stack (default: %(default)s)")
    place.add_argument("--in-process", action="store_true", help="open the starter distribution in this process")
    task = parser.add_mutually_exclusive_group()
    task.add_argument("--ask", metavar="QUESTION", help="a question of your own")
    task.add_argument("--chat", action="store_true", help="talk to the agent")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main(parsed()))
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except (KeyboardInterrupt, EOFError):
        print()
