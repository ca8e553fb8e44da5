"""A database that is spoken to in HTTP and JSON: its failures, its refusals, and patience where it is busy."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from llama_stack.api.common import JsonObject
from llama_stack.errors import (
    InvalidRequest,
    ProviderFailed,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    StackError,
)
from llama_stack.provider import Ground
from llama_stack.wire.openai_errors import upstream_error
from llama_stack_providers._vector_database.settings import DatabaseSettings
from llama_stack_providers.remote._openai.failures import partner_failures

if TYPE_CHECKING:
    from llama_stack.provider import Client

Body = JsonObject | Sequence[JsonObject]

MAX_ANSWER_BYTES = 256 * 1024 * 1024
MAX_REASON_CHARACTERS = 2000
BUSY = (429, 502, 503)
"""Said of a moment: the same request may succeed soon."""


class Service:
    """One server. secrets: headers that are sent with every request, and never told. hint: what to do about 401 and
    403."""

    def __init__(
        self, http: "Client", who: str, settings: DatabaseSettings, secrets: Mapping[str, str], hint: str
    ) -> None:
        self._http = http
        self._who = who
        self._settings = settings
        self._headers = http.merged({"accept": "application/json", **secrets})
        # Credentials of this header begin with their scheme (RFC 9110, section 11.6.2).
        self._secrets = [
            value.split(" ", 1)[-1] if name == "authorization" else value for name, value in secrets.items()
        ]
        self._hint = hint

    async def ask(
        self,
        method: str,
        path: str,
        body: Body | None = None,
        *,
        query: Mapping[str, str] | None = None,
        answers: Collection[int] = (),
        is_large: bool = False,
    ) -> tuple[int, JsonObject]:
        """Status and JSON object of the answer; the object is empty where there is none, and has another value as
        `values`.

        path: of which there are few, from `path_of`. body: an object, or several, which are sent as lines. answers:
        statuses besides 2xx that are no failure. is_large: write the body in a thread.
        Raises RateLimited, ProviderUnavailable, ProviderTimeout or ProviderFailed; the last keeps a 4xx of the server.
        """
        content, headers = b"", self._headers
        if body is not None:
            content = await asyncio.to_thread(_written, body) if is_large else _written(body)
            kind = "application/json" if isinstance(body, Mapping) else "application/x-ndjson"
            headers = {**headers, "content-type": kind}
        pause_s = self._settings.first_pause_s
        with partner_failures(self._who, self._http.base_url.host, self._secrets):
            for left in reversed(range(self._settings.attempts)):
                async with self._http.exchange(method, path, headers=headers, content=content, query=query) as answer:
                    status, retry_after = answer.status_code, answer.headers.get("retry-after")
                    told = await _read(answer.pieces, self._who)
                if 200 <= status < 300 or status in answers:
                    return status, self._parsed(told)
                if status not in BUSY or not left:
                    raise self._refusal(status, told, retry_after)
                await asyncio.sleep(pause_s)
                pause_s *= 2
        raise AssertionError("the last attempt returns or raises")

    def failure(self, status: int, told: JsonObject) -> ProviderFailed:
        """Of an answer that was asked for and turns out to be a failure."""
        return ProviderFailed(f"{self._who} answered {status}: {reason_in(told)}", upstream_status=status)

    def _parsed(self, told: bytes) -> JsonObject:
        if not told.strip():
            return {}
        try:
            parsed = orjson.loads(told)
        except orjson.JSONDecodeError:
            raise ProviderFailed(
                f"{self._who} sent something that is not JSON; check that url leads to its REST interface"
            ) from None
        return parsed if isinstance(parsed, dict) else {"values": parsed}

    def _refusal(self, status: int, told: bytes, retry_after: str | None) -> StackError:
        error = upstream_error(self._who, status, told, retry_after)
        reason = reason_in(told)
        text = f"{self._who} answered {status}: {reason}" if reason else error.message
        match status:
            case 401 | 403:
                return ProviderFailed(f"{text}; {self._hint}", upstream_status=status, code="invalid_api_key")
            case 429:
                return RateLimited(text, retry_after_s=error.retry_after_s)
            case 502 | 503:
                return ProviderUnavailable(text, upstream_status=status)
            case 413:
                return ProviderFailed(f"{text}; lower the provider's write_chunks", upstream_status=status)
            case 408 | 504:
                return ProviderTimeout(text, upstream_status=status)
            case _:
                return ProviderFailed(text, upstream_status=status)


def reason_in(told: bytes | JsonObject) -> str:
    """Why the server says it failed; empty where it does not say.

    Elasticsearch and OpenSearch: `{"error": {"reason", "caused_by": {"reason", ...}}}`, of which the innermost says
    what was wrong. Weaviate: `{"error": [{"message"}]}`. Qdrant: `{"status": {"error"}}`. Chroma: `{"error": kind,
    "message"}`.
    """
    if isinstance(told, bytes):
        try:
            told = orjson.loads(told)
        except orjson.JSONDecodeError:
            return ""
    if not isinstance(told, dict):
        return ""
    error: Any = told.get("error") or told.get("status")
    if isinstance(error, str):
        error = told
    while isinstance(error, dict) and isinstance(error.get("caused_by"), dict):
        error = error["caused_by"]
    if isinstance(error, list) and error and isinstance(error[0], dict):
        error = error[0]
    if not isinstance(error, dict):
        return ""
    return str(error.get("reason") or error.get("message") or error.get("error") or "")[:MAX_REASON_CHARACTERS]


def _written(body: Body) -> bytes:
    """Raises InvalidRequest for what JSON cannot say, such as half of a surrogate pair."""
    try:
        if isinstance(body, Mapping):
            return orjson.dumps(body)
        return b"".join(orjson.dumps(line) + b"\n" for line in body)
    except TypeError as error:
        raise InvalidRequest(f"this cannot be sent as JSON: {error}") from error


def path_of(*segments: str) -> str:
    """The segments, each quoted, as a path below the server's address."""
    return "/".join(quote(segment, safe="") for segment in segments)


async def _read(pieces: AsyncIterator[bytes], who: str) -> bytes:
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise ProviderFailed(f"{who} sent more than {MAX_ANSWER_BYTES // 2**20} MiB in one answer")
    return bytes(body)


@asynccontextmanager
async def open_service(
    who: str,
    settings: DatabaseSettings,
    ground: Ground,
    *,
    path: str = "",
    secrets: Mapping[str, str],
    hint: str = "check the provider's api_key",
) -> AsyncIterator[Service]:
    """path: below the settings' url, where the API begins."""
    async with ground.http(
        f"{str(settings.url).rstrip('/')}/{path}",
        timeout_s=settings.timeout_s,
        max_connections=settings.max_connections,
    ) as http:
        yield Service(http, who, settings, secrets, hint)
