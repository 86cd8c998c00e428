"""One end of a link. What is said on one side is what the other one gives, frame by frame: nothing is lost or added.

So what was said and has not left yet can be taken back: it is read as the other side would have, and said to somebody
else instead. Rules beside those of ``wire.py``:

* Towards the client (SERVER → CLIENT) each stream has a window, of which both sides know from when on it is open: no
  answer waits for a word of it. It grows as the client takes what came (CREDIT). Towards the server there is none:
  what comes there is bounded by the windows that the client was given, and credit goes to it as the server takes what
  came (CONSUMED).
* Heads are the neutral ones; see ``heads.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from xproxy.codecs.relay.heads import (
    pack_head,
    pack_trailers,
    read_request,
    read_response,
    read_trailers,
)
from xproxy.codecs.relay.snapshot import MOST_CREDIT, SCHEMA
from xproxy.codecs.relay.state import State, Stream
from xproxy.codecs.relay.wire import (
    COUNT,
    FRAME,
    MAX_DATA,
    Kind,
    Malformed,
    longest,
    pack,
    pack_body,
    pack_reset,
    read_count,
    read_reset,
)
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Credit, Data, Frame, GoAway, Head, Reply, Reset, Trailers, Violation
from xproxy.model.limits import KIB, Limits
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

WINDOW: Final = 64 * KIB
"""Body bytes that may wait for a client on one stream of a link."""
_SERVER: Final = Role.SERVER
_JOINED: Final = 16 * KIB
"""Bytes of a piece below which the next one of the same read joins it; the end stays for itself, as it was said."""


@attrs.frozen
class Consumed(Credit):
    """The server took ``count`` body bytes of the client's, who may have credit for them."""

    count: int = 0


@attrs.frozen
class Bye(GoAway):
    """All is said: nothing follows on this link."""


