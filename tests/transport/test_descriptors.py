from __future__ import annotations

import logging
import resource
import socket

import pytest
from trio.testing import MockClock

from xproxy.transport.descriptors import Descriptors, in_use, limit, raise_limit


async def test_a_share_is_kept_unless_a_number_is_said() -> None:
    descriptors = Descriptors(1000)
    assert descriptors.kept_from == 750
    descriptors.keep(100)
    assert descriptors.kept_from == 900
    descriptors.keep(5000)
    assert descriptors.kept_from == 32, "clients always have some"
    assert Descriptors(16).kept_from == 16


async def test_room_is_made_before_anybody_is_refused(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    descriptors = Descriptors(100)
    assert descriptors.take(74)
    assert not descriptors.take(75)
    made: list[bool] = []

    def make_room() -> bool:
        made.append(True)
        return True

    descriptors.make_room = make_room
    assert descriptors.take(75)
    assert made == [True]
    assert caplog.text.count("short of file descriptors: 76 of 100") == 1
    mock_clock.jump(11)
    assert descriptors.take(75)
    assert caplog.text.count("short of file descriptors") == 2


def test_the_limit_is_raised() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(128, before[0] // 2), before[1]))
        assert raise_limit() == limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_what_is_open_is_counted() -> None:
    before = in_use()
    with socket.socket(), socket.socket():
        assert in_use() == before + 2
    assert in_use() == before
