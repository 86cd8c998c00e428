"""What keeps an exchange where it is, by name. How one moves is seen between two proxies (tests/proxy)."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.web import GET, OK, Holding
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.codecs.opaque.plugin import PLUGIN as OPAQUE
from xproxy.connection.serial.downstream import SerialDownstream
from xproxy.connection.standing import Standing
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Handler, Request, Response
from xproxy.stream.links import Stays
from xproxy.stream.wrapped import WrappedBody
from xproxy.testing import play
from xproxy.testing.proxy import ProxyPair, proxy_pair

BEGUN = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart"


def driver(pair: ProxyPair) -> SerialDownstream:
    assert isinstance(pair.driver, SerialDownstream)
    return pair.driver


class Odd(WrappedBody):
    """A body of somebody's who has never heard of moving."""


async def odd(request: Request, call_next: Handler) -> Response:
    response = await call_next(request)
    response.body = Odd(response.body)
    return response


async def test_a_request_whose_answer_has_not_begun_stays(autojump_clock: MockClock) -> None:
    holding = Holding()
    async with proxy_pair(HTTP1, handler=holding) as pair:
        await pair.client.send(GET)
        await wait_all_tasks_blocked()
        assert driver(pair).standing is Standing.BUSY
        assert "being answered" in driver(pair).why
        holding.go.set()
        await wait_all_tasks_blocked()
        assert driver(pair).why == ""


async def test_an_answer_of_the_proxys_own_stays(autojump_clock: MockClock) -> None:
    class Slow(WrappedBody):
        async def receive(self) -> bytes:
            await trio.sleep_forever()
            raise AssertionError

    async def handle(_request: Request) -> Response:
        return Response(OK, Slow(BytesBody()))

    async with proxy_pair(HTTP1, handler=handle) as pair:
        await pair.client.send(GET)
        await wait_all_tasks_blocked()
        assert driver(pair).standing is Standing.BUSY
        assert driver(pair).why == "a response of the proxy's own"


async def test_whose_lease_cannot_say_what_it_is_stays(autojump_clock: MockClock) -> None:
    # That of the kit's upstream cannot.
    async with proxy_pair(HTTP1, filters=[odd]) as pair:
        await pair.client.send(GET)
        upstream = await pair.accept()
        await upstream.send(BEGUN)
        await pair.client.expect(BEGUN)
        await wait_all_tasks_blocked()
        assert driver(pair).standing is Standing.BUSY
        assert "cannot say what it is" in driver(pair).why
        with pytest.raises(Stays):
            driver(pair).freeze()
        await play(upstream >> b"whole", pair.client << b"whole")
        assert driver(pair).standing is not Standing.FLOWING


async def test_one_that_is_ending_never_moves(autojump_clock: MockClock) -> None:
    async with proxy_pair(OPAQUE) as pair:
        await pair.client.send(b"x")
        await (await pair.accept()).expect(b"x")
        driver(pair).drain()
        await wait_all_tasks_blocked()
        assert driver(pair).standing is Standing.NEVER
