"""`llama memory add --facts`, and what a filter alone finds."""

import json
from pathlib import Path

import pytest

from llama_stack.cli.memory_facts import read_facts
from llama_stack.errors import InvalidRequest
from tests.cli.running import Llama
from tests.cli.test_cli_memory import serve, url

__all__ = ["serve", "url"]

TREE = [
    {
        "document_id": "tree",
        "entities": [{"name": "Ada", "type": "person", "description": "a baker"}],
        "relations": [{"subject": "Ada", "relation": "is the mother of", "object": "Ben", "evidence": "p. 3"}],
        "metadata": {"of": "family"},
    }
]


def test_facts_of_a_file_make_a_graph_bank_and_are_found_by_a_filter(url: str, tmp_path: Path, llama: Llama) -> None:
    file = tmp_path / "family.json"
    file.write_text(json.dumps(TREE))
    added = llama("memory", "add", "--facts", str(file), "--bank", "family", "--url", url)
    found = llama("memory", "search", "--filter", "of=family", "--bank", "family", "--url", url, "--json")
    both = llama("memory", "add", "notes.md", "--facts", str(file), "--url", url)

    assert (added.stdout, added.stderr) == ("family: 2 facts of 1 document.\n", "Made the memory bank 'family'.\n")
    contents = [(chunk["content"], chunk["score"]) for chunk in json.loads(found.stdout)]
    assert ("Ada is the mother of Ben. (p. 3)", 1.0) in contents
    assert both.returncode == 2 and "--facts: stands alone" in both.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "f.json is not JSON: "),
        ('{"document_id": "d"}', "f.json: should be a valid list"),
        ('[{"entities": []}]', r"f.json\.0\.document_id: is required"),
        ('[{"document_id": "d", "relation": []}]', r"f.json\.0\.relation: is not a known field"),
        ("[]", "there are none in "),
    ],
)
def test_a_file_of_facts_that_is_none_is_told(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "f.json"
    file.write_text(text)
    with pytest.raises(InvalidRequest, match=message):
        read_facts(str(file))


def test_a_file_of_facts_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"--facts: .* cannot be read"):
        read_facts(str(tmp_path / "none.json"))
