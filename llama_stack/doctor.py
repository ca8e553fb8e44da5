"""What a distribution needs from this machine, looked at before it is needed.

Each finding that is not well names the exact command that mends it.
"""

import errno
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import httpx

from llama_stack.api.common import Caller, HealthStatus
from llama_stack.api.stack import ProviderState
from llama_stack.build import PACKAGE, install_command, plan_build, source_of
from llama_stack.compose import open_stack, stack_home
from llama_stack.distribution import EMBEDDED_ENGINE, Distribution, load_distribution
from llama_stack.errors import ConfigError, MissingVariable, StackError
from llama_stack.hub import PREFIX as HUB_PREFIX
from llama_stack.hub import cached_file
from llama_stack.server.listening import listen
from llama_stack.storage import default_url, schema_status
from llama_stack.weights import PREFIX as WEIGHTS_PREFIX
from llama_stack.weights import find_weights

ENGINE_PACKAGE = "xllamacpp"
LEAST_FREE_BYTES = 1_000_000_000
ENGINE_LOAD_S = 60.0
SERVED_LIMIT_S = 2.0
CONTAINERS = {
    Path("/.dockerenv"): "host.docker.internal",
    Path("/run/.containerenv"): "host.containers.internal",
}
"""What marks the inside of a container (docker, podman), and its name for the machine around it."""

DOCTOR = Caller(owner="doctor")


@dataclass(frozen=True)
class Finding:
    """One thing looked at. state: `warning` can still run, `failed` cannot. remedy: the command that mends it."""

    subject: str
    state: Literal["ok", "warning", "failed"]
    detail: str
    remedy: str | None = None


async def examine(
    name_or_path: str, *, model: str | None = None, overrides: Mapping[str, object] | None = None
) -> AsyncGenerator[Finding, None]:
    """Look at everything the distribution needs, the cheap things first; what cannot be looked at yet is left out."""
    yield Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")
    home = _home()
    yield home
    yield _disk()
    distribution: Distribution | None = None
    for finding in _read(name_or_path, model, overrides):
        if isinstance(finding, Distribution):
            distribution = finding
        else:
            yield finding
    if distribution is None:
        return
    well = home.state != "failed"
    yield _port(name_or_path, distribution)
    for finding in [*_packages(distribution), *_engine(distribution), *_models(name_or_path, distribution)]:
        well = well and finding.state != "failed"
        yield finding
    if well:
        yield await _database(name_or_path, distribution)
        async for finding in _providers(name_or_path, distribution):
            yield finding


def _home() -> Finding:
    home = stack_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        elsewhere = Path.home() / ".llama"
        remedy = (
            f"chmod u+rwx {shlex.quote(str(home))}"
            if error.errno == errno.EACCES and home.is_dir()
            else f"mkdir -p {shlex.quote(str(elsewhere))} && export LLAMA_STACK_HOME={shlex.quote(str(elsewhere))}"
        )
        return Finding("home", "failed", f"nothing can be written to {home}: {error.strerror}", remedy)
    return Finding("home", "ok", f"{home} can be written")


def _disk() -> Finding:
    folder = stack_home()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    words = f"{free / 1e9:.1f} GB free for state and models"
    if free < LEAST_FREE_BYTES:
        return Finding("disk", "warning", f"only {words}", "export LLAMA_STACK_HOME=FOLDER_ON_A_LARGER_DISK")
    return Finding("disk", "ok", words)


def _read(
    name_or_path: str, model: str | None, overrides: Mapping[str, object] | None
) -> Iterator[Finding | Distribution]:
    """The distribution, or why it cannot be read; every missing variable is named, not the first alone."""
    environment = dict(os.environ)
    missing: list[str] = []
    while True:
        try:
            distribution = load_distribution(name_or_path, env=environment, overrides=overrides, model=model)
            plan_build(distribution)
        except MissingVariable as error:
            missing.append(error.name)
            environment[error.name] = "1"
            continue
        except ConfigError as error:
            if not missing:
                yield Finding("distribution", "failed", _words(error), _reading_remedy(error))
            break
        if not missing:
            yield Finding("distribution", "ok", f"{distribution.name} ({distribution.source})")
            yield distribution
        break
    for name in missing:
        remedy = f"{_run(name_or_path)} --env {name}=VALUE"
        yield Finding("environment", "failed", f"the variable {name} is not set", remedy)


