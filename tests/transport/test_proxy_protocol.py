"""PROXY protocol headers: a captured one, made ones, and every way to be wrong."""

from __future__ import annotations

import ipaddress
import json
import struct
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xproxy.model.address import Address
from xproxy.transport.proxy_protocol import (
    V2_MAX,
    V2_SIGNATURE,
    ProxyHeader,
    ProxyHeaderError,
    crc32c,
    encode,
    parse,
)

VECTOR = Path(__file__).parent / "vectors" / "h1-curl-proxy-protocol-v1.json"

CLIENT = Address("192.0.2.7", 51234)
SERVER = Address("198.51.100.1", 443)


def v2(command: int, family: int, body: bytes) -> bytes:
    return V2_SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


FOUR = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack("!HH", 51234, 443)
SIX = (
    ipaddress.ip_address("2001:db8::1").packed
    + ipaddress.ip_address("2001:db8::2").packed
    + struct.pack("!HH", 1, 65535)
)


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def with_checksum(header: bytes) -> bytes:
    """Append a CRC-32C TLV and fill it in."""
    size = struct.unpack_from("!H", header, 14)[0] + 7
    zeroed = header[:14] + struct.pack("!H", size) + header[16:] + tlv(3, bytes(4))
    return zeroed[:-4] + struct.pack("!I", crc32c(zeroed))


def test_the_captured_header() -> None:
    # curl 7.88.1 --haproxy-protocol; recorded, not made here.
    connection = json.loads(VECTOR.read_text())["connections"][0]
    stream = bytes.fromhex(connection["segments"][0]["hex"])
    frame = connection["frames"][0]
    header = parse(stream)
    assert header == ProxyHeader(
        frame["length"], Address("127.0.0.1", 39370), Address("127.0.0.1", 47055)
    )
    assert stream[header.length :].startswith(b"GET /hello HTTP/1.1\r\n")
    assert header.source is not None
    assert header.destination is not None
    assert encode("v1", header.source, header.destination) == stream[: header.length]
    for size in range(frame["length"]):
        assert parse(stream[:size]) is None


