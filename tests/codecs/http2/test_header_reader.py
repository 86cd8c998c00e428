"""Header blocks in: in pieces, within bounds, on tables that connections share."""

from __future__ import annotations

import attrs
import hpack
import pytest

from tests.alive import part
from tests.codecs.http2.driving import (
    GET,
    RESPONSE,
    Hand,
)
from xproxy.codecs.http2.faults import ConnectionFault
from xproxy.codecs.http2.guard import Guard
from xproxy.codecs.http2.header_reader import HeaderReader
from xproxy.codecs.http2.header_writer import HeaderWriter
from xproxy.codecs.http2.limits import DEFAULT_HTTP2_LIMITS, FIRST_TABLE_BYTES, Http2Limits
from xproxy.codecs.http2.memory import Memory
from xproxy.codecs.http2.plugin import Http2Plugin
from xproxy.codecs.http2.server import ServerCodec
from xproxy.codecs.http2.wire import END_HEADERS, END_STREAM
from xproxy.model.frames import Head
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS, Limits, Size
from xproxy.model.message import recurring
from xproxy.model.traits import Role


def test_connections_that_begin_alike_share_their_tables() -> None:
    plugin = Http2Plugin()
    codecs: list[ServerCodec] = []
    message = recurring(attrs.evolve(RESPONSE, headers=Headers((("server", "x"),))))
    for _ in range(2):
        codec = plugin.open(Role.SERVER, DEFAULT_LIMITS)
        assert isinstance(codec, ServerCodec)
        Hand(codec).ask(1, GET)
        codec.send(Head(1, message, b"", end=True))
        codecs.append(codec)
    one, other = (part(codec, HeaderReader).table for codec in codecs)
    assert one is other
    one, other = (part(codec, HeaderWriter).table for codec in codecs)
    assert one is other
    assert one.entries == (("server", "x"),)


def reader(
    own: Http2Limits = DEFAULT_HTTP2_LIMITS, limits: Limits = DEFAULT_LIMITS
) -> HeaderReader:
    return HeaderReader(limits, own, Memory(limits, own), Guard(own))


def test_a_block_in_pieces() -> None:
    headers = reader()
    headers.begin(3, END_STREAM, b"ab")
    assert headers.go_on(0, b"c") is None
    assert (headers.stream_id, headers.end) == (3, True)
    assert headers.go_on(END_HEADERS, b"d") == b"abcd"
    assert headers.block is None


def test_a_block_has_a_bound_in_bytes_and_in_pieces() -> None:
    """The CONTINUATION flood (CVE-2024-27316)."""
    headers = reader(Http2Limits(max_continuations=2), Limits(max_head_bytes=1000))
    headers.check(4000)
    for size, begun in ((4001, b""), (3001, bytes(1000))):
        if begun:
            headers.begin(1, 0, begun)
        with pytest.raises(ConnectionFault, match="limit 4000") as long:
            headers.check(size)
        assert long.value.limit == "max_head_bytes"
    assert headers.go_on(0, b"x") is None
    assert headers.go_on(0, b"x") is None
    with pytest.raises(ConnectionFault) as many:
        headers.go_on(0, b"x")
    assert many.value.limit == "max_continuations"


def test_a_smaller_table_counts_once_it_is_acknowledged() -> None:
    headers = reader(Http2Limits(table_bytes=Size(100)))
    shared = headers.table
    assert headers.allowed == FIRST_TABLE_BYTES
    headers.acknowledged()
    assert headers.allowed == 100
    assert headers.table is not shared, "no block that is remembered for it is right any more"
    assert (headers.table.entries, headers.table.maximum) == ((), FIRST_TABLE_BYTES)


def test_a_block_that_is_skipped_moves_the_table() -> None:
    headers = reader()
    headers.skip(hpack.Encoder().encode([("x-a", "1")]))
    assert headers.table.entries == (("x-a", "1"),)
