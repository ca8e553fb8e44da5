"""Qdrant's REST interface (api.qdrant.tech) over the stack's own HTTP client.

Every answer is `{"result": ..., "status": "ok", "time": ...}`, or `{"status": {"error": "..."}, "time": ...}` with an
HTTP status that says what kind of error it is.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson

from llama_stack.errors import ProviderFailed
from llama_stack.provider import Ground
from llama_stack_providers._vector_database.refusals import refusal
from llama_stack_providers.remote._openai.failures import partner_failures

if TYPE_CHECKING:
    from llama_stack.provider import Client

WRITES = ("/index", "/points", "/points/payload", "/points/payload/delete", "/points/delete")
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
                told = answer.get("status") if isinstance(answer, dict) else None
                message = str(told.get("error", "")) if isinstance(told, dict) else response.text
                missing = isinstance(told, dict) and "ollection" in message
                raise refusal("Qdrant", response, message, is_missing=missing)
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


@asynccontextmanager
async def open_rest(ground: Ground, url: str, api_key: str | None, timeout_s: float) -> AsyncIterator[RestDoor]:
    """Raises ProviderUnavailable where no Qdrant answers."""
    headers = {"api-key": api_key} if api_key else {}
    base_url = url if url.endswith("/") else f"{url}/"
    async with ground.http(base_url=base_url, headers=headers, timeout_s=timeout_s) as http:
        door = RestDoor(http, api_key)
        await door.ask("GET", "collections")
        yield door
