"""From a distribution to something that can be moved or started elsewhere: requirements, an environment, an image.

Only what the distribution's own providers need is installed, besides this package: each provider names its
requirements, a stranger's provider adds the package it comes from, and a PostgreSQL URL adds the driver.
"""

import json
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import distribution as installed
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from llama_stack.catalog import Catalog
from llama_stack.compose import resolve_providers
from llama_stack.distribution import Distribution
from llama_stack.errors import ConfigError, StackError

PACKAGE = "llama-stack"
BASE_IMAGE = "docker.io/library/python:3.12-slim"
ENGINE_ANSWER_S = 20.0


class BuildFailed(StackError):
    """A tool that the build runs ended with an error; what it said stands above, on the terminal."""

    code = "build_failed"


@dataclass(frozen=True)
class Source:
    """Where an installed package came from: an index (`url` None), or a URL, of a folder when `is_folder`."""

    name: str
    version: str
    url: str | None = None
    is_folder: bool = False

    def requirement(self, extras: str = "") -> str:
        """A pip requirement that gets the same package again."""
        return f"{self.name}{extras} @ {self.url}" if self.url else f"{self.name}{extras}=={self.version}"

    @property
    def file(self) -> Path | None:
        """The folder or archive on this machine it came from, if it did."""
        if self.url is None or urlsplit(self.url).scheme != "file":
            return None
        return Path(url2pathname(urlsplit(self.url).path))


def source_of(package: str) -> Source:
    """Read from the record that installers leave (`direct_url.json`, PEP 610).

    Without it, `llama-stack==...` from an index would be another project of that name.
    """
    try:
        found = installed(package)
    except PackageNotFoundError as error:
        raise ConfigError(f"{package} is not installed here", remedy=f"Install it: pip install {package}") from error
    record = json.loads(found.read_text("direct_url.json") or "{}")
    url = record.get("url")
    if url and "vcs_info" in record:
        url = f"{record['vcs_info']['vcs']}+{url}@{record['vcs_info']['commit_id']}"
    return Source(found.name, found.version, url, "dir_info" in record)


@dataclass(frozen=True)
class BuildPlan:
    """What a distribution needs. packages: ours and strangers', ours first; requires: what their providers name."""

    distribution: Distribution
    extras: str
    packages: tuple[Source, ...]
    requires: tuple[str, ...]

    @property
    def requirements(self) -> list[str]:
        """pip requirements, one a line in a requirements file."""
        ours, *others = self.packages
        return [ours.requirement(self.extras), *(other.requirement() for other in others), *self.requires]


def plan_build(distribution: Distribution, catalog: Catalog | None = None) -> BuildPlan:
    """Raises ConfigError where a provider of the distribution is unknown or wrongly set."""
    catalog = catalog or Catalog()
    strangers: set[str] = set()
    requires: set[str] = set()
    for provider in resolve_providers(distribution, catalog):
        strangers.add(catalog.places[provider.entry.provider_type].package)
        requires.update(provider.declaration.requires)
    names = [PACKAGE, *sorted(strangers - {PACKAGE})]
    extras = "[postgres]" if (distribution.storage.url or "").startswith("postgres") else ""
    return BuildPlan(distribution, extras, tuple(source_of(name) for name in names), tuple(sorted(requires)))


def build_environment(plan: BuildPlan, target: Path) -> Path:
    """Make (or bring up to date) a virtual environment in `target`; returns its `llama` command.

    A target this call made is removed again when the build fails. Raises ConfigError for a folder that holds
    something else, BuildFailed when a tool fails.
    """
    fresh = not target.exists() or not any(target.iterdir())
    if not fresh and not (target / "pyvenv.cfg").is_file():
        raise ConfigError(
            f"{target} holds other files", remedy="Name an empty or new folder: llama stack build --target FOLDER"
        )
    scripts = Path(sysconfig.get_path("scripts", "venv", vars={"base": str(target)}))
    python = scripts / Path(sys.executable).name
    try:
        if fresh:
            _make_environment(target)
        _run(install_command(plan.requirements, python), "installing the requirements")
    except BaseException:
        if fresh:
            shutil.rmtree(target, ignore_errors=True)
        raise
    return scripts / ("llama.exe" if sys.platform == "win32" else "llama")


def install_command(requirements: list[str], python: Path | None = None) -> list[str]:
    """The command that installs into an environment, by default this one: uv where it is found, else its own pip."""
    python = python or Path(sys.executable)
    uv = _uv()
    installer = [uv, "pip", "install", "--python", str(python)] if uv else [str(python), "-m", "pip", "install"]
    return [*installer, *requirements]


def _uv() -> str | None:
    beside = Path(sys.executable).with_name("uv.exe" if sys.platform == "win32" else "uv")
    return shutil.which("uv") or (str(beside) if beside.is_file() else None)


