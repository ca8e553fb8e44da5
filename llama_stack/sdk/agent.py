"""Agent: a model with instructions and tools, on any stack, in a few lines.

agent = Agent(stack, instructions="Answer briefly.", tools=[get_weather])
result = await agent.run("What is the weather in Bergen?")
print(result.text)
"""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypedDict, Unpack
from uuid import uuid4

from pydantic import BaseModel, ValidationError

from llama_stack.agents.functions import FunctionTool, tool_from_function
from llama_stack.agents.loop import resume_turn, run_turn
from llama_stack.agents.setup import AgentSetup
from llama_stack.agents.tools import Tool, Toolbox, tool_from_schema
from llama_stack.agents.transcript import history_of
from llama_stack.api.agents import (
    AgentConfig,
    AgentEvent,
    Budget,
    Step,
    StepCompleted,
    Turn,
    TurnAwaitingInput,
    TurnCompleted,
    TurnStarted,
)
from llama_stack.api.inference import ResponseFormat, Sampling
from llama_stack.api.messages import Message, ToolCall, ToolMessage, UserMessage, text_of
from llama_stack.api.tools import ToolChoice, ToolDefinition
from llama_stack.errors import Conflict, InvalidRequest
from llama_stack.sdk.requests import conversation, response_format, wrong_option

if TYPE_CHECKING:
    from llama_stack.sdk.stack import LlamaStack, SyncLlamaStack

ToolSource = Callable[..., Any] | FunctionTool | Tool | ToolDefinition
Question = str | UserMessage | Sequence[UserMessage | ToolMessage]


class AgentOptions(TypedDict, total=False):
    """What an agent is.

    model: default is the first language model of the stack. instructions: what it is told before everything else.
    tools: Python functions, or a ToolDefinition for one that you run yourself. tool_choice, sampling: as in a chat.
    response_format: the form of the final answer; a Pydantic model class asks for JSON of its shape.
    budget: what one turn may spend.
    """

    model: str
    instructions: str
    name: str
    tools: Sequence[ToolSource]
    tool_choice: ToolChoice
    sampling: Sampling
    response_format: ResponseFormat | type[BaseModel]
    budget: Budget


@dataclass(frozen=True)
class AgentResult:
    """What came of a question. `awaiting`: calls of your own tools; give their results to the session to go on."""

    turn: Turn
    awaiting: Sequence[ToolCall] = ()

    @property
    def text(self) -> str:
        """The answer; empty while the turn awaits results."""
        return "" if self.turn.output is None else text_of(self.turn.output.content)

    @property
    def steps(self) -> list[Step]:
        return self.turn.steps


class Agent:
    """An agent on a stack, local or connected. It keeps nothing between questions; a session does."""

    def __init__(self, stack: "LlamaStack", **options: Unpack[AgentOptions]) -> None:
        """Raises InvalidRequest for a wrong option, or for a function that cannot be a tool."""
        self._stack = stack
        given: dict[str, Any] = dict(options)
        self._toolbox = Toolbox(_tool(source) for source in given.pop("tools", ()))
        self._config = _config(given)

    async def run(self, question: Question) -> AgentResult:
        """Work through one question, in a session of its own."""
        return await self.session().run(question)

    def stream(self, question: Question) -> AsyncGenerator[AgentEvent, None]:
        """The same as it happens; the last event is TurnCompleted or TurnAwaitingInput."""
        return self.session().stream(question)

    def session(self) -> "AgentSession":
        """A conversation: each question is asked with those before it in mind."""
        return AgentSession(self)

    async def setup(self) -> AgentSetup:
        """What the loop runs this agent with."""
        config = self._config
        if config.model == _DEFAULT_MODEL:
            config = config.model_copy(update={"model": await self._stack.default_model()})
        return AgentSetup(self._stack.inference, config, self._stack.caller, self._toolbox)


