"""Wires of shared connections for tests of one part of them: a stream that takes what it is told to, a codec."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from xproxy.codecs.api import Codec
from xproxy.connection.shared.outbox import Outbox
from xproxy.connection.shared.wire import SharedWire
from xproxy.model.address import Address
from xproxy.model.frames import Frame
from xproxy.model.traits import Role, Sharing, Traits
from xproxy.testing.proxy import facts_of
from xproxy.transport.stream import ByteStream


class Sink:
    """A ByteStream that takes as much as it is told to."""

    hung_up = half_close = False
    pending = False

    def __init__(self, room: int = 10**9) -> None:
        self.peer = self.local = Address("192.0.2.1", 1)
        self.room = room
        self.writes: list[bytes] = []
        self.failure: Exception | None = None
        self._more = trio.lowlevel.ParkingLot()

    @property
    def data(self) -> bytes:
        return b"".join(self.writes)

    def give(self, room: int) -> None:
        self.room += room
        self._more.unpark_all()

    def fail(self, failure: Exception) -> None:
        self.failure = failure
        self._more.unpark_all()

    async def read(self) -> bytes:
        raise NotImplementedError

    def read_now(self) -> bytes | None:
        raise NotImplementedError

    def settle(self, more: float = 0.0) -> None:
        raise NotImplementedError

    async def turn(self) -> None:
        raise NotImplementedError

    async def pause(self, seconds: float) -> None:
        raise NotImplementedError

    def write_now(self, data: bytes | memoryview) -> int:
        if self.failure is not None:
            raise self.failure
        taken = bytes(data[: self.room])
        self.room -= len(taken)
        self.writes.append(taken)
        return len(taken)

    async def wait_writable(self) -> None:
        while not self.room and self.failure is None:
            await self._more.park()

    def watch(self, scope: trio.CancelScope | None) -> None:
        raise NotImplementedError

    def shutdown_write(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """See ByteStream."""

    def abort(self) -> None:
        """See ByteStream."""
        self.fail(trio.BrokenResourceError("aborted"))


class Mute:
    """A codec that has nothing to say."""

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        return ()

    def send(self, frame: Frame) -> bytes:
        return b""


def shared_wire(
    codec: Codec | None = None,
    stream: ByteStream | None = None,
    *,
    outbox: Outbox | None = None,
    role: Role = Role.SERVER,
    whole: bool = True,
) -> SharedWire:
    """Return a wire of nobody's connection."""
    return SharedWire(
        stream or Sink(),
        codec or Mute(),
        outbox or Outbox(1000, 60),
        role,
        facts_of("test", Traits(sharing=Sharing.MESSAGES)),
        whole=whole,
    )
