"""Files that are none, and names that break lines."""

import os
from pathlib import Path

import pytest

from llama_stack.cli.memory_options import one_line
from llama_stack.errors import InvalidRequest
from llama_stack.sdk.folders import find_files


def test_a_pipe_and_a_device_are_told_from_what_is_not_there(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(InvalidRequest, match="is not a regular file but a device, a pipe or a socket"):
            find_files([path])
    (tmp_path / "a.txt").write_text("a")
    found = find_files([tmp_path])
    assert (found.files, [one.reason for one in found.skipped]) == ([tmp_path / "a.txt"], ["not regular files"])


def test_a_name_with_a_line_break_stays_on_one_line() -> None:
    assert one_line("a\r\nb\tc\u2028d\x1b[31m") == "a b c d[31m"
