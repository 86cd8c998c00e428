"""Connections to endpoints that nobody uses go in step with the clients: the same share of each cluster's."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

from xproxy.migration.giving import Giving
from xproxy.migration.movable import MovableUpstream
from xproxy.proxy.runtime import Runtime
from xproxy.upstream.moving import settings_of


class UpstreamShare:
    """Of one takeover."""

    def __init__(self, runtime: Runtime, machine: Giving, *, rehearsal: bool) -> None:
        self._runtime = runtime
        self._machine = machine
        self._rehearsal = rehearsal
        self._given: Counter[str] = Counter()
        # By cluster.
        self._unwanted: set[str] = set()

    def refuse(self, cluster: str) -> None:
        """The other side takes none of this cluster's."""
        self._unwanted.add(cluster)

    def due(self, share: float) -> Iterator[MovableUpstream]:
        """Give what is missing to ``share`` of each cluster's, from 0 to 1, while there is room for an offer."""
        snapshot = self._runtime.snapshot
        if snapshot is None:
            return
        for name, cluster in snapshot.clusters.items():
            if name in self._unwanted:
                continue
            opened = sum(endpoint.connections for endpoint in cluster.endpoints)
            wanted = share * (self._given[name] + opened)
            while self._machine.room and opened and name not in self._unwanted:
                before = self._given[name]
                if before >= wanted or (self._rehearsal and before):
                    break
                given = next(itertools.islice(cluster.give(), 1), None)
                if given is None:
                    break
                self._given[name] += 1
                yield MovableUpstream(name, settings_of(cluster.config), given)
