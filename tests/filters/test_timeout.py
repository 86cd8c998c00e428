from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from xproxy.filters.timeout import Timeout
from xproxy.model.errors import DeadlineExceeded
from xproxy.model.limits import Duration

Kit = Any  # Any: conftest.py cannot be imported


async def test_a_late_head_is_an_error(kit: Kit, autojump_clock: MockClock) -> None:
    start = trio.current_time()
    with pytest.raises(DeadlineExceeded, match="no response head in 2 s"):
        await Timeout(seconds=Duration(2))(kit.web(), kit.upstream(trio.Event()))
    assert trio.current_time() - start == pytest.approx(2)


async def test_a_head_in_time_passes(kit: Kit) -> None:
    response = kit.response()
    assert await Timeout(seconds=Duration(2))(kit.web(), kit.upstream(response)) is response
    assert kit.stream.deadlines == []


async def test_the_whole_is_the_streams_deadline(kit: Kit, autojump_clock: MockClock) -> None:
    await Timeout(whole=Duration(5))(kit.web(), kit.upstream())
    assert kit.stream.deadlines == [pytest.approx(trio.current_time() + 5)]


async def test_cancellation_from_outside_stays_one(kit: Kit, autojump_clock: MockClock) -> None:
    with trio.move_on_after(1) as scope:
        await Timeout(seconds=Duration(2))(kit.web(), kit.upstream(trio.Event()))
    assert scope.cancelled_caught


@pytest.mark.parametrize("fields", [{}, {"seconds": 0}, {"whole": -1}])
def test_bad_configuration_is_refused(fields: Any) -> None:
    with pytest.raises(ValueError, match=r"needs seconds or whole|must be > 0"):
        Timeout(**fields)
