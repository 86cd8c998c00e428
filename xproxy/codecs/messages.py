"""Message protocols: one engine for every codec whose messages come whole, with an id each (sharing MESSAGES).

A protocol is a :class:`MessageWire`: pure, stateless functions between bytes and heads. The engine holds everything
that has a life: the bytes of an unfinished message, the requests still owed an answer, what the peer was heard to
know. It gives framing over any chunks, one loop for many messages a read, id rewriting by patching the raw message,
heartbeats, goaway, refusals when too many streams are open, local error replies, limits and snapshots.
(contrast: mosn:pkg/stream/xprotocol, where each protocol brings its own; idea of the loop: hiredis)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from xproxy.codecs.message_state import MessageState, schema
from xproxy.codecs.message_wire import (
    ONEWAY,
    REQUEST,
    RESPONSE,
    WIDE_IDS,
    Kind,
    Lengthy,
    Malformed,
    MalformedMessage,
    Message,
    MessageWire,
    NarrowIds,
)
from xproxy.codecs.slices import Work
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Frame, GoAway, Head, Origin, Reply, Reset, Violation, whole
from xproxy.model.headers import Headers
from xproxy.model.limits import Limits
from xproxy.model.message import Local, Reason, RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

SKIPPED_MESSAGES: Final = 4
"""Times ``max_message_bytes``: a message that cannot be taken is skipped up to this length. A longer one ends the
connection, as all that are in flight would wait for it."""


ORIGIN_MAX_BYTES: Final = 32 * 1024 - 1
"""Longer messages carry no ``Origin``: a second copy of a large body costs more than writing its head anew."""

OVERLOADED_HEADERS: Final = Headers((("x-envoy-overloaded", "true"),))
"""What a refusal for want of room says where a protocol has headers: a proxy in front must not send it again."""

_OVERLOADED: Final = ResponseHead(
    status=Status.RESOURCE_EXHAUSTED,
    headers=OVERLOADED_HEADERS,
    extra=Local(detail="too many requests in flight", reason=Reason.OVERFLOW),
)


Decode: TypeAlias = Callable[[bytes, int, int, Limits], Message | Lengthy | int]


class MessageCodec:
    """One connection of a message protocol, either end of it."""

    __slots__ = (
        "_dialect",
        "_goaway_heard",
        "_goaway_known",
        "_held",
        "_limits",
        "_need",
        "_over",
        "_owed",
        "_read_raw",
        "_reading",
        "_skip",
        "_takes_requests",
        "_takes_responses",
        "_wire",
        "refused",
    )

    def __init__(
        self,
        wire: MessageWire,
        role: Role,
        limits: Limits,
        *,
        reverse: bool = False,
        goaway_known: bool = True,
    ) -> None:
        """Start; ``reverse``: either side may call; ``goaway_known``: also a peer not yet heard using it knows it."""
        self._wire = wire
        self._limits = limits
        self._takes_requests = reverse or role is Role.SERVER
        self._takes_responses = reverse or role is Role.CLIENT
        self._goaway_known = goaway_known
        self._held = bytearray()
        self._need = 0
        self._skip = 0  # bytes of a message that could not be taken, still to come
        self._owed: dict[int, int] = {}
        self._reading: Work[Message] | None = None  # of a message that takes a while …
        self._read_raw = b""  # … its bytes; those behind them are held
        self._dialect = 0
        self._goaway_heard = False
        self._over = False
        self.refused = 0
        """Requests answered here: ``limits.max_streams`` were in flight, or they could not be read."""

    @property
    def largest_id(self) -> int:
        """See SupportsIdWidth."""
        wire = self._wire
        return wire.largest_id if isinstance(wire, NarrowIds) else WIDE_IDS

    @property
    def unfinished(self) -> bool:
        """See SupportsProgress."""
        return bool(self._held) or self._skip > 0

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        """Take bytes; many messages in them are one loop, and what is left over is copied once."""
        if data is None:
            return self._end()
        if self._over:
            return ()
        if self._skip:
            skipped = self._skip
            self._skip = max(0, skipped - len(data))
            data = data[skipped:]
            if not data:
                return ()
        held = self._held
        if held:
            held += data
            if len(held) < self._need:
                return ()
            data = bytes(held)
            held.clear()
        frames: list[Frame] = []
        try:
            at = self._read(data, frames)
        except Malformed as exc:
            self._over = True
            self._reading, self._read_raw = None, b""
            frames.append(Violation(f"{self._wire.name}: {exc}", self._farewell(exc)))
        else:
            if at < len(data):
                held += memoryview(data)[at:]
        return frames

    def _go_on(self, frames: list[Frame]) -> bool:
        """Do a slice of the message that takes a while; True: it has been read."""
        reading, raw = self._reading, self._read_raw
        assert reading is not None
        try:
            next(reading)
        except StopIteration as done:
            self._reading, self._read_raw = None, b""
            message: Message = done.value
            self._read(raw, frames, lambda *_: message)
            return True
        return False

    def _read(self, buffer: bytes, frames: list[Frame], decode: Decode | None = None) -> int:
        """Append a frame for every whole message; return where the first unfinished one begins."""
        if self._reading is not None and not self._go_on(frames):
            return 0
        wire, limits, owed, append = self._wire, self._limits, self._owed, frames.append
        decode, name = decode or wire.decode, wire.name
        at, size, dialect = 0, len(buffer), self._dialect
        while at < size:
            try:
                message = decode(buffer, at, size, limits)
            except MalformedMessage as crime:
                if not self._refuse_unread(crime, frames):
                    raise
                end = at + crime.length
                at = min(end, size)
                self._skip = end - at
                continue
            if type(message) is not tuple:
                if type(message) is Lengthy:
                    # Others may have their turn first.
                    end = at + message.length
                    self._reading, self._read_raw = message.work, buffer[at:end]
                    at, message = end, 0
                self._need = message  # type: ignore[assignment]  # what else it may be
                break
            kind, stream_id, head, data, length, dialect = message
            end = at + length
            if kind is REQUEST:
                if not self._takes_requests:
                    raise Malformed("a request from a server")
                if stream_id in owed:
                    raise Malformed(f"request id {stream_id} is in flight already")
                if len(owed) >= limits.max_streams:
                    self.refused += 1
                    answer = wire.response(stream_id, _OVERLOADED, b"", dialect)
                    append(Reply(answer, _OVERLOADED))
                    at = end
                    continue
                owed[stream_id] = dialect
            elif kind is RESPONSE:
                if not self._takes_responses:
                    raise Malformed("a response from a client")
            elif kind is ONEWAY:
                if not self._takes_requests:
                    raise Malformed("a request from a server")
            else:
                if kind is Kind.HEARTBEAT:
                    append(Reply(wire.acknowledge(buffer[at:end])))
                elif kind is Kind.REFUSED:
                    self._refuse(stream_id, head, dialect, frames)
                elif kind is Kind.GOAWAY:
                    self._goaway_heard = True
                    append(GoAway())
                at = end
                continue
            origin = (
                Origin(name, buffer[at:end], head, data) if length <= ORIGIN_MAX_BYTES else None
            )
            append(whole(stream_id, head, data, origin))
            at = end
        self._dialect = dialect
        return at

    def _farewell(self, crime: Malformed) -> bytes:
        if (
            not isinstance(crime, MalformedMessage)
            or crime.kind is not REQUEST
            or not self._takes_requests
        ):
            return b""
        if crime.stream_id in self._owed:
            return b""  # whose answer it would be, nobody could tell
        answer = ResponseHead(status=Status.INVALID_ARGUMENT, extra=Local(detail=str(crime)))
        return self._wire.response(crime.stream_id, answer, b"", crime.dialect)

    def _refuse_unread(self, crime: MalformedMessage, frames: list[Frame]) -> bool:
        """Let a message that cannot be taken fail alone. False: the connection cannot go on behind it."""
        longest = SKIPPED_MESSAGES * self._limits.max_message_bytes
        takes = self._takes_responses if crime.kind is RESPONSE else self._takes_requests
        if not takes or not 0 < crime.length <= longest:
            return False
        if crime.kind is RESPONSE:
            detail = f"{self._wire.name}: {crime}"
            frames.append(Reset(crime.stream_id, Status.UNAVAILABLE, detail=detail))
        elif crime.kind is REQUEST:
            farewell = self._farewell(crime)
            if not farewell:
                return False
            self.refused += 1
            frames.append(Reply(farewell))
        return True

    def _refuse(
        self, stream_id: int, answer: RequestHead | ResponseHead, dialect: int, frames: list[Frame]
    ) -> None:
        if not self._takes_requests:
            raise Malformed("a request from a server")
        if stream_id in self._owed:
            raise Malformed(f"request id {stream_id} is in flight already")
        assert isinstance(answer, ResponseHead)
        self.refused += 1
        frames.append(Reply(self._wire.response(stream_id, answer, b"", dialect), answer))

    def _end(self) -> Sequence[Frame]:
        if self._over:
            return ()
        self._over = True
        held = len(self._read_raw) + len(self._held)
        self._reading, self._read_raw = None, b""
        if self._skip:
            return (Violation(f"{self._wire.name}: input ended within a message"),)
        if not held:
            return ()
        self._held.clear()
        return (Violation(f"{self._wire.name}: input ended {held} bytes into a message"),)

    def send(self, frame: Frame) -> bytes:
        """Write a whole message. An answer that nobody waits for, as to a oneway request, gives no bytes.

        A ``Reset`` of a request still owed an answer is one: of its status, and empty. Raises LocalProtocolError.
        """
        if not isinstance(frame, Head):
            return self._send_reset(frame)
        head = frame.message
        if not frame.end or frame.interim:
            raise LocalProtocolError(f"{self._wire.name} sends messages whole")
        if isinstance(head, RequestHead):
            if not self._takes_responses:
                raise LocalProtocolError(f"a {self._wire.name} server cannot call its client")
            return self._patched(frame, None) or self._wire.request(
                frame.stream_id, head, frame.data
            )
        dialect = self._owed.get(frame.stream_id)
        if dialect is None:
            if not self._takes_requests:
                raise LocalProtocolError(f"a {self._wire.name} client was asked nothing")
            return b""
        written = self._patched(frame, dialect) or self._wire.response(
            frame.stream_id, head, frame.data, dialect
        )
        # Only now: had it failed, a local reply could still be sent.
        del self._owed[frame.stream_id]
        return written

    def _patched(self, frame: Head, dialect: int | None) -> bytes:
        origin = frame.origin
        if (
            origin is None
            or origin.message is not frame.message
            or origin.data is not frame.data
            or origin.codec != self._wire.name
        ):
            return b""
        return self._wire.patch(origin.raw, frame.stream_id, dialect)

    def _send_reset(self, frame: Frame) -> bytes:
        if not isinstance(frame, Reset):
            raise LocalProtocolError(
                f"{self._wire.name} cannot send a {type(frame).__name__} by itself"
            )
        dialect = self._owed.pop(frame.stream_id, None)
        if dialect is None or frame.status is Status.OK:
            return b""
        return self._wire.response(frame.stream_id, ResponseHead(status=frame.status), b"", dialect)

    def answer(self, frame: Head | Reset) -> bytes:
        """See SupportsRelay."""
        dialect = self._owed.get(frame.stream_id)
        if dialect is None:
            return b""
        if isinstance(frame, Reset):
            if frame.status is Status.OK:
                return b""
            head = ResponseHead(status=frame.status)
            return self._wire.response(frame.stream_id, head, b"", dialect)
        if not isinstance(frame.message, ResponseHead) or not frame.end or frame.interim:
            raise LocalProtocolError(f"{self._wire.name} answers with whole responses")
        return self._patched(frame, dialect) or self._wire.response(
            frame.stream_id, frame.message, frame.data, dialect
        )

    def answered(self, stream_id: int, raw: bytes) -> bytes:
        """See SupportsRelay: answers leave in any order."""
        return raw if self._owed.pop(stream_id, None) is not None else b""

    def snapshot(self) -> bytes:
        """Return the state for ``restored``."""
        return schema(self._wire.name).pack(
            MessageState(
                held=self._read_raw + self._held,
                owed=self._owed,
                dialect=self._dialect,
                goaway_heard=self._goaway_heard,
                over=self._over,
                refused=self.refused,
                skip=self._skip,
            )
        )

    def load(self, state: bytes) -> None:
        """Continue as the codec that wrote ``state``. Raises ValueError for anything else."""
        name, limits = self._wire.name, self._limits
        found = schema(name).unpack(state)
        most_owed = limits.max_streams
        if len(found.owed) > most_owed:
            raise ValueError(
                f"a snapshot of {name} owes {len(found.owed)} answers, limit {most_owed} (max_streams)"
            )
        most_skipped = SKIPPED_MESSAGES * limits.max_message_bytes
        if found.skip > most_skipped:
            raise ValueError(
                f"a snapshot of {name} skips {found.skip} bytes, limit {most_skipped}"
                " (max_message_bytes)"
            )
        self._held = bytearray(found.held)
        self._owed = found.owed
        self._dialect = found.dialect
        self._goaway_heard = found.goaway_heard
        self._over = found.over
        self.refused = found.refused
        self._skip = found.skip


class SlicedMessageCodec(MessageCodec):
    """A message protocol some of whose messages take a while to read."""

    __slots__ = ()

    @property
    def backlog(self) -> bool:
        """See SupportsBacklog."""
        return self._reading is not None

    @property
    def backlog_bytes(self) -> int:
        """See SupportsBacklog."""
        return len(self._read_raw) + len(self._held)


class HeartbeatMessageCodec(MessageCodec):
    """A message protocol with heartbeats."""

    __slots__ = ()

    def heartbeat(self) -> bytes:
        """Return a heartbeat request; its acknowledgement is swallowed."""
        return self._wire.heartbeat(self._dialect)


class GoAwayMessageCodec(MessageCodec):
    """A message protocol with goaway."""

    __slots__ = ()

    def goaway(self) -> bytes:
        """Return the announcement; empty if this peer might not understand it."""
        return self._wire.goaway(self._dialect) if self._goaway_known or self._goaway_heard else b""


class FullMessageCodec(HeartbeatMessageCodec, GoAwayMessageCodec):
    """A message protocol with both."""

    __slots__ = ()
