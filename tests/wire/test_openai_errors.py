"""Errors on the wire: ours as they are written, partners' as they are read."""

from typing import Any

import orjson
import pytest

from llama_stack import errors
from llama_stack.errors import ContextOverflow, ProviderFailed, ProviderTimeout, RateLimited, StackError
from llama_stack.wire.openai_errors import (
    decode_error,
    decode_error_frame,
    encode_error,
    error_frame,
    raise_error_in_answer,
    upstream_error,
)

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
    errors.RateLimited("m", retry_after_s=0.25, code="insufficient_quota"),
    errors.RateLimited("m"),
    errors.ProviderFailed("m"),
    errors.ProviderFailed("m", upstream_status=400, code="conflict"),
    errors.ProviderFailed("m", upstream_status=429),
    errors.ProviderTimeout("m", upstream_status=504, code="gateway_timeout"),
    errors.ProviderFailed("m", upstream_status=404, param="p", code="theirs"),
    errors.ProviderFailed("m", upstream_status=500),
    errors.ProviderUnavailable("m"),
    errors.ProviderTimeout("m"),
    errors.StructuredOutputInvalid("m"),
    errors.StackError("m"),
]


def facts(error: StackError) -> tuple[object, ...]:
    upstream_status = error.upstream_status if isinstance(error, ProviderFailed) else None
    told = (error.http_status, error.message, error.param, error.code, error.retry_after_s)
    return (type(error), *told, upstream_status)


@pytest.mark.parametrize("error", OURS, ids=lambda error: f"{type(error).__name__} {error.http_status} {error.code}")
def test_what_our_server_writes_is_raised_again_at_the_other_end(error: StackError) -> None:
    assert facts(decode_error(error.http_status, encode_error(error))) == facts(error)


@pytest.mark.parametrize("error", OURS, ids=lambda error: f"{type(error).__name__} {error.http_status} {error.code}")
def test_what_ends_a_stream_is_raised_again_at_the_other_end(error: StackError) -> None:
    frame = error_frame(error)
    assert frame.startswith(b"data: ")
    assert frame.endswith(b"\n\n")
    assert facts(decode_error_frame(orjson.loads(frame[len("data: ") :]))) == facts(error)


def test_an_older_servers_errors_keep_what_they_tell() -> None:
    slow = {"error": {"message": "m", "type": "rate_limit_error", "param": None, "code": "rate_limited"}}
    assert decode_error(429, slow, "7").retry_after_s == 7
    assert decode_error_frame(slow).http_status == 429
    refused = {"error": {"message": "m", "type": "provider_error", "param": None, "code": "theirs"}}
    assert facts(decode_error(404, refused)) == facts(ProviderFailed("m", upstream_status=404, code="theirs"))


@pytest.mark.parametrize(
    ("status", "kind"), [(502, ProviderFailed), (503, errors.ProviderUnavailable), (504, ProviderTimeout)]
)
def test_a_page_of_a_proxy_is_a_provider_failure(status: int, kind: type[StackError]) -> None:
    assert type(decode_error(status, None)) is kind


@pytest.mark.parametrize(
    "error",
    [errors.RateLimited("m", retry_after_s=7), ProviderFailed("m", upstream_status=422, param="seed", code="theirs")],
    ids=["429", "422"],
)
def test_a_stack_that_is_a_partner_of_ours_keeps_its_status_within_a_stream(error: StackError) -> None:
    with pytest.raises(StackError) as raised:
        raise_error_in_answer(orjson.loads(error_frame(error)[len("data: ") :])["error"])
    assert facts(raised.value)[:2] == facts(error)[:2]
    assert (raised.value.param, raised.value.code) == (error.param, error.code)
    assert raised.value.retry_after_s == error.retry_after_s


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
