"""Virtual environments made for a measurement: how long an install takes and how large it is."""

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Install:
    """What installing took. size_mb: every file of the environment with its compiled bytecode, 10^6 bytes."""

    requirements: tuple[str, ...]
    installer: str
    seconds: float
    size_mb: float
    packages: int


def find_python(names: tuple[str, ...]) -> Path:
    """The first of these interpreters: on PATH, or among pyenv's. Raises SystemExit with what to do."""
    versions = Path.home() / ".pyenv" / "versions"
    for name in names:
        on_path = shutil.which(name)
        # pyenv puts a shim on PATH for versions that are not active; it only tells where the real one is.
        if on_path and subprocess.run([on_path, "--version"], capture_output=True, check=False).returncode == 0:
            return Path(on_path)
        minor = name.removeprefix("python")
        if real := sorted(versions.glob(f"{minor}.*/bin/{name}")):
            return real[-1]
    raise SystemExit(f"none of {', '.join(names)} found; install one and run this again")


def make_environment(python: Path, folder: Path, requirements: tuple[str, ...]) -> Install:
    """A fresh virtual environment with these requirements: nothing cached, bytecode compiled. Uses uv where it is
    installed, else venv and pip."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv:
        make = [uv, "venv", "--quiet", "--clear", "--python", str(python), str(folder)]
        install = [
            uv,
            "pip",
            "install",
            "--quiet",
            "--no-cache",
            "--compile-bytecode",
            "--python",
            str(folder / "bin/python"),
        ]
    else:
        make = [str(python), "-m", "venv", "--clear", str(folder)]
        install = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--no-cache-dir"]
    subprocess.run(make, check=True)
    start = time.perf_counter()
    subprocess.run([*install, *requirements], check=True)
    seconds = time.perf_counter() - start
    size_mb = sum(path.lstat().st_size for path in folder.rglob("*")) / 1e6
    packages = len(list(folder.glob("lib/python3*/site-packages/*.dist-info")))
    return Install(requirements, "uv" if uv else "pip", seconds, size_mb, packages)
