"""The load balancer contract: what the entry point group ``xproxy.load_balancers`` names."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Protocol

from xproxy.upstream.endpoint import Endpoint


class LoadBalancer(Protocol):
    """Picks endpoints. Built with all endpoints of a cluster (at least one) and a source of randomness."""

    def pick(self) -> Endpoint:
        """Return the endpoint for the next request. Pure but for its own state; never blocks."""
        ...


class LoadBalancerFactory(Protocol):
    """The class itself."""

    def __call__(self, endpoints: Sequence[Endpoint], random: Random) -> LoadBalancer: ...
