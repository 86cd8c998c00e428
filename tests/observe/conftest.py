"""What the tests of logs have in common: a request that is over, to be told of."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import pytest

from tests.attempts import attempt_of
from xproxy.model.address import Address
from xproxy.model.errors import StreamError
from xproxy.model.headers import Headers
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.status import Status
from xproxy.model.traits import Sharing, Traits
from xproxy.observe.variables import Moment
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import ConnectionFacts, Request
from xproxy.upstream.endpoint import Endpoint


class NoStream:
    """A StreamControl that nobody may use."""

    deadline = math.inf

    def limit(self, deadline: float) -> None:
        raise AssertionError

    def touch(self) -> None:
        raise AssertionError

    def hold(self, count: int) -> None:
        """Count nothing."""

    def interruption(self) -> StreamError | None:
        raise AssertionError

    def start_soon(self, work: Callable[[], Awaitable[None]]) -> bool:
        raise AssertionError

    async def send_interim(self, head: ResponseHead) -> None:
        raise AssertionError


@pytest.fixture
def moment() -> Moment:
    facts = ConnectionFacts(
        id=7,
        listener="edge",
        protocol="http1",
        traits=Traits(sharing=Sharing.SERIAL, family="web"),
        peer=Address("::1", 40000),
        local=Address("192.0.2.1", 15001),
        sni="reviews.local",
    )
    head = RequestHead(
        service="reviews:9080",
        method="GET",
        headers=Headers([("User-Agent", 'cu"rl\\\n'), ("x-request-id", "abc")]),
        extra=Target(path="/a?b=c", scheme="https"),
    )
    request = Request(head, BytesBody(), facts, NoStream(), started=100.0)
    request.record.route, request.record.cluster = "main[0]", "reviews-v1"
    for _ in range(2):
        attempt_of(request, Endpoint(Address("127.0.0.1", 9081)))
    request.record.received_bytes, request.record.sent_bytes = 10, 20
    request.record.flag("UF")
    request.record.flag("URX")
    response = ResponseHead(
        status=Status.UNAVAILABLE, native_status=503, headers=Headers([("server", "x")])
    )
    return Moment(request, response, now=100.25, wall=1_700_000_000.5)
