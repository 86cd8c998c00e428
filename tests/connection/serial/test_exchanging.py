"""One stream of HTTP/1.1: bodies both ways, and what a handler or a body does wrong."""

from __future__ import annotations

import re

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.kit import Fed
from tests.connection.web import (
    GET,
    OK,
    OK_2,
    POST_10,
    POST_CHUNKED,
    REQUEST_HEAD,
    answering,
    broken_message,
    head,
    ok,
    response,
    timeouts,
)
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.model.errors import RateLimited, RequestBroken, StreamError
from xproxy.model.frames import Trailers
from xproxy.model.headers import Headers
from xproxy.model.limits import KIB, MIB
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Handler, Request, Response
from xproxy.testing import END, play
from xproxy.testing.proxy import proxy_pair

# ---- bodies


async def test_bodies_stream_both_ways_before_either_is_complete(autojump_clock: MockClock) -> None:
    async with proxy_pair(HTTP1) as pair:
        client = pair.client
        await client.send(POST_CHUNKED)
        upstream = await pair.accept()
        await upstream.expect(REQUEST_HEAD)
        await client.send(b"3\r\nabc\r\n")
        await upstream.expect(b"3\r\nabc\r\n")
        await upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        await client.expect(head(200))
        await client.expect(b"2\r\nhi\r\n")
        await client.send(b"1\r\nd\r\n")
        await upstream.expect(b"1\r\nd\r\n")
        await upstream.send(b"3\r\nyou\r\n")
        await client.expect(b"3\r\nyou\r\n")
        await client.send(b"0\r\nX-Sum: 7\r\n\r\n")
        await upstream.expect(b"0\r\nX-Sum: 7\r\n\r\n")
        await upstream.send(b"0\r\nX-End: 9\r\n\r\n")
        await client.expect(b"0\r\nX-End: 9\r\n\r\n")
        # Both connections live on.
        await client.send(GET)
        await upstream.expect(REQUEST_HEAD)
        await upstream.send(OK_2)
        await client.expect(response(200))
        assert pair.requests[0].record.received_bytes == 4
        assert pair.requests[0].record.sent_bytes == 5


async def test_a_client_that_does_not_read_stops_the_upstream(autojump_clock: MockClock) -> None:
    async with proxy_pair(HTTP1, bounded=True) as pair, trio.open_nursery() as nursery:
        await pair.client.send(GET)
        upstream = await pair.accept()
        await upstream.expect(REQUEST_HEAD)
        sent = 0

        async def send() -> None:
            nonlocal sent
            await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4194304\r\n\r\n")
            for _ in range(64):
                await upstream.send(bytes(64 * KIB))
                sent += 64 * KIB

        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        assert sent <= 512 * KIB
        got = await pair.client.expect(head(200))
        size = 0
        while size < 4 * MIB - len(pair.client.received):
            size += len(await pair.client.raw.receive_some())
        assert got
        assert sent == 4 * MIB


async def test_an_upstream_that_does_not_read_stops_the_client(autojump_clock: MockClock) -> None:
    async with proxy_pair(HTTP1, bounded=True) as pair, trio.open_nursery() as nursery:
        sent = 0

        async def send() -> None:
            nonlocal sent
            await pair.client.send(
                b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4194304\r\n\r\n"
            )
            for _ in range(64):
                await pair.client.send(bytes(64 * KIB))
                sent += 64 * KIB

        nursery.start_soon(send)
        upstream = await pair.accept()
        await wait_all_tasks_blocked()
        assert sent <= 512 * KIB
        await upstream.expect(REQUEST_HEAD)
        size = len(upstream.received)
        while size < 4 * MIB:
            size += len(await upstream.raw.receive_some())
        await upstream.send(OK_2)
        await pair.client.expect(response(200))
        assert sent == 4 * MIB


