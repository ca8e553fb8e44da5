"""Qdrant's REST interface (api.qdrant.tech) over the stack's own HTTP client.

Every answer is `{"result": ..., "status": "ok", "time": ...}`, or `{"status": {"error": "..."}, "time": ...}` with an
HTTP status that says what kind of error it is.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson

from llama_stack.errors import (
    NotFound,
    ProviderFailed,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    StackError,
)
from llama_stack.provider import Ground
from llama_stack_providers.remote._openai.failures import partner_failures

if TYPE_CHECKING:
    import httpx

    from llama_stack.provider import Client

WRITES = ("/index", "/points", "/points/payload", "/points/payload/delete", "/points/delete")
MAX_MESSAGE_CHARACTERS = 2000
LARGE_POINTS = 16
"""From so many points on, a body is written in a thread."""


class RestDoor:
    exclusive = False

    def __init__(self, http: "Client", api_key: str | None) -> None:
        self._http = http
        self._secrets = (api_key,) if api_key else ()

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        # A write is answered when it can be searched, not when it is queued.
        waits = method in ("PUT", "POST") and path.endswith(WRITES)
        with partner_failures("Qdrant", self._http.base_url.host, self._secrets):
            response = await self._http.request(
                method,
                path,
                params={"wait": "true"} if waits else None,
                content=await _encoded(body),
                headers={"content-type": "application/json"},
            )
            answer = _parsed(response.content)
            if not response.is_success:
                raise _refusal(response, answer)
            if not isinstance(answer, dict) or "result" not in answer:
                raise ProviderFailed("Qdrant sent an answer without a result; check that url leads to its REST port")
            return answer["result"]

    async def size_bytes(self, collection: str) -> int | None:
        return None


async def _encoded(body: dict[str, Any] | None) -> bytes | None:
    if body is None:
        return None
    if len(body.get("points") or ()) < LARGE_POINTS:
        return orjson.dumps(body)
    return await asyncio.to_thread(orjson.dumps, body)


def _parsed(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def _refusal(response: "httpx.Response", answer: Any) -> StackError:
    status = response.status_code
    told = answer.get("status") if isinstance(answer, dict) else None
    message = str(told.get("error", "")) if isinstance(told, dict) else response.text
    text = f"Qdrant answered {status}: {message[:MAX_MESSAGE_CHARACTERS]}".removesuffix(": ")
    match status:
        case 404 if isinstance(told, dict) and "ollection" in message:
            return NotFound(text)
        case 401 | 403:
            # Not the caller's to mend, so its status is not kept.
            return ProviderFailed(f"{text}; check the config field api_key", code="invalid_api_key")
        case 429:
            wait = response.headers.get("retry-after", "")
            return RateLimited(text, retry_after_s=float(wait) if wait.isdecimal() else None)
        case 408 | 504:
            return ProviderTimeout(text, upstream_status=status)
        case 502 | 503:
            return ProviderUnavailable(text, upstream_status=status)
        case _:
            return ProviderFailed(text, upstream_status=status)


@asynccontextmanager
async def open_rest(ground: Ground, url: str, api_key: str | None, timeout_s: float) -> AsyncIterator[RestDoor]:
    """Raises ProviderUnavailable where no Qdrant answers."""
    headers = {"api-key": api_key} if api_key else {}
    base_url = url if url.endswith("/") else f"{url}/"
    async with ground.http(base_url=base_url, headers=headers, timeout_s=timeout_s) as http:
        door = RestDoor(http, api_key)
        await door.ask("GET", "collections")
        yield door
