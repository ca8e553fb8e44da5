"""Conversations over their store; fulfils `api.responses.Conversations`."""

from llama_stack.api.common import Caller, JsonObject, Page
from llama_stack.api.responses import Conversation, ListOrder
from llama_stack.storage.conversations import ConversationStore
from llama_stack.wire.openai_responses.items import shown


class ConversationService:
    def __init__(self, store: ConversationStore) -> None:
        self._store = store

    async def create(self, items: list[JsonObject], metadata: dict[str, str], caller: Caller) -> Conversation:
        return await self._store.create(items, metadata, caller)

    async def conversation(self, conversation_id: str, caller: Caller) -> Conversation:
        return await self._store.conversation(conversation_id, caller)

    async def update(self, conversation_id: str, metadata: dict[str, str], caller: Caller) -> Conversation:
        return await self._store.update(conversation_id, metadata, caller)

    async def delete(self, conversation_id: str, caller: Caller) -> None:
        await self._store.delete(conversation_id, caller)

    async def add_items(self, conversation_id: str, items: list[JsonObject], caller: Caller) -> list[JsonObject]:
        await self._store.add_items(conversation_id, items, caller)
        return items

    async def items(
        self,
        conversation_id: str,
        caller: Caller,
        *,
        limit: int = 20,
        after: str | None = None,
        order: ListOrder = "desc",
        include: list[str] | None = None,
    ) -> Page[JsonObject]:
        page = await self._store.items(conversation_id, caller, limit=limit, after=after, order=order)
        return Page(entries=[shown(item, include or ()) for item in page.entries], next_after=page.next_after)

    async def item(
        self, conversation_id: str, item_id: str, caller: Caller, *, include: list[str] | None = None
    ) -> JsonObject:
        return shown(await self._store.item(conversation_id, item_id, caller), include or ())

    async def delete_item(self, conversation_id: str, item_id: str, caller: Caller) -> Conversation:
        return await self._store.delete_item(conversation_id, item_id, caller)
