"""POST /v1/chat/completions."""

from starlette.requests import Request
from starlette.responses import Response

from llama_stack.api.answers import collect
from llama_stack.api.inference import ChatEvent
from llama_stack.api.sent_files import has_files
from llama_stack.api.stack import ServedStack
from llama_stack.server.answers import json_response, stops_with_its_client
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.plain import PlainRouter
from llama_stack.server.routes.stored_completions import create_stored
from llama_stack.server.schema import ChatCompletion, ChatCompletionChunk, ChatTokenCount
from llama_stack.server.sent_files import chat_field, with_files
from llama_stack.server.streaming import EventStream
from llama_stack.wire.openai_chat import (
    AnswerHead,
    ChatBody,
    ChatChunkEncoder,
    decode_chat_call,
    encode_answer,
    encode_token_count,
)


def routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("chat")

    @router.post(
        "/v1/chat/completions",
        summary="Continue a conversation",
        **describe(body=ChatBody, answer=ChatCompletion, chunk=ChatCompletionChunk),
    )
    async def create_chat_completion(request: Request) -> Response:
        body = await read_json(request, options)
        if isinstance(body, dict) and body.get("store") is True:
            return await create_stored(stack, request, body)
        chat, wish = decode_chat_call(body)
        caller = caller_of(request)
        if has_files(chat.messages):
            async with stops_with_its_client(request):
                chat = await with_files(stack, chat, caller, chat_field)
        events = stack.inference.stream_chat(chat, caller)
        head = AnswerHead.for_chat(chat.model)
        if wish.stream:
            encoder = ChatChunkEncoder(head, include_usage=wish.include_usage)
            return EventStream[ChatEvent](events, encoder.encode)
        async with stops_with_its_client(request):
            answer = await collect(events)
        return json_response(encode_answer(answer, head))

    @router.post(
        "/v1/chat/completions/input_tokens",
        summary="Count the tokens of a conversation",
        **describe(body=ChatBody, answer=ChatTokenCount),
    )
    async def count_input_tokens(request: Request) -> Response:
        """Exact where the model's provider counts, else an estimate from the size of the text."""
        chat, _ = decode_chat_call(await read_json(request, options))
        async with stops_with_its_client(request):
            chat = await with_files(stack, chat, caller_of(request), chat_field)
            counted = await stack.inference.count_tokens(chat, caller_of(request))
        exact = stack.inference.capabilities(chat.model).token_counts
        return json_response(encode_token_count(counted, estimated=not exact))

    return router
