"""Chroma's REST interface, version 2 (docs.trychroma.com/reference).

An error is `{"error": kind, "message": text}` with an HTTP status.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from llama_stack.errors import Conflict, NotFound, ProviderFailed
from llama_stack.provider import Ground
from llama_stack_providers._chroma.door import Collection, Operation
from llama_stack_providers._vector_database.service import Service, open_service, path_of
from llama_stack_providers._vector_database.settings import DatabaseSettings

LARGE_RECORDS = 16
"""From so many records on, a body is written in a thread."""


class RestDoor:
    """max_records: as the server says."""

    def __init__(self, service: Service, tenant: str, database: str, max_records: int) -> None:
        self._service = service
        self._collections = path_of("tenants", tenant, "databases", database, "collections")
        self.max_records = max_records

    async def create(self, name: str, metadata: dict[str, Any], configuration: dict[str, Any]) -> Collection:
        body = {"name": name, "metadata": metadata, "configuration": configuration}
        return _collection(await self._request("POST", self._collections, body))

    async def find(self, name: str) -> Collection:
        return _collection(await self._request("GET", f"{self._collections}/{name}"))

    async def drop(self, name: str) -> None:
        await self._request("DELETE", f"{self._collections}/{name}")

    async def ask(self, collection: Collection, operation: Operation, body: dict[str, Any]) -> Any:
        path = f"{self._collections}/{collection.handle}/{operation}"
        if operation == "count":
            return (await self._request("GET", path))["values"]
        return await self._request("POST", path, body)

    async def size_bytes(self, collection: Collection) -> int | None:
        return None

    async def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        is_large = body is not None and len(body.get("ids") or ()) >= LARGE_RECORDS
        status, answer = await self._service.ask(method, path, body, answers=(404, 409), is_large=is_large)
        if status == 404 and "error" in answer:
            raise NotFound(self._service.failure(status, answer).message)
        if status == 409:
            raise Conflict(self._service.failure(status, answer).message)
        if status == 404:
            raise self._service.failure(status, answer)
        return answer


def _collection(answer: dict[str, Any]) -> Collection:
    if not isinstance(answer.get("id"), str):
        raise ProviderFailed("Chroma sent a collection without an id")
    return Collection(answer["id"], answer.get("metadata") or {})


@asynccontextmanager
async def open_rest(
    ground: Ground, settings: DatabaseSettings, api_key: str, tenant: str, database: str
) -> AsyncIterator[RestDoor]:
    """Raises ProviderUnavailable where no Chroma answers."""
    secrets = {"x-chroma-token": api_key} if api_key else {}
    async with open_service("Chroma", settings, ground, path="api/v2/", secrets=secrets) as service:
        _, limits = await service.ask("GET", "pre-flight-checks")
        most = limits.get("max_batch_size")
        if not isinstance(most, int):
            raise ProviderFailed("Chroma sent no limits; check that url leads to a Chroma server, 0.6 or later")
        yield RestDoor(service, tenant, database, max(most, 1))
