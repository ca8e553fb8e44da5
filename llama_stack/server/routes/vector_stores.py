"""/v1/vector_stores: memory banks in OpenAI's shape, and search in them (API reference, "Vector stores")."""

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.memory import BankRecord, Chunk, ListedOrder, MemoryQuery, Rewriting
from llama_stack.api.resources import ModelType, VectorBank
from llama_stack.api.stack import ServedStack
from llama_stack.errors import NotFound
from llama_stack.server.answers import json_response
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.plain import PlainRouter
from llama_stack.server.queries import asked_limit, asked_order
from llama_stack.server.responses_schema import Deleted
from llama_stack.server.side_by_side import gather_results
from llama_stack.server.slashed_ids import SlashedIdsRoute
from llama_stack.server.vector_stores_schema import SearchResultPage, VectorStoreList, VectorStoreObject
from llama_stack.wire.openai_vector_stores.search import SearchBody, decode_search, encode_results, unknown_ranker
from llama_stack.wire.openai_vector_stores.stores import (
    CreateStoreBody,
    UpdateStoreBody,
    decode_changed_store,
    decode_new_store,
    encode_page,
    encode_store,
    with_description,
)

ALL = "/v1/vector_stores"
ONE = "/v1/vector_stores/{vector_store_id}"


def routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("vector stores", SlashedIdsRoute)

    @router.post(ALL, summary="Create a vector store", **describe(body=CreateStoreBody, answer=VectorStoreObject))
    async def create_store(request: Request) -> Response:
        new, caller = decode_new_store(await read_json(request, options)), caller_of(request)
        memory = await stack.memory()
        files = await stack.files()
        for one in new.files:
            await files.file(one.file_id, caller)
        record = await memory.create_bank(new.bank, caller, name=new.name, metadata=new.metadata, expiry=new.expiry)
        if new.files:
            await memory.attach_batch(record.bank.identifier, new.files, caller)
            record = await memory.bank(record.bank.identifier, caller)
        return json_response(_shown(record))

    @router.get(ALL, summary="List the vector stores", **describe(answer=VectorStoreList))
    async def list_stores(request: Request) -> Response:
        page = await (await stack.memory()).banks(
            caller_of(request),
            limit=asked_limit(request),
            after=request.query_params.get("after"),
            before=request.query_params.get("before"),
            order=ListedOrder(asked_order(request)),
            kind="vector",
        )
        shown = [_shown(record) for record in page.entries]
        return json_response(encode_page(shown, has_more=page.next_after is not None))

    @router.get(ONE, summary="One vector store", **describe(answer=VectorStoreObject))
    async def get_store(request: Request, vector_store_id: str) -> Response:
        return json_response(_shown(await found(stack, vector_store_id, caller_of(request))))

    @router.post(ONE, summary="Change a vector store", **describe(body=UpdateStoreBody, answer=VectorStoreObject))
    async def update_store(request: Request, vector_store_id: str) -> Response:
        changed, caller = decode_changed_store(await read_json(request, options)), caller_of(request)
        metadata = with_description(changed.metadata, (await found(stack, vector_store_id, caller)).metadata)
        record = await (await stack.memory()).update_bank(
            vector_store_id, caller, name=changed.name, metadata=metadata, expiry=changed.expiry
        )
        return json_response(_shown(record))

    @router.delete(ONE, summary="Delete a vector store", **describe(answer=Deleted))
    async def delete_store(request: Request, vector_store_id: str) -> Response:
        caller = caller_of(request)
        await found(stack, vector_store_id, caller)
        await (await stack.memory()).drop_bank(vector_store_id, caller)
        return json_response({"id": vector_store_id, "object": "vector_store.deleted", "deleted": True})

    return router


def search_routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("vector stores", SlashedIdsRoute)

    @router.post(f"{ONE}/search", summary="Search a vector store", **describe(body=SearchBody, answer=SearchResultPage))
    async def search_store(request: Request, vector_store_id: str) -> Response:
        body, caller = await read_json(request, options), caller_of(request)
        wants_rewriting = isinstance(body, dict) and body.get("rewrite_query")
        rewriting = await _rewriting(stack, caller) if wants_rewriting else None
        questions, query = decode_search(body, rewriting=rewriting)
        try:
            return json_response(await _searched(stack, vector_store_id, questions, query, caller))
        except NotFound as error:
            if error.code != "memory_bank_not_found":
                raise unknown_ranker(query, error) or error from None
            raise NotFound(error.message, param="vector_store_id", code="vector_store_not_found") from None

    return router


async def _searched(
    stack: ServedStack, store_id: str, questions: list[str], query: MemoryQuery, caller: Caller
) -> JsonObject:
    """Of several questions, the best of all that was found."""
    memory = await stack.memory()
    rankings = await gather_results(
        [memory.query([store_id], query.model_copy(update={"query": question}), caller) for question in questions]
    )
    best: dict[str, Chunk] = {}
    for chunk in (chunk for ranking in rankings for chunk in ranking):
        if chunk.chunk_id not in best or chunk.score > best[chunk.chunk_id].score:
            best[chunk.chunk_id] = chunk
    chunks = list(best.values())
    if len(questions) > 1:
        chunks.sort(key=lambda chunk: (-chunk.score, chunk.chunk_id))
    return encode_results(questions, chunks[: query.max_chunks])


async def _rewriting(stack: ServedStack, caller: Caller) -> Rewriting | None:
    """With the stack's first chat model."""
    for model in await stack.list_models(caller):
        if model.model_type is ModelType.LLM:
            return Rewriting(model=model.identifier)
    return None


async def found(stack: ServedStack, store_id: str, caller: Caller) -> BankRecord:
    """Raises NotFound, also for a bank of another kind."""
    try:
        record = await (await stack.memory()).bank(store_id, caller)
    except NotFound as error:
        raise NotFound(error.message, param="vector_store_id", code="vector_store_not_found") from None
    if not isinstance(record.bank.bank, VectorBank):
        raise NotFound(
            f"{store_id!r} is a memory bank of kind {record.bank.bank.kind}, not a vector store; see /v1/memory-banks",
            param="vector_store_id",
            code="vector_store_not_found",
        )
    return record


def _shown(record: BankRecord) -> JsonObject:
    return encode_store(record, datetime.now(UTC))
