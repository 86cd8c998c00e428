"""The load balancer contract: what the entry point group ``xproxy.load_balancers`` names."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Protocol

from xproxy.stream.exchange import Request
from xproxy.upstream.endpoint import Endpoint


class LoadBalancer(Protocol):
    """Picks endpoints. Built with all endpoints of a cluster (at least one) and a source of randomness."""

    def pick(self, request: Request) -> Endpoint:
        """Return the endpoint for ``request``. Pure but for its own state; never blocks.

        It may be asked several times for one request: when an endpoint is failing or was tried already, and once for
        each retry. ``request.tried`` holds those that failed.
        """
        ...


class LoadBalancerFactory(Protocol):
    """The class itself."""

    def __call__(self, endpoints: Sequence[Endpoint], random: Random) -> LoadBalancer: ...
