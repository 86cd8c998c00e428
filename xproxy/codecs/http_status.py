"""HTTP status codes ⇄ the neutral status, both ways total, and the codes of replies that the proxy makes."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from xproxy.model.message import Local, Reason, RequestHead, ResponseHead
from xproxy.model.status import Status

_BY_CODE: Final[Mapping[int, Status]] = {
    401: Status.UNAUTHENTICATED,
    403: Status.PERMISSION_DENIED,
    404: Status.NOT_FOUND,
    407: Status.UNAUTHENTICATED,
    408: Status.DEADLINE_EXCEEDED,
    409: Status.ABORTED,
    410: Status.NOT_FOUND,
    429: Status.RESOURCE_EXHAUSTED,
    451: Status.PERMISSION_DENIED,
    499: Status.CANCELLED,
    502: Status.UNAVAILABLE,
    503: Status.UNAVAILABLE,
    504: Status.DEADLINE_EXCEEDED,
}
"""What differs from its class (the first digit)."""

_BY_CLASS: Final = (
    Status.UNKNOWN,
    Status.OK,
    Status.OK,
    Status.OK,
    Status.INVALID_ARGUMENT,
    Status.INTERNAL,
)

_BY_STATUS: Final[Mapping[Status, int]] = {
    Status.OK: 200,
    Status.CANCELLED: 499,
    Status.UNKNOWN: 500,
    Status.INVALID_ARGUMENT: 400,
    Status.DEADLINE_EXCEEDED: 504,
    Status.NOT_FOUND: 404,
    Status.ALREADY_EXISTS: 409,
    Status.PERMISSION_DENIED: 403,
    Status.RESOURCE_EXHAUSTED: 503,
    Status.FAILED_PRECONDITION: 400,
    Status.ABORTED: 409,
    Status.OUT_OF_RANGE: 400,
    Status.UNIMPLEMENTED: 501,
    Status.INTERNAL: 500,
    Status.UNAVAILABLE: 503,
    Status.DATA_LOSS: 500,
    Status.UNAUTHENTICATED: 401,
}

_BY_REASON: Final[Mapping[Reason, int | None]] = {
    Reason.NONE: None,
    Reason.HEAD_TOO_LARGE: 431,
    Reason.BODY_TOO_LARGE: 413,
    Reason.REQUEST_TIMEOUT: 408,
    Reason.RATE_LIMITED: 429,
    Reason.OVERFLOW: 503,
    Reason.NO_ROUTE: 404,
    Reason.UPSTREAM_PROTOCOL: 502,
    Reason.UPSTREAM_RESET: 502,
}
"""None: the status decides."""

_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}
_RETRY_AFTER_SECONDS: Final = 1
"""What an overloaded proxy asks for where nobody said how long."""


def status_of(code: int) -> Status:
    """Return the neutral status of an HTTP status code. Total: what is no HTTP code is UNKNOWN."""
    exact = _BY_CODE.get(code)
    if exact is not None:
        return exact
    return _BY_CLASS[code // 100] if 100 <= code < 600 else Status.UNKNOWN


def code_of(status: Status) -> int:
    """Return the HTTP status code for a neutral status. Total."""
    return _BY_STATUS[status]


def local_code(head: ResponseHead) -> int:
    """Return the code of a local reply: its reason decides, and where it has none its status. Success is success."""
    extra = head.extra
    failed = isinstance(extra, Local) and head.status is not Status.OK
    code = _BY_REASON[extra.reason] if failed else None
    return _BY_STATUS[head.status] if code is None else code


def retry_after(head: ResponseHead) -> int | None:
    """Return the seconds a local reply asks its client to wait, if it does (RFC 9110 §10.2.3)."""
    extra = head.extra
    if isinstance(extra, Local) and extra.retry_after is not None:
        return extra.retry_after
    return _RETRY_AFTER_SECONDS if head.status is Status.RESOURCE_EXHAUSTED else None


def reason_of(code: int) -> str:
    """Return the standard reason phrase, or an empty one (RFC 9112 §4: nobody may rely on it)."""
    return _REASONS.get(code, "")


def local_text(head: ResponseHead, request: RequestHead | None = None) -> bytes:
    """Return the body of a reply made here, where nobody gave it one: one line for a person, if something failed.

    Nothing where ``request`` gets none: a HEAD, and a call, which is told in fields.
    """
    code = local_code(head) if head.native_status is None else head.native_status
    if code < 400 or (
        request is not None and (request.method == "HEAD" or request.rpc is not None)
    ):
        return b""
    detail = head.extra.detail if isinstance(head.extra, Local) else ""
    return text_body(detail or reason_of(code))


def text_body(detail: str) -> bytes:
    """Return one line for a person."""
    return detail.encode("utf-8", "replace") + b"\n"
