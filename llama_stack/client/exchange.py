"""One exchange with a Llama Stack server: JSON out, JSON or a stream of it back, the errors of a local stack."""

import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
import orjson

from llama_stack.api.common import Caller, JsonObject
from llama_stack.errors import NotPermitted, ProviderFailed, ProviderTimeout, ProviderUnavailable
from llama_stack.wire.openai_errors import decode_error, decode_error_frame
from llama_stack.wire.sse import SSEDecoder

PROVIDER_DATA_HEADER = "X-LlamaStack-Provider-Data"


class Exchange:
    """Requests to one server. Identity is the connection's; provider credentials travel with each request."""

    def __init__(self, http: httpx.AsyncClient, accept: str | None = None) -> None:
        self._http = http
        self._accept = accept

    def asking_for(self, media_type: str) -> "Exchange":
        """The same connection, whose answers are wanted in this form."""
        return Exchange(self._http, media_type)

    async def get(self, path: str, caller: Caller) -> Any:
        async with self._send("GET", path, None, caller) as response:
            return _parsed(await response.aread())

    async def post(self, path: str, body: JsonObject, caller: Caller, *, patience_s: float = 0.0) -> Any:
        """patience_s: wait at least so long for the answer to begin, whatever the connection's own limit is."""
        async with self._send("POST", path, body, caller, patience_s=patience_s) as response:
            return _parsed(await response.aread())

    async def put(self, path: str, body: JsonObject, caller: Caller) -> Any:
        async with self._send("PUT", path, body, caller) as response:
            return _parsed(await response.aread())

    async def delete(self, path: str, caller: Caller) -> None:
        async with self._send("DELETE", path, None, caller) as response:
            await response.aread()

    async def upload(self, path: str, form: AsyncIterable[bytes], content_type: str, caller: Caller) -> Any:
        """Send what is not JSON, in pieces as they come. content_type: of the whole."""
        async with self._send("POST", path, form, caller, content_type=content_type) as response:
            return _parsed(await response.aread())

    async def download(self, path: str, caller: Caller) -> AsyncGenerator[bytes, None]:
        """The bytes of an answer that is not JSON, in pieces. Raises ProviderFailed for one that broke off."""
        async with self._send("GET", path, None, caller) as response, aclosing(_chunks(response)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def stream(
        self, path: str, body: JsonObject, caller: Caller, *, patience_s: float = 0.0
    ) -> AsyncGenerator[Any, None]:
        """The JSON of each server-sent event until `[DONE]`.

        patience_s: wait at least so long for more of it, whatever the connection's own limit is.
        Raises the error of an error event, and ProviderFailed for a stream that broke off.
        """
        sse = SSEDecoder()
        sending = self._send("POST", path, body, caller, patience_s=patience_s)
        async with sending as response, aclosing(_chunks(response)) as chunks:
            async for chunk in chunks:
                for event in sse.feed(chunk):
                    if event.data == b"[DONE]":
                        return
                    parsed = _parsed(event.data)
                    if isinstance(parsed, dict) and isinstance(parsed.get("error"), dict):
                        raise decode_error_frame(parsed)
                    yield parsed
        raise ProviderFailed("the connection to the stack broke off before the answer was complete")

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        path: str,
        body: JsonObject | AsyncIterable[bytes] | None,
        caller: Caller,
        *,
        patience_s: float = 0.0,
        content_type: str = "application/json",
    ) -> AsyncIterator[httpx.Response]:
        """A response with a good status; its body is still to be read, inside the context."""
        headers = {"content-type": content_type}
        if self._accept is not None:
            headers["accept"] = self._accept
        if caller.provider_credentials:
            headers[PROVIDER_DATA_HEADER] = json.dumps(caller.provider_credentials)
        content = orjson.dumps(body) if isinstance(body, dict) else body
        where = self._http.base_url
        limits = self._http.timeout.as_dict()
        timeout = httpx.Timeout(**{**limits, "read": max(limits["read"] or patience_s, patience_s)})
        try:
            async with self._http.stream(method, path, content=content, headers=headers, timeout=timeout) as response:
                if response.is_redirect:
                    target = response.headers.get("location")
                    raise NotPermitted(f"{where} redirects to {target}; connect to that address if you trust it")
                if not response.is_success:
                    raise decode_error(
                        response.status_code, _read_json(await response.aread()), response.headers.get("retry-after")
                    )
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ProviderUnavailable(
                f"cannot reach a stack at {where}: {error}; start one with `llama stack run starter`, or mend the URL"
            ) from error
        except httpx.TimeoutException as error:
            raise ProviderTimeout(
                f"the stack at {where} sent nothing in time; raise timeout_s or ask for less"
            ) from error
        except httpx.TransportError as error:
            raise ProviderFailed(f"the connection to the stack at {where} failed: {error}") from error


async def _chunks(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    async for chunk in response.aiter_bytes():
        yield chunk


def _read_json(content: bytes) -> Any:
    """The body of an error as far as it is JSON; a proxy's web page is not."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def _parsed(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ProviderFailed(f"the server answered what is not JSON ({error}); is the URL that of a stack?") from error
