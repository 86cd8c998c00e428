"""What clients can do wrong, as bytes, by protocol: the cells of a table of ``docs/explanation/errors.md``.

Each is what a client sends on a connection, with limits that make it wrong. ``verdict`` says what becomes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import hpack

from xproxy.codecs.api import CodecPlugin
from xproxy.codecs.bolt.fields import write_pairs
from xproxy.codecs.dubbo.attachments import write_map
from xproxy.codecs.dubbo.prefix import make_prefix
from xproxy.codecs.http2.wire import GOAWAY, HEADERS, PREFACE, RST_STREAM, frame, settings
from xproxy.codecs.thrift.dialect import Transport
from xproxy.codecs.thrift.plugin import ThriftPlugin
from xproxy.model.frames import Head, Reply, Violation
from xproxy.model.limits import Limits
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.traits import Role

SMALL: Final = Limits(
    max_head_bytes=1000,
    max_headers=5,
    max_target_bytes=60,
    max_message_bytes=4000,
    max_streams=1,
)

FRAMING = "Framing that cannot be, or is ambiguous"
VERSION = "Another major version"
MESSAGE = "A message that is none, within good framing"
HEAD = "A head above its limits"
FIELDS = "Too many header fields"
TARGET = "A target above its limit"
LONG = "A message above its limit"
STREAMS = "More streams than allowed"
IDS = "Two requests at once with one id"
ANSWER = "An answer that nobody waits for"
ONEWAY = "A oneway message above its limit"
END = "The end in the middle of a message"
CODING = "A transfer coding before `chunked`"

_FIELDS: Final = [(f"name-{n}", "value") for n in range(9)]
_LONG: Final = "x" * 1500


def _web(fields: str, line: str = "GET / HTTP/1.1") -> bytes:
    return f"{line}\r\nHost: a\r\n{fields}\r\n".encode()


HTTP1: Final = {
    FRAMING: _web("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "POST / HTTP/1.1"),
    VERSION: _web("", "GET / HTTP/3.0"),
    MESSAGE: _web("a b: c\r\n"),
    HEAD: _web(f"a: {_LONG}\r\n"),
    FIELDS: _web("".join(f"{name}: v\r\n" for name, _ in _FIELDS)),
    TARGET: _web("", f"GET /{'x' * 80} HTTP/1.1"),
    END: _web("Content-Length: 5\r\n", "POST / HTTP/1.1") + b"ab",
    CODING: _web("Transfer-Encoding: gzip, chunked\r\n", "POST / HTTP/1.1"),
}

_GET: Final = bytes.fromhex("828684 41 01 61")
_OPEN: Final = PREFACE + settings(())


def _field(name: str, value: str) -> bytes:
    def text(said: str) -> bytes:
        data = said.encode()
        size = bytes((len(data),)) if len(data) < 127 else b"\x7f" + _varint(len(data) - 127)
        return size + data

    return b"\0" + text(name) + text(value)


def _varint(value: int) -> bytes:
    low = value & 0x7F
    return bytes((low | 0x80,)) + _varint(value >> 7) if value > 0x7F else bytes((low,))


HTTP2: Final = {
    FRAMING: _OPEN + frame(6, 0, 0, b"123"),
    VERSION: b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n",
    MESSAGE: _OPEN + frame(HEADERS, 5, 1, _GET + _field("Upper", "x")),
    HEAD: _OPEN + frame(HEADERS, 5, 1, _GET + _field("a", _LONG)),
    FIELDS: _OPEN + frame(HEADERS, 5, 1, _GET + b"".join(_field(*pair) for pair in _FIELDS)),
    TARGET: _OPEN + frame(HEADERS, 5, 1, b"\x82\x86\x41\x01a\x04\x50/" + b"x" * 79),
    STREAMS: _OPEN + b"".join(frame(HEADERS, 4, n, _GET) for n in (1, 3)),
    IDS: _OPEN + 2 * frame(HEADERS, 5, 1, _GET),
    END: _OPEN + frame(HEADERS, 5, 1, _GET)[:-2],
}


def _bolt(
    number: int = 1,
    *,
    kind: str = "01 0001",
    version: int = 1,
    block: bytes = b"",
    body: bytes = b"",
) -> bytes:
    lengths = (0).to_bytes(2) + len(block).to_bytes(2) + len(body).to_bytes(4)
    timeout = b"\0\0" if kind.startswith("00") else bytes(4)
    head = bytes((version,)) + bytes.fromhex(kind) + b"\1" + number.to_bytes(4) + b"\1" + timeout
    return head + lengths + block + body


BOLT: Final = {
    FRAMING: _bolt(kind="01 0007"),
    VERSION: _bolt(version=3),
    MESSAGE: _bolt(block=b"\0\0\0\x09a"),
    HEAD: _bolt(block=bytes(1500)),
    FIELDS: _bolt(block=write_pairs(_FIELDS)),
    LONG: _bolt(body=bytes(5000)),
    STREAMS: _bolt(1) + _bolt(2),
    IDS: _bolt(1) + _bolt(1),
    ANSWER: _bolt(kind="00 0002"),
    ONEWAY: _bolt(kind="02 0001", body=bytes(5000)),
    END: _bolt(body=b"abc")[:-1],
}


def _dubbo(body: bytes, number: int = 1, flag: int = 0xC2, magic: bytes = b"\xda\xbb") -> bytes:
    status = 0 if flag & 0x80 else 20
    return magic + bytes((flag, status)) + number.to_bytes(8) + len(body).to_bytes(4) + body


def _asked(path: str = "a.B", pairs: list[tuple[str, str]] | None = None) -> bytes:
    return make_prefix(path, "m", "").block + write_map(pairs or [])


DUBBO: Final = {
    FRAMING: _dubbo(_asked()) + b"\xda\xbc\xc2" + bytes(13),
    VERSION: _dubbo(_asked(), magic=b"\xda\xbc"),
    MESSAGE: _dubbo(b"\xff\xff"),
    HEAD: _dubbo(_asked(_LONG)),
    FIELDS: _dubbo(_asked(pairs=_FIELDS)),
    LONG: _dubbo(_asked() + bytes(5000)),
    STREAMS: _dubbo(_asked(), 1) + _dubbo(_asked(), 2),
    IDS: _dubbo(_asked(), 1) + _dubbo(_asked(), 1),
    ANSWER: _dubbo(b"\x92", flag=2),
    ONEWAY: _dubbo(_asked() + bytes(5000), flag=0x82),
    END: _dubbo(_asked())[:-1],
}


def _thrift(
    number: int = 1, kind: int = 1, body: bytes = b"\0", name: bytes = b"m", version: int = 1
) -> bytes:
    start = b"\x80" + bytes((version, 0, kind)) + len(name).to_bytes(4) + name
    message = start + number.to_bytes(4) + body
    return len(message).to_bytes(4) + message


def _with_header(block: bytes) -> bytes:
    block += bytes(-len(block) % 4)
    fixed = b"\x0f\xff\0\0" + (1).to_bytes(4) + (len(block) // 4).to_bytes(2)
    message = fixed + block + _thrift()[4:]
    return len(message).to_bytes(4) + message


THRIFT: Final = {
    FRAMING: b"\0\0\0\x04\x10\x01\0\0",
    VERSION: _thrift(version=2),
    MESSAGE: _thrift(body=b"\x77\0\1")[4:],
    HEAD: _with_header(bytes(1500)),
    FIELDS: _with_header(b"\0\0\1\x09" + b"\x01a\x01b" * 9),
    LONG: _thrift(body=bytes(5000)),
    STREAMS: _thrift(1) + _thrift(2),
    IDS: _thrift(1) + _thrift(1),
    ANSWER: _thrift(kind=2),
    ONEWAY: _thrift(kind=4, body=bytes(5000)),
    END: _thrift()[:-1],
}


def _xs1(number: int = 1, kind: int = 0, block: bytes | None = None, body: bytes = b"") -> bytes:
    if block is None:
        block = b"\x07service\0\1s\x06method\0\1m"
    fixed = b"x\x01" + bytes((kind, 0)) + number.to_bytes(4) + bytes(4)
    return fixed + len(block).to_bytes(2) + len(body).to_bytes(4) + block + body


XS1: Final = {
    FRAMING: _xs1(kind=9),
    VERSION: b"x\x02" + _xs1()[2:],
    MESSAGE: _xs1(block=b"\x09a"),
    HEAD: _xs1(block=b"\x01a\x05\xdc" + bytes(1500)),
    FIELDS: _xs1(block=b"".join(b"\x06" + name.encode() + b"\0\0" for name, _ in _FIELDS)),
    LONG: _xs1(body=bytes(5000)),
    STREAMS: _xs1(1) + _xs1(2),
    IDS: _xs1(1) + _xs1(1),
    ANSWER: _xs1(kind=1),
    ONEWAY: _xs1(kind=2, body=bytes(5000)),
    END: _xs1(body=b"abc")[:-1],
}

CRIMES: Final[Mapping[str, Mapping[str, bytes]]] = {
    "HTTP/1.1": HTTP1,
    "HTTP/2": HTTP2,
    "Bolt": BOLT,
    "Dubbo": DUBBO,
    "Thrift": THRIFT,
    "xs1": XS1,
}
"""By the head of the column, then by the row."""


def verdict(plugin: CodecPlugin, crime: str, data: bytes) -> str:
    """Let a server read what a client sent; return what becomes of it, as the table says it."""
    # Where the id matters, one stream is not enough for two.
    limits = SMALL if crime != IDS else Limits()
    server = plugin.open(Role.SERVER, limits)
    frames = [*server.receive(b""), *server.receive(data)]
    if crime == END:
        frames += server.receive(None)
    told = b"".join(frame.data for frame in frames if isinstance(frame, Reply))
    last = frames[-1] if frames else None
    closed = isinstance(last, Violation)
    if isinstance(last, Violation):
        told += last.farewell
    if plugin.name == "http2":
        return _of_http2(told, closed=closed or crime == END)
    codes = _codes(plugin, told)
    return ", ".join([*codes, "closed" if closed or crime == END else "goes on"])


def _codes(plugin: CodecPlugin, told: bytes) -> list[str]:
    """Return the codes of the answers that a client reads."""
    web = plugin.name == "http1"
    if isinstance(plugin, ThriftPlugin):
        plugin = ThriftPlugin(transport=_transport_of(told))
    client = plugin.open(Role.CLIENT, Limits())
    head = RequestHead(service="s", method="m")
    if web:
        head = RequestHead(service="s", method="GET", extra=Target(path="/"))
    # It is told only what it has asked for.
    for number in (1,) if web else (1, 2):
        client.send(Head(number, head, b"" if web else b"\0", end=True))
    return [
        str(frame.message.native_status)
        for frame in client.receive(told)
        if isinstance(frame, Head) and isinstance(frame.message, ResponseHead)
    ]


def _transport_of(told: bytes) -> Transport:
    if told[:1] == b"\x80":
        return Transport.UNFRAMED
    return Transport.HEADER if told[4:6] == b"\x0f\xff" else Transport.FRAMED


def _of_http2(told: bytes, *, closed: bool) -> str:
    """Return the end of the connection if there was one, else the status of the stream, else how it was reset."""
    found: dict[int, bytes] = {}
    at = 0
    while at + 9 <= len(told):
        size, kind = int.from_bytes(told[at : at + 3]), told[at + 3]
        found.setdefault(kind, told[at + 9 : at + 9 + size])
        at += 9 + size
    if GOAWAY in found:
        return f"GOAWAY {int.from_bytes(found[GOAWAY][4:8])}"
    if HEADERS in found:
        pairs = hpack.Decoder().decode(found[HEADERS])
        return next(str(value) for name, value in pairs if str(name) == ":status")
    if RST_STREAM in found:
        return f"RESET {int.from_bytes(found[RST_STREAM])}"
    return "closed" if closed else "goes on"
