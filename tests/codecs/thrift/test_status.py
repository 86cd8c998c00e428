"""Both mappings are total, and say what the wire's tables say."""

from __future__ import annotations

import pytest

from xproxy.codecs.thrift.status import SUCCESS, from_native, to_native
from xproxy.model.status import Status


@pytest.mark.parametrize("status", list(Status))
def test_every_status_has_a_type_that_old_peers_know(status: Status) -> None:
    code = to_native(status)
    assert code in (SUCCESS, 1, 6, 7)
    assert (code == SUCCESS) == (status is Status.OK)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status.DEADLINE_EXCEEDED, 6),
        (Status.RESOURCE_EXHAUSTED, 6),
        (Status.UNAVAILABLE, 6),
        (Status.NOT_FOUND, 1),
        (Status.UNIMPLEMENTED, 1),
        (Status.INVALID_ARGUMENT, 7),
        (Status.PERMISSION_DENIED, 6),
        (Status.INTERNAL, 6),
    ],
)
def test_types_of_local_replies(status: Status, code: int) -> None:
    assert to_native(status) == code


def test_every_type_means_something() -> None:
    assert from_native(SUCCESS) is Status.OK
    assert all(from_native(code) is not Status.OK for code in range(100))
    assert {code for code in range(100) if from_native(code) is not Status.UNKNOWN} == {*range(12)}
    assert from_native(1) is Status.NOT_FOUND
    assert from_native(11) is Status.RESOURCE_EXHAUSTED
    assert from_native(2**40) is Status.UNKNOWN
