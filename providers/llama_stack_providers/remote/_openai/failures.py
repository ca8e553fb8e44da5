"""What can go wrong between us and a partner, turned into this framework's errors once, without any secret."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from llama_stack.errors import ProviderFailed, ProviderTimeout, ProviderUnavailable, StackError

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})  # noqa: S104  # compared with, never bound
MASK = "**********"


@contextmanager
def partner_failures(who: str, host: str, secrets: Sequence[str]) -> Iterator[None]:
    """who: the partner, for messages. host: its host, for the hint. secrets: texts that must not get out."""
    try:
        yield
    except StackError as error:
        for secret in secrets:
            error.message = error.message.replace(secret, MASK)
        error.args = (error.message,)
        raise
    except httpx.ConnectTimeout as error:
        raise ProviderUnavailable(f"{who} cannot be reached: {error}{container_hint(host)}") from error
    except httpx.TimeoutException as error:
        raise ProviderTimeout(
            f"{who} did not answer in time; raise timeout_s (answer_timeout_s for whole answers) or check its load"
        ) from error
    except (httpx.ConnectError, httpx.ProxyError) as error:
        raise ProviderUnavailable(f"{who} cannot be reached: {error}{container_hint(host)}") from error
    except httpx.HTTPError as error:
        raise ProviderFailed(f"{who} broke off: {error}") from error


def container_hint(host: str, *, root: Path = Path("/")) -> str:
    """Why a loopback address does not lead where it seems to, when we run in a container; otherwise nothing."""
    if host not in _LOOPBACK or not _in_container(root):
        return ""
    return (
        f"; inside a container {host} is the container itself: use host.docker.internal (Docker) or"
        " host.containers.internal (Podman), or the other container's name"
    )


def _in_container(root: Path) -> bool:
    marks = (root / ".dockerenv", root / "run" / ".containerenv")
    return any(mark.exists() for mark in marks) or "KUBERNETES_SERVICE_HOST" in os.environ
