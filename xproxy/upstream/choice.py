"""Which endpoint a request goes to: the balancer's choice among those that are available and were not tried yet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import trio

from xproxy.stream.exchange import Request
from xproxy.upstream.balance.api import LoadBalancer, Picker
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.host_set import HostSet

_SHARE: Final = 16
"""A picker is made anew once for so many endpoints and request at most: that costs a request next to nothing, however
many endpoints come and go. With fewer it is made at once."""


class Choice:
    """Holds a picker among those that are available, and makes it anew when they have changed."""

    __slots__ = (
        "_at_ease",
        "_balancer",
        "_chosen",
        "_every",
        "_hosts",
        "_patience",
        "_picker",
        "_spent",
        "_stale",
    )

    def __init__(self, balancer: LoadBalancer, endpoints: Sequence[Endpoint]) -> None:
        self._balancer = balancer
        self._hosts = HostSet.of(endpoints)
        self._chosen = self._hosts.endpoints
        self._picker: Picker = balancer.picker(self._chosen, None)
        self._every: Picker | None = None  # among all, failing or not; made when it is needed
        self._patience = len(self._chosen) // _SHARE
        self._spent = 0
        # What a new cluster has from the one before it may be failing; what it is told of may be unfit.
        self._stale = any(one.failing_until or one.unfit or one.degraded for one in self._chosen)
        self._at_ease = not self._stale

    @property
    def hosts(self) -> HostSet:
        """The set that is chosen from."""
        return self._hosts

    @property
    def picker(self) -> Picker:
        """The one in use, among those that were available when somebody last asked."""
        return self._picker

    def probe(self, endpoints: Sequence[Endpoint]) -> None:
        """See whether the balancer can pick among ``endpoints``. Raises what it raises."""
        self._balancer.picker(endpoints, None)

    def change(self, endpoints: Sequence[Endpoint]) -> None:
        """Choose among other endpoints, or among the same ones with other weights, from now on."""
        self._hosts = HostSet.of(endpoints)
        self._every = None
        self._chosen = ()
        self._patience = len(endpoints) // _SHARE
        self._spent = self._patience
        self.marked()

    def marked(self) -> None:
        """Take note that an endpoint is failing that was not."""
        self._stale = True
        self._at_ease = False

    def choose(self, request: Request) -> Endpoint:
        """Return the endpoint for ``request``. Failing ones only if none is left that was not tried, tried ones last.

        Raises PluginError.
        """
        if self._at_ease and request.record.attempt is None:
            return self._picker.pick(request, ())
        return self._choose(request, request.record.tried)

    def _choose(self, request: Request, tried: Sequence[object]) -> Endpoint:
        now = trio.current_time()
        self._spent += 1
        if (self._stale or now >= self._hosts.returns_at) and self._spent >= self._patience:
            self._renew(now)
        endpoint = self._picker.pick(request, tried)
        while self._stale and (endpoint.failing_until > now or endpoint.unfit):
            # It was marked after the picker was made. Where all are failing nothing is stale.
            self._spent += 1
            if self._spent >= self._patience:
                self._renew(now)
            endpoint = self._picker.pick(request, tried)
        return self._untried(request, tried, endpoint) if endpoint in tried else endpoint

    def _renew(self, now: float) -> None:
        self._hosts = hosts = self._hosts.at(now)
        # Where all are failing the balancer spreads the load over all: one of them may be better than its mark.
        chosen = hosts.preferred or hosts.endpoints
        if chosen != self._chosen:
            self._picker = self._balancer.picker(chosen, self._picker)
            self._chosen = chosen
        self._spent = 0
        self._stale = False
        self._at_ease = hosts.returns_at == math.inf

    def _untried(self, request: Request, tried: Sequence[object], otherwise: Endpoint) -> Endpoint:
        # All that are available were tried, or the balancer does not look at what it is to avoid.
        for endpoint in self._chosen:
            if endpoint not in tried:
                return endpoint
        hosts = self._hosts.endpoints
        if self._every is None:
            self._every = self._balancer.picker(hosts, None)
        endpoint = self._every.pick(request, tried)
        if endpoint not in tried:
            return endpoint
        return next((one for one in hosts if one not in tried), otherwise)
