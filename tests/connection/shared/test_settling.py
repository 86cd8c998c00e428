"""Waiting for a peer's word on how many requests it takes."""

from __future__ import annotations

import attrs
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.shared.wires import Mute, shared_wire
from xproxy.connection.shared.settling import Settling


@attrs.define
class Bound(Mute):
    """A codec that bounds requests, as far as this asks it."""

    settled: bool = False
    saturated: bool = False
    blocked: bool = False
    waiting: int = 0


async def test_those_who_wait_are_told_at_once(autojump_clock: MockClock) -> None:
    bound = Bound()
    settling = Settling(shared_wire(bound))
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(settling.wait, 60.0)
        await wait_all_tasks_blocked()
        settling.look()  # it said something else
        await wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 2
        bound.settled = True
        settling.look()
    assert not settling.awaited
    assert trio.current_time() < 1.0
    await settling.wait(60.0)  # it is known by now
    assert trio.current_time() < 1.0


async def test_nobody_waits_for_ever(autojump_clock: MockClock) -> None:
    settling = Settling(shared_wire(Bound()))
    before = trio.current_time()
    await settling.wait(3.0)
    assert trio.current_time() - before == 3.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(settling.wait, 60.0)
        await wait_all_tasks_blocked()
        settling.end()
        settling.end()
    assert trio.current_time() - before == 3.0


async def test_a_protocol_without_a_bound_is_not_waited_for() -> None:
    settling = Settling(shared_wire())
    await settling.wait(60.0)
    settling.look()
    assert not settling.awaited