async def test_an_answer_before_the_body_ended_is_sent_and_the_connection_closed(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(HTTP1) as pair:
        await pair.client.send(POST_10 + b"abc")
        upstream = await pair.accept()
        await upstream.expect(REQUEST_HEAD)
        await upstream.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        await pair.client.expect(head(403))
        await pair.client.expect(b"no")
        # What it sends of the rest is read and dropped for a while, so that the answer is not lost.
        await pair.client.send(b"defg")
        await pair.client.expect(END)
        await pair.ended.wait()
        assert pair.connector.idle == []


async def test_after_a_refusal_input_is_read_for_a_while_so_that_it_is_not_lost(
    autojump_clock: MockClock,
) -> None:
    # Bytes unread when a socket closes become a reset, which can overtake the answer.
    async with proxy_pair(HTTP1, handler=ok, timeouts=timeouts(linger=3)) as pair:
        await play(
            pair.client >> b"BAD\r\n\r\n",
            pair.client << response(400),
            pair.client << END,
        )
        started = trio.current_time()
        assert not pair.ended.is_set()
        await pair.client.send(bytes(200_000))
        await pair.ended.wait()
        assert trio.current_time() - started == pytest.approx(3)


async def test_a_handler_that_does_not_read_the_body_answers_at_once(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(HTTP1, handler=ok) as pair:
        await play(
            pair.client >> POST_10 + b"abc",
            pair.client << re.compile(rb"HTTP/1\.1 200 OK\r\n(?s:.*)[Cc]onnection: close(?s:.*)ok"),
            pair.client << END,
        )


async def test_a_client_that_left_before_an_interim_response_is_nobody_elses_fault(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    raised: list[StreamError] = []

    async def hinting(request: Request) -> Response:
        pair.stream.close()  # as a reset that is found when something is written
        try:
            await request.stream.send_interim(ResponseHead(status=Status.OK, native_status=103))
        except StreamError as error:
            raised.append(error)
            raise
        raise AssertionError("it was sent to nobody")

    async with proxy_pair(HTTP1, handler=hinting) as pair:
        await pair.client.send(GET)
        await pair.ended.wait()
    assert [type(error) for error in raised] == [RequestBroken]
    assert raised[0].condition == "", "no endpoint is blamed for it"
    assert not [record for record in caplog.records if record.exc_info]


async def test_interim_responses_are_passed_on(autojump_clock: MockClock) -> None:
    async with proxy_pair(HTTP1) as pair:
        await pair.client.send(
            b"POST /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        upstream = await pair.accept()
        await upstream.expect(REQUEST_HEAD)
        await upstream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await pair.client.expect(head(100))
        await pair.client.send(b"hi")
        await upstream.expect(b"hi")
        await upstream.send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK_2)
        await pair.client.expect(head(103))
        await pair.client.expect(response(200))


async def test_a_body_with_trailers_that_came_whole(autojump_clock: MockClock) -> None:
    async def trailing(_request: Request) -> Response:
        return Response(OK, BytesBody(b"body", Trailers(1, Headers([("X-Sum", "1")]))))

    async with proxy_pair(HTTP1, handler=trailing) as pair:
        await play(
            pair.client >> GET,
            pair.client << head(200),
            pair.client << b"4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n",
            pair.client >> GET,
            pair.client << head(200),
            pair.client << b"4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n",
        )


# ---- failures of handlers and bodies


async def test_a_stream_error_is_answered_and_the_connection_goes_on(
    autojump_clock: MockClock,
) -> None:
    async def refuse(_request: Request) -> Response:
        raise RateLimited("too often")

    async with proxy_pair(HTTP1, handler=refuse) as pair:
        for _ in range(2):
            await play(pair.client >> GET, pair.client << response(429))
        assert pair.stats.downstream_rq_local == 2
        assert pair.requests[0].record.flags == "RL"


async def test_a_bug_of_a_handler_is_answered_and_the_connection_goes_on(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_request: Request) -> Response:
        raise ZeroDivisionError

    async with proxy_pair(HTTP1, handler=fail) as pair:
        for _ in range(2):
            await play(pair.client >> GET, pair.client << response(500))
    assert "a filter or handler failed" in caplog.text


async def test_a_body_that_breaks_off_is_seen_as_broken(autojump_clock: MockClock) -> None:
    body = Fed(failure=StreamError("the upstream is gone"))
    async with proxy_pair(HTTP1, handler=answering(body)) as pair:
        await pair.client.send(GET)
        body.feed(b"half")
        await pair.client.expect(head(200))
        await pair.client.expect(b"4\r\nhalf\r\n")
        body.end()
        await pair.client.expect(END)  # and no last chunk
        assert pair.stats.downstream_rq_reset == 1
        assert pair.requests[0].record.detail == "the upstream is gone"


@pytest.mark.parametrize("request_", [GET, POST_10 + b"half"])
async def test_a_bug_of_a_body_harms_nobody_else(
    request_: bytes, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    body = Fed(failure=ZeroDivisionError())
    async with proxy_pair(HTTP1, handler=answering(body)) as pair:
        await pair.client.send(request_)
        body.feed(b"half")
        await wait_all_tasks_blocked()
        body.end()
        assert await broken_message(pair) == b"4\r\nhalf\r\n"
        assert pair.stats.downstream_rq_reset == 1
    assert "a body failed" in caplog.text


async def test_a_bug_of_a_request_body_on_its_way_up_harms_nobody_else(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def wrap(request: Request, call_next: Handler) -> Response:
        request.body = Fed(failure=ZeroDivisionError())
        request.body.end()
        return await call_next(request)

    class Wrap:
        async def __call__(self, request: Request, call_next: Handler) -> Response:
            return await wrap(request, call_next)

    async with proxy_pair(HTTP1, filters=[Wrap()]) as pair:
        await pair.client.send(POST_10)
        await pair.client.expect(head(500))
        await pair.ended.wait()
    assert "a body failed" in caplog.text


async def test_a_response_longer_than_it_said_is_broken_off(autojump_clock: MockClock) -> None:
    body = Fed()
    short = ResponseHead(
        status=Status.OK, native_status=200, headers=Headers([("Content-Length", "2")])
    )
    async with proxy_pair(HTTP1, handler=answering(body, short)) as pair:
        await pair.client.send(GET)
        body.feed(b"a")
        await wait_all_tasks_blocked()
        body.feed(b"bc")
        assert await broken_message(pair) == b"a"
