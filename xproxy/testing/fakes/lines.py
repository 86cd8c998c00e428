r"""``lines``: whole messages that a person can read (sharing MESSAGES).

A message is a line and a body. The line: ``~`` and the kind, then words, quoted as in URLs::

    ~q ID SERVICE METHOD LENGTH FIELDS\n     request; ~o: oneway
    ~s ID STATUS LENGTH FIELDS\n             response; STATUS is the number of the neutral status
    ~h\n and ~H\n                            heartbeat and its answer
    ~g\n                                     goodbye

FIELDS are ``name=value`` joined with ``&``, or ``-`` for none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, unquote

import attrs

from xproxy.codecs.api import NO, YES, Hint, Verdict
from xproxy.codecs.packing import MAX_STATE_BYTES
from xproxy.codecs.state_kinds import FLAG, choice, octets
from xproxy.codecs.state_schema import StateRecord, StateSchema, state_field
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Frame, GoAway, Head, Origin, Reply, Violation
from xproxy.model.headers import NO_HEADERS, Headers
from xproxy.model.limits import Limits
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role, Sharing, Traits

_NAME: Final = "lines"
_NUMBER: Final = re.compile(rb"[0-9]{1,10}")


class _Bad(Exception):
    """The line is not one of ours; becomes a Violation."""


def _quote(text: str) -> str:
    # An empty word would vanish between two spaces.
    return quote(text, safe="", errors="surrogateescape") or "%"


def _unquote(word: bytes) -> str:
    if word == b"%":
        return ""
    return unquote(word.decode("ascii", "replace"), errors="surrogateescape")


def _number(word: bytes) -> int:
    if not _NUMBER.fullmatch(word):
        raise _Bad("a number was expected")
    return int(word)


def _write_fields(headers: Headers) -> str:
    return "&".join(f"{_quote(name)}={_quote(value)}" for name, value in headers) or "-"


def _read_fields(word: bytes, limit: int) -> Headers:
    if word == b"-":
        return NO_HEADERS
    pairs = [field.partition(b"=") for field in word.split(b"&")]
    if len(pairs) > limit:
        raise _Bad(f"{len(pairs)} fields, limit {limit} (max_headers)")
    return Headers((_unquote(name), _unquote(value)) for name, _, value in pairs)


@attrs.define(eq=False)
class LinesCodec:
    """One connection. Keeps nothing but bytes that make no message yet: ids are matched by the driver."""

    role: Role
    limits: Limits
    _buffer: bytearray = attrs.field(factory=bytearray)
    _searched: int = 0
    """Bytes of the buffer known to hold no line end."""
    _violated: bool = False

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        """See the codec contract."""
        if self._violated:
            return ()
        frames: list[Frame] = []
        try:
            if data is None:
                if self._buffer:
                    raise _Bad("the input ends within a message")
                return ()
            self._buffer += data
            self._read(frames)
        except _Bad as exc:
            self._violated = True
            self._buffer.clear()
            frames.append(Violation(str(exc)))
        return frames

    def _read(self, frames: list[Frame]) -> None:
        buffer, position = self._buffer, 0
        try:
            while True:
                end = buffer.find(b"\n", max(position, self._searched))
                line_size = (len(buffer) if end < 0 else end) - position
                if line_size > self.limits.max_head_bytes:
                    raise _Bad(f"line above {self.limits.max_head_bytes} bytes (max_head_bytes)")
                if line_size >= 1 and buffer[position] != ord("~"):
                    raise _Bad("a message does not begin with ~")
                if end < 0:
                    self._searched = len(buffer)
                    return
                self._searched = end
                words = bytes(buffer[position + 1 : end]).split(b" ")
                size = self._body_size(words)
                if len(buffer) < end + 1 + size:
                    return
                raw = bytes(buffer[position : end + 1 + size])
                message = self._message(words, raw, raw[len(raw) - size :])
                if message is not None:
                    frames.append(message)
                position = end + 1 + size
                self._searched = position
        finally:
            # One move for all messages of a read: what is copied never grows with their number.
            del buffer[:position]
            self._searched = max(0, self._searched - position)

    def _body_size(self, words: list[bytes]) -> int:
        match words:
            case [b"q" | b"o", _, _, _, length, _] | [b"s", _, _, length, _]:
                size = _number(length)
                if size > self.limits.max_message_bytes:
                    limit = self.limits.max_message_bytes
                    raise _Bad(f"body is {size} bytes, limit {limit} (max_message_bytes)")
                return size
            case [b"h" | b"H" | b"g"]:
                return 0
            case _:
                raise _Bad("unknown kind of message, or a wrong number of words")

    def _message(self, words: list[bytes], raw: bytes, body: bytes) -> Frame | None:
        message: RequestHead | ResponseHead
        match words:
            case [kind, id_, service, method, _, fields]:
                message = RequestHead(
                    service=_unquote(service),
                    method=_unquote(method),
                    headers=_read_fields(fields, self.limits.max_headers),
                    oneway=kind == b"o",
                )
            case [_, id_, code, _, fields]:
                native = _number(code)
                message = ResponseHead(
                    status=status_of(native),
                    native_status=native,
                    headers=_read_fields(fields, self.limits.max_headers),
                )
            case [b"h"]:
                return Reply(b"~H\n")
            case [b"H"]:
                return None
            case _:
                return GoAway()
        return Head(_number(id_), message, body, end=True, origin=Origin(_NAME, raw, message, body))

    def send(self, frame: Frame) -> bytes:
        """See the codec contract."""
        if not isinstance(frame, Head) or not frame.end or frame.interim:
            raise LocalProtocolError("lines has whole messages only")
        if not 0 <= frame.stream_id < 10**10:
            raise LocalProtocolError(f"id {frame.stream_id} has no place in a line")
        origin, message = frame.origin, frame.message
        if (
            origin is not None
            and origin.codec == _NAME
            and origin.message is message
            and origin.data is frame.data
        ):
            kind, _, rest = origin.raw.split(b" ", 2)
            return b"%b %d %b" % (kind, frame.stream_id, rest)
        try:
            return self._line(frame.stream_id, message, len(frame.data)).encode() + frame.data
        except UnicodeError as exc:
            raise LocalProtocolError("a text of the head has no bytes") from exc

    def _line(self, stream_id: int, message: RequestHead | ResponseHead, size: int) -> str:
        fields = _write_fields(message.headers)
        if isinstance(message, RequestHead):
            kind = "o" if message.oneway else "q"
            names = f"{_quote(message.service)} {_quote(message.method)}"
            return f"~{kind} {stream_id} {names} {size} {fields}\n"
        native = message.native_status
        code = message.status.value if native is None else native
        return f"~s {stream_id} {code} {size} {fields}\n"

    def heartbeat(self) -> bytes:
        """See SupportsHeartbeat."""
        return b"~h\n"

    def goaway(self) -> bytes:
        """See SupportsGoAway."""
        return b"~g\n"

    def snapshot(self) -> bytes:
        """See SupportsSnapshot."""
        return _STATE.pack(_State(self.role, bytes(self._buffer), self._violated))


@attrs.frozen
class _State:
    """All that a codec's future depends on."""

    role: Role
    held: bytes
    violated: bool


