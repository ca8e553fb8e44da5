"""The servers that are compared, and how each is started in front of the same upstream."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import peers
from benchmarks.processes import HOST, RunningServer, free_port, running

HERE = Path(__file__).parent
OURS = "llama-stack"
DIRECT = "direct"
BARE = "Starlette pass-through"
TYPED = "FastAPI pass-through"
LABELS = {"ogx": "OGX", "litellm": "LiteLLM"}


@dataclass(frozen=True)
class Target:
    """`command` starts the server on `port`; `model_prefix` is what it puts before the upstream's model names."""

    name: str
    command: list[str]
    port: int
    env: dict[str, str] = field(default_factory=dict)
    model_prefix: str = ""


def _python_path() -> dict[str, str]:
    """So that a child in another working folder finds this package."""
    return {"PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}


def upstream() -> Target:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.mock_upstream", "--port", str(port)]
    return Target(DIRECT, command, port, _python_path())


def _passthrough(name: str, app: str, upstream_url: str) -> Target:
    port = free_port()
    options = ["--host", HOST, "--port", str(port), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    command = [sys.executable, "-m", "uvicorn", "--factory", f"benchmarks.passthrough:{app}", *options]
    return Target(name, command, port, {**_python_path(), "UPSTREAM_URL": upstream_url})


def bare(upstream_url: str) -> Target:
    return _passthrough(BARE, "bare", upstream_url)


def typed(upstream_url: str) -> Target:
    return _passthrough(TYPED, "typed", upstream_url)


def llama(*arguments: str) -> list[str]:
    """Our command line, of the installation that runs this."""
    return [sys.executable, "-m", "llama_stack", *arguments]


def ours(upstream_url: str) -> Target:
    """Our server with its access log and all, one remote provider, and an empty state folder."""
    port = free_port()
    command = llama("stack", "run", str(HERE / "stack.yaml"), "--port", str(port))
    env = {"UPSTREAM_URL": upstream_url, "LLAMA_STACK_HOME": "state"}
    return Target(OURS, command, port, env)


def peer(one: peers.Peer, home: Path, upstream_url: str) -> Target:
    port = free_port()
    return Target(
        LABELS[one.name], one.command(home, port), port, one.env(home, upstream_url), model_prefix=one.model_prefix
    )


def products(upstream_url: str, peers_home: Path | None) -> list[Target]:
    """Our server, and the peers that are installed there."""
    others = [peer(one, peers_home, upstream_url) for one in peers.installed(peers_home)] if peers_home else []
    return [ours(upstream_url), *others]


@contextmanager
def all_running(peers_home: Path | None, only: Sequence[str] = ()) -> Iterator[list[tuple[Target, RunningServer]]]:
    """The upstream first, then every target in front of it, or those whose names are given."""
    with ExitStack() as stack:
        mock = upstream()
        started = [(mock, stack.enter_context(running("upstream", mock.command, port=mock.port, env=mock.env)))]
        upstream_url = started[0][1].base_url
        for target in [bare(upstream_url), typed(upstream_url), *products(upstream_url, peers_home)]:
            if not only or target.name in only:
                server = running(target.name, target.command, port=target.port, env=target.env)
                started.append((target, stack.enter_context(server)))
        yield started
