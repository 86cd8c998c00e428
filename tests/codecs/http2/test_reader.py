"""Bytes cut into frames: in their order, none before it is whole, and each told to who takes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.codecs.http2.faults import ConnectionFault, StreamFault
from xproxy.codecs.http2.guard import Guard
from xproxy.codecs.http2.header_reader import HeaderReader
from xproxy.codecs.http2.limits import DEFAULT_HTTP2_LIMITS as OWN
from xproxy.codecs.http2.memory import Memory
from xproxy.codecs.http2.reader import NOTHING, Reader
from xproxy.codecs.http2.state import Stage
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.wire import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PREFACE,
    SETTINGS,
    WITH_PRIORITY,
    frame,
    ping,
    settings,
)
from xproxy.model.frames import Frame
from xproxy.model.limits import DEFAULT_LIMITS

PING = ping(bytes(8))


class Told:
    """Takes all frames, and finds fault with streams above 8."""

    def __init__(self) -> None:
        self.all: list[tuple[object, ...]] = []
        self.faults: list[int] = []

    def on_headers(self, stream_id: int, block: bytes, end: bool, frames: list[Frame]) -> None:
        self.all.append(("headers", stream_id, block, end))

    def on_fault(self, stream_id: int, fault: StreamFault, frames: list[Frame]) -> None:
        self.faults.append(stream_id)

    def take_run(
        self, data: bytes, position: int, size: int, stream_id: int, frames: list[Frame]
    ) -> int:
        return position

    def data(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id > 8:
            raise StreamFault(ErrorCode.STREAM_CLOSED, "above 8")
        self.all.append(("data", stream_id, payload, flags))


class Bodies:
    def __init__(self, told: Told) -> None:
        self.told = told

    def take(self, flags: int, stream_id: int, payload: bytes, frames: list[Frame]) -> None:
        self.told.data(flags, stream_id, payload)

    def take_run(
        self, data: bytes, position: int, size: int, stream_id: int, frames: list[Frame]
    ) -> int:
        return position


class Control:
    def __init__(self, told: Told) -> None:
        self.told = told

    def take(
        self, kind: int, flags: int, stream_id: int, payload: bytes, frames: list[Frame]
    ) -> None:
        self.told.all.append(("control", kind))

    def take_first(
        self, kind: int, flags: int, stream_id: int, payload: bytes, frames: list[Frame]
    ) -> None:
        self.told.all.append(("first", kind))


def reader(stage: Stage = Stage.RUNNING) -> tuple[Reader, Told]:
    told = Told()
    headers = HeaderReader(DEFAULT_LIMITS, OWN, Memory(DEFAULT_LIMITS, OWN), Guard(OWN))
    return Reader(OWN, stage, headers, Bodies(told), Control(told)), told


WIRE = b"".join(
    (
        PREFACE,
        settings(()),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, b"block"),
        frame(HEADERS, END_HEADERS | PADDED | WITH_PRIORITY, 3, b"\x02" + bytes(5) + b"more\0\0"),
        frame(HEADERS, END_STREAM, 5, b"in "),
        frame(CONTINUATION, 0, 5, b""),
        frame(CONTINUATION, END_HEADERS, 5, b"pieces"),
        frame(DATA, 0, 9, b"faulty"),
        frame(DATA, END_STREAM, 0x8000_0003, b"body"),
        PING,
    )
)
ALL = [
    ("first", SETTINGS),
    ("headers", 1, b"block", True),
    ("headers", 3, b"more", False),
    ("headers", 5, b"in pieces", True),
    ("data", 3, b"body", END_STREAM),
    ("control", 6),
]


@given(st.lists(st.integers(0, len(WIRE))).map(sorted))
def test_cuts_cannot_be_seen(cuts: list[int]) -> None:
    found, told = reader(Stage.MAGIC)
    frames: list[Frame] = []
    for start, end in zip([0, *cuts], [*cuts, len(WIRE)], strict=True):
        found.read(WIRE[start:end], told, frames)
    assert told.all == ALL
    assert told.faults == [9]
    assert frames == [NOTHING]  # for the preface
    assert not found.unfinished


def test_it_looks_again_when_a_frame_may_be_whole() -> None:
    found, told = reader()
    wire = frame(DATA, 0, 1, bytes(1000))
    assert found.read(wire[:8], told, [])
    assert found.unfinished
    assert found.read(wire[8:9], told, [])
    assert not found.read(wire[9:1008], told, [])
    assert found.read(wire[1008:], told, [])
    assert len(told.all) == 1
    assert not found.unfinished


@pytest.mark.parametrize(
    "wire",
    [
        b"GET / HTTP/1.1\r\n",
        PREFACE + settings(()) + (16_385).to_bytes(3, "big") + bytes(6),
        PREFACE + settings(()) + frame(HEADERS, 0, 1, b"a") + PING,
        PREFACE + settings(()) + frame(HEADERS, 0, 1, b"a") + frame(CONTINUATION, 4, 3, b"b"),
        PREFACE + settings(()) + frame(HEADERS, END_HEADERS, 0, b"a"),
        PREFACE + settings(()) + frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, b"abcd"),
        PREFACE + settings(()) + frame(HEADERS, END_HEADERS | PADDED, 1, b"\x04abc"),
    ],
)
def test_crimes(wire: bytes) -> None:
    found, told = reader(Stage.MAGIC)
    with pytest.raises(ConnectionFault):
        found.read(wire, told, [])
    found.stop()
    assert found.stage is Stage.ENDED
    assert not found.unfinished
