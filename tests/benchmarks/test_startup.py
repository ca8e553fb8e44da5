"""Costs of having a server become tables; environments are weighed for what they hold."""

import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.environments import find_python, make_environment
from benchmarks.processes import Memory
from benchmarks.startup import Start, starts_table, time_command


def test_figures_of_a_start_are_medians_and_children_stand_apart() -> None:
    def start(target: str, wall_s: float, pss: float | None) -> Start:
        return Start(target, wall_s, wall_s / 2, Memory(processes=2, main_rss=100.0, tree_rss=160.0, tree_pss=pss))

    rows = starts_table([start("a", 1.0, None), start("b", 2.0, 90.0), start("a", 5.0, None), start("a", 3.0, None)])

    assert rows.splitlines()[2:] == [
        "| a | 3.00 | 1.50 | 100 | 60 | - | 2 |",
        "| b | 2.00 | 1.00 | 100 | 60 | 90 | 2 |",
    ]


def test_a_command_is_timed_in_wall_and_cpu() -> None:
    timed = time_command("count", [sys.executable, "-c", "sum(range(3_000_000))"], runs=2)

    assert timed.cpu_s > 0
    assert timed.wall_s > 0


def test_a_python_is_found_by_its_name_or_said_to_be_missing() -> None:
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"

    assert find_python(("python9.9", name)).is_file()
    with pytest.raises(SystemExit, match=r"none of python9\.9 found"):
        find_python(("python9.9",))


def wheel_of_one_module(folder: Path, size_bytes: int) -> Path:
    """A wheel (https://packaging.python.org/en/latest/specifications/binary-distribution-format/) without needs."""
    wheel = folder / "weighty-1.0-py3-none-any.whl"
    about = "weighty-1.0.dist-info"
    files = {
        "weighty.py": "# " + "x" * (size_bytes - 2),
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: weighty\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{about}/RECORD"])
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in {**files, f"{about}/RECORD": record}.items():
            archive.writestr(name, text)
    return wheel


def test_an_environment_is_made_and_weighed(tmp_path: Path) -> None:
    light, heavy = tmp_path / "light", tmp_path / "heavy"
    light.mkdir()
    heavy.mkdir()
    small = make_environment(Path(sys.executable), light / "env", (str(wheel_of_one_module(light, 1_000)),))
    large = make_environment(Path(sys.executable), heavy / "env", (str(wheel_of_one_module(heavy, 5_001_000)),))

    assert large.size_mb - small.size_mb == pytest.approx(5.0, abs=0.05)
    assert small.packages == large.packages >= 1
    assert large.seconds > 0
    assert list((heavy / "env").glob("lib/python3*/site-packages/weighty.py"))


def test_a_peer_counts_as_installed_only_once_its_setup_ended(tmp_path: Path) -> None:
    (tmp_path / "ogx").mkdir()

    assert peers.installed(None) == []
    assert peers.installed(tmp_path) == []
