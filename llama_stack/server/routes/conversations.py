"""/v1/conversations: items that responses read and add to."""

from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from llama_stack.api.common import JsonObject
from llama_stack.api.stack import ServedStack
from llama_stack.errors import InvalidRequest
from llama_stack.server.answers import json_response
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.plain import PlainRouter
from llama_stack.server.queries import asked_include, asked_limit, asked_order
from llama_stack.server.responses_schema import ConversationItem, ConversationObject, Deleted, ItemList
from llama_stack.wire.openai_responses.items import read_items, shown
from llama_stack.wire.openai_responses.objects import encode_conversation, encode_list
from llama_stack.wire.openai_responses.request import read_include, read_metadata


class NewConversationBody(BaseModel):
    """Body of POST /v1/conversations; `items` only where one is created."""

    items: list[dict[str, Any]] | None = None
    metadata: dict[str, str] | None = None


class ItemsBody(BaseModel):
    items: list[dict[str, Any]]


def routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("conversations")
    one = "/v1/conversations/{conversation_id}"

    @router.post(
        "/v1/conversations",
        summary="Begin a conversation",
        **describe(body=NewConversationBody, answer=ConversationObject),
    )
    async def create_conversation(request: Request) -> Response:
        body = _fields(await read_json(request, options), {"items", "metadata"})
        items = [] if body.get("items") is None else read_items(body["items"], "items")
        conversations = await stack.conversations()
        created = await conversations.create(items, read_metadata(body.get("metadata")), caller_of(request))
        return json_response(encode_conversation(created))

    @router.get(one, summary="One conversation", **describe(answer=ConversationObject))
    async def get_conversation(request: Request, conversation_id: str) -> Response:
        conversations = await stack.conversations()
        return json_response(encode_conversation(await conversations.conversation(conversation_id, caller_of(request))))

    @router.post(
        one,
        summary="Change a conversation's metadata",
        **describe(body=NewConversationBody, answer=ConversationObject),
    )
    async def update_conversation(request: Request, conversation_id: str) -> Response:
        body = _fields(await read_json(request, options), {"metadata"}, required="metadata")
        conversations = await stack.conversations()
        changed = await conversations.update(conversation_id, read_metadata(body["metadata"]), caller_of(request))
        return json_response(encode_conversation(changed))

    @router.delete(one, summary="Delete a conversation", **describe(answer=Deleted))
    async def delete_conversation(request: Request, conversation_id: str) -> Response:
        await (await stack.conversations()).delete(conversation_id, caller_of(request))
        return json_response({"id": conversation_id, "object": "conversation.deleted", "deleted": True})

    return router


def item_routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("conversations")
    items_of = "/v1/conversations/{conversation_id}/items"

    @router.post(items_of, summary="Add items", **describe(body=ItemsBody, answer=ItemList))
    async def add_items(request: Request, conversation_id: str) -> Response:
        body = _fields(await read_json(request, options), {"items"}, required="items")
        if not isinstance(body["items"], list):
            raise InvalidRequest("items: must be a list of items", param="items")
        items = read_items(body["items"], "items")
        added = await (await stack.conversations()).add_items(conversation_id, items, caller_of(request))
        include = read_include(asked_include(request))
        return json_response(encode_list([shown(item, include) for item in added], has_more=False))

    @router.get(items_of, summary="List the items", **describe(answer=ItemList))
    async def list_items(request: Request, conversation_id: str) -> Response:
        page = await (await stack.conversations()).items(
            conversation_id,
            caller_of(request),
            limit=asked_limit(request),
            after=request.query_params.get("after"),
            order=asked_order(request),
            include=read_include(asked_include(request)),
        )
        return json_response(encode_list(page.entries, has_more=page.next_after is not None))

    @router.get(f"{items_of}/{{item_id}}", summary="One item", **describe(answer=ConversationItem))
    async def get_item(request: Request, conversation_id: str, item_id: str) -> Response:
        conversations = await stack.conversations()
        include = read_include(asked_include(request))
        return json_response(await conversations.item(conversation_id, item_id, caller_of(request), include=include))

    @router.delete(f"{items_of}/{{item_id}}", summary="Delete an item", **describe(answer=ConversationObject))
    async def delete_item(request: Request, conversation_id: str, item_id: str) -> Response:
        conversations = await stack.conversations()
        left = await conversations.delete_item(conversation_id, item_id, caller_of(request))
        return json_response(encode_conversation(left))

    return router


def _fields(body: Any, known: set[str], required: str | None = None) -> JsonObject:
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    for name in body.keys() - known:
        raise InvalidRequest(f"{name}: is not a known field; remove it", param=name)
    if required is not None and required not in body:
        raise InvalidRequest(f"{required}: is required", param=required)
    return body
