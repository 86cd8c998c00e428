from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import attrs
import pytest
import trio
from trio.abc import ReceiveChannel
from trio.testing import MockClock

from xproxy.config.schema import FilterConfig, MatchConfig, PathMatch, RouteConfig
from xproxy.model.errors import ClusterNotFound, DeadlineExceeded, RouteNotFound, Unsupported
from xproxy.model.frames import Trailers
from xproxy.model.headers import NO_HEADERS
from xproxy.model.limits import Duration
from xproxy.model.message import RequestHead, ResponseHead, Rpc, Target
from xproxy.model.status import Status
from xproxy.routing.router import Router, TimedBody
from xproxy.routing.table import RouteTable
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import (
    ConnectionFacts,
    Handler,
    Request,
    Response,
    StreamControl,
    local_response,
)


class Limits(StreamControl, Protocol):
    """The stream of the fixture."""

    deadlines: list[float]


@attrs.define
class Cluster:
    """A handler that answers at once and counts."""

    requests: list[Request] = attrs.field(factory=list)

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        return local_response(ResponseHead(status=Status.OK))


def web(method: str = "GET", path: str = "/", deadline: float | None = None) -> RequestHead:
    return RequestHead(service="a:80", method=method, deadline=deadline, extra=Target(path=path))


CALL = RequestHead(
    service="a:80",
    method="POST",
    extra=Target(path="/lab.Echo/Say", rpc=Rpc("grpc", "lab.Echo", "Say")),
)


@attrs.define
class Bench:
    """A router with two clusters, and a way to send requests through it."""

    facts: ConnectionFacts
    stream: Limits
    a: Cluster = attrs.field(factory=Cluster)
    b: Cluster = attrs.field(factory=Cluster)

    def router(self, *routes: RouteConfig, values: Iterator[int] | None = None) -> Router:
        return Router(
            RouteTable.build("main", routes),
            {"a": self.a, "b": self.b},
            clock=lambda: 500.0,
            random_value=lambda: next(values or iter(())),
        )

    def request(self, head: RequestHead) -> Request:
        return Request(head, BytesBody(b""), self.facts, self.stream, 100.0)


@pytest.fixture
def bench(facts: ConnectionFacts, stream: Limits) -> Bench:
    return Bench(facts, stream)


async def test_a_request_goes_to_the_cluster_of_its_route(bench: Bench) -> None:
    router = bench.router(
        RouteConfig(name="x", match=MatchConfig(path=PathMatch(exact="/x")), cluster="b"),
        RouteConfig(name="rest", cluster="a"),
    )
    request = bench.request(web(path="/x?q"))
    await router(request)
    assert (request.record.route, request.record.cluster) == ("x", "b")
    assert bench.b.requests == [request]
    await router(bench.request(web()))
    assert len(bench.a.requests) == 1


async def test_no_route_names_the_request_without_its_query(bench: Bench) -> None:
    router = bench.router(RouteConfig(hosts=("b",), cluster="a"))
    with pytest.raises(RouteNotFound, match=r"no route in 'main' for 'GET a:80/x'$"):
        await router(bench.request(web(path="/x?secret=1")))
    with pytest.raises(RouteNotFound, match=r"'com.example.Hello.say'"):
        await router(bench.request(RequestHead(service="com.example.Hello", method="say")))
    with pytest.raises(RouteNotFound, match=r"'http1'"):
        await router(bench.request(RequestHead(service="", method="")))


async def test_an_unknown_cluster_is_the_streams_error(bench: Bench) -> None:
    with pytest.raises(ClusterNotFound, match="names cluster 'gone'"):
        await bench.router(RouteConfig(cluster="gone"))(bench.request(web()))
    with pytest.raises(ClusterNotFound, match="names cluster 'gone'"):
        await bench.router(RouteConfig(cluster={"gone": 1}), values=iter([0]))(bench.request(web()))


async def test_connect_passes_only_where_a_route_allows_it(bench: Bench) -> None:
    with pytest.raises(Unsupported, match="'CONNECT a:80' is not allowed here"):
        await bench.router(RouteConfig(cluster="a"))(bench.request(web("CONNECT", "")))
    await bench.router(RouteConfig(cluster="a", allow_connect=True))(
        bench.request(web("CONNECT", ""))
    )
    # An RPC method may have that name.
    rpc = RequestHead(service="s", method="CONNECT")
    await bench.router(RouteConfig(cluster="a"))(bench.request(rpc))
    assert len(bench.a.requests) == 2


