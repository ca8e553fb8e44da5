"""Chunks in and out in the classic shape: /v1/vector-io/..."""

from starlette.requests import Request
from starlette.responses import Response

from llama_stack.api.memory import SearchMode
from llama_stack.api.resources import MemoryBank, VectorBank
from llama_stack.api.stack import ServedStack
from llama_stack.server.answers import json_response, stops_with_its_client
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.classic import ClassicRoute
from llama_stack.server.memory_schema import ClassicChunks, Inserted
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.plain import PlainRouter
from llama_stack.wire.classic.memory.vector_io import (
    InsertChunksBody,
    QueryChunksBody,
    decode_chunk_query,
    decode_chunks,
    encode_chunks,
)


def routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("classic memory", ClassicRoute)

    @router.post("/v1/vector-io/insert", summary="Insert chunks", **describe(body=InsertChunksBody, answer=Inserted))
    async def insert(request: Request) -> Response:
        bank_id, chunks = decode_chunks(await read_json(request, options))
        await (await stack.memory()).insert_chunks(bank_id, chunks, caller_of(request))
        return json_response({"inserted": len(chunks)})

    @router.post("/v1/vector-io/query", summary="Find chunks", **describe(body=QueryChunksBody, answer=ClassicChunks))
    async def query(request: Request) -> Response:
        caller = caller_of(request)
        bank_id, wanted = decode_chunk_query(await read_json(request, options))
        if wanted.mode is None:
            # The scores of a classic vector database are similarities, and programs have thresholds for them.
            bank = await stack.registry.resource(MemoryBank, bank_id, caller)
            if isinstance(bank.bank, VectorBank):
                wanted = wanted.model_copy(update={"mode": SearchMode.VECTOR})
        async with stops_with_its_client(request):
            found = await (await stack.memory()).query([bank_id], wanted, caller)
        return json_response(encode_chunks(found))

    return router