def _reading_remedy(error: ConfigError) -> str:
    if "no provider of type" in str(error):
        return "llama stack list-providers"
    if "no distribution named" in str(error):
        return "llama stack list"
    return f"${{EDITOR:-vi}} {shlex.quote(error.where)}" if error.where else "llama stack list"


def _port(name_or_path: str, distribution: Distribution) -> Finding:
    host, port = distribution.server.host, distribution.server.port
    try:
        listen(host, port).close()
    except ConfigError as error:
        run = _run(name_or_path)
        remedy = f"{run} --host 127.0.0.1" if error.where == "server.host" else f"{run} --port {_free_port(host)}"
        if error.where == "server.port" and _is_served(host, port):
            return Finding("port", "warning", f"a stack answers at port {port} on {host} already", remedy)
        return Finding("port", "failed", error.message.partition("\n")[0], remedy)
    return Finding("port", "ok", f"{port} on {host} is free")


def _is_served(host: str, port: int) -> bool:
    """Whether a stack is what holds the port: someone who looks at what runs has done nothing wrong."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    try:
        answer = httpx.get(f"http://{shown}:{port}/v1/health", timeout=SERVED_LIMIT_S, trust_env=False)
        return "status" in answer.json()
    except (httpx.HTTPError, ValueError, TypeError):
        return False


def _free_port(host: str) -> int:
    with listen(host, 0) as listener:
        port: int = listener.getsockname()[1]
        return port


def _packages(distribution: Distribution) -> Iterator[Finding]:
    """The Python packages the providers and the database name, present or not."""
    wanted = list(plan_build(distribution).requires)
    if (distribution.storage.url or "").startswith("postgres"):
        wanted.append("asyncpg>=0.30")
    missing = [requirement for requirement in wanted if not _is_installed(requirement)]
    if missing:
        yield Finding(
            "packages", "failed", f"not installed: {', '.join(missing)}", shlex.join(install_command(missing))
        )
    elif wanted:
        yield Finding("packages", "ok", f"installed: {', '.join(wanted)}")


def _is_installed(requirement: str) -> bool:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None, requirement
    try:
        version(name[0])
    except PackageNotFoundError:
        return False
    return True


def _engine(distribution: Distribution) -> Iterator[Finding]:
    """Whether the embedded engine loads; in a process of its own, for a missing CPU instruction would end this one."""
    if not any(entry.provider_type == EMBEDDED_ENGINE for entry in distribution.providers.inference):
        return
    if find_spec(ENGINE_PACKAGE) is None:
        detail = f"{ENGINE_PACKAGE} is not installed; there are wheels for Linux (glibc), macOS and Windows on x86-64"
        yield Finding("engine", "failed", detail, shlex.join(install_command([ENGINE_PACKAGE])))
        return
    loading = [sys.executable, "-c", f"import {ENGINE_PACKAGE}"]
    try:
        done = subprocess.run(loading, capture_output=True, text=True, timeout=ENGINE_LOAD_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        yield Finding("engine", "failed", f"{ENGINE_PACKAGE} does not load within {ENGINE_LOAD_S:g} s", _reinstall())
        return
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-1:] or [f"it ends with code {done.returncode}"]
        remedy = "sudo apt-get install libgomp1" if "libgomp" in said[0] else _reinstall()
        yield Finding("engine", "failed", f"{ENGINE_PACKAGE} does not load: {said[0]}", remedy)
        return
    yield Finding("engine", "ok", f"{ENGINE_PACKAGE} {version(ENGINE_PACKAGE)} loads")


def _reinstall(requirement: str = ENGINE_PACKAGE) -> str:
    how = "--reinstall" if install_command([])[0].endswith(("uv", "uv.exe")) else "--force-reinstall"
    return shlex.join(install_command([how, requirement]))


def _words(error: StackError) -> str:
    """On one line: what is wrong, and the sentence on how it is mended."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ". ".join(line.rstrip(".") for line in lines)


def _models(name_or_path: str, distribution: Distribution) -> Iterator[Finding]:
    """Whether the files of the embedded engine's models are here; whether they are sound is seen on opening them."""
    for entry in distribution.providers.inference:
        if entry.provider_type != EMBEDDED_ENGINE:
            continue
        for model in entry.models:
            yield _model(name_or_path, model.provider_resource_id or model.identifier)


