"""What a server says reaches the client as it said it: code and body, whatever both are, and however it is written.

A small message is copied; a long one, and one that a filter changed, is written anew. Both ways must say the same,
also for codes that the protocol does not define.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from struct import calcsize, pack
from typing import Final, cast

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codecs.declared import PLAIN
from xproxy.codecs.api import CodecPlugin
from xproxy.codecs.bolt.plugin import PLUGIN as BOLT
from xproxy.codecs.dubbo.plugin import DubboPlugin
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.codecs.length_framed import LengthFramed
from xproxy.codecs.messages import ORIGIN_MAX_BYTES
from xproxy.codecs.thrift.dialect import DIALECTS, Dialect, Protocol, Transport
from xproxy.codecs.thrift.plugin import PLUGIN as THRIFT
from xproxy.model.frames import Data, Frame, Head
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.registry import default_registry
from xproxy.testing.traffic import greet, replies_in

XS1: Final = cast("LengthFramed", default_registry().codec("xs1"))  # it is declared
DUBBO: Final = DubboPlugin(strict_target=False)  # what the requests here say is of no interest
SIZES: Final = st.one_of(
    st.integers(0, 80),
    st.sampled_from(
        [size + off for size in (2048, ORIGIN_MAX_BYTES, 65536) for off in (-40, -20, -1, 0, 1, 40)]
    ),
)
ASKED: Final = RequestHead(service="demo.Echo", method="say")


class Relay:
    """A client, the proxy's two codecs, a server: real bytes between them."""

    def __init__(self, plugin: CodecPlugin, request: bytes = b"") -> None:
        self.client = plugin.open(Role.CLIENT, DEFAULT_LIMITS)
        self.downstream = plugin.open(Role.SERVER, DEFAULT_LIMITS)
        self.upstream = plugin.open(Role.CLIENT, DEFAULT_LIMITS)
        self.server = plugin.open(Role.SERVER, DEFAULT_LIMITS)
        web = RequestHead(service="a.test", method="GET", extra=Target(path="/"))
        asked = Head(1, web if plugin is HTTP1 else ASKED, b"", True)
        if request:
            reader = plugin.open(Role.SERVER, DEFAULT_LIMITS)
            (read,) = [f for f in reader.receive(request) if isinstance(f, Head)]
            asked = attrs.evolve(read, stream_id=1)
        wire = greet(self.client, self.downstream) + self.client.send(asked)
        (asked,) = [f for f in self.downstream.receive(wire) if isinstance(f, Head)]
        hello = greet(self.upstream, self.server)
        self.upstream.receive(replies_in(self.server.receive(hello)))
        self.server.receive(self.upstream.send(Head(1, asked.message, asked.data, True)))
        self.stream_id = asked.stream_id

    def passed(self, answer: bytes, way: str) -> tuple[ResponseHead, bytes]:
        """Return what the client reads of an answer that passed on ``way``."""
        frames: list[Frame] = []
        for frame in self.upstream.receive(answer):
            if isinstance(frame, Head):
                frame = attrs.evolve(frame, stream_id=self.stream_id)
                head = frame.message
                if way != "as it is":
                    frame = attrs.evolve(frame, origin=None)
                if way == "with a header":
                    head = attrs.evolve(head, headers=head.headers.add("x-filter", "was here"))
                    frame = attrs.evolve(frame, message=head)
            elif isinstance(frame, Data):
                frame = attrs.evolve(frame, stream_id=self.stream_id)
            frames.append(frame)
        written = b"".join(
            self.downstream.send(frame) for frame in frames if isinstance(frame, Head | Data)
        )
        return read_answer(self.client.receive(written))


def read_answer(frames: Sequence[Frame]) -> tuple[ResponseHead, bytes]:
    (head,) = [f for f in frames if isinstance(f, Head)]
    assert isinstance(head.message, ResponseHead)
    return head.message, b"".join(f.data for f in frames if isinstance(f, Head | Data))


WAYS: Final = ("as it is", "written anew", "with a header")


def with_status(plugin: LengthFramed, answer: bytes, code: int) -> bytes:
    """Put another code into the fixed head of an answer."""
    names, order = list(plugin.head), plugin.order
    at = calcsize(order + "".join(plugin.head[name] for name in names[: names.index("status")]))
    size = calcsize(order + plugin.head["status"])
    raw = (code % (1 << 8 * size)).to_bytes(size, "big" if order == ">" else "little")
    return answer[:at] + raw + answer[at + size :]


