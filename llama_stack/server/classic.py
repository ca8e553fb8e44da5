"""What the classic Llama Stack routes do otherwise than the others: their errors, and the older OpenAI prefix."""

import logging
from collections.abc import AsyncGenerator, MutableMapping
from contextlib import aclosing
from typing import Any, ClassVar, TypeVar

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llama_stack.errors import StackError
from llama_stack.server.edge import internal_error, request_id_of
from llama_stack.server.errors import error_response
from llama_stack.server.hang_up import ClientGone
from llama_stack.server.plain import PlainRoute
from llama_stack.wire.openai_chat_stream import DONE_FRAME
from llama_stack.wire.validation import naming

logger = logging.getLogger(__name__)

EventT = TypeVar("EventT")


class ClassicRoute(PlainRoute):
    """Its error bodies also have `detail`, where programs written for earlier servers look for the message."""

    error_headers: ClassVar[dict[str, str]] = {}

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().answer(scope, receive, send)
        except StackError as error:
            response = error_response(error, more={"detail": error.message})
            response.headers.update(self.error_headers)
            await response(scope, receive, send)


class OnceRoute(ClassicRoute):
    """For what must not run twice.

    The classic client repeats a POST that was answered with 408, 409, 429 or 5xx, twice by default, unless this
    header says that it should not.
    """

    error_headers: ClassVar[dict[str, str]] = {"x-should-retry": "false"}

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await super().answer(scope, receive, send_and_note)
        except ClientGone:
            raise
        except Exception:
            # A bug of ours, as at the edge; told here because the edge does not know of the header.
            if has_begun:
                raise
            request_id = request_id_of(scope)
            logger.exception("request %s failed", request_id)
            response = error_response(internal_error(request_id))
            response.headers.update(self.error_headers)
            await response(scope, receive, send)


async def in_words(events: AsyncGenerator[EventT, None], **fields: str) -> AsyncGenerator[EventT, None]:
    """The same events; errors name the request's fields as in `naming`."""
    with naming(**fields):
        async with aclosing(events):
            async for event in events:
                yield event


def is_classic_client(request: Request) -> bool:
    """Whether `llama-stack-client` asks, which tells its version in every request."""
    return "x-llamastack-client-version" in request.headers


OPENAI_PREFIX = "/v1/openai"


class OlderOpenAIPrefix:
    """Serves what is OpenAI's under `/v1/openai/v1/...` too, where the classic client and older programs ask for it.

    Streams end there without `[DONE]`: the classic client reads every frame as JSON, and OpenAI's accepts both.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or not scope["path"].startswith(f"{OPENAI_PREFIX}/v1/"):
            await self._app(scope, receive, send)
            return
        await self._app(_without_prefix(scope), receive, _without_done(send))


def _without_prefix(scope: Scope) -> MutableMapping[str, Any]:
    """The scope is copied: the access log tells the path as it was asked for."""
    raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
    return {
        **scope,
        "path": scope["path"].removeprefix(OPENAI_PREFIX),
        "raw_path": raw_path.removeprefix(OPENAI_PREFIX.encode()),
    }


def _without_done(send: Send) -> Send:
    """A frame is never cut, so `[DONE]` is the end of what is sent together."""
    is_stream = False

    async def send_without(message: Message) -> None:
        nonlocal is_stream
        if message["type"] == "http.response.start":
            # What tells its length is whole already: an answer, or a file whose bytes are nobody's to change.
            is_stream = all(name != b"content-length" for name, _ in message["headers"])
        body = message.get("body", b"")
        if is_stream and message["type"] == "http.response.body" and body.endswith(DONE_FRAME):
            message = {**message, "body": body.removesuffix(DONE_FRAME)}
        await send(message)

    return send_without
