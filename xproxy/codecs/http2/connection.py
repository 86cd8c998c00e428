"""A connection's state, what it says first and last, the windows, and how it moves to another process. Both roles.

``sending.Sender`` adds the way out, ``control.Control`` and ``codec.Http2Codec`` the way in.
"""

from __future__ import annotations

from typing import ClassVar, Final

from xproxy.codecs.http2.flow import Intake
from xproxy.codecs.http2.guard import Guard
from xproxy.codecs.http2.limits import (
    FIRST_FRAME_BYTES,
    FIRST_STREAMS,
    FIRST_TABLE_BYTES,
    FIRST_WINDOW,
    MAX_STREAM_ID,
    MAX_WINDOW,
    NO_HEAD_BOUND,
    Http2Limits,
)
from xproxy.codecs.http2.memory import MOVES, Memory
from xproxy.codecs.http2.snapshot import Snapshot, pack
from xproxy.codecs.http2.state import Drain, Past, Stage, Stream
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.table import Table
from xproxy.codecs.http2.wire import (
    PREFACE,
    Setting,
    goaway,
    ping,
    settings,
    window_update,
)
from xproxy.model.limits import Limits
from xproxy.model.traits import Role

DRAIN_PING: Final = b"xproxy:d"
"""Sent behind the first GOAWAY: its answer tells that all that crossed it has arrived (RFC 9113 §6.8)."""
LIFE_PING: Final = b"xproxy:h"


