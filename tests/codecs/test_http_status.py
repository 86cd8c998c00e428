"""Both maps are total, and a reply made here has the code its reason asks for."""

from __future__ import annotations

import attrs
import pytest

from xproxy.codecs.http_status import (
    code_of,
    local_code,
    local_text,
    reason_of,
    retry_after,
    status_of,
    text_body,
)
from xproxy.model.message import Local, Reason, RequestHead, ResponseHead, Rpc, Target
from xproxy.model.status import Status


def test_every_number_has_a_status() -> None:
    for code in range(-1, 1100):
        assert isinstance(status_of(code), Status)
    for code in (-1, 0, 99, 600, 999, 1000, 10**9):
        assert status_of(code) is Status.UNKNOWN


@pytest.mark.parametrize(
    ("codes", "status"),
    [
        (range(100, 400), Status.OK),
        ((408, 504), Status.DEADLINE_EXCEEDED),
        ((429,), Status.RESOURCE_EXHAUSTED),
        ((502, 503), Status.UNAVAILABLE),
        ((404, 410), Status.NOT_FOUND),
        ((400, 405, *range(411, 418), 431), Status.INVALID_ARGUMENT),
        ((401, 407), Status.UNAUTHENTICATED),
        ((403, 451), Status.PERMISSION_DENIED),
        ((499,), Status.CANCELLED),
        ((500, 501, 505, 511, 599), Status.INTERNAL),
    ],
)
def test_codes_mean_what_the_table_says(codes: range | tuple[int, ...], status: Status) -> None:
    assert {status_of(code) for code in codes} == {status}


@pytest.mark.parametrize("status", Status)
def test_every_status_has_a_code_of_its_kind(status: Status) -> None:
    code = code_of(status)
    assert 200 <= code <= 599
    assert (status_of(code) is Status.OK) == (status is Status.OK)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.NONE, 500),
        (Reason.HEAD_TOO_LARGE, 431),
        (Reason.BODY_TOO_LARGE, 413),
        (Reason.REQUEST_TIMEOUT, 408),
        (Reason.RATE_LIMITED, 429),
        (Reason.OVERFLOW, 503),
        (Reason.NO_ROUTE, 404),
        (Reason.UPSTREAM_PROTOCOL, 502),
        (Reason.UPSTREAM_RESET, 502),
    ],
)
def test_a_reason_decides_before_the_status(reason: Reason, code: int) -> None:
    assert local_code(ResponseHead(status=Status.INTERNAL, extra=Local(reason=reason))) == code
    assert local_code(ResponseHead(status=Status.OK, extra=Local(reason=reason))) == 200


def test_every_reason_is_known() -> None:
    for reason in Reason:
        assert local_code(ResponseHead(status=Status.UNKNOWN, extra=Local(reason=reason))) >= 400


def test_who_is_overloaded_says_when_to_come_again() -> None:
    overloaded = ResponseHead(status=Status.RESOURCE_EXHAUSTED)
    assert retry_after(overloaded) == 1
    assert retry_after(ResponseHead(status=Status.UNAVAILABLE)) is None
    asked = ResponseHead(status=Status.UNAVAILABLE, extra=Local(retry_after=7))
    assert retry_after(asked) == 7


def test_what_a_person_reads() -> None:
    assert reason_of(404) == "Not Found"
    assert reason_of(299) == ""
    assert text_body("no \u00e9t\u00e9") == "no \u00e9t\u00e9\n".encode()


@pytest.mark.parametrize(
    ("head", "method", "text"),
    [
        (ResponseHead(status=Status.OK), "GET", b""),
        (ResponseHead(status=Status.UNAVAILABLE), "GET", b"Service Unavailable\n"),
        (ResponseHead(status=Status.UNAVAILABLE, extra=Local(detail="no")), "GET", b"no\n"),
        (ResponseHead(status=Status.UNAVAILABLE, extra=Local(detail="no")), "HEAD", b""),
        (ResponseHead(status=Status.UNKNOWN, native_status=414), "GET", b"Request-URI Too Long\n"),
    ],
)
def test_the_text_of_a_reply_made_here(head: ResponseHead, method: str, text: bytes) -> None:
    request = RequestHead(service="a", method=method, extra=Target(path="/"))
    assert local_text(head, request) == text
    call = attrs.evolve(
        request, extra=Target(path="/", rpc=Rpc(dialect="x", service="s", method="m"))
    )
    assert local_text(head, call) == b""
