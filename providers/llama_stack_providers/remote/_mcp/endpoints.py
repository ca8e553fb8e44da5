"""Which server a tool group means, and with whose credentials it is asked."""

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any
from urllib.parse import SplitResult, urlsplit

from llama_stack.api.common import Caller
from llama_stack.api.tools import ToolGroup
from llama_stack.errors import InvalidRequest, NotPermitted
from llama_stack.wire.validation import checked_url
from llama_stack_providers.remote._mcp.settings import Config, HttpServer, HttpTransport, StdioServer, check_header

MAX_HEADERS = 32

# Digests of credentials name sessions for as long as this process lives, and mean nothing outside of it.
_DIGEST_KEY = os.urandom(32)


@dataclass(frozen=True)
class Endpoint:
    """A server as one caller may use it.

    name: for messages; holds no secret. process: what to start, for a server of the configuration; otherwise url.
    headers: of the configuration and of the caller, the caller's first. is_guarded: only public addresses may be
    reached. Two uses with equal keys may share a session: same server, same owner, same credentials, same guard.
    """

    name: str
    owner: str
    process: StdioServer | None = None
    url: str = ""
    transport: HttpTransport = "auto"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    is_guarded: bool = False

    @property
    def key(self) -> tuple[object, ...]:
        server = self.url if self.process is None else self.name
        return (server, self.transport, self.is_guarded, self.owner, _digest(self.headers))

    @property
    def secrets(self) -> list[str]:
        """Texts that must not get out in a message, longest first."""
        texts = {value for value in self.headers.values() if value}
        texts |= {value.rpartition(" ")[2] for value in texts}
        if self.process is not None:
            texts |= {value.get_secret_value() for value in self.process.env.values()}
        texts.add(urlsplit(self.url).password or "")
        return sorted((text for text in texts if len(text) > 3), key=len, reverse=True)


def endpoint_of(group: ToolGroup, caller: Caller, config: Config) -> Endpoint:
    """The server behind a group.

    Raises InvalidRequest for a group that names none, or for credentials that cannot be sent; NotPermitted for a
    caller's group that names a server of the configuration.
    """
    if group.mcp_endpoint is not None:
        url = checked_url(group.mcp_endpoint, "mcp_endpoint")
        return Endpoint(
            name=f"the MCP server {group.identifier!r} ({_origin(url)})",
            owner=caller.owner,
            url=group.mcp_endpoint,
            headers=_caller_headers(group, group.mcp_endpoint, caller),
            is_guarded=group.from_caller and not config.allow_private_addresses,
        )
    server = config.servers.get(group.provider_resource_id)
    if server is None:
        raise _names_no_server(group, config)
    if group.from_caller:
        # Its credentials and its process are the operator's; which tools of it are offered is theirs to say.
        raise NotPermitted(
            f"the tool group {group.identifier!r} must name an mcp_endpoint: servers of the configuration are offered"
            " by the distribution's own tool groups only"
        )
    name = f"the MCP server {group.provider_resource_id!r}"
    if isinstance(server, StdioServer):
        return Endpoint(name=name, owner=caller.owner, process=server)
    return _configured(name, server, group, caller)


def _configured(name: str, server: HttpServer, group: ToolGroup, caller: Caller) -> Endpoint:
    url = str(server.url)
    headers = {header.lower(): value.get_secret_value() for header, value in server.headers.items()}
    headers.update(_caller_headers(group, url, caller))
    return Endpoint(
        name=f"{name} ({_origin(urlsplit(url))})",
        owner=caller.owner,
        url=url,
        transport=server.transport,
        headers=headers,
    )


def _names_no_server(group: ToolGroup, config: Config) -> InvalidRequest:
    nearest = get_close_matches(group.provider_resource_id, config.servers, n=1)
    hint = f"Did you mean {nearest[0]!r}?" if nearest else f"There are: {', '.join(config.servers) or 'none'}."
    return InvalidRequest(
        f"the tool group {group.identifier!r} names no mcp_endpoint, and the provider's configuration has no server"
        f" {group.provider_resource_id!r}. {hint}",
        param="mcp_endpoint",
    )


def _origin(url: SplitResult) -> str:
    """The part of a URL that holds no secret: some servers want their key in the path or the query."""
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}"


def _caller_headers(group: ToolGroup, url: str, caller: Caller) -> dict[str, str]:
    """What this caller sends along to this server, header names in lower case."""
    headers: dict[str, str] = {}
    token = _meant_for("mcp_authorization", group, url, caller)
    if token is not None:
        if not isinstance(token, str):
            raise _wrong_credentials("mcp_authorization", "a text for each server: its token")
        headers["authorization"] = token if " " in token else f"Bearer {token}"
    given = _meant_for("mcp_headers", group, url, caller)
    if given is not None:
        if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
            raise _wrong_credentials("mcp_headers", "an object of header names and texts for each server")
        headers.update({str(name).lower(): value for name, value in given.items()})
    if len(headers) > MAX_HEADERS:
        raise _wrong_credentials("mcp_headers", f"at most {MAX_HEADERS} headers for each server")
    for name, value in headers.items():
        try:
            check_header(name, value)
        except ValueError as error:
            raise InvalidRequest(f"mcp_headers: {error}", param="mcp_headers") from error
    return headers


def _meant_for(credential: str, group: ToolGroup, url: str, caller: Caller) -> Any:
    """The credential's entry for this server, by its URL or by the tool group's name; None when there is none."""
    entries = caller.provider_credentials.get(credential)
    if entries is None:
        return None
    if not isinstance(entries, dict):
        # One value for every server would hand it to servers it is not meant for.
        raise _wrong_credentials(credential, "an object with the servers' URLs as names")
    for name, entry in entries.items():
        if name == group.identifier or _same_url(name, url):
            return entry
    return None


def _wrong_credentials(credential: str, wanted: str) -> InvalidRequest:
    return InvalidRequest(f"{credential} in the provider data must be {wanted}", param=credential)


def _same_url(left: str, right: str) -> bool:
    return left.rstrip("/") == right.rstrip("/") or _normal(left) == _normal(right)


def _normal(text: str) -> tuple[object, ...] | None:
    try:
        url = urlsplit(text)
        port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    except ValueError:
        return None
    return (url.scheme, url.hostname, port, url.path.rstrip("/"), url.query)


def _digest(headers: Mapping[str, str]) -> str:
    text = json.dumps(sorted(headers.items())).encode()
    return hmac.new(_DIGEST_KEY, text, hashlib.sha256).hexdigest()
