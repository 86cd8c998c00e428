"""The server's side: calls in, answers out, in an order that the client understands (``state.py``)."""

from __future__ import annotations

from typing import Final

import attrs

from xproxy.codecs.message_wire import Malformed
from xproxy.codecs.messages import OVERLOADED_HEADERS
from xproxy.codecs.slices import Work
from xproxy.codecs.thrift import wire
from xproxy.codecs.thrift.arguments import Arguments
from xproxy.codecs.thrift.codec import ThriftCodec
from xproxy.codecs.thrift.encoding import CALL, LOOKED_AT, MASK, ONEWAY
from xproxy.codecs.thrift.header import UNPACKED_AT_ONCE
from xproxy.codecs.thrift.interface import Interface
from xproxy.codecs.thrift.message import ThriftExtra
from xproxy.codecs.thrift.snapshot import SERVER, ServerState
from xproxy.codecs.thrift.state import Answers
from xproxy.codecs.thrift.wire import Message, Packed
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Frame, Head, Reply, Reset
from xproxy.model.limits import MIB, Limits
from xproxy.model.message import Local, Reason, RequestHead, ResponseHead
from xproxy.model.status import Status

MOST_UNPACKED: Final = MIB
"""Bytes of unpacked calls after which those that follow are held back, packed."""
DECLINED: Final = {
    # A Finagle client's first call. If it were known, every later message would have one more struct before it.
    "__can__finagle__trace__v3__": "TTwitter is not spoken here",
    # An fbthrift client's, within a THeader. If it were answered, Rocket would follow.
    "upgradeToRocket": "Rocket is not spoken here",
}
"""Methods by which a client asks for another protocol. Answered as unknown, which lets it go on as it began."""

_OVERLOADED: Final = ResponseHead(
    status=Status.RESOURCE_EXHAUSTED,
    headers=OVERLOADED_HEADERS,
    extra=Local(detail="too many calls in flight", reason=Reason.OVERFLOW),
)
_REFUSALS: Final = {
    name: ResponseHead(status=Status.UNIMPLEMENTED, extra=Local(detail=detail))
    for name, detail in DECLINED.items()
}


