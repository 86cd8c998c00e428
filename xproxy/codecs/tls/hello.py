"""The ClientHello (RFC 8446 §4.1.2): what a client asks for, read from the first bytes of its connection.

Pure, total, and the same for every split of the same bytes: the handshake message may be spread over records and
segments. Nothing is consumed, so that the very bytes may be passed on.
"""

from __future__ import annotations

from typing import Final

import attrs

from xproxy.codecs.api import NO, YES, Verdict

MAX_HELLO_BYTES: Final = 16 * 1024
"""Of a whole ClientHello. Post-quantum key shares make 2 KiB common; nobody needs 16."""
MAX_HELLO_RECORDS: Final = 4096
"""Records that a ClientHello may be spread over: more than any hello there is, cut into single bytes, needs."""

RECORD_HEADER_BYTES: Final = 5
_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_MAX_RECORD_BYTES: Final = 16384
_MAX_NAME_BYTES: Final = 255

_SERVER_NAME: Final = 0
_ALPN: Final = 16
_SUPPORTED_VERSIONS: Final = 43

TLS12: Final = 0x0303
TLS13: Final = 0x0304


@attrs.frozen(kw_only=True)
class ClientHello:
    """What is known of a client before anything is agreed on. None of it is authentic yet."""

    server_name: str | None = None
    """SNI (RFC 6066 §3), lower case, without a dot at the end; with Encrypted ClientHello the public name."""
    alpn: tuple[str, ...] = ()
    """Application protocols offered (RFC 7301), in the client's order; bytes that are no UTF-8 are escaped."""
    versions: tuple[int, ...] = ()
    """Versions offered, as on the wire (0x0304: TLS 1.3), in the client's order, without GREASE (RFC 8701)."""
    length: int = 0
    """Bytes of the prefix up to its last one, record headers included."""


@attrs.frozen
class HelloWanted:
    """The ClientHello has not come whole."""

    at_least: int
    """How many bytes, counted from the first, can bring more."""


@attrs.frozen
class HelloBroken:
    """These bytes are no ClientHello, whatever follows."""

    detail: str
    """Names the field; holds nothing of what was sent."""


def recognise(prefix: bytes) -> Verdict:
    """Say whether a connection begins with a TLS handshake record that holds a ClientHello: NO, MORE or YES."""
    if not prefix:
        return Verdict.more(1)
    if (
        prefix[0] != _HANDSHAKE
        or (len(prefix) > 1 and prefix[1] != 3)
        or (len(prefix) > 2 and prefix[2] > 4)
    ):
        return NO
    if len(prefix) >= RECORD_HEADER_BYTES:
        length = prefix[3] << 8 | prefix[4]
        # A record of one byte is lawful (RFC 8446 §5.1): clients cut their hello small to get past middleboxes.
        if not 0 < length <= _MAX_RECORD_BYTES + 256:
            return NO
    elif len(prefix) == 4 and prefix[3] > (_MAX_RECORD_BYTES + 256) >> 8:
        return NO
    if len(prefix) <= RECORD_HEADER_BYTES:
        return Verdict.more(len(prefix) + 1)  # any of them can say NO
    return YES if prefix[RECORD_HEADER_BYTES] == _CLIENT_HELLO else NO


def read_hello(prefix: bytes) -> ClientHello | HelloWanted | HelloBroken:
    """Read the ClientHello at the beginning of ``prefix``. It takes whatever ``recognise`` does."""
    return HelloReader().read(prefix)


class HelloReader:
    """Reads one ClientHello out of a prefix that grows; each record is looked at once, however many there are."""

    __slots__ = ("_at", "_message", "_records")

    def __init__(self) -> None:
        self._at = 0  # where the next record begins
        self._message = bytearray()  # out of the records before it
        self._records = 0

    def read(self, prefix: bytes) -> ClientHello | HelloWanted | HelloBroken:
        """Look at the prefix: that of the last call, with what has come since behind it."""
        try:
            return self._read(prefix)
        except _Broken as exc:
            return HelloBroken(str(exc))

    def _read(self, prefix: bytes) -> ClientHello | HelloWanted:
        message, at = self._message, self._at
        while self._records < MAX_HELLO_RECORDS:
            head = prefix[at : at + RECORD_HEADER_BYTES]
            if head and head[0] != _HANDSHAKE:
                raise _Broken("a record of another type within the ClientHello")
            if (len(head) > 1 and head[1] != 3) or (len(head) > 2 and head[2] > 4):
                raise _Broken("record version")
            if len(head) < RECORD_HEADER_BYTES:
                return HelloWanted(at + RECORD_HEADER_BYTES)
            length = head[3] << 8 | head[4]
            if not 0 < length <= _MAX_RECORD_BYTES:
                raise _Broken("record length")
            body = at + RECORD_HEADER_BYTES
            before = len(message)
            piece = prefix[body : body + length]
            start = bytes(message[:4]) + piece[:4]
            if start and start[0] != _CLIENT_HELLO:
                raise _Broken("the first handshake message is no ClientHello")
            wanted = 4  # bytes of the handshake message that are needed next
            if len(start) >= 4:
                wanted = 4 + int.from_bytes(start[1:4], "big")
                if wanted > MAX_HELLO_BYTES:
                    raise _Broken(f"the ClientHello is {wanted} bytes, limit {MAX_HELLO_BYTES}")
                if before + len(piece) >= wanted:
                    return _parse(
                        bytes(message[4:]) + piece[max(4 - before, 0) : wanted - before],
                        body + wanted - before,
                    )
            end = body + length
            if end > len(prefix):
                return HelloWanted(min(end, body + wanted - before))
            message += piece
            at = self._at = end
            self._records += 1
        raise _Broken(f"the ClientHello is in more than {MAX_HELLO_RECORDS} records")


