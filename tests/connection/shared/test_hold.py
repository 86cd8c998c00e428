"""A reader that waits for room, and what wakes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.kit import memory_stream
from xproxy.connection.shared.hold import Hold
from xproxy.connection.shared.inflow import Inflow
from xproxy.connection.shared.outbox import Outbox
from xproxy.model.frames import Data
from xproxy.model.traits import Role
from xproxy.stream.held import Share, uncounted
from xproxy.testing.proxy import End
from xproxy.transport.stream import ByteStream


@attrs.define(eq=False)
class Reader:
    """A connection, as far as its hold sees it; the carrier of its bodies too."""

    stream: ByteStream
    outbox: Outbox
    role: Role = Role.SERVER
    deaf: bool = False
    crowded: bool = False
    forsaken: int = 0
    share: Share = attrs.field(factory=uncounted)

    def forsake(self) -> None:
        self.forsaken += 1

    def consumed(self, stream_id: int, count: int) -> None: ...

    def release(self, stream_id: int) -> None: ...


@attrs.define(eq=False)
class Scene:
    reader: Reader
    hold: Hold
    peer: End
    over: trio.Event = attrs.field(factory=trio.Event)

    async def wait(self) -> None:
        await self.hold.wait()
        self.over.set()


@asynccontextmanager
async def holding(prepare: Callable[[Reader, Hold], None]) -> AsyncIterator[Scene]:
    """Give a hold that waits for what ``prepare`` made short."""
    async with memory_stream() as (stream, peer), trio.open_nursery() as nursery:
        reader = Reader(stream, Outbox(stream, 8, 0.0))
        scene = Scene(reader, Hold(reader), peer)
        prepare(reader, scene.hold)
        nursery.start_soon(scene.wait)
        await wait_all_tasks_blocked()
        assert (reader.deaf, scene.over.is_set()) == (True, False)
        yield scene
        await wait_all_tasks_blocked()
        assert (reader.deaf, scene.over.is_set()) == (False, True)
        nursery.cancel_scope.cancel()


def full_outbox(reader: Reader, _hold: Hold) -> None:
    reader.outbox.put(b"more than 8 bytes")


def full_body(reader: Reader, hold: Hold) -> None:
    hold.congested = Inflow(reader, 1, b"")
    hold.congested.feed(Data(1, bytes(Inflow.LIMIT)))


def too_many_streams(reader: Reader, _hold: Hold) -> None:
    reader.crowded = True


async def test_room_in_the_outbox(autojump_clock: MockClock) -> None:
    async with holding(full_outbox) as scene:
        scene.reader.outbox.finish()
        await scene.reader.outbox.run()


async def test_room_in_a_body(autojump_clock: MockClock) -> None:
    async with holding(full_body) as scene:
        assert scene.hold.congested is not None
        await scene.hold.congested.receive()
        await wait_all_tasks_blocked()
        assert scene.hold.congested is None


async def test_room_for_streams(autojump_clock: MockClock) -> None:
    async with holding(too_many_streams) as scene:
        assert scene.hold.wants_streams
        scene.hold.stream_ended()  # not enough of them
        await wait_all_tasks_blocked()
        assert not scene.over.is_set()
        scene.reader.crowded = False
        scene.hold.stream_ended()
        await wait_all_tasks_blocked()
        assert not scene.hold.wants_streams


@pytest.mark.parametrize("prepare", [full_body, too_many_streams])
async def test_a_peer_that_hangs_up_meanwhile_is_noticed_and_what_it_sent_still_read(
    prepare: Callable[[Reader, Hold], None], autojump_clock: MockClock
) -> None:
    async with holding(prepare) as scene:
        await scene.peer.aclose()
        await wait_all_tasks_blocked()
        assert scene.reader.forsaken == 1
        assert not scene.over.is_set()
        if scene.hold.congested is not None:
            await scene.hold.congested.receive()
        scene.reader.crowded = False
        scene.hold.stream_ended()


async def test_who_asks_goes_on_reading_whatever_waits_to_be_written(
    autojump_clock: MockClock,
) -> None:
    async with memory_stream() as (stream, _peer):
        reader = Reader(stream, Outbox(stream, 8, 0.0), Role.CLIENT)
        full_outbox(reader, Hold(reader))
        await Hold(reader).wait()
        assert not reader.deaf
