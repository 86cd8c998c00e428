"""Calls by id: bounds, bodies on their way up, answers that come early, late, or not at all."""

from __future__ import annotations

import gc
import weakref

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.alive import part
from tests.codecs.declared import TOTAL
from tests.connection.kit import Control, Fed, request_of
from tests.connection.rpc import ASK, OK, Saying, Upstream, outcome, reply, talk, upstream
from xproxy.codecs.api import Codec
from xproxy.connection.shared import calls
from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.model.errors import (
    BodyTooLarge,
    LocalProtocolError,
    Overflow,
    RateLimited,
    StreamError,
    UpstreamRefused,
    UpstreamReset,
)
from xproxy.model.frames import Data, GoAway, Head, Reset, Trailers
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS, KIB
from xproxy.model.message import RequestHead, Rpc, Target
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request
from xproxy.testing.fakes import PIECES


async def in_background(
    nursery: trio.Nursery, connection: Multiplexed, *args: object
) -> list[object]:
    results: list[object] = []

    async def call() -> None:
        results.append(await outcome(connection, *args))  # type: ignore[arg-type]

    nursery.start_soon(call)
    await wait_all_tasks_blocked()
    return results


async def test_a_body_in_pieces_is_collected_where_messages_go_whole(
    autojump_clock: MockClock,
) -> None:
    async with upstream() as u, trio.open_nursery() as nursery:
        request = request_of(ASK, Fed(b"ab", b"cd").ended())
        results = await in_background(nursery, u.connection, request)
        await u.peer.expect(b"~q 1 s m 4 -\nabcd")
        assert request.record.received_bytes == 4
        await u.peer.send(reply(1, b"x"))
        await wait_all_tasks_blocked()
        assert results == [b"x"]


async def test_a_body_too_large_for_a_message_is_an_error_and_never_sent(
    autojump_clock: MockClock,
) -> None:
    async with upstream() as u:
        body = Fed(*[bytes(1024 * KIB)] * 17)
        assert isinstance(await outcome(u.connection, request_of(ASK, body)), BodyTooLarge)
        assert u.connection.streams == 0


async def test_oneway_messages_wait_for_nothing(autojump_clock: MockClock) -> None:
    async with upstream() as u:
        head = RequestHead(service="s", method="m", oneway=True)
        response = await u.connection.call(request_of(head, BytesBody(b"x")))
        assert response.head.status is Status.OK
        assert u.connection.streams == 0
        await u.peer.expect(b"~o 1 s m 1 -\nx")


async def test_what_the_protocol_cannot_say_is_our_own_mistake(autojump_clock: MockClock) -> None:
    async with upstream() as u:
        head = RequestHead(service="s", method="m", headers=Headers([("\ud800", "x")]))
        with pytest.raises(LocalProtocolError):
            await u.connection.call(request_of(head))
        assert u.connection.streams == 0


async def test_there_is_a_bound_on_calls(autojump_clock: MockClock) -> None:
    async with upstream() as u, trio.open_nursery() as nursery:
        table = u.connection.wire.asked
        assert isinstance(table, dict)
        stand_in = calls.Call(0, request_of())
        stand_in.over = True
        table.update((-number, stand_in) for number in range(1, 65537))
        assert isinstance(await outcome(u.connection), Overflow)
        for number in range(1, 65537):
            del table[-number]
        results = await in_background(nursery, u.connection)
        await u.peer.send(reply(1))
        await wait_all_tasks_blocked()
        assert results == [b""]


async def test_an_id_in_use_is_not_given_twice(autojump_clock: MockClock) -> None:
    async with upstream() as u, trio.open_nursery() as nursery:
        part(u.connection, calls.Calls).last_id = 0x7FFFFFFE
        for expected in (0x7FFFFFFF, 0, 1):
            await in_background(nursery, u.connection)
            await u.peer.expect(b"~q %d s m 0 -\n" % expected)
        part(u.connection, calls.Calls).last_id = 0x7FFFFFFE
        await in_background(nursery, u.connection)
        await u.peer.expect(b"~q 2 s m 0 -\n")
        nursery.cancel_scope.cancel()


async def asked_id(u: Upstream, server: Codec) -> int:
    """Return the id of the request that the peer gets next."""
    (frame,) = server.receive(bytes(await u.peer.raw.receive_some()))
    assert isinstance(frame, Head)
    return frame.stream_id


def answered(server: Codec, stream_id: int) -> bytes:
    return server.send(Head(stream_id, OK, b"%d" % stream_id, end=True))


async def served(u: Upstream, nursery: trio.Nursery, server: Codec) -> int:
    """Make a call and answer it; return the id it had."""
    results = await in_background(nursery, u.connection)
    stream_id = await asked_id(u, server)
    await u.peer.send(answered(server, stream_id))
    await wait_all_tasks_blocked()
    assert results == [b"%d" % stream_id]
    return stream_id