class _Broken(Exception):
    pass


class _Reader:
    """Fields of a message one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, count: int, what: str) -> bytes:
        if count > self.left:
            raise _Broken(what)
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, size: int, what: str) -> int:
        return int.from_bytes(self.take(size, what), "big")

    def vector(self, size: int, what: str) -> _Reader:
        """Return what a length of ``size`` bytes counts."""
        return _Reader(self.take(self.number(size, what), what))


def _parse(message: bytes, length: int) -> ClientHello:
    fields = _Reader(message)
    legacy = fields.number(2, "version")
    fields.take(32, "random")
    fields.vector(1, "session id")
    suites = fields.vector(2, "cipher suites")
    if suites.left < 2 or suites.left % 2:
        raise _Broken("cipher suites")
    if not fields.vector(1, "compression methods").left:
        raise _Broken("compression methods")
    if not fields.left:
        return ClientHello(versions=(legacy,), length=length)  # TLS 1.2: extensions are optional
    extensions = fields.take(fields.number(2, "extensions"), "extensions")
    if fields.left:
        raise _Broken("bytes after the extensions")
    server_name: str | None = None
    alpn: tuple[str, ...] = ()
    versions: tuple[int, ...] = (legacy,)
    for kind, data in _extensions(extensions).items():
        if kind == _SERVER_NAME:
            server_name = _server_name(_Reader(data))
        elif kind == _ALPN:
            alpn = _protocols(_Reader(data))
        elif kind == _SUPPORTED_VERSIONS:
            versions = _versions(_Reader(data))
    return ClientHello(server_name=server_name, alpn=alpn, versions=versions, length=length)


def _extensions(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    size = len(data)
    while at < size:
        body = at + 4
        if body > size:
            raise _Broken("extension")
        kind = data[at] << 8 | data[at + 1]
        at = body + (data[at + 2] << 8 | data[at + 3])
        if at > size:
            raise _Broken("extension")
        if kind in found:
            raise _Broken("an extension comes twice")
        found[kind] = data[body:at]
    return found


def _server_name(data: _Reader) -> str | None:
    names = data.vector(2, "server name list")
    if data.left:
        raise _Broken("server name list")
    found: str | None = None
    while names.left:
        kind = names.number(1, "server name")
        name = names.vector(2, "server name")
        if kind != 0:
            continue
        if found is not None or not 0 < name.left <= _MAX_NAME_BYTES:
            raise _Broken("server name")
        raw = name.take(name.left, "server name")
        if any(not 0x21 <= byte <= 0x7E for byte in raw):
            raise _Broken("server name")
        found = raw.decode("ascii").lower().removesuffix(".")
    return found or None


def _protocols(data: _Reader) -> tuple[str, ...]:
    names = data.vector(2, "protocol list")
    if data.left or not names.left:
        raise _Broken("protocol list")
    found = []
    while names.left:
        name = names.vector(1, "protocol")
        if not name.left:
            raise _Broken("protocol")
        raw = name.take(name.left, "protocol")
        if not _is_grease(raw):
            found.append(raw.decode("utf-8", "backslashreplace"))
    return tuple(found)


def _versions(data: _Reader) -> tuple[int, ...]:
    versions = data.vector(1, "supported versions")
    if data.left or not versions.left or versions.left % 2:
        raise _Broken("supported versions")
    found = []
    while versions.left:
        raw = versions.take(2, "supported versions")
        if not _is_grease(raw):
            found.append(int.from_bytes(raw, "big"))
    return tuple(found)


def _is_grease(raw: bytes) -> bool:
    return len(raw) == 2 and raw[0] == raw[1] and raw[0] & 0x0F == 0x0A
