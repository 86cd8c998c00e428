"""A running session: what a TLS stream asks of whoever encrypts, and what is known of it beside OpenSSL."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

import attrs

from xproxy.transport.tls.alerts import Alert, TlsError
from xproxy.transport.tls.keys import TLS13, Suite, next_secret, overhead_of
from xproxy.transport.tls.posthandshake import PostHandshake
from xproxy.transport.tls.protection import (
    DirectionState,
    Protection13,
    protection_of,
)
from xproxy.transport.tls.records import ALERT, HANDSHAKE, HEADER_BYTES

MAX_IDLE_RECORDS: Final = 32
"""Records in a row that hold no data, beyond which a peer only burns our time; OpenSSL's number for empty ones.
Within ``IDLE_SECONDS``: a KeyUpdate now and then on a quiet connection is no flood, however long that goes on."""
IDLE_SECONDS: Final = 10.0

_INNER_OVERHEAD: Final = 1 + 16
"""Of a TLS 1.3 record: the content type and the tag."""
_KEY_UPDATE_BYTES: Final = 5 + _INNER_OVERHEAD


@attrs.frozen(kw_only=True)
class SessionState:
    """What continuing a session takes, beside the cipher suite that its facts name."""

    version: str
    read: DirectionState
    write: DirectionState
    owes_update: bool = False
    """The peer asked for a KeyUpdate, and has not got it."""
    message: bytes = b""
    """The beginning of a handshake message, the rest of which is in records to come."""


class Cipher(Protocol):
    """One session's record protection, both directions. Everything is synchronous and bounded by what it is given."""

    ended: bool
    """The peer has said close_notify: nothing that comes after it counts."""

    def decrypt(self, records: bytes) -> bytes:
        """Take whole records; return their application data, which may be none. Raises TlsError.

        Not whole, or not records at all: raises TlsError. Afterwards ask ``owed``.
        """
        ...

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """Return ``data`` as records, after whatever is owed. Raises TlsError."""
        ...

    def owed(self) -> bytes:
        """Return what must go to the peer unasked: an alert, a ticket. Empty most of the time."""
        ...

    def farewell(self) -> bytes:
        """Return our close_notify; empty if it was said before."""
        ...

    def export(self) -> SessionState:
        """Return what continuing the session takes. Changes nothing. Raises TlsError if they are not known."""
        ...


@attrs.frozen
class Keys:
    """Where a session's secrets come from, and how far it had got when its handshake was done."""

    read_count: int
    write_count: int
    derive: Callable[[], tuple[DirectionState, DirectionState]] = attrs.field(repr=False)
    """Return reading and writing, with the counters above: asked once, if at all."""


class IdleRecords:
    """Counts records in a row without data, of late."""

    __slots__ = ("_clock", "_count", "_since")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._count = 0
        self._since = 0.0

    def reset(self) -> None:
        """There was data."""
        self._count = 0

    def add(self, count: int) -> None:
        """There were ``count`` records without any. Raises TlsError."""
        now = self._clock()
        if not self._count or now - self._since > IDLE_SECONDS:
            self._count = 0
            self._since = now
        self._count += count
        if self._count > MAX_IDLE_RECORDS:
            raise TlsError("too many records without data", Alert.UNEXPECTED_MESSAGE)


class Session:
    """Counts records; where the secrets are known, follows KeyUpdates and can be exported."""

    __slots__ = (
        "_derive",
        "_idle",
        "_messages",
        "_read",
        "_suite",
        "_version",
        "_why_not",
        "_write",
        "overhead_bytes",
        "read_count",
        "write_count",
    )

    def __init__(
        self, version: str, suite: Suite | None, keys: Keys | None, why_not: str = ""
    ) -> None:
        self.overhead_bytes = overhead_of(version, suite)
        """What a record of application data is longer than its data."""
        self.read_count = keys.read_count if keys is not None else 0
        """Records read under the present key; TLS 1.2 counts its Finished."""
        self.write_count = keys.write_count if keys is not None else 0
        """Records written under the present key."""
        self._version = version
        self._suite = suite
        self._derive = keys.derive if keys is not None and suite is not None else None
        self._read: DirectionState | None = (
            None  # made when first asked for: most sessions never are
        )
        self._write: DirectionState | None = None
        self._idle = IdleRecords()
        self._messages = PostHandshake()
        self._why_not = why_not

    def _directions(self) -> tuple[Suite, DirectionState, DirectionState] | None:
        """Return the secrets in use, with counters of when they were last looked at."""
        if self._suite is None or self._derive is None:
            return None
        if self._read is None or self._write is None:
            self._read, self._write = self._derive()
        return self._suite, self._read, self._write

    def count_read(self, records: bytes, got: int) -> None:
        """Count whole records that gave ``got`` bytes of application data in all. Raises TlsError."""
        count = content = at = 0
        size = len(records)
        while at + HEADER_BYTES <= size:
            length = records[at + 3] << 8 | records[at + 4]
            at += HEADER_BYTES + length
            count += 1
            content += length - _INNER_OVERHEAD
        if at != size:
            # OpenSSL may wait for the rest of what is no record to us; the two views must not part.
            raise TlsError("a record that is none")
        if got:
            self._idle.reset()
        else:
            self._idle.add(count)
        if content == got or self._version != TLS13 or self._derive is None:
            self.read_count += count
        else:
            self._look_into(records)

    def _look_into(self, records: bytes) -> None:
        # Something else than application data, or padding: only with the key can one tell.
        directions = self._directions()
        assert directions is not None
        suite, state, _ = directions
        read = Protection13(suite, state.secret, self.read_count)
        at = 0
        try:
            while at < len(records):
                end = at + HEADER_BYTES + (records[at + 3] << 8 | records[at + 4])
                kind, content = read.open(records[at:end])
                at = end
                if kind == HANDSHAKE:
                    for _ in range(self._messages.updates_in(content)):
                        read.update()
        except TlsError as exc:
            self._why_not = exc.detail
            self._derive = None
        self._read = read.export()
        self.read_count = read.count

    def count_written(self, records: bytes, size: int) -> None:
        """Count whole records of our own that hold ``size`` bytes of data, and perhaps a KeyUpdate first."""
        count = at = 0
        end = len(records)
        while at < end:
            at += HEADER_BYTES + (records[at + 3] << 8 | records[at + 4])
            count += 1
        self.write_count += count
        if (
            self._version == TLS13
            and count
            and end != size + count * self.overhead_bytes
            and records[3] << 8 | records[4] == _KEY_UPDATE_BYTES
            and (directions := self._directions()) is not None
        ):
            suite, _, state = directions
            self._write = DirectionState(next_secret(state.secret, suite), b"", 0)
            self.write_count = count - 1
            self._messages.owes_update = False

    def seal_alert(self, alert: Alert) -> bytes:
        """Return a fatal alert as the next record; empty if the keys are not known. The session ends with it."""
        if self._suite is None or self._derive is None:
            return b""
        state = self.export()
        return protection_of(self._version, self._suite, state.write).seal(ALERT, bytes((2, alert)))

    def export(self) -> SessionState:
        """Return what continuing the session takes. Changes nothing. Raises TlsError."""
        directions = self._directions()
        if directions is None:
            raise TlsError(f"the session cannot be moved: {self._why_not}")
        _, read, write = directions
        explicit = (write.explicit + self.write_count - write.count) & 0xFFFFFFFFFFFFFFFF
        return SessionState(
            version=self._version,
            read=attrs.evolve(read, count=self.read_count),
            write=attrs.evolve(write, count=self.write_count, explicit=explicit),
            owes_update=self._messages.owes_update,
            message=self._messages.partial,
        )
