"""Memory banks of every kind: /v1/memory-banks and /v1/memory/... in the words of the memory API of 2024, and more."""

from starlette.requests import Request
from starlette.responses import Response

from llama_stack.api.memory import Memory
from llama_stack.api.resources import MemoryBank
from llama_stack.api.stack import ServedStack
from llama_stack.errors import InvalidRequest, PayloadTooLarge
from llama_stack.server.answers import json_response, stops_with_its_client
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.classic import ClassicRoute
from llama_stack.server.classic_schema import Removed
from llama_stack.server.memory_schema import (
    BankStatsAnswer,
    DeletedDocuments,
    DocumentAnswerList,
    DocumentStatusAnswerList,
    FoundChunks,
    Inserted,
    MemoryBankAnswer,
    MemoryBankAnswerList,
)
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.plain import PlainRouter
from llama_stack.server.queries import asked_limit
from llama_stack.wire.classic.body import parse_body
from llama_stack.wire.classic.memory.banks import RegisterMemoryBankBody, decode_memory_bank, encode_memory_bank
from llama_stack.wire.classic.memory.contents import (
    DeleteDocumentsBody,
    InsertDocumentsBody,
    InsertFactsBody,
    ListDocumentsBody,
    QueryMemoryBody,
    ReadDocumentsBody,
    decode_deletion,
    decode_facts,
    decode_insert,
    decode_memory_query,
    decode_reading,
    encode_document,
    encode_found,
    encode_stats,
    encode_status,
    encode_statuses,
)

LISTED = 100
MAX_CHUNKS_READ = 10_000
"""Of several documents in one answer."""


def routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("memory", ClassicRoute)
    _add_banks(router, stack, options)
    _add_contents(router, stack, options)
    _add_documents(router, stack, options)
    _add_reading(router, stack, options)
    return router


def _add_banks(router: PlainRouter, stack: ServedStack, options: ServerOptions) -> None:
    @router.get("/v1/memory-banks", summary="List the memory banks", **describe(answer=MemoryBankAnswerList))
    async def list_banks(request: Request) -> Response:
        banks = await stack.registry.resources(MemoryBank, caller_of(request))
        return json_response({"data": [encode_memory_bank(bank) for bank in banks]})

    @router.post(
        "/v1/memory-banks",
        summary="Register a memory bank",
        **describe(body=RegisterMemoryBankBody, answer=MemoryBankAnswer),
    )
    async def register_bank(request: Request) -> Response:
        bank = decode_memory_bank(await read_json(request, options))
        made = await (await stack.memory()).create_bank(bank, caller_of(request))
        return json_response(encode_memory_bank(made.bank))

    # Identifiers hold slashes, and clients send them unescaped: the rest of the path is the identifier.
    @router.get("/v1/memory-banks/{identifier:path}", summary="One memory bank", **describe(answer=MemoryBankAnswer))
    async def get_bank(request: Request, identifier: str) -> Response:
        return json_response(
            encode_memory_bank(await stack.registry.resource(MemoryBank, identifier, caller_of(request)))
        )

    @router.delete(
        "/v1/memory-banks/{identifier:path}",
        summary="Remove a memory bank with all that is in it",
        **describe(answer=Removed),
    )
    async def unregister_bank(request: Request, identifier: str) -> Response:
        await (await stack.memory()).drop_bank(identifier, caller_of(request))
        return json_response({"identifier": identifier, "deleted": True})


