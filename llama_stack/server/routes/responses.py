"""/v1/responses: create, stream, read, cancel, delete, count, compact."""

from starlette.requests import Request
from starlette.responses import Response

from llama_stack.api.common import JsonObject
from llama_stack.api.stack import ServedStack
from llama_stack.errors import InvalidRequest
from llama_stack.server.answers import json_response, stops_with_its_client
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.plain import PlainRouter
from llama_stack.server.queries import asked_flag, asked_include, asked_limit, asked_number, asked_order
from llama_stack.server.responses_schema import (
    CompactedResponse,
    Deleted,
    InputTokens,
    ItemList,
    ResponseList,
    ResponseObject,
    ResponseStreamEvent,
)
from llama_stack.server.streaming import EventStream
from llama_stack.wire.openai_responses.objects import encode_list
from llama_stack.wire.openai_responses.request import (
    InputBody,
    ResponseBody,
    decode_compact_request,
    decode_count_request,
    decode_response_request,
    read_include,
)
from llama_stack.wire.openai_responses.stream import frame, obfuscated_frame


def routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    """Making responses."""
    router = PlainRouter("responses")

    @router.post(
        "/v1/responses",
        summary="Make a response",
        **describe(body=ResponseBody, answer=ResponseObject, chunk=ResponseStreamEvent),
    )
    async def create_response(request: Request) -> Response:
        wanted, is_streamed = decode_response_request(await read_json(request, options))
        responses = await stack.responses()
        caller = caller_of(request)
        if is_streamed:
            events = responses.stream(wanted, caller)
            return EventStream[JsonObject](events, obfuscated_frame if wanted.obfuscates else frame)
        async with stops_with_its_client(request):
            return json_response(await responses.create(wanted, caller))

    @router.post(
        "/v1/responses/input_tokens",
        summary="Count what a response would read",
        **describe(body=ResponseBody, answer=InputTokens),
    )
    async def count_input_tokens(request: Request) -> Response:
        wanted = decode_count_request(await read_json(request, options))
        async with stops_with_its_client(request):
            count = await (await stack.responses()).count_input_tokens(wanted, caller_of(request))
        return json_response({"object": "response.input_tokens", "input_tokens": count})

    @router.post(
        "/v1/responses/compact",
        summary="Make a conversation shorter",
        **describe(body=InputBody, answer=CompactedResponse),
    )
    async def compact_response(request: Request) -> Response:
        wanted = decode_compact_request(await read_json(request, options))
        async with stops_with_its_client(request):
            return json_response(await (await stack.responses()).compact(wanted, caller_of(request)))

    return router


def stored_routes(stack: ServedStack) -> PlainRouter:
    """Responses that are kept."""
    router = PlainRouter("responses")

    @router.get("/v1/responses", summary="List the responses", **describe(answer=ResponseList))
    async def list_responses(request: Request) -> Response:
        page = await (await stack.responses()).list_responses(
            caller_of(request),
            limit=asked_limit(request),
            after=request.query_params.get("after"),
            order=asked_order(request),
            model=request.query_params.get("model"),
        )
        return json_response(encode_list(page.entries, has_more=page.next_after is not None))

    @router.get(
        "/v1/responses/{response_id}",
        summary="One response",
        **describe(answer=ResponseObject, chunk=ResponseStreamEvent),
    )
    async def get_response(request: Request, response_id: str) -> Response:
        responses, caller = await stack.responses(), caller_of(request)
        include = read_include(asked_include(request))
        if asked_flag(request, "stream"):
            after = asked_number(request, "starting_after", -1)
            events = responses.watch(response_id, caller, starting_after=after, include=include)
            is_obfuscated = asked_flag(request, "include_obfuscation")
            return EventStream[JsonObject](events, obfuscated_frame if is_obfuscated else frame)
        for name in ("starting_after", "include_obfuscation"):
            if request.query_params.get(name, "false") != "false":
                raise InvalidRequest(f"{name}: is for streams; send stream=true with it", param=name)
        return json_response(await responses.response(response_id, caller, include=include))

    @router.delete("/v1/responses/{response_id}", summary="Delete a response", **describe(answer=Deleted))
    async def delete_response(request: Request, response_id: str) -> Response:
        await (await stack.responses()).delete(response_id, caller_of(request))
        return json_response({"id": response_id, "object": "response", "deleted": True})

    @router.post(
        "/v1/responses/{response_id}/cancel", summary="Stop a background response", **describe(answer=ResponseObject)
    )
    async def cancel_response(request: Request, response_id: str) -> Response:
        return json_response(await (await stack.responses()).cancel(response_id, caller_of(request)))

    @router.get(
        "/v1/responses/{response_id}/input_items", summary="What a response was given", **describe(answer=ItemList)
    )
    async def list_input_items(request: Request, response_id: str) -> Response:
        page = await (await stack.responses()).input_items(
            response_id,
            caller_of(request),
            limit=asked_limit(request),
            after=request.query_params.get("after"),
            order=asked_order(request),
            include=read_include(asked_include(request)),
        )
        return json_response(encode_list(page.entries, has_more=page.next_after is not None))

    return router
