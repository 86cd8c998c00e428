"""``grpc-status`` ⇄ the neutral status, and what HTTP codes mean to a caller. All mappings are total.

The neutral statuses are gRPC's own, so numbers need no table. (grpc/doc/statuscodes.md, http-grpc-status-mapping.md;
what an RST_STREAM means to gRPC is what HTTP/2's own ``status.py`` says of it.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from xproxy.model.headers import Headers
from xproxy.model.message import Local, Reason, ResponseHead
from xproxy.model.status import Status

STATUS: Final = "grpc-status"
"""The field with the outcome: decimal."""

_BY_TEXT: Final[Mapping[str, Status]] = {str(status.value): status for status in Status}

_BY_HTTP: Final[Mapping[int, Status]] = {
    400: Status.INTERNAL,
    401: Status.UNAUTHENTICATED,
    403: Status.PERMISSION_DENIED,
    404: Status.UNIMPLEMENTED,
    429: Status.UNAVAILABLE,
    502: Status.UNAVAILABLE,
    503: Status.UNAVAILABLE,
    504: Status.UNAVAILABLE,
}
"""What an HTTP answer without ``grpc-status`` means; all others are UNKNOWN."""

_HTTP: Final[Mapping[Status, int]] = {
    Status.OK: 200,
    Status.CANCELLED: 499,
    Status.UNKNOWN: 500,
    Status.INVALID_ARGUMENT: 400,
    Status.DEADLINE_EXCEEDED: 504,
    Status.NOT_FOUND: 404,
    Status.ALREADY_EXISTS: 409,
    Status.PERMISSION_DENIED: 403,
    Status.RESOURCE_EXHAUSTED: 429,
    Status.FAILED_PRECONDITION: 400,
    Status.ABORTED: 409,
    Status.OUT_OF_RANGE: 400,
    Status.UNIMPLEMENTED: 501,
    Status.INTERNAL: 500,
    Status.UNAVAILABLE: 503,
    Status.DATA_LOSS: 500,
    Status.UNAUTHENTICATED: 401,
}

_BY_REASON: Final[Mapping[Reason, Status | None]] = {
    Reason.NONE: None,
    Reason.HEAD_TOO_LARGE: Status.RESOURCE_EXHAUSTED,
    Reason.BODY_TOO_LARGE: Status.RESOURCE_EXHAUSTED,
    Reason.REQUEST_TIMEOUT: Status.DEADLINE_EXCEEDED,
    Reason.RATE_LIMITED: Status.RESOURCE_EXHAUSTED,
    Reason.OVERFLOW: Status.RESOURCE_EXHAUSTED,
    Reason.NO_ROUTE: Status.UNIMPLEMENTED,
    # An upstream's reset may carry a meaning of its own: the status decides.
    Reason.UPSTREAM_PROTOCOL: None,
    Reason.UPSTREAM_RESET: None,
}
"""What is said of replies made here; None: the status decides."""


def status_in(headers: Headers) -> Status | None:
    """Return the outcome that fields say, or None if they say none. What is no known number is UNKNOWN."""
    text = headers.get(STATUS)
    return None if text is None else _BY_TEXT.get(text, Status.UNKNOWN)


def status_of_http(code: int) -> Status:
    """Return what an HTTP status code means to a caller who got no ``grpc-status``. Total."""
    return _BY_HTTP.get(code, Status.UNKNOWN)


def http_code_of(status: Status) -> int:
    """Return the HTTP status code for clients that know no ``grpc-status``. Total."""
    return _HTTP[status]


def local_status(head: ResponseHead) -> Status:
    """Return the outcome that a reply made here gets on the wire. Total."""
    extra = head.extra
    failed = isinstance(extra, Local) and head.status is not Status.OK
    return (_BY_REASON[extra.reason] if failed else None) or head.status
