"""Code that speaks for the interpreter is refused, and so is a worker that breaks its word."""

import base64
import json
import struct
import zlib
from pathlib import Path

import pytest

from llama_stack_providers.inline._code_interpreter.protocol import (
    ReplyRefused,
    decode_line,
    decode_reply,
    png_size,
)
from tests.providers.code_interpreter.conftest import needs_bubblewrap, open_desk, printed, settings

REPLY: dict[str, object] = {"token": "t", "error": None, "limit": None, "figures": [], "files": []}

WRITE_EVERYWHERE = """
import json, os
def everywhere(line):
    for fd in range(3, 256):
        try: os.write(fd, line)
        except OSError: pass
"""

FORGERIES = {
    "a reply without the token": WRITE_EVERYWHERE + f"everywhere({json.dumps(REPLY)!r}.encode() + b'\\n')",
    "a frame of the supervisor": WRITE_EVERYWHERE
    + """everywhere(b'{"type": "done", "nonce": "", "reply": "{}"}\\n')""",
    "bytes that are no line": WRITE_EVERYWHERE + "everywhere(b'x' * 10)",
    "two replies with the right token": WRITE_EVERYWHERE
    + """
import sys
frame = sys._getframe()
while frame and 'request' not in frame.f_locals: frame = frame.f_back
reply = {"token": frame.f_locals['request']['token'], "error": None, "limit": None, "figures": [], "files": []}
everywhere((json.dumps(reply) + '\\n' + json.dumps(reply) + '\\n').encode())
""",
    "a line without end": WRITE_EVERYWHERE + "while True: everywhere(b'x' * 65536)",
}


@needs_bubblewrap
@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forged_reply_ends_the_session(stack_home: Path, forgery: str) -> None:
    async with open_desk(stack_home, settings("bubblewrap", files_kb=64)) as desk:
        await desk.call("kept = 1")
        result = await desk.call(FORGERIES[forgery])
        assert result.is_error
        assert result.metadata["exit_reason"] == "refused"
        assert "wrote into the interpreter's own channel" in str(result.content)
        assert "NameError" in await desk.says("kept")


@needs_bubblewrap
async def test_a_forged_reply_never_answers_the_next_call(stack_home: Path) -> None:
    """Code that finds its token and replies early is found out when its real reply comes."""
    early = FORGERIES["two replies with the right token"].replace(" + json.dumps(reply) + '\\n')", ")")
    async with open_desk(stack_home, settings("bubblewrap")) as desk:
        await desk.call(early)
        answers = [await desk.says(f"print({number})") for number in range(3)]
        assert [printed(answer) for answer in answers[1:]] == ["1", "2"]
        assert printed(answers[0]) in ("0", "")


@needs_bubblewrap
async def test_a_figure_that_is_no_image_is_refused(stack_home: Path) -> None:
    pretend = """
import sys, types
class Figure:
    def savefig(self, file, format): file.write(b'<script>')
pyplot = types.ModuleType('matplotlib.pyplot')
pyplot.get_fignums, pyplot.figure, pyplot.close = lambda: [1], lambda number: Figure(), lambda which: None
sys.modules['matplotlib.pyplot'] = pyplot
"""
    async with open_desk(stack_home, settings("bubblewrap")) as desk:
        result = await desk.call(pretend)
        assert result.metadata["exit_reason"] == "refused"
        assert result.metadata["figures"] == []


@needs_bubblewrap
async def test_names_of_files_do_nothing_to_who_reads_them(stack_home: Path) -> None:
    names = [b"a\x1b[2J\nb", b"caf\xe9", b"back\\slash", "\u202etxt.exe".encode()]
    async with open_desk(stack_home, settings("bubblewrap")) as desk:
        result = await desk.call(f"for name in {names!r}: open(name, 'w').close()")
    made = [file["name"] for file in result.metadata["files"]]
    assert len(made) == 4
    assert all(name.isprintable() and "\\" not in name for name in made)


