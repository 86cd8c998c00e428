"""Mappings, row by row."""

from __future__ import annotations

import pytest

from xproxy.codecs.grpc.status import http_code_of, local_status, status_in, status_of_http
from xproxy.codecs.http2.status import ErrorCode, error_of, status_of_error
from xproxy.model.headers import Headers
from xproxy.model.message import Local, Reason, ResponseHead
from xproxy.model.status import Status


@pytest.mark.parametrize("status", Status)
def test_each_number_is_read(status: Status) -> None:
    assert status_in(Headers((("grpc-status", str(status.value)),))) is status


@pytest.mark.parametrize("text", ["17", "-1", "", "x", "00", "1.0", "٣"])
def test_what_is_no_known_number_is_unknown(text: str) -> None:
    assert status_in(Headers((("grpc-status", text),))) is Status.UNKNOWN


def test_nothing_said_is_nothing_known() -> None:
    assert status_in(Headers((("grpc-message", "x"),))) is None


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (400, Status.INTERNAL),
        (401, Status.UNAUTHENTICATED),
        (403, Status.PERMISSION_DENIED),
        (404, Status.UNIMPLEMENTED),
        (429, Status.UNAVAILABLE),
        (502, Status.UNAVAILABLE),
        (503, Status.UNAVAILABLE),
        (504, Status.UNAVAILABLE),
        *[(code, Status.UNKNOWN) for code in (0, 100, 200, 204, 302, 405, 409, 499, 500, 501, 999)],
    ],
)
def test_http_to_grpc(code: int, status: Status) -> None:
    assert status_of_http(code) is status


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.OK, 200),
        (Status.CANCELLED, 499),
        (Status.UNKNOWN, 500),
        (Status.INVALID_ARGUMENT, 400),
        (Status.DEADLINE_EXCEEDED, 504),
        (Status.NOT_FOUND, 404),
        (Status.ALREADY_EXISTS, 409),
        (Status.PERMISSION_DENIED, 403),
        (Status.RESOURCE_EXHAUSTED, 429),
        (Status.FAILED_PRECONDITION, 400),
        (Status.ABORTED, 409),
        (Status.OUT_OF_RANGE, 400),
        (Status.UNIMPLEMENTED, 501),
        (Status.INTERNAL, 500),
        (Status.UNAVAILABLE, 503),
        (Status.DATA_LOSS, 500),
        (Status.UNAUTHENTICATED, 401),
    ],
)
def test_grpc_to_http(status: Status, code: int) -> None:
    assert http_code_of(status) == code


def test_grpc_to_http_is_total() -> None:
    assert all(200 <= http_code_of(status) < 600 for status in Status)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (ErrorCode.NO_ERROR, Status.INTERNAL),
        (ErrorCode.PROTOCOL_ERROR, Status.INTERNAL),
        (ErrorCode.INTERNAL_ERROR, Status.INTERNAL),
        (ErrorCode.FLOW_CONTROL_ERROR, Status.INTERNAL),
        (ErrorCode.SETTINGS_TIMEOUT, Status.INTERNAL),
        (ErrorCode.STREAM_CLOSED, Status.INTERNAL),
        (ErrorCode.FRAME_SIZE_ERROR, Status.INTERNAL),
        (ErrorCode.REFUSED_STREAM, Status.UNAVAILABLE),
        (ErrorCode.CANCEL, Status.CANCELLED),
        (ErrorCode.COMPRESSION_ERROR, Status.INTERNAL),
        (ErrorCode.CONNECT_ERROR, Status.INTERNAL),
        (ErrorCode.ENHANCE_YOUR_CALM, Status.RESOURCE_EXHAUSTED),
        (ErrorCode.INADEQUATE_SECURITY, Status.PERMISSION_DENIED),
        (0x99, Status.INTERNAL),
    ],
)
def test_rst_stream_to_grpc(code: int, status: Status) -> None:
    assert status_of_error(code) is status


def test_a_deadline_and_a_caller_that_left_are_cancelled_upstream() -> None:
    assert error_of(Status.DEADLINE_EXCEEDED) is ErrorCode.CANCEL
    assert error_of(Status.CANCELLED) is ErrorCode.CANCEL


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [
        (Status.NOT_FOUND, Reason.NO_ROUTE, Status.UNIMPLEMENTED),
        (Status.NOT_FOUND, Reason.NONE, Status.NOT_FOUND),
        (Status.INVALID_ARGUMENT, Reason.HEAD_TOO_LARGE, Status.RESOURCE_EXHAUSTED),
        (Status.INVALID_ARGUMENT, Reason.BODY_TOO_LARGE, Status.RESOURCE_EXHAUSTED),
        (Status.INVALID_ARGUMENT, Reason.NONE, Status.INVALID_ARGUMENT),
        (Status.DEADLINE_EXCEEDED, Reason.REQUEST_TIMEOUT, Status.DEADLINE_EXCEEDED),
        (Status.RESOURCE_EXHAUSTED, Reason.OVERFLOW, Status.RESOURCE_EXHAUSTED),
        (Status.RESOURCE_EXHAUSTED, Reason.RATE_LIMITED, Status.RESOURCE_EXHAUSTED),
        (Status.UNAVAILABLE, Reason.UPSTREAM_PROTOCOL, Status.UNAVAILABLE),
        (Status.UNAVAILABLE, Reason.UPSTREAM_RESET, Status.UNAVAILABLE),
        (Status.CANCELLED, Reason.UPSTREAM_RESET, Status.CANCELLED),
        (Status.OK, Reason.NO_ROUTE, Status.OK),
    ],
)
def test_replies_made_here(status: Status, reason: Reason, said: Status) -> None:
    assert local_status(ResponseHead(status=status, extra=Local(reason=reason))) is said


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("reason", Reason)
def test_every_reply_has_an_outcome(status: Status, reason: Reason) -> None:
    said = local_status(ResponseHead(status=status, extra=Local(reason=reason)))
    assert (said is Status.OK) is (status is Status.OK)
