from __future__ import annotations

import pytest

from xproxy.codecs.outcome import call_status, without_trailers
from xproxy.model.frames import Trailers
from xproxy.model.headers import NO_HEADERS, Headers
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status


@pytest.mark.parametrize(
    ("code", "fields", "status"),
    [
        (200, {"content-type": "application/grpc"}, Status.UNKNOWN),
        (200, {"content-type": "application/grpc+proto"}, Status.UNKNOWN),
        (200, {"content-type": "application/grpc", "grpc-status": "0"}, Status.OK),
        (200, {"content-type": "application/grpc-web"}, Status.OK),  # they are in its body
        (200, {"content-type": "text/plain"}, Status.OK),
        (None, {"content-type": "application/grpc"}, Status.OK),
    ],
)
def test_an_answer_that_ends_without_trailers(
    code: int | None, fields: dict[str, str], status: Status
) -> None:
    head = ResponseHead(status=Status.OK, native_status=code, headers=Headers.of(fields))
    assert without_trailers(head) is status


@pytest.mark.parametrize(
    ("said", "status"),
    [(Status.OK, Status.OK), (Status.ABORTED, Status.ABORTED), (None, Status.NOT_FOUND)],
)
def test_trailers_say_it_or_leave_it_to_the_head(said: Status | None, status: Status) -> None:
    head = ResponseHead(status=Status.NOT_FOUND, native_status=200)
    assert call_status(head, Trailers(1, NO_HEADERS, said)) is status
    assert call_status(head, None) is without_trailers(head)
