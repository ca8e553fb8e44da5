"""Run the tests in several processes, and those few that fail once more by themselves.

Thousands of tests share two cores with databases, engines and sandboxes of other tests, and one of them may then miss
a moment that it would not miss alone. As CPython's own test runner does with --rerun, the tests that failed get a
second, quiet run in a fresh process. One that fails there again fails the run, and so do more failures than a busy
machine explains. One that passes is named, so that its weakness gets mended rather than forgotten.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
IN_PARALLEL = ("--numprocesses", "3", "--dist", "loadfile", "--no-loadscope-reorder")
MOST_AGAIN = 3
"""More failures than these have a cause that needs no second look."""


class Failures:
    """What pytest tells about each failed test, as a plugin of the process that hands out the tests."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and report.nodeid not in self.names:
            self.names.append(report.nodeid)


def main(arguments: list[str]) -> int:
    """Exit status of pytest; 0 also where every failed test passed by itself."""
    failures = Failures()
    # What `python -m pytest` does too.
    sys.path.insert(0, str(Path.cwd()))
    status = int(pytest.main([*IN_PARALLEL, *arguments], plugins=[failures]))
    if status != pytest.ExitCode.TESTS_FAILED or not 0 < len(failures.names) <= MOST_AGAIN:
        return status
    print(f"\nonce more, by themselves: {len(failures.names)}", flush=True)
    status = subprocess.run([sys.executable, "-m", "pytest", *failures.names], check=False).returncode
    if status == pytest.ExitCode.OK:
        print("\nUNSTEADY, passed only by themselves:", *failures.names, sep="\n  ")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
