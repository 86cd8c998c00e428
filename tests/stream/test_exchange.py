from __future__ import annotations

from typing import cast

from xproxy.model.errors import Overflow
from xproxy.model.message import Local, Reason, RequestHead, ResponseHead
from xproxy.model.metadata import Key
from xproxy.model.status import Status
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import (
    ConnectionFacts,
    Request,
    Response,
    StreamControl,
    error_head,
    local_response,
)


def make_request() -> Request:
    head = RequestHead(service="s", method="m")
    facts = cast("ConnectionFacts", None)
    return Request(head, BytesBody(), facts, cast("StreamControl", None), 0.0)


def test_flags_are_noted_once_and_in_order() -> None:
    request = make_request()
    for code in ("UF", "-", "UO", "UF"):
        request.flag(code)
    assert request.flags == "UF,UO"


def test_metadata_is_made_when_it_is_asked_for() -> None:
    request = make_request()
    key = Key[int]("x")
    request.metadata[key] = 1
    assert request.metadata[key] == 1


async def test_a_lease_is_released_once() -> None:
    class Lease:
        closed = 0

        async def aclose(self) -> None:
            self.closed += 1

    lease = Lease()
    response = Response(ResponseHead(status=Status.OK), BytesBody(), None, lease)
    await response.aclose()
    await response.aclose()
    assert lease.closed == 1


def test_an_error_becomes_a_local_reply_that_says_why() -> None:
    head = error_head(Overflow("full"))
    assert head.status is Status.RESOURCE_EXHAUSTED
    assert head.native_status is None
    assert head.extra == Local(detail="full", reason=Reason.OVERFLOW, retry_after=1)


def test_a_local_response_holds_nothing_open() -> None:
    response = local_response(ResponseHead(status=Status.OK), b"x")
    assert response.lease is None
    assert isinstance(response.body, BytesBody)
    assert response.body.data == b"x"
