"""The running proxy: listeners, clusters and snapshots, and the signals that steer them.

Task tree: runtime ▸ {poller, timers, ticker, signals, snapshot parts, cluster ▸ upstream connection, listener ▸
connection ▸ stream}. Whatever is started for something dies with it.
"""

from __future__ import annotations

import functools
import logging
import math
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from random import Random

import attrs
import trio

from xproxy.codecs.detect import DetectCounters, Detector, overlaps
from xproxy.config.checks import check
from xproxy.config.codecs import listener_codecs
from xproxy.config.schema import AdminConfig, Config, ListenerConfig, TimeoutsConfig
from xproxy.model.address import Address
from xproxy.model.errors import PluginError, XproxyError
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.networks import Networks
from xproxy.model.traits import WEB_FAMILY
from xproxy.observe.metrics import StatsRegistry
from xproxy.observe.takeover import TakeoverStatus
from xproxy.proxy.active_listener import ActiveListener, ConnectionIds
from xproxy.proxy.build import Tools, assemble, make_service
from xproxy.proxy.collector import Collector
from xproxy.proxy.listener_source import ListenerSource, OwnListeners
from xproxy.proxy.memory import default_held_bytes, give_back, give_back_freed_memory
from xproxy.proxy.overseen import Overseen
from xproxy.proxy.reload import Load
from xproxy.proxy.shedding import Shedding
from xproxy.proxy.siblings import Siblings
from xproxy.proxy.snapshot import ListenerPlan, Snapshot
from xproxy.proxy.steering import Signals, Steering, receive_signals
from xproxy.registry import Registry
from xproxy.stream.exchange import Handler
from xproxy.stream.lifetime import SupportsStatistics
from xproxy.transport.breather import Breather, unhurried
from xproxy.transport.descriptors import raise_limit
from xproxy.transport.poller import Poller
from xproxy.transport.timers import Timers
from xproxy.upstream.cluster import Cluster
from xproxy.upstream.ticker import Ticker

_logger = logging.getLogger(__name__)

_ADMIN = "(admin)"


