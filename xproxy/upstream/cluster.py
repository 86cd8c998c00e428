"""A cluster: endpoints that serve the same thing. It owns its upstream connections and whatever watches over them."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Final

import attrs
import trio

from xproxy.codecs.api import CodecPlugin, family_of
from xproxy.config.schema import ClusterConfig
from xproxy.model.errors import LocalProtocolError, NoHealthyEndpoint, StreamError, Unsupported
from xproxy.model.limits import Limits
from xproxy.model.status import Status
from xproxy.model.traits import Sharing, Traits
from xproxy.stream.exchange import Releasable, Request, Response
from xproxy.transport.poller import Poller
from xproxy.transport.timers import Timers
from xproxy.upstream.balance.api import LoadBalancerFactory
from xproxy.upstream.breaker import Breaker
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.lane import Dialer, Lane
from xproxy.upstream.serial_lane import DedicatedLane, SerialLane
from xproxy.upstream.shared_lane import BoundLane, SharedLane
from xproxy.upstream.stats import ClusterStats

_TICK: Final = 1.0
"""Seconds between looks at idle connections."""


class Cluster:
    """The handler at the end of a route. ``run`` must be running while it is used."""

    def __init__(
        self,
        name: str,
        config: ClusterConfig,
        balancer: LoadBalancerFactory,
        codec: Callable[[str], CodecPlugin],
        poller: Poller,
        timers: Timers,
        random: Random,
        limits: Limits,
    ) -> None:
        self.name = name
        self.config = config
        self.stats = ClusterStats()
        self._max_requests = config.circuit_breakers.max_requests
        self.breaker = Breaker(config.circuit_breakers, self.stats, name)
        self.endpoints = [Endpoint(e.address, e.weight, e.metadata) for e in config.endpoints]
        self._balancer = balancer(self.endpoints, random)
        self._codec = codec
        self._poller = poller
        self._timers = timers
        self._limits = limits
        self._lanes: dict[str, Lane] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the cluster's connections until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                tick = 0
                idle_ticks = math.ceil(self.config.idle_timeout / _TICK)
                while True:
                    await trio.sleep(_TICK)
                    tick += 1
                    for lane in self._lanes.values():
                        lane.tick(tick, idle_ticks)
        finally:
            self._nursery = None
            self.close()

    def close(self) -> None:
        """Close the connections nobody uses, and the others when they are done."""
        for lane in self._lanes.values():
            lane.close()

    # ---- one request

    async def __call__(self, request: Request) -> Response:
        """See Handler. Raises Overflow, NoHealthyEndpoint, ConnectFailed, UpstreamReset, UpstreamProtocolError."""
        stats = self.stats
        # Here and not in the breaker: every request asks.
        if stats.upstream_rq_active >= self._max_requests:
            self.breaker.refuse_request()
        protocol = request.connection.protocol
        lane = self._lanes.get(protocol) or self._open_lane(protocol, request.connection.traits)
        endpoint = lane.pinned(request) or self._choose(request)
        stats.upstream_rq_total += 1
        stats.upstream_rq_active += 1
        endpoint.active += 1
        endpoint.total += 1
        request.attempts += 1
        request.endpoint = endpoint.address
        request.permits = self.breaker
        try:
            response = await lane.exchange(request, endpoint)
        except LocalProtocolError as exc:
            self._ended(endpoint)
            # The client reads this: what its upstream's protocol cannot say is its business, our names are not.
            raise Unsupported(
                f"the request cannot be sent on in {lane.plugin.name}: {exc}"
            ) from exc
        except BaseException as exc:
            self._ended(endpoint)
            self._failed(request, endpoint, exc)
            raise
        endpoint.failures_in_a_row = 0
        status = response.head.status
        stats.statuses[status] = stats.statuses.get(status, 0) + 1
        if status is not Status.OK:
            _note_tried(request, endpoint)
        if lane.plugin.name != protocol:
            self._convert(request, response, lane.plugin)
        if response.lease is None:
            stats.upstream_rq_active -= 1
            endpoint.active -= 1
        else:
            response.lease = _Counted(self, endpoint, response.lease)
        return response

    def _convert(self, request: Request, response: Response, plugin: CodecPlugin) -> None:
        # Another family's own codes mean nothing to the client: the neutral status speaks.
        response.origin = None
        traits = request.connection.traits
        if family_of(plugin) != (traits.family or request.connection.protocol):
            response.head = attrs.evolve(response.head, native_status=None, extra=None)

    def _choose(self, request: Request) -> Endpoint:
        endpoint = self._balancer.pick(request)
        tried = request.tried
        if tried is None and endpoint.failing_until == 0.0:
            return endpoint
        now = trio.current_time()
        fallback = endpoint
        for _ in range(len(self.endpoints) * 2):
            if endpoint.failing_until <= now:
                endpoint.failing_until = 0.0
                if tried is None or endpoint not in tried:
                    return endpoint
                fallback = endpoint
            endpoint = self._balancer.pick(request)
        # The balancer does not come round to a good one, or there is none: look at each once.
        untried = [e for e in self.endpoints if tried is None or e not in tried]
        for endpoint in untried:
            if endpoint.failing_until <= now:
                return endpoint
        # All that is left is failing: the balancer's own choice spreads the load, unless it has been tried.
        return fallback if fallback in untried or not untried else untried[0]

    def _ended(self, endpoint: Endpoint) -> None:
        self.stats.upstream_rq_active -= 1
        endpoint.active -= 1

    def _failed(self, request: Request, endpoint: Endpoint, exc: BaseException) -> None:
        if not isinstance(exc, StreamError):
            # By the client, or by the limit of this one try: the next is better made elsewhere.
            _note_tried(request, endpoint)
            self.stats.upstream_rq_cancelled += 1
            return
        if not exc.condition:
            return  # the client's doing, or a full breaker
        _note_tried(request, endpoint)
        self.stats.upstream_rq_reset += 1
        endpoint.failed += 1
        endpoint.failures_in_a_row += 1
        if endpoint.failures_in_a_row >= self.config.failure_threshold:
            now = trio.current_time()
            if endpoint.failing_until <= now:
                self.stats.endpoint_failing += 1
            endpoint.failing_until = now + self.config.failure_time

    # ---- lanes

    def _open_lane(self, protocol: str, downstream: Traits) -> Lane:
        name = protocol if self.config.codec == "same" else self.config.codec
        if self._nursery is None:
            raise NoHealthyEndpoint(f"cluster {self.name} is closed")
        if self._codec(name).traits.headless is not downstream.headless:
            raise Unsupported(f"{protocol} cannot be converted to {name}: one of them has no heads")
        for other in self._lanes.values():
            if other.plugin.name == name:
                self._lanes[protocol] = other
                return other
        plugin = self._codec(name)
        traits = plugin.traits
        dialer = Dialer(
            self.name,
            self.config,
            plugin,
            self._poller,
            self._timers,
            self.stats,
            self.breaker,
            self._limits,
        )
        lane: Lane
        alone = self.config.proxy_protocol is not None or self.config.connections == "bound"
        if (traits.upstream_sharing or traits.sharing) is Sharing.SERIAL:
            lane = DedicatedLane(dialer) if alone or traits.headless else SerialLane(dialer)
        else:
            lane = BoundLane(dialer, self._nursery) if alone else SharedLane(dialer, self._nursery)
        self._lanes[protocol] = lane
        return lane


def _note_tried(request: Request, endpoint: Endpoint) -> None:
    if request.tried is None:
        request.tried = []
    request.tried.append(endpoint)


@attrs.define(eq=False)
class _Counted:
    """Keeps a request in flight until its response is closed."""

    cluster: Cluster
    endpoint: Endpoint
    lease: Releasable
    _over: bool = False

    async def aclose(self) -> None:
        if not self._over:
            self._over = True
            self.cluster._ended(self.endpoint)
            await self.lease.aclose()
