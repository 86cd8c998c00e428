"""Messages in a body: one byte of flags, four of length, the message (grpc/doc/PROTOCOL-HTTP2.md).

A proxy passes bodies on as they come; only who answers a call here, or asks one of its own, looks for messages.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

PREFIX_BYTES: Final = 5
COMPRESSED: Final = 0x01
"""In the first byte: the message is compressed with what ``grpc-encoding`` names."""
TRAILERS: Final = 0x80
"""In the first byte: no message but the trailers, as lines of text (gRPC-Web)."""

_PREFIX: Final = Struct(">BI")


def frame(message: bytes, flags: int = 0) -> bytes:
    """Return a message with its prefix."""
    return _PREFIX.pack(flags, len(message)) + message


class NotMessages(ValueError):
    """Bytes that are no sequence of messages, or one that is above its limit."""


class MessageReader:
    """Cuts a body into messages. Holds one message at most."""

    __slots__ = ("_buffer", "_limit")

    def __init__(self, limit: int) -> None:
        self._buffer = bytearray()
        self._limit = limit
        """Of one message, in bytes; checked on the declared length."""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take a piece of the body; return what is whole now: flags and message of each. Raises NotMessages."""
        buffer = self._buffer
        buffer += data
        found: list[tuple[int, bytes]] = []
        position = 0
        while len(buffer) - position >= PREFIX_BYTES:
            flags, length = _PREFIX.unpack_from(buffer, position)
            if flags & ~(COMPRESSED | TRAILERS):
                raise NotMessages(f"a message whose flags are {flags:#04x}")
            if length > self._limit:
                raise NotMessages(f"a message of {length} bytes, limit {self._limit}")
            end = position + PREFIX_BYTES + length
            if end > len(buffer):
                break
            found.append((flags, bytes(buffer[position + PREFIX_BYTES : end])))
            position = end
        del buffer[:position]
        return found

    def finish(self) -> None:
        """Take the end of the body. Raises NotMessages in the middle of a message."""
        if self._buffer:
            raise NotMessages("the body ends in the middle of a message")