@needs_bubblewrap
async def test_links_are_not_followed_and_not_taken(stack_home: Path) -> None:
    code = "import os\nos.symlink('/proc/1/cmdline', 'out.txt')\nos.symlink('/', 'all')\nopen('own', 'w').close()"
    async with open_desk(stack_home, settings("bubblewrap")) as desk:
        result = await desk.call(code)
        again = await desk.call("1", files={"own": "new"})
    assert [file["name"] for file in result.metadata["files"]] == ["own"]
    assert not again.is_error


@needs_bubblewrap
async def test_a_file_that_grows_while_it_is_read_is_taken_within_the_budget(stack_home: Path) -> None:
    grow = """
import os
if os.fork() == 0:
    with open('growing', 'ab', 0) as file:
        while True: file.write(b'x' * 4096)
"""
    async with open_desk(stack_home, settings("bubblewrap", files_kb=64, disk_mb=4)) as desk:
        result = await desk.call(grow)
        assert sum(len(file["url"] or "") for file in result.metadata["files"]) < 128 * 1024
        assert printed(await desk.says("1 + 1")) == "2"


@needs_bubblewrap
async def test_a_figure_of_too_many_pixels_is_an_error_and_the_session_goes_on(stack_home: Path) -> None:
    pretend = """
import struct, sys, types
head = b'\\x89PNG\\r\\n\\x1a\\n' + struct.pack('>I', 13) + b'IHDR' + struct.pack('>II', 16384, 16384)
class Figure:
    def savefig(self, file, format): file.write(head + bytes(64))
pyplot = types.ModuleType('matplotlib.pyplot')
pyplot.get_fignums, pyplot.figure, pyplot.close = lambda: [1], lambda number: Figure(), lambda which: None
sys.modules['matplotlib.pyplot'] = pyplot
"""
    async with open_desk(stack_home, settings("bubblewrap")) as desk:
        result = await desk.call(pretend)
        assert "figure 1 has 16384 x 16384 pixels; at most 33554432 are taken" in str(result.content)
        assert printed(await desk.says("del sys.modules['matplotlib.pyplot']; 1 + 1")) == "2"


def png(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


def test_a_png_is_known_by_its_head() -> None:
    assert png_size(png(640, 480)) == (640, 480)
    for image in (b"", b"GIF89a" + b"x" * 40, png(0, 1), png(100_000, 1), png(1, 1)[:20]):
        with pytest.raises(ValueError, match="PNG"):
            png_size(image)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not json\n",
        b"[]\n",
        b'{"type": "done", "nonce": "other", "reply": "{}"}\n',
        b'{"type": "done", "nonce": "n", "reply": "{}", "more": 1}\n',
        b'{"type": "done", "nonce": "n", "reply": {}}\n',
        b'{"type": "output", "nonce": "n", "stream": "other", "text": ""}\n',
        b'{"type": "output", "nonce": "n", "stream": "stdout", "text": "***"}\n',
        b'{"type": "unknown", "nonce": "n"}\n',
    ],
)
def test_a_line_off_the_words_is_refused(line: bytes) -> None:
    with pytest.raises(ReplyRefused):
        decode_line(line, "n")


@pytest.mark.parametrize(
    "change",
    [
        {"figures": [base64.b64encode(b"no image").decode()]},
        {"figures": [base64.b64encode(png(1, 1)).decode()] * 33},
        {"files": [{"name": "", "size": 1, "content": None}]},
        {"files": [{"name": "../a", "size": 1, "content": None}]},
        {"files": [{"name": "/etc/a", "size": 1, "content": None}]},
        {"files": [{"name": "a\x1b[2J", "size": 1, "content": None}]},
        {"files": [{"name": "a\u202eb", "size": 1, "content": None}]},
        {"figures": [base64.b64encode(png(16_000, 16_000)).decode()]},
        {"files": [{"name": "a", "size": -1, "content": None}]},
        {"error": "x" * 100_000},
        {"limit": "patience"},
        {"extra": 1},
    ],
)
def test_a_reply_off_the_words_is_refused(change: dict[str, object]) -> None:
    decode_reply(json.dumps(REPLY))
    with pytest.raises(ReplyRefused):
        decode_reply(json.dumps({**REPLY, **change}))
