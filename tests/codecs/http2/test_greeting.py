"""What either role says first (RFC 9113 §3.4)."""

from __future__ import annotations

from tests.codecs.http2.driving import parse
from xproxy.codecs.http2.greeting import greeting
from xproxy.codecs.http2.limits import DEFAULT_HTTP2_LIMITS, Http2Limits
from xproxy.codecs.http2.wire import PREFACE, SETTINGS, WINDOW_UPDATE, Setting, read_settings
from xproxy.model.limits import DEFAULT_LIMITS, Limits, Size
from xproxy.model.traits import Role


def test_what_a_server_announces() -> None:
    own = Http2Limits(table_bytes=Size(100), frame_bytes=Size(20_000), extended_connect=True)
    first, more = parse(greeting(Role.SERVER, Limits(max_streams=7, max_head_bytes=999), own))
    assert first.kind == SETTINGS
    assert read_settings(first.payload, 32) == {
        Setting.MAX_CONCURRENT_STREAMS: 7,
        Setting.INITIAL_WINDOW_SIZE: 64 * 1024,
        Setting.ENABLE_CONNECT_PROTOCOL: 1,
        Setting.HEADER_TABLE_SIZE: 100,
        Setting.MAX_FRAME_SIZE: 20_000,
        Setting.MAX_HEADER_LIST_SIZE: 999,
    }
    assert (more.kind, more.stream_id) == (WINDOW_UPDATE, 0)
    assert int.from_bytes(more.payload, "big") == 24 * 1024 * 1024 - 65_535


def test_what_a_client_announces() -> None:
    said = greeting(Role.CLIENT, DEFAULT_LIMITS, DEFAULT_HTTP2_LIMITS)
    assert said.startswith(PREFACE)
    first = parse(said)[0]
    values = read_settings(first.payload, 32)
    assert values[Setting.ENABLE_PUSH] == 0
    assert Setting.MAX_CONCURRENT_STREAMS not in values
