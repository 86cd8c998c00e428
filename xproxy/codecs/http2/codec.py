"""One connection: the parts that know something each, and how a frame finds its way through them. Both roles.

====================  ================================================================================================
``reader``            bytes → frames, in the order that a connection begins with; what is not whole
``control``           frames that are neither HEADERS nor DATA, in
``bodies``            DATA in: delivered in pieces
``header_reader``     header blocks in: the one under way, the peer's table
``sender``            bodies, trailers and resets out, within what the peer takes
``header_writer``     header blocks out: our table
``streams``           which streams are open, in which state, and what those that are over were
``windows``           who may send how much
``goodbye``           GOAWAY, both ways
``guard``             what a peer does that serves nobody
====================  ================================================================================================

A part holds those below it that it needs; none holds the codec, so that all are freed with it. ``server.py`` and
``client.py`` say what begins a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from xproxy.codecs.grpc.status import status_in
from xproxy.codecs.http2.bodies import Bodies, deliver, short_of
from xproxy.codecs.http2.control import Control
from xproxy.codecs.http2.faults import ConnectionFault, StreamFault
from xproxy.codecs.http2.goodbye import Goodbye
from xproxy.codecs.http2.guard import Guard
from xproxy.codecs.http2.header_reader import HeaderReader
from xproxy.codecs.http2.header_writer import HeaderWriter
from xproxy.codecs.http2.limits import MAX_WINDOW, Http2Limits
from xproxy.codecs.http2.memory import MOVES, Memory
from xproxy.codecs.http2.reader import NOTHING, Reader
from xproxy.codecs.http2.sender import Sender
from xproxy.codecs.http2.snapshot import SCHEMA, Block, Snapshot
from xproxy.codecs.http2.state import Event, Stage
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.stream import Stream
from xproxy.codecs.http2.streams import Streams
from xproxy.codecs.http2.windows import Windows
from xproxy.codecs.http2.wire import goaway, ping, rst_stream
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Credit, Data, Frame, GoAway, Head, Reply, Reset, Trailers, Violation
from xproxy.model.headers import Headers
from xproxy.model.limits import Limits
from xproxy.model.status import Status
from xproxy.model.traits import Role

LIFE_PING: Final = b"xproxy:h"
_ENDED: Final = Stage.ENDED
_SERVER: Final = Role.SERVER
_DEBUG_BYTES: Final = 128


class Http2Codec:
    """What both roles do alike."""

    __slots__ = (
        "_control",
        "_due",
        "_goodbye",
        "_greeted",
        "_guard",
        "_header_reader",
        "_header_writer",
        "_limits",
        "_memory",
        "_own",
        "_reader",
        "_sender",
        "_streams",
        "_windows",
    )

    role: ClassVar[Role]

    def __init__(self, limits: Limits, own: Http2Limits, memory: Memory, stage: Stage) -> None:
        role = self.role
        self._limits = limits
        self._own = own
        self._memory = memory
        self._greeted = False
        self._due = False
        """Something waits for the next bytes to arrive."""
        self._guard = guard = Guard(own)
        self._goodbye = goodbye = Goodbye(role)
        self._windows = windows = Windows(own)
        self._streams = streams = Streams(windows, peer_opens=role is _SERVER)
        self._header_writer = header_writer = HeaderWriter(own, memory)
        self._header_reader = header_reader = HeaderReader(limits, own, memory, guard)
        self._sender = sender = Sender(memory, streams, windows, header_writer, guard)
        self._control = control = Control(
            role, own, guard, streams, windows, header_reader, header_writer, sender, goodbye
        )
        bodies = Bodies(streams, windows, guard)
        self._reader = Reader(own, stage, header_reader, bodies, control)

    def _greet(self) -> bytes:
        self._greeted = True
        return self._memory.greetings[self.role]

    # -- bytes in -----------------------------------------------------------------------------------------------

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        """Take bytes from the peer. None is the end of its input."""
        reader = self._reader
        if reader.stage is _ENDED:
            return ()
        frames: list[Frame] = []
        if not self._greeted:
            frames.append(Reply(self._greet()))
        if data is None:
            reader.stop()
            return frames
        try:
            looked = reader.read(data, self, frames)
        except ConnectionFault as fault:
            frames.append(self._violation(fault))
            return frames
        if self._due and looked and data:
            self._catch_up(frames)
        return frames

    def _catch_up(self, frames: list[Frame]) -> None:
        """Do what could only be done when something arrives."""
        self._due = False

    @property
    def unfinished(self) -> bool:
        """See SupportsProgress: a frame, or a header block, that is not whole."""
        return self._reader.unfinished

    def overdue(self) -> Violation:
        """See SupportsDeadline."""
        return self._violation(
            ConnectionFault(
                ErrorCode.SETTINGS_TIMEOUT,
                f"settings not acknowledged within {self._own.settings_timeout:g} s",
                "settings_timeout",
            )
        )

    def _violation(self, fault: ConnectionFault) -> Violation:
        self._reader.stop()
        farewell = goaway(
            max(self._streams.highest, 0) if self.role is _SERVER else 0,
            fault.code,
            fault.detail.encode("ascii", "replace")[:_DEBUG_BYTES],
        )
        if fault.code is ErrorCode.ENHANCE_YOUR_CALM:
            reason = Status.RESOURCE_EXHAUSTED
        elif self.role is _SERVER:
            reason = Status.INVALID_ARGUMENT
        else:
            reason = Status.UNAVAILABLE
        return Violation(fault.detail, farewell, reason, fault.limit)

    def on_headers(self, stream_id: int, block: bytes, end: bool, frames: list[Frame]) -> None:
        """See HeadTaker."""
        raise NotImplementedError

    def _stray_headers(self, stream_id: int, block: bytes, frames: list[Frame]) -> None:
        """Take a header block where there is no message for it. Raises ConnectionFault and StreamFault."""
        if stream_id in self._streams.open:
            # Its own end: the tables go on.
            self._header_reader.skip(block)
            self._streams.judge(Event.HEADERS_ARRIVE, stream_id)
        else:
            self._streams.judge(Event.HEADERS_ARRIVE, stream_id)
            self._header_reader.skip(block)
            self._guard.on_control()
            frames.append(NOTHING)

    def _trailers(
        self, stream_id: int, stream: Stream, block: bytes, end: bool, frames: list[Frame]
    ) -> None:
        """Take a header block after a body. Raises ConnectionFault and StreamFault."""
        headers = self._header_reader
        if stream.connect:
            # RFC 9113 §8.5; the block is read, but its stream ends.
            headers.skip(block)
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "fields where a tunnel is open")
        blocks = self._memory.trailers
        read = blocks.steady.get((headers.table, block)) or headers.read(blocks, block)
        if read.malformed is not None:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, read.malformed.detail)
        if not end:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "trailers that do not end the stream")
        if stream.expected > 0:
            raise short_of(stream)
        trailers = read.parsed
        if trailers:
            outcome = status_in(trailers) if stream.call else None
            frames.append(Trailers(stream_id, trailers, outcome))
        else:
            deliver(stream_id, b"", True, frames)
        self._streams.received(stream_id, stream)

    def on_fault(self, stream_id: int, fault: StreamFault, frames: list[Frame]) -> None:
        """See HeadTaker."""
        stream = self._streams.end(stream_id, Event.FAULT_IS_FOUND)
        server = self.role is _SERVER
        frames.append(Reset(stream_id, Status.INVALID_ARGUMENT if server else Status.INTERNAL))
        frames.append(Reply(rst_stream(stream_id, fault.code)))
        if server and not stream.spoken:
            self._guard.on_reset(stream.opened)

    # -- frames out ---------------------------------------------------------------------------------------------

    def send(self, frame: Frame) -> bytes:
        """Return the bytes for ``frame``. Raises LocalProtocolError."""
        if type(frame) is Head:
            raw = self._send_head(frame)
        elif type(frame) is Data:
            raw = self._send_data(frame.stream_id, frame.data, frame.end)
        elif type(frame) is Trailers:
            raw = self._send_trailers(frame.stream_id, frame.headers)
        elif type(frame) is Reset:
            raw = self._send_reset(frame.stream_id, frame.status)
        elif type(frame) is Reply:
            return frame.data
        elif type(frame) is GoAway:
            return self.goaway()
        elif type(frame) is Credit:
            return b""
        else:
            raise LocalProtocolError("a Violation is received, never sent")
        return raw if self._greeted else self._greet() + raw

    def _send_head(self, frame: Head) -> bytes:
        raise NotImplementedError

    def _send_data(self, stream_id: int, data: bytes, end: bool) -> bytes:
        return self._sender.data(stream_id, data, end)

    def _send_trailers(self, stream_id: int, headers: Headers) -> bytes:
        return self._sender.trailers(stream_id, headers)

    def _send_reset(self, stream_id: int, status: Status) -> bytes:
        return self._sender.reset(stream_id, status)

    # -- what the codec can do besides --------------------------------------------------------------------------

    @property
    def patience(self) -> float:
        """See SupportsDeadline."""
        return self._own.settings_timeout

    @property
    def acknowledged(self) -> bool:
        """See SupportsDeadline: whether the peer has acknowledged our SETTINGS (RFC 9113 §6.5.3)."""
        return self._control.acknowledged

    def consumed(self, stream_id: int, count: int) -> bytes:
        """See SupportsFlow. Counts no more than was delivered, and that once."""
        if self._reader.stage is _ENDED:
            return b""
        stream = self._streams.open.get(stream_id)
        if stream is None:
            self._streams.consumed(stream_id, count)
            return b""
        count = min(count, stream.unconsumed)
        if count <= 0:
            return b""
        stream.unconsumed -= count
        return self._windows.renew(stream_id, stream, count)

    def sendable(self, stream_id: int) -> int:
        """See SupportsFlow."""
        stream = self._streams.open.get(stream_id)
        if stream is None:
            return 0
        if stream.muted and stream.spoken:
            return MAX_WINDOW  # what is sent is dropped
        return self._windows.room(stream)

    def elapsed(self, seconds: float) -> None:
        """See SupportsElapsed."""
        self._guard.elapsed(seconds)

    def heartbeat(self) -> bytes:
        """See SupportsHeartbeat."""
        raw = ping(LIFE_PING)
        return raw if self._greeted else self._greet() + raw

    def goaway(self) -> bytes:
        """See SupportsGoAway. Idempotent; ``Goodbye.say`` says how many steps it takes."""
        raw = self._goodbye.say()
        return raw if self._greeted or not raw else self._greet() + raw

    # -- moving -------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return the state for the plugin's ``restore``."""
        return SCHEMA.pack(self._snapshot())

    def _snapshot(self) -> Snapshot:
        reader, headers, streams = self._reader, self._header_reader, self._streams
        windows, sender, goodbye = self._windows, self._sender, self._goodbye
        buffer, block = reader.buffer, headers.block
        return Snapshot(
            role=self.role,
            stage=reader.stage,
            greeted=self._greeted,
            acknowledged=self._control.acknowledged,
            due=self._due,
            buffer=b"" if buffer is None else bytes(buffer),
            needed=0 if buffer is None else reader.needed,
            block=None
            if block is None
            else Block(
                stream_id=headers.stream_id,
                end=headers.end,
                pieces=headers.pieces,
                data=bytes(block),
            ),
            decoder=headers.table,
            encoder=self._header_writer.table,
            resizes=self._header_writer.resizes,
            highest=streams.highest,
            streams=streams.open,
            held=streams.held,
            past=streams.past,
            inbound=windows.inbound,
            owed=windows.owed,
            spare=windows.spare,
            first_inbound=windows.first_inbound,
            outbound=windows.outbound,
            first_outbound=windows.first_outbound,
            frame_bytes=sender.frame_bytes,
            head_bytes=sender.head_bytes,
            most_streams=sender.most_streams,
            connect=sender.connect,
            drain=goodbye.drain,
            peer_last=goodbye.peer_last,
            counters=self._guard.counts(),
        )

    def resume(self, snapshot: Snapshot) -> None:
        """Take over the state that another codec of this role wrote down."""
        reader, headers, streams = self._reader, self._header_reader, self._streams
        windows, sender, goodbye = self._windows, self._sender, self._goodbye
        writer, memory, block = self._header_writer, self._memory, snapshot.block
        self._greeted = snapshot.greeted
        self._due = snapshot.due
        self._control.acknowledged = snapshot.acknowledged
        reader.stage = snapshot.stage
        reader.buffer = bytearray(snapshot.buffer) if snapshot.buffer else None
        reader.needed = snapshot.needed
        if block is not None:
            headers.resume(block.stream_id, block.end, block.pieces, block.data)
        # It shares its tables with those that moved with the same ones; what changes them from here on is its own.
        headers.moves = writer.moves = MOVES
        headers.table = memory.shared(snapshot.decoder)
        if snapshot.acknowledged:
            headers.acknowledged()
        writer.table = memory.shared(snapshot.encoder)
        writer.resizes = snapshot.resizes
        streams.highest = snapshot.highest
        streams.open = snapshot.streams
        streams.held = snapshot.held
        streams.past = snapshot.past
        windows.inbound = snapshot.inbound
        windows.owed = snapshot.owed
        windows.spare = snapshot.spare
        windows.first_inbound = snapshot.first_inbound
        windows.outbound = snapshot.outbound
        windows.first_outbound = snapshot.first_outbound
        sender.frame_bytes = snapshot.frame_bytes
        sender.head_bytes = snapshot.head_bytes
        sender.most_streams = snapshot.most_streams
        sender.connect = snapshot.connect
        goodbye.drain = snapshot.drain
        goodbye.peer_last = snapshot.peer_last
        self._guard.resume(snapshot.counters)
