"""Fetching from a real server on loopback: limits, redirects, and what must never be asked."""

import asyncio
import gzip
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from llama_stack.addresses import Resolve
from llama_stack.documents.failures import DocumentUnreadable
from llama_stack.documents.fetching import FetchLimits, fetch
from llama_stack.errors import InvalidRequest, ProviderFailed, ProviderTimeout, ProviderUnavailable
from llama_stack.provider import Ground

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
LOCAL = FetchLimits(allow_private=True)


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with Ground(home=tmp_path, state=tmp_path).http("http://unused.invalid") as client:
        yield client


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def answering(body: bytes, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return answer


def to_addresses(*addresses: str) -> Resolve:
    async def resolve(host: str, port: int) -> list[str]:
        return list(addresses)

    return resolve


async def test_a_document_with_its_type_and_name(http: httpx.AsyncClient) -> None:
    seen: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        return web.Response(text="# Hi", content_type="text/markdown")

    async with serving(answer) as base:
        fetched = await fetch(f"{base}/docs/my%20guide.md?token=s3cret#part", http, LOCAL)
    assert (fetched.content, fetched.mime_type, fetched.filename) == (b"# Hi", "text/markdown", "my guide.md")
    assert fetched.final_url.startswith(f"{base}/docs/my%20guide.md")
    assert seen[0]["Accept-Encoding"] == "identity"
    assert "Authorization" not in seen[0]


async def test_the_encoding_that_the_server_tells_comes_along(http: httpx.AsyncClient) -> None:
    async with serving(answering(b"x", Content_Type="text/html; charset=iso-8859-2")) as base:
        fetched = await fetch(f"{base}/a", http, LOCAL)
    assert (fetched.mime_type, fetched.declared_type) == ("text/html", "text/html; charset=iso-8859-2")


@pytest.mark.parametrize(
    ("header", "filename"),
    [
        ('attachment; filename="../../etc/report.pdf"', "report.pdf"),
        ("inline; filename*=UTF-8''Gr%C3%B6%C3%9Fe.pdf", "Größe.pdf"),
        ("attachment", "file"),
    ],
)
async def test_a_name_that_the_server_tells(header: str, filename: str, http: httpx.AsyncClient) -> None:
    async with serving(answering(b"x", Content_Disposition=header)) as base:
        assert (await fetch(f"{base}/file", http, LOCAL)).filename == filename


@pytest.mark.parametrize(
    ("url", "content", "mime_type"),
    [
        ("data:,Hello%2C%20World", b"Hello, World", "text/plain"),
        ("data:text/markdown;charset=utf-8;base64," + b64encode(b"# Hi").decode(), b"# Hi", "text/markdown"),
        ("DATA:application/pdf;base64," + b64encode(b"%PDF").decode(), b"%PDF", "application/pdf"),
    ],
)
async def test_data_urls(url: str, content: bytes, mime_type: str, http: httpx.AsyncClient) -> None:
    fetched = await fetch(url, http)
    assert (fetched.content, fetched.mime_type, fetched.final_url) == (content, mime_type, "")


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("data:text/plain;base64,!!!", "invalid_request"),
        ("data:text/plain", "invalid_request"),
        ("data:text/plain,", "empty"),
        ("data:video/mp4;base64,AAAA", "unsupported_file"),
        ("data:," + "x" * 200, "too_large"),
        ("data:;base64," + "A" * 1000, "too_large"),
    ],
)
async def test_data_urls_that_hold_no_document(url: str, code: str, http: httpx.AsyncClient) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await fetch(url, http, FetchLimits(max_bytes=100))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.com/x", "no URL that can be fetched"),
        ("file:///etc/passwd", "no URL that can be fetched"),
        ("//example.com/x", "no URL that can be fetched"),
        ("http://", "no URL that can be fetched"),
        ("http://[::1", "no URL that can be fetched"),
        ("http://x:99999/", "no URL that can be fetched"),
        ("http://example.com/" + "x" * 9000, "no URL that can be fetched"),
        ("http://ada:s3cret@example.com/x", "holds a user name or password"),
        ("http://ada@example.com/x", "holds a user name or password"),
    ],
)
async def test_urls_that_are_refused(url: str, words: str, http: httpx.AsyncClient) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        await fetch(url, http)
    assert caught.value.param == "url"
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "127.1", "2130706433", "169.254.169.254"],
)  # fmt: skip
async def test_our_own_network_is_never_asked(host: str, http: httpx.AsyncClient) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text="inside")

    async with serving(answer) as base:
        port = base.rpartition(":")[2]
        with pytest.raises((InvalidRequest, ProviderUnavailable), match=r"server's own network|no host named"):
            await fetch(f"http://{host}:{port}/x", http)
    assert asked == []


async def test_a_name_with_one_private_address_is_refused(http: httpx.AsyncClient) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await fetch("http://example.com/x", http, resolve=to_addresses("93.184.216.34", "10.0.0.7"))
    assert (caught.value.code, caught.value.param) == ("address_not_allowed", "url")
    assert "10.0.0.7" not in caught.value.message


async def test_the_connection_goes_to_the_address_that_was_checked(tmp_path: Path) -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        if request.url.host == "2606:4700::1111":
            raise httpx.ConnectError("unreachable")
        return httpx.Response(200, text="public")

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        addresses = to_addresses("2606:4700::1111", "93.184.216.34")
        fetched = await fetch("https://example.com:8443/a", client, resolve=addresses)
    assert fetched.content == b"public"
    assert fetched.final_url == "https://example.com:8443/a"
    assert [str(request.url) for request in sent] == [
        "https://[2606:4700::1111]:8443/a",
        "https://93.184.216.34:8443/a",
    ]
    assert {request.headers["host"] for request in sent} == {"example.com:8443"}
    assert {request.extensions["sni_hostname"] for request in sent} == {"example.com"}


