"""Telling a dead holder from a slow one."""

import os
import subprocess
import sys

from llama_stack.storage.holders import is_dead, new_holder


def holder_of_a_process() -> tuple[str, "subprocess.Popen[str]"]:
    """A holding taken by another process, which waits to be ended."""
    script = "from llama_stack.storage.holders import new_holder; print(new_holder(), flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, text=True)
    assert process.stdout is not None
    return process.stdout.readline().strip(), process


def test_a_process_that_lives_is_not_dead_one_that_was_killed_is() -> None:
    holder, process = holder_of_a_process()
    assert not is_dead(holder)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(holder)  # even while nobody has asked how it ended
    process.communicate()
    assert is_dead(holder)


def test_our_own_holdings_live_and_no_two_are_alike() -> None:
    assert not is_dead(new_holder())
    assert new_holder() != new_holder()


def test_an_earlier_process_with_our_number_is_dead() -> None:
    place, pid, process, holding = new_holder().split("/")
    assert is_dead(f"{place}/{pid}/{process[::-1]}x/{holding}")


def test_of_another_machine_and_of_older_versions_nothing_is_known() -> None:
    _, pid, process, holding = new_holder().split("/")
    assert not is_dead(f"elsewhere/{pid}/{process}x/{holding}")
    assert not is_dead("holder_0123456789abcdef")
