"""Anthropic's Messages: POST /v1/messages and POST /v1/messages/count_tokens, over the same inference as the others."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response

from llama_stack.api.answers import collect
from llama_stack.api.common import Caller
from llama_stack.api.inference import ChatEvent, ChatRequest
from llama_stack.api.sent_files import has_files
from llama_stack.api.stack import ServedStack, Stack
from llama_stack.errors import ContextOverflow
from llama_stack.server.answers import json_response, stops_with_its_client
from llama_stack.server.anthropic import AnthropicRoute
from llama_stack.server.anthropic_schema import (
    AnthropicErrorAnswer,
    AnthropicEvent,
    AnthropicMessage,
    AnthropicTokenCount,
)
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.plain import PlainRouter
from llama_stack.server.sent_files import anthropic_field, with_files
from llama_stack.server.streaming import EventStream
from llama_stack.wire.anthropic.answer import MessageHead, encode_answer, encode_count
from llama_stack.wire.anthropic.errors import error_frame
from llama_stack.wire.anthropic.request import CountTokensBody, MessagesBody, decode_count_call, decode_messages_call
from llama_stack.wire.anthropic.stream import MessageStreamEncoder


def routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("anthropic", AnthropicRoute)

    @router.post(
        "/v1/messages",
        summary="Continue a conversation (Anthropic)",
        **describe(body=MessagesBody, answer=AnthropicMessage, chunk=AnthropicEvent, failure=AnthropicErrorAnswer),
    )
    async def create_message(request: Request) -> Response:
        body = await read_json(request, options)
        chat, wish = decode_messages_call(body)
        if has_files(chat.messages):
            async with stops_with_its_client(request):
                chat = await with_files(stack, chat, caller_of(request), anthropic_field(body))
        head = MessageHead(chat.model, shows_thinking=wish.shows_thinking)
        events = _within_window(stack, chat, caller_of(request), head)
        if wish.stream:
            return EventStream[ChatEvent](events, MessageStreamEncoder(head).encode, error_frame)
        async with stops_with_its_client(request):
            answer = await collect(events)
        return json_response(encode_answer(answer, head))

    @router.post(
        "/v1/messages/count_tokens",
        summary="Count the tokens of a conversation (Anthropic)",
        **describe(body=CountTokensBody, answer=AnthropicTokenCount, failure=AnthropicErrorAnswer),
    )
    async def count_tokens(request: Request) -> Response:
        body = await read_json(request, options)
        chat = decode_count_call(body)
        async with stops_with_its_client(request):
            chat = await with_files(stack, chat, caller_of(request), anthropic_field(body))
            counted = await stack.inference.count_tokens(chat, caller_of(request))
        exact = stack.inference.capabilities(chat.model).token_counts
        return json_response(encode_count(counted, estimated=not exact))

    return router


async def _within_window(
    stack: Stack, chat: ChatRequest, caller: Caller, head: MessageHead
) -> AsyncGenerator[ChatEvent, None]:
    """The answer; where prompt and `max_tokens` together pass the model's window, one that ends with the window.

    Anthropic's `max_tokens` is required and only an upper limit, so clients send a large one; there as here an answer
    that fills the window says `model_context_window_exceeded`. A prompt that does not fit alone is ContextOverflow.
    """
    has_begun = False
    try:
        async with aclosing(stack.inference.stream_chat(chat, caller)) as events:
            async for event in events:
                has_begun = True
                yield event
        return
    except ContextOverflow:
        if has_begun:
            raise
    head.length_reason = "model_context_window_exceeded"
    unlimited = chat.model_copy(update={"sampling": chat.sampling.model_copy(update={"max_tokens": None})})
    async with aclosing(stack.inference.stream_chat(unlimited, caller)) as events:
        async for event in events:
            yield event