async def test_ids_wrap_within_their_width(autojump_clock: MockClock) -> None:
    """8 bits here: each of many more calls than that is answered."""
    async with upstream(TOTAL) as u, trio.open_nursery() as nursery:
        server = TOTAL.open(Role.SERVER, DEFAULT_LIMITS)
        slow = await in_background(nursery, u.connection)
        kept = await asked_id(u, server)
        ids = [await served(u, nursery, server) for _ in range(600)]
        assert kept not in ids
        assert set(ids) == set(range(256)) - {kept}
        await u.peer.send(answered(server, kept))
        await wait_all_tasks_blocked()
        assert slow == [b"%d" % kept]


async def test_a_narrow_id_whose_answer_may_still_come_is_not_taken_again(
    autojump_clock: MockClock,
) -> None:
    async with upstream(TOTAL) as u, trio.open_nursery() as nursery:
        server = TOTAL.open(Role.SERVER, DEFAULT_LIMITS)
        async with trio.open_nursery() as given_up:
            await in_background(given_up, u.connection)
            late = await asked_id(u, server)
            given_up.cancel_scope.cancel()
        assert late not in [await served(u, nursery, server) for _ in range(300)]
        await u.peer.send(answered(server, late))
        await wait_all_tasks_blocked()
        assert late in [await served(u, nursery, server) for _ in range(256)]


async def test_a_connection_whose_narrow_ids_are_used_up_takes_no_more(
    autojump_clock: MockClock,
) -> None:
    async with upstream(TOTAL) as u, trio.open_nursery() as nursery:
        for _ in range(255):
            await in_background(nursery, u.connection)
        async with trio.open_nursery() as last:
            await in_background(last, u.connection)
            assert isinstance(await outcome(u.connection), Overflow), "all of them may be answered"
            last.cancel_scope.cancel()
        refused = await outcome(u.connection)
        assert isinstance(refused, UpstreamRefused), "an overdue answer: elsewhere it may go on"
        assert refused.leaving
        nursery.cancel_scope.cancel()


async def test_a_call_before_the_connection_runs_waits_for_it(autojump_clock: MockClock) -> None:
    # The one that dials calls at once.
    async with upstream(PIECES) as u, trio.open_nursery() as nursery:
        assert u.connection.wire.nursery is None
        body = BytesBody(bytes(PIECES.window + 10))
        nursery.start_soon(u.connection.call, request_of(ASK, body))
        server = talk(u.peer, Role.SERVER)
        assert isinstance(await server.next(), Head)
        assert len(await server.body(1)) == PIECES.window + 10
        nursery.cancel_scope.cancel()


async def test_a_large_body_that_came_whole_does_not_keep_its_answer_waiting(
    autojump_clock: MockClock,
) -> None:
    # The upstream answers as it reads, and stops reading until its answer is read.
    async with upstream(PIECES) as u, trio.open_nursery() as nursery:
        size = 4 * PIECES.window
        got: list[bytes] = []

        async def call() -> None:
            response = await u.connection.call(request_of(ASK, BytesBody(bytes(size))))
            while True:
                try:
                    piece = await response.body.receive()
                except trio.EndOfChannel:
                    return
                assert isinstance(piece, bytes)
                got.append(piece)

        nursery.start_soon(call)
        server = talk(u.peer, Role.SERVER)
        assert isinstance(await server.next(), Head)
        await server.send(Head(1, OK))
        echoed = 0
        while echoed < size:
            frame = await server.next()
            if isinstance(frame, Data):
                window = server.codec.sendable(1)  # type: ignore[attr-defined]
                assert window >= len(frame.data)
                await server.send(Data(1, frame.data))
                echoed += len(frame.data)
                credit = server.codec.consumed(1, len(frame.data))  # type: ignore[attr-defined]
                await server.end.send(credit)
        await server.send(Data(1, b"", True))
        await wait_all_tasks_blocked()
        assert sum(map(len, got)) == size
        assert u.connection.streams == 0


@pytest.mark.parametrize("inline", [False, True])
async def test_an_early_answer_stops_the_upload(inline: bool, autojump_clock: MockClock) -> None:
    async with upstream(PIECES) as u, trio.open_nursery() as nursery:
        control = Control(None if inline else nursery)
        body = BytesBody(bytes(4 * PIECES.window))
        results = await in_background(nursery, u.connection, request_of(ASK, body, control))
        server = talk(u.peer, Role.SERVER)
        await server.next()
        await server.send(Head(1, OK, b"", True))
        frame = await server.next()
        while not isinstance(frame, Reset):
            frame = await server.next()
        assert frame == Reset(1, Status.CANCELLED)
        assert results == [b""]
        assert u.connection.streams == 0


async def test_a_request_body_that_breaks_off_fails_the_call_and_resets_the_stream(
    autojump_clock: MockClock,
) -> None:
    async with upstream(PIECES) as u, trio.open_nursery() as nursery:
        body = Fed(b"half", failure=RateLimited("enough")).ended()
        request = request_of(ASK, body, Control(nursery))
        results = await in_background(nursery, u.connection, request)
        assert isinstance(results[0], RateLimited)
        server = talk(u.peer, Role.SERVER)
        frames = [await server.next() for _ in range(3)]
        assert frames[1:] == [Data(1, b"half"), Reset(1, Status.CANCELLED)]


