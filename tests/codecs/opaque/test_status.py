"""L4 knows two outcomes, and every neutral one is one of them."""

from __future__ import annotations

from xproxy.codecs.opaque.status import from_native, to_native
from xproxy.model.status import Status


def test_both_mappings_are_total() -> None:
    assert {to_native(status) for status in Status} == {0, 1}
    assert from_native(to_native(Status.OK)) is Status.OK
    assert {from_native(n) for n in (-1, 1, 2**40)} == {Status.UNKNOWN}
