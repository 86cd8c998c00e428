"""A cluster: endpoints that serve the same thing. It owns its upstream connections and whatever watches over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random
from typing import TypeAlias

import attrs
import trio

from xproxy.codecs.api import CodecPlugin, family_of
from xproxy.codecs.outcome import call_status
from xproxy.config.balancing import balancer_name
from xproxy.config.discovery import STATIC
from xproxy.config.schema import ClusterConfig, EndpointConfig
from xproxy.connection.flowing import FlowingExchange
from xproxy.connection.plain import request_head, response_head
from xproxy.connection.serial.upstream import SerialUpstream
from xproxy.model.address import Address
from xproxy.model.errors import (
    HeadRefused,
    HeadTooLarge,
    LocalProtocolError,
    NoHealthyEndpoint,
    PluginError,
    StreamError,
    Unsupported,
    UpstreamRefused,
)
from xproxy.model.limits import Limits
from xproxy.model.message import Rpc, Target
from xproxy.model.traits import Sharing, Traits
from xproxy.stream.body import Body, BytesBody
from xproxy.stream.carrying import SupportsCarry
from xproxy.stream.ending import ANSWERED
from xproxy.stream.exchange import ConnectionFacts, Downstream, Request, Response
from xproxy.transport.poller import Poller
from xproxy.transport.stream import ByteStream
from xproxy.transport.timers import Timers
from xproxy.upstream.agreement import Agreement
from xproxy.upstream.alpn_connector import AlpnConnector
from xproxy.upstream.attempt import Attempt, Attempts
from xproxy.upstream.balance.api import LoadBalancerFactory, ObservingBalancer
from xproxy.upstream.bound_connector import BoundConnector
from xproxy.upstream.breaker import Breaker
from xproxy.upstream.carried import (
    AgreedProtocols,
    BalancerTurn,
    EndpointMarks,
    Protocols,
    SlowStarts,
)
from xproxy.upstream.connector import Connector, Dialer, Opened
from xproxy.upstream.destinations import Destinations
from xproxy.upstream.discovery.carried import FoundEndpoints
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.health.api import Spoken
from xproxy.upstream.health.checks import HealthChecks
from xproxy.upstream.health.probe import Probing
from xproxy.upstream.health.watch import Watch
from xproxy.upstream.moving import Given, Handed, settings_of
from xproxy.upstream.origination import Origination
from xproxy.upstream.outcome import OutcomeBody, end_unseen
from xproxy.upstream.past import past
from xproxy.upstream.roster import Roster
from xproxy.upstream.serial_connector import DedicatedConnector, SerialConnector
from xproxy.upstream.shared_connector import SharedConnector
from xproxy.upstream.stats import ClusterStats
from xproxy.upstream.tally import Tally, high_attempts
from xproxy.upstream.ticker import TICK, Ticker
from xproxy.upstream.tunnel_connector import TunnelConnector
from xproxy.upstream.untold import Untold

CodecChoice: TypeAlias = Callable[[str], CodecPlugin]
"""What a cluster's endpoints are spoken to in, for requests of the downstream protocol of this name."""


