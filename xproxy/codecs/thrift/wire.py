"""Thrift's bytes: which dialect a message is in, where it ends, what it says, and the way back.

The dialect is told from each message's first bytes, so a peer may change it at any border. What goes from one side to
the other is the struct, untouched; and of a message that nobody changed, name, flags and header are the bytes that
came, only the sequence id is another. So no second copy of it need be kept (``Head.origin`` is None).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from struct import Struct
from typing import Final, TypeAlias

import attrs

from xproxy.codecs.message_wire import Malformed
from xproxy.codecs.slices import Work
from xproxy.codecs.thrift import header
from xproxy.codecs.thrift.binary import STRICT_MAGIC
from xproxy.codecs.thrift.convert import converted, converting
from xproxy.codecs.thrift.dialect import FRAMED_STRICT, Dialect, Protocol, Transport, dialect_of
from xproxy.codecs.thrift.encoding import (
    CALL,
    EXCEPTION,
    LOOKED_AT,
    ONEWAY,
    REPLY,
    HeadParts,
    check_name_length,
    is_name,
    is_struct,
)
from xproxy.codecs.thrift.interface import APPLICATION_EXCEPTION, Interface, Shape
from xproxy.codecs.thrift.message import ThriftExtra, name_of, request_head, response_head
from xproxy.codecs.thrift.status import SUCCESS, UNKNOWN, from_native, to_native
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Head
from xproxy.model.limits import Limits
from xproxy.model.message import Local, RequestHead, ResponseHead
from xproxy.model.status import Status


class Refused(Malformed):
    """What is wrong with a call whose sequence id is known: it can be answered before the connection ends."""

    def __init__(self, text: str, outer: int, inner: int, extra: ThriftExtra) -> None:
        super().__init__(text)
        self.outer = outer
        self.inner = inner
        self.extra = extra


Message: TypeAlias = tuple[int, int, int, RequestHead | ResponseHead, bytes, int]
"""Kind, sequence id, sequence id in the payload (they differ only in a THeader), head, struct, length on the wire."""


# By themselves: to look a member up in its class costs 0.09 µs (Python 3.11), several times a message.
_FRAMED: Final = Transport.FRAMED
_UNFRAMED: Final = Transport.UNFRAMED
_HEADER: Final = Transport.HEADER
_OK: Final = Status.OK
_U32: Final = Struct(">I").unpack_from
_START: Final = Struct(">III").unpack_from
_FRAME: Final = Struct(">I").pack
_SHORTEST: Final = 16
"""A framed strict message without a name, and without a struct."""
_DECIDED: Final = 6
"""Bytes that tell the dialect of a message whose first one does not."""

_FIRST_BYTES: Final = {
    0x80: dialect_of(Transport.UNFRAMED, Protocol.STRICT),
    0x82: dialect_of(Transport.UNFRAMED, Protocol.COMPACT),
    0x5B: dialect_of(Transport.UNFRAMED, Protocol.JSON),
}
_FIFTH_BYTES: Final = {
    0x80: FRAMED_STRICT,
    0x82: dialect_of(Transport.FRAMED, Protocol.COMPACT),
    0x5B: dialect_of(Transport.FRAMED, Protocol.JSON),
    0x00: dialect_of(Transport.FRAMED, Protocol.OLD),
}
UNFRAMED_OLD: Final = dialect_of(Transport.UNFRAMED, Protocol.OLD)
_HEADER_PROTOCOLS: Final = {0: Protocol.STRICT, header.COMPACT: Protocol.COMPACT}
_NAME_STARTS: Final = frozenset((*range(0x20, 0x7F), *range(0xC2, 0xF5))) - {0x5B}
"""Bytes that text begins with, in UTF-8; ``[`` is JSON's."""
_DUBBO: Final = b"\xda\xbc"
"""Dubbo over Thrift: another protocol, in a frame of this form."""

# Framed strict heads, from the version to the end of the name: (kind, head, head of a reply that holds a declared
# exception). Shared by all connections; emptied when full. Longer names than the limit never get in.
_Known: TypeAlias = tuple[int, RequestHead | ResponseHead, RequestHead | ResponseHead]
_known: Final[dict[bytes, _Known]] = {}
_KNOWN_HEADS: Final = 2048


def decode(buffer: bytes, at: int, size: int, limits: Limits) -> Message | Packed | Dialect | int:
    """Read the message that begins at ``at`` in the first ``size`` bytes of ``buffer``; ``at < size``.

    Returns it as it is, if it is packed; its dialect, if that has no frame and the message must be walked; or how
    many bytes from ``at`` are needed to go on. Raises Malformed.
    """
    if size - at >= _SHORTEST:
        length, _, name = _START(buffer, at)
        body = at + _SHORTEST + name
        end = at + 4 + length
        if body <= end <= size and length <= limits.max_message_bytes:
            known = _known.get(buffer[at + 4 : body - 4])
            if known is not None:
                kind, head, declared = known
                data = buffer[body:end]
                if head is not declared and len(data) > 3 and data[0] and data[1:3] != b"\0\0":
                    head = declared
                seqid: int = _U32(buffer, body - 4)[0]
                return kind, seqid, seqid, head, data, end - at
    return _decode(buffer, at, size, limits)


def _decode(buffer: bytes, at: int, size: int, limits: Limits) -> Message | Packed | Dialect | int:
    dialect = _FIRST_BYTES.get(buffer[at])
    if dialect is not None:
        return dialect
    if at + _DECIDED > size:
        return _DECIDED
    length: int = _U32(buffer, at)[0]
    byte = buffer[at + 4]
    if byte in _NAME_STARTS and buffer[at + 4 : at + 6] != _DUBBO:
        check_name_length(length)
        return UNFRAMED_OLD
    dialect = _FIFTH_BYTES.get(byte)
    if dialect is None and buffer[at + 4 : at + 6] != header.MAGIC:
        raise Malformed(f"a frame that begins with {byte:02x}{buffer[at + 5]:02x}")
    if length > limits.max_message_bytes:
        return _too_long(dialect, buffer, at, size, length, limits)
    end = at + 4 + length
    if end > size:
        return _unfinished(dialect, buffer, at, size, length)
    if dialect is None:
        return _with_header(buffer, at, end, limits)
    return read_payload(dialect, buffer, at, at + 4, end, limits)


def _unfinished(dialect: Dialect | None, buffer: bytes, at: int, size: int, length: int) -> int:
    """Return how many bytes to wait for; first those that show whether this is a message at all.

    What only looks like one (a Rocket or an RSocket client's first frame) must not be waited for: its length is
    whatever its bytes happen to say.
    """
    if dialect is None:
        return 4 + length
    parts = dialect.encoding.read_head(buffer, at + 4, size)
    if isinstance(parts, int):
        if parts > length:
            raise Malformed(f"a head that does not fit its message of {length} bytes")
        return 4 + parts
    if not is_name(parts[1]):
        raise Malformed(f"a name of {len(parts[1])} bytes that is no text")
    return 4 + length


def _too_long(
    dialect: Dialect | None, buffer: bytes, at: int, size: int, length: int, limits: Limits
) -> int:
    """Refuse a message by its declared length, once its head is there to answer to; else say how long that may be."""
    text = f"message of {length} bytes, limit {limits.max_message_bytes}"
    if dialect is None:
        if size - at <= header.FIXED:
            return header.FIXED + 1
        raise _refused_header(text, buffer, at, size)
    parts = dialect.encoding.read_head(buffer, at + 4, size)
    if isinstance(parts, int):
        return 4 + parts
    raise refused(text, dialect, parts)


def refused(text: str, dialect: Dialect, parts: HeadParts) -> Malformed:
    """Return what to raise for a message whose head is good."""
    kind, name, seqid, _ = parts
    if kind != CALL or not is_name(name):
        return Malformed(text)
    return Refused(text, seqid, seqid, ThriftExtra(dialect, name.decode()))


def _refused_header(text: str, buffer: bytes, at: int, end: int) -> Malformed:
    """Likewise, for a THeader: the sequence id is in its fixed part, behind which the protocol is said."""
    start = at + header.FIXED
    protocol = _HEADER_PROTOCOLS.get(buffer[start]) if start < end else None
    if protocol is None:
        return Malformed(text)
    seqid = _U32(buffer, at + 8)[0]
    return Refused(text, seqid, seqid, ThriftExtra(dialect_of(Transport.HEADER, protocol)))


def read_payload(
    dialect: Dialect,
    buffer: bytes,
    at: int,
    start: int,
    end: int,
    limits: Limits,
    block: bytes = b"",
    flags: int = 0,
    outer: int | None = None,
) -> Message:
    """Read a message that is there as a whole: it begins at ``at``, its head at ``start``. Raises Malformed.

    ``outer``: the sequence id of a THeader, which comes first.
    """
    encoding = dialect.encoding
    parts = encoding.read_head(buffer, start, end)
    if isinstance(parts, int):
        raise Malformed(f"a head that does not fit its message of {end - start} bytes")
    kind, name, inner, body = parts
    stop = end - len(encoding.tail)
    if stop < body or buffer[stop:end] != encoding.tail:
        raise refused("a message without its end", dialect, parts)
    data = buffer[body:stop]
    facts = name, block, flags, limits.max_headers
    head: RequestHead | ResponseHead
    declared: RequestHead | ResponseHead
    if kind in (CALL, ONEWAY):
        head = declared = request_head(dialect, kind == ONEWAY, *facts)
    elif kind == REPLY:
        head = response_head(dialect, SUCCESS, False, *facts)
        declared = response_head(dialect, SUCCESS, True, *facts)
    else:
        # A type of the peer's own is one of ours to us; but were it SUCCESS, the exception would be a reply.
        code = max(encoding.exception_code(data), UNKNOWN)
        head = declared = response_head(dialect, code, False, *facts)
    if dialect is FRAMED_STRICT and kind != EXCEPTION:
        if len(_known) >= _KNOWN_HEADS:
            _known.clear()
        _known[buffer[start : body - 4]] = (kind, head, declared)
    if head is not declared and encoding.declared(data):
        head = declared
    return kind, inner if outer is None else outer, inner, head, data, end - at


def _with_header(buffer: bytes, at: int, end: int, limits: Limits) -> Message | Packed:
    if end - at < header.FIXED:
        raise Malformed(f"a THeader in a frame of {end - at - 4} bytes")
    try:
        return _within_header(buffer, at, end, limits)
    except Refused:
        raise
    except Malformed as exc:
        raise _refused_header(str(exc), buffer, at, end) from exc


def _within_header(buffer: bytes, at: int, end: int, limits: Limits) -> Message | Packed:
    flags = int.from_bytes(buffer[at + 6 : at + 8])
    seqid = _U32(buffer, at + 8)[0]
    size = 4 * int.from_bytes(buffer[at + 12 : at + 14])
    start = at + header.FIXED + size
    if size > limits.max_head_bytes:
        raise Malformed(f"header of {size} bytes, limit {limits.max_head_bytes}")
    if start > end:
        raise Malformed(f"a header of {size} bytes that ends behind its frame")
    block = buffer[at + header.FIXED : start]
    facts = header.read_header(block, limits.max_headers)
    if facts.transforms:  # one, which is ZLIB
        return Packed(buffer[at:end], start - at, facts, block, flags, seqid, limits)
    dialect = _inside(facts, buffer[start : start + 1])
    return read_payload(dialect, buffer, at, start, end, limits, block, flags, seqid)


@attrs.frozen(eq=False)
class Packed:
    """A message that is there as a whole, and packed."""

    raw: bytes
    """All of it."""
    start: int
    """Where in it the payload begins."""
    facts: header.HeaderFacts
    block: bytes
    flags: int
    seqid: int
    limits: Limits

    def unpacking(self) -> Work[Message]:
        """Return the work of reading it, whose bytes have been read: its length is 0. Raises Malformed in it."""
        raw, limits = self.raw, self.limits
        try:
            payload = yield from header.undo(
                memoryview(raw)[self.start :], limits.max_message_bytes
            )
            dialect = _inside(self.facts, payload[:1])
            whole = len(payload)
            said = self.block, self.flags, self.seqid
            message = read_payload(dialect, payload, 0, 0, whole, limits, *said)
        except Refused:
            raise
        except Malformed as exc:
            raise _refused_header(str(exc), raw, 0, len(raw)) from exc
        return (*message[:5], 0)


def _inside(facts: header.HeaderFacts, first: bytes) -> Dialect:
    protocol = Protocol.OLD if first == b"\0" else Protocol.STRICT
    if facts.protocol == header.COMPACT:
        protocol = Protocol.COMPACT
    return dialect_of(Transport.HEADER, protocol)


# ── writing ──


def request(
    dialect: Dialect,
    seqid: int,
    head: RequestHead,
    data: bytes,
    limit: int,
    interface: Interface | None = None,
) -> bytes:
    """Write a call. Raises LocalProtocolError for what cannot be said."""
    extra = head.extra
    kind = ONEWAY if head.oneway else CALL
    name = name_of(head)
    if dialect is FRAMED_STRICT and type(extra) is ThriftExtra and extra.dialect is dialect:
        return _framed_strict(kind, name, seqid, data)
    if type(extra) is not ThriftExtra:
        extra = _FOREIGN
        if dialect.transport is _UNFRAMED:
            _check_struct(dialect, data)
    elif extra.ready is not dialect and _differs(extra, dialect):
        shape_of = partial(_arguments, interface, head)
        data = converted(data, extra.dialect, dialect, limit, shape_of)
    return _wrap(dialect, kind, name, seqid, seqid, extra, head, data)


def _differs(extra: ThriftExtra, dialect: Dialect) -> bool:
    # What goes without a frame must be looked through even if it is the same.
    return extra.dialect is not dialect or dialect.transport is _UNFRAMED


def prepared_request(
    dialect: Dialect, frame: Head, limit: int, interface: Interface | None
) -> Work[Head] | None:
    """Return the work of ``request`` on a struct, if it is long. Raises LocalProtocolError in it."""
    head = frame.message
    extra = head.extra
    if type(head) is not RequestHead or type(extra) is not ThriftExtra:
        return None
    return _prepared(frame, extra, dialect, limit, partial(_arguments, interface, head))


def prepared_response(
    call: ThriftExtra, frame: Head, limit: int, interface: Interface | None
) -> Work[Head] | None:
    """Likewise, of ``response``."""
    head = frame.message
    extra, code = head.extra, head.native_status if type(head) is ResponseHead else None
    if code is None or type(extra) is not ThriftExtra:
        return None
    shape_of = partial(_result, interface, call) if code == SUCCESS else _exception
    return _prepared(frame, extra, call.dialect, limit, shape_of)


def _prepared(
    frame: Head,
    extra: ThriftExtra,
    dialect: Dialect,
    limit: int,
    shape_of: Callable[[], Shape | None],
) -> Work[Head] | None:
    packs = extra.transforms and dialect.transport is _HEADER
    if len(frame.data) < LOOKED_AT or not (packs or _differs(extra, dialect)):
        return None
    return _preparing(frame, extra, dialect, limit, shape_of)


def _preparing(
    frame: Head,
    extra: ThriftExtra,
    dialect: Dialect,
    limit: int,
    shape_of: Callable[[], Shape | None],
) -> Work[Head]:
    data, deflated = frame.data, None
    if _differs(extra, dialect):
        data = yield from converting(data, extra.dialect, dialect, limit, shape_of)
    if extra.transforms and dialect.transport is _HEADER:
        deflated = yield from header.deflating(data)
    ready = attrs.evolve(extra, ready=dialect, deflated=deflated)
    message = attrs.evolve(frame.message, extra=ready)
    return Head(frame.stream_id, message, data, frame.end)


def _arguments(interface: Interface | None, head: RequestHead) -> Shape | None:
    signature = interface.signature(head.service, head.method) if interface is not None else None
    return signature.arguments if signature is not None else None


def _exception() -> Shape:
    return APPLICATION_EXCEPTION


def _result(interface: Interface | None, call: ThriftExtra) -> Shape | None:
    signature = interface.signature(call.service, call.method) if interface is not None else None
    return signature.result if signature is not None else None


def response(
    call: ThriftExtra,
    outer: int,
    inner: int,
    head: ResponseHead,
    data: bytes,
    limit: int,
    interface: Interface | None = None,
) -> bytes:
    """Write the answer to a call; ``native_status`` None is a local reply. Raises LocalProtocolError."""
    dialect = call.dialect
    extra = head.extra
    code = head.native_status
    if code is not None and type(extra) is ThriftExtra and head.status is from_native(code):
        if code == SUCCESS and dialect is FRAMED_STRICT and extra.dialect is dialect:
            return _framed_strict(REPLY, extra.wire_name, outer, data)
        kind = REPLY if code == SUCCESS else EXCEPTION
        if extra.ready is not dialect and _differs(extra, dialect):
            shape_of = partial(_result, interface, call) if kind == REPLY else _exception
            data = converted(data, extra.dialect, dialect, limit, shape_of)
        return _wrap(dialect, kind, extra.wire_name, outer, inner, extra, head, data)
    encoding = dialect.encoding
    if head.status is _OK:
        kind, data = REPLY, data or encoding.empty
        _check_struct(dialect, data)
    else:
        kind = EXCEPTION
        text = extra.detail if isinstance(extra, Local) else ""
        data = encoding.exception(to_native(head.status), text or head.status.label)
    return _wrap(dialect, kind, call.wire_name, outer, inner, _FOREIGN, head, data)


_FOREIGN: Final = ThriftExtra()


@lru_cache(maxsize=1024)
def _strict_start(kind: int, name: bytes) -> bytes:
    return b"%b%b%b" % (_FRAME(STRICT_MAGIC | kind), _FRAME(len(name)), name)


def _framed_strict(kind: int, name: bytes, seqid: int, data: bytes) -> bytes:
    # What most peers speak, without the detours of ``_wrap``.
    start = _strict_start(kind, name)
    return _FRAME(len(start) + 4 + len(data)) + start + _FRAME(seqid) + data


def _check_struct(dialect: Dialect, data: bytes) -> None:
    # Without a frame, bytes behind the struct would be a message of their own.
    if not is_struct(dialect.encoding, data):
        raise LocalProtocolError(f"the body is no struct of Thrift's {dialect.protocol.value}")


def _wrap(
    dialect: Dialect,
    kind: int,
    name: bytes,
    outer: int,
    inner: int,
    extra: ThriftExtra,
    head: RequestHead | ResponseHead,
    data: bytes,
) -> bytes:
    encoding = dialect.encoding
    transport = dialect.transport
    start = encoding.write_head(kind, name, inner)
    if transport is _FRAMED:
        length = len(start) + len(data) + len(encoding.tail)
        return b"%b%b%b%b" % (_FRAME(length), start, data, encoding.tail)
    payload = b"%b%b%b" % (start, data, encoding.tail)
    if transport is _UNFRAMED:
        return payload
    same = extra.dialect is dialect and head.headers is extra.headers and extra.block
    block = same or header.write_header(dialect.protocol, extra.transforms, head.headers)
    if extra.deflated is not None:
        payload = header.pack_deflated(start, data, extra.deflated)
    else:
        payload = header.pack(payload, extra.transforms)
    return header.wrap(payload, extra.flags, outer, block)
