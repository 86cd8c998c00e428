"""Heartbeats: asked in silence only, any byte is an answer, and too many misses end it."""

from __future__ import annotations

import attrs
import pytest
import trio
import trio.lowlevel
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.connection.rpc import outcome, reply, upstream
from tests.connection.shared.wires import Mute, Sink
from xproxy.connection.shared.keepalive import keepalive
from xproxy.connection.shared.outbox import Outbox
from xproxy.connection.shared.wire import SharedWire
from xproxy.model.traits import Role, Sharing, Traits
from xproxy.testing.fakes import LINES, LinesPlugin
from xproxy.testing.proxy import facts_of


class Watched(SharedWire):
    """A wire that says nothing itself."""

    def __init__(self, codec: Asking) -> None:
        super().__init__(
            Sink(),
            codec,
            Outbox(1000, 60),
            Role.CLIENT,
            facts_of("test", Traits(sharing=Sharing.MESSAGES)),
            whole=True,
        )
        self.read_at = self.spoken_at = trio.current_time()
        self.drained: list[float] = []

    def goodbye(self) -> None:
        self.drained.append(trio.current_time())


class Asking(Mute):
    def __init__(self, question: bytes = b"?") -> None:
        self.asked: list[float] = []
        self._question = question

    def heartbeat(self) -> bytes:
        self.asked.append(trio.current_time())
        return self._question


def asking(question: bytes = b"?") -> tuple[Watched, Asking]:
    codec = Asking(question)
    return Watched(codec), codec


async def test_a_silent_peer_is_asked_and_given_up(autojump_clock: MockClock) -> None:
    watched, codec = asking()
    await keepalive(watched, 10, 2, 3)
    assert codec.asked == [10, 12, 14]
    assert trio.current_time() == 16
    assert "none of 3 heartbeats" in watched.detail
    assert watched.outbox.size == 3


async def test_a_peer_whose_answer_waits_to_be_read_is_not_given_up(
    autojump_clock: MockClock,
) -> None:
    watched, _ = asking()
    sink = watched.stream
    assert isinstance(sink, Sink)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keepalive, watched, 10, 2, 3)
        await trio.sleep(11)
        sink.pending = True
        await trio.sleep(100)
        assert not watched.detail
        sink.pending = False
    assert watched.detail


async def test_a_peer_that_speaks_is_not_asked(autojump_clock: MockClock) -> None:
    watched, codec = asking()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keepalive, watched, 10, 2, 3)
        for _ in range(10):
            await trio.sleep(9)
            watched.read_at = trio.current_time()
        assert codec.asked == []
        nursery.cancel_scope.cancel()


async def test_any_byte_is_an_answer(autojump_clock: MockClock) -> None:
    watched, codec = asking()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keepalive, watched, 10, 2, 2)
        for answered_at in (11.0, 22.0, 33.0):
            await trio.sleep_until(answered_at)
            watched.read_at = trio.current_time()
        await trio.sleep_until(35)
        # The last was asked once more, ten seconds after the last byte.
        assert codec.asked == [10, 21, 32]
        nursery.cancel_scope.cancel()
    assert watched.detail == ""


async def test_an_answer_to_the_last_question_is_in_time(autojump_clock: MockClock) -> None:
    watched, codec = asking()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keepalive, watched, 10, 2, 3)
        await trio.sleep_until(15.5)
        watched.read_at = trio.current_time()
        await trio.sleep_until(25)
        assert codec.asked == [10, 12, 14]
        assert watched.detail == ""
        nursery.cancel_scope.cancel()


async def test_a_dialect_without_such_a_question_is_left_alone(autojump_clock: MockClock) -> None:
    watched, _ = asking(b"")
    await keepalive(watched, 10, 2, 3)
    assert watched.detail == ""
    assert watched.outbox.size == 0


async def test_a_peer_that_takes_questions_for_abuse_is_asked_rarely(
    autojump_clock: MockClock,
) -> None:
    watched, codec = asking()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keepalive, watched, 10, 2, 3, 300)

        async def answer(at: float, *, speaking: bool = False) -> None:
            await trio.sleep_until(at)
            watched.read_at = trio.current_time()
            if speaking:
                watched.spoken_at = trio.current_time()

        await answer(11)
        await answer(200)  # it asks us, say: that is no message
        await answer(311)
        await answer(400, speaking=True)
        await answer(411)
        await trio.sleep_until(700)
        assert codec.asked == [10, 310, 410]
        await trio.sleep_until(715)
        # Once, and the answer may come as late as the last of three.
        assert codec.asked == [10, 310, 410, 710]
        assert watched.detail == ""
        await trio.sleep_until(717)
        assert "none of 3 heartbeats" in watched.detail


