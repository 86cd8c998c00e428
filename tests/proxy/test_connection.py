"""A connection's steps before its protocol is known are bounded, and a drain bounds them all."""

from __future__ import annotations

import math

import trio
from trio.testing import MockClock

from xproxy.connection.standing import Moment, Standing
from xproxy.model.address import Address
from xproxy.proxy.connection import Connection
from xproxy.transport.trio_stream import TrioStream

HERE = Address("127.0.0.1", 1)


class Driver:
    idle_since: float | None = None
    standing = Standing.NEVER

    def __init__(self) -> None:
        self.drained = 0

    async def run(self, first: bytes) -> None:
        """Do nothing."""

    def drain(self) -> None:
        self.drained += 1

    def shed(self) -> None:
        self.idle_since = None

    def freeze(self) -> Moment:
        raise NotImplementedError

    def thaw(self) -> None:
        raise NotImplementedError

    def leave(self) -> None:
        raise NotImplementedError


def connection() -> Connection:
    ours, _ = trio.testing.memory_stream_pair()
    return Connection(1, TrioStream(ours, HERE, HERE))


async def test_a_step_ends_at_its_own_bound(autojump_clock: MockClock) -> None:
    one = connection()
    began = trio.current_time()
    with one.within(5) as scope:
        await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() - began == 5
    assert one.within(0).deadline == math.inf


async def test_a_drain_bounds_the_step_under_way_and_those_that_follow() -> None:
    one = connection()
    scope = one.within(100)
    one.drain(2)
    limit = trio.current_time() + 2
    assert scope.deadline <= limit
    assert one.within(100).deadline <= limit
    one.drain(50)
    assert one.within(100).deadline <= limit, "a second drain gives no more time"


async def test_once_the_protocol_is_known_its_driver_drains() -> None:
    one = connection()
    one.driver = driver = Driver()
    one.drain(1)
    assert driver.drained == 1


async def test_it_is_idle_until_its_protocol_is_known_and_then_as_its_driver_says() -> None:
    one = connection()
    assert one.idle_since == one.opened_at
    one.driver = driver = Driver()
    driver.idle_since = 7.0
    assert one.idle_since == 7.0
    one.shed()
    assert driver.idle_since is None, "the driver was told"


async def test_one_that_has_not_spoken_is_closed_at_once() -> None:
    one = connection()
    one.shed()
    assert one.stream.pending
