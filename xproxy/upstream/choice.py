"""Which endpoint a request goes to: the balancer's choice among those that are available and were not tried yet."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from random import Random
from typing import Final

import attrs
import trio

from xproxy.config.balancing import DEFAULT_BALANCING, BalancingConfig
from xproxy.stream.exchange import Request
from xproxy.stream.record import Wish
from xproxy.upstream.balance.api import LoadBalancer, Picker, slow_start_of
from xproxy.upstream.balance.pools import Pool, fit, pools_of
from xproxy.upstream.balance.spread import Nobody, Panicking, Several, Spread
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.host_set import HostSet
from xproxy.upstream.session import by_token
from xproxy.upstream.stats import ClusterStats

_SHARE: Final = 16
"""A picker is made anew once for so many endpoints and request at most: that costs a request next to nothing, however
many endpoints come and go. With fewer it is made at once."""


class Choice:
    """Holds a picker among those that are available, and makes it anew when they have changed."""

    __slots__ = (
        "_at_ease",
        "_balancer",
        "_by_token",
        "_config",
        "_every",
        "_hosts",
        "_patience",
        "_picker",
        "_pickers",
        "_pools",
        "_random",
        "_spent",
        "_stale",
        "_stats",
        "_up",
    )

    def __init__(
        self,
        balancer: LoadBalancer,
        endpoints: Sequence[Endpoint],
        config: BalancingConfig = DEFAULT_BALANCING,
        stats: ClusterStats | None = None,
        random: Random | None = None,
    ) -> None:
        """``stats``: where refusals and panics are counted; ``random``: for draws among priorities."""
        self._balancer = balancer
        self._config = config
        self._stats = stats or ClusterStats()
        self._random = random or Random()  # noqa: S311  # it spreads load
        self._hosts = HostSet.of(endpoints)
        self._by_token: Mapping[str, Endpoint] | None = None  # made when a client names one
        # Who was available of late, where that is asked for: whoever is there at first is new to nobody.
        self._up = None if slow_start_of(balancer) is None else frozenset(endpoints)
        self._pools = pools_of(self._hosts, config)
        self._pickers: Mapping[
            Hashable, Picker
        ] = {}  # the balancer's own, by the key of their pool
        self._picker: Picker = self._make(self._pools, {})
        self._every: Picker | None = None  # among all, failing or not; made when it is needed
        self._patience = len(endpoints) // _SHARE
        self._spent = 0
        # What a new cluster has from the one before it may be failing; what it is told of may be unfit.
        self._stale = any(one.failing_until or one.unfit or one.degraded for one in endpoints)
        self._at_ease = not self._stale

    @property
    def hosts(self) -> HostSet:
        """The set that is chosen from."""
        return self._hosts

    @property
    def slow_start(self) -> bool:
        """Whether it matters since when an endpoint is there."""
        return self._up is not None

    @property
    def picker(self) -> Picker:
        """The one in use, among those that were available when somebody last asked."""
        if len(self._pickers) > 1:
            return Several(self._pickers)
        return next(iter(self._pickers.values()), self._picker)

    def probe(self, endpoints: Sequence[Endpoint]) -> None:
        """See whether the balancer can pick among ``endpoints``. Raises what it raises."""
        if endpoints:
            self._balancer.picker(endpoints, None)

    def change(self, endpoints: Sequence[Endpoint]) -> None:
        """Choose among other endpoints, or among the same ones with other weights, from now on."""
        self._hosts = HostSet.of(endpoints)
        self._by_token = None
        self._every = None
        # No pool is the one it was, as weights may have changed; its picker is followed all the same.
        self._pools = tuple([attrs.evolve(pool, endpoints=()) for pool in self._pools])
        self._patience = len(endpoints) // _SHARE
        self._spent = self._patience
        if not endpoints:
            self._picker = Nobody(
                self._stats
            )  # its pool looks as one whose weights may have changed
        self.marked()

    def marked(self) -> None:
        """Take note that an endpoint is failing that was not."""
        self._stale = True
        self._at_ease = False

    def choose(self, request: Request) -> Endpoint:
        """Return the endpoint for ``request``. Failing ones only if none is left that was not tried, tried ones last.

        Raises NoHealthyEndpoint, PluginError.
        """
        record = request.record
        if self._at_ease and record.attempt is None and record.wish is None:
            return self._picker.pick(request, ())
        return self._choose(request, record.tried)

    def _choose(self, request: Request, tried: Sequence[object]) -> Endpoint:
        now = trio.current_time()
        self._spent += 1
        late = self._spent >= self._patience or type(self._picker) is Nobody
        if late and (self._stale or now >= self._hosts.returns_at):
            self._renew(now)
        wish = request.record.wish
        if wish is not None:
            wished = self._wished(wish, tried, now)
            if wished is not None:
                return wished
        endpoint = self._picker.pick(request, tried)
        while self._stale and (endpoint.failing_until > now or endpoint.unfit):
            # It was marked after the picker was made. Where all are failing nothing is stale.
            self._spent += 1
            if self._spent >= self._patience:
                self._renew(now)
            endpoint = self._picker.pick(request, tried)
        return self._untried(request, tried, endpoint) if endpoint in tried else endpoint

    def _wished(self, wish: Wish, tried: Sequence[object], now: float) -> Endpoint | None:
        if self._by_token is None:
            self._by_token = by_token(self._hosts.endpoints)
        endpoint = self._by_token.get(wish.token)
        if endpoint is not None and not (
            endpoint.unfit or endpoint.failing_until > now or endpoint in tried
        ):
            return endpoint
        return Nobody(self._stats).pick(None, ()) if wish.strict else None

    def _renew(self, now: float) -> None:
        self._hosts = hosts = self._hosts.at(now)
        if self._up is not None:
            up = frozenset([one for group in hosts.groups for one in group.available])
            for endpoint in up - self._up:
                endpoint.since = now
            self._up = up
        pools = pools_of(hosts, self._config)
        if pools != self._pools:
            self._picker = self._make(pools, self._pickers)
            self._pools = pools
        self._spent = 0
        self._stale = False
        self._at_ease = hosts.returns_at == math.inf

    def _make(self, pools: Sequence[Pool], before: Mapping[Hashable, Picker]) -> Picker:
        """Return the picker over ``pools``. One that was of the same pool goes on; a sole one after any."""
        sole = next(iter(before.values()), None) if len(pools) == 1 else None
        pickers: dict[Hashable, Picker] = {}
        picks: list[Picker] = []
        for pool in pools:
            if not pool.endpoints:
                picks.append(Nobody(self._stats))
                continue
            picker = self._balancer.picker(pool.endpoints, before.get(pool.key, sole))
            pickers[pool.key] = picker
            picks.append(Panicking(picker, self._stats) if pool.panic else picker)
        self._pickers = pickers
        if len(picks) == 1:
            return picks[0]
        return Spread(picks, [pool.share for pool in pools], self._random)

    def _untried(self, request: Request, tried: Sequence[object], otherwise: Endpoint) -> Endpoint:
        # All that are available were tried, or the balancer does not look at what it is to avoid.
        for pool in self._pools:
            for endpoint in pool.endpoints:
                if endpoint not in tried:
                    return endpoint
        hosts = self._hosts.endpoints
        if self._every is None:
            self._every = self._balancer.picker(hosts, None)
        endpoint = self._every.pick(request, tried)
        if endpoint not in tried and not endpoint.unfit:
            return endpoint
        # Who is unfit is asked in a panic only, and then it is in a pool.
        return next((one for one in fit(hosts) if one not in tried), otherwise)
