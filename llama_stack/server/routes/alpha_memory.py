"""The memory API by the paths of 2024: /alpha/memory-banks/... and /alpha/memory/..., for clients up to 0.0.63.

Its answers are bare lists, and null where there is nothing to say; they are no part of the OpenAPI document.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llama_stack.api.resources import MemoryBank
from llama_stack.api.stack import ServedStack
from llama_stack.errors import InvalidRequest, NotFound
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.options import ServerOptions
from llama_stack.wire.classic.memory.banks import decode_memory_bank, encode_memory_bank
from llama_stack.wire.classic.memory.contents import decode_insert, decode_memory_query, encode_found
from llama_stack.wire.classic.memory.documents import unread_documents


def routes(stack: ServedStack, options: ServerOptions) -> list[Route]:
    async def list_banks(request: Request) -> Any:
        return [encode_memory_bank(bank) for bank in await stack.registry.resources(MemoryBank, caller_of(request))]

    async def get_bank(request: Request) -> Any:
        named = request.query_params.get("memory_bank_id") or ""
        try:
            return encode_memory_bank(await stack.registry.resource(MemoryBank, named, caller_of(request)))
        except NotFound:
            return None

    async def register(request: Request) -> Any:
        bank = decode_memory_bank(await read_json(request, options))
        return encode_memory_bank((await (await stack.memory()).create_bank(bank, caller_of(request))).bank)

    async def unregister(request: Request) -> None:
        body = await read_json(request, options)
        named = body.get("memory_bank_id") if isinstance(body, dict) else None
        if not isinstance(named, str):
            raise InvalidRequest("memory_bank_id: is required", param="memory_bank_id")
        await (await stack.memory()).drop_bank(named, caller_of(request))

    async def insert(request: Request) -> None:
        bank_id, documents = decode_insert(await read_json(request, options))
        statuses = await (await stack.memory()).insert_documents(bank_id, documents, caller_of(request))
        failure = unread_documents(statuses)
        if failure is not None:
            raise failure

    async def query(request: Request) -> Any:
        bank_ids, wanted = decode_memory_query(await read_json(request, options))
        return encode_found(await (await stack.memory()).query(bank_ids, wanted, caller_of(request)))

    return [
        _route("GET", "/alpha/memory-banks/list", list_banks),
        _route("GET", "/alpha/memory-banks/get", get_bank),
        _route("POST", "/alpha/memory-banks/register", register),
        _route("POST", "/alpha/memory-banks/unregister", unregister),
        _route("POST", "/alpha/memory/insert", insert),
        _route("POST", "/alpha/memory/query", query),
    ]


def _route(method: str, path: str, work: Callable[[Request], Awaitable[Any]]) -> Route:
    async def answer(request: Request) -> Response:
        return Response(orjson.dumps(await work(request)), media_type="application/json")

    return Route(path, answer, methods=[method])
