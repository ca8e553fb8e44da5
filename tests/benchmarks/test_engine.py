"""The engine's limit is really driven, and shares are taken within a round."""

from pathlib import Path

import pytest

from benchmarks.engine import IN_PROCESS, LISTENER, MAX_TOKENS, WORKS, Speed, forbidden_tokens, over_http, raw, table
from benchmarks.processes import Memory
from benchmarks.targets import OURS


def test_a_work_asks_for_full_answers_of_the_same_prompts_in_both_forms() -> None:
    whole, chat = WORKS[0], next(work for work in WORKS if work.chat and work.streamed and work.parallel == 4)

    assert (whole.name, whole.path) == ("completion, whole, 1", "/v1/completions")
    assert (chat.name, chat.path) == ("chat, streamed, 4", "/v1/chat/completions")
    assert len(chat.bodies([7])) == len(whole.bodies([7]))
    body = chat.bodies([7, 9])[0]
    assert body["stream_options"] == {"include_usage": True}
    assert (body["max_tokens"], body["logit_bias"]) == (MAX_TOKENS, {"7": -100, "9": -100})
    assert body["messages"][0]["content"] == whole.bodies([])[0]["prompt"]


def test_shares_are_medians_of_the_rounds_shares() -> None:
    def speeds(listener: float, ours: float) -> list[Speed]:
        names = [work.name for work in WORKS]
        figures = {IN_PROCESS: 2 * listener, LISTENER: listener, OURS: ours}
        return [Speed(target, name, speed, 1e6 / speed, 50) for name in names for target, speed in figures.items()]

    held = Memory(processes=2, main_rss=70.0, tree_rss=150.4, tree_pss=None)
    rows = table([speeds(1000, 900), speeds(100, 99), speeds(2000, 1900)], held).splitlines()

    assert len(rows) == 2 + len(WORKS) + 2
    assert rows[-1] == "After this our server held 70 MB, its engine process 80 MB (RSS)."
    assert rows[2] == "| completion, whole, 1 | 2,000 | 1,000 | 900 | 95 % | 48 % | 1,000 | 50 |"


@pytest.mark.engine
async def test_the_engine_answers_in_process_and_over_its_listener_to_full_length(
    micro_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.engine.REQUESTS", 2)
    with raw(micro_model, threads=1) as engine:
        forbidden = await forbidden_tokens(engine)
        assert forbidden
        for work in (work for work in WORKS if work.parallel == 1):
            expected = MAX_TOKENS * len(work.bodies(forbidden))
            tokens, seconds = engine.obey(work, forbidden)
            assert (tokens, seconds > 0) == (expected, True)
            tokens, seconds = await over_http(engine.base_url, engine.headers, work, forbidden)
            assert (tokens, seconds > 0) == (expected, True)


@pytest.mark.engine
async def test_a_refused_request_ends_the_measurement(micro_model: Path) -> None:
    with raw(micro_model, threads=1) as engine, pytest.raises(ExceptionGroup) as raised:
        await over_http(engine.base_url, {"authorization": "Bearer wrong"}, WORKS[0], [])

    assert "/v1/completions answered 401" in str(raised.value.exceptions[0])