class Cluster:
    """The handler at the end of a route. ``run`` must be running while it is used."""

    def __init__(
        self,
        name: str,
        config: ClusterConfig,
        balancer: LoadBalancerFactory,
        codec: CodecChoice,
        poller: Poller,
        timers: Timers,
        ticker: Ticker,
        random: Random,
        limits: Limits,
        origination: Origination | None = None,
        offered: Sequence[CodecPlugin] = (),
        untold: Untold | None = None,
        previous: Cluster | None = None,
        spoken: Spoken | None = None,
    ) -> None:
        """``offered``: what endpoints may choose from in TLS, the best first, in place of ``codec``.

        ``untold``: what they are spoken to in, as nobody has said it; in place of both, where it knows.

        ``previous``: the one of this name whose place it takes; what was counted, and what is known of endpoints
        that both have, goes on.

        ``spoken``: what health checks may speak; needed where the cluster has any.
        """
        self.name = name
        self.config = config
        self.stats: ClusterStats = ClusterStats() if previous is None else previous.stats
        self.breaker = Breaker(config.circuit_breakers, self.stats, name)
        self._ample = self.breaker.ample
        made = balancer(random)
        before = None if previous is None else previous._roster
        self._roster: Roster = Roster(
            name, config, made, self.stats, ticker, random, before, self._dismiss
        )
        self._choice = self._roster.choice
        # Not a method of the cluster: in no circle, it is freed when the last who uses it lets go.
        tally = Tally(config, self.stats, self._choice.marked)
        self.attempts = Attempts(name, self.breaker, tally.ended)
        self._high_attempts = high_attempts(self.attempts, self.breaker.high, self.stats)
        if isinstance(made, ObservingBalancer):
            self.attempts.observe(made.ended)
        self._codec = codec
        self._poller = poller
        self._timers = timers
        self._ticker = ticker
        self._idle_ticks = math.ceil(config.idle_timeout / TICK)
        self._refresh_ticks = math.ceil(config.tls.reload_interval / TICK) if config.tls else 0
        self._refreshed = ticker.tick
        self._limits = limits
        self._origination = origination
        self._offered = offered
        self._untold = untold
        self._opened: Opened | None = None
        if config.close_connections_on_host_health_failure:
            self._opened = {}
        self._watch: Watch | None = None
        if config.outlier_detection is not None or config.health_checks:
            self._watch = self._roster.watch = self._make_watch(random, spoken)
        self._connectors: dict[str, Connector] = {}
        self._agreed: Protocols = {}
        self._opened_for: dict[str, str] = {}
        # The codec of the client whose request opened one.
        self._pins = False  # a connector has connections that are bound to their clients
        self._nursery: trio.Nursery | None = None

    def _make_watch(self, random: Random, spoken: Spoken | None) -> Watch:
        name, config, stats = self.name, self.config, self.stats
        members, marks = self._roster.members, self._roster.marks

        def endpoints() -> Sequence[Endpoint]:
            return members.endpoints

        checks = None
        if config.health_checks:
            assert spoken is not None, "checks speak something"
            probing = Probing(name, config, self._poller, self._limits, self._origination, spoken)
            checks = HealthChecks(probing, endpoints, marks, stats, random)
        watch = Watch(name, config, members, marks, stats, random, checks)
        watch.observe(self.attempts)
        return watch

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """Those that requests go to; not those that were removed and still drain."""
        return self._roster.members.endpoints

    def members(self) -> tuple[int, int]:
        """See Members."""
        stats = self.stats
        return stats.membership_total, stats.membership_healthy + stats.membership_degraded

    def may_become(self, config: ClusterConfig) -> bool:
        """Whether it can ``become`` so: nothing but endpoints differs. Raises PluginError if its balancer refuses."""
        return self._roster.may_become(config)

    def become(self, config: ClusterConfig) -> None:
        """Take the endpoints of ``config``. Those that stay, by address, keep connections, counters and marks.

        Those that are removed get no request any more; what they have in flight is finished.
        """
        removed = self._roster.become(config, self._nursery)
        self.config = config
        if removed:
            self._dismiss(removed)

    def _dismiss(self, removed: Sequence[Endpoint]) -> None:
        self._let_go(removed)
        self._ticker.watch(self)

    def discover(self) -> None:
        """Begin to find endpoints, where that is not done already. The first request does it otherwise.

        Where there are health checks ``run`` does it: they are to know who is fit before requests come.
        """
        if self._nursery is not None:
            self._roster.discover(self._nursery)

    def _let_go(self, endpoints: Sequence[Endpoint]) -> None:
        for endpoint in endpoints:
            for connector in self._connectors.values():
                connector.leave(endpoint)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the cluster's connections until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self.attempts.bind(trio.lowlevel.current_clock())
                self._high_attempts.bind(trio.lowlevel.current_clock())
                if self._refresh_ticks:
                    self._ticker.watch(self, self._refresh_ticks)
                if self.config.health_checks or self._roster.found() is not None:
                    self.discover()  # the cluster whose place it takes was in use, or checks are to begin
                task_status.started()
                if self._watch is None:
                    await trio.sleep_forever()
                else:
                    await self._watch.run(self._part)
        finally:
            self._nursery = None
            self._ticker.forget(self)
            if isinstance(self._choice, Destinations):
                self._ticker.forget(self._choice)
            self.close()
            self._connectors.clear()  # each knows the cluster

    def _part(self, endpoint: Endpoint) -> None:
        # It is unfit now: its connections end with what they carry, or at once.
        if not endpoint.unfit:
            return
        self._roster.lost(endpoint)
        self._let_go((endpoint,))
        if self._opened is not None:
            for stream in self._opened.pop(endpoint, ()):
                stream.abort()

    def tick(self, tick: int) -> int:
        """See Ticked: close what is idle, and look at certificate files. Without connections there is no tick."""
        if self._refresh_ticks and tick - self._refreshed >= self._refresh_ticks:
            self._refreshed = tick
            self.refresh()
        # Once more: a connection may have been opened for a request that came before.
        members = self._roster.members
        self._let_go(members.leaving)
        left = False
        for connector in self._connectors.values():
            left |= connector.tick(tick, self._idle_ticks)
        for endpoint in members.drained():
            if self._opened is not None:
                self._opened.pop(endpoint, None)
            for connector in self._connectors.values():
                connector.forget(endpoint)
        if left or members.leaving:
            return 1
        return self._refreshed + self._refresh_ticks - tick if self._refresh_ticks else 0

    def refresh(self) -> None:
        """Take up certificate files that have changed."""
        if self._origination is not None:
            self._origination.refresh()

    def close(self) -> None:
        """Close the connections nobody uses, and the others when they are done."""
        for connector in self._connectors.values():
            connector.close()

    # ---- moving to another process

    def carrying(self) -> Iterator[SupportsCarry]:
        """Give what is known beside the connections, marks first: they decide who has turns."""
        name, config, choice = self.name, self.config, self._choice
        members = self._roster.members
        if config.type != STATIC:
            yield FoundEndpoints(name, config, self._roster.found, self._learn)
        yield EndpointMarks(name, config, members, choice.marked)
        yield BalancerTurn(name, balancer_name(config.load_balancer), lambda: choice.picker)
        if choice.slow_start:
            yield SlowStarts(name, members, lambda: choice.change(self.endpoints))
        yield AgreedProtocols(name, config, self._known_protocols, self._learn_protocols)
        if self._watch is not None:
            yield from self._watch.carrying()

    def _learn(self, found: Sequence[EndpointConfig]) -> None:
        self._roster.learn(found)
        self.discover()

    def _known_protocols(self) -> Protocols:
        return dict(self._agreed) | {
            connector.plugin.name: connector.agreement.chosen(self.endpoints)
            for connector in self._connectors.values()
            if isinstance(connector, AlpnConnector)
        }

    def _learn_protocols(self, protocols: Protocols) -> None:
        self._agreed = protocols  # for connectors that are opened later
        for connector in self._connectors.values():
            if isinstance(connector, AlpnConnector):
                connector.agreement.learn(self.endpoints, protocols.get(connector.plugin.name, {}))

    def give(self) -> Iterator[Given]:
        """See Connector: of all connectors."""
        seen: set[Connector] = set()
        for lane, connector in list(self._connectors.items()):
            if connector not in seen:
                seen.add(connector)
                client = self._opened_for.get(lane, "")
                for given in connector.give():
                    yield attrs.evolve(
                        given, handed=attrs.evolve(given.handed, lane=lane, client=client)
                    )

    def adopt(
        self,
        address: Address,
        stream: ByteStream,
        handed: Handed,
        client: Traits | None = None,
        downstream: Downstream | None = None,
    ) -> None:
        """See Connector. Raises ValueError where no connector, or no endpoint of this address, can take it.

        ``client``: of the codec ``handed.client``; where no request has come yet that would have opened the
        connector, this does.
        """
        endpoint, connector = self._taking(address, handed, client)
        connector.adopt(endpoint, stream, handed, downstream)

    def restores(
        self, address: Address, handed: Handed, client: Traits
    ) -> tuple[CodecPlugin, Limits]:
        """Return what the codec of a connection that another process gave would be restored with: see ``adopt``.

        Raises ValueError where it could not be taken.
        """
        _, connector = self._taking(address, handed, client)
        if (self._origination is not None) != bool(handed.moment.parts.stream):
            raise ValueError(f"cluster {self.name} has TLS only on one of both sides")
        if isinstance(connector, AlpnConnector):
            return connector.plugin_of(handed.protocol), self._limits
        return connector.plugin, self._limits

    def _taking(
        self, address: Address, handed: Handed, client: Traits | None
    ) -> tuple[Endpoint, Connector]:
        endpoint = next((one for one in self.endpoints if one.address == address), None)
        if endpoint is None:
            raise ValueError(f"cluster {self.name} has no endpoint {address}")
        if client is not None and handed.lane not in self._connectors:
            try:
                self._open_connector(handed.lane, handed.client, client)
            except (PluginError, NoHealthyEndpoint, Unsupported) as exc:
                raise ValueError(f"cluster {self.name}: {exc}") from exc
        for connector in self._connectors.values():
            if connector.plugin.name == handed.protocol or isinstance(connector, AlpnConnector):
                return endpoint, connector
        raise ValueError(f"cluster {self.name} has no connector for {handed.protocol}")

    def lane_of(self, key: object) -> tuple[str, str] | None:
        """Return lane and client of the connector that binds by ``key`` (see Handed); None: it is none of ours."""
        for lane, connector in self._connectors.items():
            if isinstance(connector, BoundConnector | DedicatedConnector) and connector.key == key:
                return lane, self._opened_for.get(lane, "")
        return None

    def continuation(
        self, client: ConnectionFacts, flowing: FlowingExchange
    ) -> Callable[[ByteStream, Request], tuple[SerialUpstream, Response]]:
        """Return what goes on with an exchange whose two ends another process gave. Called once or not.

        It takes the stream of the upstream's end and the request, counts all that is under way now, and returns that
        end and the response as far as this cluster has made it. Where it cannot it raises ValueError, and changes
        nothing.
        """
        end = flowing.upstream
        head = request_head(flowing.asked)
        address = Address.parse(end.endpoint)
        endpoint = next((one for one in self.endpoints if one.address == address), None)
        if endpoint is None:
            raise ValueError(f"cluster {self.name} has no endpoint {address}")
        if end.settings != settings_of(self.config):
            raise ValueError(f"cluster {self.name} has other settings")
        if not flowing.attempts:
            raise ValueError("an exchange without an attempt")
        before, current = flowing.attempts[:-1], flowing.attempts[-1]
        past(before, self.breaker, 0.0)
        spoken = self._spoken(client.protocol, head.rpc)
        try:
            connector = self._connectors.get(spoken) or self._open_connector(
                spoken, client.protocol, client.traits
            )
        except StreamError as error:
            raise ValueError(f"cluster {self.name}: {error.detail}") from error
        if connector.plugin.name != end.protocol and not isinstance(connector, AlpnConnector):
            raise ValueError(f"cluster {self.name} does not speak {end.protocol}")
        go_on = connector.continuation(endpoint, end)

        def begin(stream: ByteStream, request: Request) -> tuple[SerialUpstream, Response]:
            now = trio.current_time()
            connection, lease = go_on(stream, request)
            body: Body = connection.go_on(end, flowing.down, client.share)
            self.stats.upstream_rq_active += 1
            endpoint.active += 1
            attempt = Attempt(self.attempts, endpoint, past(before, self.breaker, now))
            request.record.attempt = attempt
            request.record.endpoint = endpoint.address
            response = Response(response_head(flowing.answer), body, None, lease)
            opaque = head.tunnel or connector.plugin.traits.headless
            self._goes_on(attempt, response, call=head.rpc is not None, opaque=opaque)
            attempt.resume(now - current.began, now - (current.answered or 0.0))
            if self._watch is not None:
                self._watch.heard(attempt, head, response.head, connector.plugin.traits)
            return connection, response

        return begin

    def _spoken(self, protocol: str, rpc: Rpc | None) -> str:
        known = rpc is not None and self._untold is not None and rpc.dialect in self._untold.calls
        return rpc.dialect if rpc is not None and known else protocol

    def _goes_on(self, attempt: Attempt, response: Response, *, call: bool, opaque: bool) -> None:
        # The head is there, and the body comes in pieces.
        head, body = response.head, response.body
        if call:
            response.body = outcome = OutcomeBody(body, attempt, head, opaque=opaque)
            attempt.goes_on(response.lease, outcome.give_up)
        else:
            end = partial(end_unseen, attempt, body, head, opaque=opaque)
            attempt.goes_on(response.lease, end)
        response.lease = attempt

    # ---- one request

    async def __call__(self, request: Request) -> Response:
        """See Handler.

        Raises Overflow, NoHealthyEndpoint, ConnectFailed, UpstreamReset, UpstreamRefused, UpstreamProtocolError.
        """
        stats = self.stats
        # Here and not in the breaker: every request asks.
        if stats.upstream_rq_active >= self._ample:
            self.breaker.check_request(request)
        spoken = protocol = request.connection.protocol
        target = request.head.extra
        rpc = target.rpc if type(target) is Target else None
        if rpc is not None and self._untold is not None and rpc.dialect in self._untold.calls:
            spoken = rpc.dialect
        connector = self._connectors.get(spoken) or self._open_connector(
            spoken, protocol, request.connection.traits
        )
        try:
            endpoint = (connector.pinned(request) if self._pins else None) or self._choice.choose(
                request
            )
        except NoHealthyEndpoint as exc:
            endpoint = await self._choose_later(request, exc)
        stats.upstream_rq_total += 1
        stats.upstream_rq_active += 1
        endpoint.active += 1
        endpoint.total += 1
        record = request.record
        attempts = self.attempts
        if record.priority > 0:
            attempts = self._high_attempts
            stats.upstream_rq_high_active += 1
        before = record.attempt
        record.attempt = attempt = Attempt(attempts, endpoint, before)
        record.endpoint = endpoint.address
        watch = self._watch
        due = math.inf if watch is None else trio.current_effective_deadline()
        # A message that is sent on as it came says what its client said; any other says what is left.
        if request.head.deadline is not None and (request.origin is None or before is not None):
            left = request.stream.deadline - trio.current_time()
            request.head = request.head.due_in(min(left, request.head.deadline))
        try:
            try:
                response = await connector.exchange(request, endpoint)
            except UpstreamRefused as refused:
                # Requests cross a goodbye on its way; on another connection they are not late (RFC 9113 §6.8). Once:
                # whoever says goodbye at once again means it.
                if not refused.leaving or type(request.body) is not BytesBody:
                    raise
                response = await connector.exchange(request, endpoint)
        except HeadRefused as exc:
            detail = f"the upstream does not take the request: {exc}"
            raise _failing(attempt, HeadTooLarge(detail)) from exc
        except LocalProtocolError as exc:
            # The client reads this: what its upstream's protocol cannot say is its business, our names are not.
            detail = f"the request cannot be sent on in {connector.plugin.name}: {exc}"
            raise _failing(attempt, Unsupported(detail)) from exc
        except BaseException as exc:
            if watch is not None:
                watch.broke_off(attempt, request, due)
            attempt.fail(exc)
            raise
        head, body = response.head, response.body
        if watch is not None:
            watch.heard(attempt, request.head, head, connector.plugin.traits)
        if type(body) is BytesBody:
            status = head.status if rpc is None else call_status(head, body.trailers)
            attempt.end(ANSWERED[status])
            if response.lease is not None:
                attempt.hold(response.lease)
                response.lease = attempt
        else:
            opaque = request.head.tunnel or connector.plugin.traits.headless
            self._goes_on(attempt, response, call=rpc is not None, opaque=opaque)
        if connector.plugin.name != protocol:
            self._convert(request, response, connector.plugin)
        return response

    async def _choose_later(self, request: Request, exc: NoHealthyEndpoint) -> Endpoint:
        # It may not be known yet which endpoints there are. Who waits is counted as waiting for a connection.
        stats, finding = self.stats, self._roster.finding
        if finding is None or finding.found is not None:
            raise NoHealthyEndpoint(f"cluster {self.name}: {exc}") from exc
        stats.upstream_cx_none_healthy -= 1  # it is not refused yet
        self.breaker.check_pending(request)
        stats.upstream_rq_pending_active += 1
        try:
            known = await finding.wait()
        finally:
            stats.upstream_rq_pending_active -= 1
        if known:
            return self._choice.choose(request)
        stats.upstream_cx_none_healthy += 1
        raise NoHealthyEndpoint(f"cluster {self.name}: its endpoints are not known yet") from exc

    def _convert(self, request: Request, response: Response, plugin: CodecPlugin) -> None:
        # Another family's own codes mean nothing to the client: the neutral status speaks.
        response.origin = None
        traits = request.connection.traits
        if family_of(plugin) != (traits.family or request.connection.protocol):
            response.head = attrs.evolve(response.head, native_status=None, extra=None)

    # ---- connectors

    def _open_connector(self, protocol: str, client: str, downstream: Traits) -> Connector:
        # ``protocol``: the client's, or the dialect of its calls where a codec is made for them.
        if self._nursery is None:
            raise NoHealthyEndpoint(f"cluster {self.name} is closed")
        self.discover()
        self._opened_for[protocol] = client
        plugin = self._untold.of(protocol, downstream) if self._untold is not None else None
        if plugin is None:
            if self._offered and (self._untold is None or self._untold.offers(downstream)):
                return self._open_alpn_connector(protocol, downstream)
            plugin = self._codec(protocol)
        name = plugin.name
        tunnels = plugin.traits.headless and not downstream.headless
        if downstream.headless and not plugin.traits.headless:
            raise Unsupported(f"{protocol} cannot be converted to {name}: one of them has no heads")
        for other in self._connectors.values():
            if (
                other.plugin.name == name
                and isinstance(other, TunnelConnector) is tunnels
                and not isinstance(other, AlpnConnector)
            ):
                self._connectors[protocol] = other
                return other
        connector = self._connectors[protocol] = self._make_lane(plugin, tunnels=tunnels)
        return connector

    def _open_alpn_connector(self, protocol: str, downstream: Traits) -> Connector:
        family = downstream.family or protocol
        plugins = [plugin for plugin in self._offered if family_of(plugin) == family]
        if not plugins:
            raise Unsupported(f"{protocol} is nothing that an endpoint could choose in TLS (ALPN)")
        for other in self._connectors.values():
            if other.plugin is plugins[0] and isinstance(other, AlpnConnector):
                self._connectors[protocol] = other
                return other
        agreement = Agreement(plugins)
        agreement.learn(self.endpoints, self._agreed.get(plugins[0].name, {}))
        connectors = {
            plugin.name: self._make_lane(plugin, agreement=agreement) for plugin in plugins
        }
        connector = self._connectors[protocol] = AlpnConnector(agreement, connectors)
        return connector

    def _make_lane(
        self, plugin: CodecPlugin, *, tunnels: bool = False, agreement: Agreement | None = None
    ) -> Connector:
        assert self._nursery is not None
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
            self._ticker,
            self,
            self._origination,
            agreement,
            self._opened,
        )
        bound = "bound" if traits.stateful else "shared"
        alone = (
            self.config.proxy_protocol is not None or (self.config.connections or bound) == "bound"
        )
        self._pins |= alone or tunnels or traits.headless
        if tunnels:
            return TunnelConnector(dialer)
        if (traits.upstream_sharing or traits.sharing) is Sharing.SERIAL:
            return (
                DedicatedConnector(dialer) if alone or traits.headless else SerialConnector(dialer)
            )
        return (
            BoundConnector(dialer, self._nursery)
            if alone
            else SharedConnector(dialer, self._nursery)
        )


def _failing(attempt: Attempt, error: StreamError) -> StreamError:
    attempt.fail(error)
    return error
