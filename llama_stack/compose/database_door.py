"""The door to the one database of a stack."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_stack.storage import Database

DATABASE_FILE = "stack.db"
"""In the stack's home, where no other database is configured; as `storage.default_url` says."""


class DatabaseDoor:
    """The stack's one database, opened when it is first used: a stack that keeps nothing pays nothing for it."""

    def __init__(self, url: str | None, home: Path) -> None:
        self._url = url
        self._home = home
        self._lock = asyncio.Lock()
        self._exits = AsyncExitStack()
        self._database: Database | None = None

    async def open(self) -> "Database":
        """The database, its schema up to date. Raises ConfigError when it cannot be used."""
        async with self._lock:
            if self._database is None:
                # Half a second in which the event loop need not stand still; whoever has a database has it loaded.
                await asyncio.to_thread(import_module, "llama_stack.storage")
                from llama_stack.storage import default_url, open_database

                url = self._url or default_url(self._home)
                self._database = await self._exits.enter_async_context(open_database(url))
            return self._database

    @property
    def is_open(self) -> bool:
        return self._database is not None

    @property
    def has_state(self) -> bool:
        """Whether an earlier process may have kept something; found out without loading a driver."""
        return self._url is not None or (self._home.expanduser() / DATABASE_FILE).exists()

    @asynccontextmanager
    async def ready(self) -> AsyncIterator["DatabaseDoor"]:
        """Closes the database in the end. One that a person configured is opened at once, so a wrong URL is found."""
        async with self._exits:
            if self._url is not None:
                await self.open()
            yield self
