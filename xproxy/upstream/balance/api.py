"""The load balancer contract: what the entry point group ``xproxy.load_balancers`` names."""

from __future__ import annotations

from collections.abc import Container, Sequence
from random import Random
from typing import Protocol, runtime_checkable

from xproxy.stream.exchange import Request
from xproxy.stream.record import Attempted
from xproxy.upstream.endpoint import Endpoint


class Picker(Protocol):
    """Picks among endpoints that stay the same: others, or other weights, are another picker's."""

    def pick(self, request: Request, avoid: Container[object]) -> Endpoint:
        """Return the endpoint for ``request``: none of ``avoid``, unless there is no other.

        Pure but for its own state; never blocks, and takes no longer the more endpoints there are. ``avoid`` is what
        was tried for the request already, mostly nothing.
        """
        ...


@runtime_checkable
class MovablePicker(Protocol):
    """A picker that can say where it is, for one in another process to go on from there."""

    def carry(self) -> bytes:
        """Write down whose turn it is. Changes nothing, and never blocks."""
        ...

    def resume(self, data: bytes) -> None:
        """Go on from there, as far as endpoints are the same (``membership.named``). Never blocks.

        Raises ValueError for what cannot be read, and has changed nothing then.
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


@runtime_checkable
class ObservingBalancer(Protocol):
    """A balancer that goes by how attempts end."""

    def picker(self, endpoints: Sequence[Endpoint], previous: Picker | None) -> Picker:
        """See LoadBalancer."""
        ...

    def ended(self, attempt: Attempted) -> None:
        """Take note of an attempt that ended. Called for each of its cluster's; never blocks, and raises nothing."""
        ...


def slow_start_of(balancer: LoadBalancer) -> object:
    """Return how a balancer lets endpoints begin that come, or come back; None: like any other."""
    return getattr(balancer, "slow_start", None)


class LoadBalancerFactory(Protocol):
    """The class itself, called with a source of randomness.

    Where it has options, ``options`` names their attrs class, and it is called with an instance of that as well.
    """

    def __call__(self, random: Random) -> LoadBalancer: ...
