"""RESP2, the protocol of Redis, as a codec: serial, pipelined, messages whole, connections with a state.

A command is an array of bulk strings: the first is the method, the last the body, those between are ``extra``. An
answer is any value; the native status is its first byte. Inline commands, subscriptions and RESP3 are not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from xproxy.api import (
    NO,
    YES,
    Codec,
    Frame,
    Head,
    Hint,
    Limits,
    LocalProtocolError,
    RequestHead,
    Reset,
    ResponseHead,
    Role,
    Samples,
    Sharing,
    Status,
    Traits,
    Verdict,
    Violation,
)

SERVICE: Final = "redis"
ARRAY, BULK, NIL, SIMPLE, NUMBER, ERROR = (ord(c) for c in "*$_+:-")
"""Native statuses. ``_`` is the bulk string that is none."""
_LONGEST_COUNT: Final = 16
_DIGITS: Final = 7
_MOST_VALUES: Final = 100_000
_FAILURES: Final = {
    b"NOAUTH": Status.UNAUTHENTICATED,
    b"NOPERM": Status.PERMISSION_DENIED,
    b"OOM": Status.RESOURCE_EXHAUSTED,
    b"LOADING": Status.UNAVAILABLE,
}


class Malformed(ValueError):
    """The bytes are no value of RESP2."""


@attrs.frozen
class Arguments:
    """What a command has between its name and its last argument."""

    middle: tuple[bytes, ...] = ()
    bare: bool = False
    """It has no argument at all."""


class Walker:
    """Finds the end of one value, and goes on where it was."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.reset()

    def reset(self) -> None:
        self.at = 0
        self.items: list[bytes] = []
        """Bulk strings met, of a command."""
        self._values = 1
        self._met = 0
        self._scanned = 0

    def walk(self, held: bytearray, *, command: bool = False) -> bool:
        """Say whether a whole value is there, which ends at ``at``. Raises Malformed."""
        while self._values:
            line_end = held.find(b"\r\n", max(self.at, self._scanned - 1))
            if line_end < 0:
                self._scanned = len(held)
                counted = self.at < len(held) and held[self.at] not in b"+-"
                longest = _LONGEST_COUNT if counted else self._limits.max_head_bytes
                if len(held) - self.at > longest:
                    raise Malformed("a line is too long")
                self._check(held[self.at : self.at + 1], command)
                return False
            self._check(held[self.at : self.at + 1], command)
            kind, text, after = held[self.at], bytes(held[self.at + 1 : line_end]), line_end + 2
            if kind in (ARRAY, BULK):
                size = self._count(text, kind, command)
                if kind == BULK and size >= 0:
                    if after + size + 2 > len(held):
                        return False
                    if held[after + size : after + size + 2] != b"\r\n":
                        raise Malformed("a bulk string without its end")
                    if command:
                        self.items.append(bytes(held[after : after + size]))
                    after += size + 2
                elif kind == ARRAY:
                    self._values += max(size, 0)
            elif len(text) > self._limits.max_head_bytes:
                raise Malformed("a line is too long")
            self._values -= 1
            self._met += 1
            if self._values + self._met > _MOST_VALUES:
                raise Malformed("too many values")
            self.at = self._scanned = after
            if self.at > self._limits.max_message_bytes + 64:
                raise Malformed("a message is too long")
        return True

    def _check(self, kind: bytearray, command: bool) -> None:
        allowed = (b"$" if self._met else b"*") if command else b"*$+:-"
        if kind and kind not in allowed:
            raise Malformed(f"a value of type {kind[0]:#x}")

    def _count(self, text: bytes, kind: int, command: bool) -> int:
        digits = text.removeprefix(b"-") if not command else text
        if not digits.isdigit() or len(digits) > _DIGITS or (digits[:1] == b"0" and digits != b"0"):
            raise Malformed("a count that is none")
        size = int(text)
        if size < (1 if command and kind == ARRAY else 0 if command else -1):
            raise Malformed("a count below the least")
        if self.at + max(size, 0) > self._limits.max_message_bytes:
            raise Malformed(f"{size} bytes or values, limit {self._limits.max_message_bytes}")
        return size