GOOD = {
    "v1-tcp4": (b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 443\r\n", (CLIENT, SERVER, None)),
    "v1-tcp6": (
        b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n",
        (Address("2001:db8::1", 1), Address("2001:db8::2", 65535), None),
    ),
    "v1-unknown": (b"PROXY UNKNOWN\r\n", (None, None, None)),
    "v1-unknown-with-words": (
        b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
        (None, None, None),
    ),
    "v2-local": (v2(0x20, 0x00, b""), (None, None, None)),
    # Section 2.2: of a LOCAL header the family is ignored and the rest skipped, whatever they are.
    "v2-local-odd-family": (v2(0x20, 0xF7, b"whatever"), (None, None, None)),
    "v2-local-short-body": (v2(0x20, 0x11, b"abc"), (None, None, None)),
    "v2-unspec": (v2(0x21, 0x00, b""), (None, None, None)),
    "v2-tcp4": (v2(0x21, 0x11, FOUR), (CLIENT, SERVER, None)),
    "v2-udp4": (v2(0x21, 0x12, FOUR), (CLIENT, SERVER, None)),
    "v2-tcp6": (
        v2(0x21, 0x21, SIX),
        (Address("2001:db8::1", 1), Address("2001:db8::2", 65535), None),
    ),
    "v2-unix": (
        v2(0x21, 0x31, b"/run/a".ljust(108, b"\0") + bytes(108)),
        (Address("", 0, "/run/a"), Address("", 0, "unnamed"), None),
    ),
    "v2-authority": (
        v2(0x21, 0x11, FOUR + tlv(2, b"Example.COM")),
        (CLIENT, SERVER, "example.com"),
    ),
    "v2-unknown-tlv": (
        v2(0x21, 0x11, FOUR + tlv(0xE0, b"x" * 300) + tlv(2, b"a")),
        (CLIENT, SERVER, "a"),
    ),
    "v2-checksum": (with_checksum(v2(0x21, 0x11, FOUR)), (CLIENT, SERVER, None)),
    "v2-longest": (
        v2(0x21, 0x11, FOUR + tlv(4, bytes(V2_MAX - 16 - 12 - 3))),
        (CLIENT, SERVER, None),
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_headers(name: str) -> None:
    raw, (source, destination, authority) = GOOD[name]
    expected = ProxyHeader(len(raw), source, destination, authority)
    assert parse(raw) == expected
    # What follows belongs to somebody else, also if it looks like a header.
    assert parse(raw + raw) == expected
    assert parse(raw + b"\r\n\0\xff") == expected
    for size in range(len(raw)):
        assert parse(raw[:size]) is None, f"decided after {size} of {len(raw)} bytes"


BAD = {
    "other protocol": b"GET / HTTP/1.1\r\n",
    "lower case": b"proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
    "two spaces": b"PROXY  TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
    "v1 without family": b"PROXY \r\n",
    "v1 unknown family": b"PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n",
    "v1 too few": b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
    "v1 too many": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n",
    "v1 wrong version": b"PROXY TCP4 ::1 ::1 1 1\r\n",
    "v1 mixed": b"PROXY TCP6 ::1 1.2.3.4 1 1\r\n",
    "v1 name": b"PROXY TCP4 localhost 1.2.3.4 1 1\r\n",
    "v1 leading zeros": b"PROXY TCP4 01.2.3.4 1.2.3.4 1 1\r\n",
    "v1 zone": b"PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
    "v1 port above": b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n",
    "v1 port negative": b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 1\r\n",
    "v1 port with sign": b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 1\r\n",
    "v1 port empty": b"PROXY TCP4 1.2.3.4 1.2.3.4  1\r\n",
    "v1 port in other digits": "PROXY TCP4 1.2.3.4 1.2.3.4 \u0661 1\r\n".encode(),
    "v1 port long": b"PROXY TCP4 1.2.3.4 1.2.3.4 000001 1\r\n",
    "v1 tab": b"PROXY TCP4\t1.2.3.4 1.2.3.4 1 1\r\n",
    "v1 line too long": b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    "v1 no end": b"PROXY TCP4 " + b"1" * 107,
    "v2 version": v2(0x11, 0x11, FOUR),
    "v2 command": v2(0x22, 0x11, FOUR),
    "v2 family": v2(0x21, 0x41, FOUR),
    "v2 transport": v2(0x21, 0x13, FOUR),
    "v2 too short": v2(0x21, 0x11, FOUR[:-1]),
    "v2 tcp6 too short": v2(0x21, 0x21, SIX[:-1]),
    "v2 unix too short": v2(0x21, 0x31, bytes(215)),
    "v2 too long": v2(0x21, 0x11, bytes(V2_MAX - 15)),
    "v2 half a tlv head": v2(0x21, 0x11, FOUR + b"\x04\x00"),
    "v2 tlv too long": v2(0x21, 0x11, FOUR + b"\x04\x00\x05abcd"),
    "v2 checksum": with_checksum(v2(0x21, 0x11, FOUR))[:-1] + b"?",
    "v2 checksum size": v2(0x21, 0x11, FOUR + tlv(3, b"ab")),
    "nearly the signature": V2_SIGNATURE[:-1] + b"\r" + bytes(4),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_headers(name: str) -> None:
    with pytest.raises(ProxyHeaderError):
        parse(BAD[name])


def test_a_declared_length_is_refused_before_it_arrives() -> None:
    with pytest.raises(ProxyHeaderError, match=f"limit {V2_MAX}"):
        parse(V2_SIGNATURE + b"\x21\x11\xff\xff")


def test_the_check_value_of_crc32c() -> None:
    # RFC 9260 appendix A names the polynomial; 0xE3069283 is its check value over "123456789".
    assert crc32c(b"123456789") == 0xE3069283


def addresses(version: Literal[4, 6]) -> st.SearchStrategy[Address]:
    ips = st.ip_addresses(v=version)
    return st.builds(lambda ip, port: Address(str(ip), port), ips, st.integers(0, 65535))


def by_value(end: Address | None) -> tuple[object, int]:
    assert end is not None
    return ipaddress.ip_address(end.host), end.port


@example("v2", (Address("::ffff:0:0", 1), Address("::ffff:0:0", 1)), b"")
@given(
    st.sampled_from(["v1", "v2"]),
    st.one_of(st.tuples(addresses(4), addresses(4)), st.tuples(addresses(6), addresses(6))),
    st.binary(max_size=30),
)
def test_parse_undoes_encode(version: str, ends: tuple[Address, Address], following: bytes) -> None:
    raw = encode(version, *ends)
    found = parse(raw + following)
    assert found is not None
    assert found.length == len(raw)
    # By value: an address has several texts (::ffff:0:0 is ::ffff:0.0.0.0).
    assert [by_value(end) for end in (found.source, found.destination)] == [*map(by_value, ends)]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_header_none_or_an_error(data: bytes) -> None:
    for prefix in (data, V2_SIGNATURE + data, b"PROXY " + data, V2_SIGNATURE + b"\x21\x11" + data):
        try:
            header = parse(prefix)
        except ProxyHeaderError:
            continue
        assert header is None or header.length <= len(prefix)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(
    "ends",
    [
        (Address("", 0, "/run/a"), SERVER),
        (CLIENT, Address("::1", 1)),
        (Address("", 0), SERVER),
        (CLIENT, Address("name.test", 80)),
    ],
)
def test_what_cannot_be_said_is_said_to_be_unknown(
    version: str, ends: tuple[Address, Address]
) -> None:
    header = parse(encode(version, *ends))
    assert header is not None
    assert header.source is None


def test_the_zone_of_an_address_stays_here() -> None:
    assert encode("v1", Address("fe80::1%eth0", 1), Address("fe80::2", 2)) == (
        b"PROXY TCP6 fe80::1 fe80::2 1 2\r\n"
    )
