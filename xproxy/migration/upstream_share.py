"""Connections to endpoints that nobody uses go in step with the clients: the same share of each cluster's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from xproxy.migration.giving import Giving
from xproxy.migration.movable import MovableUpstream
from xproxy.proxy.runtime import Runtime
from xproxy.proxy.snapshot import Snapshot
from xproxy.upstream.cluster import Cluster
from xproxy.upstream.moving import Given, settings_of

CLUSTERS_A_TURN: Final = 128
"""Clusters that are looked at in one go: thousands of them must not keep the loop from its other work."""


class UpstreamShare:
    """Of one takeover. It goes round all clusters, some in each turn, and begins anew with another configuration."""

    def __init__(self, runtime: Runtime, machine: Giving, *, rehearsal: bool) -> None:
        self._runtime = runtime
        self._machine = machine
        self._rehearsal = rehearsal
        self._given: Counter[str] = Counter()
        # By cluster.
        self._unwanted: set[str] = set()
        self._of: Snapshot | None = None
        self._round: Iterator[tuple[str, Cluster]] = iter(())
        self._next: tuple[str, Cluster] | None = None
        # The one that is to be looked at, of the round under way; None: the round is over.
        self._least = 1.0
        # The smallest share in this round.
        self._tried: dict[str, Iterator[Given]] = {}
        # In a rehearsal each goes on where it is: so each connection is tried once.

    @property
    def unfinished(self) -> bool:
        """Not all clusters have been looked at since the last time that one was due."""
        return self._next is not None

    def refuse(self, cluster: str) -> None:
        """The other side takes none of this cluster's."""
        if not self._rehearsal:
            self._unwanted.add(cluster)

    def due(self, share: float) -> Iterator[MovableUpstream]:
        """Give what is missing to ``share`` of each cluster's, from 0 to 1, while there is room for an offer.

        At most ``CLUSTERS_A_TURN`` of them are looked at; then it is ``unfinished``.
        """
        snapshot = self._runtime.snapshot
        if snapshot is None:
            return
        if self._of is not snapshot or self._next is None:
            self._of = snapshot
            self._begin(snapshot, share)
        for _ in range(CLUSTERS_A_TURN):
            if self._next is None or not self._machine.room:
                return
            name, cluster = self._next
            yield from self._missing(name, cluster, share)
            if not self._machine.room:
                return  # there may be more of it
            self._next = next(self._round, None)
            if self._next is None and self._least < share:
                self._begin(snapshot, share)  # more has become due of the first ones meanwhile

    def _begin(self, snapshot: Snapshot, share: float) -> None:
        self._round = iter(list(snapshot.clusters.items()))
        self._next = next(self._round, None)
        self._least = share

    def _missing(self, name: str, cluster: Cluster, share: float) -> Iterator[MovableUpstream]:
        if name in self._unwanted:
            return
        opened = sum(endpoint.connections for endpoint in cluster.endpoints)
        if not opened:
            return
        wanted = share * (self._given[name] + opened)
        giving = self._tried.get(name) or cluster.give()
        if self._rehearsal:
            self._tried[name], wanted = giving, float("inf")
        while self._given[name] < wanted and self._machine.room and name not in self._unwanted:
            given = next(giving, None)
            if given is None:
                return
            self._given[name] += 1
            yield MovableUpstream(name, settings_of(cluster.config), given)
