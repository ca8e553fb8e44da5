"""The classic inference API: /v1/inference/..."""

from collections.abc import AsyncGenerator

from starlette.requests import Request
from starlette.responses import Response

from llama_stack.api.answers import collect
from llama_stack.api.common import Caller
from llama_stack.api.inference import ChatAnswer, ChatEvent, ChatRequest
from llama_stack.api.stack import Stack
from llama_stack.server.answers import json_response, stops_with_its_client
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.classic import ClassicRoute, in_words
from llama_stack.server.classic_schema import (
    ClassicChatAnswer,
    ClassicChatBatch,
    ClassicChatFrame,
    ClassicCompletion,
    ClassicCompletionBatch,
    ClassicCompletionFrame,
    ClassicEmbeddings,
)
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.plain import PlainRouter
from llama_stack.server.side_by_side import gather_results
from llama_stack.server.streaming import EventStream
from llama_stack.wire.classic.inference import (
    ClassicBatchChatBody,
    ClassicBatchCompletionBody,
    ClassicChatBody,
    ClassicCompletionBody,
    ClassicEmbeddingsBody,
    decode_chat,
    decode_chat_batch,
    decode_completion,
    decode_completion_batch,
    decode_embeddings,
    encode_chat_answer,
    encode_completion_answer,
    encode_embeddings,
)
from llama_stack.wire.classic.inference_stream import ClassicChatEncoder, ClassicCompletionEncoder
from llama_stack.wire.validation import naming

_WORDS = {
    "model": "model_id",
    "prompt": "content",
    "input": "contents",
    "dimensions": "output_dimension",
    "truncate": "text_truncation",
    "task": "task_type",
}
"""What the classic bodies call the fields that errors name in our words."""


def routes(stack: Stack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("classic inference", ClassicRoute)

    @router.post(
        "/v1/inference/chat-completion",
        summary="Continue a conversation (classic)",
        **describe(body=ClassicChatBody, answer=ClassicChatAnswer, chunk=ClassicChatFrame),
    )
    async def chat_completion(request: Request) -> Response:
        chat, stream = decode_chat(await read_json(request, options))
        caller = caller_of(request)
        with naming(**_WORDS):
            chat = await _heard(stack, chat, caller)
            events = in_words(stack.inference.stream_chat(chat, caller), **_WORDS)
        if stream:
            return EventStream[ChatEvent](events, ClassicChatEncoder().encode)
        return json_response(encode_chat_answer(await _whole(events, request)))

    @router.post(
        "/v1/inference/completion",
        summary="Continue a text (classic)",
        **describe(body=ClassicCompletionBody, answer=ClassicCompletion, chunk=ClassicCompletionFrame),
    )
    async def completion(request: Request) -> Response:
        wanted, stream = decode_completion(await read_json(request, options))
        with naming(**_WORDS):
            events = in_words(stack.inference.complete(wanted, caller_of(request)), **_WORDS)
        if stream:
            return EventStream[ChatEvent](events, ClassicCompletionEncoder().encode)
        return json_response(encode_completion_answer(await _whole(events, request)))

    @router.post(
        "/v1/inference/embeddings",
        summary="Embed texts (classic)",
        **describe(body=ClassicEmbeddingsBody, answer=ClassicEmbeddings),
    )
    async def embeddings(request: Request) -> Response:
        wanted = decode_embeddings(await read_json(request, options))
        with naming(**_WORDS):
            async with stops_with_its_client(request):
                answer = await stack.inference.embed(wanted, caller_of(request))
        return json_response(encode_embeddings(answer))

    _add_batches(router, stack, options)
    return router


def _add_batches(router: PlainRouter, stack: Stack, options: ServerOptions) -> None:
    @router.post(
        "/v1/inference/batch-chat-completion",
        summary="Continue several conversations (classic)",
        **describe(body=ClassicBatchChatBody, answer=ClassicChatBatch),
    )
    async def batch_chat_completion(request: Request) -> Response:
        chats = decode_chat_batch(await read_json(request, options))
        caller = caller_of(request)
        with naming(**_WORDS):
            async with stops_with_its_client(request):
                heard = [await _heard(stack, chat, caller) for chat in chats]
                answers = await gather_results([collect(stack.inference.stream_chat(chat, caller)) for chat in heard])
        return json_response({"batch": [encode_chat_answer(answer) for answer in answers]})

    @router.post(
        "/v1/inference/batch-completion",
        summary="Continue several texts (classic)",
        **describe(body=ClassicBatchCompletionBody, answer=ClassicCompletionBatch),
    )
    async def batch_completion(request: Request) -> Response:
        wanted = decode_completion_batch(await read_json(request, options))
        caller = caller_of(request)
        with naming(**_WORDS):
            async with stops_with_its_client(request):
                answers = await gather_results([collect(stack.inference.complete(one, caller)) for one in wanted])
        return json_response({"batch": [encode_completion_answer(answer) for answer in answers]})


async def _heard(stack: Stack, chat: ChatRequest, caller: Caller) -> ChatRequest:
    """Programs that name a form of prompts are used to be served by every provider, also where it has no meaning."""
    if chat.tool_prompt_format is None:
        return chat
    await stack.model(chat.model, caller)
    if stack.inference.capabilities(chat.model).tool_prompt_format:
        return chat
    return chat.model_copy(update={"tool_prompt_format": None})


async def _whole(events: AsyncGenerator[ChatEvent, None], request: Request) -> ChatAnswer:
    async with stops_with_its_client(request):
        return await collect(events)
