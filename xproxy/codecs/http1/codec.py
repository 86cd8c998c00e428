"""What both roles of HTTP/1.1 share: bodies in, bodies out, tunnels, and how a connection ends (RFC 9112).

Rules of this file:

* ``_buffer`` holds only what cannot be used yet: a part of a head or of a line, or what is held back. Body bytes pass
  through. An idle connection has no buffer.
* States change here and in ``server.py`` and ``client.py`` only, to pairs that the table in ``state.py`` knows.
* After the last frame of a connection whatever is received is dropped.
"""

from __future__ import annotations

from typing import ClassVar, Final

from xproxy.codecs.grpc.status import status_in
from xproxy.codecs.http1.chunked import ChunkReader, Phase
from xproxy.codecs.http1.memory import HeadMemory, remembered_bytes
from xproxy.codecs.http1.snapshot import SCHEMA, Snapshot
from xproxy.codecs.http1.state import (
    READING_CLOSING,
    READING_DONE,
    READING_ENDED,
    READING_LENGTH,
    READING_TUNNEL,
    STREAM_ID,
    WRITING_CHUNKED,
    WRITING_IDLE,
    WRITING_LENGTH,
    WRITING_NO_BODY,
    WRITING_SINK,
    WRITING_TUNNEL,
    WRITING_UNTIL_CLOSE,
    Reading,
    Writing,
)
from xproxy.codecs.http1.wire import LAST_CHUNK, encode_trailers
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Credit, Data, Frame, GoAway, Head, Reply, Reset, Trailers, Violation
from xproxy.model.headers import NO_HEADERS, Headers
from xproxy.model.limits import Limits
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.traits import Role

GOAWAY: Final = GoAway()


