"""Connections to one PostgreSQL database that has pgvector, and what its failures mean.

A vector travels in pgvector's binary form: two 16-bit numbers, the dimension and 0, then float32 numbers, all most
significant byte first (pgvector's source, `vector_send` in src/vector.c).
"""

import asyncio
import struct
import sys
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from llama_stack.api.vectors import Vectors
from llama_stack.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    ProviderFailed,
    ProviderTimeout,
    ProviderUnavailable,
)

if TYPE_CHECKING:
    import asyncpg

ResultT = TypeVar("ResultT")

ATTEMPTS = 4
"""Of work that loses against another writer, or whose idle connection turns out to be closed."""
EXTENSION_LOCK = 5_842_139_017
"""Any number; one server at a time looks for the extension."""
REMEDY = (
    "install pgvector on the database server (github.com/pgvector/pgvector, version 0.5 or later) and let a superuser"
    " run CREATE EXTENSION vector in this database"
)


def encode_vectors(vectors: Vectors) -> list[bytes]:
    numbers = array("f")
    numbers.frombytes(vectors.buffer)
    if sys.byteorder == "little":
        numbers.byteswap()
    swapped = numbers.tobytes()
    size = vectors.dimension * numbers.itemsize
    head = struct.pack(">HH", vectors.dimension, 0)
    return [head + swapped[start : start + size] for start in range(0, len(swapped), size)]


def decode_vector(sent: bytes) -> bytes:
    """float32 bytes in the machine's own order."""
    numbers = array("f")
    numbers.frombytes(sent[4:])
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tobytes()


class Connections:
    """A bounded pool. `shown` names the database in messages, without its password."""

    def __init__(self, pool: "asyncpg.Pool", shown: str, wait_s: float, version: tuple[int, ...]) -> None:
        self.pool = pool
        self.version = version
        self._shown = shown
        self._wait_s = wait_s

    async def run(self, work: Callable[[Any], Awaitable[ResultT]], *, bank: str, whole: bool = False) -> ResultT:
        """What `work` gives for a connection. It may be called several times, so it must bear repeating.

        bank: for messages. whole: everything it does is one transaction. Raises NotFound for a table that is not
        there, InvalidRequest for what PostgreSQL cannot keep, ProviderUnavailable, ProviderTimeout, ProviderFailed.
        """
        import asyncpg

        passing = (
            asyncpg.UniqueViolationError,
            asyncpg.DeadlockDetectedError,
            asyncpg.SerializationError,
            asyncpg.InvalidCachedStatementError,
            asyncpg.ConnectionDoesNotExistError,
            asyncpg.InterfaceError,
            # How a connection may answer whose end arrives just now.
            asyncpg.InternalClientError,
            ConnectionError,
        )
        for attempt in range(1, ATTEMPTS + 1):
            with database_failures(self._shown, bank):
                try:
                    async with self.pool.acquire(timeout=self._wait_s) as connection:
                        if not whole:
                            return await work(connection)
                        async with connection.transaction():
                            return await work(connection)
                except passing:
                    if attempt == ATTEMPTS:
                        raise
        raise AssertionError("the last attempt returns or raises")


@contextmanager
def database_failures(shown: str, bank: str = "") -> Iterator[None]:
    """Turns what asyncpg raises into this framework's errors."""
    import asyncpg

    try:
        yield
    except asyncpg.UndefinedTableError as error:
        raise NotFound(f"there is no memory bank {bank!r} in {shown}; it may have been dropped") from error
    except asyncpg.UniqueViolationError as error:
        raise Conflict(f"others write the same chunks of {bank!r} at the same time; try again") from error
    except (asyncpg.exceptions.DataError, UnicodeEncodeError) as error:
        raise InvalidRequest(f"PostgreSQL cannot keep this: {_first_line(error)}") from error
    except (asyncpg.QueryCanceledError, TimeoutError) as error:
        raise ProviderTimeout(
            f"{shown} did not answer in time; raise statement_timeout_s or max_connections, or check its load"
        ) from error
    except (
        asyncpg.PostgresConnectionError,
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.InvalidCatalogNameError,
        asyncpg.InsufficientResourcesError,
        asyncpg.OperatorInterventionError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
        OSError,
    ) as error:
        raise ProviderUnavailable(f"{shown} cannot be reached: {_first_line(error)}") from error
    except asyncpg.PostgresError as error:
        raise ProviderFailed(f"{shown} failed: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:500]


@asynccontextmanager
async def open_connections(
    url: str,
    *,
    schema: str,
    size: int,
    connect_timeout_s: float,
    statement_timeout_s: float,
    prepared_statements: bool,
) -> AsyncIterator[Connections]:
    try:
        import asyncpg
    except ImportError as error:
        raise ProviderUnavailable(
            "remote::pgvector needs the package asyncpg: pip install 'llama-stack[postgres]'"
        ) from error

    shown = _shown(url)
    found: dict[str, Any] = {}

    async def set_up(connection: Any) -> None:
        extension = await _extension(connection, schema)
        found["version"] = extension["version"]
        await connection.set_type_codec(
            "vector", schema=extension["schema"], format="binary", encoder=_same, decoder=decode_vector
        )

    with database_failures(shown):
        pool = await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=size,
            init=set_up,
            timeout=connect_timeout_s,
            command_timeout=statement_timeout_s,
            statement_cache_size=100 if prepared_statements else 0,
            # Compiling a query costs more than these short ones take.
            server_settings={"application_name": "llama-stack", "jit": "off"},
        )
    try:
        yield Connections(pool, shown, connect_timeout_s, _numbers(found["version"]))
    finally:
        pool.terminate() if _is_cancelled() else await pool.close()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _same(value: bytes) -> bytes:
    return value


def _shown(url: str) -> str:
    try:
        parts = urlsplit(url)
        where = f"{parts.hostname or 'localhost'}{f':{parts.port}' if parts.port else ''}{parts.path}"
    except ValueError:
        where = "the configured address"
    return f"the database {where}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


_EXTENSION = """
select extversion as version, nspname as schema
from pg_extension join pg_namespace on pg_namespace.oid = extnamespace
where extname = 'vector'
"""


async def _extension(connection: Any, schema: str) -> Any:
    """The extension's version and schema; installed, and the tables' schema made, where that is still to do."""
    import asyncpg

    found = await connection.fetchrow(_EXTENSION)
    has_schema = await connection.fetchval("select exists (select from pg_namespace where nspname = $1)", schema)
    if found is not None and has_schema:
        return found
    try:
        async with connection.transaction():
            await connection.execute(f"select pg_advisory_xact_lock({EXTENSION_LOCK})")
            if not has_schema:
                await connection.execute(f'create schema if not exists "{schema}"')
            if found is None:
                await connection.execute("create extension if not exists vector")
    except asyncpg.PostgresError as error:
        if found is not None:
            raise ProviderUnavailable(
                f"the schema {schema!r} is not there and cannot be made: {_first_line(error)};"
                f" let an owner of the database run CREATE SCHEMA {schema}"
            ) from error
        raise ProviderUnavailable(f"pgvector is not there: {_first_line(error)}; {REMEDY}") from error
    return await connection.fetchrow(_EXTENSION)
