"""Which protocol the first bytes of a connection mean with every codec installed: a table, tried byte by byte.

Each row says how many bytes it takes. All before must ask for more, and never for more than it takes; all after must
say the same. So the outcome is the same however the bytes are cut.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from xproxy.codecs.api import NO_HINT, Hint, VerdictKind
from xproxy.codecs.detect import Detected, Detector, NeedMore, Unrecognised, overlaps
from xproxy.codecs.tls.hello import recognise
from xproxy.registry import default_registry

PLUGINS: Final = default_registry().codecs()
HERE: Final = Path(__file__).parent
LOOKED_AT: Final = 80
"""Bytes of a recorded connection."""


def b(text: str) -> bytes:
    return bytes.fromhex(text)


NOBODY: Final = ""
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
BOLT_V1: Final = b("01 01 0001 01 0000000A 01 00000BB8 0003 0000 00000001")
BOLT_V2: Final = b("02 01 01 0001 01 0000000A 01 00 00000BB8 0003 0000 00000001")
HTTP2: Final[list[tuple[bytes, str, int]]] = [
    (PREFACE, "http2", 24),
    (PREFACE + b("000000040000000000"), "http2", 24),
    (b"PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n", NOBODY, 20),
    (b"PRI * HTTP/1.1\r\n\r\n", NOBODY, 12),
    (b"PRI /path HTTP/1.1\r\n\r\n", NOBODY, 5),
]
HTTP1: Final[list[tuple[bytes, str, int]]] = [
    (b"GET / HTTP/1.1\r\n", "http1", 16),
    (b"POST /x HTTP/1.1\r\n", "http1", 18),
    (b"PUT /x HTTP/1.1\r\n", "http1", 17),
    (b"PATCH /x HTTP/1.1\r\n", "http1", 19),
    (b"PURGE /x HTTP/1.1\r\n", "http1", 19),
    (b"PROPFIND /x HTTP/1.1\r\n", "http1", 22),
    (b"PRIM /x HTTP/1.1\r\n", "http1", 18),
    (b"OPTIONS * HTTP/1.1\r\n", "http1", 20),
    (b"M-SEARCH * HTTP/1.1\r\n", "http1", 21),
    (b"CONNECT example.com:443 HTTP/1.1\r\n", "http1", 34),
    (b"CONNECT [::1]:443 HTTP/1.1\r\n", "http1", 28),
    (b"GET http://example.com/ HTTP/1.1\r\n", "http1", 34),
    (b"\r\nGET / HTTP/1.1\r\n", "http1", 18),
    (b"\r\n\r\nGET / HTTP/1.1\r\n", "http1", 20),
    # Spoken badly, and answered as such.
    (b"\r\n\r\n\r\nGET / HTTP/1.1\r\n", "http1", 22),
    (b"\rGET / HTTP/1.1\r\n", "http1", 17),
    (b"A" * 32 + b" / HTTP/1.1\r\n", "http1", 45),
    (b"A" * 33 + b" /", NOBODY, 33),
    (b"GET  / HTTP/1.1\r\n", "http1", 17),
    (b"GET\t/ HTTP/1.1\r\n", "http1", 16),
    (b"GET \x7f", NOBODY, 5),
    (b"get / HTTP/1.1\r\n", "http1", 16),
    (b"GET /admin\r\n", "http1", 12),
    (b"GET key\r\n", NOBODY, 9),
]
PROXY: Final[list[tuple[bytes, str, int]]] = [
    # Where the listener expects it, it has been taken away. Elsewhere it is a request, and a bad one.
    (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "http1", 32),
    (b("0d0a0d0a000d0a515549540a 21110000"), NOBODY, 5),
]
TLS: Final[list[tuple[bytes, str, int]]] = [
    # Where the listener ends TLS, or passes it on. Elsewhere nobody speaks it.
    (b("16 03 01 00c0 01 0000bc 0303"), "tls", 6),
    (b("16 03 04 00c0 01 0000bc 0303"), "tls", 6),
    (b("16 02 01 00c0 01"), NOBODY, 2),
    (b("16 03 05 00c0 01"), NOBODY, 3),
    (b("16 03 01 ff00 01"), NOBODY, 4),
    (b("16 03 01 0003 01"), "tls", 6),  # a hello may be cut as small as can be
    (b("16 03 01 0001 01 16 03 01"), "tls", 6),
    (b("16 03 01 0000 01"), NOBODY, 5),
    (b("16 03 01 00c0 02"), NOBODY, 6),  # a server's hello
    (b("80 2e 01 0301 0015"), NOBODY, 2),  # a hello of SSL 2
]
BOLT: Final[list[tuple[bytes, str, int]]] = [
    (BOLT_V1, "bolt", 22),
    (b("01 02 0001 01 0000000A 01 00000BB8 0003 0000 00000001"), "bolt", 22),
    (b("01 01 0000 01 00000001 01 00000000 0000 0000 00000000"), "bolt", 22),
    (b("01 01 0064 01 00000001 01 00000000 0000 0000 00000000"), "bolt", 22),
    (b("01 00 0002 01 0000000A 01 0000 0000 0000 00000000"), NOBODY, 2),
    (b("01 03 0001 01"), NOBODY, 2),
    (b("01 01 0003 01"), NOBODY, 4),
    (b("01 01 0001 01 0000000A 01 00000BB8 0003 0000 80000000"), NOBODY, 22),
    (BOLT_V2, "bolt", 24),
    (b("02 02 02 0001 01 0000000A 01 01 00000BB8 0003 0000 00000001"), "bolt", 24),
    (b("02 03 01 0001 01"), NOBODY, 2),
    (b("02 01 03 0001 01"), NOBODY, 3),
    (b("02 01 01 0101 01"), NOBODY, 4),
    (b("03 00 0016"), NOBODY, 1),  # TPKT
]
DUBBO: Final[list[tuple[bytes, str, int]]] = [
    (b("DABB C2 00 0000000000000001 00000001 4E"), "dubbo", 16),
    (b("DABB 82 00 0000000000000001 00000001 4E"), "dubbo", 16),
    (b("DABB E2 00 0000000000000001 00000001 4E"), "dubbo", 16),
    (b("DABB C6 00 0000000000000001 00000001 4E"), "dubbo", 16),
    (b("DABB 02 14 0000000000000001 00000001 4E"), NOBODY, 3),  # an answer
    (b("DABB DF 00 0000000000000001 00000001 4E"), "dubbo", 16),  # its number is 31
    (b("DABC 0000"), NOBODY, 2),
]
THRIFT: Final[list[tuple[bytes, str, int]]] = [
    (b("80010001 00000004 6563686f 00000001 00"), "thrift", 17),
    (b("80010004 00000004 6563686f 00000001 00"), "thrift", 17),
    (b("80010005 00000004 6563686f 00000001 00"), NOBODY, 4),
    (b("80010000 00000004 6563686f 00000001 00"), NOBODY, 4),
    (b("80010101"), NOBODY, 3),
    (b("82 21 01 04 6563686f 00"), "thrift", 9),
    (b("82 81 01 04 6563686f 00"), "thrift", 9),
    (b("82 a1 01 04 6563686f 00"), NOBODY, 2),
    (b("82 01 01 04 6563686f 00"), NOBODY, 2),
    (b("82 22 01 04 6563686f 00"), NOBODY, 2),
    (b("00000015 80010001 00000004 6563686f 00000001 00"), "thrift", 20),
    (b("00000015 8021"), NOBODY, 6),
    (b("00000009 82210104 6563686f 00"), "thrift", 12),
    (b("00000009 82e1"), NOBODY, 6),
    (b("00000020 0fff 0000 00000001 0001 00 00"), "thrift", 16),
    (b("00000020 0ffe"), NOBODY, 6),
    (b("00000020 5b31 2c22 61 222c312c302c 7b"), "thrift", 15),
    (b("00000020 5b7b"), NOBODY, 6),
    (b("00000011 00000004 6563686f 01 00000001 00"), "thrift", 17),
    (b("00000004 6563686f 01 00000001 00"), "thrift", 14),
    (b("00000004 6563686f 05 00000001 00"), NOBODY, 13),
    (b("00000004 6563 07"), NOBODY, 7),
    (b("00000020 dabc 0000"), NOBODY, 6),  # Dubbo over Thrift
    (b("00000020 1003 2c3c"), NOBODY, 5),  # Tars
    (b("00000000 80010001"), NOBODY, 4),
    (b("00fa0001 80010001"), NOBODY, 4),  # a frame above the limit
    (b'[1,"echo",1,0,{}]', "thrift", 15),
    (b'[2,"echo",1,0,{}]', NOBODY, 2),
]
SAMPLE: Final[list[tuple[bytes, str, int]]] = [
    (b("78 01 00 00 00000001 00000000 0000 00000000"), "xs1", 18),
    (b("78 02 00 00"), NOBODY, 2),
]
TABLE: Final = [*HTTP2, *HTTP1, *PROXY, *BOLT, *DUBBO, *THRIFT, *SAMPLE]
NOT_REFUSED_AT_ONCE: Final = {
    *b("00 01 02 80 82 da"),
    *b"\t\n\r [",
    *b"\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0",  # white space before a request, to some readers
    *range(ord("A"), ord("Z") + 1),
    *range(ord("a"), ord("z") + 1),
}
"""First bytes that may begin something."""


def outcome(
    detector: Detector, prefix: bytes, hint: Hint = NO_HINT, *, tls: bool = False
) -> str | int:
    """Return who is recognised, ``NOBODY``, or how many bytes it takes. Where TLS is served, it is asked first."""
    if tls:
        hello = recognise(prefix)
        if hello.kind is not VerdictKind.NO:
            return "tls" if hello.kind is VerdictKind.YES else hello.at_least
    match detector.decide(prefix, hint):
        case Detected(plugin):
            return plugin.name
        case NeedMore(at_least):
            return at_least
        case Unrecognised():
            return NOBODY


def check(data: bytes, expected: str, decided: int | None = None, *, tls: bool = False) -> None:
    """Hold every prefix against the row."""
    detector = Detector(PLUGINS)
    found = [outcome(detector, data[:size], tls=tls) for size in range(len(data) + 1)]
    at = decided if decided is not None else found.index(expected)
    for size, said in enumerate(found):
        if size >= at:
            assert said == expected, f"after {size} bytes"
        else:
            assert isinstance(said, int), f"{said!r} after {size} bytes, which takes {at}"
            assert size < said <= at, f"after {size} bytes it asks for {said}, which takes {at}"
            needed = detector.decide(data[:size])
            ended = detector.conclude(data[:size])
            if not isinstance(needed, NeedMore) or needed.faint:
                assert ended == Unrecognised(), "nobody knows what ends here"
            else:
                assert isinstance(ended, Detected) or ended.meant, "nobody else's"


def test_every_codec_takes_part() -> None:
    names = {plugin.name for plugin in PLUGINS}
    assert names >= {"http1", "http2", "bolt", "dubbo", "thrift", "xs1", "opaque"}
    assert {expected for _, expected, _ in TABLE} >= names - {"opaque"}


@pytest.mark.parametrize(
    ("data", "expected", "decided"), TABLE, ids=[f"{d[:12]!r}" for d, _, _ in TABLE]
)
@pytest.mark.parametrize("tls", [False, True])
def test_a_row(data: bytes, expected: str, decided: int, tls: bool) -> None:
    check(data, expected, decided, tls=tls)


@pytest.mark.parametrize(("data", "expected", "decided"), TLS)
def test_a_row_of_tls(data: bytes, expected: str, decided: int) -> None:
    check(data, expected, decided, tls=True)
    without = {size for size in range(1, len(data) + 1) if outcome(Detector(PLUGINS), data[:size])}
    assert without <= {1}, "nobody else takes it, nor waits for it"


def test_any_other_first_byte_is_refused_at_once() -> None:
    detector = Detector(PLUGINS)
    waited_for = {first for first in range(256) if outcome(detector, bytes([first])) != NOBODY}
    assert waited_for == NOT_REFUSED_AT_ONCE
    with_tls = {
        first for first in range(256) if outcome(detector, bytes([first]), tls=True) != NOBODY
    }
    assert with_tls == {*NOT_REFUSED_AT_ONCE, 0x16}


def test_no_two_codecs_claim_the_same_bytes() -> None:
    assert overlaps(PLUGINS) == []


def test_a_frame_of_thrift_that_could_be_bolt_is_not_taken_for_thrift() -> None:
    # Its length is 01 00 00 00: 16 MiB, which is more than Thrift's own limit.
    detector = Detector(PLUGINS)
    data = b("01000000 80010001 00000004 6563686f 00000001 0b000100000000")
    assert all(outcome(detector, data[:size]) != "thrift" for size in range(len(data)))


@pytest.mark.parametrize(("alpn", "expected"), [("h2", "http2"), ("http/1.1", "http1")])
def test_what_was_agreed_on_in_a_handshake_must_follow(alpn: str, expected: str) -> None:
    detector = Detector(PLUGINS)
    for data in (b"", b"GET / HTTP/1.1\r\n", PREFACE, BOLT_V1):
        assert outcome(detector, data, Hint(tls=True, alpn=alpn)) == expected


def recordings() -> Iterator[tuple[str, str, bytes]]:
    """Give each recorded connection: where it stands, its codec, and what the client says first."""
    for path in sorted([*HERE.glob("*/vectors/**/*.json"), *HERE.glob("*/captured/*.json")]):
        recorded = json.loads(path.read_text())
        codec = path.relative_to(HERE).parts[0]
        for index, connection in enumerate(recorded.get("connections", ())):
            said = b"".join(
                bytes.fromhex(segment.get("hex", ""))
                for segment in connection["segments"]
                if segment["dir"] == "c2s"
            )
            if said:
                yield f"{codec}/{path.stem}[{index}]", codec, said[:LOOKED_AT]


RECORDED: Final = list(recordings())


@pytest.mark.parametrize(
    ("codec", "data"), [r[1:] for r in RECORDED], ids=[where for where, _, _ in RECORDED]
)
def test_a_recorded_client_is_recognised(codec: str, data: bytes) -> None:
    if data.startswith(b"PROXY "):
        data = data[data.index(b"\r\n") + 2 :]  # taken away where the listener expects it
    check(data, codec, tls=codec == "tls")


def test_clients_of_every_kind_are_recorded() -> None:
    assert {codec for _, codec, _ in RECORDED} >= {"http1", "http2", "dubbo", "thrift", "tls"}
