"""What the filter tests have in common: requests without a connection, and an upstream that does as it is told."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import attrs
import pytest
import trio
from trio.abc import ReceiveChannel

from xproxy.model.address import Address
from xproxy.model.errors import StreamError
from xproxy.model.frames import Trailers
from xproxy.model.headers import Headers
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.status import Status
from xproxy.model.traits import Sharing, Traits
from xproxy.stream.body import Body, BytesBody
from xproxy.stream.exchange import ConnectionFacts, Request, Response

HTTP = Traits(sharing=Sharing.SERIAL, family="web")
RPC = Traits(sharing=Sharing.MESSAGES)


@attrs.define
class FakeStream:
    """A StreamControl that writes down what it is asked for."""

    deadlines: list[float] = attrs.field(factory=list)
    reason: StreamError | None = None

    @property
    def deadline(self) -> float:
        return min(self.deadlines, default=math.inf)

    def limit(self, deadline: float) -> None:
        self.deadlines.append(deadline)

    def touch(self) -> None:
        raise AssertionError("a filter moves nothing")

    def hold(self, count: int) -> None:
        """Count nothing."""

    def interruption(self) -> StreamError | None:
        return self.reason

    def start_soon(self, work: Callable[[], Awaitable[None]]) -> bool:
        return False

    async def send_interim(self, head: ResponseHead) -> None:
        raise AssertionError("no filter here sends interim responses")


@attrs.define
class FakeBody(ReceiveChannel[bytes | Trailers]):
    """A body in pieces; an exception among them is raised, an Event waited for."""

    pieces: list[bytes | Trailers | StreamError | trio.Event]
    closed: bool = False

    async def receive(self) -> bytes | Trailers:
        await trio.lowlevel.checkpoint()
        while self.pieces:
            piece = self.pieces.pop(0)
            if isinstance(piece, StreamError):
                raise piece
            if not isinstance(piece, trio.Event):
                return piece
            await piece.wait()
        raise trio.EndOfChannel

    async def aclose(self) -> None:
        self.closed = True


@attrs.define
class FakeLease:
    closed: int = 0

    async def aclose(self) -> None:
        self.closed += 1
        await trio.lowlevel.checkpoint()


@attrs.define
class FakeUpstream:
    """Answers each request with the next of its outcomes, the last one again and again."""

    outcomes: list[Response | StreamError | trio.Event]
    seen: list[RequestHead] = attrs.field(factory=list)
    bodies: list[Body] = attrs.field(factory=list)
    times: list[float] = attrs.field(factory=list)

    async def __call__(self, request: Request) -> Response:
        self.seen.append(request.head)
        self.bodies.append(request.body)
        self.times.append(trio.current_time())
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        await trio.lowlevel.checkpoint()
        if isinstance(outcome, trio.Event):
            await outcome.wait()
            raise AssertionError("nobody sets it")
        if isinstance(outcome, StreamError):
            raise outcome
        return outcome


@attrs.define
class Kit:
    """Makes the parts of an exchange."""

    stream: FakeStream = attrs.field(factory=FakeStream)

    def web(
        self,
        path: str = "/a?b=c",
        *headers: tuple[str, str],
        method: str = "GET",
        service: str = "reviews:9080",
        body: Body | None = None,
        tls: bool = False,
        peer: Address | None = None,
    ) -> Request:
        head = RequestHead(
            service=service, method=method, headers=Headers(headers), extra=Target(path=path)
        )
        return self.request(head, body, HTTP, "http1", tls=tls, peer=peer)

    def rpc(self, *headers: tuple[str, str]) -> Request:
        head = RequestHead(service="com.example.Hello", method="say", headers=Headers(headers))
        return self.request(head, None, RPC, "bolt")

    def request(
        self,
        head: RequestHead,
        body: Body | None,
        traits: Traits,
        protocol: str,
        tls: bool = False,
        peer: Address | None = None,
    ) -> Request:
        facts = ConnectionFacts(
            id=7,
            listener="edge",
            protocol=protocol,
            traits=traits,
            peer=peer or Address("192.0.2.7", 40000),
            local=Address("192.0.2.1", 15001),
            tls=tls,
        )
        return Request(head, body or BytesBody(b"asked"), facts, self.stream, trio.current_time())

    def response(
        self,
        code: int | None = 200,
        *headers: tuple[str, str],
        status: Status = Status.OK,
        body: Body | None = None,
    ) -> Response:
        head = ResponseHead(status=status, native_status=code, headers=Headers(headers))
        return Response(head, body or BytesBody(b"hello"), lease=FakeLease())

    def upstream(self, *outcomes: Response | StreamError | trio.Event) -> FakeUpstream:
        return FakeUpstream(list(outcomes) or [self.response()])

    def body(self, *pieces: bytes | Trailers | StreamError | trio.Event) -> FakeBody:
        return FakeBody(list(pieces))

    @staticmethod
    def closed(response: Response) -> int:
        """Return how often the lease that the response came with was released."""
        lease = response.lease
        assert isinstance(lease, FakeLease)
        return lease.closed


@pytest.fixture
def kit() -> Kit:
    return Kit()
