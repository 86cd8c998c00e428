"""Frames that carry no message: settings, windows, pings, goodbyes, resets (RFC 9113 §6). Both roles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from xproxy.codecs.http2.faults import ConnectionFault, StreamFault
from xproxy.codecs.http2.limits import MAX_STREAM_ID, MAX_WINDOW
from xproxy.codecs.http2.sending import DRAIN_PING, Sender
from xproxy.codecs.http2.state import ARRIVALS, Drain, Stage, Standing, Verdict
from xproxy.codecs.http2.status import ErrorCode, status_of_error
from xproxy.codecs.http2.table import Table
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

NOTHING: Final = Reply(b"")
"""A frame came whole, and there is nothing to be done about it."""


def protocol_error(detail: str) -> ConnectionFault:
    """Return the fault that most frames in the wrong place are."""
    return ConnectionFault(ErrorCode.PROTOCOL_ERROR, detail)


def _check_size(kind: str, payload: bytes, size: int) -> None:
    if len(payload) != size:
        raise ConnectionFault(
            ErrorCode.FRAME_SIZE_ERROR, f"{kind} of {len(payload)} bytes, it has {size}"
        )


class Control(Sender):
    """The way in, for what concerns the connection or ends a stream."""

    __slots__ = ()

    def _unexpected(self, kind: int, stream_id: int) -> None:
        """Judge a frame for a stream that is not open. Raises ConnectionFault, unless it is to be ignored."""
        if stream_id > self._highest or not stream_id & 1:
            self._judge(Standing.IDLE, kind, stream_id)
        else:
            self._judge(self._past.standing(stream_id), kind, stream_id)

    @staticmethod
    def _judge(standing: Standing, kind: int, stream_id: int) -> None:
        """Raise what the table asks for, if it asks for an error. Raises ConnectionFault and StreamFault."""
        verdict, code = ARRIVALS[standing, kind]
        if verdict is Verdict.CONNECTION:
            raise ConnectionFault(
                code, f"a frame of kind {kind} on stream {stream_id}, which is {standing.value}"
            )
        if verdict is Verdict.STREAM:
            raise StreamFault(
                code, f"a frame of kind {kind} on stream {stream_id}, which is {standing.value}"
            )

    def _priority(self, _flags: int, stream_id: int, payload: bytes, frames: list[Frame]) -> None:
        if not stream_id:
            raise protocol_error("PRIORITY on stream 0")
        self._guard.on_priority()
        if len(payload) != 5:
            if stream_id in self._streams:
                raise StreamFault(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY that is not 5 bytes")
            _check_size("PRIORITY", payload, 5)  # no stream to have the error
        frames.append(NOTHING)

    def _rst_stream(self, _flags: int, stream_id: int, payload: bytes, frames: list[Frame]) -> None:
        if not stream_id:
            raise protocol_error("RST_STREAM on stream 0")
        _check_size("RST_STREAM", payload, 4)
        stream = self._streams.get(stream_id)
        if stream is None:
            self._unexpected(RST_STREAM, stream_id)
            self._guard.on_control()
            frames.append(NOTHING)
            return
        del self._streams[stream_id]
        code = read_long(payload)
        frames.append(Reset(stream_id, status_of_error(code), code == ErrorCode.REFUSED_STREAM))
        self._intake.spare += stream.grown
        if self.role is Role.SERVER and not stream.spoken:
            self._guard.on_reset(stream.opened)

    def _settings(self, flags: int, stream_id: int, payload: bytes, frames: list[Frame]) -> None:
        if stream_id:
            raise protocol_error("SETTINGS on a stream")
        self._guard.on_control()
        if flags & ACK:
            _check_size("an acknowledgement of SETTINGS", payload, 0)
            self._on_acknowledged()
            frames.append(NOTHING)
            return
        values = read_settings(payload, self._own.max_settings)
        for size in table_sizes(payload)[:-1]:
            self._bound_table(size)
        self._apply(values, frames)
        frames.append(Reply(SETTINGS_ACK))

    def _on_acknowledged(self) -> None:
        if self._acknowledged:
            return
        self._acknowledged = True
        self._first_window_in = self._own.first_window
        table = self._decoder
        if table.maximum > self._own.table_bytes:
            # A table of its own, that no block is remembered for: the next one must begin with a size update.
            self._decoder = Table(table.entries, table.maximum)

    def _apply(self, values: dict[int, int], frames: list[Frame]) -> None:
        """Take the peer's settings (RFC 9113 §6.5.2). Raises ConnectionFault."""
        if self.role is Role.CLIENT and values.get(Setting.ENABLE_PUSH):
            raise protocol_error("a server that sets ENABLE_PUSH")
        if Setting.ENABLE_CONNECT_PROTOCOL in values:
            wanted = bool(values[Setting.ENABLE_CONNECT_PROTOCOL])
            if self._peer_connect and not wanted:
                raise protocol_error("ENABLE_CONNECT_PROTOCOL taken back")  # RFC 8441 §3
            self._peer_connect = wanted
        self._peer_frame_bytes = values.get(Setting.MAX_FRAME_SIZE, self._peer_frame_bytes)
        # Until it says otherwise it takes what it is given.
        before = self._peer_streams if self._stage is Stage.RUNNING else MAX_STREAM_ID
        self._peer_streams = values.get(Setting.MAX_CONCURRENT_STREAMS, before)
        self._peer_head_bytes = values.get(Setting.MAX_HEADER_LIST_SIZE, self._peer_head_bytes)
        if Setting.HEADER_TABLE_SIZE in values:
            self._bound_table(values[Setting.HEADER_TABLE_SIZE])
        first = values.get(Setting.INITIAL_WINDOW_SIZE)
        if first is not None:
            larger = first > self._peer_first_window
            self._peer_first_window = first
            if larger and self._streams:
                if first + max(stream.outbound for stream in self._streams.values()) > MAX_WINDOW:
                    raise ConnectionFault(
                        ErrorCode.FLOW_CONTROL_ERROR,
                        f"INITIAL_WINDOW_SIZE makes a window above {MAX_WINDOW}",
                    )
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
        elif payload == DRAIN_PING and self._drain is Drain.ANNOUNCED:
            frames.append(Reply(self._finish_drain()))
        else:
            frames.append(NOTHING)

    def _goaway(self, _flags: int, stream_id: int, payload: bytes, frames: list[Frame]) -> None:
        if stream_id:
            raise protocol_error("GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFault(
                ErrorCode.FRAME_SIZE_ERROR, f"GOAWAY of {len(payload)} bytes, it has 8 or more"
            )
        self._guard.on_control()
        last, code = read_goaway(payload)
        if 0 <= self._peer_gone < last:
            raise protocol_error("GOAWAY with a higher last stream than before")  # RFC 9113 §6.8
        self._peer_gone = last
        status = Status.OK if code == ErrorCode.NO_ERROR else status_of_error(code)
        if self.role is Role.SERVER:
            # It speaks of streams that we would open: there are none.
            frames.append(GoAway(None, status))
            return
        self._forget_above(last)
        frames.append(GoAway(last, status))

    def _forget_above(self, last: int) -> None:
        """Drop the streams that the peer will never look at."""
        for stream_id in [id_ for id_ in self._streams if id_ > last]:
            stream = self._streams.pop(stream_id)
            self._past.abandon(stream_id)
            self._intake.give(stream.unconsumed)

    def _window_update(
        self, _flags: int, stream_id: int, payload: bytes, frames: list[Frame]
    ) -> None:
        _check_size("WINDOW_UPDATE", payload, 4)
        self._guard.on_window_update()
        increment = read_increment(payload)
        if not stream_id:
            if not increment:
                raise protocol_error("WINDOW_UPDATE of nothing")
            before = self._window_out
            if before + increment > MAX_WINDOW:
                raise ConnectionFault(
                    ErrorCode.FLOW_CONTROL_ERROR, f"the connection's window above {MAX_WINDOW}"
                )
            self._window_out = before + increment
            frames.append(Credit() if before <= 0 < before + increment else NOTHING)
            return
        stream = self._streams.get(stream_id)
        if stream is None:
            self._unexpected(WINDOW_UPDATE, stream_id)
            frames.append(NOTHING)
            return
        if not increment:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
        before = self._peer_first_window + stream.outbound
        stream.outbound += increment
        if before + increment > MAX_WINDOW:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, f"a window above {MAX_WINDOW}")
        frames.append(Credit(stream_id) if before <= 0 < before + increment else NOTHING)

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
