"""HTTP/2's error codes ⇄ the neutral status, both ways total. Status codes are HTTP's, the same in every version."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from xproxy.codecs.http_status import code_of, local_code, retry_after, status_of
from xproxy.model.status import Status

__all__ = [
    "ErrorCode",
    "code_of",
    "error_of",
    "local_code",
    "retry_after",
    "status_of",
    "status_of_error",
]


class ErrorCode(enum.IntEnum):
    """Why a stream or a connection ends (RFC 9113 §7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


_BY_ERROR: Final[Mapping[int, Status]] = {
    # Refused means never looked at: the one error after which any request may be sent again (RFC 9113 §8.7).
    ErrorCode.REFUSED_STREAM: Status.UNAVAILABLE,
    ErrorCode.CANCEL: Status.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: Status.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: Status.PERMISSION_DENIED,
}
"""What gRPC makes of them too; all others, known or not, are INTERNAL (RFC 9113 §7)."""

_BY_STATUS: Final[Mapping[Status, ErrorCode]] = {
    Status.OK: ErrorCode.NO_ERROR,
    Status.CANCELLED: ErrorCode.CANCEL,
    Status.UNKNOWN: ErrorCode.INTERNAL_ERROR,
    Status.INVALID_ARGUMENT: ErrorCode.PROTOCOL_ERROR,
    Status.DEADLINE_EXCEEDED: ErrorCode.CANCEL,
    Status.NOT_FOUND: ErrorCode.INTERNAL_ERROR,
    Status.ALREADY_EXISTS: ErrorCode.INTERNAL_ERROR,
    Status.PERMISSION_DENIED: ErrorCode.INTERNAL_ERROR,
    Status.RESOURCE_EXHAUSTED: ErrorCode.ENHANCE_YOUR_CALM,
    Status.FAILED_PRECONDITION: ErrorCode.INTERNAL_ERROR,
    Status.ABORTED: ErrorCode.INTERNAL_ERROR,
    Status.OUT_OF_RANGE: ErrorCode.INTERNAL_ERROR,
    Status.UNIMPLEMENTED: ErrorCode.INTERNAL_ERROR,
    Status.INTERNAL: ErrorCode.INTERNAL_ERROR,
    # Not REFUSED_STREAM: a stream that is reset had been looked at, and must not be taken for one that was not.
    Status.UNAVAILABLE: ErrorCode.INTERNAL_ERROR,
    Status.DATA_LOSS: ErrorCode.INTERNAL_ERROR,
    Status.UNAUTHENTICATED: ErrorCode.INTERNAL_ERROR,
}


def status_of_error(code: int) -> Status:
    """Return what a RST_STREAM or GOAWAY with this code means. Total; NO_ERROR cuts a stream off too."""
    return _BY_ERROR.get(code, Status.INTERNAL)


def error_of(status: Status) -> ErrorCode:
    """Return the code with which a stream is reset for a neutral status. Total."""
    return _BY_STATUS[status]
