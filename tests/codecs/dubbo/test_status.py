"""Both mappings of Dubbo's statuses are total, and say what the wire's tables say."""

from __future__ import annotations

import pytest

from xproxy.codecs.dubbo.status import from_native, is_known, to_native
from xproxy.model.message import Reason
from xproxy.model.status import Status


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("reason", list(Reason))
def test_every_status_has_a_code_that_java_knows(status: Status, reason: Reason) -> None:
    code = to_native(status, reason)
    assert is_known(code)
    assert (code == 20) == (status is Status.OK)


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        (Status.DEADLINE_EXCEEDED, Reason.NONE, 30),
        (Status.RESOURCE_EXHAUSTED, Reason.OVERFLOW, 100),
        (Status.RESOURCE_EXHAUSTED, Reason.RATE_LIMITED, 100),
        (Status.UNAVAILABLE, Reason.NONE, 80),
        (Status.UNAVAILABLE, Reason.UPSTREAM_RESET, 80),
        (Status.UNAVAILABLE, Reason.UPSTREAM_PROTOCOL, 50),
        (Status.NOT_FOUND, Reason.NO_ROUTE, 60),
        (Status.UNIMPLEMENTED, Reason.NONE, 60),
        (Status.INVALID_ARGUMENT, Reason.NONE, 40),
        (Status.PERMISSION_DENIED, Reason.NONE, 40),
        (Status.INTERNAL, Reason.NONE, 80),
    ],
)
def test_codes_of_local_replies(status: Status, reason: Reason, code: int) -> None:
    assert to_native(status, reason) == code


def test_every_code_means_something() -> None:
    known = {code for code in range(-5, 70_000) if is_known(code)}
    assert known == {20, 25, 30, 31, 35, 40, 50, 60, 70, 80, 90, 100}
    assert {from_native(c) for c in (-1, 0, 99, 2**40)} == {Status.UNKNOWN}
    assert from_native(31) is Status.DEADLINE_EXCEEDED
    assert from_native(100) is Status.RESOURCE_EXHAUSTED
