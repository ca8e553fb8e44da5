"""`llama memory`, and `llama agent chat --memory`, as a person and a script see them."""

import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from llama_stack.cli.excerpts import excerpt
from llama_stack.sdk.folders import MAX_FILES, find_files
from llama_stack.sdk.loop_thread import LoopThread
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from llama_stack.testing.scripted import Script, says
from tests.cli.running import LLAMA, Llama, assert_refused
from tests.memory.hashed import open_memory_stack

Serve = Callable[..., Any]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Serve a stack with memory whose model follows a script; gives its URL."""

    @contextmanager
    def served(*scripts: Script) -> Iterator[str]:
        @asynccontextmanager
        async def enter() -> AsyncIterator[str]:
            async with open_memory_stack(tmp_path / "server", *scripts) as stack, serving(create_app(stack)) as url:
                yield url

        with LoopThread(enter) as running:
            yield running.held

    return served


@pytest.fixture
def url(serve: Serve) -> Iterator[str]:
    with serve() as url:
        yield url


@pytest.fixture
def folder(tmp_path: Path, llama: Llama) -> Path:
    """A folder as people have them, below the one in which `llama` runs: some documents, and much that is none."""
    folder = tmp_path / "here" / "handbook"
    (folder / "kettle").mkdir(parents=True)
    (folder / "kettle" / "lamp.md").write_text("# Lamp\n\nThe lamp blinks when the kettle is empty.\n")
    (folder / "returns.txt").write_text("Products may be returned within 30 days.\n")
    for name in (".git", "node_modules", "__pycache__"):
        (folder / name).mkdir()
        (folder / name / "inside.txt").write_text("nobody wrote this")
    (folder / ".hidden.md").write_text("hidden")
    (folder / "photo.png").write_bytes(b"\x89PNG\r\n")
    (folder / "nothing.md").touch()
    return folder


def piped(content: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(LLAMA), *arguments], input=content, capture_output=True, timeout=60, check=False)


def test_a_folder_is_added_with_a_summary_and_left_when_nothing_changed(url: str, folder: Path, llama: Llama) -> None:
    done = llama("memory", "add", "handbook", "--url", url)
    again = llama("memory", "add", "handbook", "--url", url)
    (folder / "returns.txt").write_text("Products may be returned within 60 days.\n")
    changed = llama("memory", "add", "handbook", "--url", url)

    assert done.stdout.splitlines()[1] == "Skipped 6: hidden 2, made by a tool 2, empty 1, pictures 1."
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "default: 2 added; 2 passages."
    assert again.stdout.splitlines()[0] == "default: 2 unchanged; 2 passages."
    assert changed.stdout.splitlines()[0] == "default: 1 changed, 1 unchanged; 2 passages."


def test_what_is_gone_from_a_folder_is_told_with_the_command_that_forgets_it(
    url: str, folder: Path, llama: Llama
) -> None:
    llama("memory", "add", "handbook", "--url", url)
    (folder / "returns.txt").unlink()
    told = llama("memory", "add", "handbook", "--url", url).stdout.splitlines()
    assert told[0] == "default: 1 unchanged; 1 passages."
    assert told[2:] == [
        "1 file is no longer there but still in the bank; to forget what is gone:",
        f"  llama memory delete {folder / 'returns.txt'}",
    ]


def test_passages_are_shown_with_where_they_stand(url: str, folder: Path, llama: Llama) -> None:
    llama("memory", "add", "handbook/kettle", "--url", url, "--attribute", "product=kettle", "--attribute", "year=2024")
    llama("memory", "add", "handbook/returns.txt", "--url", url, "--attribute", "year=2023")
    found = llama("memory", "search", "When", "does", "the", "lamp", "blink?", "--mode", "keyword", "--url", url)
    newer = llama("memory", "search", "products", "--filter", "year>=2024", "--filter", "product=kettle", "--url", url)
    either = llama(
        "memory", "search", "products", "--filter", "year=2023", "--filter", "year=2024", "--url", url, "--json"
    )
    none = llama("memory", "search", "products", "--filter", "year!=2023", "--filter", "year<2024", "--url", url)

    first, second, *_ = found.stdout.splitlines()
    assert first.startswith("1  ") and first.endswith("  lamp.md, Lamp")
    assert second == "   The lamp blinks when the kettle is empty."
    assert newer.stdout.count("lamp.md") == 1 and "returns.txt" not in newer.stdout
    assert sorted(chunk["document_name"] for chunk in json.loads(either.stdout)) == ["lamp.md", "returns.txt"]
    assert (none.returncode, none.stdout, none.stderr) == (0, "", "Nothing was found.\n")


def test_a_file_that_cannot_be_read_is_told_with_code_and_remedy(url: str, folder: Path, llama: Llama) -> None:
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 and then nothing")
    done = llama("memory", "add", "handbook", "--url", url)
    failed = llama("memory", "documents", "--failed", "--url", url)
    as_json = llama("memory", "add", "handbook/broken.pdf", "--url", url, "--json")

    assert done.returncode == as_json.returncode == 1
    assert done.stdout.splitlines()[0] == "default: 2 added; 2 passages."
    assert done.stderr.startswith(
        "Error: 1 of 3 were not added to 'default':\n  handbook/broken.pdf  [damaged] it is not a"
    )
    assert "save it again" in done.stderr
    heading, row = failed.stdout.splitlines()
    assert heading.split() == ["DOCUMENT", "CODE", "REASON"]
    assert row.split()[:2] == [str(folder / "broken.pdf"), "damaged"]
    (document,) = json.loads(as_json.stdout)["documents"]
    assert (document["outcome"], document["error"]["code"]) == ("failed", "damaged")


def test_what_of_a_file_was_left_out_is_told(url: str, folder: Path, llama: Llama) -> None:
    wide = ",".join(f"c{number}" for number in range(1_200))
    (folder / "wide.csv").write_text(f"{wide}\n{wide}\n")
    told = "a table has more than 1000 columns; the others were left out"
    done = llama("memory", "add", "handbook/wide.csv", "--url", url)
    listed = llama("memory", "documents", "--url", url)
    as_json = llama("memory", "add", "handbook/wide.csv", "--url", url, "--json")

    assert (done.returncode, done.stderr) == (0, f"handbook/wide.csv: {told}\n")
    assert listed.stderr == f"{folder / 'wide.csv'}: {told}\n"
    assert [document["warnings"] for document in json.loads(as_json.stdout)["documents"]] == [[told]]


def test_what_comes_through_a_pipe_has_the_name_it_is_given(url: str) -> None:
    text = piped("Grüße aus Köln.".encode(), "memory", "add", "-", "--name", "letter", "--url", url)
    binary = piped(b"\x00\x01\x02\xff" * 50, "memory", "add", "-", "--url", url)
    found = piped(b"", "memory", "search", "Grüße", "--url", url)

    assert text.stdout == b"default: 1 added; 1 passages.\n"
    assert binary.returncode == 1 and b"[unsupported_file]" in binary.stderr.replace(
        b"file_type_mismatch", b"unsupported_file"
    )
    assert b"  letter\n   Gr\xc3\xbc\xc3\x9fe aus K\xc3\xb6ln.\n" in found.stdout


def test_an_address_is_read_by_the_server_which_keeps_away_from_its_own_network(url: str, llama: Llama) -> None:
    done = llama("memory", "add", "http://127.0.0.1:9/page.html", "--url", url)

    assert done.returncode == 1
    assert "http://127.0.0.1:9/page.html  [" in done.stderr
    assert "Traceback" not in done.stderr


def test_banks_are_made_listed_counted_and_forgotten(url: str, folder: Path, llama: Llama) -> None:
    assert llama("memory", "list", "--url", url).stderr.startswith("There is no memory bank yet")
    made = llama("memory", "create", "settings", "--kind", "keyvalue", "--url", url)
    added = llama("memory", "add", "handbook", "--bank", "support", "--url", url)
    listed = llama("memory", "list", "--url", url).stdout.splitlines()
    stats = llama("memory", "stats", "--bank", "support", "--url", url)
    documents = llama("memory", "documents", "--bank", "support", "--url", url).stdout

    assert made.stdout == "settings: a keyvalue bank of sqlite-vec.\n"
    assert added.stderr == "Made the memory bank 'support'.\n"
    assert [line.split()[:2] for line in listed] == [["BANK", "KIND"], ["support", "vector"], ["settings", "keyvalue"]]
    assert listed[1].split()[2:5] == ["sqlite-vec", "2", "0"]
    assert stats.stdout.startswith("support: documents: 2 completed; passages: 2; ")
    assert str(folder / "kettle" / "lamp.md") in documents

    assert llama("memory", "delete", "handbook/kettle", "--bank", "support", "--url", url).stdout == (
        "support: 1 document forgotten.\n"
    )
    assert_refused(llama("memory", "delete", "--all", "--bank", "support", "--url", url), "nobody is here to ask")
    done = llama("memory", "delete", "--all", "--bank", "support", "--yes", "--url", url)
    assert done.stdout == "support: forgotten, with 1 documents.\n"
    assert [
        record["bank"]["identifier"] for record in json.loads(llama("memory", "list", "--json", "--url", url).stdout)
    ] == ["settings"]


def test_an_empty_bank_says_how_to_fill_it(url: str, llama: Llama) -> None:
    done = llama("memory", "search", "anything", "--url", url)
    assert (done.returncode, done.stdout) == (0, "")
    assert "`llama memory add PATH` puts something in" in done.stderr


def test_what_was_typed_wrongly_is_refused(url: str, llama: Llama) -> None:
    assert_refused(
        llama("memory", "add", "nowhere.pdf", "--url", url), "there is no file or folder 'nowhere.pdf'", code=1
    )
    assert_refused(llama("memory", "add", "x", "--attribute", "kettle", "--url", url), "is not KEY=VALUE")
    assert_refused(llama("memory", "search", "x", "--filter", "kettle", "--url", url), "is not KEY=VALUE")
    assert_refused(llama("memory", "search", "x", "--bank", "nowhere", "--url", url), "there is no memory bank", code=1)
    assert_refused(llama("memory", "delete", "--url", url), "name documents, select them with --filter, or say --all")
    assert_refused(llama("memory", "delete", "x", "--url", url), "has no document 'x'", code=1)
    assert_refused(
        llama("memory", "create", "x", "--kind", "graph", "--chunk-size", "64", "--url", url),
        "--chunk-size: a graph bank",
    )
    assert_refused(llama("memory", "stats", "--url", "http://127.0.0.1:9"), "cannot reach a stack", code=1)


def test_a_chat_answers_from_a_bank_and_tells_its_sources(serve: Serve, folder: Path, llama: Llama) -> None:
    with serve(says("It blinks when it is ", "empty."), says("Within 30 days.")) as url:
        llama("memory", "add", "handbook", "--url", url)
        done = piped(b"When does the lamp blink?\n", "agent", "chat", "--memory", "default", "--url", url)
        again = piped(b"When may products be returned?\n", "agent", "chat", "--continue", "--url", url)

    first, answer, sources, quote = done.stdout.decode().splitlines()
    assert (done.returncode, first) == (0, "  * found 2 passages in default")
    assert answer == "It blinks when it is empty."
    assert sources.startswith("  * sources: ") and "lamp.md" in sources
    assert 'lamp.md: "' in quote and "blinks" in quote
    assert b"found 2 passages in default" in again.stdout, "an earlier chat keeps its banks"


@pytest.mark.engine
def test_the_starter_stack_remembers_in_this_process(folder: Path, llama: Llama) -> None:
    done = llama("memory", "add", "handbook", timeout_s=100)
    found = llama("memory", "search", "What does a flashing light mean?", timeout_s=100)

    assert (done.returncode, done.stderr) == (0, "")
    assert "lamp.md, Lamp" in found.stdout.splitlines()[0]


# --- which files ---------------------------------------------------------------------------------------------------


def test_named_files_are_taken_whatever_they_are(folder: Path) -> None:
    found = find_files([folder / ".hidden.md", folder / "photo.png", folder / "photo.png"])
    assert [file.name for file in found.files] == [".hidden.md", "photo.png"]
    assert len(found.files) < MAX_FILES


def test_links_are_not_followed_in_folders(folder: Path) -> None:
    (folder / "again").symlink_to(folder)
    (folder / "copy.txt").symlink_to(folder / "returns.txt")
    found = find_files([folder])
    assert [file.name for file in found.files] == ["returns.txt", "lamp.md"]
    assert sorted(one.path.name for one in found.skipped if one.reason == "links") == ["again", "copy.txt"]


# --- excerpts ------------------------------------------------------------------------------------------------------


def marked(text: str, question: str, length: int = 320) -> str:
    return excerpt(text, question, lambda word: f"<{word}>", length)


def test_words_of_the_question_are_marked_by_how_they_begin() -> None:
    assert marked("Returns are\n\n free.", "May I return it?") == "<Returns> are free."
    assert marked("It is on the lamp", "what is on the lamp") == "It is on the <lamp>"
    assert marked("Überprüfung der Bremsen", "Bremse prüfen") == "Überprüfung der <Bremsen>"


def test_the_part_with_most_words_of_the_question_is_shown() -> None:
    text = f"{'filler ' * 80}the kettle blinks when it is empty {'more ' * 80}"
    shown = marked(text, "kettle blinks empty", length=100)
    assert shown.startswith("... ") and shown.endswith(" ...")
    assert "the <kettle> <blinks> when it is <empty>" in shown
    assert len(shown.replace("<", "").replace(">", "")) <= 108


def test_a_text_without_any_of_the_words_is_shown_from_its_beginning() -> None:
    assert marked("word " * 100, "kettle", length=21) == "word word word word ..."
    assert marked("x" * 50, "kettle", length=20) == f"{'x' * 20} ..."
    assert marked("", "kettle") == ""
