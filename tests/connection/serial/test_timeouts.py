"""Timeouts and deadlines of a serial connection, each by its name."""

from __future__ import annotations

import re

import pytest
import trio
from trio.testing import MockClock

from tests.connection.kit import Fed
from tests.connection.web import (
    GET,
    OK,
    OK_2,
    POST_10,
    REQUEST_HEAD,
    answering,
    broken_message,
    limited,
    ok,
    response,
    timeouts,
)
from tests.transport.ends import HERE, THERE, polling, tcp_pair
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.connection.serial.downstream import SerialDownstream
from xproxy.connection.service import DownstreamStats, FilterChain, Service
from xproxy.model.limits import DEFAULT_LIMITS, KIB, MIB
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request, Response
from xproxy.testing import END, NOTHING, play
from xproxy.testing.proxy import facts_of, proxy_pair
from xproxy.transport.timers import Timers


async def test_an_idle_connection_is_closed(autojump_clock: MockClock) -> None:
    async with proxy_pair(HTTP1, handler=ok, timeouts=timeouts(idle=60)) as pair:
        await play(pair.client >> GET, pair.client << response(200))
        last = trio.current_time()
        await pair.client.raw.receive_some()
        assert trio.current_time() - last == pytest.approx(60)
        assert pair.stats.downstream_cx_idle_timeout == 1


async def test_an_idle_time_of_zero_is_for_ever(autojump_clock: MockClock) -> None:
    async with proxy_pair(HTTP1, handler=ok, timeouts=timeouts(idle=0)) as pair:
        await play(pair.client >> GET, pair.client << response(200))
        await trio.sleep(80_000)
        await play(pair.client >> GET, pair.client << response(200))


