"""Which addresses a stranger's URL may lead to.

A server that fetches what its callers name can be made to ask machines only it can reach: its own ports, its network,
the metadata service of its cloud (OWASP, "Server Side Request Forgery Prevention Cheat Sheet"). So a name is resolved
here, every address of it is checked, and the connection goes to an address that was checked: a name that changes its
mind between check and use gains nothing.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable

from llama_stack.errors import InvalidRequest, ProviderUnavailable

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Addresses of a host, best first. Raises OSError when there are none."""

RESOLVE_TIMEOUT_S = 10.0
MAX_ADDRESSES = 8
_TRANSLATED = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))
"""Networks whose last four bytes are an IPv4 address: NAT64 (RFC 6052), and the deprecated compatible addresses."""
_REFUSED = (ipaddress.IPv6Network("64:ff9b:1::/48"), ipaddress.IPv6Network("fec0::/10"))
"""Local by their standards (RFC 8215, RFC 3879), which Python's tables do not say in every version."""


async def resolve(host: str, port: int) -> list[str]:
    """What the system's resolver says."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for _, _, _, _, address in found))


async def public_addresses(
    host: str, port: int, resolve: Resolve, *, what: str = "the host", remedy: str, param: str
) -> list[str]:
    """Addresses of the host, all of them public.

    what, remedy, param: how the error calls the host, what it says to do, and the field that it names.
    Raises InvalidRequest when any is not public: a host with both kinds has no honest use. The address is not
    repeated: a caller learns nothing about names of the server's own network. ProviderUnavailable when there is none.
    """
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            addresses = await resolve(host, port)
    except TimeoutError as error:
        raise ProviderUnavailable(f"the name {host} was not resolved within {RESOLVE_TIMEOUT_S:g} s") from error
    except (OSError, UnicodeError) as error:
        raise ProviderUnavailable(f"there is no host named {host}") from error
    if not addresses or not all(is_public(address) for address in addresses):
        raise InvalidRequest(
            f"{what} {host} is inside the server's own network; {remedy}", param=param, code="address_not_allowed"
        )
    return addresses[:MAX_ADDRESSES]


def is_public(text: str) -> bool:
    """Whether the address belongs to the public internet. An address inside another is judged by the inner one too."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None or any(address in network for network in _REFUSED):
            return False
        inner = _ipv4_inside(address)
        if inner is not None:
            return is_public(str(inner))
    return address.is_global and not address.is_multicast and not address.is_reserved


def _ipv4_inside(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if any(address in network for network in _TRANSLATED):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None