class ServerCodec(ThriftCodec):
    """Thrift towards a downstream."""

    __slots__ = (
        "_answers",
        "_backlog",
        "_describing",
        "_interface",
        "_packed",
        "_unpacked",
        "_unpacking",
        "refused",
    )

    def __init__(self, limits: Limits, interface: Interface | None = None) -> None:
        super().__init__(limits)
        self._answers = Answers(limits)
        self._interface = interface
        self._backlog = False
        self._unpacking: Work[Message] | None = None
        self._describing = False  # it looks for arguments by now
        self._unpacked = 0  # bytes that it has made
        self._packed = b""  # what of; the messages behind it are held
        self.refused = 0
        """Calls answered with an overload: too many waited, or too much."""

    @property
    def backlog(self) -> bool:
        """See SupportsBacklog."""
        return self._backlog

    @property
    def backlog_bytes(self) -> int:
        """See SupportsBacklog."""
        return len(self._held) + len(self._packed) + self._unpacked

    def _unfinished_bytes(self) -> int:
        return len(self._packed) + len(self._held)

    def _stop(self) -> None:
        super()._stop()
        self._backlog = self._describing = False
        self._unpacking, self._packed, self._unpacked = None, b"", 0

    def _read(self, buffer: bytes, frames: list[Frame]) -> int:
        limits, answers, append, decode = self._limits, self._answers, frames.append, wire.decode
        owed, most, described = answers.owed, limits.max_streams, self._interface is not None
        at, size = 0, len(buffer)
        unpacked = 0
        self._backlog = False
        while at < size or self._unpacking is not None:
            if unpacked >= MOST_UNPACKED:
                # A MiB of packed calls would be a GiB at once: the rest when it is asked for.
                self._need = 0
                self._backlog = True
                break
            message = self._go_on() if self._unpacking else decode(buffer, at, size, limits)
            if type(message) is not tuple:
                if type(message) is Packed:
                    at += len(message.raw)
                    self._unpacking, self._packed = self._unpacked_from(message), message.raw
                    continue
                if message is None:
                    # A look at arguments is no unpacking, and takes as long.
                    unpacked += MOST_UNPACKED if self._describing else UNPACKED_AT_ONCE
                    continue
                if not isinstance(message, int):
                    message = self._unframed(message, buffer, at, size)  # type: ignore[arg-type]  # no tuple
                if isinstance(message, int):
                    self._need = message
                    break
            kind, outer, inner, head, data, length = message
            at += length
            if not length:
                unpacked += len(data) % UNPACKED_AT_ONCE  # its last slice
            elif described and kind in (CALL, ONEWAY):
                if len(data) > LOOKED_AT:
                    self._unpacking = self._described_from(message)
                    self._packed = buffer[at - length : at]
                    continue
                head = self._described(head, data)  # type: ignore[arg-type]  # by kind
            if kind == CALL:
                extra: ThriftExtra = head.extra
                if len(owed) < most and not answers.ordered and extra.name not in DECLINED:
                    stream_id = answers.ask(outer, inner, extra)
                else:
                    refusing = answers.refusing
                    stream_id = answers.ask(outer, inner, extra)
                    if refusing or extra.name in DECLINED:
                        self.refused += refusing
                        refusal = _OVERLOADED if refusing else _REFUSALS[extra.name]
                        written = self._answer(stream_id, refusal, b"")
                        if written or refusing:
                            append(Reply(written, refusal if refusing else None))
                        continue
            elif kind == ONEWAY:
                stream_id = answers.oneway(outer)
            else:
                raise Malformed("an answer from a client")
            append(Head(stream_id, head, data, True))
        return at

    def _go_on(self) -> Message | None:
        """Unpack more of the message that is unpacked; None: not all of it yet. Its bytes have been read."""
        assert self._unpacking is not None
        try:
            next(self._unpacking)
        except StopIteration as done:
            message: Message = done.value
            self._unpacking, self._packed, self._unpacked = None, b"", 0
            self._describing = False
            return message
        if not self._describing:
            self._unpacked += UNPACKED_AT_ONCE
        return None

    def _unpacked_from(self, packed: Packed) -> Work[Message]:
        message = yield from packed.unpacking()
        if self._interface is None or message[0] not in (CALL, ONEWAY):
            return message
        return (yield from self._described_from(message))

    def _described_from(self, message: Message) -> Work[Message]:
        """Read a call's arguments before somebody asks: no head should keep a long message."""
        kind, outer, inner, head, data, _ = message
        self._describing = True
        head = self._described(head, data)  # type: ignore[arg-type]  # by kind
        if isinstance(head.extra.arguments, Arguments):
            yield from head.extra.arguments.reading()
        return kind, outer, inner, head, data, 0

    def _described(self, head: RequestHead, data: bytes) -> RequestHead:
        """Return a head with this call's arguments, if the interface has its method."""
        assert self._interface is not None
        signature = self._interface.signature(head.service, head.method)
        if signature is None:
            return head
        arguments = Arguments(data, head.extra.dialect, signature.arguments)
        return attrs.evolve(head, extra=attrs.evolve(head.extra, arguments=arguments))

    def _farewell(self, crime: Malformed) -> bytes:
        if not isinstance(crime, wire.Refused):
            return b""
        # As an answer like any other: it waits for its turn where answers have one.
        stream_id = self._answers.ask(crime.outer, crime.inner, crime.extra)
        answer = ResponseHead(status=Status.INVALID_ARGUMENT, extra=Local(detail=str(crime)))
        return self._answer(stream_id, answer, b"")

    def _answer(self, stream_id: int, head: ResponseHead, data: bytes) -> bytes:
        answers = self._answers
        call, limit = answers.owed[stream_id], self._limits.max_message_bytes
        outer, inner = stream_id & MASK, answers.inner(stream_id)
        written = wire.response(call, outer, inner, head, data, limit, self._interface)
        # Only now: had it failed, a local reply could still be sent.
        return answers.leave(stream_id, written)

    def answer(self, frame: Head | Reset) -> bytes:
        """See SupportsRelay."""
        stream_id, answers = frame.stream_id, self._answers
        call = answers.owed.get(stream_id)
        if call is None:
            return b""
        if isinstance(frame, Reset):
            head, data = _instead(frame), b""
        elif type(frame.message) is ResponseHead and frame.end and not frame.interim:
            head, data = frame.message, frame.data
        else:
            raise LocalProtocolError("Thrift answers with whole responses")
        limit = self._limits.max_message_bytes
        outer, inner = stream_id & MASK, answers.inner(stream_id)
        return wire.response(call, outer, inner, head, data, limit, self._interface)

    def answered(self, stream_id: int, raw: bytes) -> bytes:
        """See SupportsRelay: where answers have an order, this one waits for its turn."""
        return self._answers.leave(stream_id, raw) if stream_id in self._answers.owed else b""

    def _send(self, frame: Head) -> bytes:
        head = frame.message
        if type(head) is not ResponseHead:
            raise LocalProtocolError("a Thrift server cannot call its client")
        stream_id, answers = frame.stream_id, self._answers
        call = answers.owed.get(stream_id)
        if call is None:
            return b""  # nobody waits for it: a oneway call, or one that was answered
        if answers.plain:
            limit = self._limits.max_message_bytes
            written = wire.response(
                call, stream_id, stream_id, head, frame.data, limit, self._interface
            )
            del answers.owed[stream_id]
            return written
        return self._answer(stream_id, head, frame.data)

    def prepare(self, frame: Head) -> Work[Head] | None:
        """See SupportsPreparing."""
        call = self._answers.owed.get(frame.stream_id)
        if call is None:
            return None
        limit = self._limits.max_message_bytes
        return wire.prepared_response(call, frame, limit, self._interface)

    def _reset(self, frame: Reset) -> bytes:
        if frame.stream_id not in self._answers.owed:
            return b""
        return self._answer(frame.stream_id, _instead(frame), b"")

    # ── moving ──

    def snapshot(self) -> bytes:
        """Return the state for the plugin's ``restore``."""
        answers = self._answers
        state = ServerState(
            self._packed + self._held,
            self._over,
            self.refused,
            answers.save(),
            answers.ordered,
            *answers.last_ids,
        )
        return SERVER.pack(state)

    def load(self, state: ServerState) -> None:
        """Continue as the codec of that state. Raises ValueError."""
        self._answers.load(
            state.waiting, ordered=state.ordered, highest=state.highest, spare=state.spare
        )
        self._held = bytearray(state.held)
        self._backlog = bool(state.held)  # some of it may be whole
        self._over = state.over
        self.refused = state.refused


def _instead(reset: Reset) -> ResponseHead:
    # There is no other way to say that there will be no answer; and in order, others wait for this one.
    status = reset.status if reset.status is not Status.OK else Status.CANCELLED
    return ResponseHead(status=status)