class AgentSession:
    """One conversation with an agent; `turns` holds what has happened, oldest first."""

    def __init__(self, agent: Agent) -> None:
        self.session_id = f"session_{uuid4().hex}"
        self.turns: list[Turn] = []
        self._agent = agent
        self._is_running = False

    async def run(self, question: Question) -> AgentResult:
        """Ask, or give the results (ToolMessages) that the last turn awaits.

        Raises Conflict while a turn is running, InvalidRequest for a result that nobody awaits.
        """
        last: AgentEvent | None = None
        async with aclosing(self.stream(question)) as events:
            async for event in events:
                last = event
        if isinstance(last, TurnAwaitingInput):
            return AgentResult(last.turn, last.tool_calls)
        assert isinstance(last, TurnCompleted)
        return AgentResult(last.turn)

    async def stream(self, question: Question) -> AsyncGenerator[AgentEvent, None]:
        """The same as it happens. Closing it stops the work; the steps that were finished stay in the session."""
        if self._is_running:
            raise Conflict("a turn is running in this session; wait for its end or open another session")
        self._is_running = True
        try:
            async with aclosing(self._turn(question)) as events:
                async for event in events:
                    yield event
        finally:
            self._is_running = False

    async def _turn(self, question: Question) -> AsyncGenerator[AgentEvent, None]:
        messages = _input(question)
        results = [message for message in messages if isinstance(message, ToolMessage)]
        setup = await self._agent.setup()
        awaiting = self.turns[-1] if self.turns and self.turns[-1].end_reason is None else None
        if results:
            if awaiting is None or len(results) < len(messages):
                raise InvalidRequest("results of tools answer a turn that awaits them, and come without other messages")
            turn = awaiting.model_copy(update={"steps": list(awaiting.steps)})
            history = history_of(self.turns[:-1])
            events = resume_turn(setup, history, turn, results)
            self.turns.pop()
        else:
            if awaiting is not None:
                awaiting.end_reason = "interrupted"
            turn = Turn(turn_id="", session_id=self.session_id, input=messages, started_at=datetime.now(UTC))
            events = run_turn(setup, history_of(self.turns), messages, session_id=self.session_id)
        async with aclosing(self._kept(turn, events)) as kept:
            async for event in kept:
                yield event

    async def _kept(self, turn: Turn, events: AsyncGenerator[AgentEvent, None]) -> AsyncGenerator[AgentEvent, None]:
        """Pass the events on, and keep what was finished of the turn, however it ends."""
        is_under_way = False
        try:
            async with aclosing(events):
                async for event in events:
                    is_under_way = not isinstance(event, TurnCompleted | TurnAwaitingInput)
                    match event:
                        case TurnStarted():
                            turn.turn_id = event.turn_id
                        case StepCompleted():
                            turn.steps.append(event.step)
                        case TurnCompleted() | TurnAwaitingInput():
                            turn = event.turn
                    yield event
        finally:
            if is_under_way:
                turn.end_reason = "interrupted"
            if turn.steps:
                self.turns.append(turn)


class SyncAgent:
    """An Agent for code that does not await; arguments as there, with a SyncLlamaStack."""

    def __init__(self, stack: "SyncLlamaStack", **options: Unpack[AgentOptions]) -> None:
        self._stack = stack
        self._agent = Agent(stack.held, **options)

    def run(self, question: Question) -> AgentResult:
        """See Agent.run."""
        return self.session().run(question)

    def stream(self, question: Question) -> Iterator[AgentEvent]:
        """See Agent.stream."""
        return self.session().stream(question)

    def session(self) -> "SyncAgentSession":
        return SyncAgentSession(self._stack, self._agent.session())


class SyncAgentSession:
    """See AgentSession."""

    def __init__(self, stack: "SyncLlamaStack", session: AgentSession) -> None:
        self._stack = stack
        self._session = session

    @property
    def turns(self) -> list[Turn]:
        return self._session.turns

    def run(self, question: Question) -> AgentResult:
        """See AgentSession.run."""
        return self._stack.wait(self._session.run(question))

    def stream(self, question: Question) -> Iterator[AgentEvent]:
        """See AgentSession.stream."""
        return self._stack.iterate(self._session.stream(question))


_DEFAULT_MODEL = ""


def _config(options: dict[str, Any]) -> AgentConfig:
    if unknown := options.keys() - AgentOptions.__annotations__.keys():
        known = ", ".join(AgentOptions.__annotations__)
        raise InvalidRequest(f"{min(unknown)}: is no option of an agent; there are {known}", param=min(unknown))
    if "response_format" in options:
        options["response_format"] = response_format(options["response_format"])
    try:
        return AgentConfig(**{"model": _DEFAULT_MODEL, **options})
    except ValidationError as error:
        raise wrong_option(error) from error


def _tool(source: ToolSource) -> Tool:
    if isinstance(source, Tool):
        return source
    return tool_from_schema(source) if isinstance(source, ToolDefinition) else tool_from_function(source)


def _input(question: Question) -> list[UserMessage | ToolMessage]:
    messages: list[UserMessage | ToolMessage] = []
    given: list[Message] = conversation(question)
    for message in given:
        if not isinstance(message, UserMessage | ToolMessage):
            raise InvalidRequest(f"a turn begins with what the user says, not with a message of role {message.role!r}")
        messages.append(message)
    return messages
