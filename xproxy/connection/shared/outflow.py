"""Bodies that leave in pieces on a shared connection, as fast as windows and outbox allow."""

from __future__ import annotations

from collections.abc import Callable

import trio

from xproxy.connection.shared.wire import SharedWire
from xproxy.model.frames import Data, Trailers
from xproxy.model.status import Status
from xproxy.stream.body import Body, BytesBody


def fits(wire: SharedWire, stream_id: int, body: Body) -> bool:
    """Whether ``body`` is whole and may go out at once."""
    if type(body) is not BytesBody:
        return False
    flow = wire.flow
    return flow is None or not body.data or len(body.data) <= flow.sendable(stream_id)


async def send_body(
    wire: SharedWire, stream_id: int, body: Body, note: Callable[[int], None]
) -> Status | None:
    """Send a body to its end, and ``note`` the sizes of its pieces. Return the status its trailers said, if any.

    Raises what the body raises, and LocalProtocolError. Cancelled, it leaves the message without an end.
    """
    outbox = wire.outbox
    while True:
        try:
            piece = await body.receive()
        except trio.EndOfChannel:
            await outbox.room()
            outbox.put(wire.codec.send(Data(stream_id, b"", True)))
            return None
        if isinstance(piece, Trailers):
            await outbox.room()
            outbox.put(wire.codec.send(Trailers(stream_id, piece.headers)))
            return piece.status
        note(len(piece))
        while piece:
            await outbox.room()
            flow = wire.flow
            allowed = len(piece) if flow is None else flow.sendable(stream_id)
            if allowed <= 0:
                await wire.credit.park()
                continue
            outbox.put(wire.codec.send(Data(stream_id, piece[:allowed])))
            piece = piece[allowed:]