class Connection:
    """The state of a connection."""

    __slots__ = (
        "_acknowledged",
        "_block",
        "_block_end",
        "_block_frames",
        "_block_stream",
        "_buffer",
        "_decoder",
        "_drain",
        "_due",
        "_encoder",
        "_first_window_in",
        "_greeted",
        "_guard",
        "_held",
        "_highest",
        "_intake",
        "_last_served",
        "_limits",
        "_memory",
        "_most_streams",
        "_moves_in",
        "_moves_out",
        "_needed",
        "_own",
        "_past",
        "_peer_connect",
        "_peer_first_window",
        "_peer_frame_bytes",
        "_peer_gone",
        "_peer_head_bytes",
        "_peer_streams",
        "_resizes",
        "_stage",
        "_streams",
        "_window_out",
    )

    role: ClassVar[Role]

    def __init__(self, limits: Limits, own: Http2Limits, memory: Memory, stage: Stage) -> None:
        self._limits = limits
        self._own = own
        self._memory = memory
        self._most_streams = own.streams_within(limits)
        self._stage = stage
        self._greeted = False
        self._acknowledged = False
        self._streams: dict[int, Stream] = {}
        self._held: dict[int, list[int]] = {}
        """Of streams that have ended in both directions and whose window had grown: body bytes not yet consumed, and
        by how much it had. Nobody else may have that room before."""
        self._past = Past()
        self._guard = Guard(own)
        self._highest = -1
        """Highest id of a request."""
        self._buffer: bytearray | None = None
        self._needed = 0
        self._block: bytearray | None = None
        self._block_stream = 0
        self._block_end = False
        self._block_frames = 0
        self._decoder: Table = memory.root()
        self._encoder: Table = memory.root()
        self._moves_in = 0
        self._moves_out = 0
        self._resizes: list[int] = []
        self._intake = Intake(own)
        self._first_window_in = FIRST_WINDOW
        """The initial window that the peer has acknowledged."""
        self._window_out = FIRST_WINDOW
        self._peer_first_window = FIRST_WINDOW
        self._peer_frame_bytes = FIRST_FRAME_BYTES
        self._peer_streams = FIRST_STREAMS
        self._peer_head_bytes = NO_HEAD_BOUND
        self._peer_connect = False
        self._peer_gone = -1
        """The last stream that the peer's GOAWAY lets live; -1: it has said none."""
        self._drain = Drain.NONE
        self._last_served = MAX_STREAM_ID
        self._due = False
        """Something waits for the next bytes to arrive."""

    # -- what we say first --------------------------------------------------------------------------------------

    def _greet(self) -> bytes:
        """Return our preface (RFC 9113 §3.4)."""
        own = self._own
        self._greeted = True
        values: list[tuple[int, int]] = [(Setting.INITIAL_WINDOW_SIZE, own.first_window)]
        if self.role is Role.CLIENT:
            values.insert(0, (Setting.ENABLE_PUSH, 0))
        else:
            values.insert(0, (Setting.MAX_CONCURRENT_STREAMS, self._most_streams))
            if own.extended_connect:
                values.append((Setting.ENABLE_CONNECT_PROTOCOL, 1))
        if own.table_bytes != FIRST_TABLE_BYTES:
            values.append((Setting.HEADER_TABLE_SIZE, own.table_bytes))
        if own.frame_bytes != FIRST_FRAME_BYTES:
            values.append((Setting.MAX_FRAME_SIZE, own.frame_bytes))
        values.append((Setting.MAX_HEADER_LIST_SIZE, self._limits.max_head_bytes))
        first = settings(values)
        more = own.connection_window_bytes - FIRST_WINDOW
        if more > 0:
            first += window_update(0, more)
        return PREFACE + first if self.role is Role.CLIENT else first

    @property
    def patience(self) -> float:
        """See SupportsDeadline."""
        return self._own.settings_timeout

    @property
    def acknowledged(self) -> bool:
        """See SupportsDeadline: whether the peer has acknowledged our SETTINGS (RFC 9113 §6.5.3)."""
        return self._acknowledged

    # -- what the codec can do besides --------------------------------------------------------------------------

    def consumed(self, stream_id: int, count: int) -> bytes:
        """See SupportsFlow. Counts no more than was delivered, and that once."""
        if self._stage is Stage.ENDED:
            return b""
        stream = self._streams.get(stream_id)
        if stream is None:
            held = self._held.get(stream_id)
            if held is not None:
                held[0] -= max(count, 0)
                if held[0] <= 0:
                    del self._held[stream_id]
                    self._intake.spare += held[1]
            return b""
        count = min(count, stream.unconsumed)
        if count <= 0:
            return b""
        stream.unconsumed -= count
        return self._intake.renew(stream_id, stream, count)

    def sendable(self, stream_id: int) -> int:
        """See SupportsFlow."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return 0
        if stream.muted and stream.spoken:
            return MAX_WINDOW  # what is sent is dropped
        return max(min(self._window_out, self._peer_first_window + stream.outbound), 0)

    def elapsed(self, seconds: float) -> None:
        """See SupportsElapsed."""
        self._guard.elapsed(seconds)

    def heartbeat(self) -> bytes:
        """See SupportsHeartbeat."""
        raw = ping(LIFE_PING)
        return raw if self._greeted else self._greet() + raw

    def goaway(self) -> bytes:
        """See SupportsGoAway. Idempotent.

        It takes two steps (RFC 9113 §6.8): what the client sent before it knew is served too, also where nothing is
        in flight at the moment. The second step is the answer to a PING.
        """
        if self._drain is not Drain.NONE:
            return b""
        greeting = b"" if self._greeted else self._greet()
        if self.role is Role.CLIENT:
            self._drain = Drain.FINAL
            return greeting + goaway(0, ErrorCode.NO_ERROR)
        self._drain = Drain.ANNOUNCED
        return greeting + goaway(MAX_STREAM_ID, ErrorCode.NO_ERROR) + ping(DRAIN_PING)

    def _finish_drain(self) -> bytes:
        """Say which stream is the last. Empty if that was said."""
        if self._drain is not Drain.ANNOUNCED:
            return b""
        self._drain = Drain.FINAL
        self._last_served = max(self._highest, 0)
        return goaway(self._last_served, ErrorCode.NO_ERROR)

    # -- moving -------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return the state for the plugin's ``restore``."""
        return pack(self._snapshot(), self.role)

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            stage=self._stage,
            drain=self._drain,
            flags=[
                self._greeted,
                self._acknowledged,
                self._block_end and self._block is not None,
                self._peer_connect,
                self._due,
                False,
                False,
            ],
            numbers=[
                self._highest,
                self._needed if self._buffer is not None else 0,
                self._block_stream if self._block is not None else 0,
                self._block_frames if self._block is not None else 0,
                self._intake.window,
                self._intake.owed,
                self._intake.spare,
                self._first_window_in,
                self._window_out,
                self._peer_first_window,
                self._peer_frame_bytes,
                self._peer_streams,
                self._peer_head_bytes,
                self._peer_gone,
                self._last_served,
            ],
            buffer=None if self._buffer is None else bytes(self._buffer),
            block=None if self._block is None else bytes(self._block),
            decoder=self._decoder,
            encoder=self._encoder,
            resizes=self._resizes,
            streams=self._streams,
            held=self._held,
            past=self._past,
            counters=[getattr(self._guard, name) for name in Guard.COUNTERS],
            waiting={},
        )

    def resume(self, snapshot: Snapshot) -> None:
        """Take over the state that another codec of this role wrote down."""
        self._stage = snapshot.stage
        self._drain = snapshot.drain
        (
            self._greeted,
            self._acknowledged,
            self._block_end,
            self._peer_connect,
            self._due,
            *_,
        ) = snapshot.flags
        (
            self._highest,
            self._needed,
            self._block_stream,
            self._block_frames,
            self._intake.window,
            self._intake.owed,
            self._intake.spare,
            self._first_window_in,
            self._window_out,
            self._peer_first_window,
            self._peer_frame_bytes,
            self._peer_streams,
            self._peer_head_bytes,
            self._peer_gone,
            self._last_served,
        ) = snapshot.numbers
        self._buffer = None if snapshot.buffer is None else bytearray(snapshot.buffer)
        self._block = None if snapshot.block is None else bytearray(snapshot.block)
        # It shares its tables with those that moved with the same ones; what changes them from here on is its own.
        self._moves_in = self._moves_out = MOVES
        overdue = self._acknowledged and snapshot.decoder.maximum > self._own.table_bytes
        self._decoder = snapshot.decoder if overdue else self._memory.shared(snapshot.decoder)
        self._encoder = self._memory.shared(snapshot.encoder)
        self._resizes = snapshot.resizes
        self._streams = snapshot.streams
        self._held = snapshot.held
        self._past = snapshot.past
        for name, value in zip(Guard.COUNTERS, snapshot.counters, strict=True):
            setattr(self._guard, name, value)
