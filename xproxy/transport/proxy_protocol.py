"""PROXY protocol, versions 1 and 2: who is behind a connection that a load balancer made.

Pure. Specification: haproxy/doc/proxy-protocol.txt.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Final

import attrs

from xproxy.model.address import Address
from xproxy.model.errors import XproxyError

V1_MAX: Final = 107
"""Longest v1 line in bytes, CRLF included."""
V2_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
V2_MAX: Final = 2048
"""Longest v2 header accepted, TLVs included."""

_TLV_CRC32C: Final = 0x03
_TLV_AUTHORITY: Final = 0x02


class ProxyHeaderError(XproxyError):
    """The connection does not begin with a PROXY header, or with a wrong one."""


@attrs.frozen
class ProxyHeader:
    """What a PROXY header said."""

    length: int
    """Its size in bytes; what follows belongs to the protocol inside."""
    source: Address | None
    """The real client; None: keep the socket's addresses (LOCAL, UNKNOWN)."""
    destination: Address | None
    authority: str | None = None
    """The server name the client asked for, where the sender says so."""


def parse(prefix: bytes) -> ProxyHeader | None:
    """Read the header at the start of ``prefix``; None: more bytes are needed. Raises ProxyHeaderError."""
    if prefix[:12] == V2_SIGNATURE[: len(prefix)]:
        return _parse_v2(prefix)
    if prefix[:6] == b"PROXY "[: len(prefix)]:
        return _parse_v1(prefix)
    raise ProxyHeaderError("the connection does not begin with a PROXY header")


def _parse_v1(prefix: bytes) -> ProxyHeader | None:
    end = prefix.find(b"\r\n", 0, V1_MAX)
    if end < 0:
        if len(prefix) >= V1_MAX:
            raise ProxyHeaderError(f"PROXY v1 line is longer than {V1_MAX} bytes")
        return None
    words = prefix[:end].decode("latin-1").split(" ")
    if len(words) >= 2 and words[1] == "UNKNOWN":
        return ProxyHeader(end + 2, None, None)
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise ProxyHeaderError("PROXY v1 line has not the form PROXY TCP4|TCP6 src dst sport dport")
    version = 4 if words[1] == "TCP4" else 6
    return ProxyHeader(
        end + 2, _v1_address(version, words[2], words[4]), _v1_address(version, words[3], words[5])
    )


def _v1_address(version: int, host: str, port: str) -> Address:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        raise ProxyHeaderError("PROXY v1 line has a wrong address") from None
    digits = port.isascii() and port.isdigit() and len(port) <= 5
    if ip.version != version or "%" in host or not digits or int(port) > 65535:
        raise ProxyHeaderError("PROXY v1 line has a wrong address or port")
    return Address(str(ip), int(port))


def _parse_v2(prefix: bytes) -> ProxyHeader | None:
    if len(prefix) < 16:
        return None
    command, family, length = struct.unpack_from("!BBH", prefix, 12)
    if command >> 4 != 2 or command & 0xF > 1:
        raise ProxyHeaderError(f"PROXY v2 version and command {command:#04x} is unknown")
    total = 16 + length
    if total > V2_MAX:
        raise ProxyHeaderError(f"PROXY v2 header is {total} bytes, limit {V2_MAX}")
    if len(prefix) < total:
        return None
    if command & 0xF == 0:
        # LOCAL: the sender speaks for itself, and the rest is to be skipped unread, the family too (section 2.2).
        return ProxyHeader(total, None, None)
    header = prefix[:total]
    sizes = {0x00: 0, 0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x31: 216, 0x32: 216}
    size = sizes.get(family)
    if size is None or length < size:
        raise ProxyHeaderError(f"PROXY v2 family {family:#04x} with {length} bytes is malformed")
    authority = _tlvs(header, 16 + size)
    if family == 0:
        return ProxyHeader(total, None, None, authority)
    body = header[16 : 16 + size]
    if family >> 4 == 3:
        source = Address("", 0, _unix_path(body[:108]))
        return ProxyHeader(total, source, Address("", 0, _unix_path(body[108:])), authority)
    width = 4 if family >> 4 == 1 else 16
    which = socket.AF_INET if width == 4 else socket.AF_INET6
    sport, dport = struct.unpack_from("!HH", body, 2 * width)
    return ProxyHeader(
        total,
        Address(socket.inet_ntop(which, body[:width]), sport),
        Address(socket.inet_ntop(which, body[width : 2 * width]), dport),
        authority,
    )


def _unix_path(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("utf-8", "replace") or "unnamed"


def _tlvs(header: bytes, at: int) -> str | None:
    authority: str | None = None
    while at < len(header):
        if at + 3 > len(header):
            raise ProxyHeaderError("PROXY v2 TLV is cut off")
        kind, length = struct.unpack_from("!BH", header, at)
        value = header[at + 3 : at + 3 + length]
        if len(value) != length:
            raise ProxyHeaderError("PROXY v2 TLV is cut off")
        if kind == _TLV_CRC32C:
            zeroed = header[: at + 3] + bytes(length) + header[at + 3 + length :]
            if length != 4 or struct.unpack("!I", value)[0] != crc32c(zeroed):
                raise ProxyHeaderError("PROXY v2 checksum is wrong")
        elif kind == _TLV_AUTHORITY:
            authority = value.decode("ascii", "replace").lower()
        at += 3 + length
    return authority


def _crc_table() -> tuple[int, ...]:
    table = []
    for index in range(256):
        value = index
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC32C: Final = _crc_table()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli, RFC 9260 appendix A) of ``data``; headers are short, so a table will do."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def encode(version: str, source: Address, destination: Address) -> bytes:
    """Return the header to send for a connection from ``source`` to ``destination``; ``version`` is v1 or v2."""
    of, to = _ip(source), _ip(destination)
    if of is None or to is None or of.version != to.version:
        # Unix sockets, a mix of families, a peer that was gone before we could ask: nothing that can be said.
        return b"PROXY UNKNOWN\r\n" if version == "v1" else V2_SIGNATURE + b"\x20\x00\x00\x00"
    if version == "v1":
        line = f"PROXY TCP{of.version} {of} {to} {source.port} {destination.port}\r\n"
        return line.encode("ascii")
    body = of.packed + to.packed + struct.pack("!HH", source.port, destination.port)
    kind = 0x21 if of.version == 6 else 0x11
    return V2_SIGNATURE + struct.pack("!BBH", 0x21, kind, len(body)) + body


def _ip(address: Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        # The zone of a link-local address ("%eth0") means nothing to anybody else.
        return ipaddress.ip_address(address.host.partition("%")[0])
    except ValueError:
        return None
