"""Documents from the web and from `data:` URLs, without letting a stranger's URL look around in our own network."""

import asyncio
import zlib
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from email.message import Message
from typing import TYPE_CHECKING
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from pydantic import Field

from llama_stack.addresses import Resolve, public_addresses
from llama_stack.addresses import resolve as resolve_by_system
from llama_stack.api.common import Word
from llama_stack.documents.detection import charset_of, display_name
from llama_stack.documents.failures import DocumentUnreadable
from llama_stack.errors import InvalidRequest, ProviderFailed, ProviderTimeout, ProviderUnavailable

if TYPE_CHECKING:
    import httpx

MAX_URL_CHARACTERS = 8192
"""Of an http URL; a `data:` URL is bounded by what it holds."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class FetchLimits(Word):
    """What one fetch may take and where it may lead.

    max_bytes: of the content, unpacked. time_limit_s: of the whole fetch, with its redirects. mime_types: beginnings of
    the types that are taken; a server that names none is believed. allow_private: let URLs lead to loopback, link-local
    and private addresses, for tests and for deployments whose callers may reach them anyway.
    """

    max_bytes: int = Field(64 * 1024 * 1024, ge=1)
    time_limit_s: float = Field(60.0, gt=0)
    max_redirects: int = Field(5, ge=0, le=20)
    mime_types: tuple[str, ...] = ("text/", "application/", "image/", "message/rfc822", "binary/octet-stream")
    allow_private: bool = False


@dataclass(frozen=True, slots=True)
class Fetched:
    """mime_type: as the server says, without parameters. filename: as it says, or the end of the URL's path, never
    with folders; empty for a `data:` URL. final_url: after redirects; empty for a `data:` URL. charset: what the server
    says of the text's encoding."""

    content: bytes
    mime_type: str
    filename: str
    final_url: str
    charset: str = ""

    @property
    def declared_type(self) -> str:
        """The type with its encoding, for whoever reads the content."""
        return f"{self.mime_type}; charset={self.charset}" if self.mime_type and self.charset else self.mime_type


async def fetch(
    url: str, http: "httpx.AsyncClient", limits: FetchLimits | None = None, *, resolve: Resolve = resolve_by_system
) -> Fetched:
    """What the URL leads to.

    http: a client that follows no redirects itself. Raises InvalidRequest for a URL that is none, holds credentials or
    leads into our own network; DocumentUnreadable (`too_large`, `unsupported_file`, `empty`); ProviderFailed with the
    status that the server answered, ProviderUnavailable and ProviderTimeout. Errors name host and path of the URL,
    never its query, which may hold a signature.
    """
    limits = limits or FetchLimits()
    if url[:5].lower() == "data:":
        return await asyncio.to_thread(_decoded, url, limits)
    try:
        async with asyncio.timeout(limits.time_limit_s):
            return await _fetched(url, http, limits, resolve)
    except TimeoutError:
        raise ProviderTimeout(
            f"{_shown(url)} was not fetched within {limits.time_limit_s:g} s; send its content instead"
        ) from None


async def _fetched(url: str, http: "httpx.AsyncClient", limits: FetchLimits, resolve: Resolve) -> Fetched:
    import httpx

    target = _checked(url)
    for _ in range(limits.max_redirects + 1):
        try:
            response = await _sent(target, http, limits, resolve)
            try:
                if response.status_code not in _REDIRECTS or "location" not in response.headers:
                    return await _received(response, target, limits)
                target = _checked(str(target.join(response.headers["location"])))
            finally:
                await response.aclose()
        except httpx.TimeoutException as error:
            raise ProviderTimeout(f"{_shown(str(target))} does not answer; send its content instead") from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise ProviderUnavailable(f"{_shown(str(target))} cannot be fetched: {error}") from error
    raise ProviderFailed(f"{_shown(url)} redirects more than {limits.max_redirects} times; give the final URL")


def _checked(url: str) -> "httpx.URL":
    import httpx

    try:
        if len(url) > MAX_URL_CHARACTERS:
            raise ValueError
        target = httpx.URL(url)
        port = target.port
    except (httpx.InvalidURL, ValueError):
        target, port = httpx.URL(""), None
    if target.scheme not in ("http", "https") or not target.host or not 0 < (port or 80) < 65536:
        raise InvalidRequest(
            f"{_shown(url)!r} is no URL that can be fetched; give one with http, https or data", param="url"
        )
    if target.userinfo:
        raise InvalidRequest(
            f"the URL of {target.host} holds a user name or password, which is not sent; leave it out, or send the"
            " document's content",
            param="url",
        )
    return target


