"""Files that code wrote, cited where an answer names them."""

import pytest

from llama_stack.wire.openai_containers import MadeFiles, container_file_of

CONTAINER = "cntr_" + "0" * 32


def cited(text: str, *paths: str) -> list[tuple[str, str]]:
    made = MadeFiles()
    made.add({"files": [{"name": path} for path in paths]})
    return [(one["filename"], text[one["start_index"] : one["end_index"]]) for one in made.citations(text, CONTAINER)]


@pytest.mark.parametrize(
    ("text", "path", "place"),
    [
        ("It is in sales.csv.", "sales.csv", "sales.csv"),
        ("[here](sandbox:/mnt/data/sales.csv)", "sales.csv", "sandbox:/mnt/data/sales.csv"),
        ("see `/sandbox/out/sales.csv`", "out/sales.csv", "/sandbox/out/sales.csv"),
        ("see my-sales.csv and sales.csv.gz", "sales.csv", ""),
        ("see other/sales.csv", "sales.csv", ""),
        ("a word like notes is no file", "notes", ""),
        ("but ./notes is", "notes", "./notes"),
        ("nothing of it", "a+b (1).txt", ""),
    ],
    ids=range(8),
)
def test_a_file_is_cited_where_it_is_named_or_else_at_the_end(text: str, path: str, place: str) -> None:
    assert cited(text, path) == [(path.rpartition("/")[2], place)]


def test_a_file_is_told_once_or_as_often_as_it_is_named() -> None:
    made = MadeFiles()
    made.add(
        {"files": [{"name": "a.csv"}, {"no": "name"}, 3], "figures": [{"name": "figure-1.png"}, {"url": "data:,"}]}
    )
    first = made.citations("done", CONTAINER)
    assert first == [
        {
            "type": "container_file_citation",
            "container_id": CONTAINER,
            "file_id": container_file_of(CONTAINER, name),
            "filename": name,
            "start_index": 4,
            "end_index": 4,
        }
        for name in ("a.csv", "figure-1.png")
    ]
    assert [one["start_index"] for one in made.citations("a.csv, a.csv", CONTAINER)] == [0, 7]
    assert made.citations("done", CONTAINER) == []
    made.add({"files": [{"name": "a.csv"}]})
    assert len(made.citations("written anew", CONTAINER)) == 1


def test_what_a_strangers_tool_says_of_files_is_passed_over() -> None:
    made = MadeFiles()
    made.add({"files": "many", "figures": {"name": "a.csv"}})
    assert made.citations("a.csv", CONTAINER) == []
