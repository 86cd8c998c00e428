"""Request bodies read as they are forwarded, and what goes into a tunnel."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.codecs.http1.driving import response
from tests.connection.kit import memory_stream
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.connection.serial.request_body import RequestBody, TunnelBody
from xproxy.connection.serial.wire import SerialWire
from xproxy.model.errors import RequestTimeout
from xproxy.model.frames import Head
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.traits import Role

CONNECT = b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"


class Owner:
    """A connection that notes when its bodies move."""

    def __init__(self, side: SerialWire, patience: float) -> None:
        self.wire = side
        self.patience = patience
        self.touched = 0

    def touch(self) -> None:
        self.touched += 1


async def test_a_piece_that_is_late_is_an_error(autojump_clock: MockClock) -> None:
    async with memory_stream() as (stream, peer):
        side = SerialWire(stream, HTTP1.open(Role.SERVER, DEFAULT_LIMITS))
        side.codec.receive(POST)
        owner = Owner(side, 3.0)
        body = RequestBody(owner, b"first")
        assert await body.receive() == b"first"
        await peer.send(b"1234")
        assert await body.receive() == b"1234"
        assert owner.touched == 1
        with pytest.raises(RequestTimeout, match="for 3 s"):
            await body.receive()


async def test_what_is_here_is_not_waited_for_and_silence_may_be_allowed(
    autojump_clock: MockClock,
) -> None:
    async with memory_stream() as (stream, peer):
        side = SerialWire(stream, HTTP1.open(Role.SERVER, DEFAULT_LIMITS))
        side.codec.receive(POST)
        side.inbox.extend(side.codec.receive(b"here"))
        body = RequestBody(Owner(side, math.inf), b"")
        assert await body.receive() == b"here"

        async def much_later() -> None:
            await trio.sleep(10_000)
            await peer.send(b"there")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(much_later)
            assert await body.receive() == b"there"


async def test_nothing_goes_into_a_tunnel_before_it_is_open(autojump_clock: MockClock) -> None:
    async with memory_stream() as (stream, peer):
        side = SerialWire(stream, HTTP1.open(Role.SERVER, DEFAULT_LIMITS))
        side.codec.receive(CONNECT + b"early")
        body = TunnelBody(Owner(side, math.inf), b"")
        got: list[object] = []

        async def read() -> None:
            while True:
                got.append(await body.receive())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await peer.send(b" bird")
            await wait_all_tasks_blocked()
            assert not got
            side.codec.send(Head(1, response(200)))
            body.open()
            body.open()
            await wait_all_tasks_blocked()
            assert got == [b"early", b" bird"]
            nursery.cancel_scope.cancel()
