"""Heads on a link: the neutral ones, as msgpack. What they may hold of a codec's own facts is a closed set.

``RequestHead.extra`` is None or a ``Target``, ``ResponseHead.extra`` None or a ``Local``. Anything else is a codec's
own: another process cannot know it, and to whom it goes is another codec in any case.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgpack

from xproxy.codecs.relay.wire import MAX_DATA, Malformed
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Trailers
from xproxy.model.headers import NO_HEADERS, Headers
from xproxy.model.limits import Limits
from xproxy.model.message import Fields, Local, Reason, RequestHead, ResponseHead, Rpc, Target
from xproxy.model.status import Status

_STATUSES: Final = {status.value: status for status in Status}
_REASONS: Final = {reason.value: reason for reason in Reason}


def pack_head(
    message: RequestHead | ResponseHead,
    limits: Limits,
    *,
    interim: bool = False,
    data: bytes | None = None,
) -> bytes:
    """Write a head down, with ``data`` where that is all of its message: some codecs say it otherwise than in pieces.

    Raises LocalProtocolError if it has no bytes, or too many.
    """
    content = (
        _of_request(message)
        if isinstance(message, RequestHead)
        else _of_response(message, interim=interim)
    )
    return _packed([*content, data], limits, 0 if data is None else len(data))


def _of_request(message: RequestHead) -> list[object]:
    target = message.extra
    return [
        message.service,
        message.method,
        message.headers.pairs,
        message.deadline,
        message.oneway,
        _of_target(target) if isinstance(target, Target) else None,
    ]


def _of_target(target: Target) -> list[object]:
    rpc = target.rpc
    return [
        target.path,
        target.scheme,
        target.version,
        target.upgrade,
        target.upgrade_only,
        None if rpc is None else [rpc.dialect, rpc.service, rpc.method],
        target.hop,
        target.matched,
    ]


def _of_response(message: ResponseHead, *, interim: bool) -> list[object]:
    local = message.extra
    return [
        message.status.value,
        message.native_status,
        message.headers.pairs,
        [local.detail, local.reason.value, local.retry_after] if isinstance(local, Local) else None,
        interim,
    ]


def pack_trailers(frame: Trailers, limits: Limits) -> bytes:
    """Write trailers down. Raises LocalProtocolError."""
    status = None if frame.status is None else frame.status.value
    return _packed([status, frame.headers.pairs], limits)


def _packed(content: object, limits: Limits, beside: int = 0) -> bytes:
    try:
        packed: bytes = msgpack.packb(content, unicode_errors="surrogateescape")
    except (UnicodeError, OverflowError) as exc:
        raise LocalProtocolError("a text or number of a head has no bytes") from exc
    size = len(packed) - beside
    if size > limits.max_head_bytes:
        raise LocalProtocolError(f"head is {size} bytes, limit of a link {limits.max_head_bytes}")
    return packed


def read_request(payload: bytes, limits: Limits) -> tuple[RequestHead, bytes | None]:
    """Read a request's head, and its body where it came with it. Raises Malformed."""
    match _unpacked(payload):
        case [
            str(service),
            str(method),
            list(fields),
            (None | int() | float()) as deadline,
            bool(oneway),
            target,
            (None | bytes()) as data,
        ]:
            _check(payload, data, limits)
            head = RequestHead(
                service=service,
                method=method,
                headers=_headers(fields, limits),
                deadline=deadline,
                oneway=oneway,
                extra=None if target is None else _read_target(target),
            )
            return head, data
        case _:
            raise Malformed("a request's head does not hold what it must")


def _read_target(found: object) -> Target:
    match found:
        case [
            str(path),
            str(scheme),
            str(version),
            str(upgrade),
            bool(upgrade_only),
            rpc,
            list(hop),
            [str(matched), str(instead)],
        ]:
            return Target(
                path=path,
                scheme=scheme,
                version=version,
                upgrade=upgrade,
                upgrade_only=upgrade_only,
                rpc=None if rpc is None else _read_rpc(rpc),
                hop=_pairs(hop),
                matched=(matched, instead),
            )
        case _:
            raise Malformed("a target does not hold what it must")


def _read_rpc(found: object) -> Rpc:
    match found:
        case [str(dialect), str(service), str(method)]:
            return Rpc(dialect, service, method)
        case _:
            raise Malformed("a call does not hold what it must")


def read_response(payload: bytes, limits: Limits) -> tuple[ResponseHead, bool, bytes | None]:
    """Read a response's head, whether it is an interim one, and its body where it came with it. Raises Malformed."""
    match _unpacked(payload):
        case [
            int(status),
            (None | int()) as native,
            list(fields),
            local,
            bool(interim),
            (None | bytes()) as data,
        ] if not interim or data is None:
            _check(payload, data, limits)
            head = ResponseHead(
                status=_status(status),
                native_status=native,
                headers=_headers(fields, limits),
                extra=None if local is None else _read_local(local),
            )
            return head, interim, data
        case _:
            raise Malformed("a response's head does not hold what it must")


def _check(payload: bytes, data: bytes | None, limits: Limits) -> None:
    # What came in one frame may be as long as both bounds together.
    beside = 0 if data is None else len(data)
    if beside > MAX_DATA:
        raise Malformed(f"{beside} bytes with a head, limit {MAX_DATA}")
    if len(payload) - beside > limits.max_head_bytes:
        raise Malformed(f"head is {len(payload) - beside} bytes, limit {limits.max_head_bytes}")


def _read_local(found: object) -> Local:
    match found:
        case [str(detail), str(reason), (None | int()) as retry_after] if reason in _REASONS:
            return Local(detail=detail, reason=_REASONS[reason], retry_after=retry_after)
        case _:
            raise Malformed("a local reply does not hold what it must")


def read_trailers(payload: bytes, stream_id: int, limits: Limits) -> Trailers:
    """Read trailers. Raises Malformed."""
    match _unpacked(payload):
        case [(None | int()) as status, list(fields)]:
            outcome = None if status is None else _status(status)
            return Trailers(stream_id, _headers(fields, limits), outcome)
        case _:
            raise Malformed("trailers do not hold what they must")


def _unpacked(payload: bytes) -> object:
    try:
        found: object = msgpack.unpackb(
            payload, unicode_errors="surrogateescape", strict_map_key=False
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as exc:
        raise Malformed("a head is not msgpack") from exc
    return found


def _status(number: int) -> Status:
    status = _STATUSES.get(number)
    if status is None:
        raise Malformed(f"{number} is no status")
    return status


def _headers(fields: Sequence[object], limits: Limits) -> Headers:
    if not fields:
        return NO_HEADERS
    if len(fields) > limits.max_headers:
        raise Malformed(f"{len(fields)} fields, limit {limits.max_headers} (max_headers)")
    return Headers(_pairs(fields))


def _pairs(fields: Sequence[object]) -> Fields:
    pairs = []
    for field in fields:
        match field:
            case [str(name), str(value)]:
                pairs.append((name, value))
            case _:
                raise Malformed("a field is not a pair of texts")
    return tuple(pairs)
