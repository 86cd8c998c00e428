"""Clients of shared connections that say nothing: idle, and in the middle of a message."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.connection.rpc import ASK, OK, question, reply, timeouts
from xproxy.codecs.bolt.plugin import PLUGIN as BOLT
from xproxy.model.frames import Head
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.traits import Role
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request, Response
from xproxy.testing import END, play
from xproxy.testing.fakes import LINES
from xproxy.testing.proxy import proxy_pair


async def slow(request: Request) -> Response:
    await trio.sleep(1000)
    return Response(OK, BytesBody())


async def ok(request: Request) -> Response:
    return Response(OK, BytesBody())


async def test_a_connection_with_nothing_in_flight_is_closed(autojump_clock: MockClock) -> None:
    async with proxy_pair(LINES, handler=ok, timeouts=timeouts(idle=60)) as pair:
        for _ in range(3):
            await trio.sleep(59)
            await play(pair.client >> question(1), pair.client << reply(1))
        last = trio.current_time()
        pair.client.timeout = 100
        await pair.client.expect(b"~g\n")
        assert trio.current_time() - last == pytest.approx(60)
        await pair.client.expect(END)
        assert pair.stats.downstream_cx_idle_timeout == 1


async def test_a_client_that_never_says_a_word_is_closed(autojump_clock: MockClock) -> None:
    async with proxy_pair(LINES, handler=ok, timeouts=timeouts(idle=60)) as pair:
        await pair.client.raw.receive_some()
        assert trio.current_time() == pytest.approx(60)
        await pair.ended.wait()


async def test_waiting_for_an_answer_is_not_silence(autojump_clock: MockClock) -> None:
    async with proxy_pair(LINES, handler=slow, timeouts=timeouts(idle=60, stream_idle=0)) as pair:
        pair.client.timeout = 2000
        await play(pair.client >> question(1), pair.client << reply(1))
        assert trio.current_time() == pytest.approx(1000)
        pair.client.timeout = 100
        await play(pair.client << b"~g\n", pair.client << END)
        # From the answer at most another time and a bit, depending on when it looks.
        assert 1000 < trio.current_time() <= 1120


@pytest.mark.parametrize("first", [b"", b"~q 1"])
async def test_half_a_message_is_closed_sooner(first: bytes, autojump_clock: MockClock) -> None:
    limits = timeouts(idle=3600, body=20)
    async with proxy_pair(LINES, handler=ok, timeouts=limits, first=first) as pair:
        if not first:
            await trio.sleep(100)
            await pair.client.send(b"~q 1")
        started = trio.current_time()
        await pair.ended.wait()
        assert trio.current_time() - started == pytest.approx(20)
        assert pair.stats.downstream_cx_head_timeout == 1


async def test_a_message_that_grows_slowly_is_waited_for(autojump_clock: MockClock) -> None:
    async with proxy_pair(LINES, handler=ok, timeouts=timeouts(idle=3600, body=20)) as pair:
        for byte in question(1):
            await trio.sleep(19)
            await pair.client.send(bytes([byte]))
        await pair.client.expect(reply(1))
        # And after it the time of an idle connection counts again.
        await trio.sleep(1000)
        assert not pair.ended.is_set()


async def test_zero_is_for_ever(autojump_clock: MockClock) -> None:
    async with proxy_pair(LINES, handler=ok, timeouts=timeouts(idle=0, body=0)) as pair:
        await pair.client.send(question(1)[:3])
        await trio.sleep(80_000)
        await pair.client.send(question(1)[3:])
        await pair.client.expect(reply(1))


async def test_half_a_message_behind_a_whole_one_is_closed_sooner_too(
    autojump_clock: MockClock,
) -> None:
    codec = BOLT.open(Role.CLIENT, DEFAULT_LIMITS)
    whole = codec.send(Head(1, ASK, b"x", True))
    async with proxy_pair(BOLT, handler=ok, timeouts=timeouts(idle=3600, body=20)) as pair:
        await pair.client.send(whole + whole[:-1])
        assert await pair.client.raw.receive_some()
        started = trio.current_time()
        assert await pair.client.raw.receive_some() == b""
        assert trio.current_time() - started == pytest.approx(20)
        assert pair.stats.downstream_cx_head_timeout == 1
