"""The RAG tool in the classic shape: /v1/tool-runtime/rag-tool/..."""

from starlette.requests import Request
from starlette.responses import Response

from llama_stack.api.stack import ServedStack
from llama_stack.server.answers import json_response, stops_with_its_client
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.classic import ClassicRoute
from llama_stack.server.memory_schema import Inserted, RagContext
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.plain import PlainRouter
from llama_stack.wire.classic.memory.documents import unread_documents
from llama_stack.wire.classic.memory.rag import (
    RagInsertBody,
    RagQueryBody,
    decode_rag_insert,
    decode_rag_query,
    encode_context,
)


def routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("classic memory", ClassicRoute)

    @router.post(
        "/v1/tool-runtime/rag-tool/insert",
        summary="Insert documents",
        **describe(body=RagInsertBody, answer=Inserted),
    )
    async def insert(request: Request) -> Response:
        bank_id, documents, sizes = decode_rag_insert(await read_json(request, options))
        memory = await stack.memory()
        statuses = await memory.insert_documents(bank_id, documents, caller_of(request), sizes=sizes)
        failure = unread_documents(statuses)
        if failure is not None:
            raise failure
        return json_response({"inserted": len(statuses)})

    @router.post(
        "/v1/tool-runtime/rag-tool/query",
        summary="Find context for a prompt",
        **describe(body=RagQueryBody, answer=RagContext),
    )
    async def query(request: Request) -> Response:
        asked = decode_rag_query(await read_json(request, options))
        async with stops_with_its_client(request):
            found = await (await stack.memory()).query(asked.bank_ids, asked.query, caller_of(request))
        return json_response(encode_context(asked, found))

    return router
