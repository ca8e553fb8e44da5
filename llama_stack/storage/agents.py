"""Agents and their sessions, with the turns and steps in them, in the order in which they happened."""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, case, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from llama_stack.api.agents import AgentConfig, AgentRecord, Session, Step, Turn, TurnSettings
from llama_stack.api.common import Caller, Page
from llama_stack.errors import Conflict, InvalidRequest, NotFound
from llama_stack.storage.columns import as_json, new_id, now
from llama_stack.storage.database import Database
from llama_stack.storage.holders import new_holder
from llama_stack.storage.listed import Listed, delete_listed
from llama_stack.storage.pages import rows_by_time
from llama_stack.storage.prepared import Prepared
from llama_stack.storage.tables import agents, sessions, steps, turns
from llama_stack.storage.turns import (
    LEASE,
    STEP,
    OpenTurn,
    TurnState,
    free_dead,
    held,
    input_as_json,
    is_free,
    read_turn,
)


class AgentStore:
    """Every method sees the caller's own rows only: another owner's id is NotFound, like one that never was."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- agents ----------------------------------------------------------------------------------------------------

    async def create_agent(self, config: AgentConfig, caller: Caller, *, kind: str = "agent") -> AgentRecord:
        """kind: which face it serves; another kind than "agent" is not listed among the caller's agents."""
        record = AgentRecord(agent_id=new_id("agent"), config=config, created_at=now())
        row = {"owner": caller.owner, "config": as_json(config), "created_at": record.created_at, "kind": kind}
        async with self._database.write() as connection:
            await connection.execute(insert(agents).values(agent_id=record.agent_id, **row))
        return record

    async def agent(self, agent_id: str, caller: Caller) -> AgentRecord:
        """One agent. Raises NotFound."""
        return await self._database.reading(lambda connection: _agent(connection, agent_id, caller))

    async def agents(self, caller: Caller, *, limit: int = 100, after: str | None = None) -> Page[AgentRecord]:
        """The caller's agents, oldest first, from the one after the id `after`."""
        query = select(agents).where(agents.c.owner == caller.owner, agents.c.kind == "agent")
        async with self._database.read() as connection:
            rows = await rows_by_time(
                connection,
                query,
                _agents_of(caller),
                limit=limit,
                after=after,
            )
        entries = [_read_agent(row) for row in rows[:limit]]
        return Page(entries=entries, next_after=entries[-1].agent_id if len(rows) > limit else None)

    async def update_agent(self, agent_id: str, config: AgentConfig, caller: Caller) -> AgentRecord:
        """Change what an agent is; its sessions stay. Raises NotFound."""
        statement = update(agents).where(_own_agent(agent_id, caller)).values(config=as_json(config))
        async with self._database.write() as connection:
            if (await connection.execute(statement)).rowcount == 0:
                raise _no_agent(agent_id)
        return await self.agent(agent_id, caller)

    async def delete_agent(self, agent_id: str, caller: Caller) -> None:
        """Delete an agent with its sessions and all that was said in them. Raises NotFound."""
        async with self._database.write(erases=True) as connection:
            own = _own_agent(agent_id, caller)
            if await delete_listed(self._database, connection, _agents_of(caller), own) == 0:
                raise _no_agent(agent_id)

    # --- sessions --------------------------------------------------------------------------------------------------

    async def create_session(self, agent_id: str, name: str, caller: Caller) -> Session:
        """Begin a conversation with an agent. Raises NotFound when the caller has no such agent."""
        session = Session(session_id=new_id("session"), agent_id=agent_id, name=name, started_at=now())
        row = session.model_dump(exclude={"turns"}) | {"owner": caller.owner}

        def work(connection: Connection) -> None:
            # Locked, so that the agent cannot be deleted between these two statements.
            own = select(agents.c.agent_id).where(_own_agent(agent_id, caller)).with_for_update(read=True)
            if connection.execute(own).one_or_none() is None:
                raise _no_agent(agent_id)
            connection.execute(insert(sessions).values(row))

        await self._database.writing(work)
        return session

    async def session(self, agent_id: str, session_id: str, caller: Caller) -> Session:
        """A session with its turns and their steps. Raises NotFound."""
        return await self._database.reading(lambda connection: _session(connection, agent_id, session_id, caller))

    async def agent_and_session(self, agent_id: str, session_id: str, caller: Caller) -> tuple[AgentRecord, Session]:
        """Both, as they were at one moment. Raises NotFound."""

        def work(connection: Connection) -> tuple[AgentRecord, Session]:
            return _agent(connection, agent_id, caller), _session(connection, agent_id, session_id, caller)

        return await self._database.reading(work)

    async def sessions(
        self, agent_id: str, caller: Caller, *, limit: int = 100, after: str | None = None, name: str | None = None
    ) -> Page[Session]:
        """An agent's sessions, oldest first and without their turns. An agent the caller has not has no sessions.

        name: only those of this name.
        """
        query = select(sessions).where(sessions.c.owner == caller.owner, sessions.c.agent_id == agent_id)
        if name is not None:
            query = query.where(sessions.c.name == name)
        async with self._database.read() as connection:
            rows = await rows_by_time(
                connection,
                query,
                _sessions_of(agent_id, caller),
                limit=limit,
                after=after,
            )
        entries = [_read_session(row, []) for row in rows[:limit]]
        return Page(entries=entries, next_after=entries[-1].session_id if len(rows) > limit else None)

    async def delete_session(self, agent_id: str, session_id: str, caller: Caller) -> None:
        """Delete a session with its turns; whoever works on one of them is told at its next write. Raises NotFound."""
        listed, own = _sessions_of(agent_id, caller), _own_session(session_id, caller)
        async with self._database.write(erases=True) as connection:
            if await delete_listed(self._database, connection, listed, own) == 0:
                raise _no_session(session_id)

    # --- turns -----------------------------------------------------------------------------------------------------

    async def turn(self, session_id: str, turn_id: str, caller: Caller) -> Turn:
        """One turn with its steps. Raises NotFound."""
        return await self._database.reading(lambda connection: _one_turn(connection, session_id, turn_id, caller))

    @asynccontextmanager
    async def open_turn(
        self,
        turn: Turn,
        caller: Caller,
        *,
        first: Callable[[Connection], bool] | None = None,
        is_unseen: bool = False,
    ) -> AsyncIterator[OpenTurn]:
        """Store a new turn and hold it while the block runs.

        first: what is stored before it, in the same transaction; tells whether the turn's session is a part of that,
            and so has no other turn.
        is_unseen: nobody is told of the turn before its first step. It is then stored with that step, or when the
            block is left; what is raised for a session or for another turn is raised there.
        A block left before the turn was completed or put aside lets it go: it can be reopened, until the session's
        next turn begins and ends it as interrupted. The same happens to a turn that awaits results.
        Raises NotFound for a session the caller has not, Conflict while another turn of the session is worked on,
        InvalidRequest for a turn that has begun already.
        """
        if turn.steps or turn.end_reason is not None:
            raise InvalidRequest(f"turn {turn.turn_id} is not new: it has steps or an end reason", param="turn")
        holder = new_holder()
        turns_before = 0

        def work(connection: Connection) -> Turn:
            nonlocal turns_before
            is_session_new = first is not None and first(connection)
            before, sequence = (0, 0) if is_session_new else _turns_before(connection, turn, caller)
            try:
                _insert_turn(connection, turn, caller, holder, sequence)
            except IntegrityError as error:
                raise Conflict(f"there is a turn {turn.turn_id} already", param="turn_id") from error
            turns_before = before
            return turn.model_copy(update={"steps": []})

        unseen = turn.model_copy(update={"steps": []}) if is_unseen else None
        async with held(self._database, turn.turn_id, caller, holder, work, unseen=unseen) as open_turn:
            open_turn.turns_before = turns_before
            yield open_turn

    @asynccontextmanager
    async def reopen_turn(self, session_id: str, turn_id: str, caller: Caller) -> AsyncIterator[OpenTurn]:
        """Hold a turn again that awaits results or that was let go, and go on after its last stored step.

        Raises NotFound, and Conflict for a turn that has ended or that somebody else works on.
        """
        holder = new_holder()
        statement = (
            update(turns)
            .where(_own_turn(session_id, turn_id, caller), turns.c.state != TurnState.COMPLETED, is_free(now()))
            .values(state=TurnState.RUNNING, holder=holder, held_until=now() + LEASE)
        )

        def work(connection: Connection) -> Turn:
            free_dead(connection, _own_turn(session_id, turn_id, caller))
            is_ours = connection.execute(statement).rowcount == 1
            turn = _one_turn(connection, session_id, turn_id, caller)
            if not is_ours and turn.end_reason is not None:
                raise Conflict(f"turn {turn_id} has ended ({turn.end_reason}); begin a new turn", param="turn_id")
            if not is_ours:
                raise Conflict(f"turn {turn_id} is being worked on; wait for it to end", param="turn_id")
            return turn

        async with held(self._database, turn_id, caller, holder, work) as open_turn:
            yield open_turn


