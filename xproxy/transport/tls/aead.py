"""Record protection by plain AEAD: goes on with a session that another process, and OpenSSL, began.

Rule: what a peer may send after a handshake is application data, alerts, and the messages of ``posthandshake``; all
else ends the session with the alert that the RFCs name.
"""

from __future__ import annotations

from typing import Final

from xproxy.transport.tls.alerts import Alert, TlsError
from xproxy.transport.tls.keys import TLS13, Suite
from xproxy.transport.tls.posthandshake import KEY_UPDATE, PostHandshake
from xproxy.transport.tls.protection import Protection13, protection_of
from xproxy.transport.tls.records import (
    ALERT,
    APPLICATION_DATA,
    HANDSHAKE,
    HEADER_BYTES,
    MAX_FRAGMENT_BYTES,
)
from xproxy.transport.tls.session import IdleRecords, SessionState

MAX_RECORDS_PER_KEY: Final = 1 << 24
"""Records under one AES-GCM key (RFC 8446 §5.5); then we update ours."""

_WARNING: Final = 1
_FATAL: Final = 2


class AeadCipher:
    """A Cipher. Made from what another one exported. Raises ValueError for a state that cannot be."""

    __slots__ = (
        "_idle",
        "_messages",
        "_owed",
        "_read",
        "_said_goodbye",
        "_version",
        "_write",
        "ended",
    )

    def __init__(self, suite: Suite, state: SessionState, *, said_goodbye: bool = False) -> None:
        self.ended = False
        self._version = state.version
        self._read = protection_of(state.version, suite, state.read)
        self._write = protection_of(state.version, suite, state.write)
        self._messages = PostHandshake(state.message, state.owes_update)
        self._owed = b""
        self._idle = IdleRecords()
        self._said_goodbye = said_goodbye

    def decrypt(self, records: bytes) -> bytes:
        """See Cipher."""
        pieces: list[bytes] = []
        at = 0
        try:
            while at < len(records) and not self.ended:
                end = at + HEADER_BYTES
                if end > len(records):
                    raise TlsError("a record header cut short", Alert.DECODE_ERROR)
                end += records[at + 3] << 8 | records[at + 4]
                if end > len(records):
                    raise TlsError("a record cut short", Alert.RECORD_OVERFLOW)
                kind, content = self._read.open(records[at:end])
                at = end
                if kind == APPLICATION_DATA and content:
                    self._idle.reset()
                    pieces.append(content)
                else:
                    self._other(kind, content)
        except TlsError as exc:
            if exc.alert is not None and not exc.received:
                self._owed += self._seal(ALERT, bytes((_FATAL, exc.alert)))
                self._said_goodbye = True
            exc.before = b"".join(pieces)
            raise
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _other(self, kind: int, content: bytes) -> None:
        self._idle.add(1)
        if kind != HANDSHAKE and self._messages.partial:
            raise TlsError("a handshake message is broken off", Alert.UNEXPECTED_MESSAGE)
        if kind == ALERT:
            self._alert(content)
        elif kind == HANDSHAKE:
            if not content:
                raise TlsError("an empty handshake record", Alert.UNEXPECTED_MESSAGE)
            if isinstance(self._read, Protection13):
                for _ in range(self._messages.updates_in(content)):
                    self._read.update()
            else:
                # A wish to renegotiate: refused, which a peer may live with (RFC 5246 §7.2.2).
                self._owed += self._seal(ALERT, bytes((_WARNING, Alert.NO_RENEGOTIATION)))
        elif kind != APPLICATION_DATA:
            raise TlsError("a record of unknown type", Alert.UNEXPECTED_MESSAGE)

    def _alert(self, content: bytes) -> None:
        if len(content) != 2:
            raise TlsError("an alert that is none", Alert.DECODE_ERROR)
        level, number = content
        if number == Alert.CLOSE_NOTIFY:
            self.ended = True
            return
        if level == _WARNING and self._version != TLS13:
            return
        if number == Alert.USER_CANCELED:
            return
        known = Alert(number) if number in Alert.__members__.values() else None
        name = known.label if known is not None else str(number)
        raise TlsError(f"the peer ended the session: {name}", known, received=True)

    def _seal(self, kind: int, data: bytes | memoryview) -> bytes:
        write = self._write
        if isinstance(write, Protection13) and (
            self._messages.owes_update or write.count >= MAX_RECORDS_PER_KEY
        ):
            # One answer serves for all requests so far (RFC 8446 §4.6.3).
            self._messages.owes_update = False
            update = write.seal(HANDSHAKE, bytes((KEY_UPDATE, 0, 0, 1, 0)))
            write.update()
            return update + write.seal(kind, data)
        return write.seal(kind, data)

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """See Cipher."""
        owed, self._owed = self._owed, b""
        if self._said_goodbye:
            raise TlsError("the session has been ended")
        if len(data) <= MAX_FRAGMENT_BYTES:
            return owed + self._seal(APPLICATION_DATA, data)
        with memoryview(data) as view:
            starts = range(0, len(view), MAX_FRAGMENT_BYTES)
            pieces = [view[at : at + MAX_FRAGMENT_BYTES] for at in starts]
            return owed + b"".join([self._seal(APPLICATION_DATA, piece) for piece in pieces])

    def owed(self) -> bytes:
        """See Cipher."""
        owed, self._owed = self._owed, b""
        return owed

    def farewell(self) -> bytes:
        """See Cipher."""
        owed = self.owed()
        if self._said_goodbye:
            return owed
        self._said_goodbye = True
        return owed + self._seal(ALERT, bytes((_WARNING, Alert.CLOSE_NOTIFY)))

    def export(self) -> SessionState:
        """See Cipher."""
        return SessionState(
            version=self._version,
            read=self._read.export(),
            write=self._write.export(),
            owes_update=self._messages.owes_update,
            message=self._messages.partial,
        )
