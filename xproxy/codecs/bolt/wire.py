"""Bolt's bytes, versions 1 and 2 (SOFABolt: RpcCommandDecoder, RpcCommandDecoderV2).

Byte 0 of each message says its version; both may come on one connection, and an answer is in the version, ``ver1``,
switch and codec of its request: its *dialect* here. A CRC-32 follows the content if, as in Java, ``ver1`` is 2 and
bit 0 of the switch is set; it is no part of any length field and covers every byte before it.

A client sends the same fixed head, class name and header block again and again: what they mean is worked out once and
remembered (``lru_cache``: pure functions of those bytes, bounded). Only id, lengths and content are read each time.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from math import ceil
from struct import Struct
from typing import Any, Final

import attrs

from xproxy.codecs.bolt.fields import MEMO_BYTES, NO_FIELDS, Fields, read_fields, write_fields
from xproxy.codecs.bolt.sofa_request import CLASS, OBJECTS, Called, called_in
from xproxy.codecs.bolt.status import STATUSES, SUCCESS, from_native, is_known
from xproxy.codecs.message_wire import (
    NO_HEAD,
    ONEWAY,
    REQUEST,
    RESPONSE,
    Kind,
    Malformed,
    MalformedMessage,
    Message,
)
from xproxy.model.errors import LocalProtocolError
from xproxy.model.limits import Limits
from xproxy.model.message import Local, RequestHead, ResponseHead, recurring
from xproxy.model.status import Status

NAME: Final = "bolt"
RESPONSE_CLASS: Final = b"com.alipay.sofa.rpc.core.response.SofaResponse"

# Version 1 is read with proto, type and command as one number: the usual messages are told apart by one comparison.
_REQUEST_1: Final = Struct(">IBiBiHHI")
_RESPONSE_1: Final = Struct(">IBiBHHHI")
_REQUEST_2: Final = Struct(">BBBHBiBBiHHI")
_RESPONSE_2: Final = Struct(">BBBHBiBBHHHI")
_ID: Final = Struct(">I")
_pack_id: Final = _ID.pack

SHORTEST: Final = _RESPONSE_1.size
_ID_MASK: Final = 0xFFFFFFFF
_LONGEST_PART: Final = 0x7FFF
"""Class name and header block: both reference peers read their lengths as signed."""
_LONGEST_TIMEOUT_MS: Final = 0x7FFFFFFF
_LAST_STATUS: Final = 0xFFFF

# Type and command of a message as one number.
_RESPONSE: Final = 0x00_0002
_ACK: Final = 0x00_0000
_REQUEST: Final = 0x01_0001
_HEARTBEAT: Final = 0x01_0000
_GOAWAY: Final = 0x01_0064
_ONEWAY: Final = 0x02_0001

_KINDS: Final = {
    _REQUEST: Kind.REQUEST,
    _ONEWAY: Kind.ONEWAY,
    _RESPONSE: Kind.RESPONSE,
    _HEARTBEAT: Kind.HEARTBEAT,
    _ACK: Kind.HEARTBEAT_ACK,
    _GOAWAY: Kind.GOAWAY,
}

HESSIAN2: Final = 1
V1_HESSIAN: Final = 1 << 24 | HESSIAN2
"""The dialect of a peer not heard yet: proto << 24 | ver1 << 16 | switch << 8 | codec; v1 has ver1 and switch 0."""


@attrs.frozen
class BoltExtra:
    """What a Bolt head holds beyond the neutral one (``RequestHead.extra``, ``ResponseHead.extra``)."""

    dialect: int
    ver2: int
    """The byte of that name; 1 everywhere so far."""
    timeout: int
    """Milliseconds as sent; 0 or less: none. 0 in responses."""
    class_name: bytes
    block: bytes
    """The header block as sent."""
    fields: Fields = attrs.field(repr=False)
    """What it says."""
    body_method: str = ""
    """The method's name, where only the content has it; likewise:"""
    body_service: str = ""

    @property
    def version(self) -> int:
        """1 or 2."""
        return self.dialect >> 24

    @property
    def codec(self) -> int:
        """How the content is serialized: 1 hessian2, 11 protobuf, 12 json."""
        return self.dialect & 0xFF


def _has_crc(dialect: int) -> bool:
    return dialect >> 16 == 0x0202 and dialect & 0x100 != 0


