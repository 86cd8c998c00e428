"""Handshake messages after the handshake (RFC 8446 §4.6): tickets, and KeyUpdates, which change the keys."""

from __future__ import annotations

from typing import Final

from xproxy.transport.tls.alerts import Alert, TlsError

NEW_SESSION_TICKET: Final = 4
KEY_UPDATE: Final = 24

MAX_MESSAGE_BYTES: Final = 4 + 0x20000
"""A ticket of the largest size that its fields can say, and a little more."""


class PostHandshake:
    """Reads such messages, also where one is spread over records."""

    __slots__ = ("owes_update", "partial")

    def __init__(self, partial: bytes = b"", owes_update: bool = False) -> None:
        self.partial = partial
        """The beginning of a message."""
        self.owes_update = owes_update
        """The peer asked for a KeyUpdate of ours, and has not got one yet."""

    def updates_in(self, content: bytes) -> int:
        """Return how many KeyUpdates end in this piece. Raises TlsError.

        More than one is the peer's mistake: the second had to be under the next key.
        """
        data = self.partial + content
        at = updates = 0
        while len(data) - at >= 4:
            length = int.from_bytes(data[at + 1 : at + 4], "big")
            if length + 4 > MAX_MESSAGE_BYTES:
                raise TlsError("a handshake message is too long", Alert.ILLEGAL_PARAMETER)
            if len(data) - at < 4 + length:
                break
            kind = data[at]
            body = data[at + 4 : at + 4 + length]
            at += 4 + length
            if kind == KEY_UPDATE:
                if body not in (b"\0", b"\1"):
                    raise TlsError("a KeyUpdate that is none", Alert.ILLEGAL_PARAMETER)
                if at != len(data):
                    raise TlsError("a KeyUpdate within a record", Alert.UNEXPECTED_MESSAGE)
                updates += 1
                self.owes_update |= body == b"\1"
            elif kind != NEW_SESSION_TICKET:
                raise TlsError("a handshake message after the handshake", Alert.UNEXPECTED_MESSAGE)
        self.partial = data[at:]
        return updates
