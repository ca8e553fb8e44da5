"""Server-sent events, wherever the network cuts them."""

import pytest

from llama_stack.errors import ProviderFailed
from llama_stack.wire.sse import ServerSentEvent, SSEDecoder

STREAM = (
    "\ufeff: a comment\n"
    'data: {"text": "né 👋"}\n\n'
    "data:no space\r\n\r\n"
    "event: error\rdata: a\rdata:  b\r\r"
    "id: 7\nretry: 5\nunknown: x\ndata: with id\n\n"
    "event: without data\n\n"
    "data\n\n"
    "data: [DONE]\n\n"
).encode()

EVENTS = [
    ServerSentEvent('{"text": "né 👋"}'.encode()),
    ServerSentEvent(b"no space"),
    ServerSentEvent(b"a\n b", "error"),
    ServerSentEvent(b"with id", id="7"),
    ServerSentEvent(b"", id="7"),
    ServerSentEvent(b"[DONE]", id="7"),
]


def decoded(*pieces: bytes) -> list[ServerSentEvent]:
    decoder = SSEDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.close()


def test_the_forms_of_lines_and_fields() -> None:
    assert decoded(STREAM) == EVENTS


@pytest.mark.parametrize("cut", range(1, len(STREAM)))
def test_a_cut_anywhere_changes_nothing(cut: int) -> None:
    assert decoded(STREAM[:cut], STREAM[cut:]) == EVENTS


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_pieces_of_any_size_change_nothing(size: int) -> None:
    assert decoded(*(STREAM[at : at + size] for at in range(0, len(STREAM), size))) == EVENTS


def test_an_event_is_given_as_soon_as_its_blank_line_is_there() -> None:
    assert SSEDecoder().feed(b"data: x\n\n") == [ServerSentEvent(b"x")]


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r", b"\r\n"])
def test_the_last_event_needs_no_blank_line(ending: bytes) -> None:
    assert decoded(b"data: a\n\ndata: [DONE]" + ending) == [ServerSentEvent(b"a"), ServerSentEvent(b"[DONE]")]


@pytest.mark.parametrize(
    "piece",
    [pytest.param(b"data: " + b"x" * 40, id="one line"), pytest.param(b"data: xxxxxxxx\n" * 5, id="one event")],
)
def test_an_endless_event_is_refused(piece: bytes) -> None:
    decoder = SSEDecoder(limit_bytes=32)
    with pytest.raises(ProviderFailed, match="longer than 32 bytes"):
        decoder.feed(piece)


def test_many_events_are_no_endless_event() -> None:
    assert len(SSEDecoder(limit_bytes=32).feed(b"data: xxxx\n\n" * 100)) == 100
