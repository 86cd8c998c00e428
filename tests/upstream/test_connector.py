from __future__ import annotations

import socket

import attrs
import pytest
import trio

from tests.live import refusing_port, upstream
from xproxy.codecs.http1.plugin import PLUGIN
from xproxy.config.schema import ClusterConfig, EndpointConfig, KeepaliveConfig
from xproxy.model.address import Address
from xproxy.model.errors import ConnectFailed
from xproxy.model.limits import DEFAULT_LIMITS, Duration
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import ConnectionFacts, Request
from xproxy.transport.poller import Poller
from xproxy.transport.timers import Timers
from xproxy.upstream.breaker import Breaker
from xproxy.upstream.connector import Dialer
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.stats import ClusterStats
from xproxy.upstream.ticker import Ticker


def dialer(poller: Poller, endpoint: Endpoint, **fields: object) -> Dialer:
    config = ClusterConfig(endpoints=(EndpointConfig(address=endpoint.address),), **fields)  # type: ignore[arg-type]  # by the test
    stats = ClusterStats()
    breaker = Breaker(config.circuit_breakers, stats, "web")
    return Dialer(
        "web",
        config,
        PLUGIN,
        poller,
        Timers(),
        stats,
        breaker,
        DEFAULT_LIMITS,
        Ticker(),
        NoTick(),
    )


class NoTick:
    def tick(self, tick: int) -> int:
        return 0


class NoControl:
    deadline = float("inf")

    def limit(self, deadline: float) -> None: ...

    def touch(self) -> None: ...

    def interruption(self) -> None: ...

    def hold(self, count: int) -> None: ...

    def start_soon(self, work: object) -> bool:
        return False

    async def send_interim(self, head: ResponseHead) -> None: ...


def request() -> Request:
    facts = ConnectionFacts(
        id=1,
        listener="edge",
        protocol="http1",
        traits=PLUGIN.traits,
        peer=Address("192.0.2.7", 1234),
        local=Address("192.0.2.1", 80),
    )
    return Request(RequestHead(service="a", method="GET"), BytesBody(), facts, NoControl(), 0.0)


async def test_an_open_connection_is_counted_until_it_is_closed() -> None:
    poller = Poller()
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        endpoint = Endpoint(Address("127.0.0.1", up.port))
        opener = dialer(poller, endpoint)
        stream, _codec = await opener.open(endpoint, None)
        assert (opener.stats.upstream_cx_total, opener.stats.upstream_cx_active) == (1, 1)
        assert endpoint.connections == 1
        stream.close()
        opener.closed(endpoint)
        assert (opener.stats.upstream_cx_active, endpoint.connections, len(poller)) == (0, 0, 0)
        nursery.cancel_scope.cancel()
    poller.close()


async def test_a_refused_connection_is_counted_by_name_and_not_held() -> None:
    poller = Poller()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        endpoint = Endpoint(Address("127.0.0.1", refusing_port()))
        opener = dialer(poller, endpoint)
        with pytest.raises(ConnectFailed, match=rf"{endpoint.address}: Connection refused"):
            await opener.open(endpoint, None)
        assert opener.stats.upstream_cx_connect_fail == 1
        assert (opener.stats.upstream_cx_total, opener.stats.upstream_cx_active) == (0, 0)
        assert (endpoint.connections, len(poller)) == (0, 0)
        nursery.cancel_scope.cancel()
    poller.close()


def full_listener() -> tuple[socket.socket, list[socket.socket]]:
    """Return a listener whose queue is full, and what fills it: connecting to it hangs."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    filling = []
    for _ in range(3):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(listener.getsockname())
        filling.append(one)
    return listener, filling


@pytest.mark.parametrize("end", ["timeout", "cancel"])
async def test_a_dial_that_does_not_come_through_is_not_held(end: str) -> None:
    poller = Poller()
    listener, filling = full_listener()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        endpoint = Endpoint(Address("127.0.0.1", listener.getsockname()[1]))
        opener = dialer(poller, endpoint, connect_timeout=Duration(0.05 if end == "timeout" else 9))
        if end == "timeout":
            with pytest.raises(
                ConnectFailed, match=r"not connected within 0\.05 s \(connect_timeout\)"
            ):
                await opener.open(endpoint, None)
        else:
            with trio.move_on_after(0.05) as scope:
                await opener.open(endpoint, None)
            assert scope.cancelled_caught
        assert opener.stats.upstream_cx_connect_fail == (end == "timeout")
        assert (opener.stats.upstream_cx_active, endpoint.connections, len(poller)) == (0, 0, 0)
        nursery.cancel_scope.cancel()
    for one in (listener, *filling):
        one.close()
    poller.close()


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_the_proxy_header_comes_first(version: str) -> None:
    poller = Poller()
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        endpoint = Endpoint(Address("127.0.0.1", up.port))
        opener = dialer(poller, endpoint, proxy_protocol=version)
        stream, _codec = await opener.open(endpoint, request())
        server = await up.accept()
        begin = await server.receive_some()
        if version == "v1":
            assert begin == b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 80\r\n"
        else:
            assert begin.startswith(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c")
        stream.close()
        opener.closed(endpoint)
        nursery.cancel_scope.cancel()
    poller.close()


@pytest.mark.parametrize(("interval", "heartbeat"), [(2.0, (2.0, 1.0, 5)), (0.0, None)])
def test_an_interval_of_zero_is_no_heartbeat(
    interval: float, heartbeat: tuple[float, float, int] | None
) -> None:
    poller = Poller()
    opener = dialer(poller, Endpoint(Address("127.0.0.1", 1)))
    keepalive = KeepaliveConfig(interval=Duration(interval), max_misses=5)
    opener.config = attrs.evolve(opener.config, keepalive=keepalive)
    assert opener.heartbeat == heartbeat
    poller.close()