def wish(*, only: bool = False) -> RequestHead:
    return attrs.evolve(
        web(), extra=Target(path="/chat", upgrade="websocket", upgrade_only=only, version="1.1")
    )


@pytest.mark.parametrize("whole", [True, False])
async def test_an_upgrade_passes_only_where_a_route_names_it(bench: Bench, whole: bool) -> None:
    for allowed in (("websocket",), ("other", "WebSocket")):
        request = bench.request(wish())
        request.body = body = BytesBody() if whole else Pieces()
        await bench.router(RouteConfig(cluster="a", allow_upgrade=allowed))(request)
        assert bench.a.requests[-1].head.extra.upgrade == "websocket"
        assert bench.a.requests[-1].body is body
    assert not bench.stream.deadlines  # the route's time is for the grant alone


@pytest.mark.parametrize("whole", [True, False])
async def test_an_upgrade_that_no_route_names_is_passed_over(bench: Bench, whole: bool) -> None:
    for allowed in ((), ("other",)):
        request = bench.request(wish())
        request.body = BytesBody() if whole else Pieces()
        await bench.router(RouteConfig(cluster="a", allow_upgrade=allowed))(request)
        sent = bench.a.requests[-1]
        assert sent.head == attrs.evolve(request.head, extra=Target(path="/chat", version="1.1"))
        assert isinstance(sent.body, BytesBody)
    assert bench.stream.deadlines == [115.0, 115.0]


async def test_a_request_that_is_nothing_without_its_upgrade_is_refused(bench: Bench) -> None:
    with pytest.raises(Unsupported, match="'GET a:80/chat' may not become 'websocket' here"):
        await bench.router(RouteConfig(cluster="a"))(bench.request(wish(only=True)))
    route = RouteConfig(cluster="a", allow_upgrade=("websocket",))
    await bench.router(route)(bench.request(wish(only=True)))
    assert len(bench.a.requests) == 1


