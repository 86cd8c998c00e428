from __future__ import annotations

from typing import cast

import attrs
import pytest

from tests.attempts import attempt_of
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
from xproxy.stream.ending import ANSWERED
from xproxy.stream.exchange import (
    ConnectionFacts,
    Handler,
    Request,
    Response,
    StreamControl,
    error_head,
    local_response,
)
from xproxy.stream.replay import Recording


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


async def test_a_fork_has_its_own_head_body_record_and_metadata() -> None:
    request = make_request()
    request.body = body = BytesBody(b"x")
    key = Key[str]("key")
    request.note(key, "before")
    request.record.route, request.record.cluster = "main[0]", "reviews"
    request.record.flag("RL")
    request.record.detail = "of this one"
    fork = request.fork()
    assert (fork.head, fork.origin, fork.started) == (request.head, None, request.started)
    assert (fork.connection, fork.stream) == (request.connection, request.stream)
    assert (fork.record.route, fork.record.cluster, fork.record.flags) == (
        "main[0]",
        "reviews",
        "RL",
    )
    assert fork.record.detail == ""
    assert fork.metadata[key] == "before"
    # What happens to one does not happen to the other.
    fork.head = RequestHead(service="other", method="m")
    fork.metadata[key] = "fork"
    fork.record.flag("UF")
    assert await fork.body.receive() == b"x"
    assert request.head.service == "s"
    assert request.metadata[key] == "before"
    assert request.record.flags == "RL"
    assert request.body is body
    assert await request.body.receive() == b"x"


async def test_a_body_in_pieces_is_forked_only_by_who_keeps_them() -> None:
    request = make_request()
    recording = Recording(BytesBody(b"x"), 10)
    request.body = recording.replay()
    with pytest.raises(ValueError, match="read once"):
        request.fork()
    fork = request.fork(recording.replay())
    assert await fork.body.receive() == b"x"


def test_who_forked_a_request_may_go_on_as_the_fork_did() -> None:
    request = make_request()
    fork = request.fork()
    request.adopt(fork)
    fork.record.flag("UF")
    key = Key[int]("x")
    fork.metadata[key] = 1
    fork.head = RequestHead(service="other", method="m")
    assert request.record is fork.record
    assert request.metadata[key] == 1
    assert request.head.service == "s"
    request.adopt(fork)
    assert request.head.service == "other"


async def test_a_mirror_is_a_filter_of_a_few_lines() -> None:
    async def cluster(request: Request) -> Response:
        request.record.cluster = request.head.service
        request.record.flag("UF" if request.head.service == "shadow" else "-")
        attempt_of(request).end(ANSWERED[Status.OK])
        return local_response(ResponseHead(status=Status.OK))

    async def mirror(request: Request, call_next: Handler) -> Response:
        copy = request.fork()
        copy.head = attrs.evolve(copy.head, service="shadow")
        copies.append(copy)
        await (await call_next(copy)).aclose()
        return await call_next(request)

    copies: list[Request] = []
    request = make_request()
    await mirror(request, cluster)
    assert (request.record.cluster, request.record.flags) == ("s", "")
    assert (copies[0].record.cluster, copies[0].record.flags) == ("shadow", "UF")
    assert len(request.record.attempts) == len(copies[0].record.attempts) == 1
