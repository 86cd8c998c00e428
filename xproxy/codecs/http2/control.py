"""Frames that carry no message: settings, windows, pings, goodbyes, resets (RFC 9113 §6). Both roles.

Each is read here, and told to the part that it concerns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from xproxy.codecs.http2.faults import ConnectionFault, StreamFault, protocol_error
from xproxy.codecs.http2.goodbye import Goodbye
from xproxy.codecs.http2.guard import Guard
from xproxy.codecs.http2.header_reader import HeaderReader
from xproxy.codecs.http2.header_writer import HeaderWriter
from xproxy.codecs.http2.limits import MAX_STREAM_ID, Http2Limits
from xproxy.codecs.http2.reader import NOTHING
from xproxy.codecs.http2.sender import Sender
from xproxy.codecs.http2.state import Event
from xproxy.codecs.http2.status import ErrorCode, status_of_error
from xproxy.codecs.http2.streams import Streams
from xproxy.codecs.http2.windows import Windows
from xproxy.codecs.http2.wire import (
    ACK,
    CONTINUATION,
    GOAWAY,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_UPDATE,
    Setting,
    ping,
    read_goaway,
    read_increment,
    read_long,
    read_settings,
    table_sizes,
)
from xproxy.model.frames import Credit, Frame, GoAway, Reply, Reset
from xproxy.model.status import Status
from xproxy.model.traits import Role


def _check_size(kind: str, payload: bytes, size: int) -> None:
    if len(payload) != size:
        raise ConnectionFault(
            ErrorCode.FRAME_SIZE_ERROR, f"{kind} of {len(payload)} bytes, it has {size}"
        )


class Control:
    """The way in, for what concerns the connection or ends a stream."""

    __slots__ = (
        "_goodbye",
        "_guard",
        "_header_reader",
        "_header_writer",
        "_max_settings",
        "_role",
        "_sender",
        "_streams",
        "_windows",
        "acknowledged",
    )

    def __init__(
        self,
        role: Role,
        own: Http2Limits,
        guard: Guard,
        streams: Streams,
        windows: Windows,
        header_reader: HeaderReader,
        header_writer: HeaderWriter,
        sender: Sender,
        goodbye: Goodbye,
    ) -> None:
        self._role = role
        self._max_settings = own.max_settings
        self._guard = guard
        self._streams = streams
        self._windows = windows
        self._header_reader = header_reader
        self._header_writer = header_writer
        self._sender = sender
        self._goodbye = goodbye
        self.acknowledged = False
        """The peer has acknowledged our SETTINGS (RFC 9113 §6.5.3)."""

    def take(
        self, kind: int, flags: int, stream_id: int, payload: bytes, frames: list[Frame]
    ) -> None:
        """Take a frame that is neither HEADERS nor DATA. Raises ConnectionFault and StreamFault."""
        take = TAKERS.get(kind)
        if take is None:
            # RFC 9113 §5.5: unknown kinds are ignored.
            self._guard.on_control()
            frames.append(NOTHING)
        else:
            take(self, flags, stream_id, payload, frames)

    def take_first(
        self, kind: int, flags: int, stream_id: int, payload: bytes, frames: list[Frame]
    ) -> None:
        """Take the first frame of all (RFC 9113 §3.4). Raises ConnectionFault."""
        if kind != SETTINGS or flags & ACK:
            raise protocol_error("the first frame is not SETTINGS")
        # Until it says otherwise it takes what it is given.
        self._sender.most_streams = MAX_STREAM_ID
        self._settings(flags, stream_id, payload, frames)

    def _priority(self, _flags: int, stream_id: int, payload: bytes, frames: list[Frame]) -> None:
        if not stream_id:
            raise protocol_error("PRIORITY on stream 0")
        self._guard.on_priority()
        if len(payload) != 5:
            if stream_id in self._streams.open:
                raise StreamFault(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY that is not 5 bytes")
            _check_size("PRIORITY", payload, 5)  # no stream to have the error
        frames.append(NOTHING)

    def _rst_stream(self, _flags: int, stream_id: int, payload: bytes, frames: list[Frame]) -> None:
        if not stream_id:
            raise protocol_error("RST_STREAM on stream 0")
        _check_size("RST_STREAM", payload, 4)
        if stream_id not in self._streams.open:
            self._streams.judge(Event.RESET_ARRIVES, stream_id)
            self._guard.on_control()
            frames.append(NOTHING)
            return
        stream = self._streams.end(stream_id, Event.RESET_ARRIVES)
        code = read_long(payload)
        frames.append(Reset(stream_id, status_of_error(code), code == ErrorCode.REFUSED_STREAM))
        if self._role is Role.SERVER and not stream.spoken:
            self._guard.on_reset(stream.opened)

    def _settings(self, flags: int, stream_id: int, payload: bytes, frames: list[Frame]) -> None:
        if stream_id:
            raise protocol_error("SETTINGS on a stream")
        self._guard.on_control()
        if flags & ACK:
            _check_size("an acknowledgement of SETTINGS", payload, 0)
            if not self.acknowledged:
                self.acknowledged = True
                self._windows.acknowledged()
                self._header_reader.acknowledged()
            frames.append(NOTHING)
            return
        values = read_settings(payload, self._max_settings)
        for size in table_sizes(payload):
            self._header_writer.bound(size)
        self._apply(values, frames)
        frames.append(Reply(SETTINGS_ACK))

    def _apply(self, values: dict[int, int], frames: list[Frame]) -> None:
        """Take the peer's settings (RFC 9113 §6.5.2). Raises ConnectionFault."""
        if self._role is Role.CLIENT and values.get(Setting.ENABLE_PUSH):
            raise protocol_error("a server that sets ENABLE_PUSH")
        sender = self._sender
        if Setting.ENABLE_CONNECT_PROTOCOL in values:
            wanted = bool(values[Setting.ENABLE_CONNECT_PROTOCOL])
            if sender.connect and not wanted:
                raise protocol_error("ENABLE_CONNECT_PROTOCOL taken back")  # RFC 8441 §3
            sender.connect = wanted
        sender.frame_bytes = values.get(Setting.MAX_FRAME_SIZE, sender.frame_bytes)
        sender.most_streams = values.get(Setting.MAX_CONCURRENT_STREAMS, sender.most_streams)
        sender.head_bytes = values.get(Setting.MAX_HEADER_LIST_SIZE, sender.head_bytes)
        first = values.get(Setting.INITIAL_WINDOW_SIZE)
        if first is not None and self._windows.announced(first, self._streams.open.values()):
            frames.append(Credit())

    def _push_promise(
        self, _flags: int, _stream_id: int, _payload: bytes, _frames: list[Frame]
    ) -> None:
        # A client may not push (RFC 9113 §8.4), and we told servers not to before they could (§6.5.2).
        raise protocol_error("PUSH_PROMISE, which nobody allowed")

    def _ping(self, flags: int, stream_id: int, payload: bytes, frames: list[Frame]) -> None:
        if stream_id:
            raise protocol_error("PING on a stream")
        _check_size("PING", payload, 8)
        self._guard.on_control()
        if not flags & ACK:
            frames.append(Reply(ping(payload, ack=True)))
        else:
            farewell = self._goodbye.answered(payload, self._streams.highest)
            frames.append(Reply(farewell) if farewell else NOTHING)

    def _goaway(self, _flags: int, stream_id: int, payload: bytes, frames: list[Frame]) -> None:
        if stream_id:
            raise protocol_error("GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFault(
                ErrorCode.FRAME_SIZE_ERROR, f"GOAWAY of {len(payload)} bytes, it has 8 or more"
            )
        self._guard.on_control()
        last, code = read_goaway(payload)
        self._goodbye.hear(last)
        status = Status.OK if code == ErrorCode.NO_ERROR else status_of_error(code)
        if self._role is Role.SERVER:
            # It speaks of streams that we would open: there are none.
            frames.append(GoAway(None, status))
            return
        self._streams.forget_above(last)
        frames.append(GoAway(last, status))

    def _window_update(
        self, _flags: int, stream_id: int, payload: bytes, frames: list[Frame]
    ) -> None:
        _check_size("WINDOW_UPDATE", payload, 4)
        self._guard.on_window_update()
        increment = read_increment(payload)
        if not stream_id:
            if not increment:
                raise protocol_error("WINDOW_UPDATE of nothing")
            frames.append(Credit() if self._windows.widen(increment) else NOTHING)
            return
        stream = self._streams.open.get(stream_id)
        if stream is None:
            self._streams.judge(Event.CREDIT_ARRIVES, stream_id)
            frames.append(NOTHING)
            return
        if not increment:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
        widened = self._windows.widen_stream(stream, increment)
        frames.append(Credit(stream_id) if widened else NOTHING)

    def _stray_continuation(
        self, _flags: int, _stream_id: int, _payload: bytes, _frames: list[Frame]
    ) -> None:
        raise protocol_error("CONTINUATION without a header block to continue")


Taker = Callable[[Control, int, int, bytes, list[Frame]], None]

TAKERS: Final[dict[int, Taker]] = {
    PRIORITY: Control._priority,
    RST_STREAM: Control._rst_stream,
    SETTINGS: Control._settings,
    PUSH_PROMISE: Control._push_promise,
    PING: Control._ping,
    GOAWAY: Control._goaway,
    WINDOW_UPDATE: Control._window_update,
    CONTINUATION: Control._stray_continuation,
}
