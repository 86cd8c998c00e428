"""Invariant: any state is resumed and can be carried on, or is refused with ValueError and changes nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

import attrs
import trio

from fuzz.targets import Mutator, Seed, Target
from xproxy.config.schema import ClusterConfig, EndpointConfig, ServerFirstConfig
from xproxy.migration.counts import Counts
from xproxy.model.address import Address
from xproxy.observe.metrics import StatsRegistry
from xproxy.proxy.silent import CarriedSilence, SilentDestinations
from xproxy.proxy.snapshot import Snapshot
from xproxy.registry import Registry
from xproxy.testing.subject import Broken
from xproxy.transport.tls.contexts import ClientCertificates
from xproxy.transport.tls.tickets import Tickets
from xproxy.upstream.balance.edf import EarliestDeadlineFirst
from xproxy.upstream.balance.round_robin import InTurn
from xproxy.upstream.carried import AgreedProtocols, EndpointMarks, Protocols
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.stats import ClusterStats


class Part(Protocol):
    """What is carried and resumed."""

    def carry(self) -> bytes: ...

    def resume(self, data: bytes) -> None: ...


@attrs.define(eq=False)
class _Counting:
    """Counters as a part: all of them."""

    metrics: StatsRegistry = attrs.field(factory=StatsRegistry)
    snapshot: Snapshot | None = None

    def carry(self) -> bytes:
        counts = Counts(self)
        data = counts.absolute()
        counts.ended()
        return data

    def resume(self, data: bytes) -> None:
        Counts(self).add(data)
        self.metrics.render_prometheus()


def _counts(*, known: bool) -> Part:
    found = _Counting()
    stats = ClusterStats(upstream_rq_total=3, upstream_rq_active=1) if known else ClusterStats()
    found.metrics.add("cluster", "web", stats)
    return found


def _endpoints(*weights: int) -> list[Endpoint]:
    return [Endpoint(Address("192.0.2.1", 1 + i // 2), w) for i, w in enumerate(weights)]


def _marks(*, known: bool) -> Part:
    endpoints = _endpoints(1, 1, 1)
    for endpoint in endpoints if known else ():
        endpoint.failures_in_a_row, endpoint.failing_until = 3, trio.current_time() + 9
    return EndpointMarks("web", _CLUSTER, endpoints, lambda: None)


def _agreed(*, known: bool) -> Part:
    protocols: Protocols = {"http2": {"192.0.2.1:1": "http1", "192.0.2.1:2": "http2"}}
    state = [protocols if known else {}]
    return AgreedProtocols("web", _CLUSTER, lambda: state[-1], state.append)


def _silence(*, known: bool) -> Part:
    destinations = SilentDestinations()
    for port in range(3 if known else 0):
        destinations.note((Address("192.0.2.1", port), port == 1), trio.current_time() + 9, 8)
    return CarriedSilence("edge", ServerFirstConfig(), destinations)


def _turn(*, known: bool) -> Part:
    return InTurn(_endpoints(1, 1, 1), int(known))


def _turns(*, known: bool) -> Part:
    return EarliestDeadlineFirst(_endpoints(1, 2, 3), int(known), lambda one: one.weight)


def _tickets(*, known: bool) -> Part:  # there are always some
    return Tickets().load(ClientCertificates())


class _Make(Protocol):
    def __call__(self, *, known: bool) -> Part:
        """Return a part that knows something, or nothing."""
        ...


_CLUSTER = ClusterConfig(endpoints=(EndpointConfig(address=Address("192.0.2.1", 1)),))
_PARTS: Sequence[_Make] = (_counts, _marks, _agreed, _silence, _turn, _turns, _tickets)


def target(_registry: Registry) -> Target:
    """Return the target of everything that is carried: the first byte says which, the others are its state."""

    async def resume(make: _Make, state: bytes) -> None:
        part = make(known=False)
        before = _timeless(part.carry())
        try:
            part.resume(state)
        except ValueError:
            if _timeless(part.carry()) != before:
                raise Broken("a state was refused, and resumed in part", state) from None
            return
        carried = part.carry()
        if carried:
            make(known=False).resume(carried)

    def check(data: bytes) -> None:
        if data:
            trio.run(resume, _PARTS[data[0] % len(_PARTS)], data[1:])

    async def seeds() -> list[Seed]:
        return [
            Seed(f"part-{number}", bytes((number,)) + make(known=True).carry())
            for number, make in enumerate(_PARTS)
        ]

    return Target(name="carried", check=check, seeds=lambda: trio.run(seeds), mutate=_mutate)


def _timeless(data: bytes) -> bytes:
    # Where seconds are written down they are less each time: what else there is is compared by its size.
    return data if b"cut" not in data else bytes(len(data))


def _mutate(data: bytes, chance: random.Random, mutate: Mutator) -> bytes:
    # Mostly the part stays what it was: what follows is a state of that one.
    if not data or chance.random() < 0.1:
        return mutate(data, chance)
    return data[:1] + mutate(data[1:], chance)
