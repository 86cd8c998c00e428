"""Upstream connections go in step with the clients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

import attrs

from tests.migration.stock import giving, stock
from xproxy.migration.movable import MovableUpstream
from xproxy.migration.upstream_share import CLUSTERS_A_TURN, UpstreamShare
from xproxy.upstream.cluster import Cluster


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


async def test_no_more_clusters_than_so_many_are_looked_at_in_one_go() -> None:
    clusters = 3 * CLUSTERS_A_TURN + 1
    looked: list[str] = []

    class Asked(Mapping[str, Cluster]):
        """A table of clusters without connections, each of which notes when it is looked at."""

        def __getitem__(self, name: str) -> Cluster:
            return cast("Cluster", Quiet(name, looked))  # nothing else of it is used

        def __iter__(self) -> Iterator[str]:
            return map(str, range(clusters))

        def __len__(self) -> int:
            return clusters

    async with stock(1) as found:
        runtime = found.live.runtime
        assert runtime.snapshot is not None
        share = UpstreamShare(runtime, giving(), rehearsal=False)
        before = runtime.snapshot
        runtime.snapshot = attrs.evolve(before, clusters=Asked())
        turns: list[int] = []
        while not turns or share.unfinished:
            assert list(share.due(1.0)) == []
            turns.append(len(looked) - sum(turns))
        assert turns == [CLUSTERS_A_TURN] * 3 + [1]
        assert looked == list(map(str, range(clusters)))
        runtime.snapshot = before


@attrs.frozen(eq=False)
class Quiet:
    """A cluster without connections."""

    name: str
    looked: list[str]

    @property
    def endpoints(self) -> tuple[()]:
        self.looked.append(self.name)
        return ()


async def test_of_those_that_were_looked_at_early_the_rest_is_given_in_a_round_of_its_own() -> None:
    async with stock(4) as found:
        share = UpstreamShare(found.live.runtime, giving(), rehearsal=False)
        [first] = share.due(0.25)
        first.leave()
        assert not share.unfinished
        given = list(share.due(1.0))
        assert len(given) == 3
        for one in given:
            one.leave()


async def test_a_rehearsal_tries_each_once() -> None:
    async with stock(3) as found:
        share = UpstreamShare(found.live.runtime, giving(), rehearsal=True)
        tried = 0
        for one in share.due(1.0):
            one.thaw()
            share.refuse("web")
            tried += 1
        assert tried == 3
        assert list(share.due(1.0)) == []
