"""/v1/containers: the code interpreter's sessions and their files (OpenAI API reference, "Containers").

They live in this process: what another one runs is not found here, and a restart ends all of them.
"""

import asyncio
import mimetypes
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import PurePosixPath
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from llama_stack.api.agents import ToolGroupUse
from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.containers import CODE_INTERPRETER_GROUP, ContainerFile, Containers, files_to_give
from llama_stack.api.files import File
from llama_stack.api.stack import ServedStack
from llama_stack.errors import InvalidRequest, NotFound, PayloadTooLarge, UnsupportedParameter
from llama_stack.server.answers import json_response
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.containers_schema import (
    ContainerFileList,
    ContainerFileObject,
    ContainerList,
    ContainerObject,
    taking_a_file_or_its_id,
)
from llama_stack.server.files_schema import giving_bytes
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.origins import check_origin
from llama_stack.server.plain import PlainRouter
from llama_stack.server.queries import asked_limit, asked_order
from llama_stack.server.responses_schema import Deleted
from llama_stack.server.uploads import untrusted, upload_body
from llama_stack.wire.openai_containers import (
    ContainerFileBody,
    ContainerFileForm,
    NewContainerBody,
    container_file_of,
    decode_file_id,
    decode_new_container,
    encode_container,
    encode_container_file,
    encode_deleted,
    is_shown,
    no_container,
    session_of,
)
from llama_stack.wire.openai_responses.objects import encode_list
from llama_stack.wire.validation import naming

ALL = "/v1/containers"
ONE = f"{ALL}/{{container_id}}"
FILES = f"{ONE}/files"
FILE = f"{FILES}/{{file_id}}"
MAX_PASSED = 1000


def routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("containers")
    pages = Pages()

    @router.post(ALL, summary="Make a container", **describe(body=NewContainerBody, answer=ContainerObject))
    async def create_container(request: Request) -> Response:
        body, caller = await read_json(request, options), caller_of(request)
        containers = await containers_of(stack, caller)
        name, idle_s, file_ids = decode_new_container(body, containers.max_idle_s)
        given: dict[str, bytes] = {}
        if file_ids:
            files = await stack.files()
            found = await files_to_give(files, file_ids, caller, "file_ids", containers.max_file_bytes)
            given = {path: await _content(stack, file, caller) for path, file in found.items()}
        return json_response(encode_container(await containers.create(name, caller, files=given, idle_s=idle_s)))

    @router.get(ALL, summary="List containers", **describe(answer=ContainerList))
    async def list_containers(request: Request) -> Response:
        caller, name = caller_of(request), request.query_params.get("name")
        found = [one for one in await (await containers_of(stack, caller)).all(caller) if is_shown(one)]
        encoded = [encode_container(one) for one in found]
        return json_response(pages.page(request, [one for one in encoded if name in (None, one["name"])]))

    @router.get(ONE, summary="One container", **describe(answer=ContainerObject))
    async def get_container(request: Request, container_id: str) -> Response:
        caller = caller_of(request)
        containers = await containers_of(stack, caller)
        with _naming_the_container(container_id):
            return json_response(encode_container(await containers.container(session_of(container_id), caller)))

    @router.delete(ONE, summary="End a container", **describe(answer=Deleted))
    async def delete_container(request: Request, container_id: str) -> Response:
        caller = caller_of(request)
        containers = await containers_of(stack, caller)
        with _naming_the_container(container_id):
            await containers.delete(session_of(container_id), caller)
        return json_response(encode_deleted(container_id, "container"))

    return router


def file_routes(stack: ServedStack) -> PlainRouter:
    router = PlainRouter("containers")
    pages = Pages()

    @router.get(FILES, summary="List the files of a container", **describe(answer=ContainerFileList))
    async def list_files(request: Request, container_id: str) -> Response:
        caller = caller_of(request)
        found = await _files(await containers_of(stack, caller), container_id, caller)
        return json_response(pages.page(request, [encode_container_file(container_id, file) for file in found]))

    @router.get(FILE, summary="One file of a container", **describe(answer=ContainerFileObject))
    async def get_file(request: Request, container_id: str, file_id: str) -> Response:
        caller = caller_of(request)
        file = await _file(await containers_of(stack, caller), container_id, file_id, caller)
        return json_response(encode_container_file(container_id, file))

    @router.delete(FILE, summary="Remove a file from a container", **describe(answer=Deleted))
    async def delete_file(request: Request, container_id: str, file_id: str) -> Response:
        caller = caller_of(request)
        containers = await containers_of(stack, caller)
        file = await _file(containers, container_id, file_id, caller)
        try:
            await containers.remove(session_of(container_id), file.path, caller)
        except NotFound:
            raise _no_file(container_id, file_id) from None
        return json_response(encode_deleted(file_id, "container.file"))

    return router


