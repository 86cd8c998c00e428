"""Bolt's statuses ↔ neutral ones, both ways total (SOFABolt: ResponseStatus)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from xproxy.model.message import Reason
from xproxy.model.status import Status

SUCCESS: Final = 0
SERVER_EXCEPTION: Final = 2
UNKNOWN: Final = 3
SERVER_BUSY: Final = 4
COMMUNICATION_ERROR: Final = 5
NO_PROCESSOR: Final = 6
TIMEOUT: Final = 7
CODEC_EXCEPTION: Final = 9
CONNECTION_CLOSED: Final = 16

_TO_STATUS: Final[Mapping[int, Status]] = {
    SUCCESS: Status.OK,
    1: Status.INTERNAL,  # error
    SERVER_EXCEPTION: Status.INTERNAL,
    UNKNOWN: Status.INTERNAL,
    SERVER_BUSY: Status.RESOURCE_EXHAUSTED,  # thread pool busy
    COMMUNICATION_ERROR: Status.UNAVAILABLE,
    NO_PROCESSOR: Status.NOT_FOUND,
    TIMEOUT: Status.DEADLINE_EXCEEDED,
    8: Status.UNAVAILABLE,  # client send error
    CODEC_EXCEPTION: Status.INVALID_ARGUMENT,
    CONNECTION_CLOSED: Status.UNAVAILABLE,
    17: Status.INTERNAL,  # server serialize exception
    18: Status.INVALID_ARGUMENT,  # server deserialize exception
}

_TO_NATIVE: Final[Mapping[Status, int]] = {
    Status.OK: SUCCESS,
    Status.CANCELLED: UNKNOWN,
    Status.UNKNOWN: UNKNOWN,
    Status.INVALID_ARGUMENT: CODEC_EXCEPTION,
    Status.DEADLINE_EXCEEDED: TIMEOUT,
    Status.NOT_FOUND: NO_PROCESSOR,
    Status.ALREADY_EXISTS: CODEC_EXCEPTION,
    Status.PERMISSION_DENIED: SERVER_EXCEPTION,
    Status.RESOURCE_EXHAUSTED: SERVER_BUSY,
    Status.FAILED_PRECONDITION: CODEC_EXCEPTION,
    Status.ABORTED: UNKNOWN,
    Status.OUT_OF_RANGE: CODEC_EXCEPTION,
    Status.UNIMPLEMENTED: NO_PROCESSOR,
    Status.INTERNAL: UNKNOWN,
    Status.UNAVAILABLE: NO_PROCESSOR,
    Status.DATA_LOSS: UNKNOWN,
    Status.UNAUTHENTICATED: SERVER_EXCEPTION,
}

_FINER: Final[Mapping[Reason, int]] = {
    Reason.UPSTREAM_RESET: CONNECTION_CLOSED,
    Reason.UPSTREAM_PROTOCOL: COMMUNICATION_ERROR,
}


def from_native(native_status: int) -> Status:
    """Return what a status of the wire means; UNKNOWN for one that Bolt does not define."""
    return _TO_STATUS.get(native_status, Status.UNKNOWN)


def to_native(status: Status, reason: Reason = Reason.NONE) -> int:
    """Return the status to send for a reply made here."""
    if reason in _FINER and status is not Status.OK:
        return _FINER[reason]
    return _TO_NATIVE[status]


def is_known(native_status: int) -> bool:
    """Tell whether Bolt defines this status: SOFABolt's Java client throws on any other."""
    return native_status in _TO_STATUS
