"""/v1/files: upload once, name by id afterwards (OpenAI API reference, "Files")."""

from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from llama_stack.api.files import MAX_FILES_LISTED, file_too_large
from llama_stack.api.stack import ServedStack
from llama_stack.server.answers import json_response
from llama_stack.server.callers import caller_of
from llama_stack.server.files_schema import FileList, FileObject, giving_bytes, taking_an_upload
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.origins import check_origin
from llama_stack.server.plain import PlainRouter
from llama_stack.server.queries import asked_limit, asked_order
from llama_stack.server.responses_schema import Deleted
from llama_stack.server.uploads import untrusted, upload_body
from llama_stack.wire.openai_files import (
    UploadDecoder,
    encode_deleted_file,
    encode_file,
    read_purpose,
)
from llama_stack.wire.openai_responses.objects import encode_list


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
        body = upload_body(request, files.max_file_bytes, file_too_large(files.max_file_bytes))
        async with files.receive() as incoming, aclosing(body) as chunks:
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
        return FileResponse(
            await files.path(file_id, caller), headers=untrusted(file.mime_type), filename=file.filename
        )

    return router
