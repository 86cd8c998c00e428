"""What leaves a serial connection in pieces and last, and how long a client may take for it."""

from __future__ import annotations

import re

import trio
from trio.testing import MockClock

from tests.connection.kit import Fed
from tests.connection.web import GET, OK, answering, head, response, timeouts
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.connection.serial.downstream import SerialDownstream
from xproxy.model.errors import RateLimited
from xproxy.model.limits import MIB
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request, Response
from xproxy.testing import END, play
from xproxy.testing.proxy import proxy_pair

REFUSED = re.compile(rb"HTTP/1\.1 505 (?s:.*)HTTP/1\.x\n")


async def test_a_client_that_takes_nothing_is_cut_off(autojump_clock: MockClock) -> None:
    handler = answering(BytesBody(bytes(4 * MIB)))
    async with proxy_pair(HTTP1, handler=handler, bounded=True, timeouts=timeouts(write=7)) as pair:
        await pair.client.send(GET)
        now = trio.current_time()
        await pair.ended.wait()
        assert trio.current_time() - now >= 7
        assert pair.stats.downstream_cx_write_timeout == 1


async def test_a_body_that_breaks_off_breaks_the_message(autojump_clock: MockClock) -> None:
    body = Fed(b"half")
    async with proxy_pair(HTTP1, handler=answering(body)) as pair:
        await pair.client.send(GET)
        await play(pair.client << head(200), pair.client << b"4\r\nhalf\r\n")
        body.end(RateLimited("enough"))
        await pair.client.expect(END)
        await pair.ended.wait()
        assert pair.stats.downstream_rq_reset == 1
        assert pair.requests[0].record.detail == "enough"


async def test_interim_answers_go_before_the_answer(autojump_clock: MockClock) -> None:
    async def handler(request: Request) -> Response:
        await request.stream.send_interim(ResponseHead(status=Status.OK, native_status=103))
        return Response(OK, BytesBody(b"ok"))

    async with proxy_pair(HTTP1, handler=handler) as pair:
        await play(pair.client >> GET, pair.client << head(103), pair.client << response(200))


async def test_what_a_refused_client_still_sends_is_read_for_a_while(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(HTTP1, timeouts=timeouts(linger=2)) as pair:
        await pair.client.send(b"GET / HTTP/9.9\r\n\r\n")
        await play(pair.client << REFUSED, pair.client << END)
        await pair.client.send(bytes(1000))
        now = trio.current_time()
        await pair.ended.wait()
        assert trio.current_time() - now <= 2
        assert pair.stats.downstream_cx_protocol_error == 1


async def test_an_answer_goes_behind_what_has_not_gone(autojump_clock: MockClock) -> None:
    async def late(request: Request) -> Response:
        assert isinstance(pair.driver, SerialDownstream)
        pair.driver.wire.rest = memoryview(
            b"<the rest>"
        )  # of an interim response that was given up
        return Response(ResponseHead(status=Status.OK), BytesBody(b"ok"))

    async with proxy_pair(HTTP1, handler=late) as pair:
        await pair.client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        got = b""
        while not got.endswith(b"ok"):
            got += await pair.client.stream.receive_some()
        assert got.startswith(b"<the rest>HTTP/1.1 200 OK\r\n")
