"""/v1/files: upload once, name by id afterwards (OpenAI API reference, "Files")."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response

from llama_stack.api.files import MAX_FILES_LISTED, File, file_too_large
from llama_stack.api.stack import ServedStack
from llama_stack.errors import InvalidRequest
from llama_stack.server.answers import json_response
from llama_stack.server.callers import caller_of
from llama_stack.server.files_schema import FileList, FileObject, giving_bytes, taking_an_upload
from llama_stack.server.hang_up import ClientGone
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.origins import check_origin
from llama_stack.server.plain import PlainRouter
from llama_stack.server.queries import asked_limit, asked_order
from llama_stack.server.responses_schema import Deleted
from llama_stack.wire.openai_files import (
    MAX_FORM_BYTES,
    UploadDecoder,
    encode_deleted_file,
    encode_file,
    read_purpose,
)
from llama_stack.wire.openai_responses.objects import encode_list

STALL_S = 120.0
"""Longest wait for more of an upload; whoever sends nothing holds a place that others may want."""


def routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("files")
    one = "/v1/files/{file_id}"

    @router.post("/v1/files", summary="Upload a file", **taking_an_upload(describe(answer=FileObject)))
    async def upload_file(request: Request) -> Response:
        # A page in a browser can send a form to this machine without asking; JSON it must ask for first.
        check_origin(request, options)
        caller = caller_of(request)
        decoder = UploadDecoder(request.headers.get("content-type", ""))
        files = await stack.files()
        async with files.receive() as incoming, aclosing(_body(request, files.max_file_bytes)) as chunks:
            async for chunk in chunks:
                for content in decoder.feed(chunk):
                    await incoming.write(content)
            return json_response(encode_file(await incoming.keep(decoder.end(), caller)))

    @router.get("/v1/files", summary="List files", **describe(answer=FileList))
    async def list_files(request: Request) -> Response:
        purpose = request.query_params.get("purpose")
        page = await (await stack.files()).page(
            caller_of(request),
            limit=asked_limit(request, default=MAX_FILES_LISTED, most=MAX_FILES_LISTED),
            after=request.query_params.get("after"),
            order=asked_order(request),
            purpose=None if purpose is None else read_purpose(purpose),
        )
        return json_response(
            encode_list([encode_file(file) for file in page.entries], has_more=page.next_after is not None)
        )

    @router.get(one, summary="One file", **describe(answer=FileObject))
    async def get_file(request: Request, file_id: str) -> Response:
        return json_response(encode_file(await (await stack.files()).file(file_id, caller_of(request))))

    @router.delete(one, summary="Delete a file", **describe(answer=Deleted))
    async def delete_file(request: Request, file_id: str) -> Response:
        await (await stack.files()).delete(file_id, caller_of(request))
        return json_response(encode_deleted_file(file_id))

    @router.get(f"{one}/content", summary="The content of a file", **giving_bytes(describe(answer=FileObject)))
    async def get_content(request: Request, file_id: str) -> Response:
        files, caller = await stack.files(), caller_of(request)
        file = await files.file(file_id, caller)
        return FileResponse(await files.path(file_id, caller), headers=_headers_of(file), filename=file.filename)

    return router


def _headers_of(file: File) -> dict[str, str]:
    # The owner's bytes are shown by nobody as a page of this server, whatever type they say they have.
    return {"content-type": file.mime_type, "x-content-type-options": "nosniff"}


async def _body(request: Request, max_file_bytes: int) -> AsyncGenerator[bytes, None]:
    """The body in pieces. A file has a limit of its own, apart from that of other bodies."""
    limit_bytes = max_file_bytes + MAX_FORM_BYTES
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit_bytes:
        raise file_too_large(max_file_bytes)
    size_bytes = 0
    try:
        async with aclosing(request.stream()) as chunks:
            while True:
                async with asyncio.timeout(STALL_S):
                    chunk = await anext(chunks, b"")
                if not chunk:
                    return
                size_bytes += len(chunk)
                if size_bytes > limit_bytes:
                    raise file_too_large(max_file_bytes)
                yield chunk
    except ClientDisconnect as error:
        raise ClientGone from error
    except TimeoutError as error:
        raise InvalidRequest(
            f"nothing more of the upload came for {STALL_S:g} s; send it again", code="upload_stalled"
        ) from error
