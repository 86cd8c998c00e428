"""How a serial connection ends: drained, cancelled, with all that is bound to it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.kit import Fed
from tests.connection.web import (
    GET,
    POST_10,
    Holding,
    answering,
    ok,
    response,
)
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.model.errors import Unsupported
from xproxy.model.limits import MIB
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Closable, Handler, Request, Response
from xproxy.testing import END, play
from xproxy.testing.proxy import ProxyPair, proxy_pair
from xproxy.transport.trio_stream import TrioStream

# ---- drain


async def test_draining_closes_an_idle_connection_soon(autojump_clock: MockClock) -> None:
    async with proxy_pair(HTTP1, handler=ok) as pair:
        await play(pair.client >> GET, pair.client << response(200))
        now = trio.current_time()
        pair.driver.drain()
        await pair.client.expect(END)
        assert trio.current_time() == now + 1  # timeouts.linger
        assert pair.stats.downstream_cx_idle_timeout == 0
        assert pair.stats.downstream_cx_destroy_remote == 0


async def test_a_request_on_its_way_when_the_drain_begins_is_still_answered(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(HTTP1, handler=ok) as pair:
        await play(pair.client >> GET, pair.client << response(200))
        pair.driver.drain()
        await trio.sleep(0.9)
        await pair.client.send(GET)
        await pair.client.expect(
            re.compile(rb"HTTP/1\.1 200 OK\r\n(?s:.*?)connection: close(?s:.*?)ok", re.IGNORECASE)
        )
        await pair.client.expect(END)


async def test_draining_lets_the_stream_in_flight_finish_and_says_so(
    autojump_clock: MockClock,
) -> None:
    holding = Holding()
    async with proxy_pair(HTTP1, handler=holding) as pair:
        await pair.client.send(GET)
        await wait_all_tasks_blocked()
        pair.driver.drain()
        await trio.sleep(5)
        holding.go.set()
        await pair.client.expect(
            re.compile(rb"HTTP/1\.1 200 OK\r\n(?s:.*?)connection: close(?s:.*?)ok", re.IGNORECASE)
        )
        await pair.client.expect(END)


async def test_draining_waits_for_a_head_that_has_begun(autojump_clock: MockClock) -> None:
    async with proxy_pair(HTTP1, handler=ok) as pair:
        await pair.client.send(GET[:7])
        await wait_all_tasks_blocked()
        pair.driver.drain()
        await trio.sleep(1)
        await pair.client.send(GET[7:12])
        await trio.sleep(1)
        await pair.client.send(GET[12:])
        await pair.client.expect(response(200))
        await pair.client.expect(END)


async def test_a_request_that_comes_at_the_moment_of_the_drain_is_answered(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(HTTP1, handler=ok) as pair:
        await play(pair.client >> GET, pair.client << response(200))
        # The driver has been woken with the bytes, and has not yet run.
        send = pair.client.raw.send_all
        await send(GET)
        for _ in range(2):
            await trio.lowlevel.checkpoint()
        pair.driver.drain()
        got = b""
        while piece := await pair.client.raw.receive_some():
            got += piece
        assert (b"200 OK" in got) == (pair.stats.downstream_rq_total == 2)


async def test_a_drain_before_the_first_request_serves_what_has_come(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(HTTP1, handler=ok, first=GET) as pair:
        pair.driver.drain()
        await pair.client.expect(response(200))
        await pair.client.expect(END)


# ---- what is bound to the connection


class Bound(Closable):
    closed = 0

    def close_soon(self) -> None:
        self.closed += 1


async def test_what_is_bound_ends_with_the_connection(autojump_clock: MockClock) -> None:
    bound, other = Bound(), Bound()
    async with proxy_pair(HTTP1, handler=ok) as pair:
        pair.driver.bind("key", bound)
        pair.driver.bind("other", other)
        assert pair.driver.bound("key") is bound
        pair.driver.unbind("other")
        assert pair.driver.bound("other") is None
        await pair.client.aclose()
        await pair.ended.wait()
        assert (bound.closed, other.closed) == (1, 0)
        assert pair.driver.facts.downstream is None


async def test_http_has_no_requests_to_the_client(autojump_clock: MockClock) -> None:
    async def call_back(request: Request) -> Response:
        assert request.connection.downstream is not None
        return await request.connection.downstream.call(request)

    async with proxy_pair(HTTP1, handler=call_back) as pair:
        await play(pair.client >> GET, pair.client << response(501))
        with pytest.raises(Unsupported):
            await pair.driver.call(pair.requests[0])


# ---- cancellation


async def cancelled_in(request_: bytes, handler: Handler | None, *, bounded: bool) -> ProxyPair:
    async with proxy_pair(HTTP1, handler=handler, bounded=bounded) as pair:
        await pair.client.send(request_)
        await wait_all_tasks_blocked()
        assert pair.stats.downstream_rq_total == 1
    return pair  # and proxy_pair has cancelled it, and checked the counters


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize(
    "where",
    ["handler", "upstream head", "response body", "response write", "request body", "upload"],
)
async def test_cancelling_anywhere_leaves_nothing_counted_or_open(
    where: str, bounded: bool, autojump_clock: MockClock
) -> None:
    if where == "response write" and not bounded:
        return  # memory takes everything
    stuck: dict[str, tuple[bytes, Callable[[], Handler | None]]] = {
        "handler": (GET, Holding),
        "upstream head": (GET, lambda: None),
        "response body": (GET, lambda: answering(Fed())),
        "response write": (GET, lambda: answering(BytesBody(bytes(MIB)))),
        "request body": (POST_10, lambda: _read_on),
        "upload": (POST_10 + b"abc", lambda: None),
    }
    request_, make = stuck[where]
    pair = await cancelled_in(request_, make(), bounded=bounded)
    assert pair.ended.is_set()
    assert pair.stats.downstream_rq_active == 0
    assert isinstance(pair.stream, TrioStream)
    with pytest.raises(trio.ClosedResourceError):
        await pair.stream.read()
    assert pair.connector.idle == []
    while pair.connector.opened.statistics().current_buffer_used:
        upstream = await pair.accept()
        while await upstream.raw.receive_some():
            pass


async def _read_on(request: Request) -> Response:
    while True:
        await request.body.receive()
