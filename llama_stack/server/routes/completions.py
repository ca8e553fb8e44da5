"""POST /v1/completions: raw continuation; several prompts in one call run side by side."""

from starlette.requests import Request
from starlette.responses import Response

from llama_stack.api.answers import collect
from llama_stack.api.inference import ChatEvent
from llama_stack.api.stack import Stack
from llama_stack.server.answers import json_response, stops_with_its_client
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.plain import PlainRouter
from llama_stack.server.schema import Completion
from llama_stack.server.side_by_side import gather_results, merge_streams
from llama_stack.server.streaming import EventStream
from llama_stack.wire.openai_answer import AnswerHead
from llama_stack.wire.openai_completions import (
    CompletionBody,
    CompletionChunkEncoder,
    decode_completion_call,
    encode_completion,
)


def routes(stack: Stack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("completions")

    @router.post(
        "/v1/completions",
        summary="Continue a text",
        **describe(body=CompletionBody, answer=Completion, chunk=Completion),
    )
    async def create_completion(request: Request) -> Response:
        completions, wish = decode_completion_call(await read_json(request, options))
        caller = caller_of(request)
        head = AnswerHead.for_completion(completions[0].model)
        if wish.stream:
            encoder = CompletionChunkEncoder(
                head, n=completions[0].n, prompts=len(completions), include_usage=wish.include_usage
            )
            events = merge_streams([stack.inference.complete(completion, caller) for completion in completions])
            return EventStream[tuple[int, ChatEvent]](events, lambda numbered: encoder.encode(numbered[1], numbered[0]))
        async with stops_with_its_client(request):
            answers = await gather_results(
                [collect(stack.inference.complete(completion, caller)) for completion in completions]
            )
        return json_response(encode_completion(answers, head))

    return router
