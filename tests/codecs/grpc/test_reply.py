"""Replies made here."""

from __future__ import annotations

import pytest

from xproxy.codecs.grpc.reply import reply
from xproxy.codecs.grpc.status import status_in
from xproxy.codecs.grpc.text import decode_text
from xproxy.model.errors import (
    ConnectFailed,
    DeadlineExceeded,
    Forbidden,
    Overflow,
    RateLimited,
    RouteNotFound,
    StreamError,
    Unauthenticated,
    UpstreamReset,
)
from xproxy.model.headers import Headers
from xproxy.model.message import Local, ResponseHead
from xproxy.model.status import Status
from xproxy.stream.exchange import error_head


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (RouteNotFound, 12),
        (ConnectFailed, 14),
        (UpstreamReset, 14),
        (Overflow, 8),
        (RateLimited, 8),
        (DeadlineExceeded, 4),
        (Unauthenticated, 16),
        (Forbidden, 7),
        (StreamError, 13),
    ],
)
def test_each_error_has_its_number(error: type[StreamError], number: int) -> None:
    head = reply(error_head(error("why, 100 %")), "grpc")
    assert head.native_status == 200
    assert head.headers.get("grpc-status") == str(number)
    assert head.headers.get("content-type") == "application/grpc"
    assert status_in(head.headers) is head.status
    assert decode_text(head.headers.get("grpc-message") or "") in (error.public, "why, 100 %")


def test_what_speaks_of_a_body_goes_and_the_rest_stays() -> None:
    fields = (("Content-Type", "text/plain"), ("content-length", "5"), ("x-a", "b"))
    head = ResponseHead(
        status=Status.NOT_FOUND, headers=Headers(fields), extra=Local(detail="gone")
    )
    assert reply(head, "grpc-web").headers.pairs == (
        ("x-a", "b"),
        ("content-type", "application/grpc-web"),
        ("grpc-status", "5"),
        ("grpc-message", "gone"),
    )


def test_success_has_no_message_and_a_long_one_is_cut() -> None:
    assert (
        "grpc-message"
        not in reply(ResponseHead(status=Status.OK, extra=Local(detail="x")), "grpc").headers
    )
    long = reply(ResponseHead(status=Status.INTERNAL, extra=Local(detail="x" * 5000)), "grpc")
    assert len(long.headers.get("grpc-message") or "") == 1024
    assert "grpc-message" not in reply(ResponseHead(status=Status.INTERNAL), "grpc").headers
