"""Responses and their logs of events.

A response is one turn of a session, and its row says what else it is: what it continues, what was asked, and, once it
has ended, the whole response object. The sessions hang under one agent of kind "responses" for each owner.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, delete, exists, func, insert, literal, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from llama_stack.api.agents import AgentConfig, Turn
from llama_stack.api.common import Caller, JsonObject, Page
from llama_stack.api.responses import ListOrder, ResponseRequest
from llama_stack.errors import InvalidRequest, NotFound
from llama_stack.storage.agents import read_turns
from llama_stack.storage.approvals import UNFINISHED, refuse_used
from llama_stack.storage.columns import as_json, now
from llama_stack.storage.database import Database
from llama_stack.storage.listed import Listed, delete_listed
from llama_stack.storage.pages import rows_by_time
from llama_stack.storage.prepared import Prepared
from llama_stack.storage.tables import agents, conversations, response_events, responses, sessions, steps, turns
from llama_stack.storage.turns import LEASE, TurnState, free_dead, is_free

AGENT_KIND = "responses"
MAX_CHAIN = 1000
"""Responses that one may continue, all of which are read for the next."""
PREVIOUS_NOT_FOUND = "previous_response_not_found"
"""OpenAI's code: clients that read it send the whole conversation instead."""

# Made once: putting a statement together costs more than running it.
_AGENT_CONFIG = as_json(AgentConfig(model="as each response says"))
_INSERT_SESSION = Prepared(insert(sessions))
_INSERT_AGENT = {
    dialect: Prepared(insert_into(agents).on_conflict_do_nothing(index_elements=["agent_id"]))
    for dialect, insert_into in (("sqlite", sqlite.insert), ("postgresql", postgresql.insert))
}
_INSERT_RESPONSE = Prepared(insert(responses))
_FINISH = Prepared(
    update(responses)
    .where(
        responses.c.response_id == bindparam("of_response"),
        responses.c.owner == bindparam("of_owner"),
        or_(*(responses.c.status == status for status in UNFINISHED)),
    )
    .values(status=bindparam("new_status"), body=bindparam("new_body"))
)


@dataclass(frozen=True)
class StoredResponse:
    """root_id: the first response of the chain, or the conversation; tools that keep state keep it by this id.

    body: the response object with everything in it; None until it has ended.
    """

    response_id: str
    owner: str
    session_id: str
    turn_id: str
    root_id: str
    request: ResponseRequest
    status: str
    created_at: datetime
    body: JsonObject | None = None


