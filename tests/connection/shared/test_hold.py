"""A reader that waits for room, and what wakes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.kit import memory_stream
from tests.connection.shared.wires import shared_wire
from xproxy.config.schema import TimeoutsConfig
from xproxy.connection.service import DownstreamStats, FilterChain, Service
from xproxy.connection.shared.hold import Hold
from xproxy.connection.shared.inflow import Inflow
from xproxy.connection.shared.outbox import Outbox
from xproxy.connection.shared.served import Served
from xproxy.connection.shared.wire import SharedWire
from xproxy.connection.shared.worker import Worker
from xproxy.model.frames import Data, Head
from xproxy.model.limits import MIB
from xproxy.model.message import RequestHead
from xproxy.model.traits import Role
from xproxy.stream.exchange import Request, Response
from xproxy.testing.proxy import End
from xproxy.transport.stream import ByteStream
from xproxy.transport.timers import Timers

ASK = RequestHead(service="s", method="m")


async def nobody(_request: Request) -> Response:
    raise AssertionError("no stream is served here")


PORT = FilterChain("test", Service(nobody, TimeoutsConfig(), MIB, 1, MIB), DownstreamStats())


class Crowd(Served):
    """As many streams as a test says."""

    forsaken = 0
    full = False

    @property
    def crowded(self) -> bool:
        return self.full

    def client_gone(self) -> None:
        self.forsaken += 1

    def end_one(self) -> None:
        worker = Worker(self._wire, self, PORT, Timers(), Head(1, ASK, b"", True), 1)
        self.by_id[1] = worker
        self.done(worker)


@attrs.define(eq=False)
class Scene:
    wire: SharedWire
    served: Crowd
    hold: Hold
    peer: End
    over: trio.Event = attrs.field(factory=trio.Event)

    async def wait(self) -> None:
        await self.hold.wait()
        self.over.set()


def scene_of(stream: ByteStream, peer: End, role: Role = Role.SERVER) -> Scene:
    wire = shared_wire(stream=stream, outbox=Outbox(8, 0.0), role=role)
    served = Crowd(wire, PORT, Timers())
    return Scene(wire, served, Hold(wire, served), peer)


@asynccontextmanager
async def holding(prepare: Callable[[Scene], None]) -> AsyncIterator[Scene]:
    """Give a hold that waits for what ``prepare`` made short."""
    async with memory_stream() as (stream, peer), trio.open_nursery() as nursery:
        scene = scene_of(stream, peer)
        prepare(scene)
        nursery.start_soon(scene.wait)
        await wait_all_tasks_blocked()
        assert (scene.wire.read_disabled, scene.over.is_set()) == (True, False)
        yield scene
        await wait_all_tasks_blocked()
        assert (scene.wire.read_disabled, scene.over.is_set()) == (False, True)
        nursery.cancel_scope.cancel()


def full_outbox(scene: Scene) -> None:
    scene.wire.outbox.put(b"more than 8 bytes")


def full_body(scene: Scene) -> None:
    scene.hold.congested = Inflow(scene.wire, 1, b"")
    scene.hold.congested.feed(Data(1, bytes(Inflow.LIMIT)))


def too_many_streams(scene: Scene) -> None:
    scene.served.full = True


async def test_room_in_the_outbox(autojump_clock: MockClock) -> None:
    async with holding(full_outbox) as scene:
        scene.wire.outbox.finish()
        await scene.wire.outbox.run(scene.wire)


async def test_room_in_a_body(autojump_clock: MockClock) -> None:
    async with holding(full_body) as scene:
        assert scene.hold.congested is not None
        await scene.hold.congested.receive()
        await wait_all_tasks_blocked()
        assert scene.hold.congested is None


async def test_room_for_streams(autojump_clock: MockClock) -> None:
    async with holding(too_many_streams) as scene:
        scene.served.end_one()  # not enough of them
        await wait_all_tasks_blocked()
        assert not scene.over.is_set()
        scene.served.full = False
        scene.served.end_one()


@pytest.mark.parametrize("prepare", [full_body, too_many_streams])
async def test_a_peer_that_hangs_up_meanwhile_is_noticed_and_what_it_sent_still_read(
    prepare: Callable[[Scene], None], autojump_clock: MockClock
) -> None:
    async with holding(prepare) as scene:
        await scene.peer.aclose()
        await wait_all_tasks_blocked()
        assert scene.served.forsaken == 1
        assert not scene.over.is_set()
        if scene.hold.congested is not None:
            await scene.hold.congested.receive()
        scene.served.full = False
        scene.served.end_one()


async def test_who_asks_goes_on_reading_whatever_waits_to_be_written(
    autojump_clock: MockClock,
) -> None:
    async with memory_stream() as (stream, peer):
        scene = scene_of(stream, peer, Role.CLIENT)
        full_outbox(scene)
        await scene.wait()
        assert not scene.wire.read_disabled