class Runtime:
    """A proxy in this process. ``run`` owns everything; the other methods may be called while it runs."""

    def __init__(
        self,
        registry: Registry,
        random: Random | None = None,
        source: ListenerSource | None = None,
    ) -> None:
        """``source``: where listening sockets come from; None: they are opened here."""
        self.poller = Poller()
        self.timers = Timers()
        self.detections = DetectCounters()
        self.registry = registry
        self.metrics = StatsRegistry()
        self.snapshot: Snapshot | None = None
        self.listeners: dict[str, ActiveListener] = {}
        self.generation = 0
        """How many configurations have been in force."""
        self.draining = False
        self.workers = 1
        """How many processes like this one share the machine's memory."""
        self.accepting = trio.Event()
        """Set when listeners accept: at once, unless ``hold`` was called before."""
        self.accepting.set()
        self._source: ListenerSource = source or OwnListeners()
        spread = random or Random()  # noqa: S311  # spreads load; guards nothing
        self.ticker = Ticker()
        self._tools = Tools(
            registry, self.poller, self.timers, self.ticker, spread, self.detections
        )
        self.metrics.add("detection", "", self.detections)
        self.metrics.add("memory", "", self.poller.held.stats)
        self.takeover = TakeoverStatus()
        self.step_aside: Callable[[], Awaitable[None]] | None = None
        """Set while connections are given to another process: lets a newer one yet have what is left."""
        self.siblings: Siblings | None = None
        """The other workers of this proxy; None: there cannot be any."""
        self.tails_since: float | None = None
        """Since when nothing is left here but what could not be given at once (trio clock); None: it is not so."""
        self.metrics.add("takeover", "", self.takeover.stats)
        self.ids = ConnectionIds()
        self._always: set[tuple[str, str]] = set()
        self.poller.held.give_back = give_back
        self.poller.descriptors.make_room = Shedding(ClientListeners(self))
        self.collector = Collector()
        self._admin: Callable[[Runtime], Handler] | None = None
        self._nursery: trio.Nursery | None = None
        self._live: list[Snapshot] = []
        self._scopes: dict[int, trio.CancelScope] = {}
        # By id: two filters of two snapshots may be equal, and are still two.
        self._ending: set[ActiveListener] = set()
        self._reloading = trio.Lock()
        self._stopped = trio.Event()
        self._draining = trio.CancelScope()
        self.ended = trio.Event()
        """Set when ``run`` is over."""

    # ---- life

    async def run(
        self,
        config: Config,
        admin: Callable[[Runtime], Handler] | None = None,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until ``stop``. Raises ConfigError or ListenError before it is ready, and changes nothing then."""
        failure: XproxyError | None = None
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self.poller.run)
                nursery.start_soon(self.timers.run)
                nursery.start_soon(self.ticker.run)
                nursery.start_soon(self.poller.held.run)
                self._admin = admin
                try:
                    await self._apply(config)
                except XproxyError as exc:
                    failure = exc  # raised outside the nursery, which would wrap it in a group
                else:
                    task_status.started()
                    await self._stopped.wait()
                    await self._drain()
                nursery.cancel_scope.cancel()
            if failure is not None:
                raise failure
        finally:
            self._nursery = None
            for listener in self.listeners.values():
                listener.close()
            self.poller.close()
            self.ended.set()

    def hold(self) -> None:
        """Have listeners accept nobody until ``accept``, also before ``run``; who connects waits in their queues.

        Idempotent.
        """
        if self.accepting.is_set():
            self.accepting = trio.Event()
        for listener in self.listeners.values():
            listener.pause()

    def accept(self) -> None:
        """Let listeners accept, after ``hold``. Idempotent."""
        self.accepting.set()
        for listener in self.listeners.values():
            listener.resume()

    @property
    def every_listener(self) -> tuple[ActiveListener, ...]:
        """Also those that have stopped, and whose last connections have not ended."""
        return (*self.listeners.values(), *self._ending)

    def stop(self) -> None:
        """Drain and end. Idempotent."""
        self.draining = True
        self._stopped.set()

    def cut(self) -> None:
        """End a drain before its time."""
        self._draining.cancel()

    async def _drain(self) -> None:
        # Those that a reload removed a moment ago have their own deadline already.
        listeners = list(self.listeners.values())
        for listener in listeners:
            listener.stop()
        with self._draining:
            async with trio.open_nursery() as nursery:
                for listener in listeners:
                    nursery.start_soon(self._end_listener, listener)
                for ending in list(self._ending):
                    nursery.start_soon(ending.ended.wait)
        for listener in (*listeners, *self._ending):
            listener.cut()

    # ---- configuration

    async def reload(self, config: Config) -> None:
        """Put ``config`` in force. On any error nothing has changed. Raises XproxyError."""
        async with self._reloading:
            await self._apply(config)

    async def _apply(self, config: Config) -> None:
        old = self.snapshot
        new = await unhurried(assemble(config, self._tools, old))
        plans = dict(new.listeners)
        if self._admin is not None and config.admin is not None:
            plans[_ADMIN] = self._admin_plan(config.admin, self._admin(self))
        opened: dict[str, ActiveListener] = {}
        started: list[object] = []
        try:
            # Everything that can fail comes first, and can be undone.
            for name, plan in plans.items():
                active = self.listeners.get(name)
                if active is None or active.config.address != plan.config.address:
                    opened[name] = await self._open(plan)
            for cluster in new.clusters.values():
                if id(cluster) not in self._scopes:
                    started.append(cluster)
                    await self._start(cluster, cluster.run)
            for part in new.parts:
                if id(part) not in self._scopes:
                    started.append(part)
                    await self._start(part, part.run)
        except BaseException:
            for listener in opened.values():
                listener.close()
                if not self._has(listener.config.address):
                    self._source.forget(listener.config)
            for thing in started:
                self._end(thing)
            raise
        # Nothing below can fail. Endpoints first: a route may lead to a cluster because of what it has now.
        breather = Breather()
        for cluster, wanted in new.changes:
            cluster.become(wanted)
            await breather.breathe()
        for one in new.seeing:
            one.see_clusters(new.clusters)
        before = old.clusters if old is not None else {}
        fresh = []
        for name, cluster in new.clusters.items():
            if before.get(name) is not cluster:
                fresh.append(name)
            await breather.breathe()
        gone = [name for name in before if name not in new.clusters]
        await breather.breathe()
        self._switch(old, new, plans, opened, fresh, gone)
        self.collector.replaced(len(started))
        if old is None:
            self.collector.look(len(self._scopes))

    def _switch(
        self,
        old: Snapshot | None,
        new: Snapshot,
        plans: Mapping[str, ListenerPlan],
        opened: Mapping[str, ActiveListener],
        fresh: Iterable[str],
        gone: Iterable[str],
    ) -> None:
        # No await in here: a connection sees the one configuration or the other. ``fresh`` and ``gone`` are clusters.
        assert self._nursery is not None
        self.snapshot = new
        self.generation += 1
        overload = new.config.overload
        self.poller.descriptors.keep(overload.reserved_descriptors)
        self.poller.held.bound(overload.max_held_bytes or default_held_bytes() // self.workers)
        self._live.append(new)
        for name, active in list(self.listeners.items()):
            plan = plans.get(name)
            if name in opened or plan is None:
                active.handed_on = any(
                    _same_place(active.config.address, other.config.address)
                    for other in opened.values()
                )
                active.stop()
                self._ending.add(active)
                self._nursery.start_soon(self._end_listener, active)
                del self.listeners[name]
                if plan is None:
                    self.metrics.remove("listener", name)
            else:
                if (plan.config.backlog, plan.config.reuse_port) != (
                    active.config.backlog,
                    active.config.reuse_port,
                ):
                    _logger.warning(
                        "listener %s: backlog and reuse_port hold from the next start, its socket is open",
                        name,
                    )
                active.use(plan)
        for name, active in opened.items():
            self.listeners[name] = active
            self.metrics.add("listener", name, active.stats)
            if not self.accepting.is_set():
                active.pause()
            self._nursery.start_soon(active.run)
        for name in gone:
            self.metrics.remove("cluster", name)
        for name in fresh:
            self.metrics.add("cluster", name, new.clusters[name].stats)
        self._show_parts(old, new)
        if old is not None:
            self._nursery.start_soon(self._retire, old)

    def _show_parts(self, old: Snapshot | None, new: Snapshot) -> None:
        after = {(kind, name): stats for kind, name, stats in _statistics(new.parts)}
        for kind, name, _ in _statistics(old.parts if old is not None else ()):
            if (kind, name) not in after and (kind, name) not in self._always:
                self.metrics.remove(kind, name)
        for (kind, name), stats in after.items():
            self.metrics.add(kind, name, stats)

    def show(self, kind: str, name: str, stats: object) -> None:
        """Show these counters as long as the process runs."""
        self._always.add((kind, name))
        self.metrics.add(kind, name, stats)

    async def _open(self, plan: ListenerPlan) -> ActiveListener:
        config = plan.config
        inherited = self._inherited(config.address)
        is_admin = config.name == _ADMIN
        if inherited is not None:
            sock, *also = inherited
        else:
            sock, *also = await self._source.open(config, single=is_admin)
        # The admin can be reached when there is nothing left for clients.
        kept = None if is_admin else self.poller.descriptors
        before = self.listeners.get(config.name)
        stats = before.stats if before is not None else None
        return ActiveListener(
            sock,
            plan,
            self.poller,
            self.timers,
            self.ids,
            kept,
            stats,
            also=also,
            release=functools.partial(self._source.release, config),
        )

    def _inherited(self, address: Address) -> Sequence[socket.socket] | None:
        # A listener was renamed, or two change places: who has the address now is about to leave it, as no file has
        # two for one address. The socket is handed on, with what waits in its queue.
        for name, active in self.listeners.items():
            if name != _ADMIN and _same_place(active.config.address, address):
                return active.copies()
        return None

    def _has(self, address: Address) -> bool:
        return any(_same_place(one.config.address, address) for one in self.listeners.values())

    def _admin_plan(self, config: AdminConfig, handler: Handler) -> ListenerPlan:
        listener = ListenerConfig(
            name=_ADMIN,
            address=config.address,
            timeouts=TimeoutsConfig(),
        )
        web = [c for c in self.registry.codecs() if c.traits.family == WEB_FAMILY]
        detector = Detector(web, DEFAULT_LIMITS)
        return ListenerPlan(
            config=listener,
            service=make_service(listener, handler),
            detector=detector,
            only=None,
            fallback=None,
            opaque=self.registry.codec("opaque"),
            limits=DEFAULT_LIMITS,
            believed=Networks(()),
        )

    async def _start(self, thing: object, run: Callable[..., Awaitable[None]]) -> None:
        # Each has a scope of its own, so that it can be ended when the last snapshot that uses it has gone.
        scope = trio.CancelScope()

        async def in_scope(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            ready = _Ready(task_status)
            try:
                with scope:
                    await run(task_status=ready)
            except Exception as exc:
                name = f"{type(thing).__module__}.{type(thing).__qualname__}"
                if not ready.said:
                    raise PluginError(f"{name} cannot start: {type(exc).__name__}: {exc}") from exc
                # A plugin's background work has failed. That is no reason to end everybody's connections: requests go
                # on through it as far as it still can.
                _logger.exception(
                    "%s: its background task has failed and is not running any more", name
                )

        assert self._nursery is not None
        await self._nursery.start(in_scope)
        self._scopes[id(thing)] = scope

    def _end(self, thing: object) -> None:
        scope = self._scopes.pop(id(thing), None)
        if scope is not None:
            scope.cancel()

    async def _retire(self, snapshot: Snapshot) -> None:
        await snapshot.wait_idle()
        self._live.remove(snapshot)
        ended = await self._end_unused(snapshot)
        del snapshot  # which holds what is to be gone
        self.collector.replaced(ended)
        self.collector.look(len(self._scopes))

    async def _end_unused(self, snapshot: Snapshot) -> int:
        breather = Breather()
        ending: dict[int, object] = {}
        for thing in snapshot.running:
            ending[id(thing)] = thing
            await breather.breathe()
        # Looked at last: a snapshot that came meanwhile may use what this one did.
        for other in self._live:
            for thing in other.running:
                ending.pop(id(thing), None)
        clusters = [thing for thing in ending.values() if isinstance(thing, Cluster)]
        for thing in ending.values():
            if not isinstance(thing, Cluster):
                self._end(thing)
        for cluster in clusters:
            # One after the other: each has something to do at its end. None of them can come back meanwhile.
            self._end(cluster)
            await trio.lowlevel.checkpoint()
        return len(ending)

    async def _end_listener(self, listener: ActiveListener) -> None:
        with trio.move_on_after(listener.config.timeouts.drain or math.inf):
            await listener.ended.wait()
        listener.cut()
        self._ending.discard(listener)
        # The file of a Unix socket outlives it; whoever listens there now keeps it.
        address = listener.config.address
        if not listener.handed_on and not any(
            _same_place(active.config.address, address)
            for active in self.listeners.values()
            if not active.chains.main.draining
        ):
            self._source.ended(listener.config)


@attrs.frozen(eq=False)
class ClientListeners:
    """The listeners that clients use, at any time."""

    _runtime: Runtime

    def __iter__(self) -> Iterator[ActiveListener]:
        for name, active in self._runtime.listeners.items():
            if name != _ADMIN:
                yield active


@attrs.define(eq=False)
class _Ready:
    """Passes on that a task is ready, and remembers it."""

    _status: trio.TaskStatus[None]
    said: bool = False

    def started(self, value: None = None) -> None:
        self.said = True
        self._status.started(value)


def _statistics(parts: Iterable[object]) -> Iterator[tuple[str, str, object]]:
    for part in parts:
        found = part.statistics() if isinstance(part, SupportsStatistics) else None
        if found is not None:
            yield found


def _same_place(one: Address, other: Address) -> bool:
    # Two that ask for any free port are two places.
    return one == other and (one.port != 0 or one.is_unix)


async def serve(
    config: Config,
    *,
    registry: Registry,
    reload: Load | None = None,
    admin: Callable[[Runtime], Handler] | None = None,
    log_stats: object | None = None,
    overseer: Overseen | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a proxy until SIGTERM or SIGINT, then drain. SIGHUP puts the configuration that ``reload`` gives in force.

    ``reload``: what returns it, called in a thread; or the file, from which only what has changed is taken.

    ``log_stats``: counters of what the process itself logs to standard error.

    ``overseer``: the supervisor that this process is a worker of; it gives the sockets, says when to accept, and what
    else signals say otherwise. Only the one that it names reports the listeners.

    Reports the listeners as ``name address`` when ready. Raises XproxyError if it cannot start: InvalidConfig if
    something is wrong with ``config``.
    """
    check(config, registry)
    _warn_of_overlaps(config, registry)
    raise_limit()
    give_back_freed_memory()
    runtime = Runtime(registry, source=overseer)
    if overseer is not None:
        runtime.workers = overseer.count
        runtime.siblings = overseer.siblings
        runtime.hold()
    runtime.collector.tune()
    if log_stats is not None:
        runtime.show("log", "stderr", log_stats)
    failure: XproxyError | None = None
    # The receiver is outside: a signal that comes while the proxy drains must not end it in the signal's own way.
    with receive_signals() as signals:
        async with trio.open_nursery() as nursery:
            try:
                if overseer is not None:
                    await nursery.start(overseer.run)
                await nursery.start(runtime.run, config, admin)
            except XproxyError as exc:
                failure = exc  # raised outside the nursery, which would wrap it in a group
            else:
                nursery.start_soon(_steer, runtime, signals, reload, overseer)
                shown = True
                if overseer is not None:
                    shown = await overseer.begin(runtime, runtime.ended, runtime.accepting)
                lines = [f"{name} {active.address}" for name, active in runtime.listeners.items()]
                task_status.started(lines if shown else [])
                await runtime.ended.wait()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _warn_of_overlaps(config: Config, registry: Registry) -> None:
    # Two codecs that claim the same bytes are no error, as rank decides; but whoever installed them should know.
    looked_at: list[object] = []
    told: set[str] = set()
    for listener in config.listeners:
        if listener.codecs in looked_at:
            continue  # most listeners have the same
        looked_at.append(listener.codecs)
        for overlap in overlaps(listener_codecs(listener, registry)):
            if str(overlap) not in told:
                told.add(str(overlap))
                _logger.warning("detection: %s", overlap)


async def _steer(
    runtime: Runtime, signals: Signals, reload: Load | None, overseer: Overseen | None
) -> None:
    async with trio.open_nursery() as nursery:
        steering = Steering(runtime, reload, nursery)
        if overseer is not None:
            overseer.steer(steering)
        await signals.steer(steering, lambda: overseer is None or overseer.alone)