@settings(max_examples=100)
@given(
    st.floats(0, 1e6, allow_nan=False),
    st.floats(0.001, 100),
    st.floats(0.001, 10),
    st.integers(1, 4),
)
def test_no_rounding_makes_it_spin(
    start: float, interval: float, timeout: float, misses: int
) -> None:
    # A sum that comes back smaller would wait for a time that is over, at the same moment of a mock clock for ever.
    codec = Asking()

    async def main() -> None:
        await trio.sleep(start)
        await keepalive(Watched(codec), interval, timeout, misses)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert len(codec.asked) == misses


async def test_a_busy_peer_is_asked_again_and_sent_nothing_more(
    autojump_clock: MockClock,
) -> None:
    watched, codec = asking()
    watched.asked = (1,)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keepalive, watched, 10, 2, 2)
        await trio.sleep_until(39)
        assert codec.asked == [10, 12, 24, 26, 38]
        assert watched.drained == [14, 28]
        assert watched.detail == ""
        watched.asked = ()
        await trio.sleep_until(100)
        assert watched.detail
        nursery.cancel_scope.cancel()


async def test_where_streams_say_themselves_that_they_live_a_silent_peer_is_given_up(
    autojump_clock: MockClock,
) -> None:
    watched, _ = asking()
    watched.asked, watched.whole = (1,), False
    await keepalive(watched, 10, 2, 2)
    assert watched.detail


async def test_a_call_of_a_busy_peer_has_its_time(autojump_clock: MockClock) -> None:
    async with upstream(heartbeat=(15, 1, 3)) as u, trio.open_nursery() as nursery:
        results: list[object] = []

        async def call() -> None:
            results.append(await outcome(u.connection))

        nursery.start_soon(call)
        await trio.sleep(22)
        assert not u.connection.serving  # nobody new is sent there
        await u.peer.send(reply(1, b"at last"))
        await u.ended.wait()
        assert results == [b"at last"]
        assert trio.current_time() == 22


async def test_a_dead_peer_is_left_once_its_calls_have_had_their_time(
    autojump_clock: MockClock,
) -> None:
    async with upstream(heartbeat=(15, 1, 3)) as u:
        with trio.move_on_after(60):
            await outcome(u.connection)
        await u.ended.wait()
        assert trio.current_time() == 60


async def test_a_connection_whose_peer_is_dead_is_given_up(autojump_clock: MockClock) -> None:
    async with upstream(heartbeat=(15, 1, 3)) as u:
        await u.ended.wait()
        assert trio.current_time() == pytest.approx(18)


async def test_a_connection_whose_peer_answers_lives(autojump_clock: MockClock) -> None:
    async with upstream(heartbeat=(15, 1, 3)) as u, trio.open_nursery() as nursery:
        for _ in range(5):
            await trio.sleep(15)
            u.peer.timeout = 1
            await u.peer.expect(b"~h\n")
            await u.peer.send(b"~H\n")
        assert not u.ended.is_set()
        results: list[object] = []

        async def call() -> None:
            results.append(await outcome(u.connection))

        nursery.start_soon(call)
        await u.peer.expect(b"~q 1 s m 0 -\n")
        await u.peer.send(reply(1, b"x"))
        await trio.sleep(1)
        assert results == [b"x"]


async def test_a_message_lets_a_rarely_asked_peer_be_asked_again(
    autojump_clock: MockClock,
) -> None:
    rare = LinesPlugin(name="rare", traits=attrs.evolve(LINES.traits, heartbeat_pause=300))
    async with upstream(rare, heartbeat=(15, 1, 3)) as u, trio.open_nursery() as nursery:
        await trio.sleep(15)
        await u.peer.expect(b"~h\n")
        await u.peer.send(b"~H\n")
        await trio.sleep(85)
        nursery.start_soon(outcome, u.connection)
        await u.peer.expect(b"~q 1 s m 0 -\n")  # and no question before it
        await u.peer.send(reply(1, b"x"))
        await trio.sleep(15)
        await u.peer.expect(b"~h\n")
        nursery.cancel_scope.cancel()


async def test_a_peer_that_is_busy_taking_what_we_send_lives(autojump_clock: MockClock) -> None:
    watched, _ = asking()
    watched.outbox.put(b"a long message")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keepalive, watched, 10, 2, 3)
        for _ in range(100):
            await trio.sleep(1)
            watched.outbox.written += 1
        assert watched.detail == ""
        await trio.sleep(20)  # now it takes no more
        assert "heartbeats" in watched.detail