def _model(name_or_path: str, reference: str) -> Finding:
    try:
        if reference.startswith(WEIGHTS_PREFIX):
            path: Path | None = find_weights(reference)
        elif reference.startswith(HUB_PREFIX):
            path = cached_file(reference, stack_home())
        else:
            path = Path(reference).expanduser()
    except ConfigError as error:
        # A shipped file that is missing means a broken installation.
        return Finding("model", "failed", _words(error), _reinstall(source_of(PACKAGE).requirement()))
    if path is None:
        remedy = f"llama model download {shlex.quote(reference)}"
        return Finding("model", "failed", f"{reference} is not downloaded", remedy)
    if not path.is_file():
        remedy = f"{_run(name_or_path)} --model llama-micro"
        return Finding("model", "failed", f"there is no file {path}", remedy)
    return Finding("model", "ok", f"{reference} ({path.stat().st_size / 1e6:.1f} MB)")


async def _database(name_or_path: str, distribution: Distribution) -> Finding:
    if distribution.storage.url is None and not (stack_home() / "stack.db").exists():
        return Finding("database", "ok", "a SQLite file, made at the first start")
    url = distribution.storage.url or default_url(stack_home())
    try:
        status = await schema_status(url)
    except StackError as error:
        elsewhere = f"storage.url={default_url(stack_home())}"
        return Finding("database", "failed", _words(error), f"{_run(name_or_path)} --set {shlex.quote(elsewhere)}")
    version_words = f"{status.database}, schema version {status.current}"
    if status.current > status.latest:
        detail = f"{version_words}; this llama-stack knows versions up to {status.latest}"
        return Finding("database", "failed", detail, _reinstall(source_of(PACKAGE).requirement()))
    if status.pending and status.current:
        remedy = f"llama db upgrade --distribution {shlex.quote(name_or_path)}"
        return Finding("database", "warning", f"{version_words}; the next start upgrades it", remedy)
    return Finding("database", "ok", version_words)


def _run(name_or_path: str) -> str:
    return f"llama stack run {shlex.quote(name_or_path)}"


async def _providers(name_or_path: str, distribution: Distribution) -> AsyncIterator[Finding]:
    """Open the stack as `run` would, and ask each provider how it is."""
    try:
        async with open_stack(distribution) as stack:
            states = await stack.providers(DOCTOR)
    except StackError as error:
        remedy = f"llama stack show {shlex.quote(name_or_path)} --resolved"
        yield Finding("providers", "failed", _words(error), remedy)
        return
    for state in states:
        subject = f"provider {state.provider_id}"
        if state.health.status in (HealthStatus.OK, HealthStatus.STARTING):
            yield Finding(subject, "ok", f"{state.provider_type} answers")
        else:
            # Degraded and not failed: the stack starts without it, and it joins when it can be reached.
            remedy = _reaching_remedy(name_or_path, distribution, state)
            yield Finding(subject, "warning", state.health.message or state.health.status.value, remedy)


def _reaching_remedy(name_or_path: str, distribution: Distribution, state: ProviderState) -> str:
    """How to point the provider elsewhere: by the variable its URL comes from, or by its key in the file."""
    for key, value in state.config.items():
        if not isinstance(value, str) or not value.startswith(("http://", "https://")):
            continue
        url = shlex.quote(_seen_from_here(value))
        position = [entry.provider_id for entry in distribution.providers.by_api()[state.api]].index(state.provider_id)
        origin = distribution.origins.get(("providers", state.api, position, "config", key))
        variable = re.search(r"[A-Z][A-Z0-9_]+", origin.detail) if origin else None
        if variable:
            return f"{_run(name_or_path)} --env {variable[0]}={url}"
        return f"{_run(name_or_path)} --set providers.{state.api}.{state.provider_id}.config.{key}={url}"
    return f"llama stack show {shlex.quote(name_or_path)} --resolved"


def _seen_from_here(url: str) -> str:
    """In a container, the URL with the machine's name for localhost, which is the container; else a placeholder."""
    for mark, host in CONTAINERS.items():
        if mark.exists() and re.match(r"https?://(localhost|127\.0\.0\.1|\[::1\])[:/]", url):
            return re.sub(r"//(localhost|127\.0\.0\.1|\[::1\])", f"//{host}", url)
    return "URL"