class ResponseStore:
    """Every method but `abandoned` sees the caller's own rows only: another owner's id is NotFound."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, record: StoredResponse, caller: Caller, *, approvals: Collection[str] = ()) -> None:
        await self._database.writing(self.inserting(record, caller, approvals=approvals))

    def inserting(
        self, record: StoredResponse, caller: Caller, *, approvals: Collection[str] = ()
    ) -> Callable[[Connection], bool]:
        """Keeps a new response, with a session for it unless it belongs to a conversation's; tells whether it did so.

        approvals: ids of the approval requests that it decides on. Raises Conflict where another response of the same
        chain has carried one of them out, or may yet.
        """
        request = record.request
        row = {
            "response_id": record.response_id,
            "owner": caller.owner,
            "session_id": record.session_id,
            "turn_id": record.turn_id,
            "root_id": record.root_id,
            "previous_response_id": request.previous_response_id,
            "conversation_id": request.conversation,
            "model": request.model,
            "status": record.status,
            "is_background": request.background,
            "request": as_json(request),
            "created_at": record.created_at,
        }

        def work(connection: Connection) -> bool:
            if approvals:
                refuse_used(connection, record.response_id, record.root_id, caller.owner, approvals)
            has_own_session = request.conversation is None
            if has_own_session:
                insert_session(self._database, connection, record.session_id, record.created_at, caller)
            _INSERT_RESPONSE.run(connection, row)
            return has_own_session

        return work

    async def response(self, response_id: str, caller: Caller, *, param: str = "response_id") -> StoredResponse:
        """Raises NotFound. param: the request's field that named it."""
        query = select(responses).where(_own(response_id, caller))
        row = await self._database.reading(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            raise no_response(response_id, param)
        return _read(row)

    async def turn(self, record: StoredResponse, caller: Caller) -> Turn | None:
        """The turn a response was made in; None where it has not begun."""
        async with self._database.read() as connection:
            found = await connection.run_sync(
                read_turns, (turns.c.turn_id == record.turn_id) & (turns.c.owner == caller.owner)
            )
        return found[0] if found else None

    async def chain(self, response_id: str, caller: Caller) -> list[tuple[StoredResponse, Turn]]:
        """The response and all it continues, oldest first, each with its turn.

        Raises NotFound where one of them is missing, InvalidRequest where there are more than MAX_CHAIN or one has
        not been completed.
        """
        links = (
            select(responses.c.response_id, responses.c.previous_response_id, literal(1).label("depth"))
            .where(_own(response_id, caller))
            .cte("links", recursive=True)
        )
        links = links.union_all(
            select(responses.c.response_id, responses.c.previous_response_id, links.c.depth + 1).where(
                responses.c.response_id == links.c.previous_response_id,
                responses.c.owner == caller.owner,
                links.c.depth <= MAX_CHAIN,
            )
        )
        query = select(responses).join(links, responses.c.response_id == links.c.response_id)

        def work(connection: Connection) -> tuple[Sequence[Any], dict[str, Turn]]:
            rows = connection.execute(query.order_by(links.c.depth.desc())).all()
            _check_chain(rows, response_id)
            of_chain = turns.c.turn_id.in_([row.turn_id for row in rows]) & (turns.c.owner == caller.owner)
            return rows, {turn.turn_id: turn for turn in read_turns(connection, of_chain)}

        rows, found = await self._database.reading(work)
        records = [_read(row) for row in rows]
        return [(record, found[record.turn_id]) for record in records if record.turn_id in found]

    async def output_item(self, item_id: str, caller: Caller) -> JsonObject | None:
        """The output item of that id in any of the caller's responses; its id names the step it was made in."""
        step_id = f"step_{item_id.split('_')[1]}" if "_" in item_id else item_id
        query = (
            select(responses.c.body)
            .join(turns, responses.c.turn_id == turns.c.turn_id)
            .join(steps, steps.c.turn_id == turns.c.turn_id)
            .where(responses.c.owner == caller.owner, steps.c.owner == caller.owner, steps.c.step_id == step_id)
        )
        async with self._database.read() as connection:
            bodies = (await connection.execute(query)).scalars().all()
        outputs = (item for body in bodies if body is not None for item in json.loads(body)["output"])
        return next((item for item in outputs if item["id"] == item_id), None)

    async def begin(self, response_id: str, caller: Caller) -> None:
        """A queued response is now in progress."""
        statement = update(responses).where(_own(response_id, caller), responses.c.status == "queued")
        async with self._database.write() as connection:
            await connection.execute(statement.values(status="in_progress"))

    def finishing(self, response_id: str, body: JsonObject, caller: Caller) -> Callable[[Connection], bool]:
        """Keeps the response as it ended; gives False for one that had ended already or was deleted."""
        values = {
            "of_response": response_id,
            "of_owner": caller.owner,
            "new_status": body["status"],
            "new_body": json.dumps(body),
        }
        return lambda connection: _FINISH.run(connection, values) == 1

    async def finish(self, response_id: str, body: JsonObject, caller: Caller) -> bool:
        """Run `finishing` by itself."""
        return await self._database.writing(self.finishing(response_id, body, caller))

    async def take_away(self, record: StoredResponse, caller: Caller) -> None:
        """End the response's turn, whoever works on it: they are told at their next write."""
        statement = update(turns).where(
            turns.c.turn_id == record.turn_id, turns.c.owner == caller.owner, turns.c.state != TurnState.COMPLETED
        )
        values = {"state": TurnState.COMPLETED, "end_reason": "interrupted", "holder": None, "completed_at": now()}
        async with self._database.write() as connection:
            await connection.execute(statement.values(values))

    async def page(
        self, caller: Caller, *, limit: int, after: str | None, order: ListOrder, model: str | None
    ) -> Page[StoredResponse]:
        query = select(responses).where(responses.c.owner == caller.owner)
        if model is not None:
            query = query.where(responses.c.model == model)
        async with self._database.read() as connection:
            rows = await rows_by_time(
                connection,
                query,
                _listed(caller),
                limit=limit,
                after=after,
                newest_first=order == "desc",
            )
        entries = [_read(row) for row in rows[:limit]]
        return Page(entries=entries, next_after=entries[-1].response_id if len(rows) > limit else None)

    async def delete(self, record: StoredResponse, caller: Caller, *, was_told: bool = True) -> None:
        """Delete the response and its turn; whoever works on it is told at the next write.

        was_told: somebody may know its id, and reads a list on behind it.
        """
        async with self._database.write(erases=True) as connection:
            own = _own(record.response_id, caller)
            if was_told:
                deleted = await delete_listed(self._database, connection, _listed(caller), own)
            else:
                deleted = (await connection.execute(delete(responses).where(own))).rowcount
            if deleted == 0:
                raise no_response(record.response_id)
            await connection.execute(
                delete(turns).where(turns.c.turn_id == record.turn_id, turns.c.owner == caller.owner)
            )
            await delete_unused_session(connection, record.session_id)

    async def abandoned(self, limit: int = 100) -> list[StoredResponse]:
        """Unfinished responses of every owner that nobody works on, oldest first."""
        moment = now()
        unfinished = responses.c.status.in_(UNFINISHED)
        async with self._database.read() as connection:
            if (await connection.execute(select(responses.c.response_id).where(unfinished).limit(1))).first() is None:
                return []
        of_response = turns.c.turn_id == responses.c.turn_id
        never_begun = ~exists(select(turns.c.turn_id).where(of_response)) & (responses.c.created_at < moment - LEASE)
        let_go = exists(select(turns.c.turn_id).where(of_response, is_free(moment)))
        query = select(responses).where(unfinished, or_(never_begun, let_go))
        async with self._database.write() as connection:
            await connection.run_sync(free_dead, turns.c.turn_id.in_(select(responses.c.turn_id).where(unfinished)))
            rows = (await connection.execute(query.order_by(responses.c.created_at).limit(limit))).all()
        return [_read(row) for row in rows]

    # --- events ----------------------------------------------------------------------------------------------------

    async def add_events(self, response_id: str, events: Sequence[JsonObject], caller: Caller) -> None:
        """Add numbered events to the response's log. Raises NotFound once the response was deleted."""
        row = {
            "response_id": response_id,
            "position": events[0]["sequence_number"],
            "owner": caller.owner,
            "body": json.dumps(list(events)),
        }
        async with self._database.write() as connection:
            if (await connection.execute(select(responses.c.response_id).where(_own(response_id, caller)))).first():
                await connection.execute(insert(response_events).values(row))
                return
        raise no_response(response_id)

    async def events(self, response_id: str, caller: Caller, *, from_number: int = 0) -> list[JsonObject]:
        """Logged events from about that number on: whole batches, so some earlier ones may be among them."""
        own = (response_events.c.response_id == response_id) & (response_events.c.owner == caller.owner)
        first = select(func.max(response_events.c.position)).where(own, response_events.c.position <= from_number)
        query = select(response_events.c.body).where(own).order_by(response_events.c.position)
        async with self._database.read() as connection:
            begin = (await connection.execute(first)).scalar()
            if begin is not None:
                query = query.where(response_events.c.position >= begin)
            rows = (await connection.execute(query)).scalars().all()
        return [event for row in rows for event in json.loads(row)]

    async def clear_events(self, response_id: str, caller: Caller) -> int:
        """Empty the log of a response that is begun again; returns the number that follows all it held."""
        own = (response_events.c.response_id == response_id) & (response_events.c.owner == caller.owner)
        logged = await self.events(response_id, caller)
        async with self._database.write() as connection:
            await connection.execute(delete(response_events).where(own))
        return logged[-1]["sequence_number"] + 1 if logged else 0


def insert_session(
    database: Database, connection: Connection, session_id: str, moment: datetime, caller: Caller
) -> None:
    """A session under the owner's agent of responses, which is made with the first one."""
    agent_id = f"agent_responses_{hashlib.sha256(caller.owner.encode()).hexdigest()[:32]}"
    agent = {
        "agent_id": agent_id,
        "owner": caller.owner,
        "config": _AGENT_CONFIG,
        "created_at": moment,
        "kind": AGENT_KIND,
    }
    _INSERT_AGENT[database.dialect].run(connection, agent)
    session = {
        "session_id": session_id,
        "owner": caller.owner,
        "agent_id": agent_id,
        "name": AGENT_KIND,
        "started_at": moment,
    }
    _INSERT_SESSION.run(connection, session)


async def delete_unused_session(connection: AsyncConnection, session_id: str) -> None:
    """Delete a session that no response and no conversation needs any more."""
    used = or_(
        exists(select(responses.c.response_id).where(responses.c.session_id == session_id)),
        exists(select(conversations.c.conversation_id).where(conversations.c.session_id == session_id)),
    )
    await connection.execute(delete(sessions).where(sessions.c.session_id == session_id, ~used))


def _check_chain(rows: Sequence[Any], response_id: str) -> None:
    if not rows:
        raise no_response(response_id, param="previous_response_id")
    if len(rows) > MAX_CHAIN:
        raise InvalidRequest(
            f"previous_response_id: more than {MAX_CHAIN} responses stand before {response_id!r}; "
            "compact the conversation and begin a new chain",
            param="previous_response_id",
        )
    if rows[0].previous_response_id is not None:
        raise NotFound(
            f"previous_response_id: {rows[0].previous_response_id!r}, which {response_id!r} continues, was deleted or "
            "never stored",
            param="previous_response_id",
            code=PREVIOUS_NOT_FOUND,
        )
    for row in rows:
        if row.status not in ("completed", "incomplete"):
            raise InvalidRequest(
                f"previous_response_id: the response {row.response_id!r} is {row.status}; only one that was completed "
                "can be continued",
                param="previous_response_id",
            )


def _read(row: Any) -> StoredResponse:
    return StoredResponse(
        response_id=row.response_id,
        owner=row.owner,
        session_id=row.session_id,
        turn_id=row.turn_id,
        root_id=row.root_id,
        request=ResponseRequest.model_validate_json(row.request),
        status=row.status,
        created_at=row.created_at,
        body=json.loads(row.body) if row.body is not None else None,
    )


def _listed(caller: Caller) -> Listed:
    return Listed(responses.c.created_at, responses.c.response_id, {responses.c.owner: caller.owner})


def _own(response_id: str, caller: Caller) -> ColumnElement[bool]:
    return (responses.c.response_id == response_id) & (responses.c.owner == caller.owner)


def no_response(response_id: str, param: str = "response_id") -> NotFound:
    code = PREVIOUS_NOT_FOUND if param == "previous_response_id" else "response_not_found"
    return NotFound(f"there is no response {response_id!r}", param=param, code=code)
