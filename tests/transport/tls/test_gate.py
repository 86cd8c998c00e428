from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transport.ends import PATIENCE
from xproxy.transport.tls.gate import HandshakeGate, TooManyHandshakes


async def test_places_are_bounded_and_given_in_turn() -> None:
    gate = HandshakeGate(max_concurrent=2)
    begun: list[int] = []
    leave = [trio.Event() for _ in range(4)]

    async def one(number: int) -> None:
        async with gate.place():
            begun.append(number)
            await leave[number].wait()

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(one, number)
            await wait_all_tasks_blocked()
        assert (begun, gate.under_way, gate.waiting) == ([0, 1], 2, 2)
        with pytest.raises(TooManyHandshakes, match="too many handshakes"):
            async with gate.place():
                pass
        assert gate.refused == 1
        leave[1].set()
        await wait_all_tasks_blocked()
        assert begun == [0, 1, 2]
        for event in leave:
            event.set()
    assert (gate.under_way, gate.waiting) == (0, 0)


async def test_a_cancelled_waiter_leaves_no_trace() -> None:
    gate = HandshakeGate(max_concurrent=1)
    async with gate.place():
        with trio.move_on_after(0):
            async with gate.place():
                pytest.fail("there was no place")
        assert (gate.under_way, gate.waiting) == (1, 0)
    assert gate.under_way == 0
    async with gate.place():
        assert gate.under_way == 1


async def test_a_slow_one_gives_way_to_one_that_waits(autojump_clock: MockClock) -> None:
    gate = HandshakeGate(max_concurrent=2, patience=1.0)
    ended: list[tuple[int, float]] = []

    async def stalled(number: int) -> None:
        with pytest.raises(TooManyHandshakes, match="too slow while others wait"):
            async with gate.place():
                await trio.sleep_forever()
        ended.append((number, trio.current_time()))

    async with trio.open_nursery() as nursery:
        begin = trio.current_time()
        for number in range(2):
            nursery.start_soon(stalled, number)
            await wait_all_tasks_blocked()
        await trio.sleep(2)
        for _ in range(2):
            async with gate.place():
                pass
        nursery.start_soon(stalled, 2)
        await trio.sleep(2)
        async with gate.place():
            assert gate.evicted >= 2
            nursery.cancel_scope.cancel()
    assert ended[0][0] == 0
    assert all(when - begin >= 2 for _, when in ended)


async def test_steps_beyond_a_ticks_share_wait_and_others_have_their_turn() -> None:
    gate = HandshakeGate(seconds_a_tick=0.002)
    done = ticks = 0
    most = 0.0
    spent_this_tick = 0.0

    async def handshake() -> None:
        nonlocal done, spent_this_tick
        await gate.turn()
        gate.spend(0.001)
        spent_this_tick += 0.001
        done += 1

    async def neighbour() -> None:
        nonlocal ticks, most, spent_this_tick
        while done < 100:
            most, spent_this_tick = max(most, spent_this_tick), 0.0
            ticks += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(neighbour)
        for _ in range(100):
            nursery.start_soon(handshake)
    assert done == 100
    assert gate.delayed > 50
    assert ticks >= 25
    assert most <= 0.010  # some milliseconds, where all of them at once were a hundred


@pytest.mark.parametrize("survivors", [1, 3, 7])
async def test_nobody_is_forgotten_when_others_are_cancelled(survivors: int) -> None:
    gate = HandshakeGate(seconds_a_tick=0.001)
    gate.spend(1)
    done: list[int] = []
    scopes = [trio.CancelScope() for _ in range(40)]

    async def handshake(number: int, scope: trio.CancelScope) -> None:
        with scope:
            await gate.turn()
            gate.spend(0.0001)
            done.append(number)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for number, scope in enumerate(scopes):
                nursery.start_soon(handshake, number, scope)
            await trio.lowlevel.checkpoint()
            for number, scope in enumerate(scopes):
                if number % survivors:
                    scope.cancel()
    assert {n for n in range(40) if n % survivors == 0} <= set(done)
