"""The load balancer contract: what the entry point group ``xproxy.load_balancers`` names."""

from __future__ import annotations

from collections.abc import Container, Sequence
from random import Random
from typing import Protocol

from xproxy.stream.exchange import Request
from xproxy.upstream.endpoint import Endpoint


class Picker(Protocol):
    """Picks among endpoints that stay the same: others, or other weights, are another picker's."""

    def pick(self, request: Request, avoid: Container[object]) -> Endpoint:
        """Return the endpoint for ``request``: none of ``avoid``, unless there is no other.

        Pure but for its own state; never blocks, and takes no longer the more endpoints there are. ``avoid`` is what
        was tried for the request already, mostly nothing.
        """
        ...


class LoadBalancer(Protocol):
    """Makes pickers. Each cluster has one, as long as it lives."""

    def picker(self, endpoints: Sequence[Endpoint], previous: Picker | None) -> Picker:
        """Return a picker among ``endpoints``, at least one, in the order of the configuration.

        Called again whenever there are others: some were added or removed, have other weights, or are failing and
        left out for a while. ``previous`` is the picker whose place the new one takes: to go on where that one was.
        """
        ...


class LoadBalancerFactory(Protocol):
    """The class itself, called with a source of randomness."""

    def __call__(self, random: Random) -> LoadBalancer: ...