async def test_a_grant_must_come_within_the_routes_timeout(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async def never(_request: Request) -> Response:
        await trio.sleep_forever()
        raise AssertionError

    route = RouteConfig(cluster="c", allow_upgrade=("websocket",), timeout=Duration(3.0))
    router = Router(RouteTable.build("main", [route]), {"c": never})
    now = trio.current_time()
    with pytest.raises(DeadlineExceeded, match="not granted within 3 s"):
        await router(bench.request(wish()))
    assert trio.current_time() == pytest.approx(now + 3)


@pytest.mark.parametrize(
    ("timeout", "deadline", "limits"),
    [
        (15.0, None, [115.0]),
        (0.0, None, []),
        (0.0, 2.0, [102.0]),
        (15.0, 2.0, [102.0, 115.0]),
        (15.0, -1.0, [100.0, 115.0]),
    ],
)
async def test_the_earlier_of_both_deadlines_limits_the_stream(
    bench: Bench, timeout: float, deadline: float | None, limits: list[float]
) -> None:
    router = bench.router(RouteConfig(cluster="a", timeout=Duration(timeout)))
    await router(bench.request(web(deadline=deadline)))
    assert bench.stream.deadlines == limits


@pytest.mark.parametrize(
    ("head", "timeout", "limits"),
    [
        (web(), None, [115.0]),
        (web(deadline=60.0), None, [160.0]),
        (web(deadline=60.0), 5.0, [160.0, 105.0]),
        (CALL, None, []),
        (CALL, 5.0, [105.0]),
        (attrs.evolve(CALL, deadline=60.0), None, [160.0]),
        (RequestHead(service="s", method="m"), None, [115.0]),
        (RequestHead(service="s", method="m", deadline=60.0), None, [160.0]),
    ],
)
async def test_the_default_time_is_for_requests_that_say_nothing(
    bench: Bench, head: RequestHead, timeout: float | None, limits: list[float]
) -> None:
    given = None if timeout is None else Duration(timeout)
    await bench.router(RouteConfig(cluster="a", timeout=given))(bench.request(head))
    assert bench.stream.deadlines == limits


@pytest.mark.parametrize(("method", "answered"), [("OPTIONS", True), ("GET", False)])
async def test_only_options_and_trace_count_their_forwards(
    bench: Bench, method: str, answered: bool
) -> None:
    head = web(method).adding((("max-forwards", "0"),))
    response = await bench.router(RouteConfig(cluster="a"))(bench.request(head))
    assert response.head.status is Status.OK
    assert bool(bench.a.requests) is not answered
    # An RPC method may have that name, and a header too.
    rpc = attrs.evolve(head, extra=None)
    await bench.router(RouteConfig(cluster="b"))(bench.request(rpc))
    assert bench.b.requests[0].head is rpc


async def test_a_forwarded_options_has_one_forward_less(bench: Bench) -> None:
    head = web("OPTIONS").adding((("max-forwards", "3"),))
    request = bench.request(head)
    await bench.router(RouteConfig(cluster="a"))(request)
    assert bench.a.requests[0].head.headers["max-forwards"] == "2"
    trace = web("TRACE").adding((("max-forwards", "0"),))
    with pytest.raises(Unsupported):
        await bench.router(RouteConfig(cluster="a"))(bench.request(trace))


class Pieces(ReceiveChannel[bytes | Trailers]):
    """A body that did not come whole."""

    def __init__(self) -> None:
        self.left: list[bytes | Trailers] = [b"1", b"2"]
        self.closed = False

    async def receive(self) -> bytes | Trailers:
        if not self.left:
            raise trio.EndOfChannel
        return self.left.pop(0)

    async def aclose(self) -> None:
        self.closed = True


async def test_a_streamed_request_has_the_routes_time_from_its_end(bench: Bench) -> None:
    request = bench.request(web())
    pieces = Pieces()
    request.body = pieces
    await bench.router(RouteConfig(cluster="a"))(request)
    body = bench.a.requests[0].body
    assert isinstance(body, TimedBody)
    assert [await body.receive(), await body.receive()] == [b"1", b"2"]
    assert bench.stream.deadlines == []
    with pytest.raises(trio.EndOfChannel):
        await body.receive()
    assert bench.stream.deadlines == [515.0]
    await body.aclose()
    assert pieces.closed


async def test_trailers_are_the_end_of_a_streamed_request(bench: Bench) -> None:
    # Who sends a body on need not look behind its trailers.
    request = bench.request(web())
    pieces = request.body = Pieces()
    pieces.left = [b"1", Trailers(1, NO_HEADERS)]
    await bench.router(RouteConfig(cluster="a"))(request)
    body = bench.a.requests[0].body
    await body.receive()
    assert bench.stream.deadlines == []
    assert isinstance(await body.receive(), Trailers)
    assert bench.stream.deadlines == [515.0]


async def test_a_stream_without_a_head_has_no_route_timeout(bench: Bench) -> None:
    bench.facts.traits = attrs.evolve(bench.facts.traits, headless=True)
    request = bench.request(RequestHead(service="", method=""))
    pieces = request.body = Pieces()
    await bench.router(RouteConfig(cluster="a"))(request)
    assert request.body is pieces
    assert bench.stream.deadlines == []


class Twice:
    """A filter that calls on twice, as a retry does."""

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        await (await call_next(request)).aclose()
        return await call_next(request)


async def test_the_weighted_choice_is_made_once_for_the_stream(bench: Bench) -> None:
    router = bench.router(
        RouteConfig(
            cluster={"a": 1, "b": 1}, filters=(FilterConfig(name="twice", options=Twice()),)
        ),
        values=iter([0, 1, 2]),
    )
    for _ in range(3):
        await router(bench.request(web()))
    assert (len(bench.a.requests), len(bench.b.requests)) == (4, 2)


class Answers:
    terminal = True

    def __init__(self, answer: bool) -> None:
        self.answer = answer

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        if self.answer:
            return local_response(ResponseHead(status=Status.OK))
        return await call_next(request)


async def test_a_route_without_cluster_is_answered_by_its_filter(bench: Bench) -> None:
    for answer in (True, False):
        filters = (FilterConfig(name="answers", options=Answers(answer)),)
        router = bench.router(RouteConfig(filters=filters))
        if answer:
            assert (await router(bench.request(web()))).head.status is Status.OK
        else:
            with pytest.raises(ClusterNotFound, match="none of its filters answered"):
                await router(bench.request(web()))
