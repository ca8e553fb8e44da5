"""What Anthropic's routes do otherwise than the others: their errors, and the name of the request id's header."""

import logging
import math

import orjson
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from llama_stack.errors import StackError
from llama_stack.server.edge import internal_error, request_id_of
from llama_stack.server.hang_up import ClientGone
from llama_stack.server.plain import PlainRoute
from llama_stack.wire.anthropic.errors import encode_error

logger = logging.getLogger(__name__)


class AnthropicRoute(PlainRoute):
    """Errors have Anthropic's body, bugs of ours too, and answers tell their id where Anthropic's client looks."""

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = request_id_of(scope)
        has_begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"request-id", request_id.encode("ascii"))]
            await send(message)

        try:
            await super().answer(scope, receive, send_with_id)
        except ClientGone:
            raise
        except StackError as error:
            await _error_response(error, request_id)(scope, receive, send_with_id)
        except Exception:
            # A bug of ours, as at the edge; told here because the edge does not know the dialect.
            if has_begun:
                raise
            logger.exception("request %s failed", request_id)
            await _error_response(internal_error(request_id), request_id)(scope, receive, send_with_id)


def _error_response(error: StackError, request_id: str) -> Response:
    headers = {} if error.retry_after_s is None else {"retry-after": str(math.ceil(error.retry_after_s))}
    return Response(
        orjson.dumps(encode_error(error, request_id)),
        status_code=error.http_status,
        headers=headers,
        media_type="application/json",
    )
