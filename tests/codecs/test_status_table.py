"""Tables of statuses are total both ways, whatever protocol they belong to."""

from __future__ import annotations

import pytest

from xproxy.codecs.bolt.status import STATUSES as BOLT
from xproxy.codecs.dubbo.status import STATUSES as DUBBO
from xproxy.codecs.status_table import StatusTable
from xproxy.model.message import Local, Reason, ResponseHead
from xproxy.model.status import Status

TABLES = pytest.mark.parametrize("table", [BOLT, DUBBO])


@TABLES
@pytest.mark.parametrize("reason", list(Reason))
def test_every_local_reply_has_a_code_that_the_protocol_defines(
    table: StatusTable, reason: Reason
) -> None:
    for status in Status:
        code = table.to_native(status, reason)
        assert table.is_known(code)
        assert (table.from_native(code) is Status.OK) is (status is Status.OK)
        head = ResponseHead(status=status, extra=Local(detail="", reason=reason))
        assert table.code_of(head) == code


@TABLES
def test_a_reply_without_a_reason_has_the_code_of_its_status(table: StatusTable) -> None:
    assert all(table.code_of(ResponseHead(status=s)) == table.codes[s] for s in Status)


@TABLES
def test_a_code_that_nobody_defines_is_unknown(table: StatusTable) -> None:
    assert {table.from_native(code) for code in (-1, 99, 2**40)} == {Status.UNKNOWN}
