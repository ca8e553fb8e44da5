"""Which Python runs inside a sandbox that shares the host's files, and which folders it needs."""

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from llama_stack_providers.inline._code_interpreter.driver import DriverUnavailable

_QUESTION = (
    "import json,os,sys,sysconfig;"
    "print(json.dumps([os.path.realpath(getattr(sys,'_base_executable','') or sys.executable),sys.base_prefix,"
    "sysconfig.get_path('purelib'),sysconfig.get_path('platlib')]))"
)


@dataclass(frozen=True)
class Interpreter:
    """program: the Python itself, not a virtual environment's link. folders: what it reads. packages: for sys.path."""

    program: str
    folders: tuple[Path, ...]
    packages: tuple[str, ...]


def find_interpreter(python: Path | None) -> Interpreter:
    """The server's own Python and installed packages, or another's. Raises DriverUnavailable when it does not run."""
    if python is None:
        program = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
        paths = sysconfig.get_paths()
        return _interpreter(program, sys.base_prefix, paths["purelib"], paths["platlib"])
    try:
        asked = subprocess.run(  # noqa: S603  # named by the distribution
            [python, "-I", "-c", _QUESTION], capture_output=True, check=True, timeout=30
        )
        return _interpreter(*json.loads(asked.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
        raise DriverUnavailable(
            f"the interpreter {str(python)!r} does not run: {error}; set python to one that does, or leave it out"
        ) from error


def _interpreter(program: str, prefix: str, purelib: str, platlib: str) -> Interpreter:
    packages = tuple(dict.fromkeys((purelib, platlib)))
    folders = [Path(prefix).resolve(), Path(program).parent, *map(Path, packages)]
    return Interpreter(program, tuple(folder for folder in dict.fromkeys(folders) if folder != Path("/")), packages)