# Run for every turn, with values bound to them: building these statements costs more than running them.
_LOCK_SESSION = (
    select(sessions.c.session_id)
    .where(sessions.c.session_id == bindparam("session"), sessions.c.owner == bindparam("of_owner"))
    .with_for_update()
)
_TURNS_BEFORE = select(
    func.count(),
    func.max(turns.c.sequence),
    func.count(case((turns.c.state != TurnState.COMPLETED, 1))),
).where(turns.c.session_id == bindparam("session"))
_INSERT_TURN = Prepared(insert(turns))
_SELECT_AGENT = select(agents).where(agents.c.agent_id == bindparam("agent"), agents.c.owner == bindparam("of_owner"))
_SELECT_SESSION = select(sessions).where(
    sessions.c.session_id == bindparam("session"),
    sessions.c.agent_id == bindparam("agent"),
    sessions.c.owner == bindparam("of_owner"),
)


def _turns_before(connection: Connection, turn: Turn, caller: Caller) -> tuple[int, int]:
    """How many turns the session has, and the number of the next. One that was not finished is left behind."""
    # The session's row is locked, so of two turns that begin together the second sees the first.
    place = {"session": turn.session_id, "of_owner": caller.owner}
    if connection.execute(_LOCK_SESSION, place).one_or_none() is None:
        raise _no_session(turn.session_id)
    before, sequence, unfinished = connection.execute(_TURNS_BEFORE, place).one()
    if unfinished:
        _leave_behind(connection, turn.session_id)
    return int(before), 0 if sequence is None else int(sequence) + 1


