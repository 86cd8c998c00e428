"""Error codes and statuses, both ways total."""

from __future__ import annotations

import pytest

from xproxy.codecs.http2.status import ErrorCode, error_of, status_of_error
from xproxy.model.status import Status


@pytest.mark.parametrize("status", list(Status))
def test_every_status_has_an_error_code(status: Status) -> None:
    code = error_of(status)
    assert isinstance(code, ErrorCode)
    assert (code is ErrorCode.NO_ERROR) == (status is Status.OK)
    # What was begun must not be taken for what was never looked at: it would be sent again.
    assert code is not ErrorCode.REFUSED_STREAM


def test_every_error_code_means_what_grpc_says() -> None:
    """grpc/doc/PROTOCOL-HTTP2.md, "Errors"."""
    expected = {
        ErrorCode.REFUSED_STREAM: Status.UNAVAILABLE,
        ErrorCode.CANCEL: Status.CANCELLED,
        ErrorCode.ENHANCE_YOUR_CALM: Status.RESOURCE_EXHAUSTED,
        ErrorCode.INADEQUATE_SECURITY: Status.PERMISSION_DENIED,
    }
    for code in (*ErrorCode, 14, 255, 2**32 - 1):
        wanted = expected.get(ErrorCode(code), Status.INTERNAL) if code < 14 else Status.INTERNAL
        assert status_of_error(code) is wanted
