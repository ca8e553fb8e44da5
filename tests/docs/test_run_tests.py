"""The test command itself: what fails again by itself fails the run, what passes then is named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "tools" / "run_tests.py"
STEADY = "def test_steady():\n    assert True\n"
UNSTEADY = """
from pathlib import Path

def test_unsteady():
    mark = Path("tried")
    before = mark.exists()
    mark.touch()
    assert before
"""
BROKEN = "import pytest\n\n@pytest.mark.parametrize('n', range({count}))\ndef test_broken(n):\n    assert n < 0\n"


@pytest.mark.parametrize(
    ("second", "status", "told", "not_told"),
    [
        pytest.param(STEADY, 0, "2 passed", "once more", id="all pass"),
        pytest.param(UNSTEADY, 0, "UNSTEADY, passed only by themselves:\n  test_second.py::", "", id="one"),
        pytest.param(BROKEN.format(count=1), 1, "once more, by themselves: 1", "UNSTEADY", id="broken"),
        pytest.param(BROKEN.format(count=4), 1, "4 failed", "once more", id="too many"),
    ],
)
def test_only_what_passes_by_itself_is_forgiven(
    second: str, status: int, told: str, not_told: str, tmp_path: Path
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_first.py").write_text(STEADY)
    (tmp_path / "test_second.py").write_text(second)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    # Of all plugins that are installed only the one it names: each process would load them anew.
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "-p", "xdist", "--numprocesses", "1", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode == 0) is (status == 0), done.stdout
    assert told in done.stdout
    assert not not_told or not_told not in done.stdout
