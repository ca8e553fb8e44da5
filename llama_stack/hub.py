"""Models of the Hugging Face hub: `hf:owner/repository/file.gguf`, downloaded once, found from then on.

A download goes to a `.part` file beside its place, is continued where it broke off, checked against the hub's
checksum and only then moved into place, so a file that is there is whole. Environment, as the hub's own tools read it:
HF_ENDPOINT (another hub or mirror), HF_TOKEN (for gated models), HF_HUB_OFFLINE (no network).

The hub's answers, from its documentation and the `huggingface_hub` library: a file is at
`{endpoint}/{repository}/resolve/{revision}/{file}`; `X-Linked-Etag` is the SHA-256 of a large file and `X-Linked-Size`
its size; a small file's `ETag` is the SHA-1 of its git blob; `X-Error-Code` tells GatedRepo, RepoNotFound,
RevisionNotFound and EntryNotFound apart.
"""

import asyncio
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from llama_stack.errors import (
    ConfigError,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    ProviderFailed,
    ProviderUnavailable,
    StackError,
)

if TYPE_CHECKING:
    import httpx

PREFIX = "hf:"
DEFAULT_ENDPOINT = "https://huggingface.co"
PAUSES_S = (0.5, 1.0, 2.0, 4.0)
"""Waits before each new attempt after the connection broke."""

Progress = Callable[[int, int | None], None]
"""Called with the bytes there are and the bytes there will be, as a download or a check advances."""

