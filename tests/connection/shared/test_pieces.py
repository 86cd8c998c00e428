"""Shared connections whose bodies go in pieces, from end to end in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.alive import part
from tests.connection.kit import Control, Fed, request_of
from tests.connection.rpc import (
    ASK,
    OK,
    Gate,
    client_stream,
    talk,
    upstream,
)
from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.connection.shared.served import Served
from xproxy.model.frames import Data, Frame, Head, Reset, Trailers
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS, KIB, MIB, Limits
from xproxy.model.message import RequestHead
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request, Response
from xproxy.testing import END
from xproxy.testing.fakes import PIECES, PiecesPlugin
from xproxy.testing.fakes.pieces import PiecesCodec
from xproxy.testing.proxy import facts_of, proxy_pair

# ---- bodies in pieces


async def test_pieces_go_both_ways_before_either_side_is_complete(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(PIECES) as pair:
        client = talk(pair.client, Role.CLIENT)
        await client.send(Head(1, ASK), Data(1, b"one"))
        server = talk(await pair.accept(), Role.SERVER)
        assert isinstance(await server.next(), Head)
        assert await server.next() == Data(1, b"one")
        await server.send(Head(1, OK), Data(1, b"eins"))
        head = await client.next()
        assert isinstance(head, Head)
        assert head.message.status is Status.OK  # type: ignore[union-attr]
        assert await client.next() == Data(1, b"eins")
        await client.send(Data(1, b"two"))
        assert await server.next() == Data(1, b"two")
        trailers = Trailers(1, Headers([("sum", "6")]))
        await client.send(trailers)
        assert await server.next() == trailers
        await server.send(trailers)
        assert await client.next() == trailers
        assert pair.driver.streams == 0
        assert pair.requests[0].record.received_bytes == 6
        assert pair.requests[0].record.sent_bytes == 4


async def test_interim_responses_are_passed_on_in_pieces(autojump_clock: MockClock) -> None:
    async with proxy_pair(PIECES) as pair:
        client = talk(pair.client, Role.CLIENT)
        await client.send(Head(1, ASK, b"", True))
        server = talk(await pair.accept(), Role.SERVER)
        await server.next()
        await server.send(Head(1, OK, interim=True), Head(1, OK, interim=True))
        await server.send(Head(1, OK, b"done", True))
        frames = [await client.next() for _ in range(3)]
        assert [frame.interim for frame in frames if isinstance(frame, Head)] == [
            True,
            True,
            False,
        ]
        assert await client.body(1) == b"done"


@pytest.mark.parametrize("size", [0, 1, 4 * KIB, 100 * KIB, MIB])
async def test_bodies_larger_than_the_window_arrive_whole(
    size: int, autojump_clock: MockClock
) -> None:
    plugin = PiecesPlugin(window=8 * KIB)
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]

    async def echo_whole(request: Request) -> Response:
        data = request.body
        assert not isinstance(data, BytesBody) or size <= 8 * KIB
        got = b""
        while True:
            try:
                piece = await data.receive()
            except trio.EndOfChannel:
                return Response(OK, BytesBody(got))
            assert isinstance(piece, bytes)
            got += piece

    async with proxy_pair(plugin, handler=echo_whole) as pair, trio.open_nursery() as nursery:
        client = Multiplexed(
            client_stream(pair, nursery),
            plugin.open(Role.CLIENT, DEFAULT_LIMITS),
            Role.CLIENT,
            facts_of(plugin.name, plugin.traits),
            None,
            pair.timers,
        )
        nursery.start_soon(client.run)
        # Its body came whole, and is larger than the window: it is sent beside the call.
        response = await client.call(request_of(ASK, BytesBody(body)))
        got = b""
        if isinstance(response.body, BytesBody):
            got = response.body.data
        else:
            while True:
                try:
                    piece = await response.body.receive()
                except trio.EndOfChannel:
                    break
                assert isinstance(piece, bytes)
                got += piece
        assert got == body
        await response.aclose()
        assert client.streams == 0
        nursery.cancel_scope.cancel()


async def test_a_client_that_does_not_give_credit_stops_its_own_stream_only(
    autojump_clock: MockClock,
) -> None:
    async def large(request: Request) -> Response:
        return Response(OK, BytesBody(bytes(200 * KIB)))

    async with proxy_pair(PIECES, handler=large) as pair:
        client = talk(pair.client, Role.CLIENT)
        await client.send(Head(1, ASK, b"", True))
        got = 0
        while got < PIECES.window:
            frame = await client.next()
            got += len(frame.data) if isinstance(frame, Data) else 0
        assert got == PIECES.window
        await client.quiet()
        await client.send(Head(2, ASK, b"", True))
        assert len(await client.body(2)) == 200 * KIB
        # And now its own: what was missing is credit for what it has got.
        credit = client.codec.consumed(1, PIECES.window)  # type: ignore[attr-defined]
        await client.end.send(credit)
        assert len(await client.body(1)) == 200 * KIB - PIECES.window


async def test_an_upstream_that_gives_no_credit_stops_the_client(autojump_clock: MockClock) -> None:
    async with proxy_pair(PIECES) as pair:
        client = talk(pair.client, Role.CLIENT)
        await client.send(Head(1, ASK), Data(1, bytes(PIECES.window)))
        server = talk(await pair.accept(), Role.SERVER)
        got = 0
        while got < PIECES.window:
            frame = await server.next()
            got += len(frame.data) if isinstance(frame, Data) else 0
        # Taken from the client and passed on, so the client has credit for another window. No more than that.
        await client.quiet_but_for_credit()
        await client.send(Data(1, bytes(PIECES.window)))
        await client.quiet_but_for_credit()
        assert client.codec.sendable(1) < PIECES.window  # type: ignore[attr-defined]
        await server.quiet()


async def test_a_body_that_nobody_reads_takes_no_window_for_ever(autojump_clock: MockClock) -> None:
    async def refuse(request: Request) -> Response:
        await request.body.aclose()
        await trio.sleep(1)
        return Response(OK, BytesBody(b"no"))

    async with proxy_pair(PIECES, handler=refuse) as pair:
        client = talk(pair.client, Role.CLIENT)
        await client.send(Head(1, ASK))
        for _ in range(4):
            assert client.codec.sendable(1) >= 32 * KIB  # type: ignore[attr-defined]
            await client.send(Data(1, bytes(32 * KIB)))
            await client.quiet_but_for_credit()
        await client.send(Data(1, b"", True))
        assert isinstance(await client.next(), Head)


class Counting(PiecesCodec):
    """Notes the credit it was told to give. Reads frames that a test wants read."""

    given: ClassVar[dict[int, int]] = {}
    late: ClassVar[list[Frame]] = []

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        if self.role is Role.SERVER and self.late:
            late, self.late[:] = self.late[:], []
            return late
        return super().receive(data)

    def consumed(self, stream_id: int, count: int) -> bytes:
        if self.role is Role.SERVER:
            self.given[stream_id] = self.given.get(stream_id, 0) + count
        return super().consumed(stream_id, count)


class CountingPlugin(PiecesPlugin):
    def open(self, role: Role, limits: Limits) -> PiecesCodec:
        return Counting(role, limits, self.window)


async def test_every_byte_is_accounted_for_whoever_takes_it(autojump_clock: MockClock) -> None:
    # A window for the whole connection would leak away otherwise.
    async def handle(request: Request) -> Response:
        if isinstance(request.body, BytesBody):
            return Response(OK, request.body)
        if request.head.method == "read":
            await request.body.receive()
        return Response(OK, BytesBody())

    Counting.given.clear()
    async with proxy_pair(CountingPlugin(), handler=handle) as pair:
        client = talk(pair.client, Role.CLIENT)
        read = RequestHead(service="s", method="read")
        await client.send(Head(1, read), Data(1, b"12345"))
        await client.send(Head(2, ASK), Data(2, b"12345"))
        await wait_all_tasks_blocked()
        Counting.late += [Data(1, b"too late"), Head(4, ASK, b"whole", True)]
        await pair.client.send(b"!")
        await wait_all_tasks_blocked()
        assert Counting.given == {1: 5 + 8, 2: 5, 4: 5}


async def test_an_answer_before_the_request_ended_stops_the_rest_of_it(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(PIECES) as pair:
        client = talk(pair.client, Role.CLIENT)
        await client.send(Head(1, ASK), Data(1, b"half"))
        server = talk(await pair.accept(), Role.SERVER)
        await server.next()
        await server.next()
        await server.send(Head(1, OK, b"no", True))
        # The upstream need not wait for the rest, and the client need not send it.
        assert await server.next() == Reset(1, Status.CANCELLED)
        assert isinstance(await client.next(), Head)
        assert await client.body(1) == b"no"
        assert await client.next() == Reset(1, Status.OK)
        assert pair.driver.streams == 0
        # Late pieces do no harm, and the connections are as good as new.
        await client.end.send(b"\2\0\0\0\0\1\0\0\0\1x")
        await client.send(Head(3, ASK, b"", True))
        frame = await server.next()
        assert isinstance(frame, Head)
        await server.send(Head(frame.stream_id, OK, b"", True))
        assert isinstance(await client.next(), Head)


async def test_a_client_that_resets_a_stream_cancels_it_and_nothing_else(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(PIECES) as pair:
        client = talk(pair.client, Role.CLIENT)
        await client.send(Head(1, ASK, b"", True), Head(2, ASK), Data(2, b"half"))
        server = talk(await pair.accept(), Role.SERVER)
        frames = [await server.next() for _ in range(3)]
        assert sum(isinstance(frame, Head) for frame in frames) == 2
        await client.send(Reset(1, Status.CANCELLED))
        gone = await server.next()
        assert isinstance(gone, Reset)
        await client.send(Data(2, b"", True))
        assert isinstance(await server.next(), Data)
        [other] = {f.stream_id for f in frames if isinstance(f, Head)} - {gone.stream_id}
        await server.send(Head(other, OK, b"", True))
        head = await client.next()
        assert isinstance(head, Head)
        assert head.stream_id == 2
        assert pair.stats.downstream_rq_active == 0


async def test_a_reset_and_its_request_in_one_read(autojump_clock: MockClock) -> None:
    gate = Gate()
    async with proxy_pair(PIECES, handler=gate) as pair:
        client = talk(pair.client, Role.CLIENT)
        await client.send(Head(1, ASK, b"", True), Reset(1, Status.CANCELLED))
        await client.quiet()
        assert pair.driver.streams == 0
        gate.let_go(b"")
        await client.send(Head(2, ASK, b"", True))
        assert isinstance(await client.next(), Head)


async def test_an_upstream_that_resets_in_its_response_is_reset_for_the_client(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(PIECES) as pair:
        client = talk(pair.client, Role.CLIENT)
        await client.send(Head(1, ASK, b"", True))
        server = talk(await pair.accept(), Role.SERVER)
        await server.next()
        await server.send(Head(1, OK), Data(1, b"half"))
        assert isinstance(await client.next(), Head)
        assert await client.next() == Data(1, b"half")
        await server.send(Reset(1, Status.INTERNAL))
        assert await client.next() == Reset(1, Status.UNAVAILABLE)
        assert pair.stats.downstream_rq_reset == 1


async def test_an_upstream_that_resets_while_it_is_sent_a_body(autojump_clock: MockClock) -> None:
    async with proxy_pair(PIECES) as pair:
        client = talk(pair.client, Role.CLIENT)
        await client.send(Head(1, ASK), Data(1, b"half"))
        server = talk(await pair.accept(), Role.SERVER)
        await server.next()
        await server.next()
        await server.send(Reset(1, Status.INTERNAL))
        head = await client.next()
        assert isinstance(head, Head)
        assert head.message.status is Status.UNAVAILABLE  # type: ignore[union-attr]
        assert await client.next() == Reset(1, Status.OK)


async def test_an_upstream_that_dies_in_its_response_is_reset_for_the_client(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(PIECES) as pair:
        client = talk(pair.client, Role.CLIENT)
        await client.send(Head(1, ASK, b"", True))
        server = talk(await pair.accept(), Role.SERVER)
        await server.next()
        await server.send(Head(1, OK), Data(1, b"half"))
        await client.next()
        await client.next()
        await server.end.aclose()
        assert isinstance(await client.next(), Reset)


async def test_a_client_that_has_finished_sending_still_gets_its_answers(
    autojump_clock: MockClock,
) -> None:
    gate = Gate()

    async def handle(request: Request) -> Response:
        if isinstance(request.body, BytesBody):
            return await gate(request)
        while True:
            await request.body.receive()

    async with proxy_pair(PIECES, handler=handle) as pair:
        client = talk(pair.client, Role.CLIENT)
        await client.send(Head(1, ASK, b"", True), Head(2, ASK), Data(2, b"half"))
        await client.end.send_eof()
        await wait_all_tasks_blocked()
        # Half a request will never be a whole one.
        failed = await client.next()
        assert isinstance(failed, Head)
        assert failed.stream_id == 2
        assert failed.message.status is Status.INVALID_ARGUMENT  # type: ignore[union-attr]
        assert gate.cancelled == []
        gate.let_go(b"")
        answer = await client.next()
        while not isinstance(answer, Head):
            answer = await client.next()
        assert answer.stream_id == 1
        await pair.client.expect(END)


# ---- cancellation


@pytest.mark.parametrize("where", ["head", "body", "upload", "window", "room", "interim"])
async def test_cancelling_a_call_anywhere_leaves_nothing_behind(
    where: str, autojump_clock: MockClock
) -> None:
    async with (
        upstream(PIECES, max_outbox_bytes=50_000 if where == "room" else MIB, bounded=True) as u,
        trio.open_nursery() as streams,
    ):
        control = Control(streams)
        if where == "interim":
            control.hold_interim = True
        body = {
            "upload": Fed(b"half"),
            "window": BytesBody(bytes(PIECES.window + 1)),
            "room": Fed(bytes(60_000), b"x", b"y"),
        }.get(where)
        cancelled = False

        async def call() -> None:
            nonlocal cancelled
            try:
                response = await u.connection.call(request_of(ASK, body, control))
                try:
                    await response.body.receive()
                finally:
                    await response.aclose()
            except trio.Cancelled:
                cancelled = True
                raise

        server = talk(u.peer, Role.SERVER)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            if where != "room":
                assert isinstance(await server.next(), Head)
            if where == "body":
                await server.send(Head(1, OK))
            if where == "interim":
                await server.send(Head(1, OK, interim=True))
            await wait_all_tasks_blocked()
            assert u.connection.streams == 1
            nursery.cancel_scope.cancel()
        assert cancelled
        assert u.connection.streams == 0
        # The upstream is told.
        frame: Frame | None = None
        while not isinstance(frame, Reset):
            frame = await server.next()
        assert frame == Reset(1, Status.CANCELLED)
        streams.cancel_scope.cancel()


@pytest.mark.parametrize("where", ["handler", "response body", "window", "request body", "room"])
async def test_cancelling_the_connection_anywhere_leaves_nothing_counted(
    where: str, autojump_clock: MockClock
) -> None:
    async def stuck(request: Request) -> Response:
        if where == "handler":
            await trio.sleep_forever()
        if where == "request body":
            while True:
                await request.body.receive()
        if where == "response body":
            return Response(OK, Fed(b"half"))
        return Response(OK, BytesBody(bytes(PIECES.window + 1)))

    small = 1000 if where == "room" else MIB
    async with proxy_pair(
        PIECES, handler=stuck, bounded=where == "room", max_outbox_bytes=small
    ) as pair:
        client = talk(pair.client, Role.CLIENT)
        await client.send(*(Head(id_, ASK, b"", where != "request body") for id_ in (1, 2, 3)))
        await wait_all_tasks_blocked()
        assert pair.stats.downstream_rq_active == 3
    assert pair.ended.is_set()
    assert isinstance(pair.driver, Multiplexed)
    assert not part(pair.driver, Served).idle
