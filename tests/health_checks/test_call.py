"""The check by a call, where a protocol has no heartbeats."""

from __future__ import annotations

import pytest

from tests.health_checks.kit import REGISTRY, answering_in, bench, scripted
from xproxy.health_checks.call import Call
from xproxy.model.status import Status
from xproxy.upstream.health.api import CheckFailed

EMPTY = "hex:00"
"""A struct of Thrift's without fields."""


@pytest.mark.parametrize(
    ("status", "good"),
    [(Status.OK, True), (Status.UNIMPLEMENTED, True), (Status.INTERNAL, False)],
)
async def test_an_answer_of_thrift(status: Status, good: bool) -> None:
    """That a method is not known is a sign of life."""
    check = Call(method="ping", data=EMPTY, codec="thrift")
    async with bench(answering_in("thrift", status)) as (by, up):
        if good:
            assert await by.check(check, up.port) is None
        else:
            with pytest.raises(CheckFailed) as caught:
                await by.check(check, up.port)
            assert caught.value.at_once


async def test_other_statuses_may_be_good() -> None:
    check = Call(method="ping", data=EMPTY, statuses=("internal",))
    async with bench(answering_in("thrift", Status.INTERNAL)) as (by, up):
        assert await by.check(check, up.port, REGISTRY.codec("thrift")) is None


async def test_calls_one_after_the_other_share_a_connection() -> None:
    check = Call(method="ping", service="demo.Health", codec="bolt")
    async with bench(answering_in("bolt")) as (by, up):
        probe = by.probe(up.port)
        for _ in range(3):
            assert await check(probe) is None
        probe.close()
        assert up.accepted == 1


async def test_what_is_spoken_must_be_known() -> None:
    async with bench(scripted()) as (by, up):
        with pytest.raises(CheckFailed, match="codec"):
            await by.check(Call(method="ping"), up.port)


@pytest.mark.parametrize("options", [{"method": ""}, {"data": "hex:0"}, {"statuses": ("good",)}])
def test_what_is_wrong_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Call(**{"method": "ping"} | options)  # type: ignore[arg-type]  # by name
