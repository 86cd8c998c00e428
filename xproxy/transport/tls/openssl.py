"""Record protection by OpenSSL: the standard library's ``ssl`` over memory BIOs.

Every record is counted, in both directions, because a connection that moves to another process takes its counters
along. Counting costs a comparison: a record's length says how much plaintext it must have given, and only where
that does not fit is a record looked at more closely.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from xproxy.transport.tls.alerts import Alert, TlsError, failure_of
from xproxy.transport.tls.records import MAX_FRAGMENT_BYTES
from xproxy.transport.tls.session import Session, SessionState


class OpenSslCipher:
    """A Cipher over an SSLObject whose handshake is done. Its BIOs are empty between calls."""

    __slots__ = (
        "_into",
        "_keep",
        "_last_words",
        "_object",
        "_out",
        "_overhead",
        "_session",
        "ended",
    )

    def __init__(
        self,
        ssl_object: ssl.SSLObject,
        into: ssl.MemoryBIO,
        out: ssl.MemoryBIO,
        session: Session,
        keep: Callable[[ssl.SSLSession], None] | None = None,
    ) -> None:
        self.ended = False
        self._keep = keep  # whoever wants the first session that can be resumed
        self._last_words = b""
        self._object = ssl_object
        self._into = into
        self._out = out
        self._session = session
        self._overhead = session.overhead_bytes

    def decrypt(self, records: bytes) -> bytes:
        """See Cipher."""
        size = len(records)
        self._into.write(records)
        try:
            data = self._object.read(min(size, MAX_FRAGMENT_BYTES))
        except ssl.SSLWantReadError:
            self._count(records, b"")
            return b""
        except ssl.SSLZeroReturnError:  # once both have said close_notify
            data = b""
        except ssl.SSLError as exc:
            raise self._failure(exc, b"") from exc
        if self._into.pending:
            data = self._rest(data)
        elif not data:
            self.ended = True
        if len(data) + self._overhead == size:
            self._session.read_count += 1
        elif not self.ended:
            self._count(records, data)
        return data

    def _count(self, records: bytes, data: bytes) -> None:
        # Not the usual: padding, a ticket, a KeyUpdate, several records.
        try:
            self._session.count_read(records, len(data))
        except TlsError as exc:
            exc.before = data
            if exc.alert is not None:
                self._last_words = self._session.seal_alert(exc.alert)
            raise
        if self._keep is not None and not self._object.session_reused:
            found = self._object.session
            if found is not None and found.has_ticket:
                self._keep(found)
                self._keep = None

    def _rest(self, first: bytes) -> bytes:
        pieces = [first]
        read = self._object.read
        into = self._into
        try:
            while into.pending:
                data = read(MAX_FRAGMENT_BYTES)
                if not data:
                    self.ended = True
                    break
                pieces.append(data)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as exc:
            raise self._failure(exc, b"".join(pieces)) from exc
        if self.ended and into.pending:
            into.read()
        return b"".join(pieces)

    def _failure(self, error: ssl.SSLError, before: bytes) -> TlsError:
        failure = failure_of(error)
        failure.before = before
        return failure

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """See Cipher."""
        size = len(data)
        try:
            if size <= MAX_FRAGMENT_BYTES:
                self._object.write(data)
                sealed = self._out.read()
                if len(sealed) == size + self._overhead:
                    self._session.write_count += 1
                    return sealed
            else:
                with memoryview(data) as view:
                    done = 0
                    while done < size:
                        done += self._object.write(view[done : done + MAX_FRAGMENT_BYTES])
                sealed = self._out.read()
        except ssl.SSLError as exc:
            raise self._failure(exc, b"") from exc
        self._session.count_written(sealed, size)
        return sealed

    def owed(self) -> bytes:
        """See Cipher."""
        data = self._out.read() if self._out.pending else b""
        if data:
            self._session.count_written(data, 0)
        if self._last_words:
            data, self._last_words = data + self._last_words, b""
        return data

    def farewell(self) -> bytes:
        """See Cipher."""
        try:
            self._object.unwrap()
        except ssl.SSLError:
            pass  # it also asks for the peer's, which is for the reader to read
        return self.owed()

    def refusal(self, alert: Alert) -> bytes:
        """Return ``alert`` as the session's last record. Empty where the session's keys are not known."""
        return self._session.seal_alert(alert)

    def export(self) -> SessionState:
        """See Cipher."""
        return self._session.export()