class RelayCodec:
    """See the module. The side that serves the streams is the server of them."""

    __slots__ = ("_buffer", "_limits", "_role", "_state")

    def __init__(self, limits: Limits, state: State) -> None:
        self._limits = limits
        self._state = state
        self._role = state.role
        self._buffer = bytearray(state.held)
        state.held = b""

    def begin(self, stream_id: int, *, complete: bool, begun: bool) -> None:
        """Go on with a stream that began elsewhere.

        ``complete``: all of its request has come; ``begun``: the head of its answer is out.
        """
        served = self._role is _SERVER
        self._state.streams[stream_id] = Stream(
            speaking=served or not complete,
            hearing=not served or not complete,
            spoken=begun if served else True,
            heard=True if served else begun,
        )

    def hears(self, stream_id: int) -> bool:
        """Whether more is to come on a stream."""
        stream = self._state.streams.get(stream_id)
        return stream is not None and stream.hearing

    def speaks(self, stream_id: int) -> bool:
        """Whether something may still be said on a stream."""
        stream = self._state.streams.get(stream_id)
        return stream is not None and stream.speaking

    @property
    def over(self) -> bool:
        """Whether one of the two has said goodbye."""
        return self._state.bye

    @property
    def unfinished(self) -> bool:
        """See SupportsProgress."""
        return bool(self._buffer)

    # ---- bytes in

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        """See Codec."""
        state = self._state
        if state.violated:
            return ()
        frames: list[Frame] = []
        try:
            if data is None:
                if self._buffer:
                    raise Malformed("the link ends within a frame")
                return ()
            self._buffer += data
            self._read(frames)
        except Malformed as exc:
            state.violated = True
            self._buffer.clear()
            state.streams.clear()
            frames.append(Violation(f"link: {exc}", reason=Status.UNAVAILABLE))
        return frames

    def _read(self, frames: list[Frame]) -> None:
        buffer, position = self._buffer, 0
        try:
            while len(buffer) - position >= FRAME.size:
                kind, size, stream_id = FRAME.unpack_from(buffer, position)
                if self._state.bye and self._role is not _SERVER:
                    raise Malformed("something follows a goodbye")
                if size > (limit := longest(kind, self._limits)):
                    raise Malformed(f"a {Kind(kind).name} of {size} bytes, limit {limit}")
                end = position + FRAME.size + size
                if len(buffer) < end:
                    return
                payload = bytes(buffer[position + FRAME.size : end])
                position = end
                self._frame(Kind(kind), stream_id, payload, frames)
        finally:
            del buffer[:position]

    def _frame(self, kind: Kind, stream_id: int, payload: bytes, frames: list[Frame]) -> None:
        served = self._role is _SERVER
        if kind is Kind.HEAD:
            self._head(stream_id, payload, frames)
            return
        if kind in (Kind.GOAWAY, Kind.BYE, Kind.CONSUMED, Kind.MESSAGE) and served:
            raise Malformed(f"{kind.name} from the wrong side")
        if kind is Kind.GOAWAY:
            frames.append(GoAway())
        elif kind is Kind.BYE:
            self._state.bye = True
            frames.append(Bye())
        elif kind is Kind.CONSUMED:
            # Also of a stream that is over: a body may be taken after its answer has gone.
            frames.append(Consumed(stream_id, read_count(payload)))
        elif kind is Kind.CREDIT:
            self._credit(stream_id, read_count(payload), frames)
        else:
            stream = self._state.streams.get(stream_id)
            if stream is not None:
                self._of_stream(kind, stream_id, stream, payload, frames)

    def _credit(self, stream_id: int, count: int, frames: list[Frame]) -> None:
        if self._role is not _SERVER:
            raise Malformed("CREDIT from the wrong side")
        stream = self._state.streams.get(stream_id)
        if stream is not None:
            stream.credit += count
            if stream.credit > MOST_CREDIT:
                raise Malformed(f"credit above {MOST_CREDIT}")
        # Also of a stream that is over: whether it is depends on how quickly it was answered.
        frames.append(Credit(stream_id))

    def _head(self, stream_id: int, payload: bytes, frames: list[Frame]) -> None:
        streams = self._state.streams
        stream = streams.get(stream_id)
        if self._role is _SERVER:
            request, data = read_request(payload, self._limits)
            if stream is not None:
                raise Malformed(f"stream {stream_id} is open already")
            if len(streams) >= self._limits.max_streams:
                refused = pack_reset(stream_id, Status.RESOURCE_EXHAUSTED, refused=True)
                frames.append(Reply(refused))
                return
            stream = streams[stream_id] = Stream(heard=True)
            frames.append(Head(stream_id, request, data or b"", data is not None))
        else:
            response, interim, data = read_response(payload, self._limits)
            if stream is None:
                return
            if stream.heard or self._state.whole:
                raise Malformed(f"a head on stream {stream_id} that has no place there")
            stream.heard = not interim
            if data:
                self._spend(stream_id, stream, len(data))
            frames.append(Head(stream_id, response, data or b"", data is not None, interim))
        if data is not None:
            self._ended(stream_id, stream)

    def _spend(self, stream_id: int, stream: Stream, count: int) -> None:
        stream.credit -= count
        if stream.credit < 0:
            raise Malformed(f"{-stream.credit} bytes beyond the window of stream {stream_id}")

    def _of_stream(
        self, kind: Kind, stream_id: int, stream: Stream, payload: bytes, frames: list[Frame]
    ) -> None:
        if kind is Kind.RESET:
            status, refused = read_reset(payload)
            del self._state.streams[stream_id]
            frames.append(Reset(stream_id, status, refused))
            return
        whole = self._state.whole and self._role is not _SERVER
        if not stream.hearing or not (stream.heard or whole):
            raise Malformed(f"{kind.name} on stream {stream_id} outside of a message")
        if kind is Kind.TRAILERS:
            frames.append(read_trailers(payload, stream_id, self._limits))
            self._ended(stream_id, stream)
        elif kind is Kind.END:
            frames.append(Data(stream_id, b"", True))
            self._ended(stream_id, stream)
        elif (kind is Kind.MESSAGE) is not whole:
            raise Malformed(f"{kind.name} on a link of the other sort")
        elif payload:
            if not whole and self._role is not _SERVER:
                self._spend(stream_id, stream, len(payload))
            _deliver(stream_id, payload, frames)

    def _ended(self, stream_id: int, stream: Stream) -> None:
        stream.hearing = False
        self._forget(stream_id, stream)

    def _forget(self, stream_id: int, stream: Stream) -> None:
        if not stream.hearing and not stream.speaking:
            self._state.streams.pop(stream_id, None)

    # ---- frames out

    def send(self, frame: Frame) -> bytes:
        """See Codec. What is said on a stream that is over is swallowed."""
        if isinstance(frame, Head):
            return self._send_head(frame)
        if isinstance(frame, Data):
            stream = self._speaking(frame.stream_id)
            if stream is None:
                return b""
            sent = self._send_body(frame.stream_id, stream, frame.data)
            return sent + self._send_end(frame.stream_id, stream) if frame.end else sent
        if isinstance(frame, Trailers):
            stream = self._speaking(frame.stream_id)
            if stream is None:
                return b""
            sent = pack(Kind.TRAILERS, frame.stream_id, pack_trailers(frame, self._limits))
            stream.speaking = False
            self._forget(frame.stream_id, stream)
            return sent
        if isinstance(frame, Reset):
            if self._state.streams.pop(frame.stream_id, None) is None:
                return b""
            return pack_reset(frame.stream_id, frame.status, refused=frame.refused)
        raise LocalProtocolError(f"a link cannot say {type(frame).__name__}")

    def _speaking(self, stream_id: int) -> Stream | None:
        # None: the stream is over for us.
        stream = self._state.streams.get(stream_id)
        if stream is None or not stream.speaking:
            return None
        whole = self._state.whole and self._role is _SERVER
        if not stream.spoken and not whole:
            raise LocalProtocolError(f"a body before the head on stream {stream_id}")
        return stream

    def _send_head(self, frame: Head) -> bytes:
        stream_id, message, streams = frame.stream_id, frame.message, self._state.streams
        served = self._role is _SERVER
        if isinstance(message, ResponseHead) is not served:
            raise LocalProtocolError(f"this side of a link sends no {type(message).__name__}")
        if served and self._state.whole:
            raise LocalProtocolError("no head goes over a link of whole messages")
        stream = streams.get(stream_id)
        sent = b""
        if not served:
            if stream is not None:
                raise LocalProtocolError(f"stream {stream_id} is open already")
            stream = Stream(credit=WINDOW)
        elif stream is None or not stream.speaking:
            return b""
        elif stream.spoken:
            raise LocalProtocolError(f"a second head on stream {stream_id}")
        elif not frame.interim and len(frame.data) > stream.credit:
            raise LocalProtocolError(_beyond(frame.data, stream))
        data = frame.data
        at_once = frame.end and not frame.interim and len(data) <= MAX_DATA
        packed = pack_head(
            message, self._limits, interim=frame.interim, data=data if at_once else None
        )
        sent = pack(Kind.HEAD, stream_id, packed)
        if not served:
            streams[stream_id] = stream
            sent += pack(Kind.CREDIT, stream_id, COUNT.pack(WINDOW))
        if frame.interim:
            return sent
        stream.spoken = True
        if at_once:
            stream.credit -= len(data) if served else 0
            stream.speaking = False
            self._forget(stream_id, stream)
            return sent
        if data:
            sent += self._send_body(stream_id, stream, data)
        return sent + self._send_end(stream_id, stream) if frame.end else sent

    def _send_body(self, stream_id: int, stream: Stream, data: bytes) -> bytes:
        if self._role is not _SERVER:
            return pack_body(Kind.DATA, stream_id, data)
        if self._state.whole:
            return pack_body(Kind.MESSAGE, stream_id, data)
        if len(data) > stream.credit:
            raise LocalProtocolError(_beyond(data, stream))
        stream.credit -= len(data)
        return pack_body(Kind.DATA, stream_id, data)

    def _send_end(self, stream_id: int, stream: Stream) -> bytes:
        stream.speaking = False
        self._forget(stream_id, stream)
        return pack(Kind.END, stream_id)

    # ---- windows, and the ends

    def consumed(self, stream_id: int, count: int) -> bytes:
        """See SupportsFlow. What a server took is told in any case, what a client did while its answer goes on."""
        if self._role is _SERVER:
            return pack(Kind.CONSUMED, stream_id, COUNT.pack(count)) if count > 0 else b""
        stream = self._state.streams.get(stream_id)
        if stream is None or not stream.hearing or count <= 0:
            return b""
        stream.credit += count
        return pack(Kind.CREDIT, stream_id, COUNT.pack(count))

    def open(self) -> None:
        """Open the windows of streams that began elsewhere. Both sides, once, as soon as the link is theirs."""
        served = self._role is _SERVER
        for stream in self._state.streams.values():
            if stream.speaking if served else stream.hearing:
                stream.credit = WINDOW

    def sendable(self, stream_id: int) -> int:
        """See SupportsFlow."""
        stream = self._state.streams.get(stream_id)
        if stream is None or not stream.speaking or self._role is not _SERVER:
            return MOST_CREDIT  # it is swallowed, or bounded elsewhere
        return stream.credit

    def goaway(self) -> bytes:
        """Ask the other side to say goodbye to the client. The server's side only."""
        return pack(Kind.GOAWAY, 0) if self._role is _SERVER else b""

    def bye(self) -> bytes:
        """Say that nothing follows. The server's side only; idempotent."""
        if self._state.bye or self._role is not _SERVER:
            return b""
        self._state.bye = True
        return pack(Kind.BYE, 0)

    # ---- moving

    def snapshot(self) -> bytes:
        """See SupportsSnapshot."""
        return SCHEMA.pack(attrs.evolve(self._state, held=bytes(self._buffer)))

    def snapshot_before(self, frames: Iterable[Frame]) -> bytes:
        """Return the state as it was before ``frames`` were received, in this order: they will be received again.

        The client's side only. Nothing changes here.
        """
        state = self._state
        streams = {number: attrs.evolve(stream) for number, stream in state.streams.items()}
        other = RelayCodec(self._limits, State(_SERVER, state.whole))
        said = []
        for frame in frames:
            assert isinstance(frame, Head | Data | Trailers | Reset)
            number = frame.stream_id
            if number not in other._state.streams:
                spoken = not isinstance(frame, Head)
                other._state.streams[number] = Stream(MOST_CREDIT, heard=True, spoken=spoken)
            said.append(other.send(frame))
            if number not in streams:  # it was over with these frames, and nobody counts any more
                streams[number] = Stream(WINDOW, speaking=False, spoken=True, heard=True)
            stream = streams[number]
            stream.hearing = True
            if isinstance(frame, Head):
                stream.heard &= frame.interim
            if isinstance(frame, Head | Data) and not state.whole:
                stream.credit += len(frame.data)
        if state.bye:  # it came last
            said.append(pack(Kind.BYE, 0))
        held = b"".join((*said, self._buffer))
        return SCHEMA.pack(attrs.evolve(state, streams=streams, held=held, bye=False))


def _beyond(data: bytes, stream: Stream) -> str:
    return f"{len(data)} bytes, the window lets {stream.credit} through"


def _deliver(stream_id: int, data: bytes, frames: list[Frame]) -> None:
    last = frames[-1] if frames else None
    if type(last) is Data and last.stream_id == stream_id and len(last.data) < _JOINED:
        frames[-1] = Data(stream_id, last.data + data)
    else:
        frames.append(Data(stream_id, data))


def opened(role: Role, limits: Limits, *, whole: bool = False) -> RelayCodec:
    """Make one end of a new link."""
    return RelayCodec(limits, State(role, whole))


def restored(state: bytes, role: Role, limits: Limits) -> RelayCodec:
    """Go on as the codec that wrote ``state``. Raises ValueError for anything else."""
    found = SCHEMA.unpack(state)
    if found.role is not role:
        raise ValueError("a snapshot of the other side of a link")
    if len(found.streams) > limits.max_streams:
        raise ValueError(f"a snapshot of {len(found.streams)} streams, limit {limits.max_streams}")
    return RelayCodec(limits, found)
