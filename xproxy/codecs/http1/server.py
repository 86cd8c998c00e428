"""The server's side: requests in, responses out, one after another.

Rules of this file:

* After a request is complete nothing of the next one is looked at until the response has been sent to its end. So its
  frames, and its errors, come in their turn.
* Once anything makes the end of this message doubtful (close, HTTP/1.0, an answer before the request was read, a
  violation) the connection serves nothing more: a request that hides behind that doubt is dropped unread.
* Every violation before a response head is answered by a whole response; after it only closing is honest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Final

import attrs

from xproxy.codecs.grpc.call import NATIVE, WEB
from xproxy.codecs.grpc.reply import reply
from xproxy.codecs.http1.block import Refused, find_end
from xproxy.codecs.http1.chunked import ChunkReader
from xproxy.codecs.http1.codec import GOAWAY, Http1Codec
from xproxy.codecs.http1.head import ParsedRequest
from xproxy.codecs.http1.memory import HeadMemory
from xproxy.codecs.http1.snapshot import MAX_BLANK_LINES, held_limit
from xproxy.codecs.http1.state import (
    CALL,
    CONNECT,
    HEAD_METHOD,
    HTTP10,
    PERSISTENT,
    READING_CHUNKED,
    READING_CLOSING,
    READING_DONE,
    READING_ENDED,
    READING_HEAD,
    READING_LENGTH,
    READING_TUNNEL,
    READING_TUNNEL_ASKED,
    STREAM_ID,
    UPGRADE,
    WEB_CALL,
    WRITING_CHUNKED,
    WRITING_DONE,
    WRITING_HEAD,
    WRITING_IDLE,
    WRITING_LENGTH,
    WRITING_NO_BODY,
    WRITING_SINK,
    WRITING_TUNNEL,
    WRITING_UNTIL_CLOSE,
)
from xproxy.codecs.http1.status import local_code
from xproxy.codecs.http1.wire import (
    CHUNKED,
    CLOSE,
    CRLF,
    KEEP_ALIVE,
    Encoded,
    encode_response,
    farewell,
    upgrade_lines,
)
from xproxy.codecs.http_upgrade import HANDSHAKE, without
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Frame, Head, Violation, whole
from xproxy.model.headers import NO_HEADERS
from xproxy.model.limits import Limits
from xproxy.model.message import SWITCHING, Local, RequestHead, ResponseHead
from xproxy.model.traits import Role

_GOAWAYS: Final = (GOAWAY,)

# The hot paths compare with these: a global is cheaper than an attribute of an enum.
_HEAD: Final = READING_HEAD
_DONE: Final = READING_DONE
_IDLE: Final = WRITING_IDLE
_ANSWER: Final = WRITING_HEAD


class ServerCodec(Http1Codec):
    """HTTP/1.1 towards a downstream."""

    __slots__ = ("_date",)
    role: ClassVar[Role] = Role.SERVER

    def __init__(self, limits: Limits, memory: HeadMemory) -> None:
        super().__init__(limits, memory, READING_HEAD)
        self._date: Callable[[], str] | None = None

    def use_clock(self, date: Callable[[], str]) -> None:
        """See SupportsDate."""
        self._date = date

    def _date_line(self) -> bytes:
        return b"" if self._date is None else f"Date: {self._date()}\r\n".encode()

    @property
    def unfinished(self) -> bool:
        """See SupportsProgress: half a head. A body has its own timeout, and what is held back is whole or waits."""
        return self._buffer is not None and self._reading is _HEAD

    # -- bytes in -----------------------------------------------------------------------------------------------

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        """Take bytes from the client. None is the end of its input; ``b""`` asks for a request held back."""
        if data and self._reading is _HEAD and self._buffer is None:
            end = data.find(b"\r\n\r\n") + 4
            if 4 <= end <= self._longest:
                parsed = self._memory.requests.get(data[:end]) or self._parse(data, end)
                if parsed is not None and parsed.length == len(data) - end:
                    # All of the message in one read.
                    self._reading = _DONE
                    self._writing = _ANSWER
                    self._flags = parsed.flags
                    self._blank_lines = 0
                    return parsed.whole or (whole(STREAM_ID, parsed.message, data[end:]),)
        elif data is None:
            self._ended = True
            data = b""
        elif not data and self._buffer is None and self._reading is _HEAD and not self._ended:
            return ()
        return self._receive(data)

    def _parse(self, data: bytes, end: int) -> ParsedRequest | None:
        """Parse a head that came in one read; None leaves empty lines before it, and its errors, to ``_receive``."""
        if data[0] == 0x0D:
            return None
        try:
            return self._memory.request(data[:end], self._limits, self._longest)
        except Refused:
            return None

    def _receive(self, data: bytes) -> list[Frame]:
        reading = self._reading
        if reading is READING_ENDED:
            return []
        if reading is READING_CLOSING:
            self._reading = READING_ENDED
            return list(_GOAWAYS)
        if reading is READING_TUNNEL:
            return self._receive_tunnel(data)
        if reading is READING_DONE or reading is READING_TUNNEL_ASKED:
            before = len(self._buffer) if self._buffer is not None else 0
            self._keep(self._source(data), 0)
            return self._hold(before if data else 0)

        frames: list[Frame] = []
        pieces: list[bytes] = []
        message: RequestHead | None = None
        trailers = NO_HEADERS
        refused: Refused | None = None
        source = self._source(data)
        used = 0
        try:
            if reading is READING_HEAD:
                used, parsed = self._read_head(source)
                if parsed is not None:
                    message = parsed.message
                    self._begin(parsed)
            if self._reading is READING_LENGTH or self._reading is READING_CHUNKED:
                used, trailers = self._read_body(source, used, pieces)
        except Refused as error:
            refused = error
        else:
            self._keep(source, used)
        reading = self._reading
        if message is not None or reading is not READING_HEAD:
            self._deliver(frames, message, pieces, trailers, end=reading is READING_DONE)
        if (
            refused is None
            and self._ended
            and reading is not READING_DONE
            and reading is not READING_TUNNEL_ASKED
        ):
            if reading is READING_HEAD and self._buffer is None:
                self._stop(READING_ENDED, WRITING_IDLE)
                return frames
            refused = Refused(400, "request truncated by the end of input")
        if refused is not None:
            frames.append(self._violation(refused))
            refused = None  # it knows this frame, by where it was raised
        elif self._buffer is not None and self._reading is not READING_HEAD:
            frames += self._hold(0)
        return frames

    def _read_head(self, source: bytes | bytearray) -> tuple[int, ParsedRequest | None]:
        start = 0
        while source.startswith(b"\r\n", start):
            if self._blank_lines == MAX_BLANK_LINES:
                raise Refused(400, f"more than {MAX_BLANK_LINES} empty lines before a request")
            self._blank_lines += 1
            self._searched = 0
            start += 2
        limit = self._limits.max_head_bytes
        try:
            end = find_end(source, start, self._searched, limit)
        except Refused as refused:
            if refused.code == 431 and source.find(b"\r\n", start, start + limit) < 0:
                raise Refused(414, f"request line is above {limit} bytes") from refused
            raise
        if end < 0:
            self._searched = len(source) - start
            return start, None
        self._searched = 0
        self._blank_lines = 0
        return end, self._memory.request(bytes(source[start:end]), self._limits, self._longest)

    def _begin(self, parsed: ParsedRequest) -> None:
        self._writing = WRITING_HEAD
        self._flags = parsed.flags
        if parsed.chunked:
            self._reading = READING_CHUNKED
            self._chunks = ChunkReader(self._limits)
        elif parsed.length > 0:
            self._reading = READING_LENGTH
            self._left = parsed.length
        elif parsed.flags & (CONNECT | UPGRADE):
            self._reading = READING_TUNNEL_ASKED
            if parsed.flags & UPGRADE:
                self._upgrade = parsed.message.extra.upgrade
                self._accept = parsed.accept
        else:
            self._reading = READING_DONE

    def _hold(self, held: int) -> list[Frame]:
        """Bound what is held back behind the message under way; ``held``: before the bytes that just came.

        What one call brings is there already: to judge by it would make the outcome depend on how the bytes were cut.
        """
        limit = held_limit(self._limits)
        if self._reading is READING_TUNNEL_ASKED:
            if held > limit:
                return [
                    self._violation(
                        Refused(400, f"above {limit} bytes into a tunnel that was not granted yet")
                    )
                ]
        elif self._reading is READING_DONE and (held > limit or not self._flags & PERSISTENT):
            # Never to be served: no answer says anything of these requests, so the client may ask again elsewhere.
            self._flags &= ~PERSISTENT
            self._buffer = None
        return []

    def _violation(self, refused: Refused) -> Violation:
        bytes_out = b""
        if self._writing is WRITING_IDLE or self._writing is WRITING_HEAD:
            bodyless = self._writing is WRITING_HEAD and bool(self._flags & HEAD_METHOD)
            bytes_out = farewell(
                refused.code, refused.detail, bodyless=bodyless, fields=self._date_line()
            )
            self._stop(READING_ENDED, WRITING_SINK)
        else:
            self._stop(READING_ENDED, self._writing)
        code = refused.code if bytes_out else None
        return Violation(refused.detail, bytes_out, native_status=code)

    # -- bytes out ----------------------------------------------------------------------------------------------

    def send(self, frame: Frame) -> bytes:
        """Return the bytes for ``frame``. Raises LocalProtocolError."""
        if (
            type(frame) is Head
            and frame.end
            and self._flags == PERSISTENT
            and self._writing is _ANSWER
            and self._reading is _DONE
            and not self._draining
            and frame.stream_id == STREAM_ID
            and not frame.interim
        ):
            # A whole response to a plain, completely read HTTP/1.1 request.
            message = frame.message
            encoded = self._memory.encoded.get(message)
            if encoded is None and type(message) is ResponseHead:
                encoded = self._memory.encode(message)
            if encoded is not None and encoded.simple and encoded.code:
                self._writing = _IDLE
                self._reading = _HEAD
                data = frame.data
                return b"%b%d\r\n\r\n%b" % (encoded.sized, len(data), data)
        return super().send(frame)

    def _send_head(self, frame: Head) -> bytes:
        message = frame.message
        if not isinstance(message, ResponseHead):
            raise LocalProtocolError("a server sends responses only")
        if (
            self._writing is WRITING_IDLE
            and self._buffer is not None
            and frame.end
            and message.native_status is None
        ):
            # Half a head, and the other half is not waited for: the one answer a client can get before it has asked.
            self._stop(READING_ENDED, WRITING_SINK)
            detail = message.extra.detail if isinstance(message.extra, Local) else ""
            code, line = local_code(message), self._date_line()
            return farewell(code, detail, bodyless=False, fields=line)
        if self._writing is not WRITING_HEAD:
            raise LocalProtocolError(
                f"response head where there can be none ({self._writing.value})"
            )
        made_here = message.native_status is None or type(message.extra) is Local
        if self._flags & CALL and message.native_status is None and frame.end:
            # The text, if somebody gave the reply one, is in its head.
            message = reply(message, WEB if self._flags & WEB_CALL else NATIVE)
            frame = whole(STREAM_ID, message, b"")
        encoded = self._memory.encoded.get(message) or self._memory.encode(message)
        if encoded.code == SWITCHING and self._upgrade and not frame.interim:
            return self._switch(frame, message)
        if frame.interim or encoded.code < 200:
            return self._interim(frame, encoded)
        if self._flags & CONNECT and encoded.code < 300:
            return self._grant(frame, encoded)
        if self._upgrade:
            # Not granted, or passed over: what came behind the request are requests.
            self._upgrade = self._accept = ""
            self._reading = READING_DONE

        data = frame.data
        bodyless = encoded.bodyless or bool(self._flags & HEAD_METHOD)
        framing = b""
        if made_here and self._date is not None and "date" not in message.headers:
            framing = self._date_line()
        closing = self._draining or not self._flags & PERSISTENT
        if frame.end:
            # The rest of the request is not going to be read: what follows it could not be found.
            closing = closing or self._reading is not READING_DONE
            if not data and encoded.local_body:
                data = encoded.local_body
                framing += encoded.text_type
            if not bodyless:
                framing += b"Content-Length: %d\r\n" % len(data)
            elif encoded.code != 204 and (encoded.declared is not None or data):
                declared = encoded.declared if encoded.declared is not None else len(data)
                framing += b"Content-Length: %d\r\n" % declared
            body = b"" if bodyless else data
            following = WRITING_NO_BODY
        else:
            if bodyless:
                following = WRITING_NO_BODY
                if encoded.declared is not None and encoded.code != 204:
                    framing += b"Content-Length: %d\r\n" % encoded.declared
            elif encoded.declared is not None:
                following = WRITING_LENGTH
                framing += b"Content-Length: %d\r\n" % encoded.declared
            elif self._flags & HTTP10:
                following = WRITING_UNTIL_CLOSE
                closing = True
            else:
                following = WRITING_CHUNKED
                framing += CHUNKED + encoded.trailer
            body = b""
        if closing:
            self._flags &= ~PERSISTENT
            framing += CLOSE
            if self._reading is READING_DONE:
                self._buffer = None
        elif self._flags & HTTP10:
            framing += KEEP_ALIVE
        self._writing = following
        if frame.end:
            self._sent()
        else:
            self._owed = (encoded.declared or 0) if following is WRITING_LENGTH else 0
            if data:
                body = self._body(data, end=False)
        return b"%b%b\r\n%b" % (encoded.prefix, framing, body)

    def _interim(self, frame: Head, encoded: Encoded) -> bytes:
        code = encoded.code
        if not frame.interim or code >= 200 or frame.data or frame.end:
            raise LocalProtocolError(
                f"{code} in a frame that is not its kind (interim is {frame.interim})"
            )
        if code == 101:
            raise LocalProtocolError("101 without an upgrade that was asked for")
        return b"" if self._flags & HTTP10 else encoded.prefix + CRLF

    def _grant(self, frame: Head, encoded: Encoded) -> bytes:
        """Answer CONNECT with 2xx: no framing, and from here on a tunnel (RFC 9110 §9.3.6)."""
        if self._reading is not READING_TUNNEL_ASKED:
            raise LocalProtocolError("the client's side of the tunnel has ended")
        self._reading = READING_TUNNEL
        self._writing = WRITING_DONE if frame.end else WRITING_TUNNEL
        return encoded.prefix + CRLF + frame.data

    def _switch(self, frame: Head, message: ResponseHead) -> bytes:
        """Grant the upgrade: no framing, and from here on a tunnel (RFC 9110 §7.8)."""
        lines = upgrade_lines(self._upgrade)
        if self._accept:
            # The client asked with its own key, whatever the upstream was asked with.
            lines += f"Sec-WebSocket-Accept: {self._accept}\r\n".encode()
            message = attrs.evolve(message, headers=without(message.headers, HANDSHAKE))
        self._upgrade = self._accept = ""
        self._reading = READING_TUNNEL
        self._writing = WRITING_DONE if frame.end else WRITING_TUNNEL
        return encode_response(message).prefix + lines + CRLF + frame.data

    def _sent(self) -> None:
        if self._writing is WRITING_TUNNEL:
            self._writing = WRITING_DONE
        elif self._reading is READING_ENDED:
            self._stop(READING_ENDED, WRITING_DONE)
        elif self._reading is READING_DONE and self._flags & PERSISTENT:
            self._reading = READING_HEAD
            self._writing = WRITING_IDLE
        else:
            self._stop(READING_CLOSING, WRITING_DONE)
