"""Qdrant's REST interface (api.qdrant.tech).

Every answer is `{"result": ..., "status": "ok", "time": ...}`, or `{"status": {"error": "..."}, "time": ...}` with an
HTTP status that says what kind of error it is.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from llama_stack.errors import NotFound, ProviderFailed
from llama_stack.provider import Ground
from llama_stack_providers._vector_database.service import Service, open_service, reason_in
from llama_stack_providers._vector_database.settings import DatabaseSettings

WRITES = ("/index", "/points", "/points/payload", "/points/payload/delete", "/points/delete")
LARGE_POINTS = 16
"""From so many points on, a body is written in a thread."""


class RestDoor:
    exclusive = False

    def __init__(self, service: Service) -> None:
        self._service = service

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        # A write is answered when it can be searched, not when it is queued.
        waits = method in ("PUT", "POST") and path.endswith(WRITES)
        status, answer = await self._service.ask(
            method,
            path,
            body,
            query={"wait": "true"} if waits else None,
            answers=(404,),
            is_large=body is not None and len(body.get("points") or ()) >= LARGE_POINTS,
        )
        if status == 404:
            failure = self._service.failure(status, answer)
            raise NotFound(failure.message) if "ollection" in reason_in(answer) else failure
        if "result" not in answer:
            raise ProviderFailed("Qdrant sent an answer without a result; check that url leads to its REST interface")
        return answer["result"]

    async def size_bytes(self, collection: str) -> int | None:
        return None


@asynccontextmanager
async def open_rest(ground: Ground, settings: DatabaseSettings, api_key: str) -> AsyncIterator[RestDoor]:
    """Raises ProviderUnavailable where no Qdrant answers."""
    secrets = {"api-key": api_key} if api_key else {}
    async with open_service("Qdrant", settings, ground, secrets=secrets) as service:
        door = RestDoor(service)
        await door.ask("GET", "collections")
        yield door
