"""One vendor's HTTP service behind a tool: whose key a call uses, how long it may take, what its failures mean."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import TYPE_CHECKING

import orjson

from llama_stack.api.common import Caller, JsonObject
from llama_stack.errors import (
    InvalidRequest,
    NotAuthenticated,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
    StackError,
)
from llama_stack.provider import Ground
from llama_stack.wire.openai_errors import upstream_error
from llama_stack_providers.remote._openai.failures import partner_failures
from llama_stack_providers.remote._openai.keys import is_sendable
from llama_stack_providers.remote._query_tool.settings import ServiceSettings

if TYPE_CHECKING:
    from llama_stack.provider import Client

MAX_ANSWER_BYTES = 256 * 1024
MAX_CONNECTIONS = 32
PAUSE_S = 0.5
"""Before the second try, when the service does not say how long to wait."""
MAX_PAUSE_S = 5.0
"""A service that asks for a longer wait is not tried again: the model is told of the wait instead."""


@dataclass(frozen=True)
class Vendor:
    """name: for messages. url: where its API begins. variable, credential: where a key is looked for.

    used_up: statuses by which it says that what the plan allows is used up. bad_key: codes in the body of an error by
    which it says, besides 401 and 403, that it does not accept the key.
    """

    name: str
    url: str
    variable: str
    credential: str
    used_up: tuple[int, ...] = (402,)
    bad_key: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reply:
    """A whole answer, its body cut at MAX_ANSWER_BYTES."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool


