"""The serving end of a link of whole messages: what it says has been written for the client already.

So no facts of the protocol cross a link. The codec that the connection had here goes on writing answers, as it knows
what is owed to whom; it reads nothing any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from xproxy.codecs.api import Codec, SupportsPreparing, SupportsRelay, supports
from xproxy.codecs.relay.codec import RelayCodec
from xproxy.codecs.slices import Work
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, Frame, Head, Reset


class _Preparing(SupportsRelay, SupportsPreparing, Protocol): ...


class MessageRelay:
    """A codec for who serves streams of whole messages over a link."""

    __slots__ = ("_link", "_writer")

    def __init__(self, link: RelayCodec, writer: SupportsRelay) -> None:
        self._link = link
        self._writer = writer

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        """See Codec: resets."""
        return self._link.receive(data)

    def send(self, frame: Frame) -> bytes:
        """See Codec. An answer that nobody waits for gives no bytes."""
        if not isinstance(frame, Head | Reset):
            raise LocalProtocolError(f"a link of messages cannot say {type(frame).__name__}")
        if not self._link.speaks(frame.stream_id):
            return b""
        return self._link.send(Data(frame.stream_id, self._writer.answer(frame), True))

    def goaway(self) -> bytes:
        """See RelayCodec."""
        return self._link.goaway()

    def bye(self) -> bytes:
        """See RelayCodec."""
        return self._link.bye()


class PreparingMessageRelay(MessageRelay):
    """The same where some messages take a while to write."""

    __slots__ = ()
    _writer: _Preparing

    def prepare(self, frame: Head) -> Work[Head] | None:
        """See SupportsPreparing."""
        return self._writer.prepare(frame)


def message_relay(link: RelayCodec, writer: Codec) -> MessageRelay:
    """Return the serving end for the answers that ``writer`` writes. Raises ValueError if it cannot."""
    if not supports(writer, SupportsRelay):
        raise ValueError("its codec cannot write answers for another process")
    kind = PreparingMessageRelay if supports(writer, SupportsPreparing) else MessageRelay
    return kind(link, writer)
