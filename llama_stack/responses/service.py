"""Responses over a stack and its database; fulfils `api.responses.Responses`."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from llama_stack.agents.setup import new_id
from llama_stack.api.common import Caller, JsonObject, Page
from llama_stack.api.responses import ListOrder, ResponseRequest
from llama_stack.api.stack import ServedStack
from llama_stack.errors import InvalidRequest
from llama_stack.responses.approvals import approvals_of
from llama_stack.responses.background import Background
from llama_stack.responses.compacting import threshold_of
from llama_stack.responses.compaction import compacted, counted
from llama_stack.responses.history import beginning
from llama_stack.responses.making import Making, Stores, origin_of, with_items
from llama_stack.responses.moderating import check_shield
from llama_stack.responses.preparing import check_kept
from llama_stack.responses.sent_files import with_files
from llama_stack.responses.session import Remembered, Session
from llama_stack.storage import AgentStore, Database
from llama_stack.storage.columns import now
from llama_stack.storage.conversations import ConversationStore
from llama_stack.storage.pages import check_limit
from llama_stack.storage.responses import ResponseStore, StoredResponse
from llama_stack.wire.openai_responses.items import shown
from llama_stack.wire.openai_responses.objects import ENDED, Status, new_response, shown_response
from llama_stack.wire.openai_responses.telling import tell


class ResponseService:
    """Get one from `open_responses`."""

    def __init__(self, stack: ServedStack, database: Database) -> None:
        self._stack = stack
        self._stores = Stores(AgentStore(database), ResponseStore(database), ConversationStore(database))
        self._background = Background(
            self._stores.responses,
            lambda record, caller, number: Making(stack, self._stores, record, caller, first_number=number),
        )

    @property
    def background(self) -> Background:
        return self._background

    # --- making ----------------------------------------------------------------------------------------------------

    async def create(self, request: ResponseRequest, caller: Caller) -> JsonObject:
        if request.background:
            return self._as_is(await self._queue(request, caller), request.include)
        making = await self._begun(request, caller)
        async with aclosing(making.foreground(raises=True)) as events:
            async for _ in events:
                pass
        return shown_response(making.encoder.response, request.include)

    async def stream(self, request: ResponseRequest, caller: Caller) -> AsyncGenerator[JsonObject, None]:
        if request.background:
            record = await self._queue(request, caller)
            events = self.watch(record.response_id, caller)
        else:
            making = await self._begun(request, caller)
            events = making.foreground(raises=False)
        async with aclosing(events):
            async for event in events:
                yield event

    def session(self) -> Session:
        return Session(self._begun)

    async def _begun(self, request: ResponseRequest, caller: Caller, known: Remembered | None = None) -> Making:
        record = await self._record(request, caller, "in_progress", known)
        origin = known.origin if known is not None else None
        await check_shield(self._stack, request, caller)
        making = Making(self._stack, self._stores, record, caller, origin=origin)
        await making.prepare()
        return making

    async def _queue(self, request: ResponseRequest, caller: Caller) -> StoredResponse:
        """Refuse now what could only fail later, and leave the rest to a task."""
        self._background.check_room()
        record = await self._record(request, caller, "queued")
        model = await self._stack.model(request.model, caller)
        await check_shield(self._stack, request, caller)
        if request.compaction is not None:
            threshold_of(request.compaction, model.context_length)
        await check_kept(self._stack, request, caller)
        origin = await origin_of(self._stores, request, caller)
        start = beginning(tell(record.request.input, origin.told, earlier=origin.earlier))
        decided = approvals_of(start.decisions, start.requests)
        await self._stores.responses.create(record, caller, approvals=decided)
        self._background.start(record, caller)
        return record

    async def _record(
        self, request: ResponseRequest, caller: Caller, status: str, known: Remembered | None = None
    ) -> StoredResponse:
        if request.conversation is not None and not request.store:
            raise InvalidRequest(
                "store: a conversation keeps the items of its responses; leave store or conversation out",
                param="store",
            )
        session_id = root_id = new_id("session")
        if request.conversation is not None:
            session_id = root_id = await self._stores.conversations.session_id(request.conversation, caller)
        elif known is not None:
            root_id = known.root_id
        elif request.previous_response_id is not None:
            previous = await self._stores.responses.response(
                request.previous_response_id, caller, param="previous_response_id"
            )
            root_id = previous.root_id
        items = await with_items(self._stores, request.input, caller)
        return StoredResponse(
            response_id=new_id("resp"),
            owner=caller.owner,
            session_id=session_id,
            turn_id=new_id("turn"),
            root_id=root_id,
            # What an item refers to may be deleted later, and responses that continue this one read it again.
            request=request.model_copy(update={"input": await with_files(self._stack, items, request.model, caller)}),
            status=status,
            created_at=now(),
        )

    # --- what is kept ----------------------------------------------------------------------------------------------

    async def response(self, response_id: str, caller: Caller, *, include: list[str] | None = None) -> JsonObject:
        record = await self._stores.responses.response(response_id, caller)
        return self._as_is(record, [*record.request.include, *(include or ())])

    def _as_is(self, record: StoredResponse, include: list[str]) -> JsonObject:
        body = record.body
        if body is None:
            status: Status = "queued" if record.status == "queued" else "in_progress"
            body = new_response(record.request, record.response_id, int(record.created_at.timestamp()), status)
        return shown_response(body, include)

    async def watch(
        self, response_id: str, caller: Caller, *, starting_after: int = -1, include: list[str] | None = None
    ) -> AsyncGenerator[JsonObject, None]:
        if include:
            record = await self._stores.responses.response(response_id, caller)
            for name in set(include) - set(record.request.include):
                raise InvalidRequest(
                    f"include: the events of {response_id!r} were written without {name}; ask for it with the "
                    "response, or retrieve without stream",
                    param="include",
                )
        async with aclosing(self._background.watch(response_id, caller, starting_after)) as events:
            async for event in events:
                yield event

    async def list_responses(
        self,
        caller: Caller,
        *,
        limit: int = 20,
        after: str | None = None,
        order: ListOrder = "desc",
        model: str | None = None,
    ) -> Page[JsonObject]:
        page = await self._stores.responses.page(caller, limit=limit, after=after, order=order, model=model)
        entries = [
            {**self._as_is(record, record.request.include), "input": [shown(item) for item in record.request.input]}
            for record in page.entries
        ]
        return Page(entries=entries, next_after=page.next_after)

    async def input_items(
        self,
        response_id: str,
        caller: Caller,
        *,
        limit: int = 20,
        after: str | None = None,
        order: ListOrder = "desc",
        include: list[str] | None = None,
    ) -> Page[JsonObject]:
        record = await self._stores.responses.response(response_id, caller)
        included = [*record.request.include, *(include or ())]
        items = [shown(item, included) for item in record.request.input]
        if order == "desc":
            items.reverse()
        first = 0
        if after is not None:
            ids = [item["id"] for item in items]
            if after not in ids:
                raise InvalidRequest(f"after: there is no {after!r} in this list", param="after")
            first = ids.index(after) + 1
        entries = items[first : first + check_limit(limit)]
        has_more = first + limit < len(items)
        return Page(entries=entries, next_after=entries[-1]["id"] if has_more else None)

    async def cancel(self, response_id: str, caller: Caller) -> JsonObject:
        record = await self._stores.responses.response(response_id, caller)
        if not record.request.background:
            raise InvalidRequest(
                f"the response {response_id!r} was not made in the background; close its stream to stop it",
                param="response_id",
            )
        if record.status not in ENDED and not await self._background.cancel(response_id):
            making = Making(self._stack, self._stores, record, caller)
            making.cancelled()
            await making.finish()
            await self._stores.responses.take_away(record, caller)
        return await self.response(response_id, caller)

    async def delete(self, response_id: str, caller: Caller) -> None:
        record = await self._stores.responses.response(response_id, caller)
        await self._background.cancel(response_id)
        await self._stores.responses.delete(record, caller)

    # --- without a response ----------------------------------------------------------------------------------------

    async def count_input_tokens(self, request: ResponseRequest, caller: Caller) -> int:
        return await counted(self._stack, self._stores, request, caller)

    async def compact(self, request: ResponseRequest, caller: Caller) -> JsonObject:
        return await compacted(self._stack, self._stores, request, caller)


@asynccontextmanager
async def open_responses(stack: ServedStack, database: Database) -> AsyncIterator[ResponseService]:
    """The service; background responses are made, and abandoned ones taken up, while the context lasts."""
    service = ResponseService(stack, database)
    async with service.background.running():
        yield service
