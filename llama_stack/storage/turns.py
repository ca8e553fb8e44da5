"""The right to write one turn: who holds it, for how long, and what happens when its holder is gone.

Only one process may write a turn, and a process can die at any moment. So a running turn is held on a lease that its
holder renews while it works. Once the lease has run out, the turn can be taken up again where its last stored step
left it, or be left behind by a new turn; so it can at once when its holder was a process of this machine that is
gone. Each holding has its own token: a holder that was only slow, and comes back
after its turn was taken, can no longer write (https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, Connection, bindparam, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from llama_stack.api.agents import InferenceStep, Step, Turn, TurnSettings
from llama_stack.api.common import Caller
from llama_stack.api.inference import Usage
from llama_stack.api.messages import AssistantMessage, ToolMessage, UserMessage
from llama_stack.errors import Conflict, InvalidRequest, ProviderUnavailable
from llama_stack.storage.columns import as_json, now
from llama_stack.storage.database import Database, Work
from llama_stack.storage.holders import is_dead
from llama_stack.storage.prepared import Prepared
from llama_stack.storage.tables import steps, turns

LEASE = timedelta(seconds=30)
"""Must outlast a stalled process and the difference between two servers' clocks."""
RENEWALS_PER_LEASE = 3

STEP: TypeAdapter[Step] = TypeAdapter(Step)
TURN_INPUT: TypeAdapter[list[UserMessage | ToolMessage]] = TypeAdapter(list[UserMessage | ToolMessage])


class TurnState(StrEnum):
    """running: held, or was when its holder died. awaiting: for results of the caller's own tools."""

    RUNNING = "running"
    AWAITING = "awaiting"
    COMPLETED = "completed"


class OpenTurn:
    """A turn that is being worked on; nobody else can write it meanwhile.

    Every method raises Conflict once the turn is no longer this holder's: it was deleted with its session, or taken
    over after this process had not renewed the lease in time. Stop working on the turn then.
    turns_before: how many turns its session had when it began; 0 for one that was taken up again.
    beginning: stores the turn, where that is still to be done; it is done in one transaction with what is stored first.
    """

    turns_before = 0

    def __init__(
        self, database: Database, turn: Turn, caller: Caller, holder: str, *, beginning: Work | None = None
    ) -> None:
        self._database = database
        self._turn = turn
        self._caller = caller
        self._holder = holder
        self._beginning = beginning
        self._is_open = True

    @property
    def turn(self) -> Turn:
        """The turn as it is stored now."""
        return self._turn.model_copy(update={"steps": list(self._turn.steps)})

    async def append_step(self, step: Step) -> None:
        """Store a finished step and the usage it adds. Call it before anything the step led to is done or shown."""
        usage = self._usage_with([step])
        values = {"usage": as_json(usage), "held_until": now() + LEASE}
        try:
            await self._write(values, step_rows=self._rows_of([step]))
        except IntegrityError as error:
            raise Conflict(f"turn {self._turn.turn_id} has a step {step.step_id} already", param="step_id") from error
        self._turn.steps.append(step)
        self._turn.usage = usage

    def _usage_with(self, more: Sequence[Step]) -> Usage:
        usage = self._turn.usage
        for step in more:
            if isinstance(step, InferenceStep) and step.usage is not None:
                usage = usage.plus(step.usage)
        return usage

    def _rows_of(self, more: Sequence[Step]) -> list[dict[str, Any]]:
        return [
            {
                "turn_id": self._turn.turn_id,
                "sequence": len(self._turn.steps) + number,
                "owner": self._caller.owner,
                "step_id": step.step_id,
                "body": as_json(step),
                "created_at": now(),
            }
            for number, step in enumerate(more)
        ]

    async def await_results(self) -> None:
        """Put the turn aside until the caller brings results of its own tools; nobody holds it then."""
        await self._write({"state": TurnState.AWAITING, "holder": None, "held_until": None})
        self._is_open = False

    async def complete(self, turn: Turn, last_steps: Sequence[Step] = (), *, along: Work | None = None) -> None:
        """End the turn with the output, reason, usage and time of `turn`. Its steps must be stored already, but for
        `last_steps`, which are stored together with the end.

        along: what else is stored with it, in the same transaction, such as the answer in a face's own form.

        Raises InvalidRequest when `turn` is another one, has no end reason or has a step that was never stored.
        """
        stored = [*self._turn.steps, *last_steps]
        if turn.turn_id != self._turn.turn_id or turn.end_reason is None:
            raise InvalidRequest(f"turn {self._turn.turn_id} can only be completed by itself with an end reason")
        if [step.step_id for step in turn.steps] != [step.step_id for step in stored]:
            raise InvalidRequest(f"the steps of turn {turn.turn_id} are not those that were stored", param="steps")
        completed_at = turn.completed_at or now()
        await self._write(
            {
                "state": TurnState.COMPLETED,
                "holder": None,
                "held_until": None,
                "output": as_json(turn.output) if turn.output is not None else None,
                "end_reason": turn.end_reason,
                "usage": as_json(turn.usage),
                "completed_at": completed_at,
            },
            step_rows=self._rows_of(last_steps),
            along=along,
        )
        self._turn = turn.model_copy(update={"steps": stored, "completed_at": completed_at})
        self._is_open = False

    async def withdraw(self) -> None:
        """Forget the turn, as if it had not begun."""
        if self._beginning is not None:
            self._is_open = False
            return
        held = {"held_turn": self._turn.turn_id, "held_owner": self._caller.owner, "held_holder": self._holder}
        await self._database.writing(lambda connection: connection.execute(delete(turns).where(*_HELD), held))
        self._is_open = False

    async def renew(self) -> None:
        """Hold the turn for another lease."""
        if self._beginning is None:
            await self._write({"held_until": now() + LEASE})

    async def release(self) -> None:
        """Let the turn go as it is, if it is still held: it can be reopened, or be left behind by a new one."""
        if not self._is_open:
            return
        self._is_open = False
        await _release(self._database, self._turn.turn_id, self._caller, self._holder, self._beginning)

    async def _write(
        self,
        values: Mapping[str, Any],
        step_rows: Sequence[dict[str, Any]] = (),
        along: Work | None = None,
    ) -> None:
        def work(connection: Connection) -> None:
            if self._beginning is not None:
                self._beginning(connection)
            if not _update_held(connection, self._turn.turn_id, self._caller, self._holder, values):
                raise Conflict(f"turn {self._turn.turn_id} is not held any more: it was deleted, ended or taken over")
            for row in step_rows:
                _INSERT_STEP.run(connection, row)
            if along is not None:
                along(connection)

        await self._database.writing(work)
        self._beginning = None