async def _sent(
    target: "httpx.URL", http: "httpx.AsyncClient", limits: FetchLimits, resolve: Resolve
) -> "httpx.Response":
    """The answer, its body unread, from an address that was checked."""
    import httpx

    # What a compressed body unpacks to would not be known before it is there.
    headers = {"host": target.netloc.decode("ascii"), "accept-encoding": "identity", "accept": "*/*"}
    if limits.allow_private:
        return await http.send(http.build_request("GET", target, headers=headers), stream=True)
    port = target.port or (443 if target.scheme == "https" else 80)
    remedy = "give a public URL, or send the document's content"
    addresses = await public_addresses(target.host, port, resolve, what="the URL's host", remedy=remedy, param="url")
    failure: httpx.TransportError | None = None
    for address in addresses:
        request = http.build_request("GET", target.copy_with(host=address), headers=headers)
        if target.host != address:
            request.extensions = {**request.extensions, "sni_hostname": target.host}
        try:
            return await http.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            failure = error
    raise failure or httpx.ConnectError("it has no address")


async def _received(response: "httpx.Response", target: "httpx.URL", limits: FetchLimits) -> Fetched:
    shown = _shown(str(target))
    if not response.is_success:
        raise ProviderFailed(f"{shown} answered {response.status_code}", upstream_status=response.status_code)
    told = response.headers.get("content-type", "")
    mime_type = told.partition(";")[0].strip().lower()
    _check_type(shown, mime_type, limits)
    announced = response.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limits.max_bytes:
        raise _too_large(shown, limits)
    content = bytearray()
    async with aclosing(_unpacked(response, shown, limits)) as pieces:
        async for piece in pieces:
            content += piece
            if len(content) > limits.max_bytes:
                raise _too_large(shown, limits)
    if not content:
        raise DocumentUnreadable(f"{shown} is empty; give the URL of a document", code="empty")
    return Fetched(bytes(content), mime_type, _filename(response.headers, target), str(target), charset_of(told))


async def _unpacked(response: "httpx.Response", shown: str, limits: FetchLimits) -> AsyncGenerator[bytes, None]:
    """The body in pieces. Some servers compress though they were asked not to."""
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        async for piece in response.aiter_bytes():
            yield piece
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise ProviderFailed(f"{shown} answers compressed as {encoding}, which it was asked not to")
    unpacker = zlib.decompressobj(wbits=47)  # gzip or zlib, told by its header
    try:
        async for piece in response.aiter_raw():
            yield unpacker.decompress(piece, limits.max_bytes + 1)
    except zlib.error as error:
        raise ProviderFailed(f"{shown} answered what is not {encoding}, as it said it was") from error
    if not unpacker.eof:
        raise ProviderFailed(f"{shown} closed the connection within its answer")


def _filename(headers: "httpx.Headers", target: "httpx.URL") -> str:
    """What the server calls the file (RFC 6266), or how its path ends."""
    message = Message()
    message["content-disposition"] = headers.get("content-disposition", "").replace("\n", "").replace("\r", "")
    told = message.get_filename() or unquote(target.path.rstrip("/").rpartition("/")[2])
    return display_name(told) if told else ""


def _decoded(url: str, limits: FetchLimits) -> Fetched:
    """What a `data:` URL holds (RFC 2397)."""
    head, comma, body = url[5:].partition(",")
    if not comma:
        raise InvalidRequest(
            "the data: URL has no comma before its content; write data:TYPE;base64,CONTENT", param="url"
        )
    mime_type, *parameters = [part.strip().lower() for part in head.split(";")]
    mime_type = mime_type or "text/plain"
    shown = f"the data: URL of {mime_type[:80]}"
    _check_type(shown, mime_type, limits)
    is_base64 = parameters[-1:] == ["base64"]
    if len(body) > limits.max_bytes * (1.4 if is_base64 else 3) + 4:
        raise _too_large(shown, limits)
    content = unquote_to_bytes(body)
    if is_base64:
        try:
            content = b64decode(b"".join(content.split()), validate=True)
        except Base64Error as error:
            raise InvalidRequest(f"{shown} is not valid base64; encode it again", param="url") from error
    if len(content) > limits.max_bytes:
        raise _too_large(shown, limits)
    if not content:
        raise DocumentUnreadable(f"{shown} is empty; send it with content", code="empty")
    return Fetched(content, mime_type, "", "", charset_of(head))


def _check_type(shown: str, mime_type: str, limits: FetchLimits) -> None:
    if mime_type and not mime_type.startswith(limits.mime_types):
        raise DocumentUnreadable(
            f"{shown} is {mime_type[:80]}, which is not read; give the URL of a text or an office document",
            code="unsupported_file",
        )


def _too_large(shown: str, limits: FetchLimits) -> DocumentUnreadable:
    return DocumentUnreadable(
        f"{shown} has more than {limits.max_bytes} bytes; upload it as a file, or split it", code="too_large"
    )


def _shown(url: str) -> str:
    """The URL without what may be secret in it."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{(parts.hostname or '')}{parts.path}"[:200]
    except ValueError:
        return "the URL"
