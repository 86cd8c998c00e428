"""Request bodies of a serial connection that did not come whole: read from the client as they are forwarded."""

from __future__ import annotations

import math
from typing import Protocol

import trio

from xproxy.connection.serial.body import PulledBody
from xproxy.connection.serial.wire import SerialWire
from xproxy.model.errors import RequestTimeout
from xproxy.model.frames import Frame
from xproxy.transport.stream import Moved


class BodyOwner(Protocol):
    """The connection as its request bodies see it."""

    wire: SerialWire

    @property
    def patience(self) -> float:
        """Seconds that may pass between two pieces; infinite where silence is the stream's own affair."""
        ...

    def touch(self) -> None: ...


class RequestBody(PulledBody):
    """The body of the request under way."""

    __slots__ = ("_owner",)

    def __init__(self, owner: BodyOwner, first: bytes) -> None:
        super().__init__(owner.wire, first)
        self._owner = owner

    def comes_from(self, wire: SerialWire) -> bool:
        """Whether it is that connection's."""
        return self._wire is wire

    async def _pull(self) -> Frame | None:
        owner = self._owner
        limit = owner.patience
        try:
            if limit == math.inf or self._wire.inbox:
                frame = await self._wire.pull()
            else:
                while True:
                    with trio.move_on_after(limit) as scope:
                        frame = await self._wire.pull()
                    if not scope.cancelled_caught:
                        break
                    if not self._wire.paused:  # then it is nobody's fault, and it has the time anew
                        raise RequestTimeout(
                            f"no piece of the request body came for {limit:g} s (timeouts.body)"
                        )
        except Moved:
            raise
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise self._break_off(str(exc)) from exc
        owner.touch()
        return frame


class TunnelBody(RequestBody):
    """What a client sends into a tunnel. Nothing of it is read before the tunnel is open.

    Before the answer nobody knows what the bytes behind the request are: the first of the tunnel, or another request.
    """

    __slots__ = ("_opened",)

    def __init__(self, owner: BodyOwner, first: bytes) -> None:
        super().__init__(owner, first)
        self._opened = trio.Event()

    def open(self) -> None:
        """The answer that grants the tunnel was given to the codec: what it held back belongs to the tunnel."""
        if not self._opened.is_set():
            self._wire.inbox.extend(self._wire.codec.receive(b""))
            self._opened.set()

    async def _pull(self) -> Frame | None:
        await self._opened.wait()
        return await super()._pull()
