"""Heads of Dubbo messages: what is known of a request and of an answer, made once for all that recurs.

``data`` is what follows the prefix: arguments *and* attachments, or all of an answer. There is one exception:
where the only argument, or the value of an answer, is a byte array, ``data`` is its content. Thus bodies of
other protocols travel. Where the arguments are few and plain, their end is found at once: then prefix and
attachments together make one remembered head. Elsewhere each message has its own, which reads its attachments
when asked.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, TypeAlias

import attrs

from xproxy.codecs.dubbo.arguments import past_plain
from xproxy.codecs.dubbo.attachments import DEMAND, LONG, VERSION, Attachments
from xproxy.codecs.dubbo.json_prefix import Address
from xproxy.codecs.dubbo.prefix import BYTES, MEMO_BYTES, Prefix, read_prefix
from xproxy.codecs.dubbo.status import OK, from_native
from xproxy.codecs.dubbo.targets import agrees
from xproxy.codecs.hessian2 import HessianError, is_binary, read_binary, read_text
from xproxy.codecs.messages import ORIGIN_MAX_BYTES
from xproxy.codecs.slices import Work
from xproxy.model.headers import NO_HEADERS, Headers
from xproxy.model.limits import Limits
from xproxy.model.message import RequestHead, ResponseHead, recurring
from xproxy.model.status import Status

HESSIAN2: Final = 2
"""The serialization id."""

# First byte of a good answer's body: the ints 0 … 5.
EXCEPTION: Final = 0x90
VALUE: Final = 0x91
NO_VALUE: Final = 0x92
WITH_ATTACHMENTS: Final = 3
"""More than the same without."""

_EXCEPTIONS: Final = (EXCEPTION, EXCEPTION + WITH_ATTACHMENTS)
_FEW: Final = 4
"""With more arguments nobody tries whether all are plain."""


@attrs.frozen
class Call:
    """What a Dubbo request's head holds beyond the neutral one (``RequestHead.extra``)."""

    serialization: int
    prefix: Prefix | None
    """None: in a serialisation that is not understood."""
    method: str = ""
    """As shown: of a generic call the one that is really meant."""
    attachments: Attachments | None = None
    """``RequestHead.headers`` as read."""
    tail: bytes | None = None
    """The only argument is a byte array, which is ``data``, and these bytes follow it. None: ``data`` is all."""
    service: str = ""
    """As shown, where there is no prefix; likewise:"""
    shown: Headers = NO_HEADERS
    conflict: str = ""
    """Why it is not certain for whom it is: prefix and attachments do not agree. Empty: they do."""


@attrs.frozen
class Answer:
    """What a Dubbo answer's head holds beyond the neutral one (``ResponseHead.extra``)."""

    serialization: int
    exception: bool = False
    """It succeeded as a message, and holds an exception of the application."""
    attachments: Attachments | None = None
    """``ResponseHead.headers`` as read; None: there is no place for them, or it is not used."""
    tail: bytes | None = None
    """The value is a byte array, which is ``data``, and these bytes follow it. None: ``data`` is all."""


@lru_cache(maxsize=512)
def _shared_request(
    oneway: bool,
    block: bytes,
    method: str,
    tail: bytes,
    is_bytes: bool,
    max_headers: int,
    max_bytes: int,
) -> RequestHead:
    prefix = read_prefix(block)
    assert prefix is not None
    attachments = Attachments(tail, 0, 0, max_headers, max_bytes, prefix.path, prefix.version)
    conflict = attachments.conflict()
    return recurring(
        _request(oneway, prefix, method, attachments, tail if is_bytes else None, conflict)
    )


def _request(
    oneway: bool,
    prefix: Prefix,
    method: str,
    attachments: Attachments,
    tail: bytes | None,
    conflict: str,
) -> RequestHead:
    return RequestHead(
        service=prefix.path,
        method=method,
        headers=attachments,
        oneway=oneway,
        extra=Call(HESSIAN2, prefix, method, attachments, tail, conflict=conflict),
    )


@lru_cache(maxsize=512)
def opaque_request(oneway: bool, serialization: int, address: Address | None = None) -> RequestHead:
    """Return the head of a request that is passed on as it is; ``address``: for whom, where that can be read."""
    if address is None:
        extra = Call(serialization, None)
        return recurring(RequestHead(service="", method="", oneway=oneway, extra=extra))
    path, version, method = address.path, address.version, address.method
    headers = Headers(((VERSION, version),)) if version else NO_HEADERS
    return recurring(
        RequestHead(
            service=path,
            method=method,
            headers=headers,
            oneway=oneway,
            extra=Call(serialization, None, method, service=path, shown=headers),
        )
    )


@lru_cache(maxsize=512)
def bare_response(
    serialization: int, status: int, first: int, tail: bytes | None = None
) -> ResponseHead:
    return recurring(
        ResponseHead(
            status=from_native(status),
            native_status=status,
            extra=Answer(serialization, first in _EXCEPTIONS, None, tail),
        )
    )


