"""Reading in processes of their own: whatever a file does, the next one is read."""

import asyncio
import io
import os
import signal
import time
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from llama_stack.documents import workers
from llama_stack.documents.blocks import BlockKind
from llama_stack.documents.failures import DocumentUnreadable
from llama_stack.documents.limits import ReadingLimits
from llama_stack.documents.reading import open_reader
from llama_stack.errors import NotFound, RateLimited
from tests.documents.files import pdf_file, png_file, scanned_pdf, with_part, word_file, zip_file

WORD_PART = "word/document.xml"
HTML = b"<html><h1>Hello</h1><p>world</html>"
SLOW = ReadingLimits(time_limit_s=2.0)


def all_worker_ids() -> set[int]:
    children = psutil.Process().children()
    return {child.pid for child in children if "llama_stack.documents.worker" in child.cmdline()}


OF_OTHERS: set[int] = set()
"""Workers of a stack that another file's fixture keeps open in this process."""


@pytest.fixture(autouse=True)
def know_the_workers_of_others() -> None:
    OF_OTHERS.clear()
    OF_OTHERS.update(all_worker_ids())


def worker_ids() -> set[int]:
    return all_worker_ids() - OF_OTHERS


async def a_worker_reads() -> int:
    """Waits until a worker has work to do; gives its id."""
    async with asyncio.timeout(60):
        return await asyncio.to_thread(_worker_at_work)


def _worker_at_work() -> int:
    """A process tells nobody what it does; its processor time does."""
    while not (ids := worker_ids()):
        time.sleep(0.01)
    (pid,) = ids
    # More than starting takes.
    while psutil.Process(pid).cpu_times().user < 1.5:
        time.sleep(0.01)
    return pid


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A page that takes far longer to read than any test waits."""
    place = tmp_path / "endless"
    place.write_bytes(b"<html>" + b"<p>word" * 4_000_000)
    return place


def bomb() -> bytes:
    return zip_file({"[Content_Types].xml": b"<x/>", WORD_PART: b"0" * 80_000_000})


def lying_bomb() -> bytes:
    """Says that its part is small."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<x/>")
        archive.writestr(WORD_PART, b"0" * 5_000_000)
    size = (5_000_000).to_bytes(4, "little")
    return stream.getvalue().replace(size, (10).to_bytes(4, "little"))


LAUGHS = b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><w:document'

BAD_FILES = [
    (b"", "zero.txt", "empty"),
    (b"\n \n", "blank.html", "empty"),
    (bomb(), "bomb.docx", "too_complex"),
    (lying_bomb(), "liar.docx", "damaged"),
    (with_part(word_file(), WORD_PART, b"<w:document", LAUGHS), "laughs.docx", "too_complex"),
    (with_part(word_file(), WORD_PART, b"</w:body>", b""), "cut.docx", "damaged"),
    (b"[" * 10_000 + b"]" * 10_000, "deep.json", "too_complex"),
    (b"<html>" + b"<div>" * 10_000 + b"x", "deep.html", "too_complex"),
    (pdf_file(["secret"], password="open sesame"), "locked.pdf", "encrypted"),
    (pdf_file(["whole"])[:600], "half.pdf", "damaged"),
    (word_file()[:5000], "half.docx", "damaged"),
    (scanned_pdf(), "scan.pdf", "no_text"),
    (png_file(), "picture.pdf", "file_type_mismatch"),
    (b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0", "setup.txt", "file_type_mismatch"),
    (b"<html><script>1</script></html>", "silent.html", "no_text"),
]


async def test_bad_files_are_failures_with_a_code_and_the_reader_goes_on() -> None:
    async with open_reader() as reader:
        for content, filename, code in BAD_FILES:
            with pytest.raises(DocumentUnreadable) as caught:
                await reader.read(content, filename=filename)
            assert (filename, caught.value.code) == (filename, code)
            assert caught.value.message
        first = worker_ids()
        assert (await reader.read(HTML, filename="good.html")).text == "Hello\n\nworld"
        assert worker_ids() == first
        assert len(first) == 1
    assert worker_ids() == set()


@pytest.mark.parametrize(
    ("content", "filename", "text"),
    [
        ("Grüße aus Köln, mit vielen Wörtern".encode("utf-16"), "a.txt", "Grüße aus Köln, mit vielen Wörtern"),
        ("Größe und Länge".encode("latin-1"), "../../a.txt", "Größe und Länge"),
        (b"# Title\n\nText", "C:\\a.md", "# Title\n\nText"),
        (HTML, "a.html", "Hello\n\nworld"),
    ],
)
async def test_content_and_path_give_the_same(content: bytes, filename: str, text: str, tmp_path: Path) -> None:
    place = tmp_path / "stored"
    place.write_bytes(content)
    async with open_reader() as reader:
        assert (await reader.read(content, filename=filename)).text == text
        assert await reader.read(place, filename=filename) == await reader.read(content, filename=filename)


async def test_small_plain_text_starts_no_process() -> None:
    async with open_reader() as reader:
        assert (await reader.read(b"# Hello", filename="a.md")).title == "Hello"
        assert worker_ids() == set()


async def test_a_relative_path_is_found_from_where_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.html").write_bytes(HTML)
    async with open_reader() as reader:
        await reader.read(HTML, filename="warm.html")
        monkeypatch.chdir(tmp_path)
        assert (await reader.read(Path("a.html"), filename="a.html")).text == "Hello\n\nworld"


async def test_a_file_that_is_gone_is_not_found(tmp_path: Path) -> None:
    async with open_reader() as reader:
        with pytest.raises(NotFound, match=r"'a\.pdf' is no longer there"):
            await reader.read(tmp_path / "nothing", filename="a.pdf")


async def test_a_file_over_the_limit_is_refused_before_it_is_read() -> None:
    async with open_reader(ReadingLimits(max_file_bytes=10)) as reader:
        with pytest.raises(DocumentUnreadable, match="it has 11 bytes, more than 10") as caught:
            await reader.read(b"x" * 11, filename="a.txt")
    assert caught.value.code == "too_large"


async def test_a_file_that_takes_too_long_is_given_up_and_its_process_ended(endless: Path) -> None:
    async with open_reader(SLOW) as reader:
        with pytest.raises(DocumentUnreadable, match=r"longer than 2 s") as caught:
            await reader.read(endless, filename="a.html")
        assert caught.value.code == "too_complex"
        assert worker_ids() == set()
        assert (await reader.read(HTML, filename="a.html")).text == "Hello\n\nworld"


async def test_a_file_that_takes_too_much_memory_is_given_up() -> None:
    limits = ReadingLimits(max_memory_bytes=256 * 1024 * 1024)
    async with open_reader(limits) as reader:
        with pytest.raises(DocumentUnreadable) as caught:
            await reader.read(b"[" + b"[1],".join([b""] * 4_000_000) + b"[1]]", filename="a.json")
        assert caught.value.code == "too_complex"
        assert (await reader.read(HTML, filename="a.html")).text == "Hello\n\nworld"


async def test_a_cancelled_caller_ends_the_process(endless: Path) -> None:
    async with open_reader() as reader:
        reading = asyncio.create_task(reader.read(endless, filename="a.html"))
        await a_worker_reads()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert worker_ids() == set()
        assert (await reader.read(HTML, filename="a.html")).text == "Hello\n\nworld"


@pytest.mark.parametrize(("death", "code"), [(signal.SIGSEGV, "damaged"), (signal.SIGKILL, "too_complex")])
async def test_a_process_that_dies_of_a_file_is_that_files_failure(
    death: signal.Signals, code: str, endless: Path
) -> None:
    async with open_reader() as reader:
        reading = asyncio.create_task(reader.read(endless, filename="a.html"))
        os.kill(await a_worker_reads(), death)
        with pytest.raises(DocumentUnreadable) as caught:
            await reading
        assert caught.value.code == code
        assert (await reader.read(HTML, filename="a.html")).text == "Hello\n\nworld"


async def test_an_idle_process_that_was_killed_is_replaced() -> None:
    async with open_reader() as reader:
        await reader.read(HTML, filename="a.html")
        for pid in (killed := worker_ids()):
            os.kill(pid, signal.SIGKILL)
        assert (await reader.read(HTML, filename="a.html")).text == "Hello\n\nworld"
        assert not killed & worker_ids()


async def test_a_process_reads_only_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "READS_PER_PROCESS", 3)
    seen: set[int] = set()
    async with open_reader() as reader:
        for _ in range(7):
            await reader.read(HTML, filename="a.html")
            seen |= worker_ids()
    assert len(seen) == 3


