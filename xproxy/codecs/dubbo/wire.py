"""Dubbo 2's bytes (Dubbo: ExchangeCodec, DubboCodec): a head of 16 bytes, and a body in one of many
serialisations.

Only hessian2 is understood; others go by as they are, but for whom they are is read of fastjson and fastjson2
(``json_prefix.py``, ``json_targets.py``). Of a hessian2 request the prefix is read (``prefix.py``), of the rest as
little as will do (``targets.py``, ``heads.py``). A body that says hessian2 and is no request is refused here, with
40, and the connection goes on.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Final

from xproxy.codecs.dubbo.attachments import LONG, write_map
from xproxy.codecs.dubbo.bodies import ATTACHABLE, answer_again, call_again, new_call, value_of
from xproxy.codecs.dubbo.heads import (
    HESSIAN2,
    Answer,
    Call,
    bare_response,
    opaque_request,
    read_answer,
    read_call,
)
from xproxy.codecs.dubbo.json_prefix import FASTJSON, FASTJSON2, Address, read_address
from xproxy.codecs.dubbo.json_targets import conflict_of
from xproxy.codecs.dubbo.prefix import (
    MEMO_BYTES,
    Prefix,
    past_prefix,
    read_prefix,
    read_recurring,
)
from xproxy.codecs.dubbo.status import OK, STATUSES, from_native, is_known
from xproxy.codecs.hessian2 import HessianError, write_text
from xproxy.codecs.message_wire import (
    NO_HEAD,
    ONEWAY,
    REQUEST,
    RESPONSE,
    Kind,
    Lengthy,
    Malformed,
    MalformedMessage,
    Message,
    begun,
)
from xproxy.codecs.slices import Work
from xproxy.model.errors import LocalProtocolError
from xproxy.model.limits import Limits
from xproxy.model.message import Local, RequestHead, ResponseHead
from xproxy.model.status import Status

NAME: Final = "dubbo"
MAGIC: Final = b"\xda\xbb"
HEAD_BYTES: Final = 16

_unpack: Final = Struct(">HBBqI").unpack_from
_pack: Final = Struct(">HBBQI").pack
_pack_id: Final = Struct(">Q").pack
_ID_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF
_LONGEST_BODY: Final = 0x7FFF_FFFF
LONGEST_EVENT: Final = 1024
_LAST_STATUS: Final = 0xFF

# Flags.
_REQUEST: Final = 0x80
_TWO_WAY: Final = 0x40
_EVENT: Final = 0x20
_SERIALIZATION: Final = 0x1F

_NULL: Final = b"N"
_NULLS: Final = {HESSIAN2: _NULL, FASTJSON: b"null\n", FASTJSON2: b"\0\0\0\1\xaf"}
"""Null as each serialisation writes it: fastjson in a line, fastjson2 as JSONB behind its length."""
_READ_ONLY: Final = b"\x01R"
UNREADABLE: Final = "the body is no hessian2 request"
"""Why a request is refused."""
UNREADABLE_JSON: Final = "the body is no fastjson request"
UNREAD: Final = "a serialisation of which nothing is read"

_FIVE: Final = range(5)


@lru_cache(maxsize=16)
def _refusal(detail: str) -> ResponseHead:
    return ResponseHead(status=Status.INVALID_ARGUMENT, extra=Local(detail=detail))


def _refused(oneway: bool, stream_id: int, detail: str, length: int, serialization: int) -> Message:
    if oneway:  # nobody waits to be told
        return Kind.IGNORED, stream_id, NO_HEAD, b"", length, serialization
    return Kind.REFUSED, stream_id, _refusal(detail), b"", length, serialization


def _answered(
    work: Work[tuple[ResponseHead, bytes]], stream_id: int, length: int, serialization: int
) -> Work[Message]:
    response, data = yield from work
    return RESPONSE, stream_id, response, data, length, serialization


class DubboWire:
    """See the module; no state but two options."""

    __slots__ = ("_strict", "_unread")
    name: Final = NAME

    def __init__(self, *, strict: bool = True, unread: bool = True) -> None:
        """``strict``: refuse a request whose attachments name another service than its prefix.

        ``unread``: pass on requests in serialisations of which nothing is read.
        """
        self._strict = strict
        self._unread = unread

    def decode(self, buffer: bytes, at: int, size: int, limits: Limits) -> Message | Lengthy | int:
        """Read a message; the usual request, with short strings of ASCII in front, by the shortest way."""
        start = at + 16
        if start > size:
            if not MAGIC.startswith(buffer[at : min(at + 2, size)]):
                raise Malformed("no magic number")
            return 16
        magic, flag, status, stream_id, body_length = _unpack(buffer, at)
        if magic != 0xDABB:
            raise Malformed("no magic number")
        length: int = 16 + body_length
        if length > limits.max_message_bytes:
            text = f"message of {length} bytes, limit {limits.max_message_bytes}"
            if flag & 0x20:
                raise Malformed(text)
            kind = RESPONSE if not flag & 0x80 else REQUEST if flag & 0x40 else ONEWAY
            raise MalformedMessage(text, kind, stream_id, flag & 0x1F, length)
        if flag & 0x20 and body_length > LONGEST_EVENT:
            raise Malformed(f"event of {body_length} bytes, limit {LONGEST_EVENT}")
        end = at + length
        if end > size:
            return length
        serialization = flag & 0x1F
        if flag & 0x20:
            kind = _event(flag, buffer[start:end])
            return kind, stream_id, NO_HEAD, b"", length, serialization
        if not flag & 0x80:
            data = buffer[start:end]
            if status == OK and serialization == HESSIAN2 and data:
                answer = read_answer(data, limits)
                if not isinstance(answer, tuple):
                    return begun(length, _answered(answer, stream_id, length, serialization))
                response, data = answer
            else:
                response = bare_response(serialization, status, 0)
            return RESPONSE, stream_id, response, data, length, serialization
        oneway = not flag & 0x40
        if serialization != HESSIAN2:
            data = buffer[start:end]
            address = read_address(serialization, data, limits.max_head_bytes)
            conflict = self._conflict(serialization, data, address, limits)
            if conflict:
                return _refused(oneway, stream_id, conflict, length, serialization)
            head = opaque_request(oneway, serialization, address)
        else:
            prefix, after = None, start
            try:
                for _ in _FIVE:
                    units = buffer[after]
                    if units < 0x20:
                        after += units + 1
                    else:
                        # A longer string; of other values, nonsense comes out, and no prefix ends there.
                        after += ((units - 0x30) << 8) + buffer[after + 1] + 2
            except IndexError:
                after = -1
            prefix_length = after - start
            if (
                start < after <= end
                and prefix_length <= MEMO_BYTES
                and prefix_length <= limits.max_head_bytes
            ):
                prefix = read_recurring(buffer[start:after])
            if prefix is None:
                prefix = _thorough(buffer[start : min(end, start + limits.max_head_bytes)])
                if prefix is None:
                    return _refused(oneway, stream_id, UNREADABLE, length, serialization)
                after = start + len(prefix.block)
            if prefix.attachable:
                serialization |= ATTACHABLE
            data = buffer[after:end]
            call = read_call(oneway, prefix, data, limits, strict=self._strict, further=at > LONG)
            if not isinstance(call, tuple):
                return begun(length, self._called(call, oneway, stream_id, length, serialization))
            head, data = call
            if head.extra.conflict and self._strict:
                return _refused(oneway, stream_id, head.extra.conflict, length, serialization)
        return ONEWAY if oneway else REQUEST, stream_id, head, data, length, serialization

    def _called(
        self,
        work: Work[tuple[RequestHead, bytes]],
        oneway: bool,
        stream_id: int,
        length: int,
        serialization: int,
    ) -> Work[Message]:
        head, data = yield from work
        if head.extra.conflict and self._strict:
            return _refused(oneway, stream_id, head.extra.conflict, length, serialization)
        return ONEWAY if oneway else REQUEST, stream_id, head, data, length, serialization

    def _conflict(
        self, serialization: int, data: bytes, address: Address | None, limits: Limits
    ) -> str:
        """Say why it is not certain for whom a request is that is not in hessian2; empty: it may pass."""
        if serialization not in (FASTJSON, FASTJSON2):
            return "" if self._unread else UNREAD
        if not self._strict:
            return ""
        if address is None:
            return UNREADABLE_JSON
        return conflict_of(serialization, data, address, limits.max_head_bytes)

    def patch(self, raw: bytes, stream_id: int, dialect: int | None) -> bytes:
        """Put another id into a message. An answer says itself in which serialisation it is."""
        return raw[:4] + _pack_id(stream_id & 0xFFFF_FFFF_FFFF_FFFF) + raw[12:]

    def request(self, stream_id: int, head: RequestHead, data: bytes) -> bytes:
        """Write a request; what was not changed of a Dubbo head goes out as it came in.

        A new one has one argument, a byte array: ``data``.
        """
        extra = head.extra
        if isinstance(extra, Call):
            serialization, body = extra.serialization, call_again(head, extra, data)
        else:
            serialization, body = HESSIAN2, new_call(head, data)
        flag = _REQUEST if head.oneway else _REQUEST | _TWO_WAY
        return _write(flag | serialization, 0, stream_id, body)

    def response(self, stream_id: int, head: ResponseHead, data: bytes, dialect: int) -> bytes:
        """Write an answer. One made here is in hessian2: a byte array, or the text of an error."""
        extra = head.extra
        native = head.native_status
        # What was read goes on as it is, also where Dubbo does not define it, whether it is copied or written anew.
        theirs = (
            native is not None
            and from_native(native) is head.status
            and (is_known(native) or (isinstance(extra, Answer) and 0 <= native <= _LAST_STATUS))
        )
        code = native if native is not None and theirs else STATUSES.code_of(head)
        if isinstance(extra, Answer) and (theirs or code == OK):
            body = answer_again(head, extra, data, dialect)
            return _write(extra.serialization, code, stream_id, body)
        if code == OK:
            tail = write_map(head.headers.pairs) if head.headers and dialect & ATTACHABLE else b""
            return _write(HESSIAN2, code, stream_id, value_of(data, tail))
        text = data.decode("utf-8", "replace") if data else ""
        if not text:
            text = (extra.detail if isinstance(extra, Local) else "") or head.status.label
        return _write(HESSIAN2, code, stream_id, write_text(text))

    def acknowledge(self, raw: bytes) -> bytes:
        """Answer an event in the sender's own null."""
        stream_id, serialization = int.from_bytes(raw[4:12]), raw[2] & _SERIALIZATION
        body = _NULL if serialization == HESSIAN2 else raw[16:]
        return _write(_EVENT | serialization, OK, stream_id, body)

    def heartbeat(self, dialect: int) -> bytes:
        """Ask for a sign of life, in the serialisation last heard if its null is known; some answer no other."""
        serialization = dialect & _SERIALIZATION
        null = _NULLS.get(serialization)
        if null is None:
            serialization, null = HESSIAN2, _NULL
        return _write(_REQUEST | _TWO_WAY | _EVENT | serialization, 0, 0, null)

    def goaway(self, dialect: int) -> bytes:
        """Say that there will be no more than what is in flight: the event ``R``, which nobody answers."""
        return _write(_REQUEST | _EVENT | HESSIAN2, 0, 0, _READ_ONLY)


def _event(flag: int, body: bytes) -> Kind:
    """Return what an event is. Old peers write null twice, or nothing."""
    if flag & _REQUEST:
        if body == _READ_ONLY and flag & _SERIALIZATION == HESSIAN2:
            return Kind.GOAWAY
        if flag & _TWO_WAY:
            return Kind.HEARTBEAT
        return Kind.IGNORED  # as ``W``, writable again: we have gone elsewhere
    return Kind.HEARTBEAT_ACK


def _thorough(body: bytes) -> Prefix | None:
    """Read a prefix in whatever form its strings are; None if there is none."""
    try:
        return read_prefix(body[: past_prefix(body)])
    except HessianError:
        return None


def _write(flag: int, status: int, stream_id: int, body: bytes) -> bytes:
    if len(body) > _LONGEST_BODY:
        raise LocalProtocolError(f"body of {len(body)} bytes, limit {_LONGEST_BODY}")
    return _pack(0xDABB, flag, status, stream_id & _ID_MASK, len(body)) + body