_STATE: Final = StateSchema(
    _NAME,
    1,
    StateRecord(
        _State,
        state_field("role", choice(Role)),
        state_field("held", octets(MAX_STATE_BYTES), b""),
        state_field("violated", FLAG, False),
    ),
)


def status_of(native_status: int) -> Status:
    """Return the neutral status; numbers that are none are UNKNOWN."""
    try:
        return Status(native_status)
    except ValueError:
        return Status.UNKNOWN


@attrs.frozen(kw_only=True)
class LinesPlugin:
    """The plugin; tests that need more than one protocol may rename it or change its traits."""

    name: str = _NAME
    traits: Traits = Traits(sharing=Sharing.MESSAGES, oneway=True, reverse=True, rank=90)

    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        """Look for ``~``."""
        if not prefix:
            return Verdict.more(1)
        return YES if prefix[0] == ord("~") else NO

    def open(self, role: Role, limits: Limits) -> LinesCodec:
        """Start a connection."""
        return LinesCodec(role, limits)

    def status_of(self, native_status: int) -> Status:
        """See SupportsNativeStatus."""
        return status_of(native_status)

    def restore(self, state: bytes, role: Role, limits: Limits) -> LinesCodec:
        """See RestoringPlugin."""
        found = _STATE.unpack(state)
        if found.role is not role:
            raise ValueError("a snapshot of the other side")
        return LinesCodec(role, limits, bytearray(found.held), 0, found.violated)


LINES: Final = LinesPlugin()