async def test_many_at_once_share_the_processes() -> None:
    async with open_reader(processes=2) as reader:
        pages = [f"<html><p>page {number}</html>".encode() for number in range(40)]
        documents = await asyncio.gather(*(reader.read(page, filename="a.html") for page in pages))
        assert [document.text for document in documents] == [f"page {number}" for number in range(40)]
        assert len(worker_ids()) == 2


async def test_only_so_many_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MAX_WAITING", 2)
    async with open_reader() as reader:
        results = await asyncio.gather(
            *(reader.read(HTML, filename="a.html") for _ in range(6)), return_exceptions=True
        )
    assert {type(result).__name__ for result in results} == {"ReadDocument", "RateLimited"}
    assert any(isinstance(result, RateLimited) for result in results)


async def test_the_process_has_none_of_our_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_API_KEY", "s3cret")
    async with open_reader() as reader:
        await reader.read(HTML, filename="a.html")
        (pid,) = worker_ids()
        assert "ACME_API_KEY" not in psutil.Process(pid).environ()


def captioned(words: str) -> tuple[Callable[[bytes, str], Awaitable[str]], list[tuple[int, str]]]:
    asked: list[tuple[int, str]] = []

    async def caption(content: bytes, mime_type: str) -> str:
        asked.append((len(content), mime_type))
        return words

    return caption, asked


async def test_an_image_is_what_somebody_says_of_it(tmp_path: Path) -> None:
    caption, asked = captioned("A red tent.")
    place = tmp_path / "stored"
    place.write_bytes(png_file())
    async with open_reader(caption=caption) as reader:
        document = await reader.read(place, filename="tent.png")
        assert [(block.kind, document.text_of(block)) for block in document.blocks] == [
            (BlockKind.CAPTION, "A red tent.")
        ]
        assert asked == [(len(png_file()), "image/png")]
        with pytest.raises(DocumentUnreadable) as caught:
            await reader.read(png_file(), filename="tent.pdf")
        assert caught.value.code == "file_type_mismatch"


async def test_an_image_that_nobody_can_describe() -> None:
    caption, _ = captioned("  ")
    async with open_reader(caption=caption) as reader:
        with pytest.raises(DocumentUnreadable) as caught:
            await reader.read(png_file(), filename="tent.png")
    assert caught.value.code == "no_text"


async def test_a_missing_library_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "docx.py").write_text("raise ImportError('not installed')")
    monkeypatch.syspath_prepend(str(tmp_path))
    async with open_reader() as reader:
        with pytest.raises(DocumentUnreadable, match=r"pip install 'llama-stack\[documents\]'") as caught:
            await reader.read(word_file(), filename="a.docx")
    assert caught.value.code == "missing_library"
