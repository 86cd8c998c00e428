"""Upstream connections go in step with the clients."""

from __future__ import annotations

from tests.migration.stock import giving, stock
from xproxy.migration.movable import MovableUpstream
from xproxy.migration.upstream_share import UpstreamShare


async def test_the_same_share_goes() -> None:
    async with stock(4) as found:
        share = UpstreamShare(found.live.runtime, giving(), rehearsal=False)
        given = 0
        for part, there_are in ((0.0, 0), (0.5, 2), (0.5, 2), (0.75, 3), (1.0, 4), (1.0, 4)):
            for one in list(share.due(part)):
                one.leave()
                given += 1
            assert given == there_are, part


async def test_no_more_than_there_is_room_for() -> None:
    async with stock(3) as found:
        machine = giving(window=2)
        share = UpstreamShare(found.live.runtime, machine, rehearsal=False)
        given: list[MovableUpstream] = []
        for one in share.due(1.0):
            machine.offer()
            given.append(one)
        assert len(given) == 2
        for one in given:
            one.thaw()


async def test_a_cluster_that_is_not_wanted_gives_none() -> None:
    async with stock(2) as found:
        share = UpstreamShare(found.live.runtime, giving(), rehearsal=False)
        share.refuse("web")
        assert list(share.due(1.0)) == []
