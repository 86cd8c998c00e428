"""One direction of a session under plain AEAD: open and seal single records, count them, follow a KeyUpdate."""

from __future__ import annotations

from typing import Final, Protocol

import attrs
from cryptography.exceptions import InvalidTag

from xproxy.transport.tls.alerts import Alert, TlsError
from xproxy.transport.tls.keys import (
    SALT_BYTES,
    TLS13,
    Suite,
    hash_bytes,
    iv_bytes,
    next_secret,
    traffic_key,
)
from xproxy.transport.tls.records import (
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    HEADER_BYTES,
    MAX_FRAGMENT_BYTES,
)

_TAG_BYTES: Final = 16
_EXPLICIT_BYTES: Final = 8
_MAX_COUNT: Final = 1 << 64


@attrs.frozen
class DirectionState:
    """What continuing one direction takes."""

    secret: bytes = attrs.field(repr=False)
    """TLS 1.3: the traffic secret now in use; TLS 1.2: the key."""
    iv: bytes = attrs.field(repr=False)
    """TLS 1.2: the IV, or AES-GCM's salt; empty with TLS 1.3, whose secret gives it."""
    count: int
    """The next record's sequence number."""
    explicit: int = 0
    """TLS 1.2 with AES-GCM: the next explicit nonce of what we write."""


class Protection(Protocol):
    """See the module."""

    count: int
    """The next record's sequence number."""

    def open(self, record: bytes) -> tuple[int, bytes]:
        """Return content type and content of a whole record. Raises TlsError."""
        ...

    def seal(self, kind: int, data: bytes | memoryview) -> bytes:
        """Return ``data``, at most MAX_FRAGMENT_BYTES of it, as one record."""
        ...

    def export(self) -> DirectionState:
        """Return the state, for ``protection_of``."""
        ...


class Protection13:
    """TLS 1.3 (RFC 8446 §5.2)."""

    __slots__ = ("_aead", "_iv", "_secret", "_suite", "count")

    def __init__(self, suite: Suite, secret: bytes, count: int = 0) -> None:
        self._suite = suite
        self.count = count
        self._use(secret)

    def _use(self, secret: bytes) -> None:
        self._secret = secret
        key, iv = traffic_key(secret, self._suite)
        self._aead = self._suite.aead(key)
        self._iv = int.from_bytes(iv, "big")

    def update(self) -> None:
        """Go on with the next keys, from record 0."""
        self._use(next_secret(self._secret, self._suite))
        self.count = 0

    def open(self, record: bytes) -> tuple[int, bytes]:
        """See Protection."""
        if record[0] != APPLICATION_DATA:
            raise TlsError("a record in clear after the handshake", Alert.UNEXPECTED_MESSAGE)
        if len(record) - HEADER_BYTES > MAX_FRAGMENT_BYTES + 256:
            raise TlsError("a record is too long", Alert.RECORD_OVERFLOW)
        nonce = (self._iv ^ self.count).to_bytes(12, "big")
        try:
            inner = self._aead.decrypt(nonce, record[HEADER_BYTES:], record[:HEADER_BYTES])
        except (InvalidTag, ValueError) as exc:
            raise TlsError("a record is not authentic", Alert.BAD_RECORD_MAC) from exc
        self.count += 1
        content = inner.rstrip(b"\0")
        if not content:
            raise TlsError("a record of padding alone", Alert.UNEXPECTED_MESSAGE)
        if len(content) > MAX_FRAGMENT_BYTES + 1:
            raise TlsError("a record holds too much", Alert.RECORD_OVERFLOW)
        return content[-1], content[:-1]

    def seal(self, kind: int, data: bytes | memoryview) -> bytes:
        """See Protection."""
        inner = b"".join((data, bytes((kind,))))
        header = b"\x17\x03\x03" + (len(inner) + _TAG_BYTES).to_bytes(2, "big")
        nonce = (self._iv ^ self.count).to_bytes(12, "big")
        self.count += 1
        return header + self._aead.encrypt(nonce, inner, header)

    def export(self) -> DirectionState:
        """See Protection."""
        return DirectionState(self._secret, b"", self.count)


class Protection12:
    """TLS 1.2 with an AEAD: AES-GCM (RFC 5288), ChaCha20-Poly1305 (RFC 7905)."""

    __slots__ = ("_aead", "_explicit", "_iv", "_key", "_suite", "count")

    def __init__(self, suite: Suite, key: bytes, iv: bytes, count: int, explicit: int = 0) -> None:
        self.count = count
        self._suite = suite
        self._key = key
        self._iv = iv
        self._aead = suite.aead(key)
        # Each must be used once only; OpenSSL begins anywhere and counts.
        self._explicit = explicit

    def _nonce(self, explicit: bytes) -> bytes:
        if self._suite.chacha:
            return (int.from_bytes(self._iv, "big") ^ self.count).to_bytes(12, "big")
        return self._iv[:SALT_BYTES] + explicit

    def _additional(self, kind: int, length: int) -> bytes:
        return self.count.to_bytes(8, "big") + bytes((kind, 3, 3)) + length.to_bytes(2, "big")

    def open(self, record: bytes) -> tuple[int, bytes]:
        """See Protection."""
        kind = record[0]
        skip = HEADER_BYTES if self._suite.chacha else HEADER_BYTES + _EXPLICIT_BYTES
        length = len(record) - skip - _TAG_BYTES
        if length < 0 or kind == CHANGE_CIPHER_SPEC:
            raise TlsError("a record is not authentic", Alert.BAD_RECORD_MAC)
        if length > MAX_FRAGMENT_BYTES:
            raise TlsError("a record is too long", Alert.RECORD_OVERFLOW)
        nonce = self._nonce(record[HEADER_BYTES:skip])
        try:
            data = self._aead.decrypt(nonce, record[skip:], self._additional(kind, length))
        except (InvalidTag, ValueError) as exc:
            raise TlsError("a record is not authentic", Alert.BAD_RECORD_MAC) from exc
        self.count += 1
        return kind, data

    def seal(self, kind: int, data: bytes | memoryview) -> bytes:
        """See Protection."""
        explicit = b"" if self._suite.chacha else self._explicit.to_bytes(_EXPLICIT_BYTES, "big")
        sealed = self._aead.encrypt(self._nonce(explicit), data, self._additional(kind, len(data)))
        self.count += 1
        self._explicit = (self._explicit + 1) & 0xFFFFFFFFFFFFFFFF
        length = len(explicit) + len(sealed)
        return bytes((kind, 3, 3)) + length.to_bytes(2, "big") + explicit + sealed

    def export(self) -> DirectionState:
        """See Protection."""
        return DirectionState(self._key, self._iv, self.count, self._explicit)


def protection_of(version: str, suite: Suite, state: DirectionState) -> Protection13 | Protection12:
    """Return the protection that goes on where ``state`` ended. Raises ValueError."""
    if not 0 <= state.count < _MAX_COUNT or not 0 <= state.explicit < _MAX_COUNT:
        raise ValueError("a counter is out of range")
    if version == TLS13:
        if len(state.secret) != hash_bytes(suite) or state.iv:
            raise ValueError("a traffic secret of the wrong length")
        return Protection13(suite, state.secret, state.count)
    if len(state.secret) != suite.key_bytes or len(state.iv) != iv_bytes(suite):
        raise ValueError("a key or IV of the wrong length")
    return Protection12(suite, state.secret, state.iv, state.count, state.explicit)
