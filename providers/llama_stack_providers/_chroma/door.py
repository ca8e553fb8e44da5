"""How the index reaches Chroma: the operations of its interface, version 2, wherever they are carried out."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

Operation = Literal["add", "update", "delete", "get", "query", "count"]


@dataclass(frozen=True)
class Collection:
    """handle: what the door knows it by, a new one each time it is made."""

    handle: Any
    metadata: dict[str, Any]


class Door(Protocol):
    """max_records: that one operation can add or change. NotFound is raised for a collection that is not there,
    ProviderUnavailable where Chroma cannot be reached."""

    max_records: int

    async def create(self, name: str, metadata: dict[str, Any], configuration: dict[str, Any]) -> Collection:
        """Raises Conflict where it is there."""
        ...

    async def find(self, name: str) -> Collection: ...

    async def drop(self, name: str) -> None: ...

    async def ask(self, collection: Collection, operation: Operation, body: dict[str, Any]) -> Any: ...

    async def size_bytes(self, collection: Collection) -> int | None: ...
