"""Pyodide's files from loopback servers that stand for its registry and its distribution, with wrong files too."""

import base64
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from llama_stack.errors import NotFound, ProviderFailed
from llama_stack.provider import Ground
from llama_stack_providers.inline._code_interpreter.pyodide import CORE_FILES, fetch_pyodide

WHEELS = {"numpy-2.whl": b"numpy's wheel", "pandas-3.whl": b"pandas' wheel", "six-1.whl": b"six's wheel"}


def entry(file_name: str, *depends: str) -> dict[str, Any]:
    return {
        "file_name": file_name,
        "sha256": hashlib.sha256(WHEELS[file_name]).hexdigest(),
        "depends": list(depends),
    }


LOCK = {
    "packages": {
        "numpy": entry("numpy-2.whl"),
        "pandas": entry("pandas-3.whl", "numpy", "six"),
        "six": entry("six-1.whl"),
    }
}


def archive(**changes: bytes) -> bytes:
    """The core as npm packs it, with files that are not wanted."""
    files = {name: f"content of {name}".encode() for name in CORE_FILES}
    files |= {"pyodide-lock.json": json.dumps(LOCK).encode(), "../outside.txt": b"x", "console.html": b"x", **changes}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


CORE = archive()  # packed once: an archive holds the time of its packing


@dataclass
class Mirror:
    core: bytes = CORE
    wheels: dict[str, bytes] = field(default_factory=lambda: dict(WHEELS))
    url: str = ""
    asked: list[str] = field(default_factory=list)

    async def serve(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.asked.append(name)
        content = self.core if name == "core.tgz" else self.wheels.get(name)
        return web.Response(status=404) if content is None else web.Response(body=content)

    async def fetch(self, folder: Path, *packages: str) -> list[str]:
        digest = base64.b64encode(hashlib.sha512(CORE).digest()).decode()
        return await fetch_pyodide(
            folder,
            packages,
            Ground(home=folder, state=folder),
            core_url=f"{self.url}core.tgz",
            core_sha512=digest,
            packages_url=self.url,
        )


@pytest_asyncio.fixture
async def mirror() -> AsyncIterator[Mirror]:
    mirror = Mirror()
    app = web.Application()
    app.router.add_get("/{name}", mirror.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    mirror.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield mirror
    await runner.cleanup()


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


async def test_core_and_packages_come_once_with_what_they_stand_on(mirror: Mirror, tmp_path: Path) -> None:
    folder = tmp_path / "pyodide"
    assert await mirror.fetch(folder, "pandas") == [*CORE_FILES, "numpy-2.whl", "pandas-3.whl", "six-1.whl"]
    assert names_in(folder) == sorted([*CORE_FILES, *WHEELS])
    assert not (tmp_path / "outside.txt").exists()
    assert (folder / "pandas-3.whl").read_bytes() == b"pandas' wheel"
    asked = len(mirror.asked)
    assert await mirror.fetch(folder, "pandas", "numpy") == []
    assert len(mirror.asked) == asked


async def test_a_changed_core_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    mirror.core = archive(**{"pyodide.mjs": b"something else"})
    with pytest.raises(ProviderFailed, match="not the file that was expected"):
        await mirror.fetch(tmp_path, "numpy")
    assert names_in(tmp_path) == []


async def test_a_changed_package_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    mirror.wheels["numpy-2.whl"] = b"something else"
    with pytest.raises(ProviderFailed, match="nothing was kept"):
        await mirror.fetch(tmp_path, "numpy")
    assert not (tmp_path / "numpy-2.whl").exists()


async def test_a_package_that_there_is_not_is_named(mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no package 'torch'"):
        await mirror.fetch(tmp_path, "torch")


async def test_a_missing_file_and_a_dead_server_are_failures(mirror: Mirror, tmp_path: Path) -> None:
    del mirror.wheels["numpy-2.whl"]
    with pytest.raises(ProviderFailed, match="answered 404"):
        await mirror.fetch(tmp_path, "numpy")
    mirror.url = "http://127.0.0.1:9/"
    with pytest.raises(ProviderFailed, match="cannot fetch"):
        await mirror.fetch(tmp_path, "six")