class Http1Codec:
    """One connection's state; :class:`ServerCodec` and :class:`ClientCodec` say what begins and ends a message."""

    __slots__ = (
        "_accept",
        "_blank_lines",
        "_buffer",
        "_chunks",
        "_draining",
        "_ended",
        "_flags",
        "_left",
        "_limits",
        "_longest",
        "_memory",
        "_owed",
        "_reading",
        "_searched",
        "_upgrade",
        "_writing",
    )

    role: ClassVar[Role]

    def __init__(self, limits: Limits, memory: HeadMemory, reading: Reading) -> None:
        self._limits = limits
        self._memory = memory
        self._longest = remembered_bytes(limits)
        self._reading = reading
        self._writing = WRITING_IDLE
        self._flags = 0
        self._draining = False
        self._ended = False
        self._blank_lines = 0
        self._left = 0
        self._owed = 0
        self._chunks: ChunkReader | None = None
        self._buffer: bytearray | None = None
        self._searched = 0
        self._upgrade = ""
        """What the connection is asked to become, until the answer decides."""
        self._accept = ""

    # -- bytes in -----------------------------------------------------------------------------------------------

    def _read_body(
        self, source: bytes | bytearray, position: int, pieces: list[bytes]
    ) -> tuple[int, Headers]:
        """Take body bytes; ``_reading`` becomes DONE at the end. Returns (used up to, trailers). Raises Refused."""
        if self._chunks is not None:
            position = self._chunks.read(source, position, pieces)
            if self._chunks.phase is not Phase.DONE:
                return position, NO_HEADERS
            trailers, self._chunks = self._chunks.trailers, None
            self._reading = READING_DONE
            return position, trailers
        stop = len(source)
        if self._reading is READING_LENGTH:
            stop = min(stop, position + self._left)
            self._left -= stop - position
            if not self._left:
                self._reading = READING_DONE
        if stop > position:
            pieces.append(bytes(source[position:stop]))
        return stop, NO_HEADERS

    @staticmethod
    def _deliver(
        frames: list[Frame],
        message: RequestHead | ResponseHead | None,
        pieces: list[bytes],
        trailers: Headers,
        *,
        end: bool,
    ) -> None:
        """Add the frames for what one read brought of a message."""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        last = end and not trailers
        if message is not None:
            frames.append(Head(STREAM_ID, message, data, last))
        elif data or last:
            frames.append(Data(STREAM_ID, data, last))
        if end and trailers:
            frames.append(Trailers(STREAM_ID, trailers, status_in(trailers)))

    def _source(self, data: bytes) -> bytes | bytearray:
        """Return all bytes that are not used yet."""
        buffer = self._buffer
        if buffer is None:
            return data
        buffer += data
        return buffer

    def _keep(self, source: bytes | bytearray, used: int) -> None:
        """Remember what was not used of ``source``."""
        if used >= len(source):
            self._buffer = None
        elif source is self._buffer:
            del self._buffer[:used]
        else:
            self._buffer = bytearray(source[used:])

    def _receive_tunnel(self, data: bytes) -> list[Frame]:
        frames: list[Frame] = []
        source, self._buffer = bytes(self._source(data)), None
        if source or self._ended:
            frames.append(Data(STREAM_ID, source, self._ended))
        if self._ended:
            self._reading = READING_ENDED
        return frames

    def _stop(self, reading: Reading, writing: Writing) -> None:
        """Leave the protocol: nothing more is understood, and nothing is kept."""
        self._reading = reading
        self._writing = writing
        self._buffer = None
        self._chunks = None
        self._left = 0
        self._searched = 0
        self._blank_lines = 0
        self._upgrade = self._accept = ""
        if writing is not WRITING_LENGTH:
            self._owed = 0

    # -- bytes out ----------------------------------------------------------------------------------------------

    def send(self, frame: Frame) -> bytes:
        """Return the bytes for ``frame``. Raises LocalProtocolError."""
        if (
            isinstance(frame, Data)
            and frame.stream_id == STREAM_ID
            and self._writing is not WRITING_SINK
        ):
            raw = self._body(frame.data, end=frame.end)
            if frame.end:
                self._sent()
            return raw
        if isinstance(frame, Reply):
            return frame.data
        if isinstance(frame, GoAway):
            return self.goaway()
        if isinstance(frame, Credit):
            return b""
        if isinstance(frame, Violation):
            raise LocalProtocolError("a Violation is received, never sent")
        if frame.stream_id != STREAM_ID:
            raise LocalProtocolError(
                f"stream {frame.stream_id}: HTTP/1.1 has only stream {STREAM_ID}"
            )
        if isinstance(frame, Reset):
            # No last chunk, no missing bytes: the peer must see a broken message, and only closing says that.
            if self._reading is not READING_ENDED:
                self._stop(READING_CLOSING, WRITING_SINK)
            else:
                self._stop(READING_ENDED, WRITING_SINK)
            return b""
        if self._writing is WRITING_SINK and not (
            isinstance(frame, Head) and self.role is Role.CLIENT
        ):
            return b""
        if isinstance(frame, Head):
            return self._send_head(frame)
        raw = self._trailers(frame.headers) if isinstance(frame, Trailers) else b""
        self._sent()
        return raw

    def _send_head(self, frame: Head) -> bytes:
        raise NotImplementedError

    def _sent(self) -> None:
        """Note that our message was sent to its end."""
        raise NotImplementedError

    def _body(self, data: bytes, *, end: bool) -> bytes:
        """Frame a piece of a body as its head announced it. Raises LocalProtocolError."""
        writing = self._writing
        if writing is WRITING_CHUNKED:
            if not data:
                return LAST_CHUNK if end else b""
            return b"%x\r\n%b\r\n%b" % (len(data), data, LAST_CHUNK if end else b"")
        if writing is WRITING_LENGTH:
            owed = self._owed - len(data)
            if owed < 0:
                raise LocalProtocolError(f"body is {-owed} bytes longer than the length sent")
            if end and owed:
                raise LocalProtocolError(f"body is {owed} bytes shorter than the length sent")
            self._owed = owed
            return data
        if writing is WRITING_UNTIL_CLOSE or writing is WRITING_TUNNEL:
            return data
        if writing is WRITING_NO_BODY:
            return b""
        raise LocalProtocolError(f"body bytes where there can be none ({writing.value})")

    def _trailers(self, headers: Headers) -> bytes:
        """End a body with trailers, which only chunks can carry; elsewhere they are dropped."""
        if self._writing is WRITING_CHUNKED:
            return encode_trailers(headers)
        return self._body(b"", end=True)

    # -- what the codec can do besides --------------------------------------------------------------------------

    def goaway(self) -> bytes:
        """Let the next response head say ``Connection: close``. There is nothing to send for it by itself."""
        self._draining = True
        return b""

    @property
    def transparent(self) -> bool:
        """See SupportsBypass: a tunnel that holds nothing back."""
        reading = self._reading
        return self._buffer is None and (
            reading is READING_TUNNEL
            or (reading is READING_ENDED and self._writing is WRITING_TUNNEL)
        )

    def upgraded(self) -> bytes:
        """Leave the protocol, once a tunnel is open. Raises LocalProtocolError before that."""
        if self._reading is not READING_TUNNEL:
            raise LocalProtocolError("no tunnel is open on this connection")
        rest = bytes(self._buffer or b"")
        self._stop(READING_ENDED, WRITING_SINK)
        return rest

    def snapshot(self) -> bytes:
        """Return the state for the plugin's ``restore``."""
        chunks = self._chunks
        return SCHEMA.pack(
            Snapshot(
                role=self.role,
                reading=self._reading,
                writing=self._writing,
                flags=self._flags,
                draining=self._draining,
                ended=self._ended,
                blank_lines=self._blank_lines,
                left=self._left,
                owed=self._owed,
                phase=chunks.phase if chunks is not None else None,
                chunk_left=chunks.left if chunks is not None else 0,
                extensions=chunks.extensions if chunks is not None else 0,
                buffer=bytes(self._buffer or b""),
                upgrade=self._upgrade,
                accept=self._accept,
            )
        )

    def resume(self, snapshot: Snapshot) -> None:
        """Take over the state that another codec of this role wrote down."""
        self._reading = snapshot.reading
        self._writing = snapshot.writing
        self._flags = snapshot.flags
        self._draining = snapshot.draining
        self._ended = snapshot.ended
        self._blank_lines = snapshot.blank_lines
        self._left = snapshot.left
        self._owed = snapshot.owed
        if snapshot.phase is not None:
            self._chunks = ChunkReader(
                self._limits, snapshot.phase, snapshot.chunk_left, snapshot.extensions
            )
        self._buffer = bytearray(snapshot.buffer) if snapshot.buffer else None
        self._upgrade = snapshot.upgrade
        self._accept = snapshot.accept
