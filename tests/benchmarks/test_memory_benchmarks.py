"""The benchmarks of memory run for real on a few rows, and their tables say what was measured."""

import numpy as np
import pytest

from benchmarks import load, memory_index, memory_ingestion, memory_rows, memory_serving, targets
from benchmarks.memory_index import BARE, OURS, Held, Outcome, Searched, Written
from benchmarks.memory_subjects import LIMIT, PAIRS


def test_rows_are_the_same_every_time_and_have_their_share() -> None:
    one, again = memory_rows.block(3, 300), memory_rows.block(3, 300)
    assert one.texts == again.texts
    assert np.array_equal(one.vectors, again.vectors)
    assert (one.first, len(one), one.vectors.shape) == (3_000, 1_000, (1_000, memory_rows.DIMENSIONS))
    assert np.allclose(np.linalg.norm(one.vectors, axis=1), 1)
    assert all(290 <= len(text) <= 310 for text in one.texts)
    part = one.part(40, 20)
    chunks, vectors = memory_rows.chunks_of(part)
    assert [chunk.chunk_id for chunk in chunks] == [memory_rows.chunk_id(3_040 + number) for number in range(20)]
    assert {chunk.metadata["share"] for chunk in chunks} == {memory_rows.share_of(3_040)} == {52}
    assert vectors.row_bytes(5) == part.vectors[5].tobytes()


def test_an_index_and_its_library_answer_the_same_questions_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_index, "ROUNDS", 1)
    monkeypatch.setattr(memory_index, "QUESTIONS", 3)
    (outcome,) = memory_index.measure(PAIRS["inline::sqlite-vec"], [2_000], characters=200)
    assert (outcome.pair, outcome.rows, outcome.recall) == ("inline::sqlite-vec", 2_000, 1.0)
    for name in (OURS, BARE):
        assert [(one.batch, one.rows) for one in outcome.written[name]] == [(100, 1_000), (100, 1_000)]
        assert outcome.held[name].disk > outcome.empty[name].disk
    (searches,) = outcome.rounds
    assert searches["words"][BARE] is searches["hybrid"][BARE] is None
    for kind in memory_index.KINDS:
        ours = searches[kind][OURS]
        assert ours is not None
        # Of the twenty rows that the filter leaves, fewer may hold one of the words.
        assert all(len(found) == LIMIT or kind == "words, filtered" for found in ours.found)
    for kind in ("filtered", "words, filtered"):
        filtered = searches[kind][OURS]
        assert filtered is not None
        assert {memory_rows.share_of(number) for found in filtered.found for number in found} == {memory_index.SHARE}
    assert outcome.reopen_s is not None


def test_tables_set_ours_against_the_library() -> None:
    def written(seconds: float) -> list[Written]:
        return [Written(100, 1_000, seconds, seconds), Written(1_000, 1_000, seconds / 2, seconds / 2)] * 2

    def searched(ms: float) -> Searched:
        return Searched([ms / 1000] * 4, 4 * ms / 1000, [[1]] * 4)

    outcome = Outcome(
        "an index",
        4_000,
        {OURS: written(0.5), BARE: written(0.1)},
        [{kind: {OURS: searched(3.0), BARE: searched(1.0)} for kind in memory_index.KINDS}] * 3,
        {name: Held(10_000_000, 8_000_000, 0) for name in (OURS, BARE)},
        {name: Held(30_000_000, 16_000_000, 12_000_000) for name in (OURS, BARE)},
        reopen_s=0.25,
    )
    tables = memory_index.tables([outcome])
    assert "| an index | 4,000 | 2,000 (10,000) | 2,667 (13,333) | 4,000 (20,000) | 375 (75) |" in tables
    assert "| an index | 4,000 | vector | 3.00 | 3.00 | 3.00 | 2.00 |" in tables
    assert "| an index | 4,000 | 5.0 | 2.0 | 3.0 | 0.25 | 100.0 |" in tables


def test_a_store_is_filled_and_asked_over_http() -> None:
    (inserted,), rounds = memory_serving.run(rows=200, rounds=1, seconds=0.1, peers_home=None)
    assert (inserted.target, inserted.rows) == (targets.OURS, 200)
    assert inserted.cpu_s > 0
    errors = [f"{sample.cell}: {sample.first_error}" for sample in rounds[0] if sample.errors]
    assert not errors
    names = ["query-c1", "search-c1", "query-c16", "search-c16", "chat-c1", "response-c1"]
    assert [sample.cell for sample in rounds[0]] == names
    assert all(sample.requests > 0 for sample in rounds[0])
    assert "| 200 rows in | rows/s |" in memory_serving.tables([inserted], rounds)


def test_an_answer_without_what_it_must_hold_is_no_answer() -> None:
    cell = load.Cell("search", "/search", {"query": "q"}, 1, (b'"score"', b'"content"'))
    assert load.checked_chunks(cell, load.Exchange(200, b'{"score":1,"content":"c"}', None, 0.1)) == 0
    with pytest.raises(load.BadAnswer, match="content"):
        load.checked_chunks(cell, load.Exchange(200, b'{"score":1}', None, 0.1))
    assert b'"model"' not in load.http_request("http://127.0.0.1:1/v1", cell, "bench/")


def test_the_pdf_has_text_and_noise_on_every_page() -> None:
    pytest.importorskip("pypdfium2")
    import pypdfium2

    content = memory_ingestion.made_pdf(2, 100_000)
    document = pypdfium2.PdfDocument(content)
    texts = [page.get_textpage().get_text_bounded() for page in document]
    assert [text.splitlines()[0] for text in texts] == ["Section 1", "Section 2"]
    assert all(len(text) > 2_000 for text in texts)
    assert 95_000 < len(content) < 120_000
