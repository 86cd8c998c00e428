"""Bounds of the settings themselves."""

from __future__ import annotations

import pytest

from xproxy.codecs.http2.limits import DEFAULT_HTTP2_LIMITS, MAX_WINDOW, Http2Limits

MIB = 1024 * 1024


def test_defaults_are_envoys() -> None:
    limits = DEFAULT_HTTP2_LIMITS
    assert limits.stream_window_bytes == 16 * MIB
    assert limits.connection_window_bytes == 24 * MIB
    assert limits.table_bytes == 4096
    assert limits.max_empty_frames == 10  # Envoy's is 1
    assert limits.max_priorities == 100
    assert limits.max_window_updates == 10
    assert limits.extended_connect


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stream_window_bytes", 0),
        ("stream_window_bytes", MAX_WINDOW + 1),
        ("connection_window_bytes", 0),
        ("frame_bytes", 16_383),
        ("frame_bytes", 2**24),
        ("table_bytes", -1),
        ("max_settings", 1),
        ("max_resets", -1),
    ],
)
def test_what_the_protocol_cannot_say_is_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError):
        Http2Limits(**{name: value})  # type: ignore[arg-type]  # each is a number
