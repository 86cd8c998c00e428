"""Bodies that leave in pieces on a shared connection, as fast as windows and outbox allow."""

from __future__ import annotations

from collections.abc import Callable

import trio

from xproxy.codecs.api import Codec, SupportsFlow, supports
from xproxy.connection.shared.outbox import Outbox
from xproxy.model.frames import Data, Trailers
from xproxy.model.status import Status
from xproxy.stream.body import Body, BytesBody


class Outflow:
    """One connection's; any number of streams send at once."""

    __slots__ = ("_codec", "_credit", "_flow", "_outbox")

    def __init__(self, codec: Codec, outbox: Outbox) -> None:
        self._codec = codec
        self._outbox = outbox
        self._flow = codec if supports(codec, SupportsFlow) else None
        self._credit = trio.lowlevel.ParkingLot()

    def fits(self, stream_id: int, body: Body) -> bool:
        """Whether ``body`` is whole and may go out at once."""
        if type(body) is not BytesBody:
            return False
        flow = self._flow
        return flow is None or not body.data or len(body.data) <= flow.sendable(stream_id)

    def credit(self) -> None:
        """The peer gave some: let those who wait look again."""
        self._credit.unpark_all()

    async def send(self, stream_id: int, body: Body, note: Callable[[int], None]) -> Status | None:
        """Send a body to its end, and ``note`` the sizes of its pieces. Return the status its trailers said, if any.

        Raises what the body raises, and LocalProtocolError. Cancelled, it leaves the message without an end.
        """
        send = self._codec.send
        outbox = self._outbox
        while True:
            try:
                piece = await body.receive()
            except trio.EndOfChannel:
                await outbox.room()
                outbox.put(send(Data(stream_id, b"", True)))
                return None
            if isinstance(piece, Trailers):
                await outbox.room()
                outbox.put(send(Trailers(stream_id, piece.headers)))
                return piece.status
            note(len(piece))
            while piece:
                await outbox.room()
                allowed = len(piece) if self._flow is None else self._flow.sendable(stream_id)
                if allowed <= 0:
                    await self._credit.park()
                    continue
                outbox.put(send(Data(stream_id, piece[:allowed])))
                piece = piece[allowed:]