def _insert_turn(connection: Connection, turn: Turn, caller: Caller, holder: str, sequence: int) -> None:
    moment = now()
    row = {
        "turn_id": turn.turn_id,
        "owner": caller.owner,
        "session_id": turn.session_id,
        "sequence": sequence,
        "state": TurnState.RUNNING,
        "holder": holder,
        "held_until": moment + LEASE,
        "input": input_as_json(turn),
        "settings": as_json(turn.settings) if turn.settings != TurnSettings() else None,
        "usage": as_json(turn.usage),
        "started_at": turn.started_at,
    }
    _INSERT_TURN.run(connection, row)


def _leave_behind(connection: Connection, session_id: str) -> None:
    """End the session's unfinished turn as interrupted. Raises Conflict when somebody works on it."""
    unfinished = (turns.c.session_id == session_id) & (turns.c.state != TurnState.COMPLETED)
    free_dead(connection, unfinished)
    moment = now()
    left_behind = {"state": TurnState.COMPLETED, "end_reason": "interrupted", "holder": None, "completed_at": moment}
    connection.execute(update(turns).where(unfinished, is_free(moment)).values(left_behind))
    running = connection.execute(select(turns.c.turn_id).where(unfinished)).scalar()
    if running is not None:
        raise Conflict(
            f"turn {running} of session {session_id} is being worked on; wait for it to end", param="session_id"
        )