def _request_head(
    oneway: bool,
    dialect: int,
    ver2: int,
    timeout: int,
    class_length: int,
    block: bytes,
    max_headers: int,
    method: str = "",
    service: str = "",
) -> RequestHead:
    fields = read_fields(block[class_length:], max_headers)
    return RequestHead(
        service=fields.service or service,
        method=fields.method or method,
        headers=fields.headers,
        deadline=timeout / 1000 if timeout > 0 else None,
        oneway=oneway,
        extra=BoltExtra(
            dialect,
            ver2,
            timeout,
            block[:class_length],
            block[class_length:],
            fields,
            "" if fields.method else method,
            "" if fields.service else service,
        ),
    )


def _response_head(
    dialect: int, ver2: int, status: int, class_length: int, block: bytes, max_headers: int
) -> ResponseHead:
    fields = read_fields(block[class_length:], max_headers, ())
    return ResponseHead(
        status=from_native(status),
        native_status=status,
        headers=fields.headers,
        extra=BoltExtra(dialect, ver2, 0, block[:class_length], block[class_length:], fields),
    )


@lru_cache(maxsize=512)
def _remembered_request(*facts: Any) -> RequestHead:  # Any: as _request_head has them
    return recurring(_request_head(*facts))


@lru_cache(maxsize=512)
def _remembered_response(*facts: Any) -> ResponseHead:  # Any: as _response_head has them
    return recurring(_response_head(*facts))


_TOLD: Final = frozenset({REQUEST, RESPONSE, ONEWAY})
"""Kinds of messages that can fail alone."""


def _wrong(kind: Kind, text: str, stream_id: int, dialect: int, length: int) -> Malformed:
    return (
        MalformedMessage(text, kind, stream_id, dialect, length)
        if kind in _TOLD
        else Malformed(text)
    )


# What a client's contents begin with that call the service and method of their header, up to where both are said:
# nearly every request of that name begins so. Shared by all connections; emptied when full.
_agreed: Final[dict[tuple[str, str], bytes]] = {}
_MOST_AGREED: Final = 512
_LONGEST_AGREED: Final = 1024
_CLASS_LENGTH: Final = len(CLASS)


def _conflict(service: str, method: str, called: Called) -> str:
    """Say where the content calls something else than the header; empty: they agree, or only one says it."""
    if called.service is None:
        return "what the content calls cannot be read"
    if service and called.service and service != called.service:
        return "the content calls another service than the header"
    if method and method != called.method:
        return "the content calls another method than the header"
    return ""


def _remember(service: str, method: str, content: bytes, called: Called) -> None:
    if 0 < called.end <= _LONGEST_AGREED:
        if len(_agreed) >= _MOST_AGREED:
            _agreed.clear()
        _agreed[service, method] = content[: called.end]


@lru_cache(maxsize=16)
def _refusal(detail: str) -> ResponseHead:
    return ResponseHead(status=Status.INVALID_ARGUMENT, extra=Local(detail=detail))


