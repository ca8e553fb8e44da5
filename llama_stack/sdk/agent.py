"""Agent: a model with instructions and tools, on any stack, in a few lines.

agent = Agent(stack, instructions="Answer briefly.", tools=[get_weather])
result = await agent.run("What is the weather in Bergen?")
print(result.text)
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, Unpack

from pydantic import BaseModel, ValidationError

from llama_stack.agents.delegation import delegating_tool
from llama_stack.agents.functions import FunctionTool, tool_from_function
from llama_stack.agents.handoff import check_names
from llama_stack.agents.opening import STACKS_OWN, Member, Surroundings, open_setup, transfers_of
from llama_stack.agents.setup import AgentSetup
from llama_stack.agents.tools import Tool, Toolbox, tool_from_schema
from llama_stack.api.agents import AgentConfig, AgentEvent, ApprovalDecision, Budget, Session, ToolGroupUse, Turn
from llama_stack.api.inference import ReasoningEffort, ResponseFormat, Sampling
from llama_stack.api.messages import ToolCall
from llama_stack.api.tools import ToolChoice, ToolDefinition
from llama_stack.errors import InvalidRequest
from llama_stack.sdk.conversations import MemoryConversation
from llama_stack.sdk.loop_thread import LoopThread
from llama_stack.sdk.requests import response_format, wrong_option
from llama_stack.sdk.session import AgentResult, AgentSession, Approver, Question, decided_by

if TYPE_CHECKING:
    from llama_stack.sdk.keeping import Keeper
    from llama_stack.sdk.stack import LlamaStack

ToolSource = Callable[..., Any] | FunctionTool | Tool | ToolDefinition


class AgentOptions(TypedDict, total=False):
    """What an agent is.

    model: default is the first language model of the stack. instructions: what it is told before everything else.
    name: by which it is kept, handed to and called; description: what it is for, as other agents are told.
    tools: Python functions, other agents `as_tool()`, or a ToolDefinition for one that you run yourself.
    tool_groups: of the stack, by id or as a ToolGroupUse. approval: which calls wait for a person's word: "always",
    "never" beyond what a tool itself says, or names of tools. on_approval: asked at each such call instead of pausing.
    handoffs: agents that the conversation may be handed to. memory_banks: searched with each question.
    input_shields judge the user's words, output_shields the answer and the calls, tool_shields the tools' results.
    tool_choice, parallel_tool_calls, sampling, reasoning_effort: as in a chat.
    response_format: the form of the final answer; a Pydantic model class asks for JSON of its shape.
    truncation: "auto" leaves out the oldest messages that do not fit the model's window, "disabled" raises instead.
    budget: what one turn may spend.
    """

    model: str
    instructions: str
    name: str
    description: str
    tools: Sequence[ToolSource]
    tool_groups: Sequence[str | ToolGroupUse]
    tool_choice: ToolChoice
    parallel_tool_calls: bool
    approval: Literal["never", "always"] | Sequence[str]
    on_approval: Approver
    handoffs: "Sequence[Agent | HoldsAgent]"
    input_shields: Sequence[str]
    output_shields: Sequence[str]
    tool_shields: Sequence[str]
    memory_banks: Sequence[str]
    sampling: Sampling
    reasoning_effort: ReasoningEffort
    response_format: ResponseFormat | type[BaseModel]
    truncation: Literal["auto", "disabled"]
    budget: Budget


class HoldsAgent(Protocol):
    """A face of an agent, such as SyncAgent."""

    @property
    def held(self) -> "Agent": ...


class Agent:
    """An agent on a stack, local or connected. It keeps nothing between questions; a session does.

    handoffs: agents that the conversation may be handed to; two that hand over to each other are appended afterwards.
    """

    def __init__(self, stack: "LlamaStack", **options: Unpack[AgentOptions]) -> None:
        """Raises InvalidRequest for a wrong option, or for a function that cannot be a tool."""
        if isinstance(stack, LoopThread):
            raise InvalidRequest(
                "Agent awaits, and this stack was opened by a plain `with`: use SyncAgent", param="stack"
            )
        given: dict[str, Any] = dict(options)
        self.handoffs: list[Agent | HoldsAgent] = list(given.pop("handoffs", ()))
        self._stack = stack
        self._on_approval: Approver | None = given.pop("on_approval", None)
        approval = given.pop("approval", "never")
        tools = [tool_from(source) for source in given.pop("tools", ())]
        client_tools = [tool.definition for tool in tools if tool.run is None]
        Toolbox(tools)  # two of one name are refused at once
        self._functions = [_with_approval(tool, approval) for tool in tools if tool.run is not None]
        self._config = _config({**given, "client_tools": client_tools}, approval)
        self._keeper: Keeper | None = None

    @property
    def name(self) -> str | None:
        return self._config.name

    @property
    def description(self) -> str:
        return self._config.description

    @property
    def config(self) -> AgentConfig:
        """What it is, without what only this process knows. The model is empty where the stack chooses it."""
        return self._config

    async def run(self, question: Question) -> AgentResult:
        """Work through one question, in a session of its own."""
        return await self.session().run(question)

    def stream(self, question: Question) -> AsyncGenerator[AgentEvent, None]:
        """The same as it happens; the last event is TurnCompleted or TurnAwaitingInput."""
        return self.session().stream(question)

    def session(self) -> AgentSession:
        """A conversation: each question is asked with those before it in mind. It ends with this process."""
        return AgentSession(MemoryConversation(self), self._on_approval)

    # --- kept by the stack -----------------------------------------------------------------------------------------

    async def open_session(self, name: str | None = None, *, session_id: str | None = None) -> AgentSession:
        """A conversation that the stack keeps, step by step: it is there after a restart.

        name: the agent's session of this name, begun where there is none yet, so that the same lines of a program
        go on where they stopped. session_id: a session there is. Neither: a new one.
        The agent is kept under its `name`, and what it is then follows this program; without a name, under exactly
        what it is now. Functions stay in this process: a session is gone on with where they are.
        Agents that the conversation may be handed to are kept likewise. Raises NotFound for an unknown session_id.
        """
        keeper = await self._kept()
        return AgentSession(await keeper.conversation(name, session_id), self._on_approval)

    async def sessions(self) -> list[Session]:
        """The sessions of this agent that the stack keeps, oldest first, without their turns."""
        return await (await self._kept()).sessions()

    async def delete_session(self, session_id: str) -> None:
        """Delete a session with all that was said in it. Raises NotFound."""
        await (await self._kept()).delete_session(session_id)

    async def _kept(self) -> "Keeper":
        if self._keeper is None:
            # The store is a database: an agent that keeps nothing does not wait for its library.
            from llama_stack.sdk.keeping import Keeper

            agents = await self._stack.agents()
            me, team = await self._team()
            self._keeper = await Keeper.of(agents, me, team, self._stack.caller, self._window)
        return self._keeper

    # --- together with others --------------------------------------------------------------------------------------

    def as_tool(self, *, name: str | None = None, description: str | None = None, needs_approval: bool = False) -> Tool:
        """This agent as a tool of another: it is given a message, works on it in a session of its own, and its answer
        is the result. It spends its own budget; its steps stand in the metadata of the result. Where it awaits a
        person's word or a result of your own tools, the turn around it awaits that, by ids like `call_1/call_0`.

        Raises InvalidRequest without a name here or in the agent's options.
        """
        known_as = name or self._config.name
        if not known_as:
            raise InvalidRequest("name: an agent that is a tool needs a name: as_tool(name=...)", param="name")
        told = (
            description or self._config.description or f"Ask {known_as}, an assistant of its own, and get its answer."
        )

        async def open_inner(session_id: str, under_way: Turn | None) -> AgentSetup:
            return await self.setup(session_id, [], under_way)

        async def decide(calls: Sequence[ToolCall]) -> list[ApprovalDecision]:
            return await decided_by(self._on_approval, calls)

        return delegating_tool(known_as, told, open_inner, needs_approval=needs_approval, decide=decide)

    # --- what a turn is run with -----------------------------------------------------------------------------------

    async def setup(self, session_id: str, turns: Sequence[Turn], under_way: Turn | None = None) -> AgentSetup:
        """What the loop runs the turn after `turns` with."""
        me, team = await self._team()
        needs_stack = any(getattr(member.config, wanted) for member in (me, *team) for wanted in STACKS_OWN)
        served = self._stack.served if needs_stack else None
        where = Surroundings(self._stack.inference, served, self._stack.memory.service, self._window)
        return await open_setup(
            where,
            me.config,
            self._stack.caller,
            session_id=session_id,
            own_tools=[*me.own_tools, *transfers_of(me, team)],
            team=team,
            turns=turns,
            under_way=under_way,
        )

    async def _window(self, model: str) -> int | None:
        return (await self._stack.model(model)).context_length

    async def _team(self) -> tuple[Member, list[Member]]:
        """This agent, and every agent that its conversation may come to be answered by, itself among them."""
        if not self.handoffs:
            return await self._member(), []
        found: list[Agent] = [self]
        for agent in found:
            found.extend(other for other in agent._others() if other not in found)
        members = [await agent._member() for agent in found]
        check_names([member.name for member in members])
        return members[0], members

    def _others(self) -> "list[Agent]":
        return [other if isinstance(other, Agent) else other.held for other in self.handoffs]

    async def _member(self) -> Member:
        config = self._config
        if config.model == _DEFAULT_MODEL:
            config = config.model_copy(update={"model": await self._stack.default_model()})
        hands_to = [other.name or "" for other in self._others()]
        return Member(config.name or "", config, config.description, self._functions, hands_to)


_DEFAULT_MODEL = ""
_OWN_OPTIONS = ("client_tools",)


def _config(options: dict[str, Any], approval: Any) -> AgentConfig:
    known = AgentOptions.__annotations__
    if unknown := options.keys() - known.keys() - {*_OWN_OPTIONS}:
        raise InvalidRequest(
            f"{min(unknown)}: is no option of an agent; there are {', '.join(known)}", param=min(unknown)
        )
    if "response_format" in options:
        options["response_format"] = response_format(options["response_format"])
    try:
        config = AgentConfig.model_validate({"model": _DEFAULT_MODEL, **options})
        groups = [_group_with_approval(use, approval) for use in config.tool_groups]
        return config.model_copy(update={"tool_groups": groups})
    except ValidationError as error:
        raise wrong_option(error) from error


def _group_with_approval(use: ToolGroupUse, approval: Any) -> ToolGroupUse:
    """What a use says of approval itself goes before what its agent says."""
    if use.approval != "never" or approval == "never":
        return use
    return ToolGroupUse(**{**dict(use), "approval": approval if approval == "always" else list(approval)})


def _with_approval(tool: Tool, approval: Any) -> Tool:
    is_wanted = approval == "always" or (approval != "never" and tool.definition.name in approval)
    return replace(tool, needs_approval=True) if is_wanted else tool


def tool_from(source: ToolSource) -> Tool:
    """A tool from what an application gives as one. Raises InvalidRequest for what can be none."""
    if isinstance(source, Tool):
        return source
    if not callable(source) and not isinstance(source, ToolDefinition):
        raise InvalidRequest(
            f"tools: {source!r} is neither a function nor a ToolDefinition; groups of the stack, such as "
            "'builtin::websearch', go into tool_groups",
            param="tools",
        )
    return tool_from_schema(source) if isinstance(source, ToolDefinition) else tool_from_function(source)
