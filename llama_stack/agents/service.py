"""Agents that are kept: configs, sessions and turns as rows, and the loop run over them.

Whatever a turn hands out is stored before the loop goes on, so a process that dies loses nothing that was finished:
`resume_turn` takes the turn up after its last stored step.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing

from llama_stack.agents.checking import check_config
from llama_stack.agents.documents import bank_of, forget, searching, taken_in, with_files
from llama_stack.agents.handoff import transfer_tool
from llama_stack.agents.loop import begin_turn, new_turn, resume_turn
from llama_stack.agents.opening import Member, Surroundings, open_setup, transfers_of
from llama_stack.agents.setup import AgentSetup
from llama_stack.agents.teams import check_handoffs, kept_team
from llama_stack.agents.tools import Tool
from llama_stack.agents.transcript import history_of, is_refused
from llama_stack.api.agents import (
    AgentConfig,
    AgentEvent,
    AgentRecord,
    ApprovalDecision,
    InferenceStep,
    Session,
    StepCompleted,
    ToolOutcome,
    Turn,
    TurnAwaitingInput,
    TurnCompleted,
    TurnSettings,
)
from llama_stack.api.common import Caller, Page
from llama_stack.api.memory import Document
from llama_stack.api.messages import ToolMessage, UserMessage
from llama_stack.api.stack import ServedStack
from llama_stack.errors import NotFound, StackError
from llama_stack.storage import AgentStore, OpenTurn, Work

SESSIONS_A_PAGE = 100


class AgentService:
    """Fulfils `api.agents.Agents` over a store.

    own_tools: functions of this process that every agent run through this service may call. team: agents that the
    conversations held through this service may be handed to, in place of those that an agent's config names.
    """

    def __init__(
        self, stack: ServedStack, store: AgentStore, own_tools: Sequence[Tool] = (), team: Sequence[Member] = ()
    ) -> None:
        self._stack = stack
        self._store = store
        self._own_tools = own_tools
        self._team = team

    def with_own(self, tools: Sequence[Tool], team: Sequence[Member] = ()) -> "AgentService":
        """The same agents and sessions, whose turns have these functions and this team."""
        return AgentService(self._stack, self._store, tools, team)

    # --- agents and sessions ---------------------------------------------------------------------------------------

    async def create_agent(self, config: AgentConfig, caller: Caller) -> AgentRecord:
        await self._check(config, caller)
        return await self._store.create_agent(config, caller)

    async def _check(self, config: AgentConfig, caller: Caller) -> None:
        """Refuse a config that names what there is not. What cannot be reached just now is found out by its turns."""
        members = await check_handoffs(self._store, config, caller)
        transfers = [transfer_tool(name) for name in members]
        further = [tool.definition.name for tool in [*self._own_tools, *transfers]]
        await check_config(self._stack, config, caller, further=further)

    async def agent(self, agent_id: str, caller: Caller) -> AgentRecord:
        return await self._store.agent(agent_id, caller)

    async def list_agents(self, caller: Caller, *, limit: int = 100, after: str | None = None) -> Page[AgentRecord]:
        return await self._store.agents(caller, limit=limit, after=after)

    async def update_agent(self, agent_id: str, config: AgentConfig, caller: Caller) -> AgentRecord:
        await self._check(config, caller)
        return await self._store.update_agent(agent_id, config, caller)

    async def delete_agent(self, agent_id: str, caller: Caller) -> None:
        sessions: list[str] = []
        after: str | None = None
        while True:
            page = await self._store.sessions(agent_id, caller, limit=SESSIONS_A_PAGE, after=after)
            sessions.extend(session.session_id for session in page.entries)
            after = page.next_after
            if after is None:
                break
        await self._store.delete_agent(agent_id, caller)
        await forget(self._stack, sessions, caller)

    async def create_session(self, agent_id: str, name: str, caller: Caller) -> Session:
        return await self._store.create_session(agent_id, name, caller)

    async def session(self, agent_id: str, session_id: str, caller: Caller) -> Session:
        return await self._store.session(agent_id, session_id, caller)

    async def list_sessions(
        self, agent_id: str, caller: Caller, *, limit: int = 100, after: str | None = None, name: str | None = None
    ) -> Page[Session]:
        await self._store.agent(agent_id, caller)
        return await self._store.sessions(agent_id, caller, limit=limit, after=after, name=name)

    async def delete_session(self, agent_id: str, session_id: str, caller: Caller) -> None:
        await self._store.delete_session(agent_id, session_id, caller)
        await forget(self._stack, [session_id], caller)

    async def turn(self, agent_id: str, session_id: str, turn_id: str, caller: Caller) -> Turn:
        session = await self._store.session(agent_id, session_id, caller)
        for turn in session.turns:
            if turn.turn_id == turn_id:
                return turn
        raise NotFound(f"session {session_id!r} has no turn {turn_id!r}", param="turn_id")

    # --- turns -----------------------------------------------------------------------------------------------------

    async def create_turn(
        self,
        agent_id: str,
        session_id: str,
        messages: list[UserMessage | ToolMessage],
        caller: Caller,
        *,
        settings: TurnSettings | None = None,
        turn_id: str | None = None,
        documents: list[Document] | None = None,
    ) -> AsyncGenerator[AgentEvent, None]:
        record, session = await self._store.agent_and_session(agent_id, session_id, caller)
        earlier = [other.settings for other in session.turns]
        messages = await with_files(self._stack, record.config.model, messages, caller)
        if documents:
            messages, is_remembered = await taken_in(self._stack, session_id, messages, documents, caller)
            earlier += [TurnSettings(memory_banks=[bank_of(session_id)])] if is_remembered else []
        settings = searching(session_id, record.config, settings, earlier)
        turn = new_turn(messages, session_id=session_id, turn_id=turn_id, settings=settings)
        setup = await self.setup(record, turn.settings, caller, session_id, session.turns)
        async with AsyncExitStack() as exits:
            held = await exits.enter_async_context(self._store.open_turn(turn, caller))
            said = session.turns
            if held.turns_before != len(said) or any(other.end_reason is None for other in said):
                # The session went on while documents were read and tools were listed.
                said = await self._turns_before(agent_id, turn, caller)
                setup = await self.setup(record, turn.settings, caller, session_id, said)
            events = begin_turn(setup, history_of(said), turn)
            try:
                async with aclosing(kept(events, held)) as stored:
                    async for event in stored:
                        yield event
            except StackError as error:
                if is_refused(error, held.turn):
                    await held.withdraw()
                raise

    async def _turns_before(self, agent_id: str, turn: Turn, caller: Caller) -> list[Turn]:
        session = await self._store.session(agent_id, turn.session_id, caller)
        return [other for other in session.turns if other.turn_id != turn.turn_id]

    async def resume_turn(
        self,
        agent_id: str,
        session_id: str,
        turn_id: str,
        caller: Caller,
        *,
        results: list[ToolMessage] | None = None,
        decisions: list[ApprovalDecision] | None = None,
        outcomes: list[ToolOutcome] | None = None,
    ) -> AsyncGenerator[AgentEvent, None]:
        record, session = await self._store.agent_and_session(agent_id, session_id, caller)
        async with AsyncExitStack() as exits:
            held = await exits.enter_async_context(self._store.reopen_turn(session_id, turn_id, caller))
            turn = held.turn
            earlier = [other for other in session.turns if other.turn_id != turn_id]
            setup = await self.setup(record, turn.settings, caller, session_id, earlier, turn)
            events = resume_turn(setup, history_of(earlier), turn, results or (), decisions or (), outcomes or ())
            async with aclosing(kept(events, held)) as stored:
                async for event in stored:
                    yield event

    async def setup(
        self,
        record: AgentRecord,
        settings: TurnSettings,
        caller: Caller,
        session_id: str,
        turns: Sequence[Turn] = (),
        under_way: Turn | None = None,
    ) -> AgentSetup:
        """What the turn after `turns` is run with, be it new or under way. Raises what listing its tools raises."""
        changes = {name: value for name, value in settings if value is not None}
        team, own_tools = self._team, self._own_tools
        if not team and record.config.handoffs:
            team = await kept_team(self._store, record, caller, own_tools)
            own_tools = [*own_tools, *transfers_of(team[0], team)]
        return await open_setup(
            Surroundings(self._stack.inference, self._stack),
            record.config.model_copy(update=changes),
            caller,
            session_id=session_id,
            own_tools=own_tools,
            team=team,
            turns=turns,
            under_way=under_way,
        )


Ending = Callable[[Sequence[AgentEvent]], Work | None]
"""Told a turn's last events before its reader is; gives what is to be stored in one transaction with them."""


async def kept(
    events: AsyncGenerator[AgentEvent, None], held: OpenTurn, *, ending: Ending | None = None
) -> AsyncGenerator[AgentEvent, None]:
    """Store what the loop hands out before its reader sees it and before the loop goes on.

    A turn that was resumed and still waits is put aside again; one whose reader leaves is let go by its holder. The
    answer that ends a turn leads to nothing but its end, so both are stored together.
    """
    last: list[AgentEvent] = []
    async with aclosing(events):
        async for event in events:
            if last or _is_last_answer(event) or isinstance(event, TurnCompleted):
                last.append(event)
                if not isinstance(event, TurnCompleted):
                    continue
                last_steps = [one.step for one in last if isinstance(one, StepCompleted)]
                await held.complete(event.turn, last_steps, along=ending(last) if ending is not None else None)
                for one in last:
                    yield one
                return
            match event:
                case StepCompleted():
                    await held.append_step(event.step)
                case TurnAwaitingInput():
                    await held.await_results()
                case _:
                    pass
            yield event


def _is_last_answer(event: AgentEvent) -> bool:
    if not isinstance(event, StepCompleted) or not isinstance(event.step, InferenceStep):
        return False
    return event.step.ends_turn is not None