class BoltWire:
    """See the module; no state but one option."""

    __slots__ = ("_strict",)
    name: Final = NAME

    def __init__(self, *, strict: bool = True) -> None:
        """``strict``: refuse a request that names two services, or two methods."""
        self._strict = strict

    def decode(self, buffer: bytes, at: int, size: int, limits: Limits) -> Message | int:
        """Read a message of either version; version 1, as in nearly all traffic, by the shortest way."""
        rest = size - at
        version = buffer[at]
        if version == 1:
            if rest < SHORTEST:
                return SHORTEST
            if buffer[at + 1] == 0:
                word, ver2, stream_id, codec, code, class_length, header_length, content_length = (
                    _RESPONSE_1.unpack_from(buffer, at)
                )
                start = at + _RESPONSE_1.size
            else:
                start = at + _REQUEST_1.size
                if start > size:
                    return _REQUEST_1.size
                word, ver2, stream_id, codec, code, class_length, header_length, content_length = (
                    _REQUEST_1.unpack_from(buffer, at)
                )
            word &= 0xFF_FFFF
            dialect = 1 << 24 | codec
            crc = 0
        elif version == 2:
            if rest < _RESPONSE_2.size:
                return _RESPONSE_2.size
            layout = _REQUEST_2 if buffer[at + 2] else _RESPONSE_2
            start = at + layout.size
            if start > size:
                return layout.size
            fixed = layout.unpack_from(buffer, at)
            _, ver1, type_, command, ver2, stream_id, codec, switch, code = fixed[:9]
            class_length, header_length, content_length = fixed[9:]
            if ver1 not in (1, 2):
                raise Malformed(f"ver1 is {ver1}")
            word = type_ << 16 | command
            dialect = 2 << 24 | ver1 << 16 | switch << 8 | codec
            crc = 4 if _has_crc(dialect) else 0
        else:
            raise Malformed(f"version {version}")
        kind = _KINDS.get(word)
        if kind is None:
            raise Malformed(f"type {word >> 16} with command {word & 0xFFFF}")
        head_length = class_length + header_length
        body = start + head_length
        end = body + content_length
        length: int = end + crc - at
        if head_length > limits.max_head_bytes:
            text = f"class name and header of {head_length} bytes, limit {limits.max_head_bytes}"
            raise _wrong(kind, text, stream_id, dialect, length)
        if length > limits.max_message_bytes:
            text = f"message of {length} bytes, limit {limits.max_message_bytes}"
            raise _wrong(kind, text, stream_id, dialect, length)
        if length > rest:
            return length
        if crc and zlib.crc32(memoryview(buffer)[at:end]) != _ID.unpack_from(buffer, end)[0]:
            raise Malformed("CRC does not match")
        if kind is REQUEST or kind is ONEWAY:
            block = buffer[start:body]
            content = buffer[body:end]
            read = _remembered_request if head_length <= MEMO_BYTES else _request_head
            facts = dialect, ver2, code, class_length, block, limits.max_headers
            try:
                request = read(kind is ONEWAY, *facts)
            except Malformed as exc:
                raise _wrong(kind, str(exc), stream_id, dialect, length) from exc
            wrong = ""
            if request.extra.fields.conflict:
                wrong = "the header names two services"
            elif (
                codec == HESSIAN2
                and class_length == _CLASS_LENGTH
                and content[:1] in OBJECTS
                and block.startswith(CLASS)
            ):
                service, method = request.service, request.method
                seen = _agreed.get((service, method)) if service and method else None
                if seen is None or not content.startswith(seen):
                    called = called_in(content)
                    wrong = _conflict(service, method, called)
                    if not (service and method) and not wrong:
                        request = read(kind is ONEWAY, *facts, called.method, called.service or "")
                    elif service and method and not wrong:
                        _remember(service, method, content, called)
            if wrong and self._strict:
                if kind is ONEWAY:
                    return Kind.IGNORED, stream_id, NO_HEAD, b"", length, dialect
                return Kind.REFUSED, stream_id, _refusal(wrong), b"", length, dialect
            return kind, stream_id, request, content, length, dialect
        if kind is RESPONSE:
            answer = _remembered_response if head_length <= MEMO_BYTES else _response_head
            try:
                response = answer(
                    dialect, ver2, code, class_length, buffer[start:body], limits.max_headers
                )
            except Malformed as exc:
                raise _wrong(kind, str(exc), stream_id, dialect, length) from exc
            return kind, stream_id, response, buffer[body:end], length, dialect
        return kind, stream_id, NO_HEAD, b"", length, dialect

    def patch(self, raw: bytes, stream_id: int, dialect: int | None) -> bytes:
        """Put another id into a message; recompute its CRC if it has one."""
        if raw[0] == 1:
            if dialect is not None and dialect >> 24 != 1:
                return b""
            return raw[:5] + _pack_id(stream_id & _ID_MASK) + raw[9:]
        ours = 2 << 24 | raw[1] << 16 | raw[11] << 8
        if dialect is not None and dialect & ~0xFF != ours:
            return b""
        patched = raw[:6] + _pack_id(stream_id & _ID_MASK) + raw[10:]
        if _has_crc(ours):
            patched = patched[:-4]
            patched += _pack_id(zlib.crc32(patched))
        return patched

    def request(self, stream_id: int, head: RequestHead, data: bytes) -> bytes:
        """Write a request; what was not changed of a Bolt head goes out as it came in."""
        word = _ONEWAY if head.oneway else _REQUEST
        extra = head.extra
        if not isinstance(extra, BoltExtra):
            block = write_fields(head.service, head.method, head.headers, None)
            timeout = _milliseconds(head.deadline)
            return _write(word, V1_HESSIAN, 1, stream_id, timeout, CLASS, block, data)
        fields = extra.fields
        # The name inside the content needs no second place in the header.
        in_body = not fields.method and head.method == extra.body_method
        method = "" if in_body else head.method
        in_body = not fields.service and head.service == extra.body_service
        service = "" if in_body else head.service
        if head.headers is fields.headers and service == fields.service and method == fields.method:
            block = extra.block
        else:
            block = write_fields(service, method, head.headers, fields)
        timeout = extra.timeout
        if head.deadline != (timeout / 1000 if timeout > 0 else None):
            timeout = _milliseconds(head.deadline)
        return _write(
            word, extra.dialect, extra.ver2, stream_id, timeout, extra.class_name, block, data
        )

    def response(self, stream_id: int, head: ResponseHead, data: bytes, dialect: int) -> bytes:
        """Write an answer in the dialect of its request; one made here has no content unless it is a success."""
        extra = head.extra
        native = head.native_status
        # What was read goes on as it is, also where Bolt does not define it: small messages are copied, long ones
        # and those with a header more are written anew, and neither may change what a server said.
        theirs = (
            native is not None
            and from_native(native) is head.status
            and (is_known(native) or (isinstance(extra, BoltExtra) and 0 <= native <= _LAST_STATUS))
        )
        code = native if native is not None and theirs else STATUSES.code_of(head)
        if isinstance(extra, BoltExtra):
            fields = extra.fields
            block = (
                extra.block
                if head.headers is fields.headers
                else write_fields("", "", head.headers, fields)
            )
            dialect = dialect & ~0xFF | extra.codec
            return _write(
                _RESPONSE, dialect, extra.ver2, stream_id, code, extra.class_name, block, data
            )
        if code != SUCCESS and not theirs:
            return _write(_RESPONSE, dialect, 1, stream_id, code, b"", b"", b"")
        block = write_fields("", "", head.headers, NO_FIELDS)
        class_name = RESPONSE_CLASS if data else b""
        return _write(_RESPONSE, dialect, 1, stream_id, code, class_name, block, data)

    def acknowledge(self, raw: bytes) -> bytes:
        """Answer a heartbeat: same id, version and codec, status 0."""
        if raw[0] == 1:
            return raw[:1] + b"\0\0\0" + raw[4:10] + bytes(10)
        answer = raw[:2] + b"\0\0\0" + raw[5:12] + bytes(10)
        dialect = 2 << 24 | raw[1] << 16 | raw[11] << 8
        return answer + _pack_id(zlib.crc32(answer)) if _has_crc(dialect) else answer

    def heartbeat(self, dialect: int) -> bytes:
        """Ask for a sign of life in the version last heard."""
        return _write(_HEARTBEAT, dialect or V1_HESSIAN, 1, 0, 0, b"", b"", b"")

    def goaway(self, dialect: int) -> bytes:
        """Command 100, an extension of MOSN's."""
        return _write(_GOAWAY, dialect or V1_HESSIAN, 1, 0, 0, b"", b"", b"")


