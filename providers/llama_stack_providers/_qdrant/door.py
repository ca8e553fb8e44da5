"""How the index reaches Qdrant: requests of its REST interface (api.qdrant.tech), wherever they are carried out."""

from typing import Any, Protocol


class Door(Protocol):
    """exclusive: nobody else writes behind it, so what is unfinished in there is known without asking."""

    exclusive: bool

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The `result` of the answer. path: from `collections`, without a query; every write is waited for.

        Raises NotFound for a collection that is not there, ProviderUnavailable where Qdrant cannot be reached.
        """
        ...

    async def size_bytes(self, collection: str) -> int | None:
        """On disk, where that can be told."""
        ...