async def test_a_redirect_into_our_own_network_is_refused() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["host"])
        return httpx.Response(302, headers={"location": "http://metadata.internal/latest"})

    async def resolve(host: str, port: int) -> list[str]:
        return ["93.184.216.34"] if host == "example.com" else ["169.254.169.254"]

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(InvalidRequest, match=r"metadata\.internal is inside the server's own network"):
            await fetch("http://example.com/a", client, resolve=resolve)
    assert asked == ["example.com"]


@pytest.mark.parametrize(
    ("location", "words"),
    [("file:///etc/passwd", "no URL that can be fetched"), ("http://a:b@127.0.0.1/", "user name or password")],
)
async def test_a_redirect_to_what_is_refused_is_refused(location: str, words: str, http: httpx.AsyncClient) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": location})

    async with serving(answer) as base:
        with pytest.raises(InvalidRequest, match=words):
            await fetch(f"{base}/a", http, LOCAL)


async def test_redirects_are_followed_and_counted(http: httpx.AsyncClient) -> None:
    async def answer(request: web.Request) -> web.Response:
        left = int(request.path.strip("/"))
        if left:
            return web.Response(status=307, headers={"Location": f"/{left - 1}"})
        return web.Response(text="there")

    async with serving(answer) as base:
        assert (await fetch(f"{base}/5", http, LOCAL)).final_url == f"{base}/0"
        with pytest.raises(ProviderFailed, match="redirects more than 5 times"):
            await fetch(f"{base}/6", http, LOCAL)


async def test_a_body_over_the_limit_is_not_read_on(http: httpx.AsyncClient) -> None:
    ended = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 10_000)
        finally:
            ended.set()

    async with serving(endless) as base:
        with pytest.raises(DocumentUnreadable, match="more than 100000 bytes") as caught:
            await fetch(f"{base}/a", http, FetchLimits(allow_private=True, max_bytes=100_000))
        assert caught.value.code == "too_large"
        async with asyncio.timeout(60):
            await ended.wait()


async def test_a_body_that_is_announced_too_large_is_not_read_at_all(http: httpx.AsyncClient) -> None:
    async with serving(answering(b"x" * 2000)) as base:
        with pytest.raises(DocumentUnreadable, match="more than 1000 bytes"):
            await fetch(f"{base}/a", http, FetchLimits(allow_private=True, max_bytes=1000))


async def test_a_compressed_body_is_unpacked_within_the_limit(http: httpx.AsyncClient) -> None:
    limits = FetchLimits(allow_private=True, max_bytes=1000)
    async with serving(answering(gzip.compress(b"word " * 100), Content_Encoding="gzip")) as base:
        assert (await fetch(f"{base}/a", http, limits)).content == b"word " * 100
    async with serving(answering(gzip.compress(b"\0" * 10_000_000), Content_Encoding="gzip")) as base:
        with pytest.raises(DocumentUnreadable, match="more than 1000 bytes"):
            await fetch(f"{base}/a", http, limits)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [(b"plain", "gzip"), (b"x", "br"), (gzip.compress(b"word " * 100, mtime=0)[:-12], "gzip")],
    ids=["not-packed", "unknown", "cut-off"],
)
async def test_a_body_whose_packing_is_broken_or_unknown(body: bytes, encoding: str, http: httpx.AsyncClient) -> None:
    async with serving(answering(body, Content_Encoding=encoding)) as base:
        with pytest.raises(ProviderFailed):
            await fetch(f"{base}/a", http, LOCAL)


async def test_types_that_are_no_documents(http: httpx.AsyncClient) -> None:
    async with serving(answering(b"x", Content_Type="video/mp4")) as base:
        with pytest.raises(DocumentUnreadable, match="is video/mp4") as caught:
            await fetch(f"{base}/a", http, LOCAL)
    assert caught.value.code == "unsupported_file"


@pytest.mark.parametrize("status", [401, 404, 500])
async def test_the_servers_refusal_keeps_its_status_and_no_secret(status: int, http: httpx.AsyncClient) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status)

    async with serving(answer) as base:
        with pytest.raises(ProviderFailed, match=f"answered {status}") as caught:
            await fetch(f"{base}/a?signature=s3cret", http, LOCAL)
    assert caught.value.upstream_status == status
    assert "s3cret" not in caught.value.message


async def test_an_empty_body(http: httpx.AsyncClient) -> None:
    async with serving(answering(b"")) as base:
        with pytest.raises(DocumentUnreadable) as caught:
            await fetch(f"{base}/a", http, LOCAL)
    assert caught.value.code == "empty"


async def test_a_server_that_never_answers(http: httpx.AsyncClient) -> None:
    async def silent(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(silent) as base:
        with pytest.raises(ProviderTimeout, match=r"not fetched within 0\.2 s"):
            await fetch(f"{base}/a", http, FetchLimits(allow_private=True, time_limit_s=0.2))


async def test_a_server_that_is_not_there(http: httpx.AsyncClient) -> None:
    async with serving(answering(b"x")) as base:
        pass
    with pytest.raises(ProviderUnavailable, match="cannot be fetched"):
        await fetch(f"{base}/a", http, LOCAL)


async def test_a_server_that_breaks_off_within_its_answer(http: httpx.AsyncClient) -> None:
    async def breaks(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    async with serving(breaks) as base:
        with pytest.raises(ProviderUnavailable, match="cannot be fetched"):
            await fetch(f"{base}/a", http, LOCAL)
