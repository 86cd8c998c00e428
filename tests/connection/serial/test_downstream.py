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
    head,
    ok,
    response,
)
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.model.status import Status
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request, Response
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
