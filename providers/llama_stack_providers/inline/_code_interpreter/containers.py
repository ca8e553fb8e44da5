"""The sessions as containers: what a caller sees of them, and the files that go in and out apart from any code."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from llama_stack.api.common import Caller
from llama_stack.api.containers import Container, ContainerFile
from llama_stack.errors import InvalidRequest, NotFound, PayloadTooLarge, ProviderFailed
from llama_stack_providers.inline._code_interpreter.driver import MB
from llama_stack_providers.inline._code_interpreter.files import check_size, checked_name
from llama_stack_providers.inline._code_interpreter.protocol import MadeFile, decode_base64
from llama_stack_providers.inline._code_interpreter.session import Look, Outcome, Session
from llama_stack_providers.inline._code_interpreter.sessions import SessionKey, Sessions
from llama_stack_providers.inline._code_interpreter.settings import Config


class SessionContainers:
    """Fulfils api.containers.Containers over the sessions that `sessions` gives, or raises DriverUnavailable."""

    def __init__(self, sessions: Callable[[], Awaitable[Sessions]], config: Config) -> None:
        self._sessions = sessions
        self._config = config

    @property
    def max_file_bytes(self) -> int:
        return self._config.files_kb * 1024

    @property
    def max_idle_s(self) -> float:
        return self._config.idle_s

    async def create(
        self, name: str, caller: Caller, *, files: Mapping[str, bytes] | None = None, idle_s: float | None = None
    ) -> Container:
        given = {checked_name(path): content for path, content in (files or {}).items()}
        check_size(given, self.max_file_bytes)
        sessions = await self._sessions()
        key = caller.owner, f"session_{uuid4().hex}"
        await sessions.begin(key, name, self.max_idle_s if idle_s is None else idle_s)
        if given:
            try:
                async with sessions.existing(key) as session:
                    await _put(session, given)
            except BaseException:
                # Nobody has been told its id.
                await sessions.end(key)
                raise
        return await self.container(key[1], caller)

    async def all(self, caller: Caller) -> list[Container]:
        sessions = await self._sessions()
        return [self._container(key, session) for key, session in sessions.kept(caller.owner).items()]

    async def container(self, session_id: str, caller: Caller) -> Container:
        key = caller.owner, session_id
        async with (await self._sessions()).existing(key) as session:
            session.used_at = time.monotonic()
            return self._container(key, session)

    async def delete(self, session_id: str, caller: Caller) -> None:
        await (await self._sessions()).end((caller.owner, session_id))

    async def files(self, session_id: str, caller: Caller) -> list[ContainerFile]:
        async with (await self._sessions()).existing((caller.owner, session_id)) as session:
            found = await _look(session, "list")
            given = set(session.given)
        return sorted((_file(made, given) for made in found), key=lambda file: file.path)

    async def put(self, session_id: str, path: str, content: bytes, caller: Caller) -> ContainerFile:
        given = {checked_name(path): content}
        check_size(given, self.max_file_bytes)
        async with (await self._sessions()).existing((caller.owner, session_id)) as session:
            await _put(session, given)
        now = datetime.now(UTC).replace(microsecond=0)
        return ContainerFile(path=next(iter(given)), size_bytes=len(content), changed_at=now, is_given=True)

    async def read(self, session_id: str, path: str, caller: Caller) -> bytes:
        made = await self._one(session_id, path, caller, "read")
        if made.content is None:
            raise PayloadTooLarge(
                f"the file {path!r} has {made.size} bytes; at most {self.max_file_bytes} come out of a container: "
                "let the code write smaller ones, or raise files_kb of the code interpreter",
                code="file_too_large",
            )
        return decode_base64(made.content)

    async def remove(self, session_id: str, path: str, caller: Caller) -> None:
        await self._one(session_id, path, caller, "remove")

    async def _one(self, session_id: str, path: str, caller: Caller, what: Look) -> MadeFile:
        async with (await self._sessions()).existing((caller.owner, session_id)) as session:
            found = await _look(session, what, path)
            if what == "remove":
                session.given.pop(path, None)
        if len(found) != 1 or found[0].name != path:
            raise NotFound(f"there is no file {path!r} in the container")
        return found[0]

    def _container(self, key: SessionKey, session: Session) -> Container:
        return Container(
            session_id=key[1],
            name=session.name,
            created_at=session.begun_at,
            used_at=datetime.now(UTC) - timedelta(seconds=time.monotonic() - session.used_at),
            idle_s=session.idle_s,
            memory_bytes=self._config.memory_mb * MB,
        )


async def _look(session: Session, what: Look, name: str | None = None) -> list[MadeFile]:
    outcome = await _to_its_end(session.look(what, name))
    if outcome.error is not None:
        raise ProviderFailed(f"the container does not tell of its files: {_reason(outcome.error)}")
    return outcome.files


async def _put(session: Session, files: dict[str, bytes]) -> None:
    outcome = await _to_its_end(session.run("", files))
    if outcome.limit == "disk":
        raise InvalidRequest("the container has no room for it; remove files first", param="file", code="disk_full")
    if outcome.error is not None:
        raise InvalidRequest(f"the container does not take the file: {_reason(outcome.error)}", param="file")


def _reason(error: str) -> str:
    """The last line of what may be a traceback."""
    return error.strip().rpartition("\n")[2]


async def _to_its_end(asking: Awaitable[Outcome]) -> Outcome:
    """Whoever asks may leave, but the session is not to end for that, as it does with code that is stopped halfway."""
    task = asyncio.ensure_future(asking)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _file(made: MadeFile, given: set[str]) -> ContainerFile:
    changed_at = datetime.fromtimestamp(made.changed_at, UTC)
    return ContainerFile(path=made.name, size_bytes=made.size, changed_at=changed_at, is_given=made.name in given)
