"""Bolt's statuses ↔ neutral ones, both ways total (SOFABolt: ResponseStatus)."""

from __future__ import annotations

from typing import Final

from xproxy.codecs.status_table import StatusTable
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

STATUSES: Final = StatusTable(
    {
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
    },
    {
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
    },
    {
        Reason.UPSTREAM_RESET: CONNECTION_CLOSED,
        Reason.UPSTREAM_PROTOCOL: COMMUNICATION_ERROR,
    },
)
"""SOFABolt's Java client throws on any code that is not here."""
from_native: Final = STATUSES.from_native
to_native: Final = STATUSES.to_native
is_known: Final = STATUSES.is_known
