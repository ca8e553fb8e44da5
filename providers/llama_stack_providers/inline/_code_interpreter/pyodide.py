"""Fetches Pyodide and its packages once, so that the wasm driver needs no network afterwards.

    python -m llama_stack_providers.inline._code_interpreter.pyodide FOLDER [PACKAGE ...]

The core comes from the npm registry and is checked against the digest below; packages come from Pyodide's own
distribution and are checked against the sha256 that the core's lock file states for each (`pyodide-lock.json`).
"""

import argparse
import asyncio
import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx

from llama_stack.errors import NotFound, ProviderFailed
from llama_stack.provider import Ground

VERSION = "314.0.7"
CORE_URL = f"https://registry.npmjs.org/pyodide/-/pyodide-{VERSION}.tgz"
CORE_SHA512 = "0YvXxEhfEdpLfb/XkM2BFAeMROq0iMUX2bzzH9pOttyMcWkwq+HbE5uyuGD82LN7y2q+SNvi/6V5JEsOlD2R1A=="
PACKAGES_URL = f"https://cdn.jsdelivr.net/pyodide/v{VERSION}/full/"
CORE_FILES = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
USUAL_PACKAGES = ("numpy", "pandas", "matplotlib")

ANSWER_LIMIT_BYTES = 200 << 20
TIMEOUT_S = 120.0


async def fetch_pyodide(
    folder: Path,
    packages: Iterable[str],
    ground: Ground,
    *,
    core_url: str = CORE_URL,
    core_sha512: str = CORE_SHA512,
    packages_url: str = PACKAGES_URL,
) -> list[str]:
    """Fetch what is not there yet into the folder; returns the names of the files that came.

    Raises ProviderFailed when a download fails or is not what its digest says, NotFound for an unknown package.
    A file appears under its name only when it is whole and right.
    """
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    came: list[str] = []
    async with ground.http(core_url, timeout_s=TIMEOUT_S) as http:
        if not all((folder / name).is_file() for name in CORE_FILES):
            archive = await _download(http, core_url)
            digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
            if digest != core_sha512:
                raise ProviderFailed(f"{core_url} is not the file that was expected: its sha512 is {digest}")
            for name, content in (await asyncio.to_thread(_core_files, archive)).items():
                came.append(_put(folder, name, content))
        lock = json.loads((folder / "pyodide-lock.json").read_text(encoding="utf-8"))["packages"]
        for entry in _with_dependencies(lock, packages):
            name, wanted = entry["file_name"], entry["sha256"]
            if (folder / name).is_file():
                continue
            wheel = await _download(http, packages_url + name)
            if hashlib.sha256(wheel).hexdigest() != wanted:
                raise ProviderFailed(f"{packages_url}{name} is not the file that the lock file names; nothing was kept")
            came.append(_put(folder, name, wheel))
    return came


def _with_dependencies(lock: dict[str, Any], packages: Iterable[str]) -> list[dict[str, Any]]:
    """Entries of the packages and all they stand on, each once."""
    waiting, found = list(packages), dict[str, dict[str, Any]]()
    while waiting:
        name = waiting.pop().lower()
        if name in found:
            continue
        if name not in lock:
            raise NotFound(f"Pyodide {VERSION} has no package {name!r}; its packages are listed in pyodide-lock.json")
        found[name] = lock[name]
        waiting += lock[name]["depends"]
    return [found[name] for name in sorted(found)]


def _core_files(archive: bytes) -> dict[str, bytes]:
    """The files that are needed, by name; whatever else and whatever paths the archive holds is left."""
    files = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for name in CORE_FILES:
            member = tar.extractfile(f"package/{name}")
            if member is None:
                raise ProviderFailed(f"the archive of Pyodide {VERSION} has no file {name}")
            files[name] = member.read()
    return files


def _put(folder: Path, name: str, content: bytes) -> str:
    part = folder / f".{name}.part"
    part.write_bytes(content)
    part.replace(folder / name)
    return name


async def _download(http: Any, url: str) -> bytes:
    content = bytearray()
    try:
        async with http.stream("GET", url) as answer:
            if answer.status_code != 200:
                raise ProviderFailed(f"{url} answered {answer.status_code}")
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > ANSWER_LIMIT_BYTES:
                    raise ProviderFailed(f"{url} is larger than {ANSWER_LIMIT_BYTES >> 20} MB")
    except httpx.TransportError as error:
        raise ProviderFailed(f"cannot fetch {url}: {error}") from error
    return bytes(content)


def _main() -> None:
    parser = argparse.ArgumentParser(description="Fetch Pyodide for the code interpreter's wasm driver.")
    parser.add_argument("folder", type=Path, help="where it goes; LLAMA_STACK_HOME/pyodide is where the driver looks")
    parser.add_argument("packages", nargs="*", default=USUAL_PACKAGES, help="default: %(default)s")
    arguments = parser.parse_args()
    ground = Ground(home=arguments.folder, state=arguments.folder)
    for name in asyncio.run(fetch_pyodide(arguments.folder, arguments.packages, ground)):
        print(name)


if __name__ == "__main__":
    _main()
