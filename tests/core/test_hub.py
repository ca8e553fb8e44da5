"""Downloads from a hub on loopback, with everything that goes wrong on the way."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from llama_stack.errors import (
    ConfigError,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    ProviderFailed,
    ProviderUnavailable,
)
from llama_stack.hub import HubReference, cached_file, download, list_files, remove, verify

CONTENT = bytes(range(256)) * 12_000  # three megabytes
REFERENCE = "hf:acme/models/tiny.gguf"


@dataclass
class Hub:
    """A hub with one repository, `acme/models`, and faults a test may switch on.

    cut_after: bytes after which each of the next `cuts` transfers breaks off. requests: what was asked, in order.
    """

    content: bytes = CONTENT
    announced: str = ""
    cut_after: int = 0
    cuts: int = 0
    ranges: bool = True
    gated: bool = False
    token: str = ""
    status: int = 200
    url: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    tokens_at_storage: list[str | None] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {"HF_ENDPOINT": self.url}

    async def resolve(self, request: web.Request) -> web.StreamResponse:
        """The hub itself: checksum and size of a large file, and a redirect to where it is stored."""
        self.requests.append((request.method, request.headers.get("Range", "")))
        if self.status != 200:
            return web.Response(status=self.status)
        if self.gated and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=403, headers={"X-Error-Code": "GatedRepo"})
        path = request.match_info["path"]
        if path == "config.json":
            blob = hashlib.sha1(b"blob 2\0{}").hexdigest()
            return web.Response(body=b"{}", headers={"ETag": f'"{blob}"'})
        if path not in ("tiny.gguf", "big-00001-of-00002.gguf", "big-00002-of-00002.gguf"):
            return web.Response(status=404, headers={"X-Error-Code": "EntryNotFound"})
        if request.match_info["revision"] not in ("main", "v2"):
            return web.Response(status=404, headers={"X-Error-Code": "RevisionNotFound"})
        etag = self.announced or hashlib.sha256(self.content).hexdigest()
        return web.Response(
            status=302,
            headers={
                "Location": f"{self.url}/storage/tiny",
                "X-Linked-Etag": f'"{etag}"',
                "X-Linked-Size": str(len(self.content)),
            },
        )

    async def storage(self, request: web.Request) -> web.StreamResponse:
        self.tokens_at_storage.append(request.headers.get("Authorization"))
        first = 0
        headers = {"Content-Length": str(len(self.content))}
        if self.ranges and "Range" in request.headers:
            first = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            headers = {
                "Content-Length": str(len(self.content) - first),
                "Content-Range": f"bytes {first}-{len(self.content) - 1}/{len(self.content)}",
            }
        response = web.StreamResponse(status=206 if first else 200, headers=headers)
        await response.prepare(request)
        if self.cuts:
            self.cuts -= 1
            await response.write(self.content[first : first + self.cut_after])
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(self.content[first:])
        return response

    async def listing(self, request: web.Request) -> web.Response:
        names = ["README.md", "tiny.gguf", "large.gguf"]
        return web.json_response({"siblings": [{"rfilename": name} for name in names]})


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    served = Hub()
    app = web.Application()
    app.router.add_route("*", "/{owner}/{name}/resolve/{revision}/{path:.+}", served.resolve)
    app.router.add_get("/storage/tiny", served.storage)
    app.router.add_get("/api/models/acme/models", served.listing)
    app.router.add_get("/api/models/acme/models/revision/{revision}", served.listing)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    await runner.cleanup()


def content_of(path: Path) -> bytes:
    return path.read_bytes()


def files_in(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home / "models")) for path in home.rglob("*") if path.is_file())


async def fetched(hub: Hub, home: Path, reference: str = REFERENCE) -> Path:
    return await download(reference, home, environment=hub.environment, pauses_s=(0, 0, 0))


async def test_a_download_lies_in_its_place_whole(hub: Hub, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = await download(REFERENCE, tmp_path, environment=hub.environment, progress=lambda *step: seen.append(step))
    assert path == tmp_path / "models/acme/models/tiny.gguf" == cached_file(REFERENCE, tmp_path)
    assert content_of(path) == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen) and len(seen) >= 3
    assert [name for name in files_in(tmp_path) if name.endswith(".part")] == []


async def test_a_file_that_is_there_is_not_asked_for(hub: Hub, tmp_path: Path) -> None:
    await fetched(hub, tmp_path)
    hub.requests.clear()
    await fetched(hub, tmp_path)
    assert hub.requests == []


@pytest.mark.parametrize("named", ["00001", "00002"])
async def test_a_model_in_several_files_is_brought_whole(hub: Hub, tmp_path: Path, named: str) -> None:
    reference = f"hf:acme/models/big-{named}-of-00002.gguf"
    path = await fetched(hub, tmp_path, reference)
    assert path == tmp_path / "models/acme/models/big-00001-of-00002.gguf" == cached_file(reference, tmp_path)
    await verify(reference, tmp_path)
    without(path.with_name("big-00002-of-00002.gguf"))
    assert cached_file(reference, tmp_path) is None
    remove(reference, tmp_path)
    assert files_in(tmp_path) == []


def without(path: Path) -> None:
    path.unlink()


async def test_a_small_file_is_checked_by_its_git_hash(hub: Hub, tmp_path: Path) -> None:
    path = await fetched(hub, tmp_path, "hf:acme/models/config.json")
    assert content_of(path) == b"{}"
    await verify("hf:acme/models/config.json", tmp_path)


async def test_a_revision_has_its_own_place(hub: Hub, tmp_path: Path) -> None:
    path = await fetched(hub, tmp_path, "hf:acme/models@v2/tiny.gguf")
    assert path == tmp_path / "models/acme/models@v2/tiny.gguf"
    with pytest.raises(NotFound, match="no revision 'v9'"):
        await fetched(hub, tmp_path, "hf:acme/models@v9/tiny.gguf")


async def test_a_broken_connection_is_continued_where_it_broke(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after, hub.cuts = 1 << 20, 2
    assert content_of(await fetched(hub, tmp_path)) == CONTENT
    asked = [asked for method, asked in hub.requests if method == "GET"]
    assert asked[0] == ""
    assert all(part.startswith("bytes=") for part in asked[1:]) and len(asked) == 3


async def test_a_later_run_goes_on_where_the_last_one_ended(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after, hub.cuts = 1 << 20, 99
    with pytest.raises(ProviderUnavailable):
        await download(REFERENCE, tmp_path, environment=hub.environment, pauses_s=())
    assert [name for name in files_in(tmp_path) if name.endswith(".part")]
    hub.cuts = 0
    hub.requests.clear()
    assert content_of(await fetched(hub, tmp_path)) == CONTENT
    assert hub.requests[-1][1].startswith("bytes=")


async def test_a_server_without_ranges_begins_anew(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after, hub.cuts, hub.ranges = 1 << 20, 1, False
    assert content_of(await fetched(hub, tmp_path)) == CONTENT


async def test_a_part_of_another_content_is_not_continued(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after, hub.cuts = 1 << 20, 1
    with pytest.raises(ProviderUnavailable):
        await download(REFERENCE, tmp_path, environment=hub.environment, pauses_s=())
    hub.content = CONTENT[::-1]
    assert content_of(await fetched(hub, tmp_path)) == CONTENT[::-1]
    assert [name for name in files_in(tmp_path) if name.endswith(".part")] == []


async def test_damaged_content_is_thrown_away(hub: Hub, tmp_path: Path) -> None:
    hub.announced = "0" * 64
    with pytest.raises(ProviderFailed, match=r"arrived damaged: its checksum is [0-9a-f]{64}, not 000"):
        await fetched(hub, tmp_path)
    assert cached_file(REFERENCE, tmp_path) is None
    assert [name for name in files_in(tmp_path) if not name.endswith(".lock")] == []


async def test_two_downloads_share_the_work(hub: Hub, tmp_path: Path) -> None:
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        tasks = [group.create_task(fetched(hub, tmp_path)) for _ in range(3)]
    assert {content_of(task.result()) for task in tasks} == {CONTENT}
    assert sum(method == "GET" for method, _ in hub.requests) == 1


async def test_a_file_that_is_not_there_names_those_that_are(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no file 'other.gguf'. Its GGUF files: tiny.gguf, large.gguf"):
        await fetched(hub, tmp_path, "hf:acme/models/other.gguf")
    assert await list_files("acme/models", tmp_path, environment=hub.environment) == [
        "README.md",
        "tiny.gguf",
        "large.gguf",
    ]


async def test_a_gated_model_needs_a_token_and_keeps_it_from_others(hub: Hub, tmp_path: Path) -> None:
    hub.gated, hub.token = True, "hf_secret"
    with pytest.raises(NotPermitted, match=r"is gated\. Ask for access at .*/acme/models.*set HF_TOKEN"):
        await fetched(hub, tmp_path)
    with pytest.raises(NotPermitted, match="the one that is set has no access") as refused:
        await download(REFERENCE, tmp_path, environment={**hub.environment, "HF_TOKEN": "hf_wrong"})
    assert "hf_wrong" not in str(refused.value)
    await download(REFERENCE, tmp_path, environment={**hub.environment, "HF_TOKEN": "hf_secret"})


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (401, NotAuthenticated, "HF_TOKEN is not set, or there is no such repository"),
        (404, NotFound, "there is no 'tiny.gguf'"),
        (503, ProviderUnavailable, "answered 503"),
        (429, ProviderUnavailable, "try again later"),
        (410, ProviderFailed, "answered 410"),
    ],
)
async def test_each_refusal_says_what_to_do(
    hub: Hub, tmp_path: Path, status: int, error: type[Exception], words: str
) -> None:
    hub.status = status
    with pytest.raises(error, match=words):
        await fetched(hub, tmp_path)


async def test_without_a_network_the_ways_out_are_named(tmp_path: Path) -> None:
    with pytest.raises(ProviderUnavailable) as refused:
        await download(REFERENCE, tmp_path, environment={"HF_ENDPOINT": "http://127.0.0.1:9"}, pauses_s=())
    for word in ("127.0.0.1:9", "HF_ENDPOINT", "HTTPS_PROXY", "another machine", "tiny.gguf"):
        assert word in refused.value.message


async def test_offline_mode_reaches_out_to_nothing(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ProviderUnavailable, match=r"HF_HUB_OFFLINE is set\. Unset it, or put the file at"):
        await download(REFERENCE, tmp_path, environment={**hub.environment, "HF_HUB_OFFLINE": "1"})
    assert hub.requests == []


async def test_a_full_disk_is_seen_before_the_transfer(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1 << 20})())
    with pytest.raises(ConfigError, match="has 1 MiB free and the download needs 2 more"):
        await fetched(hub, tmp_path)
    assert [method for method, _ in hub.requests] == ["HEAD"]


async def test_a_damaged_file_is_found_by_verifying(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="run: llama model download"):
        await verify(REFERENCE, tmp_path)
    path = await fetched(hub, tmp_path)
    await verify(REFERENCE, tmp_path)
    damage(path)
    with pytest.raises(ProviderFailed, match="is damaged"):
        await verify(REFERENCE, tmp_path)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)


async def test_a_removed_file_leaves_nothing(hub: Hub, tmp_path: Path) -> None:
    await fetched(hub, tmp_path)
    remove(REFERENCE, tmp_path)
    assert cached_file(REFERENCE, tmp_path) is None
    assert files_in(tmp_path) == []
    with pytest.raises(NotFound):
        remove(REFERENCE, tmp_path)


@pytest.mark.parametrize(
    "path",
    ["acme", "acme/models", "acme/models/", "../x/y", "acme/../y", "a/b/../../c", "/a/b", "a/b/c\\d", "a/b//c"],
)
def test_a_reference_cannot_lead_out_of_its_folder(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        cached_file(f"hf:{path}", tmp_path)


def test_a_reference_is_written_as_it_is_read() -> None:
    for text in ("hf:acme/models/tiny.gguf", "hf:acme/models@v2/sub/tiny.gguf"):
        assert str(HubReference.parse(text)) == text
