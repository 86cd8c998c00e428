"""Both mappings of Bolt's statuses are total, and say what the wire's tables say."""

from __future__ import annotations

import pytest

from xproxy.codecs.bolt.status import from_native, is_known, to_native
from xproxy.model.message import Reason
from xproxy.model.status import Status


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("reason", list(Reason))
def test_every_status_has_a_code_that_java_knows(status: Status, reason: Reason) -> None:
    code = to_native(status, reason)
    assert is_known(code)
    assert (code == 0) == (status is Status.OK)


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        (Status.DEADLINE_EXCEEDED, Reason.NONE, 7),
        (Status.RESOURCE_EXHAUSTED, Reason.OVERFLOW, 4),
        (Status.UNAVAILABLE, Reason.NONE, 6),
        (Status.UNAVAILABLE, Reason.UPSTREAM_RESET, 16),
        (Status.UNAVAILABLE, Reason.UPSTREAM_PROTOCOL, 5),
        (Status.NOT_FOUND, Reason.NO_ROUTE, 6),
        (Status.INVALID_ARGUMENT, Reason.NONE, 9),
        (Status.PERMISSION_DENIED, Reason.NONE, 2),
        (Status.INTERNAL, Reason.NONE, 3),
    ],
)
def test_codes_of_local_replies(status: Status, reason: Reason, code: int) -> None:
    assert to_native(status, reason) == code


def test_every_code_means_something() -> None:
    known = {code for code in range(-5, 70_000) if is_known(code)}
    assert known == {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 18}
    assert {from_native(c) for c in (-1, 10, 99, 2**40)} == {Status.UNKNOWN}
    assert from_native(16) is Status.UNAVAILABLE
