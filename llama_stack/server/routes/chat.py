"""POST /v1/chat/completions."""

from fastapi import APIRouter, Request, Response

from llama_stack.api.inference import ChatEvent, collect
from llama_stack.api.stack import Stack
from llama_stack.server.answers import json_response, stops_with_its_client
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.plain import PlainRoute
from llama_stack.server.schema import ChatCompletion, ChatCompletionChunk
from llama_stack.server.streaming import EventStream
from llama_stack.wire.openai_chat import AnswerHead, ChatBody, ChatChunkEncoder, decode_chat_call, encode_answer


def routes(stack: Stack, options: ServerOptions) -> APIRouter:
    router = APIRouter(tags=["chat"], route_class=PlainRoute)

    @router.post(
        "/v1/chat/completions",
        summary="Continue a conversation",
        **describe(body=ChatBody, answer=ChatCompletion, chunk=ChatCompletionChunk),
    )
    async def create_chat_completion(request: Request) -> Response:
        chat, wish = decode_chat_call(await read_json(request, options))
        events = stack.inference.stream_chat(chat, caller_of(request))
        head = AnswerHead.for_chat(chat.model)
        if wish.stream:
            encoder = ChatChunkEncoder(head, include_usage=wish.include_usage)
            return EventStream[ChatEvent](events, encoder.encode)
        async with stops_with_its_client(request):
            answer = await collect(events)
        return json_response(encode_answer(answer, head))

    return router
