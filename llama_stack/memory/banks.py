"""Banks: from the name a caller uses to its share in a provider, and back."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from llama_stack.api.chunk_index import ChunkIndex
from llama_stack.api.common import Caller, Page
from llama_stack.api.memory import BankRecord, Expiry, ListedOrder
from llama_stack.api.resources import BankKind, GraphBank, MemoryBank, Model, ModelType, VectorBank
from llama_stack.api.stack import Registry, Stack
from llama_stack.errors import InvalidRequest, NotFound, UnsupportedParameter
from llama_stack.memory.checks import check_bank_id
from llama_stack.memory.ingestion import Share
from llama_stack.memory.places import place_of
from llama_stack.recent import Recent
from llama_stack.storage.banks import BankStore, StoredBank
from llama_stack.storage.columns import new_id, now
from llama_stack.storage.pages import Between

KNOWN_BANKS = 10_000
"""Places that are known to be there, so that they are not made again."""


@dataclass(frozen=True)
class IndexProvider:
    """A memory provider of the stack. index: raises ProviderUnavailable while it is not open."""

    provider_id: str
    index: Callable[[], ChunkIndex]
    serves: Callable[[], bool]


class Banks:
    """The banks of all callers."""

    def __init__(
        self, stack: "Stack", registry: Registry, store: BankStore, providers: Sequence[IndexProvider]
    ) -> None:
        self._stack = stack
        self._registry = registry
        self._store = store
        self._providers = {provider.provider_id: provider for provider in providers}
        self._made: OrderedDict[str, None] = OrderedDict()
        self._recent: Recent[tuple[str, str], StoredBank] = Recent()

    # --- making and forgetting ---------------------------------------------------------------------------------------

    async def create(
        self, bank: MemoryBank, caller: Caller, *, name: str, metadata: dict[str, str], expiry: Expiry | None
    ) -> BankRecord:
        identifier = bank.identifier or new_id("vs")
        check_bank_id(identifier)
        completed = bank.model_copy(
            update={
                "identifier": identifier,
                "provider_id": bank.provider_id or self._first_provider(),
                "provider_resource_id": bank.provider_resource_id or identifier,
                "bank": await self._completed(bank.bank, caller),
            }
        )
        self._require_provider(completed.provider_id)
        share = await self._share(completed, caller)
        is_new = await self._is_new(identifier, caller)
        registered = await self._registry.register(completed, caller)
        try:
            await share.index.create_bank(share.place)
        except BaseException:
            if is_new:
                await self._registry.unregister(MemoryBank, identifier, caller)
            raise
        stored = await self._store.create(
            identifier,
            caller,
            kind=registered.bank.kind,
            name=name,
            metadata=metadata,
            expiry_days=None if expiry is None else expiry.days,
        )
        return _record(registered, stored)

    async def _is_new(self, identifier: str, caller: Caller) -> bool:
        try:
            await self._registry.resource(MemoryBank, identifier, caller)
        except NotFound:
            return True
        return False

    def _first_provider(self) -> str:
        """The first that serves now; the first of all where none does, so that its reason is told."""
        if not self._providers:
            raise UnsupportedParameter(
                "this stack has no memory provider; add one under providers.memory of its distribution",
                param="provider_id",
            )
        serving = [one.provider_id for one in self._providers.values() if one.serves()]
        return (serving or list(self._providers))[0]

    def _require_provider(self, provider_id: str) -> None:
        if provider_id not in self._providers:
            known = ", ".join(self._providers) or "none"
            raise InvalidRequest(
                f"there is no provider {provider_id!r} for a memory bank; there are: {known}", param="provider_id"
            )

    async def _completed(self, kind: BankKind, caller: Caller) -> BankKind:
        """The bank's model and dimension, known and checked."""
        if isinstance(kind, GraphBank) and kind.extraction_model:
            await self._model(kind.extraction_model, caller, "extraction_model")
        if not isinstance(kind, VectorBank):
            return kind
        model = await self._embedding_model(kind.embedding_model, caller)
        dimension = model.embedding_dimension or kind.embedding_dimension
        if dimension is None:
            raise InvalidRequest(
                f"nobody says how wide the vectors of {model.identifier!r} are; give embedding_dimension",
                param="embedding_dimension",
            )
        if kind.embedding_dimension is not None and kind.embedding_dimension != dimension:
            raise InvalidRequest(
                f"embedding_dimension is {kind.embedding_dimension}, but {model.identifier!r} makes vectors of "
                f"{dimension} numbers; leave it out",
                param="embedding_dimension",
            )
        return kind.model_copy(update={"embedding_model": model.identifier, "embedding_dimension": dimension})

    async def _embedding_model(self, identifier: str, caller: Caller) -> Model:
        if identifier:
            model = await self._model(identifier, caller, "embedding_model")
            if model.model_type is not ModelType.EMBEDDING:
                raise InvalidRequest(
                    f"{identifier!r} is not a model that embeds: it is of type {model.model_type.value}",
                    param="embedding_model",
                )
            return model
        for model in await self._stack.list_models(caller):
            if model.model_type is ModelType.EMBEDDING:
                return model
        raise InvalidRequest(
            "this stack has no embedding model, which a vector bank needs; add one to its distribution, or use a "
            "keyword bank",
            param="embedding_model",
        )

    async def _model(self, identifier: str, caller: Caller, param: str) -> Model:
        """Raises InvalidRequest, naming the setting, for a model that is not there."""
        try:
            return await self._stack.model(identifier, caller)
        except NotFound as error:
            raise InvalidRequest(f"{param}: {error.message}", param=param, code=error.code) from None

    async def drop(self, share: Share) -> None:
        """In this order, so that what is there without its chunks is never there again anew."""
        bank, caller = share.bank, share.caller
        await share.index.drop_bank(share.place)
        self._made.pop(share.place.key, None)
        if not self._is_own(bank.identifier):
            await self._registry.unregister(MemoryBank, bank.identifier, caller)
        await self._forget(bank.identifier, caller)

    async def finish_dropping(self, bank: MemoryBank, begun_at: datetime, caller: Caller) -> None:
        """Drop what is left of the bank, unless it was made anew after the dropping began."""
        try:
            if (await self._store.bank(bank.identifier, caller)).created_at > begun_at:
                return
        except NotFound:
            pass
        place = place_of(bank, caller)
        await self._index_of(bank).drop_bank(place)
        self._made.pop(place.key, None)
        if not self._is_own(bank.identifier):
            with suppress(NotFound):
                await self._registry.unregister(MemoryBank, bank.identifier, caller)
        await self._forget(bank.identifier, caller)

    def _is_own(self, bank_id: str) -> bool:
        return any(bank.identifier == bank_id for bank in self._registry.own(MemoryBank))

    async def _forget(self, bank_id: str, caller: Caller) -> None:
        await self._store.forget(bank_id, caller)
        self._recent.forget((caller.owner, bank_id))

    # --- finding -----------------------------------------------------------------------------------------------------

    async def share(self, bank_id: str, caller: Caller) -> Share:
        """The caller's part of a bank, there to be used. Raises NotFound, naming the banks there are."""
        bank = await self._registry.resource(MemoryBank, bank_id, caller)
        share = await self._share(bank, caller)
        if share.place.key not in self._made:
            await share.index.create_bank(share.place)
            self._made[share.place.key] = None
            if len(self._made) > KNOWN_BANKS:
                self._made.popitem(last=False)
        return share

    async def _share(self, bank: MemoryBank, caller: Caller) -> Share:
        kind = bank.bank
        window = None
        if isinstance(kind, VectorBank):
            if not kind.embedding_model or kind.embedding_dimension is None:
                completed = await self._completed(kind, caller)
                assert isinstance(completed, VectorBank)
                kind = completed
                bank = bank.model_copy(update={"bank": kind})
            window = (await self._stack.model(kind.embedding_model, caller)).context_length
        return Share(bank, place_of(bank, caller), self._index_of(bank), window, caller)

    def _index_of(self, bank: MemoryBank) -> ChunkIndex:
        """Raises NotFound for a provider that the stack has not (any more), or ProviderUnavailable."""
        provider = self._providers.get(bank.provider_id)
        if provider is None:
            raise NotFound(
                f"this stack has no memory provider {bank.provider_id!r} (any more), which keeps {bank.identifier!r}",
                code="provider_not_found",
            )
        return provider.index()

    async def usable(self, bank_id: str, caller: Caller) -> Share:
        """As `share`, for whoever puts something in. Raises InvalidRequest for a bank that has expired."""
        share = await self.share(bank_id, caller)
        await self.note_activity(await self.require_live([bank_id], caller), caller)
        return share

    async def record(self, bank_id: str, caller: Caller) -> BankRecord:
        bank = await self._registry.resource(MemoryBank, bank_id, caller)
        return _record(bank, await self.stored(bank_id, caller))

    async def stored(self, bank_id: str, caller: Caller) -> StoredBank:
        """What is kept about the bank; a bank of the distribution is noted when a caller first uses it."""
        try:
            return await self._store.bank(bank_id, caller)
        except NotFound:
            # Not `resource`, which may know for a moment a bank that another server has just dropped.
            there = {one.identifier: one for one in await self._registry.resources(MemoryBank, caller)}
            if bank_id not in there:
                raise
            kind = there[bank_id].bank.kind
            return await self._store.create(bank_id, caller, kind=kind, name="", metadata={}, expiry_days=None)

    async def note_activity(self, used: Sequence[StoredBank], caller: Caller) -> None:
        for stored in used:
            if await self._store.note_activity(stored, caller):
                self._recent.forget((caller.owner, stored.bank_id))

    async def page(
        self, caller: Caller, *, limit: int, between: Between, order: ListedOrder, kind: str | None
    ) -> Page[BankRecord]:
        page = await self._store.page(caller, limit=limit, between=between, order=order, kind=kind)
        records = []
        for stored in page.entries:
            try:
                bank = await self._registry.resource(MemoryBank, stored.bank_id, caller)
            except NotFound:
                continue  # of a distribution that this stack no longer has
            records.append(_record(bank, stored))
        return Page(entries=records, next_after=page.next_after)

    async def update(
        self,
        bank_id: str,
        caller: Caller,
        *,
        name: str | None,
        metadata: dict[str, str] | None,
        expiry: Expiry | Literal["never"] | None,
    ) -> BankRecord:
        bank = await self._registry.resource(MemoryBank, bank_id, caller)
        await self.stored(bank_id, caller)
        values: dict[str, object] = {}
        if name is not None:
            values["name"] = name
        if metadata is not None:
            values["metadata"] = metadata
        if expiry is not None:
            values["expiry_days"] = None if expiry == "never" else expiry.days
        updated = await self._store.update(bank_id, values, caller)
        self._recent.forget((caller.owner, bank_id))
        return _record(bank, updated)

    async def require_live(self, bank_ids: Sequence[str], caller: Caller) -> list[StoredBank]:
        """What is kept about the banks. Raises InvalidRequest for one that has expired."""
        live = [await self._recently_stored(bank_id, caller) for bank_id in bank_ids]
        for stored in live:
            if stored.expires_at is not None and stored.expires_at <= now():
                raise InvalidRequest(
                    f"{stored.bank_id!r} has expired: it was not used for {stored.expiry_days} days, and is empty now; "
                    "add its files to a new one",
                    param="bank_id",
                    code="vector_store_expired",
                )
        return live

    async def _recently_stored(self, bank_id: str, caller: Caller) -> StoredBank:
        return await self._recent.get((caller.owner, bank_id), lambda: self.stored(bank_id, caller))


def _record(bank: MemoryBank, stored: StoredBank) -> BankRecord:
    return BankRecord(
        bank=bank,
        name=stored.name,
        metadata=stored.metadata,
        expiry=None if stored.expiry_days is None else Expiry(days=stored.expiry_days),
        created_at=stored.created_at,
        last_active_at=stored.last_active_at,
        expires_at=stored.expires_at,
    )