async def test_a_head_that_does_not_come_to_its_end_is_answered_408(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(HTTP1, handler=ok, timeouts=timeouts(head=10)) as pair:
        started = trio.current_time()
        for byte in GET[:8]:  # slowly, but never silent for long
            await pair.client.send(bytes([byte]))
            await trio.sleep(1)
        await pair.client.expect(response(408))
        assert trio.current_time() - started == pytest.approx(10)
        await pair.client.expect(END)
        assert pair.stats.downstream_cx_head_timeout == 1
        assert pair.requests == []


async def test_the_head_of_a_second_request_has_its_own_time(autojump_clock: MockClock) -> None:
    async with proxy_pair(HTTP1, handler=ok, timeouts=timeouts(head=10, idle=100)) as pair:
        await play(pair.client >> GET, pair.client << response(200))
        await trio.sleep(50)
        started = trio.current_time()
        await pair.client.send(GET[:9])
        await pair.client.expect(NOTHING)
        await trio.sleep(5)
        assert not pair.ended.is_set()
        pair.client.timeout = 20
        await pair.client.expect(response(408))
        assert trio.current_time() - started == pytest.approx(10)


async def test_half_a_head_behind_a_whole_request_has_its_time_too(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(HTTP1, handler=ok, timeouts=timeouts(head=10)) as pair:
        pair.client.timeout = 20
        await pair.client.send(GET + GET[:9])
        await pair.client.expect(response(200))
        started = trio.current_time()
        await pair.client.expect(response(408))
        assert trio.current_time() - started == pytest.approx(10)


@pytest.mark.parametrize("size", [3, 16 * KIB, 64 * KIB])
async def test_a_body_that_stalls_is_answered_408(size: int, autojump_clock: MockClock) -> None:
    async with proxy_pair(HTTP1, timeouts=timeouts(body=20)) as pair:
        pair.client.timeout = 30
        await pair.client.send(
            b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n" + bytes(size)
        )
        upstream = await pair.accept()
        started = trio.current_time()
        await pair.client.expect(response(408))
        assert trio.current_time() - started == pytest.approx(20)
        await pair.client.expect(END)
        # The upstream is told that there will be no more.
        await upstream.expect(REQUEST_HEAD)
        upstream.received.clear()
        while await upstream.raw.receive_some():
            pass


async def test_a_body_that_stalls_where_a_read_was_full_is_answered_408() -> None:
    # After a full read nobody knows whether there is more; that must not switch the timeout off.
    async def read(request: Request) -> Response:
        while True:
            await request.body.receive()

    async with polling() as poller:
        ours, theirs = tcp_pair()
        service = Service(read, timeouts(body=0.05, stream_idle=0, linger=0.01), MIB, 1, MIB)
        timers = Timers()
        driver = SerialDownstream(
            poller.add(ours, THERE, HERE),
            HTTP1.open(Role.SERVER, DEFAULT_LIMITS),
            facts_of("http1", HTTP1.traits),
            FilterChain("test", service, DownstreamStats()),
            timers,
        )
        head_ = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n"
        theirs.sendall(head_.ljust(16 * KIB, b"x"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(timers.run)
            await driver.run(b"")
            nursery.cancel_scope.cancel()
        assert theirs.recv(100).startswith(b"HTTP/1.1 408 ")
        theirs.close()


async def test_a_body_that_is_slow_but_moves_is_waited_for(autojump_clock: MockClock) -> None:
    async with proxy_pair(HTTP1, timeouts=timeouts(body=20, stream_idle=30)) as pair:
        pair.client.timeout = 1000
        await pair.client.send(POST_10)
        upstream = await pair.accept()
        for byte in b"0123456789":
            await trio.sleep(19)
            await pair.client.send(bytes([byte]))
        await upstream.expect(REQUEST_HEAD)
        await upstream.expect(b"0123456789")
        await upstream.send(OK_2)
        await pair.client.expect(response(200))


async def test_a_client_that_does_not_read_is_given_up(autojump_clock: MockClock) -> None:
    async def large(_request: Request) -> Response:
        return Response(OK, BytesBody(bytes(MIB)))

    async with proxy_pair(HTTP1, handler=large, bounded=True, timeouts=timeouts(write=15)) as pair:
        await pair.client.send(GET)
        started = trio.current_time()
        await pair.ended.wait()
        assert trio.current_time() - started == pytest.approx(15)
        assert pair.stats.downstream_cx_write_timeout == 1


async def test_a_client_that_reads_slowly_is_not_given_up(autojump_clock: MockClock) -> None:
    async def large(_request: Request) -> Response:
        return Response(OK, BytesBody(bytes(MIB)))

    limits = timeouts(write=15, stream_idle=20)
    async with proxy_pair(HTTP1, handler=large, bounded=True, timeouts=limits) as pair:
        await pair.client.send(GET)
        size = 0
        while size < MIB:
            await trio.sleep(10)
            size += len(await pair.client.raw.receive_some(64 * KIB))


async def test_a_stream_on_which_nothing_moves_is_answered_504(autojump_clock: MockClock) -> None:
    async with proxy_pair(HTTP1, timeouts=timeouts(stream_idle=30)) as pair:
        pair.client.timeout = 60
        await pair.client.send(GET)
        upstream = await pair.accept()
        started = trio.current_time()
        await pair.client.expect(response(504))
        assert trio.current_time() - started == pytest.approx(30)
        assert pair.requests[0].record.flags == "SI"
        assert pair.stats.downstream_rq_timeout == 1
        await upstream.expect(REQUEST_HEAD)
        await upstream.expect(END)


async def test_a_response_that_stalls_is_broken_off(autojump_clock: MockClock) -> None:
    body = Fed()
    limits = timeouts(stream_idle=30)
    async with proxy_pair(HTTP1, handler=answering(body), timeouts=limits) as pair:
        await pair.client.send(GET)
        body.feed(b"half")
        assert await broken_message(pair) == b"4\r\nhalf\r\n"
        assert pair.stats.downstream_rq_reset == 1


async def test_a_deadline_is_answered_504_and_keep_alive_goes_on(autojump_clock: MockClock) -> None:
    async def wait(request: Request) -> Response:
        if pair.stats.downstream_rq_total < 3:
            await trio.sleep_forever()
        return await ok(request)

    async with proxy_pair(HTTP1, handler=limited(3, wait)) as pair:
        for _ in range(2):
            started = trio.current_time()
            await play(pair.client >> GET, pair.client << response(504))
            assert trio.current_time() - started == pytest.approx(3)
        assert pair.requests[0].record.flags == "UT"
        await play(pair.client >> GET, pair.client << response(200))
        await pair.client.expect(NOTHING)
        assert not pair.ended.is_set()


async def test_pipelined_requests_survive_the_deadline_of_the_first(
    autojump_clock: MockClock,
) -> None:
    async def wait(request: Request) -> Response:
        if pair.stats.downstream_rq_total == 1:
            await trio.sleep_forever()
        return await ok(request)

    async with proxy_pair(HTTP1, handler=limited(3, wait)) as pair:
        await play(
            pair.client >> GET + GET,
            pair.client << re.compile(rb"HTTP/1\.1 504 (?s:.*?)\r\n\r\n[^H]*"),
            pair.client << response(200),
        )


async def test_the_earliest_deadline_counts(autojump_clock: MockClock) -> None:
    async def twice(request: Request) -> Response:
        request.stream.limit(request.started + 5)
        request.stream.limit(request.started + 2)
        request.stream.limit(request.started + 9)
        await trio.sleep_forever()
        raise AssertionError

    async with proxy_pair(HTTP1, handler=twice) as pair:
        await play(pair.client >> GET, pair.client << response(504))
        assert trio.current_time() == pytest.approx(2)


async def test_movement_does_not_move_the_deadline(autojump_clock: MockClock) -> None:
    body = Fed()

    async def drip() -> None:
        while True:
            await trio.sleep(1)
            body.feed(b"x")

    async with proxy_pair(HTTP1, handler=limited(7.5, answering(body))) as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            await pair.client.send(GET)
            assert await broken_message(pair) == b"1\r\nx\r\n" * 7
            nursery.cancel_scope.cancel()
        assert trio.current_time() == pytest.approx(7.5)


@pytest.mark.parametrize("requests", [GET, GET + GET])
async def test_a_deadline_at_the_very_end_of_a_stream_hits_no_other(
    requests: bytes, autojump_clock: MockClock
) -> None:
    # The handler is let go in the tick in which its time has come, now before that is seen and now after: then its
    # answer is written under a scope that has been cancelled already.
    async def let_go(event: trio.Event, when: float) -> None:
        await trio.sleep_until(when)
        event.set()

    async def at_the_last_moment(request: Request) -> Response:
        request.stream.limit(request.started + 1)
        event = trio.Event()
        nursery.start_soon(let_go, event, request.started + 1)
        await event.wait()
        return await ok(request)

    async with (
        trio.open_nursery() as nursery,
        proxy_pair(HTTP1, handler=at_the_last_moment) as pair,
    ):
        answers = re.compile(
            rb"(HTTP/1\.1 (200|504) (?s:.*?)\r\n\r\n(?:(?!HTTP/1)[^\r])*){%d}"
            % requests.count(b"GET")
        )
        for _ in range(30):
            await pair.client.send(requests)
            await pair.client.expect(answers)
        await pair.client.expect(NOTHING)
        assert not pair.ended.is_set()
        statuses = pair.stats.statuses
        assert set(statuses) == {Status.OK, Status.DEADLINE_EXCEEDED}
        assert sum(statuses.values()) == pair.stats.downstream_rq_total
        assert pair.stats.downstream_rq_timeout == statuses[Status.DEADLINE_EXCEEDED]
        assert {request.record.flags for request in pair.requests} == {"", "UT"}
        assert pair.stats.downstream_cx_idle_timeout == 0


async def test_a_request_at_the_very_end_of_the_idle_time_is_served_or_never_read(
    autojump_clock: MockClock,
) -> None:
    for _ in range(30):
        async with proxy_pair(HTTP1, handler=ok, timeouts=timeouts(idle=1)) as pair:
            await trio.sleep(1)
            try:
                await pair.client.send(GET)
                got = await pair.client.raw.receive_some()
            except trio.BrokenResourceError:
                got = b""
            assert bool(got) == (pair.stats.downstream_rq_total == 1)
            assert bool(got) != (pair.stats.downstream_cx_idle_timeout == 1)
