from __future__ import annotations

from typing import cast

import pytest

from xproxy.model.errors import (
    BodyTooLarge,
    ClusterNotFound,
    ConnectFailed,
    NoHealthyEndpoint,
    Overflow,
    RouteNotFound,
    StreamError,
    UpstreamProtocolError,
    UpstreamReset,
)
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


def test_each_request_has_a_record_of_its_own() -> None:
    assert make_request().record is not make_request().record


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
    head = error_head(BodyTooLarge("body is above 5 bytes"))
    assert head.status is Status.INVALID_ARGUMENT
    assert head.native_status is None
    assert head.extra == Local(detail="body is above 5 bytes", reason=Reason.BODY_TOO_LARGE)
    assert not head.headers


@pytest.mark.parametrize(
    "kind",
    [
        RouteNotFound,
        ClusterNotFound,
        NoHealthyEndpoint,
        ConnectFailed,
        UpstreamReset,
        UpstreamProtocolError,
        Overflow,
    ],
)
def test_a_client_learns_nothing_of_our_insides(kind: type[StreamError]) -> None:
    error = kind("cluster ovf, 10.0.0.7:80: refused")
    detail = error_head(error).extra.detail
    assert detail == kind.public != ""
    assert not any(word in detail for word in ("ovf", "10.0.0.7"))
    assert error.detail == "cluster ovf, 10.0.0.7:80: refused"


def test_an_overflow_says_so_to_a_proxy_in_front() -> None:
    head = error_head(Overflow("full"))
    assert head.headers.get("x-envoy-overloaded") == "true"
    assert head.extra.reason is Reason.OVERFLOW
    assert head.extra.retry_after == 1


def test_a_local_response_holds_nothing_open() -> None:
    response = local_response(ResponseHead(status=Status.OK), b"x")
    assert response.lease is None
    assert isinstance(response.body, BytesBody)
    assert response.body.data == b"x"


def test_notes_are_metadata() -> None:
    request = make_request()
    first, second = Key[int]("first"), Key[str]("second")
    request.note(first, 1)
    request.note(second, "two")
    assert request.metadata[first] == 1
    assert request.metadata[second] == "two"
