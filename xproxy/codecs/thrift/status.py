"""Thrift's outcomes ↔ neutral statuses, both ways total (thrift: TApplicationException).

An outcome is the type of a TApplicationException, or ``SUCCESS`` for a reply: also for one that holds an exception
which the interface declares. That is an answer like any other, and no fault of the endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from xproxy.model.status import Status

SUCCESS: Final = -1
"""A reply. Not one of Thrift's numbers, as 0 is an exception's: unknown."""
UNKNOWN: Final = 0
UNKNOWN_METHOD: Final = 1
INTERNAL_ERROR: Final = 6
PROTOCOL_ERROR: Final = 7

_TO_STATUS: Final[Mapping[int, Status]] = {
    SUCCESS: Status.OK,
    UNKNOWN: Status.INTERNAL,
    UNKNOWN_METHOD: Status.NOT_FOUND,
    2: Status.INVALID_ARGUMENT,  # invalid message type
    3: Status.INVALID_ARGUMENT,  # wrong method name
    4: Status.INVALID_ARGUMENT,  # bad sequence id
    5: Status.INTERNAL,  # missing result
    INTERNAL_ERROR: Status.INTERNAL,
    PROTOCOL_ERROR: Status.INVALID_ARGUMENT,
    8: Status.INTERNAL,  # invalid transform
    9: Status.INTERNAL,  # invalid protocol
    10: Status.INVALID_ARGUMENT,  # unsupported client type
    11: Status.RESOURCE_EXHAUSTED,  # load shedding (fbthrift)
}

_TO_NATIVE: Final[Mapping[Status, int]] = {
    Status.OK: SUCCESS,
    Status.CANCELLED: INTERNAL_ERROR,
    Status.UNKNOWN: INTERNAL_ERROR,
    Status.INVALID_ARGUMENT: PROTOCOL_ERROR,
    Status.DEADLINE_EXCEEDED: INTERNAL_ERROR,
    Status.NOT_FOUND: UNKNOWN_METHOD,
    Status.ALREADY_EXISTS: PROTOCOL_ERROR,
    Status.PERMISSION_DENIED: INTERNAL_ERROR,
    Status.RESOURCE_EXHAUSTED: INTERNAL_ERROR,
    Status.FAILED_PRECONDITION: PROTOCOL_ERROR,
    Status.ABORTED: INTERNAL_ERROR,
    Status.OUT_OF_RANGE: PROTOCOL_ERROR,
    Status.UNIMPLEMENTED: UNKNOWN_METHOD,
    Status.INTERNAL: INTERNAL_ERROR,
    Status.UNAVAILABLE: INTERNAL_ERROR,
    Status.DATA_LOSS: INTERNAL_ERROR,
    Status.UNAUTHENTICATED: INTERNAL_ERROR,
}


def from_native(native_status: int) -> Status:
    """Return what an outcome means; UNKNOWN for a type that Thrift does not define."""
    return _TO_STATUS.get(native_status, Status.UNKNOWN)


def to_native(status: Status) -> int:
    """Return the type of exception to send for a reply made here; SUCCESS for OK."""
    return _TO_NATIVE[status]
