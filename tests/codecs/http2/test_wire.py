"""Frames as bytes, against the independent `hyperframe` package."""

from __future__ import annotations

import hyperframe.frame as hf
import pytest

from tests.codecs.http2.driving import parse
from xproxy.codecs.http2.faults import ConnectionFault
from xproxy.codecs.http2.wire import (
    PADDED,
    SETTINGS_ACK,
    Setting,
    data_frames,
    goaway,
    header_frames,
    ping,
    read_goaway,
    read_increment,
    read_settings,
    rst_stream,
    settings,
    unpadded,
    window_update,
)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ping(b"12345678"), hf.PingFrame(0, b"12345678")),
        (ping(b"12345678", ack=True), hf.PingFrame(0, b"12345678", flags=["ACK"])),
        (settings(((4, 5), (1, 0))), hf.SettingsFrame(0, {4: 5, 1: 0})),
        (SETTINGS_ACK, hf.SettingsFrame(0, flags=["ACK"])),
        (window_update(7, 2**31 - 1), hf.WindowUpdateFrame(7, 2**31 - 1)),
        (rst_stream(7, 11), hf.RstStreamFrame(7, 11)),
        (goaway(9, 2, b"why"), hf.GoAwayFrame(0, 9, 2, b"why")),
        (data_frames(3, b"abc", 16384, end=True), hf.DataFrame(3, b"abc", flags=["END_STREAM"])),
        (
            header_frames(3, b"abc", 16384, end=False),
            hf.HeadersFrame(3, b"abc", flags=["END_HEADERS"]),
        ),
    ],
)
def test_frames(ours: bytes, theirs: hf.Frame) -> None:
    assert ours == theirs.serialize()


def test_long_payloads_are_cut() -> None:
    assert [len(s.payload) for s in parse(data_frames(1, bytes(25), 10, end=True))] == [10, 10, 5]
    assert [len(s.payload) for s in parse(data_frames(1, bytes(20), 10, end=True))] == [10, 10]
    assert [s.flags for s in parse(data_frames(1, bytes(20), 10, end=True))] == [0, 1]
    assert [s.flags for s in parse(header_frames(1, bytes(20), 10, end=True))] == [1, 4]


def test_padding() -> None:
    assert unpadded(0, b"abc") == b"abc"
    assert unpadded(PADDED, b"\x02ab\0\0") == b"ab"
    assert unpadded(PADDED, b"\x00") == b""
    for bad in (b"", b"\x01", b"\x05abc"):
        with pytest.raises(ConnectionFault):
            unpadded(PADDED, bad)


def test_reserved_bits_are_ignored() -> None:
    """RFC 9113 §6.8, §6.9."""
    assert read_increment(b"\xff\xff\xff\xff") == 2**31 - 1
    assert read_goaway(b"\xff\xff\xff\xff\0\0\0\x02debug") == (2**31 - 1, 2)


def test_settings() -> None:
    payload = settings(((Setting.MAX_FRAME_SIZE, 16384), (99, 1)))[9:]
    assert read_settings(payload, 2) == {Setting.MAX_FRAME_SIZE: 16384, 99: 1}
    with pytest.raises(ConnectionFault):
        read_settings(payload, 1)
