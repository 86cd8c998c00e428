"""Header lists that are messages; those that are none are in test_rfc9113.py."""

from __future__ import annotations

import pytest

from tests.codecs.http2.driving import GET, OK
from xproxy.codecs.http2.faults import Malformed
from xproxy.codecs.http2.head import parse_request, parse_response, parse_trailers
from xproxy.codecs.http2.table import Secret
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.status import Status


def request(*extra: tuple[str, str], limits: Limits = DEFAULT_LIMITS) -> dict[str, str]:
    return dict(parse_request([*GET, *extra], limits, extended=False).message.headers)


def test_fields_of_this_hop_end_here() -> None:
    got = request(("proxy-authorization", "x"), ("http2-settings", "y"), ("authorization", "z"))
    assert got == {"authorization": "z"}


def test_te_trailers_is_kept() -> None:
    assert request(("te", "Trailers")) == {"te": "Trailers"}


def test_a_cookie_of_which_a_crumb_is_secret_is_secret() -> None:
    message = parse_request(
        [*GET, ("cookie", "a=b"), ("cookie", Secret("c=d"))], DEFAULT_LIMITS, extended=False
    ).message
    ((_, value),) = message.headers.pairs
    assert type(value) is Secret
    assert value == "a=b; c=d"


def test_declared_lengths() -> None:
    parsed = parse_request([*GET, ("content-length", "7")], DEFAULT_LIMITS, extended=False)
    assert parsed.declared == 7
    assert parse_response(list(OK), DEFAULT_LIMITS).declared == -1


@pytest.mark.parametrize("code", ["103", "204"])
def test_lengths_where_there_is_no_body_do_not_travel_on(code: str) -> None:
    """RFC 9110 §8.6."""
    fields = [(":status", code), ("content-length", "5"), ("x", "y")]
    parsed = parse_response(fields, DEFAULT_LIMITS)
    assert parsed.declared == -1
    assert parsed.message.headers.pairs == (("x", "y"),)


def test_too_many_fields() -> None:
    with pytest.raises(Malformed) as caught:
        request(*[("a", "b")] * 9, limits=Limits(max_headers=3))
    assert caught.value.answer == 431
    with pytest.raises(Malformed):
        parse_trailers([("a", "b")] * 4, Limits(max_headers=3))


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("200", Status.OK),
        ("404", Status.NOT_FOUND),
        ("503", Status.UNAVAILABLE),
        ("999", Status.UNKNOWN),
    ],
)
def test_codes(code: str, status: Status) -> None:
    message = parse_response([(":status", code)], DEFAULT_LIMITS).message
    assert (message.status, message.native_status) == (status, int(code))


def test_trailers_keep_what_may_stand_there() -> None:
    got = parse_trailers([("grpc-status", "0"), ("content-length", "3")], DEFAULT_LIMITS)
    assert got.pairs == (("grpc-status", "0"),)
    with pytest.raises(Malformed):
        parse_trailers([("connection", "x")], DEFAULT_LIMITS)


def _heard(authority: str, host: str, scheme: str = "http") -> str:
    fields = [(":method", "GET"), (":scheme", scheme), (":path", "/"), (":authority", authority)]
    parsed = parse_request([*fields, ("host", host)], DEFAULT_LIMITS, extended=False)
    return parsed.message.service


@pytest.mark.parametrize(
    ("authority", "host", "scheme"),
    [
        ("a.test:80", "a.test", "http"),
        ("a.test", "a.test:", "http"),
        ("a.test", "A.TEST.", "http"),
        ("a.test:443", "a.test", "https"),
        ("[::1]:80", "[0::1]", "http"),
        ("%61.test", "a.test", "http"),
    ],
)
def test_authority_and_host_may_be_two_spellings_of_one(
    authority: str, host: str, scheme: str
) -> None:
    """RFC 9113 §8.3.1."""
    assert _heard(authority, host, scheme) == authority


@pytest.mark.parametrize(
    ("authority", "host", "scheme"),
    [
        ("a.test:80", "a.test", "https"),
        ("a.test:8080", "a.test", "http"),
        ("a.test", "b.test", "http"),
        ("a.test", "a.test..", "http"),
    ],
)
def test_authority_and_host_that_differ_are_refused(authority: str, host: str, scheme: str) -> None:
    with pytest.raises(Malformed, match="differ"):
        _heard(authority, host, scheme)
