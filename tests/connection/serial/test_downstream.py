"""One stream at a time towards the client: HTTP/1.1 from end to end in memory."""

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
    Holding,
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
from xproxy.testing import END, NOTHING, play
from xproxy.testing.proxy import proxy_pair
from xproxy.transport.turns import TINY


async def test_requests_follow_one_another_on_both_connections(autojump_clock: MockClock) -> None:
    async with proxy_pair(HTTP1) as pair:
        await pair.client.send(GET)
        upstream = await pair.accept()
        for _ in range(3):
            await upstream.expect(REQUEST_HEAD)
            await upstream.send(OK_2)
            await pair.client.expect(response(200))
            await pair.client.send(GET)
        await upstream.expect(REQUEST_HEAD)
        assert pair.stats.downstream_rq_total == 4
        assert pair.stats.statuses == {Status.OK: 3}
        assert pair.stats.downstream_rx_bytes_total == 4 * len(GET)
        assert pair.stats.downstream_tx_bytes_total == 3 * len(OK_2)


async def test_pipelined_requests_are_answered_in_order(autojump_clock: MockClock) -> None:
    paths: list[str] = []

    async def echo_path(request: Request) -> Response:
        paths.append(request.head.path)
        await trio.sleep(1)
        return Response(OK, BytesBody(request.head.path.encode()))

    async with proxy_pair(HTTP1, handler=echo_path) as pair:
        await pair.client.send(b"".join(GET.replace(b"/a", b"/%d" % i) for i in range(5)))
        for i in range(5):
            await pair.client.expect(head(200))
            await pair.client.expect(b"/%d" % i)
        assert paths == [f"/{i}" for i in range(5)]
        await pair.client.expect(NOTHING)
        assert not pair.ended.is_set()


async def test_requests_byte_by_byte(autojump_clock: MockClock) -> None:
    async with proxy_pair(HTTP1, handler=ok) as pair:
        for byte in GET + GET:
            await pair.client.send(bytes([byte]))
            await wait_all_tasks_blocked()
        await pair.client.expect(response(200))
        await pair.client.expect(response(200))
        await pair.client.expect(NOTHING)
        assert pair.stats.downstream_rq_total == 2


