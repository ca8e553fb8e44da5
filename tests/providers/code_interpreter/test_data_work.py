"""Data work as people expect it: numpy, pandas, figures as images, files in and out."""

import base64
from pathlib import Path

import pytest

from llama_stack.errors import NotFound, ProviderFailed
from llama_stack_providers.inline._code_interpreter.protocol import png_size
from tests.providers.code_interpreter.conftest import (
    ALICE,
    BOB,
    SANDBOXES,
    needs_bubblewrap,
    open_desk,
    printed,
    settings,
)

in_each_sandbox = pytest.mark.parametrize("driver", SANDBOXES)

SALES = "month,sales\njan,3\nfeb,5\nmar,10\n"


@needs_bubblewrap
async def test_a_table_is_read_summed_and_drawn(stack_home: Path) -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("matplotlib")
    async with open_desk(stack_home, settings("bubblewrap", timeout_s=60)) as desk:
        code = "import pandas as pd\ntable = pd.read_csv('sales.csv')\nint(table.sales.sum())"
        assert printed(await desk.says(code, files={"sales.csv": SALES})) == "18"
        result = await desk.call(
            "import matplotlib.pyplot as plt\nplt.bar(table.month, table.sales)\nplt.show()\n"
            "plt.figure(figsize=(2, 1)); plt.plot([1, 2])\ntable.describe().to_csv('out/summary.csv') if "
            "__import__('os').makedirs('out', exist_ok=True) is None else 0"
        )
        assert not result.is_error, result.content
        assert "<figure 1: 640x480 png>" in str(result.content)
        assert "<figure 2: 200x100 png>" in str(result.content)
        # A figure is a file as well, so that it can be read again, and fetched.
        assert "[files]out/summary.csv (89 bytes), figure-1.png, figure-2.png[/files]" in str(result.content)
        first, second = result.metadata["figures"]
        assert (first["name"], second["name"]) == ("figure-1.png", "figure-2.png")
        assert printed(await desk.says("open('figure-2.png', 'rb').read(4)[1:].decode()")) == "'PNG'"
        assert first["type"] == second["type"] == "image"
        assert png_size(base64.b64decode(second["url"].removeprefix("data:image/png;base64,"))) == (200, 100)
        (summary,) = result.metadata["files"]
        assert summary["url"].startswith("data:text/csv;base64,")
        assert b"mean,6.0" in base64.b64decode(summary["url"].partition(",")[2])
        assert await desk.says("len(plt.get_fignums())") == "completed\n[stdout]0[/stdout]"


@in_each_sandbox
async def test_files_go_in_as_text_and_as_data_urls(stack_home: Path, driver: str) -> None:
    async with open_desk(stack_home, settings(driver)) as desk:
        files = {
            "plain.txt": "grüße",
            "deep/raw.bin": "data:application/octet-stream;base64," + base64.b64encode(bytes(range(256))).decode(),
            "percent.txt": "data:,a%20b",
        }
        code = "print(open('plain.txt').read(), sum(open('deep/raw.bin', 'rb').read()), open('percent.txt').read())"
        assert printed(await desk.says(code, files=files)) == "grüße 32640 a b"


@in_each_sandbox
async def test_new_and_changed_files_come_out(stack_home: Path, driver: str) -> None:
    async with open_desk(stack_home, settings(driver)) as desk:
        result = await desk.call("open('a.txt', 'w').write('one'); open('.hidden', 'w').write('x')", files={"in": "i"})
        assert result.metadata["files"] == [
            {"name": "a.txt", "size_bytes": 3, "url": "data:text/plain;base64," + base64.b64encode(b"one").decode()}
        ]
        assert (await desk.call("1")).metadata["files"] == []
        changed = await desk.call("open('a.txt', 'a').write(' two')")
        assert [file["size_bytes"] for file in changed.metadata["files"]] == [7]


@needs_bubblewrap
async def test_files_that_are_too_much_are_only_named(stack_home: Path) -> None:
    async with open_desk(stack_home, settings("bubblewrap", files_kb=16, max_files=2)) as desk:
        result = await desk.call(
            "open('big', 'wb').write(b'x' * 20_000)\nfor n in range(3): open(f'small{n}', 'w').write('y')\n"
            "import os; os.symlink('/etc/passwd', 'link'); os.mkfifo('pipe')"
        )
        urls = {file["name"]: file["url"] is not None for file in result.metadata["files"]}
        assert urls["big"] is False
        assert "link" not in urls
        assert "pipe" not in urls
        assert sum(urls.values()) <= 2


