"""A shared connection that has ended, and those of its parts that others still hold."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.alive import part
from tests.connection.rpc import outcome, upstream
from tests.connection.shared.wires import shared_wire
from xproxy.connection.phase import Event, Phase
from xproxy.connection.shared.calls import Calls
from xproxy.model.errors import UpstreamRefused


@contextmanager
def without_collector() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def test_a_connection_that_has_ended_takes_nothing_and_says_so(
    autojump_clock: MockClock,
) -> None:
    async with upstream() as u:
        await u.peer.aclose()
        await u.ended.wait()
        connection = u.connection
        assert isinstance(await outcome(connection), UpstreamRefused)
        assert connection.streams == 0
        wire = connection.wire
        assert wire.phase is Phase.CLOSED
        wire.consumed(1, 100)
        wire.abandon(1)
        wire.finish_if_idle()
        wire.stop_streams()
        connection.drain()
        connection.close_soon()
        assert wire.phase is Phase.CLOSED
        with pytest.raises(trio.ClosedResourceError):
            wire.spawn(trio.sleep_forever)


async def test_it_goes_with_the_last_who_holds_it(autojump_clock: MockClock) -> None:
    with without_collector():
        async with upstream() as u, trio.open_nursery() as nursery:
            nursery.start_soon(outcome, u.connection)
            await wait_all_tasks_blocked()
            await u.peer.aclose()
            await u.ended.wait()
            calls, gone = part(u.connection, Calls), weakref.ref(u.connection)
        del u
        assert gone() is None
        assert len(calls) == 0


def test_who_looks_for_room_is_told_when_none_will_be_here_any_more() -> None:
    wire = shared_wire()
    told: list[Phase] = []
    wire.on_room = lambda: told.append(wire.phase)
    for event in (Event.DRAIN, Event.GOODBYE, Event.CLOSE):
        wire.after(event)
    assert told == [Phase.DRAINING, Phase.LEAVING, Phase.CLOSED]


async def test_who_looks_for_room_is_told_of_each_call_that_ends(autojump_clock: MockClock) -> None:
    async with upstream() as u, trio.open_nursery() as nursery:
        streams: list[int] = []
        u.connection.wire.on_room = lambda: streams.append(u.connection.streams)
        for _ in range(2):
            nursery.start_soon(outcome, u.connection)
        await wait_all_tasks_blocked()
        assert streams == []
        nursery.cancel_scope.cancel()
    assert streams[:2] == [1, 0]
