"""What the routing tests have in common: a connection's facts and a stream that notes its deadlines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from xproxy.model.address import Address
from xproxy.model.message import ResponseHead
from xproxy.model.traits import Sharing, Traits
from xproxy.stream.exchange import ConnectionFacts


class NotedLimits:
    """A StreamControl that only writes down the deadlines it is given."""

    def __init__(self) -> None:
        self.deadlines: list[float] = []

    def limit(self, deadline: float) -> None:
        self.deadlines.append(deadline)

    def start_soon(self, work: Callable[[], Awaitable[None]]) -> bool:
        return False

    async def send_interim(self, head: ResponseHead) -> None:
        raise AssertionError("nothing here sends interim responses")


@pytest.fixture
def stream() -> NotedLimits:
    return NotedLimits()


@pytest.fixture
def facts() -> ConnectionFacts:
    return ConnectionFacts(
        id=1,
        listener="edge",
        protocol="http1",
        traits=Traits(sharing=Sharing.SERIAL, family="web"),
        peer=Address("192.0.2.7", 40000),
        local=Address("192.0.2.1", 15001),
        sni="reviews.local",
    )
