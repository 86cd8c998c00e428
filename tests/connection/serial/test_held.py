"""What a serial connection has read is somebody's, until it has gone: heads, halves of messages, pieces of bodies."""

from __future__ import annotations

import re

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.web import ok, response
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.stream.exchange import Request, Response
from xproxy.stream.held import COUNTED
from xproxy.testing.proxy import proxy_pair

HALF = b"GET / HTTP/1.1\r\nHost: a\r\nx: " + b"v" * 3 * COUNTED
PIECE = b"p" * 2 * COUNTED
OVERLOAD = re.compile(rb"HTTP/1\.1 503 (?s:.*?)\r\n\r\n")


async def test_half_a_head_is_counted_until_it_is_whole(autojump_clock: MockClock) -> None:
    async with proxy_pair(HTTP1, handler=ok) as pair:
        share = pair.driver.facts.share
        for begun in range(1, 3):
            await pair.client.send(HALF[: len(HALF) // 2])
            await wait_all_tasks_blocked()
            assert share.held == share.unfinished == len(HALF) // 2
            await pair.client.send(HALF[len(HALF) // 2 :])
            await wait_all_tasks_blocked()
            assert share.held == share.unfinished == len(HALF)
            await pair.client.send(b"\r\n\r\n")
            await pair.client.expect(response(200))
            await wait_all_tasks_blocked()
            assert share.held == share.unfinished == 0
            assert pair.stats.downstream_rq_total == begun


async def test_a_head_for_which_there_is_no_room_is_answered_with_overload(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(HTTP1, handler=ok) as pair:
        await pair.client.send(HALF)
        await wait_all_tasks_blocked()
        pair.driver.relieve()
        await pair.client.expect(OVERLOAD)
        await pair.ended.wait()
        assert pair.driver.facts.share.held == 0
        assert pair.stats.downstream_rq_refused == 1


async def test_a_piece_that_nobody_takes_is_counted(autojump_clock: MockClock) -> None:
    async def takes_one(request: Request) -> Response:
        assert await request.body.receive()
        await trio.sleep_forever()
        raise AssertionError

    async with proxy_pair(HTTP1, handler=takes_one) as pair:
        await pair.client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        await pair.client.send(PIECE)
        await wait_all_tasks_blocked()
        share = pair.driver.facts.share
        assert share.held >= len(PIECE)
        assert share.unfinished == 0
        pair.driver.relieve()
        await pair.client.expect(OVERLOAD)
        await pair.ended.wait()
        assert share.held == 0


async def test_half_an_answer_is_counted_for_its_client(autojump_clock: MockClock) -> None:
    async with proxy_pair(HTTP1) as pair:
        share = pair.driver.facts.share
        await pair.client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        upstream = await pair.accept()
        for more in (True, False):
            await upstream.expect(re.compile(rb"(?s:.*?)\r\n\r\n"))
            head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx: " + b"v" * 3 * COUNTED
            await upstream.send(head[: len(head) // 2])
            await wait_all_tasks_blocked()
            await upstream.send(head[len(head) // 2 :])
            await wait_all_tasks_blocked()
            assert share.held == share.unfinished == len(head)
            await upstream.send(b"\r\n\r\nok")
            await pair.client.expect(response(200))
            await wait_all_tasks_blocked()
            assert share.held == share.unfinished == 0
            if more:
                await pair.client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")


async def test_a_piece_of_an_answer_is_let_go_when_it_has_gone(autojump_clock: MockClock) -> None:
    async with proxy_pair(HTTP1) as pair:
        share = pair.driver.facts.share
        await pair.client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        upstream = await pair.accept()
        await upstream.expect(re.compile(rb"(?s:.*?)\r\n\r\n"))
        length = 2 * len(PIECE)
        await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + PIECE)
        await pair.client.expect(re.compile(rb"HTTP/1\.1 200 (?s:.*?)\r\n\r\np{%d}" % len(PIECE)))
        await wait_all_tasks_blocked()
        assert share.held == 0, "it has gone, and the next may take its time"
        await upstream.send(PIECE)
        await pair.client.expect(PIECE)
        await wait_all_tasks_blocked()
        assert share.held == 0
