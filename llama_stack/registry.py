"""The registry of a running stack: the distribution's own resources, and those its callers have registered."""

import re
from collections.abc import Awaitable, Callable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING

from llama_stack.api.common import Caller
from llama_stack.api.resources import MemoryBank, Model, Resource, Shield
from llama_stack.api.stack import ResourceT
from llama_stack.api.tools import ToolGroup
from llama_stack.errors import Conflict, InvalidRequest, NotFound
from llama_stack.recent import Recent

if TYPE_CHECKING:
    from llama_stack.storage import Database, ResourceStore

APIS: Mapping[type[Resource], str] = {Model: "inference", Shield: "safety", MemoryBank: "memory", ToolGroup: "tools"}
NAMES: Mapping[type[Resource], str] = {
    Model: "model",
    Shield: "shield",
    MemoryBank: "memory bank",
    ToolGroup: "tool group",
}

HINTED_AT = 100
"""Registered names that are looked through for the one that was meant."""

_OF_A_SESSION = re.compile(r"session_[0-9a-f]+-documents")
"""Banks that a conversation keeps its documents in: nobody has named them, and nobody is told of them."""


class ResourceRegistry:
    """Fulfils `api.stack.Registry`.

    own: the distribution's resources by kind and identifier. providers: ids of the open providers by API.
    database: opens the stack's database; it is touched only for what the distribution does not know.
    check: asks the provider of a resource that is about to be registered, which refuses by raising.
    """

    def __init__(
        self,
        own: Mapping[type[Resource], Mapping[str, Resource]],
        providers: Mapping[str, list[str]],
        database: "Callable[[], Awaitable[Database]]",
        check: "Callable[[Resource, Caller], Awaitable[None]] | None" = None,
    ) -> None:
        self._own = own
        self._providers = providers
        self._database = database
        self._check = check
        self._recent: Recent[tuple[str, type[Resource], str], Resource] = Recent()

    def own(self, kind: type[ResourceT]) -> list[ResourceT]:
        return [resource for resource in self._own.get(kind, {}).values() if isinstance(resource, kind)]

    async def resources(self, kind: type[ResourceT], caller: Caller) -> list[ResourceT]:
        own = self.own(kind)
        store = await self._store()
        after: str | None = None
        while True:
            page = await store.page(kind, caller, limit=1000, after=after)
            own.extend(page.entries)
            if page.next_after is None:
                return own
            after = page.next_after

    async def some_resources(self, kind: type[ResourceT], caller: Caller) -> list[ResourceT]:
        """As `resources`, but no more than a hint needs: who has thousands is refused as fast as anybody."""
        some = self.own(kind)
        some.extend((await (await self._store()).page(kind, caller, limit=HINTED_AT)).entries)
        return some

    async def resource(self, kind: type[ResourceT], identifier: str, caller: Caller) -> ResourceT:
        own = self._own.get(kind, {}).get(identifier)
        if isinstance(own, kind):
            return own
        try:
            return await self.registered(kind, identifier, caller)
        except (NotFound, InvalidRequest):
            raise await self._not_found(kind, identifier, caller) from None

    async def registered(self, kind: type[ResourceT], identifier: str, caller: Caller) -> ResourceT:
        """What the caller has registered itself. Raises NotFound."""

        async def read() -> Resource:
            return await (await self._store()).get(kind, identifier, caller)

        found = await self._recent.get((caller.owner, kind, identifier), read)
        assert isinstance(found, kind)
        return found

    async def register(self, resource: ResourceT, caller: Caller) -> ResourceT:
        name = NAMES[type(resource)]
        if resource.identifier in self._own.get(type(resource), {}):
            raise Conflict(f"{name} {resource.identifier!r} belongs to the distribution", param="identifier")
        provider_id = self._chosen(APIS[type(resource)], name, resource.provider_id)
        chosen = resource.model_copy(
            update={
                "provider_id": provider_id,
                "provider_resource_id": resource.provider_resource_id or resource.identifier,
            }
        )
        if isinstance(chosen, ToolGroup):
            chosen.from_caller = True
        if self._check is not None:
            await self._check(chosen, caller)
        await (await self._store()).register(chosen, caller)
        return chosen

    def _chosen(self, api: str, name: str, provider_id: str) -> str:
        there = self._providers.get(api, [])
        known = ", ".join(there) or "none"
        if provider_id and provider_id not in there:
            raise InvalidRequest(
                f"there is no provider {provider_id!r} for a {name}; there are: {known}", param="provider_id"
            )
        if not provider_id and len(there) != 1:
            raise InvalidRequest(
                f"provider_id is needed: this stack has {len(there)} providers for a {name} ({known})",
                param="provider_id",
            )
        return provider_id or there[0]

    async def unregister(self, kind: type[ResourceT], identifier: str, caller: Caller) -> None:
        if identifier in self._own.get(kind, {}):
            raise Conflict(
                f"{NAMES[kind]} {identifier!r} belongs to the distribution; take it out of its file",
                param="identifier",
            )
        try:
            await (await self._store()).unregister(kind, identifier, caller)
        except NotFound:
            raise await self._not_found(kind, identifier, caller) from None
        finally:
            self._recent.forget((caller.owner, kind, identifier))

    async def _store(self) -> "ResourceStore":
        database = await self._database()
        # A stack that keeps nothing does not load a database's driver; opening one has loaded it, in a thread.
        from llama_stack.storage import ResourceStore

        return ResourceStore(database)

    async def _not_found(self, kind: type[ResourceT], identifier: str, caller: Caller) -> NotFound:
        there = await self.some_resources(kind, caller)
        names = [one.identifier for one in there if not _OF_A_SESSION.fullmatch(one.identifier)]
        nearest = get_close_matches(identifier, names, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are: {', '.join(sorted(names)[:20]) or 'none'}"
        name = NAMES[kind]
        word = name.replace(" ", "_")
        param = "model" if word == "model" else f"{word}_id"
        return NotFound(f"there is no {name} {identifier!r}; {hint}", param=param, code=f"{word}_not_found")