def content_routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    """What carries the files themselves, in and out."""
    router = PlainRouter("containers")

    @router.post(
        FILES,
        summary="Put a file into a container",
        **taking_a_file_or_its_id(describe(body=ContainerFileBody, answer=ContainerFileObject)),
    )
    async def create_file(request: Request, container_id: str) -> Response:
        caller = caller_of(request)
        containers = await containers_of(stack, caller)
        session_id = session_of(container_id)
        with _naming_the_container(container_id):
            # Before the body is read.
            await containers.container(session_id, caller)
        path, content = await _sent(stack, containers, request, options, caller)
        with _naming_the_container(container_id), naming(files="file"):
            file = await containers.put(session_id, path, content, caller)
        return json_response(encode_container_file(container_id, file))

    @router.get(
        f"{FILE}/content",
        summary="The content of a file in a container",
        **giving_bytes(describe(answer=ContainerFileObject)),
    )
    async def get_content(request: Request, container_id: str, file_id: str) -> Response:
        caller = caller_of(request)
        containers = await containers_of(stack, caller)
        file = await _file(containers, container_id, file_id, caller)
        try:
            content = await containers.read(session_of(container_id), file.path, caller)
        except NotFound:
            raise _no_file(container_id, file_id) from None
        kind = mimetypes.guess_type(file.path, strict=False)[0] or "application/octet-stream"
        name = quote(PurePosixPath(file.path).name, safe="")
        return Response(
            content, headers={**untrusted(kind), "content-disposition": f"attachment; filename*=utf-8''{name}"}
        )

    return router


async def containers_of(stack: ServedStack, caller: Caller) -> Containers:
    """Raises UnsupportedParameter for a stack whose code interpreter, if it has one, keeps no files."""
    try:
        group = await stack.tools.group(ToolGroupUse(identifier=CODE_INTERPRETER_GROUP), caller)
        containers = stack.tools.containers(group)
    except NotFound:
        containers = None
    if containers is None:
        raise UnsupportedParameter(
            f"this stack has no code_interpreter; add a tool group {CODE_INTERPRETER_GROUP!r} to its distribution"
        )
    return containers


@contextmanager
def _naming_the_container(container_id: str) -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise no_container(container_id, error) from None


async def _files(containers: Containers, container_id: str, caller: Caller) -> list[ContainerFile]:
    with _naming_the_container(container_id):
        return await containers.files(session_of(container_id), caller)


async def _file(containers: Containers, container_id: str, file_id: str, caller: Caller) -> ContainerFile:
    for file in await _files(containers, container_id, caller):
        if container_file_of(container_id, file.path) == file_id:
            return file
    raise _no_file(container_id, file_id)


def _no_file(container_id: str, file_id: str) -> NotFound:
    return NotFound(
        f"file_id: there is no file {file_id[:100]!r} in container {container_id!r}",
        param="file_id",
        code="file_not_found",
    )


async def _sent(
    stack: ServedStack, containers: Containers, request: Request, options: ServerOptions, caller: Caller
) -> tuple[str, bytes]:
    """A file's path and content: the one in the form, or an uploaded one that the form or the JSON names."""
    kind = request.headers.get("content-type", "")
    most = containers.max_file_bytes
    if not kind.lower().startswith("multipart/"):
        file_id: str | None = decode_file_id(await read_json(request, options))
    else:
        # A page in a browser can send a form to this machine without asking; JSON it must ask for first.
        check_origin(request, options)
        form, pieces = ContainerFileForm(kind), list[bytes]()
        too_large = PayloadTooLarge(
            f"file: is larger than {most} bytes; send less, or raise files_kb of the code interpreter",
            param="file",
            code="file_too_large",
        )
        async with aclosing(upload_body(request, most, too_large)) as chunks:
            async for chunk in chunks:
                pieces += form.feed(chunk)
        filename, file_id = form.end()
        if filename is not None:
            content = b"".join(pieces)
            if len(content) > most:
                raise too_large
            return filename, content
    assert file_id is not None
    with naming(**{"file_id.0": "file_id"}):
        found = await files_to_give(await stack.files(), [file_id], caller, "file_id", most)
    ((path, file),) = found.items()
    return path, await _content(stack, file, caller)


async def _content(stack: ServedStack, file: File, caller: Caller) -> bytes:
    path = await (await stack.files()).path(file.file_id, caller)
    return await asyncio.to_thread(path.read_bytes)


class Pages:
    """Pages of what is listed anew each time, by the time it was made.

    Where the last ones of pages stood is remembered for a while: who deletes what a list shows goes on behind it.
    """

    def __init__(self) -> None:
        self._passed: OrderedDict[str, tuple[int, str]] = OrderedDict()

    def page(self, request: Request, objects: Sequence[JsonObject]) -> JsonObject:
        limit, is_newest_first = asked_limit(request), asked_order(request) == "desc"
        ranked = sorted(((_rank(one), one) for one in objects), key=lambda pair: pair[0], reverse=is_newest_first)
        if (after := request.query_params.get("after")) is not None:
            passed = next((rank for rank, _ in ranked if rank[1] == after), None) or self._passed.get(after)
            if passed is None:
                raise InvalidRequest(f"after: {after[:100]!r} is not in this list", param="after")
            ranked = [pair for pair in ranked if (pair[0] < passed if is_newest_first else pair[0] > passed)]
        page = ranked[:limit]
        if page:
            rank = page[-1][0]
            self._passed[rank[1]] = rank
            self._passed.move_to_end(rank[1])
            if len(self._passed) > MAX_PASSED:
                self._passed.popitem(last=False)
        return encode_list([one for _, one in page], has_more=len(ranked) > limit)


def _rank(one: JsonObject) -> tuple[int, str]:
    return one["created_at"], one["id"]