@needs_bubblewrap
async def test_long_output_keeps_its_beginning_and_end(stack_home: Path) -> None:
    async with open_desk(stack_home, settings("bubblewrap", shown_kb=1)) as desk:
        answer = await desk.says("for n in range(10_000): print(n)")
        assert answer.startswith("completed\n[stdout]0\n1\n2\n")
        assert answer.endswith("9998\n9999[/stdout]")
        assert "bytes left out" in answer
        assert len(answer) < 1200


@needs_bubblewrap
async def test_output_that_is_no_text_is_shown_as_far_as_it_goes(stack_home: Path) -> None:
    async with open_desk(stack_home, settings("bubblewrap")) as desk:
        assert printed(await desk.says("import sys; _ = sys.stdout.buffer.write(b'a\\xff\\x00b')")) == "a\ufffd\x00b"
        assert printed(await desk.says("import os; _ = os.system('echo from a shell')")) == "from a shell"


@needs_bubblewrap
async def test_odd_text_and_names_break_nothing(stack_home: Path) -> None:
    async with open_desk(stack_home, settings("bubblewrap")) as desk:
        await desk.call("kept = 1")
        assert "ValueError: a?" in await desk.says("raise ValueError('a\\ud800')")
        result = await desk.call("import os; open(os.fsencode('x') + bytes([255]), 'w').close()")
        assert [file["name"] for file in result.metadata["files"]] == ["x\ufffd"]
        assert "Odd" in await desk.says("class Odd(Exception):\n    def __str__(self): 1/0\nraise Odd")
        assert "SystemExit" in await desk.says("raise SystemExit('x' * 1_000_000)")
        assert "UnicodeEncodeError" in await desk.says("'\ud800'")
        assert printed(await desk.says("kept")) == "1"


@needs_bubblewrap
async def test_usual_programs_end_as_they_should(stack_home: Path) -> None:
    async with open_desk(stack_home, settings("bubblewrap")) as desk:
        assert await desk.says("print('x'); import sys; sys.exit(0)") == "completed\n[stdout]x[/stdout]"
        assert "SystemExit: 3" in await desk.says("raise SystemExit(3)")
        assert "exit code 7" in await desk.says("import os; os._exit(7)")
        assert "signal 11" in await desk.says("import ctypes; ctypes.string_at(0)")
        answer = await desk.says(
            "from multiprocessing import Pool\nwith Pool(2) as pool: print(pool.map(abs, [-1, -2]))"
        )
        assert printed(answer) == "[1, 2]"
        assert printed(await desk.says("import asyncio\nasync def f(): return 4\nasyncio.run(f())")) == "4"


@in_each_sandbox
async def test_files_are_listed_read_and_removed_apart_from_any_code(stack_home: Path, driver: str) -> None:
    code = (
        "import os; os.makedirs('deep', exist_ok=True); open('deep/a.txt', 'w').write('one')\n"
        "os.utime('deep/a.txt', (-5, -5)); os.symlink('/etc/passwd', 'link'); open('.hidden', 'w').write('x')\n"
        "open('odd\\n.txt', 'w').write('o')"
    )
    async with open_desk(stack_home, settings(driver)) as desk:
        containers = desk.interpreter.containers
        await desk.call(code, files={"in.txt": "i"})
        listed = await containers.files("s", ALICE)
        assert [(file.path, file.size_bytes, file.is_given) for file in listed] == [
            ("deep/a.txt", 3, False),
            ("in.txt", 1, True),
            ("odd\ufffd.txt", 1, False),
        ]
        assert listed[0].changed_at.timestamp() == 0
        assert await containers.read("s", "odd\ufffd.txt", ALICE) == b"o"
        await containers.remove("s", "deep/a.txt", ALICE)
        for path in ("deep/a.txt", "link", ".hidden", "../etc/passwd"):
            with pytest.raises(NotFound):
                await containers.read("s", path, ALICE)
        with pytest.raises(NotFound):
            await containers.files("s", BOB)
        await desk.call("os.walk = None")
        with pytest.raises(ProviderFailed, match="does not tell of its files: TypeError"):
            await containers.files("s", ALICE)
        assert [one.session_id for one in await containers.all(ALICE)] == ["s"]
