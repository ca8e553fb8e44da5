"""Vector databases in the classic shape: /v1/vector-dbs. They are the memory banks of kind vector."""

from starlette.requests import Request
from starlette.responses import Response

from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.resources import MemoryBank, Model, ModelType, VectorBank
from llama_stack.api.stack import ServedStack
from llama_stack.errors import NotFound
from llama_stack.server.answers import json_response
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.classic import ClassicRoute
from llama_stack.server.classic_schema import Removed
from llama_stack.server.memory_schema import ClassicVectorDb, ClassicVectorDbList
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.plain import PlainRouter
from llama_stack.wire.classic.memory.vector_dbs import RegisterVectorDbBody, decode_vector_db, encode_vector_db


def routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("classic memory", ClassicRoute)

    @router.get("/v1/vector-dbs", summary="List the vector databases", **describe(answer=ClassicVectorDbList))
    async def list_vector_dbs(request: Request) -> Response:
        caller = caller_of(request)
        banks = await stack.registry.resources(MemoryBank, caller)
        return json_response(
            {
                "data": [
                    await _encoded(stack, bank, bank.bank, caller)
                    for bank in banks
                    if isinstance(bank.bank, VectorBank)
                ]
            }
        )

    @router.post(
        "/v1/vector-dbs",
        summary="Register a vector database",
        **describe(body=RegisterVectorDbBody, answer=ClassicVectorDb),
    )
    async def register_vector_db(request: Request) -> Response:
        caller = caller_of(request)
        bank = await _without_hint(stack, decode_vector_db(await read_json(request, options)), caller)
        made = (await (await stack.memory()).create_bank(bank, caller)).bank
        assert isinstance(made.bank, VectorBank)
        return json_response(encode_vector_db(made, made.bank))

    # Identifiers hold slashes, and clients send them unescaped: the rest of the path is the identifier.
    @router.get("/v1/vector-dbs/{identifier:path}", summary="One vector database", **describe(answer=ClassicVectorDb))
    async def get_vector_db(request: Request, identifier: str) -> Response:
        caller = caller_of(request)
        bank, kind = await _vector_db(stack, identifier, caller)
        return json_response(await _encoded(stack, bank, kind, caller))

    @router.delete(
        "/v1/vector-dbs/{identifier:path}",
        summary="Remove a vector database with all that is in it",
        **describe(answer=Removed),
    )
    async def unregister_vector_db(request: Request, identifier: str) -> Response:
        caller = caller_of(request)
        await _vector_db(stack, identifier, caller)
        await (await stack.memory()).drop_bank(identifier, caller)
        return json_response({"identifier": identifier, "deleted": True})

    return router


async def _vector_db(stack: ServedStack, identifier: str, caller: Caller) -> tuple[MemoryBank, VectorBank]:
    bank = await stack.registry.resource(MemoryBank, identifier, caller)
    if not isinstance(bank.bank, VectorBank):
        raise NotFound(
            f"{identifier!r} is a memory bank of kind {bank.bank.kind}, no vector database; "
            "/v1/memory-banks has banks of all kinds",
            param="vector_db_id",
            code="memory_bank_not_found",
        )
    return bank, bank.bank


async def _without_hint(stack: ServedStack, bank: MemoryBank, caller: Caller) -> MemoryBank:
    """The caller's dimension is a hint: where the model says its own, that one counts."""
    kind = bank.bank
    if not isinstance(kind, VectorBank) or kind.embedding_dimension is None or not kind.embedding_model:
        return bank
    model = await stack.model(kind.embedding_model, caller)
    if model.embedding_dimension is None:
        return bank
    return bank.model_copy(update={"bank": kind.model_copy(update={"embedding_dimension": None})})


async def _encoded(stack: ServedStack, bank: MemoryBank, kind: VectorBank, caller: Caller) -> JsonObject:
    """A bank of the distribution may leave its model open, and the dimension to the model."""
    model = None
    if not kind.embedding_model or kind.embedding_dimension is None:
        model = await _embedding_model(stack, kind.embedding_model, caller)
    if model is not None:
        known = {"embedding_model": model.identifier, "embedding_dimension": model.embedding_dimension}
        kind = kind.model_copy(update=known)
    return encode_vector_db(bank, kind)


async def _embedding_model(stack: ServedStack, identifier: str, caller: Caller) -> Model | None:
    models = await stack.list_models(caller)
    embedding = [model for model in models if model.model_type is ModelType.EMBEDDING]
    return next((model for model in embedding if identifier in ("", model.identifier)), None)
