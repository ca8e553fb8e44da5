"""Rounds over real servers, and the headlines drawn from them."""

from benchmarks import targets
from benchmarks.compare import headlines, run, tables
from benchmarks.load import CELLS, Sample


def samples(target: str, cpu: float, first_chunk_ms: float) -> list[Sample]:
    """One round of one target in which everything costs `cpu`."""
    return [
        Sample(
            target=target,
            cell=cell,
            requests=10,
            errors=0,
            per_second=10.0,
            p50_ms=1.0,
            p99_ms=2.0,
            cpu_ms=cpu,
            first_chunk_p50_ms=first_chunk_ms if CELLS[cell].streamed else None,
            cpu_us_per_chunk=10 * cpu if CELLS[cell].streamed else None,
            other_cores=0.5,
        )
        for cell in ("chat-c16", "stream-c1", "stream-c16", "embed-c16")
    ]


def test_headlines_show_ours_then_the_others_as_multiples_of_it() -> None:
    one = [*samples(targets.DIRECT, 0.01, 0.2), *samples("peer", 5.0, 10.2), *samples(targets.OURS, 0.5, 1.2)]

    assert headlines([one, one]).splitlines() == [
        f"|  | {targets.OURS} | peer |",
        "| --- | ---: | ---: |",
        "| CPU ms per chat completion, 16 at once | 0.50 | 5.00 (10.0x) |",
        "| CPU us per streamed chunk, 16 at once | 5.0 | 50.0 (10.0x) |",
        "| CPU ms per embeddings request, 16 at once | 0.50 | 5.00 (10.0x) |",
        "| ms added to the first chunk, 1 at once | 1.00 | 10.00 |",
    ]


def test_every_round_visits_every_server_in_turn() -> None:
    rounds = run([CELLS["stream-c1"]], rounds=2, seconds=0.1, peers_home=None, only=[targets.BARE])

    names = [targets.DIRECT, targets.BARE]
    assert [[sample.target for sample in one] for one in rounds] == [names, names[::-1]]
    assert all(sample.cell == "stream-c1" for one in rounds for sample in one)
    assert all(sample.requests > 0 and sample.errors == 0 for one in rounds for sample in one)
    assert all(sample.cpu_ms is not None for one in rounds for sample in one)
    assert f"| {targets.BARE} |" in tables(rounds)
