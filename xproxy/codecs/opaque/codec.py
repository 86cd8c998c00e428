"""L4 as a codec with one stream and no head. There is no ``wire.py`` beside it: the wire is the bytes themselves.

Both directions flow on stream 1. The head is made up by the codec at the first ``receive``, so that filters, routes
and the cluster see a stream like any other; each piece that arrives is one ``Data`` holding the very bytes read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from xproxy.codecs.opaque.snapshot import SCHEMA
from xproxy.codecs.opaque.state import State
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, Frame, GoAway, Head, Reset, Trailers
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

STREAM: Final = 1
"""The id of the one stream."""

_HEADS: Final = {
    Role.SERVER: Head(STREAM, RequestHead(service="", method="")),
    Role.CLIENT: Head(STREAM, ResponseHead(status=Status.OK, native_status=0)),
}


class OpaqueCodec:
    """See the module."""

    __slots__ = ("_flowing", "_role", "_state")

    def __init__(self, role: Role, state: State) -> None:
        self._role = role
        self._state = state
        # The hot path asks one question: is this a piece in the middle of the stream?
        self._flowing = state.started and not state.peer_ended

    @property
    def transparent(self) -> bool:
        """See SupportsBypass."""
        return self._flowing

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        """Give the head first, then each piece as Data, the end, and GoAway once both directions have ended."""
        if data and self._flowing:
            return (Data(STREAM, data),)
        state = self._state
        frames: list[Frame] = []
        if not state.started:
            state.started = self._flowing = True
            frames.append(_HEADS[self._role])
        if not state.peer_ended:
            if data is None:
                state.peer_ended = True
                self._flowing = False
                frames.append(Data(STREAM, b"", end=True))
            elif data:
                frames.append(Data(STREAM, data))
        if state.peer_ended and state.ended and not state.over:
            state.over = True
            frames.append(GoAway())
        return frames

    def send(self, frame: Frame) -> bytes:
        """Return the frame's own bytes. Raises LocalProtocolError after our end, and for connection frames."""
        state = self._state
        if isinstance(frame, Reset):
            # L4 has no word for it: the driver closes the socket.
            state.ended = state.peer_ended = True
            self._flowing = False
            return b""
        if state.ended:
            raise LocalProtocolError("the stream has been ended")
        if isinstance(frame, Data):
            state.ended = frame.end
            return frame.data
        if isinstance(frame, Head):
            return self._send_head(frame)
        if isinstance(frame, Trailers):
            state.ended = True
            return b""
        raise LocalProtocolError(f"{type(frame).__name__} has no meaning on an opaque connection")

    def snapshot(self) -> bytes:
        """Return the state for ``restore``."""
        return SCHEMA.pack(self._state)

    def _send_head(self, frame: Head) -> bytes:
        message = frame.message
        if isinstance(message, RequestHead) is not (self._role is Role.CLIENT):
            raise LocalProtocolError(f"a {self._role.value} cannot send a {type(message).__name__}")
        if frame.interim:
            return b""
        self._state.ended = frame.end
        if (
            isinstance(message, ResponseHead)
            and message.native_status is None
            and message.status is not Status.OK
        ):
            # A local error reply: no protocol is known, so there is nothing that could tell the peer.
            return b""
        return frame.data
