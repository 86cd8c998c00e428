"""A shared connection towards an upstream: its calls, its end, and what the upstream may ask."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.codecs.http2.driving import parse
from tests.connection.kit import GET, Deafening, Fed, memory_stream, request_of
from tests.connection.rpc import (
    ASK,
    OK,
    echo,
    outcome,
    question,
    reply,
    upstream,
)
from xproxy.codecs.api import CodecPlugin
from xproxy.codecs.bolt.plugin import PLUGIN as BOLT
from xproxy.codecs.bolt.wire import V1_HESSIAN, BoltWire
from xproxy.codecs.dubbo.plugin import PLUGIN as DUBBO
from xproxy.codecs.dubbo.wire import DubboWire
from xproxy.codecs.http2.plugin import PLUGIN as HTTP2
from xproxy.codecs.http2.wire import (
    DATA,
    END_HEADERS,
    HEADERS,
    RST_STREAM,
    WINDOW_UPDATE,
    frame,
    settings,
)
from xproxy.config.schema import TimeoutsConfig
from xproxy.connection.serial.upstream import LAST_WORDS_SECONDS
from xproxy.connection.service import DownstreamStats, FilterChain, Service
from xproxy.connection.shared.calls import MOST_RESETS, RESETS_A_SECOND
from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.model.errors import UpstreamProtocolError, UpstreamRefused, UpstreamReset
from xproxy.model.frames import Reset
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS, MIB
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request, Response
from xproxy.testing import END, play
from xproxy.testing.fakes import LINES, PIECES
from xproxy.testing.proxy import facts_of, proxy_pair


async def test_calls_fail_when_the_upstream_goes(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with upstream() as u, trio.open_nursery() as nursery:
        results: list[object] = []

        async def call() -> None:
            results.append(await outcome(u.connection))

        for _ in range(3):
            nursery.start_soon(call)
        await wait_all_tasks_blocked()
        await u.peer.aclose()
        await u.ended.wait()
        await wait_all_tasks_blocked()
        assert [type(result) for result in results] == [UpstreamReset] * 3
        assert "closed the connection: 3 calls in flight fail" in caplog.text
        # And whoever comes later is told at once.
        assert isinstance(await outcome(u.connection), UpstreamRefused)


async def test_calls_fail_when_the_upstream_breaks_the_protocol(
    autojump_clock: MockClock,
) -> None:
    async with upstream() as u, trio.open_nursery() as nursery:
        results: list[object] = []

        async def call() -> None:
            results.append(await outcome(u.connection))

        nursery.start_soon(call)
        nursery.start_soon(call)
        await wait_all_tasks_blocked()
        await u.peer.send(reply(1, b"good") + b"GARBAGE\n")
        await u.ended.wait()
        await wait_all_tasks_blocked()
        assert b"good" in results
        assert any(isinstance(result, UpstreamProtocolError) for result in results)


async def test_a_goodbye_of_the_upstream_ends_the_connection_after_the_last_answer(
    autojump_clock: MockClock,
) -> None:
    async with upstream() as u, trio.open_nursery() as nursery:
        results: list[object] = []

        async def call() -> None:
            results.append(await outcome(u.connection))

        nursery.start_soon(call)
        await u.peer.expect(b"~q 1 s m 0 -\n")
        await u.peer.send(b"~g\n")
        await wait_all_tasks_blocked()
        assert not u.connection.serving
        assert not u.ended.is_set()
        await u.peer.send(reply(1, b"last"))
        await u.ended.wait()
        assert results == [b"last"]


async def test_a_goodbye_on_an_idle_connection_ends_it_at_once(autojump_clock: MockClock) -> None:
    async with upstream() as u:
        await u.peer.send(b"~g\n")
        await u.ended.wait()


@pytest.mark.parametrize("end", ["answer", "cancel", "reset"])
async def test_a_drained_upstream_connection_ends_with_its_last_call(
    end: str, autojump_clock: MockClock
) -> None:
    plugin = PIECES if end == "reset" else LINES
    async with upstream(plugin) as u, trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def call() -> None:
            with scope:
                await outcome(u.connection)

        nursery.start_soon(call)
        await wait_all_tasks_blocked()
        u.connection.drain()
        await wait_all_tasks_blocked()
        assert not u.ended.is_set()
        if end == "cancel":
            scope.cancel()
        elif end == "answer":
            await u.peer.send(reply(1))
        else:
            server = PIECES.open(Role.SERVER, DEFAULT_LIMITS)
            server.receive(bytes(await u.peer.raw.receive_some()))
            await u.peer.send(server.send(Reset(1, Status.UNAVAILABLE)))
        await u.ended.wait()


async def test_requests_from_an_upstream_that_nobody_serves_are_refused(
    autojump_clock: MockClock,
) -> None:
    async with upstream() as u:
        await u.peer.send(question(5))
        await u.peer.expect(reply(5, status=Status.UNIMPLEMENTED.value))


async def test_calls_that_wait_for_room_are_told_when_the_connection_breaks(
    autojump_clock: MockClock,
) -> None:
    async with upstream(bounded=True, max_outbox_bytes=1000) as u, trio.open_nursery() as nursery:
        results: list[object] = []

        async def call() -> None:
            results.append(await outcome(u.connection, request_of(ASK, BytesBody(bytes(200_000)))))

        for _ in range(3):
            nursery.start_soon(call)
            await wait_all_tasks_blocked()
        assert u.connection.streams == 1  # two wait for room
        await u.peer.aclose()
        await wait_all_tasks_blocked()
        assert {type(result) for result in results} == {UpstreamReset, UpstreamRefused}


@pytest.mark.parametrize("answers", [True, False])
async def test_an_upstream_that_takes_no_more_is_heard_out(
    answers: bool, autojump_clock: MockClock
) -> None:
    async with upstream() as u, trio.open_nursery() as nursery:
        results: list[object] = []

        async def call() -> None:
            results.append(await outcome(u.connection))

        nursery.start_soon(call)
        await wait_all_tasks_blocked()
        stream = u.connection.wire.stream
        assert isinstance(stream, Deafening)
        stream.deaf = True
        nursery.start_soon(call)
        await wait_all_tasks_blocked()
        # Nobody else is sent there, and what is owed may still come.
        assert isinstance(await outcome(u.connection), UpstreamRefused)
        begin = trio.current_time()
        if answers:
            await u.peer.send(reply(1, b"good") + reply(2, b"told before"))
        await u.ended.wait()
        await wait_all_tasks_blocked()
        if answers:
            assert set(results) == {b"good", b"told before"}
        else:
            assert [type(result) for result in results] == [UpstreamReset] * 2
        assert trio.current_time() - begin == (0 if answers else LAST_WORDS_SECONDS)


def bolt_answer(number: int, *, good: bool) -> bytes:
    many = ResponseHead(status=Status.OK, headers=Headers((str(n), "") for n in range(101)))
    return BoltWire().response(number, OK if good else many, b"x", V1_HESSIAN)


def dubbo_answer(number: int, *, good: bool) -> bytes:
    if good:
        return DubboWire().response(number, OK, b"x", 2)
    size = DEFAULT_LIMITS.max_message_bytes
    return b"\xda\xbb\x02\x14" + number.to_bytes(8) + size.to_bytes(4) + bytes(size)


@pytest.mark.parametrize(
    ("plugin", "answer", "why", "bad"),
    [
        (BOLT, bolt_answer, "more than 100 header pairs", range(10, 51, 10)),
        (DUBBO, dubbo_answer, "limit 16777216", [25]),
    ],
    ids=["bolt", "dubbo"],
)
async def test_an_answer_that_cannot_be_read_fails_its_call_alone(
    plugin: CodecPlugin,
    answer: Callable[..., bytes],
    why: str,
    bad: Sequence[int],
    autojump_clock: MockClock,
) -> None:
    async with upstream(plugin) as u, trio.open_nursery() as nursery:
        results: dict[int, object] = {}

        async def call(number: int) -> None:
            results[number] = await outcome(u.connection)

        for number in range(1, 51):
            nursery.start_soon(call, number)
            await wait_all_tasks_blocked()
        answers = [answer(number, good=number not in bad) for number in range(1, 51)]
        await u.peer.send(b"".join(answers))
        await wait_all_tasks_blocked()
        for number, result in results.items():
            if number not in bad:
                assert result == b"x"
            else:
                assert isinstance(result, UpstreamProtocolError)
                assert why in result.detail
        assert len(results) == 50
        assert u.connection.serving


async def test_a_body_read_while_the_connection_breaks_is_not_sent_to_nobody(
    autojump_clock: MockClock,
) -> None:
    async with upstream() as u, trio.open_nursery() as nursery:
        results: list[object] = []
        body = Fed(b"half")

        async def call() -> None:
            results.append(await outcome(u.connection, request_of(ASK, body)))

        nursery.start_soon(call)
        await wait_all_tasks_blocked()
        await u.peer.aclose()
        await u.ended.wait()
        body.end()
        await wait_all_tasks_blocked()
        assert [type(result) for result in results] == [UpstreamRefused]


async def test_a_cancelled_call_drops_its_late_answer(autojump_clock: MockClock) -> None:
    async with upstream() as u:
        with trio.move_on_after(1):
            await u.connection.call(request_of(ASK))
        assert u.connection.streams == 0
        await u.peer.expect(b"~q 1 s m 0 -\n")
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                assert await outcome(u.connection) == b"mine"

            nursery.start_soon(call)
            await u.peer.expect(b"~q 2 s m 0 -\n")
            await u.peer.send(reply(1, b"late") + reply(2, b"mine") + reply(3, b"unasked"))


async def test_a_call_cancelled_just_as_its_answer_comes(autojump_clock: MockClock) -> None:
    async with upstream() as u:
        for number in range(1, 20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(u.connection.call, request_of(ASK))
                await u.peer.expect(b"~q %d s m 0 -\n" % number)
                await u.peer.send(reply(number))
                for _ in range(number % 5):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            assert u.connection.streams == 0


# ---- reverse requests


async def test_a_server_calls_its_client_on_the_clients_connection(
    autojump_clock: MockClock,
) -> None:
    async def handle(request: Request) -> Response:
        # As a connection-bound upstream would: before it answers, it asks.
        assert request.connection.downstream is not None
        back = await request.connection.downstream.call(request_of(ASK, BytesBody(b"who?")))
        assert isinstance(back.body, BytesBody)
        return Response(OK, BytesBody(b"hello " + back.body.data))

    async with proxy_pair(LINES, handler=handle) as pair:
        await pair.client.send(question(1))  # both directions use id 1: two id spaces
        await pair.client.expect(b"~q 1 s m 4 -\nwho?")
        await pair.client.send(reply(1, b"me"))
        await pair.client.expect(reply(1, b"hello me"))


async def test_reverse_requests_fail_when_the_client_goes(autojump_clock: MockClock) -> None:
    async with proxy_pair(LINES, handler=echo) as pair, trio.open_nursery() as nursery:

        async def call() -> None:
            with pytest.raises(UpstreamReset):
                await pair.driver.call(request_of(ASK))

        nursery.start_soon(call)
        await pair.client.expect(b"~q 1 s m 0 -\n")
        await pair.client.aclose()


async def test_a_bound_upstream_asks_the_client(autojump_clock: MockClock) -> None:
    async with memory_stream() as (stream, server), trio.open_nursery() as nursery:
        bound: Multiplexed | None = None

        async def handle(request: Request) -> Response:
            nonlocal bound
            downstream = request.connection.downstream
            assert downstream is not None
            if bound is None:

                async def back(reverse: Request) -> Response:
                    return await downstream.call(reverse)

                service = Service(back, TimeoutsConfig(), MIB, 10, MIB)
                bound = Multiplexed(
                    stream,
                    LINES.open(Role.CLIENT, DEFAULT_LIMITS),
                    Role.CLIENT,
                    facts_of("lines", LINES.traits),
                    FilterChain("bound", service, DownstreamStats()),
                    pair.timers,
                )
                downstream.bind("bound", bound)
                nursery.start_soon(bound.run)
            return await bound.call(request)

        async with proxy_pair(LINES, handler=handle) as pair:
            await play(
                pair.client >> question(5, b"hi"),
                server << b"~q 1 s m 2 -\nhi",
                # It asks before it answers, with ids of its own.
                server >> question(1, b"a?") + question(9, b"b?"),
            )
            await pair.client.expect(re.compile(rb"~q \d+ s m 2 -\n[ab]\?~q \d+ s m 2 -\n[ab]\?"))
            await pair.client.send(reply(1, b"1") + reply(2, b"2"))
            await server.expect(re.compile(rb"(~s [19] 0 1 -\n[12]){2}"))
            await server.send(reply(1, b"ho"))
            await pair.client.expect(reply(5, b"ho"))
            await pair.client.aclose()
            await server.expect(END)  # it lives and dies with its client
        nursery.cancel_scope.cancel()


def _told(received: bytes | bytearray) -> tuple[int, int]:
    """Return how many resets, and window updates of streams, are among the frames."""
    frames = parse(bytes(received))
    return (
        sum(one.kind == RST_STREAM for one in frames),
        sum(one.kind == WINDOW_UPDATE and one.stream_id != 0 for one in frames),
    )


async def test_after_many_resets_the_connection_is_left_and_no_more_are_said(
    autojump_clock: MockClock,
) -> None:
    async with upstream(HTTP2) as u, trio.open_nursery() as nursery:
        await u.peer.send(settings(()))
        results: list[object] = []

        async def innocent() -> None:
            results.append(await outcome(u.connection, request_of(GET)))

        nursery.start_soon(innocent)
        await wait_all_tasks_blocked()
        with trio.CancelScope() as hasty:
            async with trio.open_nursery() as many:
                for _ in range(MOST_RESETS + 20):
                    many.start_soon(outcome, u.connection, request_of(GET))
                await wait_all_tasks_blocked()
                hasty.cancel()
        await wait_all_tasks_blocked()
        assert not u.connection.serving
        assert not u.ended.is_set()
        assert u.connection.streams == 1
        # What nobody told it of it may answer: into the window of its stream, and no further.
        last = 1 + 2 * (MOST_RESETS + 20)
        await u.peer.send(frame(HEADERS, END_HEADERS, last, b"\x88"))
        await u.peer.send(frame(DATA, 0, last, bytes(16_384)) * 3)
        await wait_all_tasks_blocked()
        assert _told(await u.peer.stream.receive_some()) == (MOST_RESETS, 0)
        # The innocent one is served, and that was all.
        await u.peer.send(frame(HEADERS, END_HEADERS | 1, 1, b"\x88"))
        await u.ended.wait()
        assert results == [b""]


async def test_resets_now_and_then_are_said(autojump_clock: MockClock) -> None:
    async with upstream(HTTP2) as u:
        await u.peer.send(settings(()))
        for _ in range(3 * MOST_RESETS):
            with trio.move_on_after(1.0 / RESETS_A_SECOND):
                await outcome(u.connection, request_of(GET))
        await wait_all_tasks_blocked()
        assert u.connection.serving
        assert _told(await u.peer.stream.receive_some())[0] == 3 * MOST_RESETS
