"""Chat completions made with `store`: they are kept, and can be listed, read, changed and deleted."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response

from llama_stack.api.answers import AnswerBuilder, collect
from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.inference import ChatAnswer, ChatEnd, ChatEvent
from llama_stack.api.responses import StoredCompletion
from llama_stack.api.stack import ServedStack
from llama_stack.errors import InvalidRequest
from llama_stack.server.answers import json_response, stops_with_its_client
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.plain import PlainRouter
from llama_stack.server.queries import asked_limit, asked_metadata, asked_order
from llama_stack.server.responses_schema import Deleted, StoredCompletionList, StoredMessageList
from llama_stack.server.routes.conversations import NewConversationBody
from llama_stack.server.schema import ChatCompletion
from llama_stack.server.sent_files import chat_field, with_files
from llama_stack.server.streaming import EventStream
from llama_stack.wire.openai_chat import AnswerHead, ChatChunkEncoder, decode_chat_call, encode_answer
from llama_stack.wire.openai_responses.objects import encode_list
from llama_stack.wire.openai_responses.request import read_metadata


async def create_stored(stack: ServedStack, request: Request, body: JsonObject) -> Response:
    """Answer a chat completion that shall be kept."""
    metadata = read_metadata(body.get("metadata"))
    chat, wish = decode_chat_call({name: value for name, value in body.items() if name not in ("store", "metadata")})
    head, caller = AnswerHead.for_chat(chat.model), caller_of(request)
    async with stops_with_its_client(request):
        chat = await with_files(stack, chat, caller, chat_field)
    keeping = _Keeping(stack, head, metadata, body, caller)
    events = stack.inference.stream_chat(chat, caller)
    if wish.stream:
        encoder = ChatChunkEncoder(head, include_usage=wish.include_usage)
        return EventStream[ChatEvent](keeping.through(events), encoder.encode)
    async with stops_with_its_client(request):
        answer = await collect(events)
        return json_response(await keeping.keep(answer))


class _Keeping:
    """Stores one answer with what was asked."""

    def __init__(
        self, stack: ServedStack, head: AnswerHead, metadata: dict[str, str], body: JsonObject, caller: Caller
    ) -> None:
        self._stack = stack
        self._head = head
        self._metadata = metadata
        self._asked = body
        self._caller = caller

    async def through(self, events: AsyncGenerator[ChatEvent, None]) -> AsyncGenerator[ChatEvent, None]:
        """The events; the answer is stored before the last one is told."""
        builder = AnswerBuilder()
        async with aclosing(events):
            async for event in events:
                builder.feed(event)
                if isinstance(event, ChatEnd):
                    await self.keep(builder.answer)
                yield event

    async def keep(self, answer: ChatAnswer) -> JsonObject:
        body = {**encode_answer(answer, self._head), "metadata": self._metadata}
        asked = ("temperature", "top_p", "tools", "tool_choice", "response_format", "seed", "presence_penalty")
        settings = {name: self._asked[name] for name in (*asked, "frequency_penalty") if name in self._asked}
        messages = [
            {"id": f"{self._head.id}-{number}", **message} for number, message in enumerate(self._asked["messages"])
        ]
        completions = await self._stack.stored_completions()
        await completions.keep(
            StoredCompletion(
                completion_id=self._head.id,
                model=self._head.model,
                metadata=self._metadata,
                messages=messages,
                body={**settings, **body},
            ),
            self._caller,
        )
        return body


def routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("chat")
    one = "/v1/chat/completions/{completion_id}"

    @router.get("/v1/chat/completions", summary="List the stored chats", **describe(answer=StoredCompletionList))
    async def list_completions(request: Request) -> Response:
        page = await (await stack.stored_completions()).completions(
            caller_of(request),
            limit=asked_limit(request),
            after=request.query_params.get("after"),
            order=asked_order(request, "asc"),
            model=request.query_params.get("model"),
            metadata=asked_metadata(request),
        )
        return json_response(encode_list([_shown(one) for one in page.entries], has_more=page.next_after is not None))

    @router.get(one, summary="One stored chat", **describe(answer=ChatCompletion))
    async def get_completion(request: Request, completion_id: str) -> Response:
        completions = await stack.stored_completions()
        return json_response(_shown(await completions.completion(completion_id, caller_of(request))))

    @router.post(
        one, summary="Change a stored chat's metadata", **describe(body=NewConversationBody, answer=ChatCompletion)
    )
    async def update_completion(request: Request, completion_id: str) -> Response:
        body = await read_json(request, options)
        if not isinstance(body, dict) or set(body) != {"metadata"}:
            raise InvalidRequest("the body must be an object with the field metadata and no other", param="metadata")
        metadata = read_metadata(body["metadata"])
        completions = await stack.stored_completions()
        return json_response(_shown(await completions.update(completion_id, metadata, caller_of(request))))

    @router.delete(one, summary="Delete a stored chat", **describe(answer=Deleted))
    async def delete_completion(request: Request, completion_id: str) -> Response:
        await (await stack.stored_completions()).delete(completion_id, caller_of(request))
        return json_response({"id": completion_id, "object": "chat.completion.deleted", "deleted": True})

    @router.get(f"{one}/messages", summary="What a stored chat was asked", **describe(answer=StoredMessageList))
    async def list_messages(request: Request, completion_id: str) -> Response:
        kept = await (await stack.stored_completions()).completion(completion_id, caller_of(request))
        messages = [_message(message) for message in kept.messages]
        if asked_order(request, "asc") == "desc":
            messages.reverse()
        after, limit = request.query_params.get("after"), asked_limit(request)
        ids = [message["id"] for message in messages]
        if after is not None and after not in ids:
            raise InvalidRequest(f"after: there is no {after!r} in this list", param="after")
        rest = messages[ids.index(after) + 1 :] if after is not None else messages
        return json_response(encode_list(rest[:limit], has_more=len(rest) > limit))

    return router


def _shown(completion: StoredCompletion) -> JsonObject:
    return {**completion.body, "metadata": completion.metadata, "input_messages": completion.messages}


def _message(message: JsonObject) -> JsonObject:
    """As OpenAI lists stored messages: content as text, its parts beside it."""
    content = message.get("content")
    if not isinstance(content, list):
        return {"content_parts": None, **message}
    text = "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return {**message, "content": text, "content_parts": content}
