"""Errors on the wire: ours as they are written, partners' as they are read."""

from typing import Any

import orjson
import pytest

from llama_stack import errors
from llama_stack.errors import ContextOverflow, ProviderFailed, ProviderTimeout, RateLimited, StackError
from llama_stack.wire.openai_errors import decode_error, encode_error, upstream_error

OURS = [
    errors.InvalidRequest("m", param="messages.0"),
    errors.UnsupportedParameter("m", param="audio"),
    errors.ContextOverflow("m"),
    errors.NotAuthenticated("m"),
    errors.NotPermitted("m"),
    errors.NotFound("m", param="model", code="model_not_found"),
    errors.Conflict("m"),
    errors.PayloadTooLarge("m"),
    errors.RateLimited("m", retry_after_s=3),
    errors.ProviderFailed("m"),
    errors.ProviderFailed("m", upstream_status=404, param="p", code="theirs"),
    errors.ProviderFailed("m", upstream_status=500),
    errors.ProviderUnavailable("m"),
    errors.ProviderTimeout("m"),
    errors.StructuredOutputInvalid("m"),
    errors.StackError("m"),
]


@pytest.mark.parametrize("error", OURS, ids=lambda error: f"{type(error).__name__} {error.http_status}")
def test_what_our_server_writes_is_raised_again_at_the_other_end(error: StackError) -> None:
    retry_after = None if error.retry_after_s is None else str(error.retry_after_s)
    again = decode_error(error.http_status, encode_error(error), retry_after)
    assert type(again) is type(error)
    assert (again.http_status, again.message, again.param, again.code) == (
        error.http_status,
        error.message,
        error.param,
        error.code,
    )
    assert again.retry_after_s == error.retry_after_s


@pytest.mark.parametrize("body", [None, [], "text", {}, {"error": "x"}, {"error": {"message": None}}])
def test_a_body_in_no_known_shape_still_keeps_its_status(body: Any) -> None:
    assert decode_error(404, body).http_status == 404
    assert isinstance(decode_error(418, body), StackError)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "why"}}, "why"),
        ([{"error": {"message": "why"}}], "why"),
        ({"error": "why"}, "why"),
        ({"message": "why"}, "why"),
        ({"detail": "why"}, "why"),
        ({"detail": [{"msg": "why"}]}, "why"),
        ("why", "why"),
        ({}, "answered 418"),
    ],
)
def test_partners_say_why_in_many_ways(body: Any, words: str) -> None:
    error = upstream_error("acme", 418, orjson.dumps(body))
    assert error.message.startswith("acme answered 418")
    assert words in error.message
    assert error.http_status == 418


def test_a_partner_that_answers_with_a_web_page_is_cut_short() -> None:
    assert len(upstream_error("acme", 500, b"<html>" + b"x" * 100_000).message) < 3000


@pytest.mark.parametrize(
    ("status", "body", "kind", "http_status"),
    [
        (400, {"code": "context_length_exceeded"}, ContextOverflow, 400),
        (400, {"message": "This model's maximum context length is 10 tokens"}, ContextOverflow, 400),
        (400, {"type": "exceed_context_size_error"}, ContextOverflow, 400),
        (400, {"message": "bad"}, ProviderFailed, 400),
        (429, {"message": "slow"}, RateLimited, 429),
        (500, {"message": "x"}, ProviderFailed, 502),
        (503, {"message": "x"}, ProviderFailed, 502),
        (504, {"message": "x"}, ProviderTimeout, 504),
    ],
)
def test_what_a_partners_status_means(status: int, body: Any, kind: type[StackError], http_status: int) -> None:
    error = upstream_error("acme", status, orjson.dumps({"error": body}))
    assert (type(error), error.http_status) == (kind, http_status)


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("0.5", 0.5), ("-1", 0.0), ("soon", None), (None, None)])
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert upstream_error("acme", 429, b"", header).retry_after_s == seconds