def _milliseconds(deadline: float | None) -> int:
    """Return a timeout to send: 0 for none, else at least 1, as 0 would mean none."""
    return 0 if deadline is None else min(max(1, ceil(deadline * 1000)), _LONGEST_TIMEOUT_MS)


def _write(
    word: int,
    dialect: int,
    ver2: int,
    stream_id: int,
    code: int,
    class_name: bytes,
    block: bytes,
    data: bytes,
) -> bytes:
    """Write a message; ``code`` is the timeout of a request, the status of a response."""
    for what, part in (("class name", class_name), ("header", block)):
        if len(part) > _LONGEST_PART:
            raise LocalProtocolError(f"{what} of {len(part)} bytes, limit {_LONGEST_PART}")
    if len(data) > _ID_MASK:
        raise LocalProtocolError(f"content of {len(data)} bytes, limit {_ID_MASK}")
    # The id's field is signed.
    stream_id = (stream_id & _ID_MASK ^ 0x8000_0000) - 0x8000_0000
    lengths = (len(class_name), len(block), len(data))
    codec = dialect & 0xFF
    answer = word >> 16 == 0
    if dialect >> 24 == 1:
        pack = _RESPONSE_1.pack if answer else _REQUEST_1.pack
        fixed = pack(1 << 24 | word, ver2, stream_id, codec, code, *lengths)
    else:
        pack = _RESPONSE_2.pack if answer else _REQUEST_2.pack
        ver1, switch = dialect >> 16 & 0xFF, dialect >> 8 & 0xFF
        fixed = pack(
            2, ver1, word >> 16, word & 0xFFFF, ver2, stream_id, codec, switch, code, *lengths
        )
    written = fixed + class_name + block + data
    return written + _pack_id(zlib.crc32(written)) if _has_crc(dialect) else written
