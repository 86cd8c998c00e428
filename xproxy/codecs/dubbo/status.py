"""Dubbo's statuses ↔ neutral ones, both ways total (Dubbo: org.apache.dubbo.remoting.exchange.Response)."""

from __future__ import annotations

from typing import Final

from xproxy.codecs.status_table import StatusTable
from xproxy.model.message import Reason
from xproxy.model.status import Status

OK: Final = 20
CLIENT_TIMEOUT: Final = 30
BAD_REQUEST: Final = 40
BAD_RESPONSE: Final = 50
SERVICE_NOT_FOUND: Final = 60
SERVER_ERROR: Final = 80
SERVER_BUSY: Final = 100

STATUSES: Final = StatusTable(
    {
        OK: Status.OK,
        25: Status.INTERNAL,  # serialization error
        CLIENT_TIMEOUT: Status.DEADLINE_EXCEEDED,
        31: Status.DEADLINE_EXCEEDED,  # server timeout
        35: Status.UNAVAILABLE,  # channel inactive
        BAD_REQUEST: Status.INVALID_ARGUMENT,
        BAD_RESPONSE: Status.INTERNAL,
        SERVICE_NOT_FOUND: Status.NOT_FOUND,
        70: Status.INTERNAL,  # service error
        SERVER_ERROR: Status.INTERNAL,
        90: Status.INVALID_ARGUMENT,  # client error
        SERVER_BUSY: Status.RESOURCE_EXHAUSTED,  # thread pool exhausted
    },
    {
        Status.OK: OK,
        Status.CANCELLED: SERVER_ERROR,
        Status.UNKNOWN: SERVER_ERROR,
        Status.INVALID_ARGUMENT: BAD_REQUEST,
        Status.DEADLINE_EXCEEDED: CLIENT_TIMEOUT,
        Status.NOT_FOUND: SERVICE_NOT_FOUND,
        Status.ALREADY_EXISTS: BAD_REQUEST,
        Status.PERMISSION_DENIED: BAD_REQUEST,
        Status.RESOURCE_EXHAUSTED: SERVER_BUSY,
        Status.FAILED_PRECONDITION: BAD_REQUEST,
        Status.ABORTED: SERVER_ERROR,
        Status.OUT_OF_RANGE: BAD_REQUEST,
        Status.UNIMPLEMENTED: SERVICE_NOT_FOUND,
        Status.INTERNAL: SERVER_ERROR,
        Status.UNAVAILABLE: SERVER_ERROR,
        Status.DATA_LOSS: SERVER_ERROR,
        Status.UNAUTHENTICATED: BAD_REQUEST,
    },
    {
        Reason.UPSTREAM_PROTOCOL: BAD_RESPONSE,
    },
)
from_native: Final = STATUSES.from_native
to_native: Final = STATUSES.to_native
is_known: Final = STATUSES.is_known