async def test_bytes_read_before_the_protocol_was_known_come_first(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(HTTP1, handler=ok, first=GET + GET[:5]) as pair:
        await pair.client.expect(response(200))
        await pair.client.send(GET[5:])
        await pair.client.expect(response(200))


async def test_the_client_that_says_close_is_closed(autojump_clock: MockClock) -> None:
    async with proxy_pair(HTTP1, handler=ok) as pair:
        await play(
            pair.client >> b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" + GET,
            pair.client << response(200),
            pair.client << END,
        )
        assert pair.stats.downstream_rq_total == 1


async def test_the_client_that_goes_between_requests_is_no_error(autojump_clock: MockClock) -> None:
    async with proxy_pair(HTTP1, handler=ok) as pair:
        await play(pair.client >> GET, pair.client << response(200))
        await pair.client.aclose()
        await pair.ended.wait()
        assert pair.stats.downstream_cx_destroy_remote == 0


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


# ---- the upstream


@pytest.mark.parametrize("cut", range(62))
async def test_an_upstream_that_dies_in_its_response_is_never_a_whole_response(
    cut: int, autojump_clock: MockClock
) -> None:
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    async with proxy_pair(HTTP1) as pair:
        await pair.client.send(GET)
        upstream = await pair.accept()
        await upstream.expect(REQUEST_HEAD)
        await upstream.send(whole[: min(cut, len(whole) - 1)])
        await wait_all_tasks_blocked()
        await upstream.aclose()
        got = bytearray()
        with trio.move_on_after(5):
            while piece := await pair.client.raw.receive_some():
                got += piece
        assert not got.endswith(b"0\r\n\r\n")
        assert got.startswith((b"HTTP/1.1 200", b"HTTP/1.1 503", b"HTTP/1.1 502"))


async def test_an_upstream_connection_closed_while_idle_is_not_used_again(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(HTTP1) as pair:
        await pair.client.send(GET)
        upstream = await pair.accept()
        await upstream.send(OK_2)
        await pair.client.expect(response(200))
        await upstream.aclose()
        await wait_all_tasks_blocked()
        await pair.client.send(GET)
        second = await pair.accept()
        await second.send(OK_2)
        await pair.client.expect(response(200))


async def test_bytes_that_nobody_asked_for_spoil_an_upstream_connection(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(HTTP1) as pair:
        await pair.client.send(GET)
        upstream = await pair.accept()
        await upstream.send(OK_2 + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await pair.client.expect(response(200))
        await pair.client.send(GET)
        second = await pair.accept()
        await second.send(OK_2)
        await pair.client.expect(response(200))
        await pair.client.expect(NOTHING)


# ---- the client goes


@pytest.mark.parametrize("request_", [GET, POST_10 + b"half"])
async def test_a_client_that_hangs_up_cancels_its_handler_at_once(
    request_: bytes, autojump_clock: MockClock
) -> None:
    holding = Holding()
    async with proxy_pair(HTTP1, handler=holding) as pair:
        await pair.client.send(request_)
        await wait_all_tasks_blocked()
        started = trio.current_time()
        await pair.client.aclose()
        await pair.ended.wait()
        assert trio.current_time() == started
        assert holding.cancelled == 1
        assert pair.stats.downstream_cx_destroy_remote == 1


async def test_a_client_that_hangs_up_ends_the_upstream_work(autojump_clock: MockClock) -> None:
    async with proxy_pair(HTTP1) as pair:
        await pair.client.send(GET)
        upstream = await pair.accept()
        await upstream.expect(REQUEST_HEAD)
        await pair.client.aclose()
        await upstream.expect(END)


async def test_a_client_that_goes_while_it_is_sent_a_response(autojump_clock: MockClock) -> None:
    body = Fed()
    async with proxy_pair(HTTP1, handler=answering(body)) as pair:
        await pair.client.send(GET)
        await pair.client.expect(head(200))
        await pair.client.aclose()
        await pair.ended.wait()
        assert pair.stats.downstream_cx_destroy_remote == 1


@pytest.mark.parametrize("cut", range(1, len(POST_10) + 10))
async def test_a_client_that_goes_at_any_byte_of_its_request(
    cut: int, autojump_clock: MockClock
) -> None:
    async with proxy_pair(HTTP1) as pair:
        await pair.client.send((POST_10 + b"0123456789")[:cut])
        await wait_all_tasks_blocked()
        await pair.client.aclose()
        await pair.ended.wait()
        await wait_all_tasks_blocked()
        # The upstream sees no whole request.
        if pair.connector.opened.statistics().current_buffer_used:
            upstream = await pair.accept()
            got = b""
            while piece := await upstream.raw.receive_some():
                got += piece
            assert not got.endswith(b"0123456789")


async def test_a_connection_that_breaks_in_the_request_body_breaks_nothing_else(
    autojump_clock: MockClock,
) -> None:
    async def read(request: Request) -> Response:
        while True:
            await request.body.receive()

    async with proxy_pair(HTTP1, handler=read) as pair:
        await pair.client.send(POST_10 + b"abc")
        await wait_all_tasks_blocked()
        pair.stream.close()  # as under a TLS error: reading raises in the middle of the body
        await pair.ended.wait()


async def test_a_client_that_breaks_while_a_streamed_request_is_answered(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    # The write fails inside the stream's nursery; the connection's end must be a plain one.
    body = Fed()
    async with proxy_pair(HTTP1, handler=answering(body)) as pair:
        await pair.client.send(POST_10 + b"abc")
        await pair.client.expect(head(200))
        pair.stream.abort()
        body.feed(b"x")
        await pair.ended.wait()
        assert pair.stats.downstream_cx_destroy_remote == 1
    assert not caplog.records


# ---- violations


async def test_a_malformed_request_is_refused_and_nothing_behind_it_served(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(HTTP1, handler=ok) as pair:
        await play(
            pair.client >> GET + b"GET /b HTTP/1.1\r\nBad Name: x\r\n\r\n" + GET,
            pair.client << response(200),
            pair.client << response(400),
            pair.client << END,
        )
        assert pair.stats.downstream_cx_protocol_error == 1
        assert pair.stats.downstream_rq_total == 1


async def test_a_violation_in_the_body_is_answered_and_the_upstream_cut_off(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(HTTP1) as pair:
        await pair.client.send(POST_CHUNKED + b"3\r\nabc\r\n")
        upstream = await pair.accept()
        await upstream.expect(REQUEST_HEAD)
        await upstream.expect(b"3\r\nabc\r\n")
        await pair.client.send(b"zz\r\n")
        await pair.client.expect(response(400))
        await pair.client.expect(END)
        await upstream.expect(END)  # and no last chunk
        assert pair.stats.downstream_cx_protocol_error == 1


async def test_a_violation_in_the_body_after_the_response_began_breaks_it_off(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(HTTP1) as pair:
        await pair.client.send(POST_CHUNKED + b"3\r\nabc\r\n")
        upstream = await pair.accept()
        await upstream.expect(REQUEST_HEAD)
        await upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        await pair.client.expect(head(200))
        await pair.client.expect(b"2\r\nhi\r\n")
        await pair.client.send(b"zz\r\n")
        await pair.client.expect(END)
        await pair.ended.wait()


async def test_a_stream_that_holds_much_is_answered_with_overload(
    autojump_clock: MockClock,
) -> None:
    async def never(request: Request) -> Response:
        await trio.sleep_forever()
        raise AssertionError

    async with proxy_pair(HTTP1, handler=never) as pair:
        await pair.client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + bytes(5000)
        )
        await wait_all_tasks_blocked()
        share = pair.driver.facts.share
        assert share.held == 10000
        pair.driver.relieve()
        await pair.client.expect(re.compile(rb"HTTP/1\.1 503 (?s:.*?)\r\n\r\n"))
        await wait_all_tasks_blocked()
        assert share.held == 0
        pair.driver.relieve()
        await pair.ended.wait()


@pytest.mark.parametrize(
    ("reads", "timed"),
    [
        ([GET], 0),  # the most expensive of them does not take long
        ([GET[:-2] + b"x: %b\r\n\r\n" % (b"v" * TINY)], 1),
        ([GET[:20], GET[20:]], 1),  # what went before counts, too
        ([GET, GET[:20], GET[20:], GET], 1),
    ],
)
async def test_what_cannot_take_long_is_not_timed(
    reads: list[bytes], timed: int, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxy_pair(HTTP1, handler=ok) as pair:
        await pair.client.send(GET)
        await pair.client.expect(response(200))
        settled: list[float] = []
        monkeypatch.setattr(type(pair.stream), "settle", lambda _, more=0.0: settled.append(more))
        for data in reads:
            await pair.client.send(data)
            await wait_all_tasks_blocked()
        assert len(settled) == timed