@lru_cache(maxsize=512)
def _shared_response(
    first: int, tail: bytes, is_bytes: bool, max_headers: int, max_bytes: int
) -> ResponseHead:
    attachments = Attachments(tail, 0, 0, max_headers, max_bytes)
    return recurring(_response(first, attachments, tail if is_bytes else None))


def _response(first: int, attachments: Attachments, tail: bytes | None) -> ResponseHead:
    return ResponseHead(
        status=Status.OK,
        native_status=OK,
        headers=attachments,
        extra=Answer(HESSIAN2, first in _EXCEPTIONS, attachments, tail),
    )


Read: TypeAlias = tuple[RequestHead, bytes] | Work[tuple[RequestHead, bytes]]
"""A head and its data, or the work of reading them: it may be short."""
ReadAnswer: TypeAlias = tuple[ResponseHead, bytes] | Work[tuple[ResponseHead, bytes]]


def read_call(
    oneway: bool,
    prefix: Prefix,
    data: bytes,
    limits: Limits,
    *,
    strict: bool = True,
    further: bool = False,
) -> Read:
    """Return the head of a request whose body has ``data`` after its prefix, and its data.

    ``strict``: look for a conflict also where that costs something. ``further``: much has been read at once already.
    """
    method = _meant(prefix, data) if prefix.generic else prefix.method
    count = prefix.parameters
    max_headers, max_bytes = limits.max_headers, limits.max_head_bytes
    content = None
    if prefix.types == BYTES:
        content, at = _byte_array(data, 0)
    else:
        at = past_plain(data, 0, count) if 0 <= count <= _FEW else -1
    if at >= 0:
        tail = data[at:]
        if len(tail) <= MEMO_BYTES and len(prefix.block) <= MEMO_BYTES:
            head = _shared_request(
                oneway, prefix.block, method, tail, content is not None, max_headers, max_bytes
            )
            return head, data if content is None else content
    attachments = Attachments(
        data,
        max(at, 0),
        count if at < 0 else 0,
        max_headers,
        max_bytes,
        prefix.path,
        prefix.version,
    )
    searchable = at < 0 <= count
    rest = data if content is None else content, None if content is None else data[at:]
    further = further or len(data) - max(at, 0) > LONG
    return _reading_call(
        oneway, prefix, method, attachments, data, *rest, strict, searchable, further
    )


def _reading_call(
    oneway: bool,
    prefix: Prefix,
    method: str,
    attachments: Attachments,
    data: bytes,
    content: bytes,
    tail: bytes | None,
    strict: bool,
    searchable: bool,
    further: bool,
) -> Work[tuple[RequestHead, bytes]]:
    conflict = ""
    if strict and not (searchable and (yield from agrees(data, prefix))):
        if further:
            yield  # many that are walked through may come at once
        yield from attachments.reading()
        conflict = attachments.conflict()
    # Of a long one now, as the head must not keep so large a body.
    if len(data) > (LONG if DEMAND.arose else ORIGIN_MAX_BYTES):
        yield from attachments.reading()
    return _request(oneway, prefix, method, attachments, tail, conflict), content


def _meant(prefix: Prefix, data: bytes) -> str:
    """Return the method that a generic call is for."""
    try:
        method, at = read_text(data, 0)
    except (HessianError, IndexError):
        return prefix.method
    return method if method and at <= MEMO_BYTES else prefix.method


def _byte_array(data: bytes, at: int) -> tuple[bytes | None, int]:
    """Return the byte array at ``at``, and where it ends; (None, -1) if there is something else."""
    try:
        if is_binary(data[at]):
            return read_binary(data, at)
    except (HessianError, IndexError):
        pass
    return None, -1


def read_answer(data: bytes, limits: Limits) -> ReadAnswer:
    """Return the head of a good answer, and its data."""
    first = data[0]
    content, at = None, -1
    if first == VALUE or first == VALUE + WITH_ATTACHMENTS:
        content, at = _byte_array(data, 1)
    if not EXCEPTION + WITH_ATTACHMENTS <= first <= NO_VALUE + WITH_ATTACHMENTS:
        if content is not None and at == len(data):
            return bare_response(HESSIAN2, OK, first, b""), content
        return bare_response(HESSIAN2, OK, first), data
    max_headers, max_bytes = limits.max_headers, limits.max_head_bytes
    values = 0 if first == NO_VALUE + WITH_ATTACHMENTS else 1
    if at < 0:
        at = past_plain(data, 1, values)
    tail = data[at:] if at >= 0 else None
    if tail is not None and len(tail) <= MEMO_BYTES:
        head = _shared_response(first, tail, content is not None, max_headers, max_bytes)
    else:
        attachments = Attachments(data, 1, values, max_headers, max_bytes)
        head = _response(first, attachments, tail if content is not None else None)
        if len(data) > (LONG if DEMAND.arose else ORIGIN_MAX_BYTES):
            return _reading_answer(head, attachments, data if content is None else content)
    return head, data if content is None else content


def _reading_answer(
    head: ResponseHead, attachments: Attachments, data: bytes
) -> Work[tuple[ResponseHead, bytes]]:
    yield from attachments.reading()
    return head, data
