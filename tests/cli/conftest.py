"""Fixtures that run the real console script."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.running import LLAMA, Llama


@pytest.fixture
def llama(stack_home: Path, tmp_path: Path) -> Llama:
    """Run `llama` with these arguments in an empty folder; keyword arguments become environment variables."""
    folder = tmp_path / "here"
    folder.mkdir()

    def run(*arguments: str, timeout_s: float = 60, cwd: Path = folder, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(LLAMA), *arguments],
            cwd=cwd,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout_s,
            check=False,
        )

    return run


@pytest.fixture
def write_distribution(tmp_path: Path) -> Callable[[str], str]:
    """Put a distribution's text into a file and give its path."""

    def write(text: str, name: str = "mine.yaml") -> str:
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return str(file)

    return write
