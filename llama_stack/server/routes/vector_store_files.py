"""/v1/vector_stores/{id}/files and /file_batches: files go into a store in the background."""

from starlette.requests import Request
from starlette.responses import Response

from llama_stack.api.common import Caller, Page
from llama_stack.api.memory import DocumentState, DocumentStatus, ListedOrder
from llama_stack.api.stack import ServedStack
from llama_stack.errors import InvalidRequest, NotFound
from llama_stack.server.answers import json_response
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.plain import PlainRouter
from llama_stack.server.queries import asked_limit, asked_order
from llama_stack.server.responses_schema import Deleted
from llama_stack.server.routes.vector_stores import ONE, found
from llama_stack.server.slashed_ids import SlashedIdsRoute
from llama_stack.server.vector_stores_schema import (
    FileBatchObject,
    FileContentPage,
    VectorStoreFileList,
    VectorStoreFileObject,
)
from llama_stack.wire.openai_vector_stores.files import (
    STATES,
    AttachBody,
    AttributesBody,
    BatchBody,
    decode_attach,
    decode_attributes,
    decode_batch,
    encode_batch,
    encode_content,
    encode_file,
)
from llama_stack.wire.openai_vector_stores.stores import encode_page

FILES = f"{ONE}/files"
FILE = f"{FILES}/{{file_id}}"
BATCHES = f"{ONE}/file_batches"
BATCH = f"{BATCHES}/{{batch_id}}"


def routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("vector stores", SlashedIdsRoute)

    @router.post(FILES, summary="Attach a file", **describe(body=AttachBody, answer=VectorStoreFileObject))
    async def attach_file(request: Request, vector_store_id: str) -> Response:
        file, caller = decode_attach(await read_json(request, options)), caller_of(request)
        await found(stack, vector_store_id, caller)
        status = await (await stack.memory()).attach_file(
            vector_store_id, file.file_id, caller, metadata=file.metadata, sizes=file.sizes
        )
        return json_response(encode_file(status))

    @router.get(FILES, summary="List the files of a store", **describe(answer=VectorStoreFileList))
    async def list_files(request: Request, vector_store_id: str) -> Response:
        await found(stack, vector_store_id, caller_of(request))
        return await _listed(stack, request, vector_store_id, None)

    # Before that of one file, which would read `content` as the end of its id.
    @router.get(f"{FILE}/content", summary="The text of a file, as it was read", **describe(answer=FileContentPage))
    async def get_content(request: Request, vector_store_id: str, file_id: str) -> Response:
        caller = caller_of(request)
        await _status(stack, vector_store_id, file_id, caller)
        return json_response(encode_content(await (await stack.memory()).chunks_of(vector_store_id, file_id, caller)))

    @router.get(FILE, summary="A file of a store", **describe(answer=VectorStoreFileObject))
    async def get_file(request: Request, vector_store_id: str, file_id: str) -> Response:
        return json_response(encode_file(await _status(stack, vector_store_id, file_id, caller_of(request))))

    @router.post(
        FILE, summary="Change a file's attributes", **describe(body=AttributesBody, answer=VectorStoreFileObject)
    )
    async def update_file(request: Request, vector_store_id: str, file_id: str) -> Response:
        attributes, caller = decode_attributes(await read_json(request, options)), caller_of(request)
        await _status(stack, vector_store_id, file_id, caller)
        changed = await (await stack.memory()).set_metadata(vector_store_id, file_id, attributes, caller)
        return json_response(encode_file(changed))

    @router.delete(FILE, summary="Take a file out of a store", **describe(answer=Deleted))
    async def detach_file(request: Request, vector_store_id: str, file_id: str) -> Response:
        caller = caller_of(request)
        await _status(stack, vector_store_id, file_id, caller)
        await (await stack.memory()).delete_documents(vector_store_id, [file_id], caller)
        return json_response({"id": file_id, "object": "vector_store.file.deleted", "deleted": True})

    return router


def batch_routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("vector stores", SlashedIdsRoute)

    @router.post(BATCHES, summary="Attach many files", **describe(body=BatchBody, answer=FileBatchObject))
    async def attach_batch(request: Request, vector_store_id: str) -> Response:
        files, caller = decode_batch(await read_json(request, options)), caller_of(request)
        await found(stack, vector_store_id, caller)
        return json_response(encode_batch(await (await stack.memory()).attach_batch(vector_store_id, files, caller)))

    @router.get(BATCH, summary="A batch of files", **describe(answer=FileBatchObject))
    async def get_batch(request: Request, vector_store_id: str, batch_id: str) -> Response:
        memory = await stack.memory()
        return json_response(encode_batch(await memory.batch(vector_store_id, batch_id, caller_of(request))))

    @router.post(f"{BATCH}/cancel", summary="Cancel what has not begun", **describe(answer=FileBatchObject))
    async def cancel_batch(request: Request, vector_store_id: str, batch_id: str) -> Response:
        memory = await stack.memory()
        return json_response(encode_batch(await memory.cancel_batch(vector_store_id, batch_id, caller_of(request))))

    @router.get(f"{BATCH}/files", summary="The files of a batch", **describe(answer=VectorStoreFileList))
    async def list_batch_files(request: Request, vector_store_id: str, batch_id: str) -> Response:
        await (await stack.memory()).batch(vector_store_id, batch_id, caller_of(request))
        return await _listed(stack, request, vector_store_id, batch_id)

    return router


async def _listed(stack: ServedStack, request: Request, store_id: str, batch_id: str | None) -> Response:
    page: Page[DocumentStatus] = await (await stack.memory()).documents(
        store_id,
        caller_of(request),
        limit=asked_limit(request),
        after=request.query_params.get("after"),
        before=request.query_params.get("before"),
        order=ListedOrder(asked_order(request)),
        states=_asked_states(request),
        batch_id=batch_id,
    )
    return json_response(encode_page([encode_file(one) for one in page.entries], has_more=page.next_after is not None))


def _asked_states(request: Request) -> list[DocumentState] | None:
    asked = request.query_params.get("filter")
    if asked is None:
        return None
    if asked not in STATES:
        raise InvalidRequest(f"filter: must be one of {', '.join(STATES)}, not {asked[:50]!r}", param="filter")
    return list(STATES[asked])


async def _status(stack: ServedStack, store_id: str, file_id: str, caller: Caller) -> DocumentStatus:
    await found(stack, store_id, caller)
    try:
        return await (await stack.memory()).document(store_id, file_id, caller)
    except NotFound as error:
        raise NotFound(error.message, param="file_id", code="file_not_found") from None
