"""Dubbo 2's bytes (Dubbo: ExchangeCodec, DubboCodec): a head of 16 bytes, and a body in one of many
serialisations.

Only hessian2 is understood; others go by as they are, but for whom they are is read of fastjson and fastjson2
(``json_prefix.py``). Of a hessian2 request the prefix is read (``prefix.py``), of the rest as little as will do
(``heads.py``). A body that says hessian2 and is no request is refused here, with 40, and the connection goes on.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from xproxy.codecs.dubbo.attachments import write_map
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
from xproxy.codecs.dubbo.json_prefix import read_address
from xproxy.codecs.dubbo.prefix import (
    MEMO_BYTES,
    Prefix,
    past_prefix,
    read_prefix,
    read_recurring,
)
from xproxy.codecs.dubbo.status import OK, from_native, is_known, to_native
from xproxy.codecs.hessian2 import HessianError, write_text
from xproxy.codecs.messages import (
    NO_HEAD,
    ONEWAY,
    REQUEST,
    RESPONSE,
    Kind,
    Malformed,
    MalformedRequest,
    Message,
)
from xproxy.model.errors import LocalProtocolError
from xproxy.model.limits import Limits
from xproxy.model.message import Local, Reason, RequestHead, ResponseHead
from xproxy.model.status import Status

NAME: Final = "dubbo"
MAGIC: Final = b"\xda\xbb"

_unpack: Final = Struct(">HBBqI").unpack_from
_pack: Final = Struct(">HBBQI").pack
_pack_id: Final = Struct(">Q").pack
_ID_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF
_LONGEST_BODY: Final = 0x7FFF_FFFF
_LONGEST_EVENT: Final = 1024

# Flags.
_REQUEST: Final = 0x80
_TWO_WAY: Final = 0x40
_EVENT: Final = 0x20
_SERIALIZATION: Final = 0x1F

_NULL: Final = b"N"
_READ_ONLY: Final = b"\x01R"
UNREADABLE: Final = "the body is no hessian2 request"
"""Why a request is refused."""
_UNREADABLE: Final = ResponseHead(status=Status.INVALID_ARGUMENT, extra=Local(detail=UNREADABLE))

_FIVE: Final = range(5)


class DubboWire:
    """See the module; stateless."""

    __slots__ = ()
    name: Final = NAME

    def decode(self, buffer: bytes, at: int, size: int, limits: Limits) -> Message | int:
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
            if flag & 0xE0 == 0xC0:
                raise MalformedRequest(text, stream_id, flag & 0x1F)
            raise Malformed(text)
        if flag & 0x20 and body_length > _LONGEST_EVENT:
            raise Malformed(f"event of {body_length} bytes, limit {_LONGEST_EVENT}")
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
                response, data = read_answer(data, limits)
            else:
                response = bare_response(serialization, status, 0)
            return RESPONSE, stream_id, response, data, length, serialization
        oneway = not flag & 0x40
        if serialization != HESSIAN2:
            data = buffer[start:end]
            head = opaque_request(oneway, serialization, read_address(serialization, data))
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
                    if oneway:  # nobody waits to be told
                        return Kind.IGNORED, stream_id, NO_HEAD, b"", length, serialization
                    return Kind.REFUSED, stream_id, _UNREADABLE, b"", length, serialization
                after = start + len(prefix.block)
            head, data = read_call(oneway, prefix, buffer[after:end], limits)
            if prefix.attachable:
                serialization |= ATTACHABLE
        return ONEWAY if oneway else REQUEST, stream_id, head, data, length, serialization

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
        theirs = native is not None and is_known(native) and from_native(native) is head.status
        if native is not None and theirs:
            code = native
        else:
            code = to_native(head.status, extra.reason if isinstance(extra, Local) else Reason.NONE)
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
        """Ask for a sign of life."""
        return _write(_REQUEST | _TWO_WAY | _EVENT | HESSIAN2, 0, 0, _NULL)

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
