"""Answers, as a caller understands them."""

from __future__ import annotations

import pytest

from xproxy.codecs.grpc.answer import is_native, to_caller
from xproxy.model.headers import Headers
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status

GRPC = ("content-type", "application/grpc+proto")


@pytest.mark.parametrize(
    ("code", "fields", "status"),
    [
        (200, (GRPC,), Status.OK),
        (200, (GRPC, ("grpc-status", "14")), Status.UNAVAILABLE),
        (200, (GRPC, ("grpc-status", "0")), Status.OK),
        (200, (GRPC, ("grpc-status", "99")), Status.UNKNOWN),
        (200, (("content-type", "application/grpc-web"),), Status.OK),
        (200, (("content-type", "text/html"),), Status.UNKNOWN),
        (200, (), Status.UNKNOWN),
        (404, (), Status.UNIMPLEMENTED),
        (503, (("content-type", "text/plain"),), Status.UNAVAILABLE),
        (400, (GRPC,), Status.INTERNAL),
        (403, (GRPC, ("grpc-status", "5")), Status.NOT_FOUND),
    ],
)
def test_the_status_of_an_answer(
    code: int, fields: tuple[tuple[str, str], ...], status: Status
) -> None:
    head = ResponseHead(status=Status.OK, native_status=code, headers=Headers(fields))
    told = to_caller(head)
    assert (told.status, told.native_status, told.headers) == (status, code, head.headers)
    assert is_native(head) is (code == 200 and "grpc" in (head.headers.get("content-type") or ""))


def test_one_that_is_right_already_stays_the_object_it_is() -> None:
    head = ResponseHead(status=Status.OK, native_status=200, headers=Headers((GRPC,)))
    assert to_caller(head) is head
