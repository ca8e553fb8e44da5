"""Chroma's REST interface, version 2 (docs.trychroma.com/reference), over the stack's own HTTP client.

An error is `{"error": kind, "message": text}` with an HTTP status.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from llama_stack.errors import ProviderFailed
from llama_stack.provider import Ground
from llama_stack_providers._chroma.door import Collection, Operation
from llama_stack_providers._vector_database.refusals import refusal
from llama_stack_providers.remote._openai.failures import partner_failures

if TYPE_CHECKING:
    from llama_stack.provider import Client

DEFAULT_MAX_RECORDS = 1000
LARGE_RECORDS = 16
"""From so many records on, a body is written in a thread."""


class RestDoor:
    def __init__(self, http: "Client", tenant: str, database: str, api_key: str | None) -> None:
        self._http = http
        self._collections = f"tenants/{quote(tenant, safe='')}/databases/{quote(database, safe='')}/collections"
        self._secrets = (api_key,) if api_key else ()
        self.max_records = DEFAULT_MAX_RECORDS

    async def prepare(self) -> None:
        """Asks for the server's limits; the first request there is."""
        limits = await self._request("GET", "pre-flight-checks")
        told = limits.get("max_batch_size") if isinstance(limits, dict) else None
        if not isinstance(told, int):
            raise ProviderFailed("Chroma sent no limits; check that url leads to a Chroma server, 0.6 or later")
        self.max_records = max(told, 1)

    async def create(self, name: str, metadata: dict[str, Any], configuration: dict[str, Any]) -> Collection:
        body = {"name": name, "metadata": metadata, "configuration": configuration}
        return _collection(await self._request("POST", self._collections, body))

    async def find(self, name: str) -> Collection:
        return _collection(await self._request("GET", f"{self._collections}/{name}"))

    async def drop(self, name: str) -> None:
        await self._request("DELETE", f"{self._collections}/{name}")

    async def ask(self, collection: Collection, operation: Operation, body: dict[str, Any]) -> Any:
        path = f"{self._collections}/{collection.handle}/{operation}"
        return await self._request("GET" if operation == "count" else "POST", path, body or None)

    async def size_bytes(self, collection: Collection) -> int | None:
        return None

    async def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        with partner_failures("Chroma", self._http.base_url.host, self._secrets):
            response = await self._http.request(
                method, path, content=await _encoded(body), headers={"content-type": "application/json"}
            )
            try:
                answer = orjson.loads(response.content) if response.content else None
            except orjson.JSONDecodeError:
                answer = None
            if not response.is_success:
                told = answer.get("message") if isinstance(answer, dict) else None
                known = isinstance(answer, dict) and "error" in answer
                raise refusal("Chroma", response, str(told or response.text), is_missing=known)
            return answer


async def _encoded(body: dict[str, Any] | None) -> bytes | None:
    if body is None:
        return None
    if len(body.get("ids") or ()) < LARGE_RECORDS:
        return orjson.dumps(body)
    return await asyncio.to_thread(orjson.dumps, body)


def _collection(answer: Any) -> Collection:
    if not isinstance(answer, dict) or not isinstance(answer.get("id"), str):
        raise ProviderFailed("Chroma sent a collection without an id")
    return Collection(answer["id"], answer.get("metadata") or {})


@asynccontextmanager
async def open_rest(
    ground: Ground, url: str, api_key: str | None, tenant: str, database: str, timeout_s: float
) -> AsyncIterator[RestDoor]:
    """Raises ProviderUnavailable where no Chroma answers."""
    headers = {"x-chroma-token": api_key} if api_key else {}
    base_url = f"{url.rstrip('/')}/api/v2/"
    async with ground.http(base_url=base_url, headers=headers, timeout_s=timeout_s) as http:
        door = RestDoor(http, tenant, database, api_key)
        await door.prepare()
        yield door