def check(plugin: CodecPlugin, request: bytes, answer: bytes, code: int | None) -> None:
    """Hold what a client reads past the proxy, by every way, against what it reads without."""
    straight = Relay(plugin, request)
    expected, body = read_answer(straight.upstream.receive(answer))
    if code is not None:
        assert expected.native_status == code
    for way in WAYS:
        got, arrived = Relay(plugin, request).passed(answer, way)
        assert (got.native_status, got.status, way) == (
            expected.native_status,
            expected.status,
            way,
        )
        assert arrived == body, f"the body, {way}"


def bolt_request(version: int, ver1: int, switch: int) -> bytes:
    if version == 1:
        return pack(">BBHBiBiHHI", 1, 1, 1, 1, 1, 1, 3000, 0, 0, 0)
    written = pack(">BBBHBiBBiHHI", 2, ver1, 1, 1, 1, 1, 1, switch, 3000, 0, 0, 0)
    return written + crc(written) if (ver1, switch) == (2, 1) else written


def bolt_answer(version: int, ver1: int, switch: int, code: int, body: bytes) -> bytes:
    name = b"com.alipay.sofa.rpc.core.response.SofaResponse"
    if version == 1:
        head = pack(">BBHBiBHHHI", 1, 0, 2, 1, 1, 1, code, len(name), 0, len(body))
        return head + name + body
    head = pack(">BBBHBiBBHHHI", 2, ver1, 0, 2, 1, 1, 1, switch, code, len(name), 0, len(body))
    written = head + name + body
    return written + crc(written) if (ver1, switch) == (2, 1) else written


def crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 0xFFFF), SIZES, st.sampled_from([(1, 0, 0), (2, 1, 0), (2, 1, 1), (2, 2, 1)]))
def test_bolt(code: int, size: int, form: tuple[int, int, int]) -> None:
    answer = bolt_answer(*form, code, b"N" * size)
    check(BOLT, bolt_request(*form), answer, code)


@pytest.mark.parametrize("code", range(256))
def test_dubbo_every_code(code: int) -> None:
    for size in (0, 5, ORIGIN_MAX_BYTES):
        check(DUBBO, dubbo_request(2), dubbo_answer(2, code, size), code)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 255), SIZES, st.sampled_from([2, 6, 23, 25, 31]))
def test_dubbo(code: int, size: int, serialization: int) -> None:
    request = dubbo_request(serialization)
    check(DUBBO, request, dubbo_answer(serialization, code, size), code)


def dubbo_request(serialization: int) -> bytes:
    body = b"\x052.5.3\x04demo\x00\x03add\x00HZ" if serialization == 2 else b"whatever"
    return pack(">HBBQI", 0xDABB, 0xC0 | serialization, 0, 1, len(body)) + body


def dubbo_answer(serialization: int, code: int, size: int) -> bytes:
    text = b"S" + (size % 65536).to_bytes(2) + b"e" * (size % 65536)
    body = b"\x91" + text if code == 20 else text
    return pack(">HBBQI", 0xDABB, serialization, code, 1, len(body)) + body


@settings(max_examples=80, deadline=None)
@given(
    st.one_of(st.integers(0, 20), st.integers(0, 2**31 - 1)),
    SIZES,
    st.sampled_from(DIALECTS),
)
def test_thrift(code: int, size: int, dialect: Dialect) -> None:
    encoding = dialect.encoding
    if (dialect.transport, dialect.protocol) == (Transport.HEADER, Protocol.JSON):
        return  # there is no such thing

    def wrapped(kind: int, data: bytes) -> bytes:
        payload = encoding.write_head(kind, b"echo", 1) + data + encoding.tail
        if dialect.transport is Transport.UNFRAMED:
            return payload
        if dialect.transport is Transport.HEADER:
            block = b"\x02\0\0\0" if dialect.protocol is Protocol.COMPACT else b"\0\0\0\0"
            payload = b"\x0f\xff\0\0\0\0\0\1\0\1" + block + payload
        return len(payload).to_bytes(4) + payload

    request = wrapped(1, encoding.empty)

    check(THRIFT, request, wrapped(3, encoding.exception(code, "e" * size)), code)
    check(THRIFT, request, wrapped(2, encoding.empty), None)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 0xFFFF), SIZES, st.sampled_from([PLAIN, XS1]))
def test_a_declared_protocol(code: int, size: int, plugin: LengthFramed) -> None:
    relay = Relay(plugin)
    answer = relay.server.send(Head(1, ResponseHead(status=Status.OK), b"b" * size, True))
    changed = with_status(plugin, answer, code)
    check(plugin, b"", changed, None)


@pytest.mark.parametrize("code", [*range(200, 204), *range(205, 304), *range(305, 1000)])
def test_http1(code: int) -> None:
    for size in (1, 100, 70_000):
        head = b"HTTP/1.1 %d Whatever\r\nContent-Length: %d\r\n\r\n" % (code, size)
        check(HTTP1, b"", head + b"b" * size, code)
