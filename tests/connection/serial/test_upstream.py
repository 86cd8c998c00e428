"""One stream at a time towards an upstream: what is sent, what is taken, what may be used again."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.kit import GET, POST, Control, Deafening, Fed, memory_stream, request_of
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.codecs.opaque.plugin import PLUGIN as OPAQUE
from xproxy.connection.serial.upstream import LAST_WORDS_SECONDS, SerialUpstream
from xproxy.model.errors import (
    LocalProtocolError,
    RequestBroken,
    UpstreamProtocolError,
    UpstreamReset,
)
from xproxy.model.frames import Frame, Head, Trailers
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS, KIB, MIB
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Response
from xproxy.testing import END
from xproxy.testing.proxy import UPSTREAM, End

REQUEST = re.compile(rb"(GET|POST) /a HTTP/1\.1\r\n(?s:.*?)\r\n\r\n")
OK_2 = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ANSWER = ResponseHead(status=Status.OK)


@asynccontextmanager
async def upstream(*, bounded: bool = False) -> AsyncIterator[tuple[SerialUpstream, End]]:
    async with memory_stream(bounded=bounded) as (stream, peer):
        codec = HTTP1.open(Role.CLIENT, DEFAULT_LIMITS)
        yield SerialUpstream(stream, codec, HTTP1.traits, UPSTREAM), peer


async def whole(response: Response) -> bytes:
    body = response.body
    got = b""
    while True:
        try:
            piece = await body.receive()
        except trio.EndOfChannel:
            return got
        if isinstance(piece, bytes):
            got += piece


async def test_a_whole_response_leaves_nothing_to_give_back(autojump_clock: MockClock) -> None:
    async with upstream() as (connection, peer):
        for number in (1, 2):
            await peer.send(OK_2)
            response = await connection.exchange(request_of())
            await peer.expect(REQUEST)
            assert isinstance(response.body, BytesBody)
            assert response.body.data == b"ok"
            assert response.lease is None
            assert connection.requests == number
            assert connection.finished
            assert connection.reusable


async def test_a_response_in_pieces_is_read_as_it_is_taken(autojump_clock: MockClock) -> None:
    async with upstream() as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(
            peer.send, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"
        )
        response = await connection.exchange(request_of())
        assert response.lease is connection
        finished = [connection.finished]
        assert await response.body.receive() == b"ab"
        await peer.send(b"1\r\nc\r\n0\r\nX-Sum: 1\r\n\r\n")
        assert await response.body.receive() == b"c"
        assert isinstance(await response.body.receive(), Trailers)
        with pytest.raises(trio.EndOfChannel):
            await response.body.receive()
        assert [*finished, connection.finished] == [False, True]
        assert connection.reusable


@pytest.mark.parametrize(
    "answer",
    [
        OK_2 + b"HTTP/1.1 200 OK\r\n",
        OK_2.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_a_connection_that_is_not_clean_is_not_used_again(
    answer: bytes, autojump_clock: MockClock
) -> None:
    async with upstream() as (connection, peer):
        await peer.send(answer)
        response = await connection.exchange(request_of())
        assert await whole(response) == b"ok"
        assert not connection.reusable


@pytest.mark.parametrize("late", [b"x", b""])
async def test_a_connection_on_which_something_comes_while_idle_is_not_used_again(
    late: bytes, autojump_clock: MockClock
) -> None:
    async with upstream() as (connection, peer):
        await peer.send(OK_2)
        await connection.exchange(request_of())
        assert connection.reusable
        await (peer.send(late) if late else peer.send_eof())
        await wait_all_tasks_blocked()
        assert not connection.reusable


async def test_a_body_in_pieces_goes_up_while_the_answer_is_awaited(
    autojump_clock: MockClock,
) -> None:
    async with upstream() as (connection, peer), trio.open_nursery() as nursery:
        body = Fed(b"ab")
        request = request_of(POST, body, Control(nursery))
        responses: list[Response] = []

        async def exchange() -> None:
            responses.append(await connection.exchange(request))

        nursery.start_soon(exchange)
        await peer.expect(REQUEST)
        await peer.expect(b"2\r\nab\r\n")
        body.feed(b"c")
        await peer.expect(b"1\r\nc\r\n")
        assert not connection.reusable
        body.end()
        await peer.expect(b"0\r\n\r\n")
        await peer.send(OK_2)
        await wait_all_tasks_blocked()
        assert responses[0].head.status is Status.OK
        assert request.record.received_bytes == 3
        assert connection.reusable


async def test_trailers_go_up(autojump_clock: MockClock) -> None:
    async with upstream() as (connection, peer):
        await peer.send(OK_2)
        body = BytesBody(b"ab", Trailers(1, Headers([("X-Sum", "1")])))
        await connection.exchange(request_of(POST, body))
        await peer.expect(REQUEST)
        await peer.expect(b"2\r\nab\r\n0\r\nX-Sum: 1\r\n\r\n")
        assert connection.reusable


async def test_an_answer_before_the_body_was_sent_is_taken(autojump_clock: MockClock) -> None:
    async with upstream() as (connection, peer), trio.open_nursery() as nursery:
        await peer.send(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
        response = await connection.exchange(request_of(POST, Fed(b"ab"), Control(nursery)))
        assert response.head.native_status == 403
        assert not connection.reusable
        connection.close()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_an_answer_of_one_who_took_no_more_is_worth_more_than_the_broken_write(
    autojump_clock: MockClock,
) -> None:
    async with upstream() as (connection, peer):
        await peer.send(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
        await wait_all_tasks_blocked()
        await peer.aclose()
        connection.wire.stream.write_now(b"x")
        await wait_all_tasks_blocked()  # writing is broken now
        response = await connection.exchange(request_of(POST, BytesBody(b"x" * 10)))
        assert response.head.native_status == 413


async def test_interim_responses_are_passed_on_in_order(autojump_clock: MockClock) -> None:
    async with upstream() as (connection, peer):
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\n" + OK_2)
        request = request_of()
        response = await connection.exchange(request)
        assert isinstance(request.stream, Control)
        assert [head.native_status for head in request.stream.interim] == [100, 103]
        assert response.head.native_status == 200


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-"])
async def test_an_upstream_that_goes_without_an_answer_has_reset(
    sent: bytes, autojump_clock: MockClock
) -> None:
    async with upstream() as (connection, peer):
        await peer.send(sent)
        await peer.send_eof()
        with pytest.raises(UpstreamReset, match=str(UPSTREAM)):
            await connection.exchange(request_of())


@pytest.mark.parametrize("kind", ["whole", "pieces"])
async def test_an_upstream_that_breaks_has_reset(kind: str, autojump_clock: MockClock) -> None:
    async with upstream() as (connection, peer), trio.open_nursery() as nursery:
        body = BytesBody(b"x") if kind == "whole" else Fed(b"x")
        request = request_of(POST, body, Control(nursery))

        async def exchange() -> None:
            with pytest.raises(UpstreamReset):
                await connection.exchange(request)
            nursery.cancel_scope.cancel()

        nursery.start_soon(exchange)
        await peer.expect(REQUEST)
        await peer.aclose()


async def test_an_upstream_that_speaks_nonsense_broke_the_protocol(
    autojump_clock: MockClock,
) -> None:
    async with upstream() as (connection, peer):
        await peer.send(b"220 smtp.example ready\r\n\r\n")
        with pytest.raises(UpstreamProtocolError):
            await connection.exchange(request_of())


async def test_a_response_that_breaks_off_is_an_error_of_its_body(
    autojump_clock: MockClock,
) -> None:
    async with upstream() as (connection, peer):
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        response = await connection.exchange(request_of())
        assert await response.body.receive() == b"abc"
        await peer.send_eof()
        with pytest.raises(UpstreamReset):
            await response.body.receive()
        assert not connection.finished
        await response.aclose()
        await peer.expect(REQUEST)
        await peer.expect(END)


async def test_a_response_body_that_breaks_the_protocol(autojump_clock: MockClock) -> None:
    async with upstream() as (connection, peer):
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        response = await connection.exchange(request_of())
        assert await response.body.receive() == b"ab"
        await peer.send(b"zz\r\n")
        with pytest.raises(UpstreamProtocolError):
            await response.body.receive()


async def test_a_request_body_that_breaks_off_breaks_the_exchange_off(
    autojump_clock: MockClock,
) -> None:
    async with upstream() as (connection, peer), trio.open_nursery() as nursery:
        body = Fed(b"half", failure=RequestBroken("gone")).ended()
        with pytest.raises(RequestBroken):
            await connection.exchange(request_of(POST, body, Control(nursery)))
        # The upstream got no end of it.
        got = b""
        while piece := await peer.raw.receive_some():
            got += piece
        assert not got.endswith(b"0\r\n\r\n")
        assert not connection.reusable


async def test_a_request_body_that_breaks_off_while_the_answer_comes(
    autojump_clock: MockClock,
) -> None:
    async with upstream() as (connection, peer), trio.open_nursery() as nursery:
        body = Fed(b"half")
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        response = await connection.exchange(request_of(POST, body, Control(nursery)))
        assert await response.body.receive() == b"ab"
        body.end(RequestBroken("gone"))
        with pytest.raises(RequestBroken):
            await response.body.receive()


async def test_what_the_protocol_cannot_say_is_our_own_mistake(autojump_clock: MockClock) -> None:
    async with upstream() as (connection, _):
        head = RequestHead(service="h", method="BAD METHOD", extra=GET.extra)
        with pytest.raises(LocalProtocolError):
            await connection.exchange(request_of(head))


async def test_a_body_shorter_than_it_said_never_goes_up_as_a_whole(
    autojump_clock: MockClock,
) -> None:
    async with upstream() as (connection, peer), trio.open_nursery() as nursery:
        head = RequestHead(
            service="h", method="POST", extra=POST.extra, headers=Headers([("Content-Length", "9")])
        )
        with pytest.raises(UpstreamProtocolError, match="cannot be sent on"):
            await connection.exchange(request_of(head, Fed(b"abc").ended(), Control(nursery)))
        got = b""
        while piece := await peer.raw.receive_some():
            got += piece
        assert len(got.partition(b"\r\n\r\n")[2]) < 9


@pytest.mark.parametrize("where", ["write", "head", "body", "upload"])
async def test_cancelled_anywhere_it_can_be_closed_and_is_not_used_again(
    where: str, autojump_clock: MockClock
) -> None:
    async with upstream(bounded=True) as (connection, peer), trio.open_nursery() as nursery:
        body = {"write": BytesBody(bytes(MIB)), "upload": Fed(b"half")}.get(where, BytesBody())

        async def exchange() -> None:
            response = await connection.exchange(request_of(POST, body, Control(nursery)))
            await response.body.receive()

        async with trio.open_nursery() as inner:
            inner.start_soon(exchange)
            if where != "write":
                await peer.expect(REQUEST)
            if where == "body":
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n")
            await wait_all_tasks_blocked()
            inner.cancel_scope.cancel()
        connection.close()
        connection.close_soon()
        await connection.aclose()
        with pytest.raises(trio.ClosedResourceError):
            connection.wire.stream.write_now(b"x")
        nursery.cancel_scope.cancel()


async def test_an_upstream_that_does_not_read_makes_the_body_wait(
    autojump_clock: MockClock,
) -> None:
    async with upstream(bounded=True) as (connection, _), trio.open_nursery() as nursery:
        body = Fed(*[bytes(64 * KIB)] * 50)
        nursery.start_soon(connection.exchange, request_of(POST, body, Control(nursery)))
        await wait_all_tasks_blocked()
        assert body.left >= 45
        nursery.cancel_scope.cancel()


async def test_l4_needs_no_head_to_answer(autojump_clock: MockClock) -> None:
    async with memory_stream() as (stream, peer), trio.open_nursery() as nursery:
        codec = OPAQUE.open(Role.CLIENT, DEFAULT_LIMITS)
        connection = SerialUpstream(stream, codec, OPAQUE.traits, UPSTREAM)
        body = Fed()
        request = request_of(RequestHead(service="", method=""), body, Control(nursery))
        response = await connection.exchange(request)  # before a byte has come
        body.feed(b"ping")
        await peer.expect(b"ping")
        await peer.send(b"pong")
        assert await response.body.receive() == b"pong"
        body.end()
        await peer.expect(END)  # half-closed
        await peer.send(b"bye")
        await peer.send_eof()
        assert await whole(response) == b"bye"


# ---- last words


def deafen(connection: SerialUpstream) -> None:
    stream = connection.wire.stream
    assert isinstance(stream, Deafening)
    stream.deaf = True


@pytest.mark.parametrize("body", [BytesBody(), BytesBody(b"all"), Fed(b"half")], ids=repr)
async def test_who_takes_nothing_may_have_answered(
    body: BytesBody | Fed, autojump_clock: MockClock
) -> None:
    async with upstream() as (connection, peer):
        deafen(connection)
        await peer.send(OK_2)
        response = await connection.exchange(request_of(POST, body))
        assert await whole(response) == b"ok"
        assert not connection.reusable


@pytest.mark.parametrize("body", [BytesBody(b"all"), Fed(b"half")], ids=repr)
async def test_who_takes_nothing_has_a_bounded_time_to_answer(
    body: BytesBody | Fed, autojump_clock: MockClock
) -> None:
    async with upstream() as (connection, _):
        deafen(connection)
        begin = trio.current_time()
        with pytest.raises(UpstreamReset):
            await connection.exchange(request_of(POST, body))
        assert trio.current_time() - begin == LAST_WORDS_SECONDS


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("beside", [True, False])
async def test_so_has_who_takes_a_part(
    answers: bool, beside: bool, autojump_clock: MockClock
) -> None:
    async with upstream() as (connection, peer), trio.open_nursery() as nursery:
        body = Fed(b"half")
        control = Control(nursery if beside else None)
        results: list[object] = []

        async def exchange() -> None:
            try:
                results.append(await connection.exchange(request_of(POST, body, control)))
            except UpstreamReset as error:
                results.append(error)

        nursery.start_soon(exchange)
        await peer.expect(re.compile(rb"(?s:.*)half\r\n"))
        deafen(connection)
        body.feed(b"more")
        await wait_all_tasks_blocked()
        begin = trio.current_time()
        if answers:
            await peer.send(OK_2)
        await trio.sleep(LAST_WORDS_SECONDS + 1)
        (result,) = results
        assert isinstance(result, Response if answers else UpstreamReset)
        assert trio.current_time() - begin == LAST_WORDS_SECONDS + 1


async def test_an_answer_is_read_while_a_whole_request_is_not_taken(
    autojump_clock: MockClock,
) -> None:
    async with upstream(bounded=True) as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(peer.send, OK_2)
        response = await connection.exchange(request_of(POST, BytesBody(bytes(MIB))))
        assert await whole(response) == b"ok"
        assert not connection.reusable  # half of the request is still to be sent


async def test_a_whole_request_goes_on_while_its_answer_comes_in_pieces(
    autojump_clock: MockClock,
) -> None:
    async with upstream(bounded=True) as (connection, peer), trio.open_nursery() as nursery:
        size = 4 * MIB
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size

        async def echo() -> None:
            got = b""
            while b"\r\n\r\n" not in got:
                got += await peer.raw.receive_some(64 * KIB)
            await peer.send(head)
            data = got.partition(b"\r\n\r\n")[2]
            left = size - len(data)
            while left:
                if data:
                    await peer.send(data)
                data = bytes(await peer.raw.receive_some(64 * KIB))
                left -= len(data)
            await peer.send(data)

        nursery.start_soon(echo)
        response = await connection.exchange(request_of(POST, BytesBody(bytes(size))))
        sending = [connection.sending]
        assert len(await whole(response)) == size
        sending.append(connection.sending)
        assert sending == [True, False]
        assert connection.reusable


async def test_a_whole_request_that_is_no_longer_taken_is_answered(
    autojump_clock: MockClock,
) -> None:
    async with upstream(bounded=True) as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(peer.send, OK_2[:20])

        async def later() -> None:
            await wait_all_tasks_blocked()
            deafen(connection)
            with trio.move_on_after(1):
                while True:
                    await peer.raw.receive_some(64 * KIB)  # there is room, and so it is tried
            await wait_all_tasks_blocked()
            await peer.send(OK_2[20:])

        nursery.start_soon(later)
        response = await connection.exchange(request_of(POST, BytesBody(bytes(MIB))))
        assert await whole(response) == b"ok"
        assert not connection.reusable


class Numbered:
    """Speaks ``id\\n``, and takes every answer for one that somebody may wait for."""

    role = Role.CLIENT

    def __init__(self) -> None:
        self._last = 0

    def next_stream_id(self) -> int:
        self._last += 1
        return self._last

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        return [Head(int(line), ANSWER, b"", True) for line in (data or b"").splitlines()]

    def send(self, frame: Frame) -> bytes:
        assert isinstance(frame, Head)
        return b"%d\n" % frame.stream_id


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "before its own"])
async def test_an_answer_with_another_calls_id_is_nobodys(
    alone: bool, autojump_clock: MockClock
) -> None:
    async with memory_stream() as (stream, peer), trio.open_nursery() as nursery:
        connection = SerialUpstream(stream, Numbered(), HTTP1.traits, UPSTREAM)
        await peer.send(b"1\n")
        assert (await connection.exchange(request_of())).head is ANSWER
        nursery.start_soon(peer.send, b"1\n" if alone else b"1\n2\n")
        with pytest.raises(UpstreamReset, match="another call"):
            await connection.exchange(request_of())