async def test_movement_of_the_body_is_movement_of_the_stream(autojump_clock: MockClock) -> None:
    async with upstream(PIECES) as u, trio.open_nursery() as nursery:
        control = Control(nursery)
        body = Fed(b"a", b"bc", Trailers(1, Headers([("k", "v")])))
        request = request_of(ASK, body, control)
        await in_background(nursery, u.connection, request)
        assert request.record.received_bytes == 3
        assert control.touched == 2
        nursery.cancel_scope.cancel()


async def test_a_goodbye_that_names_the_last_request_fails_the_others(
    autojump_clock: MockClock,
) -> None:
    plugin = Saying()
    async with upstream(plugin) as u, trio.open_nursery() as nursery:
        taken = await in_background(nursery, u.connection)
        refused = await in_background(nursery, u.connection)
        await plugin.say(u.peer, GoAway(last_stream_id=1))
        assert taken == []
        assert isinstance(refused[0], UpstreamRefused)
        assert refused[0].leaving
        assert "before it took the request" in refused[0].detail
        await u.peer.send(reply(1, b"x"))
        await wait_all_tasks_blocked()
        assert taken == [b"x"]


async def test_a_request_after_the_goodbye_is_not_sent(autojump_clock: MockClock) -> None:
    plugin = Saying()
    async with upstream(plugin) as u, trio.open_nursery() as nursery:
        await in_background(nursery, u.connection)
        await plugin.say(u.peer, GoAway(last_stream_id=1))
        late = await outcome(u.connection)
        assert isinstance(late, UpstreamRefused)
        assert late.leaving
        await u.peer.send(reply(1, b"x"))


@pytest.mark.parametrize(("refused", "kind"), [(True, UpstreamRefused), (False, UpstreamReset)])
async def test_a_reset_says_whether_the_request_was_looked_at(
    refused: bool, kind: type[StreamError], autojump_clock: MockClock
) -> None:
    plugin = Saying()
    async with upstream(plugin) as u, trio.open_nursery() as nursery:
        told = await in_background(nursery, u.connection)
        await plugin.say(u.peer, Reset(1, Status.UNAVAILABLE, refused))
        assert type(told[0]) is kind
        assert kind.condition == ("refused-stream" if refused else "reset")


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.INTERNAL, Status.PERMISSION_DENIED])
async def test_a_call_within_a_web_request_is_told_what_a_reset_meant(
    status: Status, autojump_clock: MockClock
) -> None:
    plugin = Saying()
    async with upstream(plugin) as u, trio.open_nursery() as nursery:
        head = attrs.evolve(ASK, extra=Target(path="/s/m", rpc=Rpc("grpc", "s", "m")))
        told = await in_background(nursery, u.connection, request_of(head))
        others = await in_background(nursery, u.connection)
        for stream_id in (1, 2):
            await plugin.say(u.peer, Reset(stream_id, status))
        assert [error.status for error in (*told, *others)] == [status, Status.UNAVAILABLE]  # type: ignore[attr-defined]  # StreamErrors


async def test_each_call_that_fails_gets_an_error_of_its_own(autojump_clock: MockClock) -> None:
    # One shared by many would collect all their tracebacks.
    async with upstream() as u, trio.open_nursery() as nursery:
        one = await in_background(nursery, u.connection)
        two = await in_background(nursery, u.connection)
        await u.peer.aclose()
        await wait_all_tasks_blocked()
        three = await outcome(u.connection)
        assert len({id(one[0]), id(two[0]), id(three)}) == 3


async def test_interim_responses_that_nobody_takes_are_bounded(autojump_clock: MockClock) -> None:
    async with upstream(PIECES) as u, trio.open_nursery() as nursery:
        control = Control()
        control.hold_interim = True
        await in_background(nursery, u.connection, request_of(ASK, control=control))
        server = talk(u.peer, Role.SERVER)
        assert isinstance(await server.next(), Head)
        for _ in range(20):
            await server.send(*[Head(1, OK, interim=True)] * 100)
        await wait_all_tasks_blocked()
        table = u.connection.wire.asked
        assert isinstance(table, dict)
        (call,) = table.values()
        assert len(call.frames) <= calls.MOST_INTERIM
        nursery.cancel_scope.cancel()


async def test_calls_that_serve_again_keep_no_request(autojump_clock: MockClock) -> None:
    """Also where more are in flight than are kept: what a call leaves behind goes without a collection."""
    seen: list[weakref.ref[Request]] = []
    gc.disable()
    try:
        async with upstream() as u:
            for burst in range(3):
                first = 100 * burst + 1

                async def call() -> None:
                    request = request_of(ASK)
                    seen.append(weakref.ref(request))
                    assert await outcome(u.connection, request) == b"x"

                async with trio.open_nursery() as nursery:
                    for _ in range(100):
                        nursery.start_soon(call)
                    await wait_all_tasks_blocked()
                    # The last first: of those that were made anew, so that the others find no room.
                    answers = [reply(number, b"x") for number in range(first + 99, first - 1, -1)]
                    await u.peer.send(b"".join(answers))
                assert len(seen) == 100 * (burst + 1)
                assert not [request for request in seen if request() is not None]
    finally:
        gc.enable()