_LET_GO = {"holder": None, "held_until": None}
_INSERT_STEP = Prepared(insert(steps))
_HELD = (
    turns.c.turn_id == bindparam("held_turn"),
    turns.c.owner == bindparam("held_owner"),
    turns.c.holder == bindparam("held_holder"),
    turns.c.state == TurnState.RUNNING,
)


def _update_held(connection: Connection, turn_id: str, caller: Caller, holder: str, values: Mapping[str, Any]) -> bool:
    """Change a turn's row; False when this holder does not hold it (any more)."""
    held_by = {"held_turn": turn_id, "held_owner": caller.owner, "held_holder": holder}
    new = {f"new_{name}": value for name, value in values.items()}
    return _update_of(tuple(values)).run(connection, {**held_by, **new}) == 1


@cache
def _update_of(names: tuple[str, ...]) -> Prepared:
    """Changes these columns of a turn that is held."""
    return Prepared(update(turns).where(*_HELD).values({name: bindparam(f"new_{name}") for name in names}))


@asynccontextmanager
async def held(
    database: Database,
    turn_id: str,
    caller: Caller,
    holder: str,
    take: Callable[[Connection], Turn],
    *,
    unseen: Turn | None = None,
) -> AsyncIterator[OpenTurn]:
    """Keep the lease while the block runs, and let the turn go when the block is left, however it is left.

    take: makes the turn this holder's, and gives it as it is then. unseen: that turn, where nobody else knows of it:
    it is then taken together with its first step, or when the block is left.
    """
    if unseen is not None:
        open_turn = OpenTurn(database, unseen, caller, holder, beginning=take)
    else:
        open_turn = OpenTurn(database, await _taken(database, turn_id, caller, holder, take), caller, holder)
    renewing = asyncio.create_task(_keep_renewing(open_turn))
    try:
        yield open_turn
    finally:
        renewing.cancel()
        await asyncio.wait([renewing])
        # Where the database is away, the lease runs out by itself.
        with suppress(ProviderUnavailable):
            await open_turn.release()


async def _taken(
    database: Database, turn_id: str, caller: Caller, holder: str, take: Callable[[Connection], Turn]
) -> Turn:
    try:
        return await database.writing(take)
    except asyncio.CancelledError:
        # It may be ours already, and nobody else would let it go before the lease runs out.
        with suppress(ProviderUnavailable):
            await _release(database, turn_id, caller, holder)
        raise


async def _release(
    database: Database, turn_id: str, caller: Caller, holder: str, beginning: Work | None = None
) -> None:
    """beginning: stores a turn that may not be there yet; whoever was cancelled cannot know."""

    def work(connection: Connection) -> None:
        if not _update_held(connection, turn_id, caller, holder, _LET_GO) and beginning is not None:
            beginning(connection)
            _update_held(connection, turn_id, caller, holder, _LET_GO)

    await database.writing(work)


async def _keep_renewing(open_turn: OpenTurn) -> None:
    while True:
        await asyncio.sleep(LEASE.total_seconds() / RENEWALS_PER_LEASE)
        try:
            await open_turn.renew()
        except ProviderUnavailable:
            continue  # the database may be back before the lease runs out
        except Conflict:
            return  # ended, or lost; whoever writes next is told


def is_free(moment: datetime) -> ColumnElement[bool]:
    """Holds for a turn that nobody works on."""
    return or_(turns.c.state == TurnState.AWAITING, turns.c.held_until.is_(None), turns.c.held_until < moment)


def free_dead(connection: Connection, which: ColumnElement[bool]) -> None:
    """Let go of the turns among these whose holder's process is gone; their leases need not run out."""
    query = select(turns.c.turn_id, turns.c.holder).where(
        which, turns.c.state == TurnState.RUNNING, turns.c.holder.is_not(None)
    )
    for turn_id, holder in connection.execute(query).all():
        if is_dead(holder):
            still = (turns.c.turn_id == turn_id) & (turns.c.holder == holder)
            connection.execute(update(turns).where(still).values(holder=None, held_until=None))


def input_as_json(turn: Turn) -> str:
    return "[" + ",".join(as_json(message) for message in turn.input) + "]"


def read_turn(row: Any, stored_steps: list[Step]) -> Turn:
    return Turn(
        turn_id=row.turn_id,
        session_id=row.session_id,
        input=TURN_INPUT.validate_json(row.input),
        settings=TurnSettings.model_validate_json(row.settings) if row.settings is not None else TurnSettings(),
        steps=stored_steps,
        output=AssistantMessage.model_validate_json(row.output) if row.output is not None else None,
        end_reason=row.end_reason,
        usage=Usage.model_validate_json(row.usage),
        started_at=row.started_at,
        completed_at=row.completed_at,
    )