def _agent(connection: Connection, agent_id: str, caller: Caller) -> AgentRecord:
    row = connection.execute(_SELECT_AGENT, {"agent": agent_id, "of_owner": caller.owner}).one_or_none()
    if row is None:
        raise _no_agent(agent_id)
    return _read_agent(row)


def _session(connection: Connection, agent_id: str, session_id: str, caller: Caller) -> Session:
    place = {"session": session_id, "agent": agent_id, "of_owner": caller.owner}
    row = connection.execute(_SELECT_SESSION, place).one_or_none()
    if row is None:
        raise _no_session(session_id)
    of_session = (turns.c.session_id == session_id) & (turns.c.owner == caller.owner)
    return _read_session(row, read_turns(connection, of_session))


def _one_turn(connection: Connection, session_id: str, turn_id: str, caller: Caller) -> Turn:
    found = read_turns(connection, _own_turn(session_id, turn_id, caller))
    if not found:
        raise NotFound(f"session {session_id!r} has no turn {turn_id!r}", param="turn_id")
    return found[0]


def read_turns(connection: Connection, which: ColumnElement[bool]) -> list[Turn]:
    """The turns in their order, each with its steps in theirs."""
    of_turns: Select[Any] = (
        select(steps.c.turn_id, steps.c.body)
        .join(turns, steps.c.turn_id == turns.c.turn_id)
        .where(which)
        .order_by(steps.c.turn_id, steps.c.sequence)
    )
    rows = connection.execute(select(turns).where(which).order_by(turns.c.sequence)).all()
    stored: defaultdict[str, list[Step]] = defaultdict(list)
    for step in connection.execute(of_turns).all() if rows else []:
        stored[step.turn_id].append(STEP.validate_json(step.body))
    return [read_turn(row, stored[row.turn_id]) for row in rows]


def _read_agent(row: Any) -> AgentRecord:
    config = AgentConfig.model_validate_json(row.config)
    return AgentRecord(agent_id=row.agent_id, config=config, created_at=row.created_at)


def _read_session(row: Any, session_turns: list[Turn]) -> Session:
    return Session(
        session_id=row.session_id,
        agent_id=row.agent_id,
        name=row.name,
        turns=session_turns,
        started_at=row.started_at,
    )


def _agents_of(caller: Caller) -> Listed:
    return Listed(agents.c.created_at, agents.c.agent_id, {agents.c.owner: caller.owner})


def _sessions_of(agent_id: str, caller: Caller) -> Listed:
    among = {sessions.c.owner: caller.owner, sessions.c.agent_id: agent_id}
    return Listed(sessions.c.started_at, sessions.c.session_id, among)


def _own_agent(agent_id: str, caller: Caller) -> ColumnElement[bool]:
    return (agents.c.agent_id == agent_id) & (agents.c.owner == caller.owner)


def _own_session(session_id: str, caller: Caller) -> ColumnElement[bool]:
    return (sessions.c.session_id == session_id) & (sessions.c.owner == caller.owner)


def _own_turn(session_id: str, turn_id: str, caller: Caller) -> ColumnElement[bool]:
    return (turns.c.turn_id == turn_id) & (turns.c.session_id == session_id) & (turns.c.owner == caller.owner)


def _no_agent(agent_id: str) -> NotFound:
    return NotFound(f"there is no agent {agent_id!r}", param="agent_id")


def _no_session(session_id: str) -> NotFound:
    return NotFound(f"there is no session {session_id!r}", param="session_id")