class Service:
    """Asks one vendor. Nothing of a call is kept: no answer, no key, no cookie."""

    def __init__(
        self, http: "Client", vendor: Vendor, key: str | None, timeout_s: float, now: Callable[[], datetime]
    ) -> None:
        self._http = http
        self._vendor = vendor
        self._key = key
        self._timeout_s = timeout_s
        self._now = now

    def key_for(self, caller: Caller) -> str:
        """The caller's own key before the configured one.

        Raises NotAuthenticated when there is neither, InvalidRequest for what cannot be a key.
        """
        vendor = self._vendor
        own = caller.provider_credentials.get(vendor.credential)
        if own is None:
            if self._key is None:
                raise NotAuthenticated(
                    f"{vendor.name} has no API key: set {vendor.variable} for the config field api_key, or send"
                    f" {vendor.credential} with the request (header X-LlamaStack-Provider-Data)",
                    code="missing_api_key",
                )
            return self._key
        if not isinstance(own, str) or not is_sendable(own):
            raise InvalidRequest(
                f"the credential {vendor.credential} must be a text of printable ASCII characters",
                param=vendor.credential,
            )
        return own

    async def ask(
        self,
        method: str,
        path: str,
        *,
        key: str,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
        content: bytes = b"",
        answers: Collection[int] = (),
    ) -> Reply:
        """The answer to one request, tried again once after 429 or 5xx.

        answers: statuses besides 2xx that are an answer and no failure. Raises RateLimited with the wait, or
        ProviderFailed with the vendor's status and message; neither holds the key.
        """

        async def attempt() -> Reply:
            sent = self._http.merged(headers)
            try:
                async with (
                    asyncio.timeout(self._timeout_s),
                    self._http.exchange(method, path, headers=sent, query=query, content=content) as answer,
                ):
                    body, complete = await _read(answer.pieces)
                    return Reply(answer.status_code, answer.headers, body, complete)
            except TimeoutError as error:
                raise ProviderTimeout(f"{self._vendor.name} did not answer within {self._timeout_s:g} s") from error

        with self.failures(key):
            reply = await attempt()
            if (reply.status == 429 or reply.status >= 500) and reply.status not in answers:
                wait_s = self._wait_s(reply)
                pause_s = PAUSE_S if wait_s is None else wait_s
                if pause_s <= MAX_PAUSE_S:
                    await asyncio.sleep(pause_s)
                    reply = await attempt()
            if not 200 <= reply.status < 300 and reply.status not in answers:
                raise self._refusal(reply)
            if not reply.complete:
                raise ProviderFailed(f"{self._vendor.name} sent more than {MAX_ANSWER_BYTES // 1024} kB")
            return reply

    async def ask_json(
        self,
        method: str,
        path: str,
        *,
        key: str,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
        body: JsonObject | None = None,
    ) -> JsonObject:
        """As `ask`, for a service that answers with a JSON object. Raises ProviderFailed for anything else."""
        sent = {"accept": "application/json", **headers}
        content = b""
        if body is not None:
            sent["content-type"] = "application/json"
            content = orjson.dumps(body)
        reply = await self.ask(method, path, key=key, headers=sent, query=query, content=content)
        try:
            parsed = orjson.loads(reply.body)
        except orjson.JSONDecodeError:
            # Without the parser's own error, which holds the whole text.
            raise ProviderFailed(f"{self._vendor.name} sent something that is not JSON") from None
        if not isinstance(parsed, dict):
            raise ProviderFailed(f"{self._vendor.name} sent JSON that is no object")
        return parsed

    def failures(self, key: str) -> AbstractContextManager[None]:
        """Turns what the network raises into this framework's errors, and keeps the key out of every message."""
        return partner_failures(self._vendor.name, self._http.base_url.host, (key,))

    def refused_key(self, why: str, status: int) -> ProviderFailed:
        """The error of a key that the vendor does not accept. status: the one it is to keep."""
        vendor = self._vendor
        return ProviderFailed(
            f"{vendor.name} did not accept the API key ({why}): check {vendor.variable} (config field api_key), or the"
            f" credential {vendor.credential} of the request",
            upstream_status=status,
            code="invalid_api_key",
        )

    def _refusal(self, reply: Reply) -> StackError:
        name = self._vendor.name
        if 300 <= reply.status < 400:
            # Its Location is not repeated: it may hold the key that was in the query.
            return ProviderFailed(
                f"{name} answered {reply.status}, a redirect, which is not followed because the key would go with it;"
                " check base_url"
            )
        wait_s = self._wait_s(reply)
        error = upstream_error(name, reply.status, reply.body, None if wait_s is None else str(wait_s))
        if reply.status in (401, 403) or error.code in self._vendor.bad_key:
            return self.refused_key(error.message.removeprefix(f"{name} "), reply.status)
        if reply.status in self._vendor.used_up:
            return RateLimited(f"{error.message}; what its plan allows is used up", code="quota_used_up")
        if wait_s is not None and reply.status == 429:
            error.message += f"; it can be asked again in {wait_s:.0f} s"
        return error

    def _wait_s(self, reply: Reply) -> float | None:
        """How long the service asks to be left alone, where it says so.

        Retry-After is a number of seconds or a date (RFC 9110, 10.2.3). X-RateLimit-Reset names the seconds to the end
        of each window, in the order of X-RateLimit-Remaining (Brave Search API, "Rate limiting"); the windows that are
        used up count.
        """
        retry_after = reply.headers.get("retry-after")
        if retry_after is not None:
            return _seconds(retry_after, self._now())
        resets = _numbers(reply.headers.get("x-ratelimit-reset"))
        remaining = _numbers(reply.headers.get("x-ratelimit-remaining"))
        used_up = [reset for reset, left in zip(resets, remaining, strict=False) if left <= 0]
        return max(used_up or resets[:1], default=None)


async def _read(pieces: AsyncIterator[bytes]) -> tuple[bytes, bool]:
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            return bytes(body[:MAX_ANSWER_BYTES]), False
    return bytes(body), True


def _numbers(header: str | None) -> list[float]:
    """The numbers of a list such as "1, 1419704"; none where one of them is no number."""
    try:
        numbers = [] if header is None else [float(part) for part in header.split(",")]
    except ValueError:
        return []
    return [max(0.0, number) for number in numbers] if all(map(isfinite, numbers)) else []


def _seconds(retry_after: str, now: datetime) -> float | None:
    numbers = _numbers(retry_after)
    if numbers:
        return numbers[0]
    try:
        date = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds())


@asynccontextmanager
async def open_service(vendor: Vendor, settings: ServiceSettings, ground: Ground) -> AsyncIterator[Service]:
    """The vendor's service by the provider's settings. It opens without a key: each call says what is missing."""
    url = vendor.url if settings.base_url is None else str(settings.base_url)
    key = settings.api_key.get_secret_value() if settings.api_key else None
    # Twice as patient as the service, whose limit is for the whole exchange and is the one that is reported.
    async with ground.http(url, timeout_s=2 * settings.timeout_s, max_connections=MAX_CONNECTIONS) as http:
        yield Service(http, vendor, key, settings.timeout_s, ground.now)
