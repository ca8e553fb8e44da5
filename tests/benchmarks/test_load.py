"""The load generator counts what really came back, and takes nothing else for an answer."""

import math
import os
from dataclasses import replace

import pytest

from benchmarks.load import CELLS, BadAnswer, Cell, Exchange, checked_chunks, http_request, measure, percentile
from benchmarks.mock_upstream import CHUNKS, FIRST_WORD


@pytest.mark.parametrize("name", ["chat-c16", "stream-c16", "embed-c1"])
async def test_a_cell_is_measured_without_errors(upstream: str, name: str) -> None:
    sample = await measure(upstream, CELLS[name], target="upstream", pid=os.getpid(), seconds=0.2, warm_up_s=0.05)

    assert (sample.target, sample.cell, sample.errors, sample.first_error) == ("upstream", name, 0, None)
    assert sample.requests > 0
    assert sample.per_second > 0
    assert 0 < sample.p50_ms <= sample.p99_ms
    assert sample.cpu_ms is not None
    if name == "stream-c16":
        assert sample.first_chunk_p50_ms is not None
        assert 0 < sample.first_chunk_p50_ms <= sample.p99_ms
        assert sample.chunks_per_second == pytest.approx(CHUNKS * sample.per_second)
        assert sample.cpu_us_per_chunk == pytest.approx(1000 * sample.cpu_ms / CHUNKS)
    else:
        assert sample.first_chunk_p50_ms is sample.chunks_per_second is sample.cpu_us_per_chunk is None


async def test_a_refusal_is_an_error_and_no_request(upstream: str) -> None:
    cell = Cell("unknown", "/chat/completions", {"model": "other", "messages": []}, concurrency=2)

    sample = await measure(upstream, cell, target="upstream", seconds=0.1, warm_up_s=0.01)

    assert sample.requests == 0
    assert sample.errors >= 1
    assert sample.first_error is not None
    assert "status 404" in sample.first_error
    assert sample.cpu_ms is None


async def test_only_loopback_is_loaded() -> None:
    with pytest.raises(ValueError, match="not on loopback"):
        await measure("http://192.0.2.1/v1", CELLS["chat-c1"], target="other")


def test_the_request_names_the_model_as_the_server_does() -> None:
    request = http_request("http://127.0.0.1:1234/v1", CELLS["embed-c1"], model_prefix="bench/")

    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/embeddings HTTP/1.1\r\nhost: 127.0.0.1:1234\r\n")
    assert f"content-length: {len(body)}".encode() in head
    assert b'"model":"bench/mock-embed"' in body


def test_a_lost_chunk_a_silent_stream_and_another_text_are_bad_answers() -> None:
    stream, whole = CELLS["stream-c1"], CELLS["chat-c1"]
    frame = b'data: {"delta":1}\n\n'

    assert checked_chunks(stream, Exchange(200, frame * (CHUNKS + 2), 0.1, 0.2)) == CHUNKS
    with pytest.raises(BadAnswer, match=f"{CHUNKS - 1} chunks"):
        checked_chunks(stream, Exchange(200, frame * (CHUNKS - 1), 0.1, 0.2))
    with pytest.raises(BadAnswer, match=f"{CHUNKS + 2} chunks"):
        checked_chunks(stream, Exchange(200, frame * (CHUNKS + 2), None, 0.2))
    with pytest.raises(BadAnswer, match="not the upstream's answer"):
        checked_chunks(whole, Exchange(200, FIRST_WORD.encode(), 0.1, 0.2))
    with pytest.raises(BadAnswer, match="no embedding"):
        checked_chunks(CELLS["embed-c1"], Exchange(200, b"{}", None, 0.2))


def test_a_percentile_is_one_of_the_values() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]

    assert [percentile(values, share) for share in (0.0, 0.2, 0.5, 0.99, 1.0)] == [1.0, 1.0, 3.0, 5.0, 5.0]
    assert percentile(range(1, 101), 0.99) == 99
    assert math.isnan(percentile([], 0.5))


async def test_the_window_waits_for_a_server_slower_than_itself(upstream: str) -> None:
    sample = await measure(
        upstream, replace(CELLS["paced-c16"], concurrency=1), target="upstream", seconds=0.01, warm_up_s=0.0
    )

    assert sample.requests == 1
    assert sample.p50_ms > 10
