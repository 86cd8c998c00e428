"""The task of a stream: deadlines, resets, and serving the next one after all of that."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.alive import part
from tests.connection.kit import Fed
from tests.connection.rpc import (
    ASK,
    OK,
    Gate,
    Talker,
    oneway,
    question,
    reply,
    talk,
    timeouts,
)
from xproxy.codecs.bolt.plugin import PLUGIN as BOLT
from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.connection.shared.served import Served
from xproxy.model.errors import DeadlineExceeded, StreamError
from xproxy.model.frames import Data, Head, Reset
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS, KIB
from xproxy.model.message import Local, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Handler, Request, Response
from xproxy.testing import NOTHING, play
from xproxy.testing.fakes import LINES, PIECES
from xproxy.testing.proxy import ProxyPair, proxy_pair

DEADLINE = Status.DEADLINE_EXCEEDED.value


def workers(pair: ProxyPair) -> int:
    """Return how many tasks wait for a stream."""
    assert isinstance(pair.driver, Multiplexed)
    return len(part(pair.driver, Served).idle)


def slow_then_fast(seconds: float) -> Handler:
    """Answer a request that says ``slow`` after a thousand seconds, all others at once."""

    async def handle(request: Request) -> Response:
        request.stream.limit(trio.current_time() + seconds)
        assert isinstance(request.body, BytesBody)
        if request.body.data == b"slow":
            await trio.sleep(1000)
        return Response(OK, request.body)

    return handle


async def test_one_task_serves_stream_after_stream(autojump_clock: MockClock) -> None:
    tasks: set[trio.lowlevel.Task] = set()

    async def handle(request: Request) -> Response:
        tasks.add(trio.lowlevel.current_task())
        return Response(OK, request.body)

    async with proxy_pair(LINES, handler=handle) as pair:
        for i in range(10):
            await play(pair.client >> question(i), pair.client << reply(i))
        assert len(tasks) == 1
        assert workers(pair) == 1
        assert pair.stats.downstream_rq_total == 10


async def test_a_task_that_waited_longer_than_any_timeout_serves_the_next_stream(
    autojump_clock: MockClock,
) -> None:
    limits = timeouts(stream_idle=30, idle=0)
    async with proxy_pair(LINES, handler=slow_then_fast(5), timeouts=limits) as pair:
        for i in range(3):
            await play(pair.client >> question(i), pair.client << reply(i))
            await trio.sleep(1000)
        assert workers(pair) == 1
        assert pair.stats.downstream_rq_timeout == 0


async def test_a_deadline_is_answered_and_hits_no_other(autojump_clock: MockClock) -> None:
    async with proxy_pair(LINES, handler=slow_then_fast(5)) as pair:
        for _ in range(3):
            started = trio.current_time()
            await pair.client.send(question(1, b"slow") + question(2, b"fast"))
            await pair.client.expect(reply(2, b"fast"))
            pair.client.timeout = 10
            await pair.client.expect(reply(1, status=DEADLINE))
            assert trio.current_time() - started == pytest.approx(5)
            await play(pair.client >> question(3, b"fast"), pair.client << reply(3, b"fast"))
        assert pair.stats.downstream_rq_timeout == 3
        assert {r.record.flags for r in pair.requests} == {"", "UT"}


async def test_silence_is_answered(autojump_clock: MockClock) -> None:
    async with proxy_pair(
        LINES, handler=slow_then_fast(500), timeouts=timeouts(stream_idle=30)
    ) as pair:
        pair.client.timeout = 60
        await play(pair.client >> question(1, b"slow"), pair.client << reply(1, status=DEADLINE))
        assert trio.current_time() == pytest.approx(30)
        assert pair.requests[0].record.flags == "SI"


async def test_nobody_is_told_of_a_oneway_message_that_took_too_long(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(LINES, handler=slow_then_fast(5)) as pair:
        await pair.client.send(oneway(1, b"slow"))
        await trio.sleep(10)
        assert pair.stats.downstream_rq_timeout == 1
        assert pair.stats.downstream_rq_active == 0
        await pair.client.expect(NOTHING)


async def test_a_deadline_at_the_very_end_of_a_stream_hits_no_other(
    autojump_clock: MockClock,
) -> None:
    async def let_go(event: trio.Event, when: float) -> None:
        await trio.sleep_until(when)
        event.set()

    async def at_the_last_moment(request: Request) -> Response:
        request.stream.limit(request.started + 1)
        event = trio.Event()
        nursery.start_soon(let_go, event, request.started + 1)
        await event.wait()
        return Response(OK, BytesBody())

    async with (
        trio.open_nursery() as nursery,
        proxy_pair(LINES, handler=at_the_last_moment) as pair,
    ):
        answered = 0
        for i in range(40):
            # In the tick of the deadline comes the next request, for the task that has just become free.
            await pair.client.send(question(2 * i))
            await trio.sleep(1)
            await pair.client.send(question(2 * i + 1))
            await trio.sleep(5)
            answered += len(pair.client.received)
        await pair.client.send(question(1000))
        await trio.sleep(2)
        await wait_all_tasks_blocked()
        got = bytes(await pair.client.raw.receive_some())
        ids = sorted(int(line.split()[1]) for line in got.splitlines())
        assert ids == [*range(80), 1000]
        assert {int(line.split()[2]) for line in got.splitlines()} == {0, DEADLINE}


async def test_a_response_that_takes_too_long_is_reset(autojump_clock: MockClock) -> None:
    async def drip(request: Request) -> Response:
        request.stream.limit(trio.current_time() + 5)
        return Response(OK, Fed(b"half"))

    async with proxy_pair(PIECES, handler=drip) as pair:
        client = talk(pair.client, Role.CLIENT)
        await client.send(Head(1, ASK, b"", True))
        assert isinstance(await client.next(), Head)
        assert await client.next() == Data(1, b"half")
        assert await next_within(client, 10) == Reset(1, Status.DEADLINE_EXCEEDED)
        assert pair.stats.downstream_rq_reset == 1


async def next_within(client: Talker, seconds: float) -> object:
    with trio.fail_after(seconds):
        data = await client.end.raw.receive_some()
    client.frames += client.codec.receive(bytes(data))
    return client.frames.pop(0)


async def test_a_stream_with_half_a_request_that_takes_too_long_is_answered(
    autojump_clock: MockClock,
) -> None:
    async def read(request: Request) -> Response:
        request.stream.limit(trio.current_time() + 3)
        while True:
            await request.body.receive()

    async with proxy_pair(PIECES, handler=read) as pair:
        client = talk(pair.client, Role.CLIENT)
        await client.send(Head(1, ASK), Data(1, b"half"))
        head = await client.next()
        assert isinstance(head, Head)
        assert head.message.status is Status.DEADLINE_EXCEEDED  # type: ignore[union-attr]
        assert await client.next() == Reset(1, Status.OK)  # the rest is not wanted


async def test_a_reset_of_a_stream_that_has_just_ended_hits_no_other(
    autojump_clock: MockClock,
) -> None:
    gate = Gate()
    async with proxy_pair(PIECES, handler=gate) as pair:
        client = talk(pair.client, Role.CLIENT)
        for id_ in range(1, 40):
            await client.send(Head(id_, ASK, b"", True))
            await wait_all_tasks_blocked()
            if id_ == 1:
                gate.let_go(b"")  # from now on they are answered at once
            # The reset may come before, with or after the answer.
            raw = client.codec.send(Reset(id_, Status.CANCELLED)) if id_ % 2 else b""
            if raw:
                await client.end.send(raw)
        await client.send(Head(100, ASK, b"", True))
        answered = set()
        while 100 not in answered:
            frame = await client.next()
            assert isinstance(frame, Head)
            answered.add(frame.stream_id)
        assert answered >= set(range(2, 40, 2))
        assert pair.stats.downstream_rq_active == 0


async def test_a_handlers_work_beside_the_stream_ends_with_it(autojump_clock: MockClock) -> None:
    ended: list[str] = []

    async def beside() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("beside")

    async def handle(request: Request) -> Response:
        started = request.stream.start_soon(beside)
        assert started is not isinstance(request.body, BytesBody)
        await trio.sleep(1)
        return Response(OK, BytesBody())

    async with proxy_pair(PIECES, handler=handle) as pair:
        client = talk(pair.client, Role.CLIENT)
        await client.send(Head(1, ASK, b"", True), Head(2, ASK))
        for _ in range(2):
            assert isinstance(await client.next(), Head)
        await wait_all_tasks_blocked()
        assert ended == ["beside"]


async def test_a_bug_beside_the_stream_is_the_streams_own(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def beside() -> None:
        raise ZeroDivisionError

    async def handle(request: Request) -> Response:
        request.stream.start_soon(beside)
        await trio.sleep(1)
        return Response(OK, BytesBody())

    async with proxy_pair(PIECES, handler=handle) as pair:
        client = talk(pair.client, Role.CLIENT)
        await client.send(Head(1, ASK), Head(2, ASK, b"", True))
        frames = [await client.next() for _ in range(3)]
        statuses = {
            f.stream_id: f.message.status
            for f in frames
            if isinstance(f, Head) and isinstance(f.message, ResponseHead)
        }
        assert statuses == {1: Status.INTERNAL, 2: Status.OK}
    assert "a body failed" in caplog.text


async def test_a_response_the_protocol_cannot_say_is_an_internal_error(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    impossible = ResponseHead(status=Status.OK, headers=Headers([("k", "x" * 100 * KIB)]))

    async def handle(_request: Request) -> Response:
        return Response(impossible, BytesBody())

    async with proxy_pair(PIECES, handler=handle) as pair:
        client = talk(pair.client, Role.CLIENT)
        await client.send(Head(1, ASK, b"", True), Head(2, ASK, b"", True))
        for _ in range(2):
            head = await client.next()
            assert isinstance(head, Head)
            assert head.message.status is Status.INTERNAL  # type: ignore[union-attr]
        assert pair.stats.statuses == {Status.INTERNAL: 2}
    assert "cannot be sent as it is" in caplog.text


@pytest.mark.parametrize("how", ["answered", "failed", "cancelled", "deadline"])
async def test_the_lease_of_a_response_is_always_given_back(
    how: str, autojump_clock: MockClock
) -> None:
    class Lease:
        closed = 0

        async def aclose(self) -> None:
            self.closed += 1

    lease = Lease()

    async def handle(request: Request) -> Response:
        request.stream.limit(trio.current_time() + 5)
        body = {
            "answered": Fed(b"x").ended(),
            "failed": Fed(b"x", failure=StreamError("gone")).ended(),
        }.get(how, Fed(b"x"))
        return Response(OK, body, None, lease)

    async with proxy_pair(PIECES, handler=handle) as pair:
        client = talk(pair.client, Role.CLIENT)
        await client.send(Head(1, ASK, b"", True))
        await wait_all_tasks_blocked()
        if how == "cancelled":
            await client.send(Reset(1, Status.CANCELLED))
        await trio.sleep(6)
        assert lease.closed == 1
        assert pair.stats.downstream_rq_active == 0


async def test_local_replies_carry_what_the_codec_may_say(autojump_clock: MockClock) -> None:
    async def handle(_request: Request) -> Response:
        raise DeadlineExceeded("too late")

    codec = BOLT.open(Role.CLIENT, DEFAULT_LIMITS)
    async with proxy_pair(BOLT, handler=handle) as pair:
        await pair.client.send(codec.send(Head(5, ASK, b"body", True)))
        [head] = codec.receive(bytes(await pair.client.raw.receive_some()))
        assert isinstance(head, Head)
        assert head.stream_id == 5
        assert head.message.status is Status.DEADLINE_EXCEEDED  # type: ignore[union-attr]
        assert not isinstance(head.message.extra, Local)
        assert pair.stats.downstream_rq_local == 1


async def test_idle_tasks_are_bounded_and_end_with_the_connection(
    autojump_clock: MockClock,
) -> None:
    gate = Gate()
    async with proxy_pair(LINES, handler=gate) as pair:
        await pair.client.send(b"".join(question(i, b"%d" % i) for i in range(200)))
        await wait_all_tasks_blocked()
        gate.let_go(*(b"%d" % i for i in range(200)))
        await wait_all_tasks_blocked()
        assert workers(pair) == 64
        await pair.client.aclose()
        await pair.ended.wait()
        assert workers(pair) == 0


async def test_a_deadline_after_the_last_word_of_a_response_says_no_more(
    autojump_clock: MockClock,
) -> None:
    # Giving the lease back takes long. All has been said by then, and the codec would refuse a reset.
    class SlowLease:
        async def aclose(self) -> None:
            await trio.sleep(100)

    async def handle(request: Request) -> Response:
        request.stream.limit(trio.current_time() + 5)
        return Response(OK, Fed(b"x").ended(), None, SlowLease())

    async with proxy_pair(PIECES, handler=handle) as pair:
        client = talk(pair.client, Role.CLIENT)
        for id_ in (1, 2):
            await client.send(Head(id_, ASK, b"", True))
            assert isinstance(await client.next(), Head)
            assert await client.body(id_) == b"x"
            await trio.sleep(10)
        await client.quiet()
        assert not pair.ended.is_set()
        assert pair.stats.downstream_rq_active == 0


async def test_a_reset_at_the_very_end_of_a_stream_hits_no_other(autojump_clock: MockClock) -> None:
    # The reset comes when the stream's task has been woken for its last step. The task waits for its next stream in
    # the very moment in which that is taken from it; or it gets one just then.
    handed_over = 0
    for _ in range(30):
        gate = Gate()
        async with proxy_pair(PIECES, handler=gate) as pair:
            client = talk(pair.client, Role.CLIENT)
            await client.send(Head(1, ASK, b"", True))
            await wait_all_tasks_blocked()
            driver = pair.driver
            assert isinstance(driver, Multiplexed)
            served = part(driver, Served)
            gate.let_go(b"")
            served.reset(Reset(1, Status.CANCELLED))
            while served.by_id:
                await trio.lowlevel.checkpoint()
            handed_over += len(served.idle)
            [frame] = driver.wire.codec.receive(client.codec.send(Head(2, ASK, b"", True)))
            assert isinstance(frame, Head)
            served.requested(frame)
            answers = {(await client.next()).stream_id for _ in range(2)}  # type: ignore[union-attr]
            assert answers == {1, 2}
    assert handed_over