_WRITE_BYTES = 1 << 20
_PART_OF_MANY = re.compile(r"(.*)-\d{5}-of-(\d{5})\.gguf")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class HubReference:
    """A file of the hub. repository: `owner/name`. path: of the file inside it. revision: branch, tag or commit."""

    repository: str
    path: str
    revision: str = "main"

    @classmethod
    def parse(cls, text: str) -> "HubReference":
        """Read `hf:owner/repository/file` or `hf:owner/repository@revision/file`. Raises ConfigError."""
        owner, _, rest = text.removeprefix(PREFIX).partition("/")
        name, _, path = rest.partition("/")
        name, _, revision = name.partition("@")
        parts = path.split("/")
        if not (_NAME.fullmatch(owner) and _NAME.fullmatch(name)) or any(part in ("", ".", "..") for part in parts):
            raise ConfigError(
                f"{text!r} does not name a file of the hub", remedy="Write hf:owner/repository/file.gguf."
            )
        if "\\" in path or "\0" in path:
            raise ConfigError(f"{text!r} holds a character no file of the hub has")
        return cls(f"{owner}/{name}", path, revision or "main")

    def __str__(self) -> str:
        at = "" if self.revision == "main" else f"@{self.revision}"
        return f"{PREFIX}{self.repository}{at}/{self.path}"

    def parts(self) -> list["HubReference"]:
        """All files of the model: large ones come as `name-00001-of-00003.gguf` and so on, whichever one is named."""
        split = _PART_OF_MANY.fullmatch(self.path)
        if split is None:
            return [self]
        count = int(split[2])
        names = [f"{split[1]}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]
        return [replace(self, path=name) for name in names]

    def local_path(self, home: Path) -> Path:
        at = "" if self.revision == "main" else f"@{self.revision}"
        return home / "models" / f"{self.repository}{at}" / self.path


def cached_file(reference: str, home: Path) -> Path | None:
    """The downloaded file (the first, of a model in several), None where it is not whole on this machine.

    Raises ConfigError for a bad reference.
    """
    paths = [part.local_path(home) for part in HubReference.parse(reference).parts()]
    return paths[0] if all(path.is_file() for path in paths) else None


@dataclass(frozen=True)
class RemoteFile:
    """What the hub says of a file. etag: SHA-256 (64 digits) or git blob SHA-1 (40 digits) of its content."""

    etag: str
    size_bytes: int | None


async def download(
    reference: str,
    home: Path,
    *,
    progress: Progress | None = None,
    environment: Mapping[str, str] = os.environ,
    pauses_s: tuple[float, ...] = PAUSES_S,
) -> Path:
    """Bring the file to this machine and return where it lies; at once where it is there already.

    Of a model in several files all are brought, one after the other, and the first is returned. Two downloads of one
    file at a time share the work: the second waits for the first. Raises ConfigError for a bad reference or a full
    disk; NotFound, NotAuthenticated or NotPermitted as the hub says; ProviderUnavailable when it cannot be reached;
    ProviderFailed when what arrived is not what was announced. Each says what to do.
    """
    parts = HubReference.parse(reference).parts()
    paths = [await _download(part, home, progress or _unseen, environment, pauses_s) for part in parts]
    return paths[0]


async def _download(
    wanted: HubReference,
    home: Path,
    progress: Progress,
    environment: Mapping[str, str],
    pauses_s: tuple[float, ...],
) -> Path:
    target = wanted.local_path(home)
    if target.is_file():
        return target
    hub = _Hub(wanted, environment)
    hub.check_online(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    async with _exclusive(target.with_name(target.name + ".lock")):
        if target.is_file():
            return target
        async with hub.connected(target):
            remote = await hub.describe()
            part = target.with_name(f"{target.name}.{remote.etag[:12]}.part")
            await _fetch(hub, remote, part, progress, pauses_s)
            await asyncio.to_thread(_finish, wanted, remote, part, target)
    return target


async def list_files(repository: str, home: Path, *, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Paths of all files of `owner/name` or `owner/name@revision`, as the hub lists them. Raises as `download` does."""
    wanted = HubReference.parse(f"{PREFIX}{repository}/README.md")
    hub, folder = _Hub(wanted, environment), wanted.local_path(home).parent
    hub.check_online(folder)
    async with hub.connected(folder):
        page = f"{hub.endpoint}/api/models/{wanted.repository}/revision/{quote(wanted.revision, safe='')}"
        answer = await hub.client.get(page, follow_redirects=True)
        if answer.status_code >= 400:
            raise await hub.refusal(answer)
        try:
            return [str(file["rfilename"]) for file in answer.json()["siblings"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ProviderFailed(f"{page} gave no list of files; is HF_ENDPOINT a model hub?") from error


async def verify(reference: str, home: Path, *, progress: Progress | None = None) -> None:
    """Compare a downloaded file with the checksum it was announced with.

    Raises NotFound where there is no such download or its checksum was not kept, ProviderFailed when they differ.
    """
    for part in HubReference.parse(reference).parts():
        target = part.local_path(home)
        record = _record(target)
        if not target.is_file() or not record.is_file():
            raise NotFound(f"{part} was not downloaded to {target}; run: llama model download {reference}")
        etag = json.loads(record.read_text(encoding="utf-8"))["etag"]
        found = await asyncio.to_thread(_checksum, target, etag, progress or _unseen)
        if found != etag:
            raise ProviderFailed(
                f"{target} is damaged: its checksum is {found}, not {etag}; remove it and download it again"
            )


def remove(reference: str, home: Path) -> None:
    """Delete a downloaded file and what belongs to it. Raises NotFound where it is not there."""
    targets = [part.local_path(home) for part in HubReference.parse(reference).parts()]
    if not any(target.is_file() for target in targets):
        raise NotFound(f"there is no download of {reference} in {home / 'models'}")
    for target in targets:
        for leftover in (target, _record(target), target.with_name(target.name + ".lock")):
            leftover.unlink(missing_ok=True)
        for part in target.parent.glob(f"{target.name}.*.part"):
            part.unlink()
    folder = targets[0].parent
    for emptied in (folder, *folder.parents):
        if emptied == home / "models" or any(emptied.iterdir()):
            break
        emptied.rmdir()


class _Hub:
    """One file at one hub: its address, the caller's token, and errors in words a person can act on."""

    def __init__(self, wanted: HubReference, environment: Mapping[str, str]) -> None:
        self.wanted = wanted
        self.endpoint = environment.get("HF_ENDPOINT", "").rstrip("/") or DEFAULT_ENDPOINT
        self._token = environment.get("HF_TOKEN", "")
        self._offline = environment.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
        self._client: httpx.AsyncClient | None = None
        self.url = f"{self.endpoint}/{wanted.repository}/resolve/{quote(wanted.revision, safe='')}/{quote(wanted.path)}"

    @property
    def client(self) -> "httpx.AsyncClient":
        assert self._client is not None
        return self._client

    def check_online(self, target: Path) -> None:
        if self._offline:
            raise ProviderUnavailable(
                f"{self.wanted} is not on this machine and HF_HUB_OFFLINE is set. Unset it, or put the file at {target}"
            )

    @asynccontextmanager
    async def connected(self, target: Path) -> AsyncIterator[None]:
        """Hold the HTTP client; an unreachable hub becomes ProviderUnavailable with the ways out."""
        import httpx

        headers = {"Accept-Encoding": "identity", "User-Agent": "llama-stack"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            # httpx's own pool: it reads the proxy variables of the environment, as a download from outside must.
            async with httpx.AsyncClient(headers=headers, timeout=httpx.Timeout(30.0, read=60.0)) as self._client:
                yield
        except (httpx.TransportError, httpx.InvalidURL) as error:
            host = urlsplit(self.endpoint).netloc or self.endpoint
            raise ProviderUnavailable(
                f"cannot reach {host} to download {self.wanted}: {error or type(error).__name__}. Check the network or "
                "proxy (HTTPS_PROXY); or set HF_ENDPOINT to a mirror; or download the file on another machine and name "
                f"its path instead, or put it at {target}"
            ) from error

    async def describe(self) -> RemoteFile:
        """Ask for checksum and size. The answer for a large file is a redirect, which is not followed here."""
        answer = await self.client.head(self.url, follow_redirects=False)
        if answer.status_code >= 400:
            raise await self.refusal(answer)
        if answer.is_redirect and "x-linked-etag" not in answer.headers:
            answer = await self.client.head(self.url, follow_redirects=True)  # the repository was renamed
            if answer.status_code >= 400:
                raise await self.refusal(answer)
        etag = answer.headers.get("x-linked-etag") or answer.headers.get("etag") or ""
        size = answer.headers.get("x-linked-size") or (
            answer.headers.get("content-length") if answer.is_success else None
        )
        etag = etag.removeprefix("W/").strip('"').lower()
        if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", etag):
            raise ProviderFailed(
                f"{self.url} gave no checksum (X-Linked-Etag or ETag), so what it sends cannot be checked; "
                "is HF_ENDPOINT a model hub?"
            )
        return RemoteFile(etag, int(size) if size is not None else None)

    async def refusal(self, answer: "httpx.Response") -> StackError:
        """The hub's refusal, with what to do about it."""
        code, wanted = answer.headers.get("x-error-code", ""), self.wanted
        page = f"{self.endpoint}/{wanted.repository}"
        if code == "EntryNotFound":
            there = await self._files()
            return NotFound(f"{wanted.repository} has no file {wanted.path!r}. Its GGUF files: {there}")
        if code == "RevisionNotFound":
            return NotFound(f"{wanted.repository} has no revision {wanted.revision!r}")
        if code == "GatedRepo" or answer.status_code == 403:
            return NotPermitted(
                f"{wanted.repository} is gated. Ask for access at {page}, make a token at "
                f"{self.endpoint}/settings/tokens and set HF_TOKEN to it"
                f"{'; the one that is set has no access' if self._token else ''}"
            )
        if answer.status_code == 401:
            hint = "the token in HF_TOKEN is not valid, or" if self._token else "HF_TOKEN is not set, or"
            return NotAuthenticated(f"the hub refused {wanted.repository}: {hint} there is no such repository ({page})")
        if answer.status_code == 404:
            return NotFound(f"there is no {wanted.path!r} in {wanted.repository} at {page}")
        if answer.status_code >= 500 or answer.status_code == 429:
            return ProviderUnavailable(f"the hub answered {answer.status_code} for {wanted}; try again later")
        return ProviderFailed(f"the hub answered {answer.status_code} for {wanted}", upstream_status=answer.status_code)

    async def _files(self) -> str:
        """Names of the repository's GGUF files, as far as the hub tells."""
        answer = await self.client.get(f"{self.endpoint}/api/models/{self.wanted.repository}")
        try:
            names = [str(file["rfilename"]) for file in answer.json()["siblings"]]
        except (ValueError, KeyError, TypeError):
            return "unknown"
        return ", ".join(name for name in names if name.endswith(".gguf")) or "none"


async def _fetch(hub: _Hub, remote: RemoteFile, part: Path, progress: Progress, pauses_s: tuple[float, ...]) -> None:
    """Fill the part file, continuing it after each break. Raises what the last attempt failed with."""
    import httpx

    for pause in (*pauses_s, None):
        try:
            await _fetch_rest(hub, remote, part, progress)
            return
        except (httpx.TransportError, ProviderUnavailable):
            if pause is None:
                raise
            await asyncio.sleep(pause)


async def _fetch_rest(hub: _Hub, remote: RemoteFile, part: Path, progress: Progress) -> None:
    have = _size_of(part)
    if remote.size_bytes is not None and have == remote.size_bytes:
        return
    _check_disk(part, (remote.size_bytes or 0) - have)
    headers = {"Range": f"bytes={have}-"} if have else {}
    async with hub.client.stream("GET", hub.url, headers=headers, follow_redirects=True) as answer:
        if answer.status_code >= 400 and answer.status_code != 416:
            raise await hub.refusal(answer)
        # A server without ranges sends everything again, with status 200.
        continues = answer.status_code == 206 and answer.headers.get("content-range", "").startswith(f"bytes {have}-")
        have = have if continues else 0
        with part.open("ab" if continues else "wb") as file:
            if answer.status_code == 416:
                raise ProviderUnavailable(f"the hub would not continue {hub.wanted}; run it again to begin anew")
            async for block in answer.aiter_bytes(_WRITE_BYTES):
                await asyncio.to_thread(file.write, block)
                have += len(block)
                progress(have, remote.size_bytes)
    if remote.size_bytes is not None and have < remote.size_bytes:
        raise ProviderUnavailable(
            f"{hub.wanted} broke off after {have} of {remote.size_bytes} bytes; run it again to go on"
        )


def _size_of(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _finish(wanted: HubReference, remote: RemoteFile, part: Path, target: Path) -> None:
    """Move the whole file into place. Raises ProviderFailed when it is not what the hub announced."""
    found = _checksum(part, remote.etag, _unseen)
    if found != remote.etag:
        part.unlink()
        raise ProviderFailed(
            f"{wanted} arrived damaged: its checksum is {found}, not {remote.etag}. It was removed; download it again"
        )
    record = {"reference": str(wanted), "etag": remote.etag, "size_bytes": part.stat().st_size}
    _record(target).write_text(json.dumps(record) + "\n", encoding="utf-8")
    part.replace(target)
    for leftover in target.parent.glob(f"{target.name}.*.part"):
        leftover.unlink()  # of an earlier content of the file


def _checksum(path: Path, like: str, progress: Progress) -> str:
    """SHA-256, or the SHA-1 of the git blob where `like` has the length of one."""
    size = path.stat().st_size
    digest: Any = hashlib.sha256()
    if len(like) == 40:
        digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    done = 0
    with path.open("rb") as file:
        while block := file.read(_WRITE_BYTES):
            digest.update(block)
            done += len(block)
            progress(done, size)
    return str(digest.hexdigest())


def _check_disk(part: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed_bytes > free:
        raise ConfigError(
            f"{part.parent} has {free >> 20} MiB free and the download needs {needed_bytes >> 20} more",
            remedy="Free some space, or set LLAMA_STACK_HOME to a folder on a larger disk.",
        )


def _record(target: Path) -> Path:
    return target.with_name(target.name + ".json")


def _unseen(_done: int, _total: int | None) -> None: ...


@asynccontextmanager
async def _exclusive(lock: Path) -> AsyncIterator[None]:
    """Hold the lock file; whoever comes second waits. The system frees the lock of a process that dies."""
    with lock.open("ab") as file:
        # Another process may hold it: there is no event to wait for.
        while not _try_lock(file.fileno()):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        try:
            yield
        finally:
            _unlock(file.fileno())


if sys.platform == "win32":
    import msvcrt

    def _try_lock(fd: int) -> bool:
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(fd: int) -> None:
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)