class RedisCodec:
    """One connection, either end of it."""

    def __init__(self, role: Role, limits: Limits) -> None:
        self._serves = role is Role.SERVER
        self._limits = limits
        self._held = bytearray()
        self._walker = Walker(limits)
        self._busy = False
        """A command is unanswered."""
        self._over = False

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        if self._over:
            return ()
        if data is None:
            return self._end("input ended within a message") if self._held else ()
        self._held += data
        if self._serves and self._busy:
            # Commands wait in here for their turn; what is more than this, the peer must keep.
            most = self._limits.max_message_bytes + 128 * 1024
            return self._end("too much was sent ahead") if len(self._held) > most else ()
        if not self._held:
            return ()
        if not self._serves and not self._busy:
            return self._end("an answer to nothing")
        try:
            if not self._walker.walk(self._held, command=self._serves):
                return ()
        except Malformed as exc:
            return self._end(str(exc))
        raw, items = bytes(self._held[: self._walker.at]), self._walker.items
        del self._held[: len(raw)]
        self._walker.reset()
        self._busy = self._serves
        message, body = _asked(items) if self._serves else _told(raw)
        frames: list[Frame] = [Head(1, message, body, end=True)]
        if not self._serves and self._held:
            frames += self._end("an answer to nothing")
        return frames

    def _end(self, detail: str) -> Sequence[Frame]:
        self._over = True
        self._held.clear()
        return (Violation(f"redis: {detail}", b"-ERR Protocol error\r\n" * self._serves),)

    def send(self, frame: Frame) -> bytes:
        if isinstance(frame, Reset) and self._serves and self._busy:
            self._busy = False
            return b"-ERR %b\r\n" % frame.status.name.encode()
        if isinstance(frame, Reset):
            return b""
        if not isinstance(frame, Head) or not frame.end or frame.interim:
            raise LocalProtocolError(f"redis has no {type(frame).__name__}: messages come whole")
        if self._busy is not self._serves:
            raise LocalProtocolError("redis has one command at a time")
        if isinstance(frame.message, RequestHead) is self._serves:
            raise LocalProtocolError("this side does not say that")
        wire = (
            _command(frame.message, frame.data)
            if isinstance(frame.message, RequestHead)
            else _answer(frame.message, frame.data, self._limits)
        )
        self._busy = not self._serves
        return wire


def _asked(items: list[bytes]) -> tuple[RequestHead, bytes]:
    extra = Arguments(tuple(items[1:-1]), bare=len(items) == 1)
    head = RequestHead(service=SERVICE, method=items[0].decode("latin-1"), extra=extra)
    return head, b"" if extra.bare else items[-1]


def _told(raw: bytes) -> tuple[ResponseHead, bytes]:
    kind, status = raw[0], Status.OK
    line, _, rest = raw[1:].partition(b"\r\n")
    body = line
    if kind == BULK:
        kind, body = (NIL, b"") if line == b"-1" else (BULK, rest[:-2])
    elif kind == ARRAY:
        body = raw
    elif kind == ERROR:
        status = _FAILURES.get(line.split(b" ")[0], Status.INVALID_ARGUMENT)
    return ResponseHead(status=status, native_status=kind), body


def _bulk(data: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)


def _command(head: RequestHead, body: bytes) -> bytes:
    extra = head.extra if isinstance(head.extra, Arguments) else Arguments()
    try:
        items = [head.method.encode("latin-1"), *extra.middle]
    except UnicodeEncodeError as exc:
        raise LocalProtocolError("a command of other letters") from exc
    if not extra.bare or body:
        items.append(body)
    return b"*%d\r\n%b" % (len(items), b"".join(map(_bulk, items)))


def _answer(head: ResponseHead, body: bytes, limits: Limits) -> bytes:
    kind = head.native_status
    if kind is None or kind not in (ARRAY, BULK, NIL, SIMPLE, NUMBER, ERROR):
        failed = head.status is not Status.OK
        kind, body = (ERROR, b"ERR " + head.status.name.encode()) if failed else (BULK, body)
    if kind == BULK:
        return _bulk(body)
    if kind == NIL:
        return b"$-1\r\n"
    wire = body if kind == ARRAY else b"%c%b\r\n" % (kind, body)
    walker = Walker(limits)
    try:
        whole = walker.walk(bytearray(wire)) and walker.at == len(wire)
    except Malformed as exc:
        raise LocalProtocolError(f"no answer of redis: {exc}") from exc
    if not whole:
        raise LocalProtocolError("no whole answer of redis")
    return wire


TRAITS: Final = Traits(sharing=Sharing.SERIAL, whole_bodies=True, stateful=True, rank=80)


@attrs.frozen(kw_only=True)
class RedisPlugin:
    """The plugin."""

    name: str = "redis"
    traits: Traits = TRAITS

    def detect(self, prefix: bytes, hint: Hint) -> Verdict:
        """An array of at least one bulk string."""
        if not b"*".startswith(prefix[:1]):
            return NO
        count, ended, rest = prefix[1:].partition(b"\r\n")
        digits = count if ended else count.removesuffix(b"\r")
        if digits and (not digits.isdigit() or digits[:1] == b"0" or len(digits) > 5):
            return NO
        if not ended:
            return Verdict.more(len(prefix) + 1) if digits or b"\r" not in count else NO
        if not digits:
            return NO
        return Verdict.more(len(prefix) + 1) if not rest else YES if rest[:1] == b"$" else NO

    def open(self, role: Role, limits: Limits) -> Codec:
        return RedisCodec(role, limits)

    def samples(self) -> Samples:
        """See SupportsSamples."""
        return Samples(
            requests=(RequestHead(service=SERVICE, method="ECHO"),),
            recorded=(
                b"*1\r\n$4\r\nPING\r\n",
                b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n*1\r\n$4\r\nEXEC\r\n",
            ),
        )


PLUGIN: Final = RedisPlugin()