def _add_contents(router: PlainRouter, stack: ServedStack, options: ServerOptions) -> None:
    @router.post(
        "/v1/memory/insert",
        summary="Insert documents",
        **describe(body=InsertDocumentsBody, answer=DocumentStatusAnswerList),
    )
    async def insert(request: Request) -> Response:
        """One that cannot be read is `failed` in the answer, with its error; the others are there."""
        bank_id, documents = decode_insert(await read_json(request, options))
        statuses = await (await stack.memory()).insert_documents(bank_id, documents, caller_of(request))
        return json_response({"data": [encode_status(status) for status in statuses], "next_after": None})

    @router.post("/v1/memory/query", summary="Find chunks", **describe(body=QueryMemoryBody, answer=FoundChunks))
    async def query(request: Request) -> Response:
        bank_ids, wanted = decode_memory_query(await read_json(request, options))
        async with stops_with_its_client(request):
            found = await (await stack.memory()).query(bank_ids, wanted, caller_of(request))
        return json_response(encode_found(found))

    @router.post(
        "/v1/memory/facts",
        summary="Insert entities and relations into a graph bank",
        **describe(body=InsertFactsBody, answer=Inserted),
    )
    async def insert_facts(request: Request) -> Response:
        bank_id, facts = decode_facts(await read_json(request, options))
        await (await stack.memory()).insert_facts(bank_id, facts, caller_of(request))
        return json_response({"inserted": len(facts)})

    @router.get("/v1/memory/stats", summary="How much is in a memory bank", **describe(answer=BankStatsAnswer))
    async def stats(request: Request) -> Response:
        memory = await stack.memory()
        return json_response(encode_stats(await memory.stats(_asked_bank(request), caller_of(request))))


def _add_documents(router: PlainRouter, stack: ServedStack, options: ServerOptions) -> None:
    async def page(memory: Memory, wanted: ListDocumentsBody, request: Request) -> Response:
        listed = await memory.documents(
            wanted.bank_id,
            caller_of(request),
            limit=wanted.limit or LISTED,
            after=wanted.after,
            states=None if wanted.state is None else [wanted.state],
        )
        return json_response(encode_statuses(listed))

    @router.get(
        "/v1/memory/documents",
        summary="List the documents of a memory bank",
        **describe(answer=DocumentStatusAnswerList),
    )
    async def list_documents(request: Request) -> Response:
        asked = {
            "bank_id": _asked_bank(request),
            "limit": asked_limit(request, default=LISTED, most=1000),
            "after": request.query_params.get("after"),
            "state": request.query_params.get("state"),
        }
        return await page(await stack.memory(), parse_body(ListDocumentsBody, asked), request)

    @router.post(
        "/v1/memory/documents/list",
        summary="List the documents of a memory bank",
        **describe(body=ListDocumentsBody, answer=DocumentStatusAnswerList),
    )
    async def post_list_documents(request: Request) -> Response:
        wanted = parse_body(ListDocumentsBody, await read_json(request, options))
        return await page(await stack.memory(), wanted, request)


def _add_reading(router: PlainRouter, stack: ServedStack, options: ServerOptions) -> None:
    @router.post(
        "/v1/memory/documents/get",
        summary="Documents with their chunks",
        **describe(body=ReadDocumentsBody, answer=DocumentAnswerList),
    )
    async def get_documents(request: Request) -> Response:
        bank_id, document_ids = decode_reading(await read_json(request, options))
        memory, caller = await stack.memory(), caller_of(request)
        statuses = [await memory.document(bank_id, document_id, caller) for document_id in document_ids]
        chunks = sum(status.chunks for status in statuses)
        if len(statuses) > 1 and chunks > MAX_CHUNKS_READ:
            raise PayloadTooLarge(
                f"document_ids: these documents have {chunks} chunks, and one answer {MAX_CHUNKS_READ} at most; "
                "ask for fewer of them",
                param="document_ids",
            )
        found = [
            encode_document(status, await memory.chunks_of(bank_id, status.document_id, caller)) for status in statuses
        ]
        return json_response({"data": found})

    @router.post(
        "/v1/memory/documents/delete",
        summary="Delete documents",
        **describe(body=DeleteDocumentsBody, answer=DeletedDocuments),
    )
    async def delete_documents(request: Request) -> Response:
        wanted = decode_deletion(await read_json(request, options))
        memory, caller = await stack.memory(), caller_of(request)
        if wanted.filters is not None:
            deleted = await memory.delete_where(wanted.bank_id, wanted.filters, caller)
        else:
            deleted = await memory.delete_documents(wanted.bank_id, wanted.document_ids or [], caller)
        return json_response({"deleted": deleted})


def _asked_bank(request: Request) -> str:
    """In the query, because identifiers hold slashes. Raises InvalidRequest without one."""
    bank_id = request.query_params.get("bank_id")
    if not bank_id:
        raise InvalidRequest("bank_id: is required, such as ?bank_id=notes", param="bank_id")
    return bank_id