def _make_environment(target: Path) -> None:
    uv = _uv()
    # With pip inside: what the doctor advises there must work where uv is not at hand.
    maker = [uv, "venv", "--seed", "--python", sys.executable] if uv else [sys.executable, "-m", "venv"]
    _run([*maker, str(target)], "making the environment")


def _run(command: list[str], deed: str) -> None:
    """Run a tool whose own words go to stderr, so that stdout keeps to what was asked for."""
    done = subprocess.run(command, stdout=sys.stderr.fileno(), stdin=subprocess.DEVNULL, check=False)  # noqa: S603
    if done.returncode != 0:
        raise BuildFailed(f"{deed} failed (exit code {done.returncode}): {' '.join(command)}")


def write_container_context(plan: BuildPlan, target: Path) -> Path:
    """Fill `target` with all an image needs: Containerfile, requirements, the distribution, packages from this machine.

    Returns the Containerfile. Raises ConfigError for a folder that holds something else, BuildFailed.
    """
    containerfile = target / "Containerfile"
    if target.exists() and any(target.iterdir()) and not containerfile.is_file():
        raise ConfigError(
            f"{target} holds other files", remedy="Name an empty or new folder: llama stack build --target FOLDER"
        )
    packages = target / "packages"
    shutil.rmtree(packages, ignore_errors=True)
    packages.mkdir(parents=True)
    extras = iter([plan.extras])
    lines = [_carried(source, packages, next(extras, "")) for source in plan.packages]
    (target / "requirements.txt").write_text("\n".join([*lines, *plan.requires]) + "\n", encoding="utf-8")
    shutil.copyfile(plan.distribution.source, target / "distribution.yaml")
    containerfile.write_text(containerfile_text(plan.distribution.server.port), encoding="utf-8")
    return containerfile


def _carried(source: Source, packages: Path, extras: str) -> str:
    """The requirement inside the image; a package that lives on this machine is put into the context as a wheel."""
    if source.file is None:
        return source.requirement(extras)
    if source.is_folder:
        wheel = _make_wheel(source.file, packages)
    else:
        wheel = packages / source.file.name
        shutil.copyfile(source.file, wheel)
    return f"./packages/{wheel.name}{extras}"


def _make_wheel(folder: Path, packages: Path) -> Path:
    before = set(packages.glob("*.whl"))
    uv = _uv()
    if uv:
        # Left to itself, uv would look for a Python of its own liking, and download one.
        command = [uv, "build", "--wheel", "--python", sys.executable, "--out-dir", str(packages), str(folder)]
    else:
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(packages), str(folder)]
    _run(command, f"making a wheel of {folder}")
    # uv marks its output folder as ignored by git; the context is nobody's build output.
    (packages / ".gitignore").unlink(missing_ok=True)
    return (set(packages.glob("*.whl")) - before).pop()


def containerfile_text(port: int) -> str:
    """The Containerfile: an unprivileged user, state in a volume, stopped by SIGTERM, watched by its health route."""
    return f"""\
FROM {BASE_IMAGE}

# The engine's CPU code uses OpenMP.
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 llama && install -d -o llama /state
WORKDIR /stack
COPY requirements.txt ./
COPY packages ./packages
RUN pip install --no-cache-dir -r requirements.txt
COPY distribution.yaml ./

# The port inside is fixed; publish it as any other: --publish 9000:{port}
USER llama
ENV LLAMA_STACK_HOME=/state PYTHONUNBUFFERED=1
VOLUME /state
EXPOSE {port}
HEALTHCHECK --start-period=60s CMD ["python", "-c", \
"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}/v1/health', timeout=3)"]
ENTRYPOINT ["llama", "stack", "run", "/stack/distribution.yaml", "--host", "0.0.0.0", "--port", "{port}"]
"""


@dataclass(frozen=True)
class ImageTool:
    """docker or podman on this machine. trouble: why it cannot build now; None when it can."""

    command: str
    trouble: str | None


def find_image_tool() -> ImageTool | None:
    """The first of docker and podman whose engine answers, else the first that is installed, else None."""
    found: list[ImageTool] = []
    for command in ("docker", "podman"):
        if shutil.which(command):
            found.append(ImageTool(command, _trouble(command)))
    return next((tool for tool in found if tool.trouble is None), found[0] if found else None)


def _trouble(command: str) -> str | None:
    try:
        asked = subprocess.run(  # noqa: S603
            [command, "info"], capture_output=True, text=True, timeout=ENGINE_ANSWER_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if asked.returncode == 0:
        return None
    said = [line.strip() for line in asked.stderr.splitlines() if line.strip()]
    return said[-1].removeprefix("ERROR: ") if said else f"`{command} info` ended with exit code {asked.returncode}"


def image_command(tool: str, tag: str, context: Path) -> list[str]:
    """The command that builds the image from a context."""
    return [tool, "build", "--tag", tag, "--file", str(context / "Containerfile"), str(context)]


def build_image(tool: ImageTool, tag: str, context: Path) -> None:
    """Raises BuildFailed when the tool does."""
    _run(image_command(tool.command, tag, context), "building the image")
