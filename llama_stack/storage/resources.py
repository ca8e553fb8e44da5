"""Registered resources: models, shields, memory banks and tool groups that callers added to those of the distribution.

A distribution's own resources stand in its file and are not stored here.
"""

from typing import TypeVar

from sqlalchemy import bindparam, delete, select

from llama_stack.api.common import Caller, Page
from llama_stack.api.resources import MemoryBank, Model, Resource, Shield
from llama_stack.api.tools import ToolGroup
from llama_stack.errors import Conflict, NotFound
from llama_stack.storage.columns import as_json, now
from llama_stack.storage.database import Database
from llama_stack.storage.pages import check_limit
from llama_stack.storage.tables import resources

KINDS: dict[type[Resource], str] = {
    Model: "model",
    Shield: "shield",
    MemoryBank: "memory_bank",
    ToolGroup: "tool_group",
}
ResourceT = TypeVar("ResourceT", Model, Shield, MemoryBank, ToolGroup)

# Read with every request that names a resource; making the statement costs more than running it.
_BODY = select(resources.c.body).where(
    resources.c.owner == bindparam("owner"),
    resources.c.kind == bindparam("kind"),
    resources.c.identifier == bindparam("identifier"),
)


class ResourceStore:
    """Resources by owner, kind and identifier. Two owners may use the same identifier and see their own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def register(self, resource: Resource, caller: Caller) -> None:
        """Keep a resource. Registering the very same again changes nothing.

        Raises Conflict when another of this kind has the identifier: what others rely on is not replaced silently.
        """
        kind = KINDS[type(resource)]
        row = {"owner": caller.owner, "kind": kind, "identifier": resource.identifier, "created_at": now()}
        statement = self._database.insert(resources).values(**row, body=as_json(resource))
        async with self._database.write() as connection:
            if (await connection.execute(statement.on_conflict_do_nothing())).rowcount == 1:
                return
        body = await self._body(type(resource), resource.identifier, caller)
        # When it was registered is not part of what it is.
        registered = type(resource).model_validate_json(body).model_dump(exclude={"created"})
        if registered != resource.model_dump(exclude={"created"}):
            raise Conflict(
                f"{kind} {resource.identifier!r} is registered with other values; unregister it first",
                param="identifier",
            )

    async def get(self, kind: type[ResourceT], identifier: str, caller: Caller) -> ResourceT:
        """One resource. Raises NotFound."""
        return kind.model_validate_json(await self._body(kind, identifier, caller))

    async def page(
        self, kind: type[ResourceT], caller: Caller, *, limit: int = 100, after: str | None = None
    ) -> Page[ResourceT]:
        """The caller's resources of a kind by identifier, from the one after `after`."""
        query = select(resources.c.body).where(resources.c.owner == caller.owner, resources.c.kind == KINDS[kind])
        if after is not None:
            query = query.where(resources.c.identifier > after)
        query = query.order_by(resources.c.identifier).limit(check_limit(limit) + 1)
        async with self._database.read() as connection:
            bodies = (await connection.execute(query)).scalars().all()
        entries = [kind.model_validate_json(body) for body in bodies[:limit]]
        return Page(entries=entries, next_after=entries[-1].identifier if len(bodies) > limit else None)

    async def unregister(self, kind: type[ResourceT], identifier: str, caller: Caller) -> None:
        """Forget a resource. Raises NotFound."""
        statement = delete(resources).where(
            resources.c.owner == caller.owner,
            resources.c.kind == KINDS[kind],
            resources.c.identifier == identifier,
        )
        async with self._database.write(erases=True) as connection:
            if (await connection.execute(statement)).rowcount == 0:
                raise _not_found(kind, identifier)

    async def _body(self, kind: type[Resource], identifier: str, caller: Caller) -> str:
        wanted = {"owner": caller.owner, "kind": KINDS[kind], "identifier": identifier}
        body = await self._database.reading(lambda connection: connection.execute(_BODY, wanted).scalar())
        if body is None:
            raise _not_found(kind, identifier)
        return str(body)


def _not_found(kind: type[Resource], identifier: str) -> NotFound:
    return NotFound(f"there is no registered {KINDS[kind].replace('_', ' ')} {identifier!r}", param="identifier")
