"""The client's side: requests out, responses in, one at a time.

Rules of this file:

* A connection is good for another request only after a response that was read to its end, with not a byte behind it:
  a byte more is a response that nobody asked for (response splitting).
* When it is not good for another one, a GoAway follows the last frame of the response at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from xproxy.codecs.grpc.answer import to_caller
from xproxy.codecs.http1.block import Refused, find_end
from xproxy.codecs.http1.chunked import ChunkReader
from xproxy.codecs.http1.codec import GOAWAY, Http1Codec
from xproxy.codecs.http1.head import ParsedResponse
from xproxy.codecs.http1.memory import HeadMemory
from xproxy.codecs.http1.state import (
    CALL,
    CONNECT,
    HEAD_METHOD,
    PERSISTENT,
    READING_CHUNKED,
    READING_CLOSING,
    READING_DONE,
    READING_ENDED,
    READING_HEAD,
    READING_IDLE,
    READING_LENGTH,
    READING_TUNNEL,
    READING_UNTIL_CLOSE,
    STREAM_ID,
    UPGRADE,
    WRITING_CHUNKED,
    WRITING_DONE,
    WRITING_IDLE,
    WRITING_LENGTH,
    WRITING_SINK,
    WRITING_TUNNEL,
    WRITING_TUNNEL_ASKED,
)
from xproxy.codecs.http1.wire import CHUNKED, CRLF
from xproxy.codecs.http_upgrade import ACCEPT
from xproxy.codecs.other_protocol import other_protocol
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Frame, Head, Violation, whole
from xproxy.model.headers import NO_HEADERS, Headers
from xproxy.model.limits import Limits
from xproxy.model.message import SWITCHING, RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

_UNASKED: Final = "bytes behind the response, or without a request"

_BODIES: Final = frozenset({READING_LENGTH, READING_CHUNKED, READING_UNTIL_CLOSE, READING_TUNNEL})

# The hot paths compare with these: a global is cheaper than an attribute of an enum.
_AWAITED: Final = READING_HEAD
_QUIET: Final = READING_IDLE
_IDLE: Final = WRITING_IDLE
_ASKED: Final = WRITING_DONE


class ClientCodec(Http1Codec):
    """HTTP/1.1 towards an upstream."""

    __slots__ = ()
    role: ClassVar[Role] = Role.CLIENT

    def __init__(self, limits: Limits, memory: HeadMemory) -> None:
        super().__init__(limits, memory, READING_IDLE)

    # -- bytes in -----------------------------------------------------------------------------------------------

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        """Take bytes from the server. None is the end of its input."""
        if data and self._reading is _AWAITED and self._buffer is None:
            end = data.find(b"\r\n\r\n") + 4
            if 4 <= end <= self._longest and not self._flags and self._writing is _ASKED:
                parsed = self._memory.responses.get(data[:end]) or self._parse(data, end)
                if parsed is not None and parsed.length == len(data) - end and parsed.persistent:
                    # All of the message in one read.
                    self._reading = _QUIET
                    self._writing = _IDLE
                    return (whole(STREAM_ID, parsed.message, data[end:]),)
        elif data is None:
            self._ended = True
            data = b""
        return self._receive(data)

    def _parse(self, data: bytes, end: int) -> ParsedResponse | None:
        """Parse a head that came in one read; None leaves its errors to ``_receive``."""
        try:
            return self._memory.response(data[:end], self._limits, self._longest)
        except Refused:
            return None

    def _receive(self, data: bytes) -> list[Frame]:
        reading = self._reading
        if reading is READING_ENDED:
            return []
        if reading is READING_CLOSING:
            self._reading = READING_ENDED
            return [GOAWAY]
        if reading is READING_TUNNEL:
            return self._receive_tunnel(data)
        frames: list[Frame] = []
        try:
            self._read(data, frames)
            if self._ended:
                self._end(frames)
        except Refused as refused:
            self._stop(READING_ENDED, WRITING_SINK)
            frames.append(Violation(refused.detail, b"", Status.UNAVAILABLE))
        return frames

    def _read(self, data: bytes, frames: list[Frame]) -> None:
        """Add the frames that ``data`` brings. Raises Refused after the good ones."""
        message: ResponseHead | None = None
        source = self._source(data)
        used = 0
        while self._reading is READING_HEAD:
            used, parsed = self._read_head(source, used)
            if parsed is None:
                break
            if parsed.code < 200 and parsed.code != SWITCHING:
                frames.append(Head(STREAM_ID, parsed.message, interim=True))
                continue
            message = to_caller(parsed.message) if self._flags & CALL else parsed.message
            self._begin(parsed)
        pieces: list[bytes] = []
        trailers: Headers = NO_HEADERS
        started = message is not None or self._reading not in (READING_HEAD, READING_IDLE)
        try:
            if self._reading in _BODIES:
                used, trailers = self._read_body(source, used, pieces)
        finally:
            if started:
                self._deliver(frames, message, pieces, trailers, end=self._reading is READING_DONE)
        more = len(source) > used
        if self._reading is READING_DONE:
            self._finish(frames)
        if self._reading is READING_IDLE and more:
            raise Refused(502, _UNASKED)
        if self._reading is not READING_ENDED:
            self._keep(source, used)

    def _read_head(
        self, source: bytes | bytearray, start: int
    ) -> tuple[int, ParsedResponse | None]:
        if not source.startswith(b"HTTP/", start):
            other = other_protocol(bytes(source[start : start + 16]), "HTTP/1.1")
            if other:
                raise Refused(502, other)
        end = find_end(source, start, self._searched, self._limits.max_head_bytes)
        if end < 0:
            self._searched = len(source) - start
            return start, None
        self._searched = 0
        parsed = self._memory.response(bytes(source[start:end]), self._limits, self._longest)
        if parsed.code == SWITCHING:
            self._check_switch(parsed)
        return end, parsed

    def _check_switch(self, parsed: ParsedResponse) -> None:
        """Refuse a 101 that is no answer to what was asked (RFC 9110 §7.8, RFC 6455 §4.1). Raises Refused."""
        if not self._upgrade:
            raise Refused(502, "101 without an upgrade that was asked for")
        if parsed.upgrade != self._upgrade:
            raise Refused(502, "101 to something else than was asked for")
        if self._accept and parsed.message.headers.get_all(ACCEPT) != [self._accept]:
            raise Refused(502, f"101 with a {ACCEPT} that does not fit the key")

    def _begin(self, parsed: ParsedResponse) -> None:
        if parsed.persistent:
            self._flags |= PERSISTENT
        self._upgrade = self._accept = ""
        if parsed.code == SWITCHING or (self._flags & CONNECT and parsed.code < 300):
            self._reading = READING_TUNNEL
            self._writing = (
                WRITING_TUNNEL if self._writing is WRITING_TUNNEL_ASKED else WRITING_DONE
            )
        elif self._flags & HEAD_METHOD or parsed.length == 0:
            self._reading = READING_DONE
        elif parsed.misframed:
            raise Refused(502, parsed.misframed)
        elif parsed.chunked:
            self._reading = READING_CHUNKED
            self._chunks = ChunkReader(self._limits)
        elif parsed.length > 0:
            self._reading = READING_LENGTH
            self._left = parsed.length
        else:
            self._reading = READING_UNTIL_CLOSE

    def _finish(self, frames: list[Frame]) -> None:
        """End the exchange, and the connection with it unless everything about it is settled."""
        if self._flags & PERSISTENT and self._writing in (WRITING_DONE, WRITING_TUNNEL_ASKED):
            self._reading = READING_IDLE
            self._writing = WRITING_IDLE
            self._flags = 0
        else:
            frames.append(GOAWAY)
            self._stop(READING_ENDED, WRITING_SINK)

    def _end(self, frames: list[Frame]) -> None:
        """Take the end of the server's input. Raises Refused if it comes too early."""
        if self._reading is READING_UNTIL_CLOSE:
            self._deliver(frames, None, [], NO_HEADERS, end=True)
            frames.append(GOAWAY)
            self._stop(READING_ENDED, WRITING_SINK)
        elif self._reading is READING_IDLE:
            self._stop(READING_ENDED, WRITING_IDLE)
        elif self._reading is READING_HEAD and self._buffer is None:
            raise Refused(502, "end of input before a response")
        elif self._reading is not READING_ENDED:
            raise Refused(502, "response truncated by the end of input")

    # -- bytes out ----------------------------------------------------------------------------------------------

    def send(self, frame: Frame) -> bytes:
        """Return the bytes for ``frame``. Raises LocalProtocolError."""
        if (
            type(frame) is Head
            and frame.end
            and self._reading is _QUIET
            and not frame.data
            and frame.stream_id == STREAM_ID
        ):
            # A whole request of a method that has no body.
            message = frame.message
            if type(message) is RequestHead and message.base is not None:
                whole = self._memory.derived(message, message.base)
                if whole is not None:
                    self._reading = _AWAITED
                    self._writing = _ASKED
                    return whole
            encoded = self._memory.encoded.get(message) or self._memory.encode(message)
            if encoded.whole:
                self._reading = _AWAITED
                self._writing = _ASKED
                return encoded.whole
        return super().send(frame)

    def _send_head(self, frame: Head) -> bytes:
        message = frame.message
        if not isinstance(message, RequestHead):
            raise LocalProtocolError("a client sends requests only")
        if self._reading is not READING_IDLE or self._writing is not WRITING_IDLE:
            raise LocalProtocolError(
                f"request on a connection that is not idle ({self._reading.value})"
            )
        encoded = self._memory.encoded.get(message) or self._memory.encode(message)
        data = frame.data
        framing = b""
        body = b""
        if encoded.flags & CONNECT:
            if data:
                raise LocalProtocolError("CONNECT with a body")
            following = WRITING_DONE if frame.end else WRITING_TUNNEL_ASKED
        elif encoded.flags & UPGRADE:
            if data or frame.end:
                raise LocalProtocolError("an upgrade with a body, or without a tunnel behind it")
            following = WRITING_TUNNEL_ASKED
            self._upgrade = encoded.upgrade
            self._accept = encoded.accept
        elif frame.end:
            following = WRITING_DONE
            if data or encoded.wants_length:
                framing = b"Content-Length: %d\r\n" % len(data)
            body = data
        elif (
            encoded.declared is not None
            and not encoded.trailer
            and (not data or len(data) != encoded.declared)
        ):
            following = WRITING_LENGTH
            framing = b"Content-Length: %d\r\n" % encoded.declared
        else:
            # Of unknown length; or trailers come behind a known one, as they were announced or as all of the data is
            # here and not the end. Chunks alone can carry them (RFC 9110 §6.5).
            following = WRITING_CHUNKED
            framing = CHUNKED + encoded.trailer
        self._reading = READING_HEAD
        self._writing = following
        self._flags = encoded.flags
        if not frame.end:
            self._owed = (encoded.declared or 0) if following is WRITING_LENGTH else 0
            if data:
                body = self._body(data, end=False)
        return b"%b%b%b%b" % (encoded.prefix, framing, CRLF, body)

    def _sent(self) -> None:
        self._writing = WRITING_DONE
