"""Active health checks of one cluster: one task that knows what is due, and a bounded number that ask.

A check that cannot be made, for whatever reason, is one that failed.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, final

import attrs
import trio

from xproxy.config.health import HealthCheckConfig
from xproxy.model.errors import StreamError
from xproxy.upstream.endpoint import Degraded, Endpoint, Unfit
from xproxy.upstream.health.api import PASSED, CheckFailed, Passed
from xproxy.upstream.health.marks import Marks
from xproxy.upstream.health.probe import EndpointProbe, Probing
from xproxy.upstream.health.records import CheckRecord
from xproxy.upstream.health.verdict import Change, failed, next_interval, passed, shortest_interval
from xproxy.upstream.stats import ClusterStats

_logger = logging.getLogger(__name__)

MOST_AT_ONCE: Final = 64
"""Checks of one cluster that run at a time; others wait. Of more endpoints than that, the second checks are spread
over the interval."""
EARLY: Final = 0.01
"""Of the shortest interval: so much earlier a check may come, to be made along with one that is due. To wake up for
each of very many costs more than what it asks."""
# As plain numbers: an operation of flags costs twenty of theirs, and each check makes some.
_FAILED: Final = Unfit.FAILED_CHECK.value
_UNCHECKED: Final = Unfit.UNCHECKED.value
_UNHEALTHY: Final = _FAILED | _UNCHECKED
_DEGRADED: Final = Degraded.CHECKED.value


@attrs.define(eq=False)
class _Watched:
    """One endpoint, as one check sees it."""

    endpoint: Endpoint
    config: HealthCheckConfig
    record: CheckRecord
    probe: EndpointProbe
    phase: float
    """Of its first interval, how much it waits: 0 … 1."""
    scope: trio.CancelScope | None = None
    """Of the check that runs."""
    gone: bool = False

    def leave(self) -> None:
        self.gone = True
        if self.scope is None:
            self.probe.close()
        else:
            self.scope.cancel()


@final
class HealthChecks:
    """Of one cluster. ``run`` must be running."""

    def __init__(
        self,
        probing: Probing,
        endpoints: Callable[[], Sequence[Endpoint]],
        marks: Marks,
        stats: ClusterStats,
        random: Random,
    ) -> None:
        """``endpoints`` returns those that the cluster has now. Those that were never checked are unfit from here."""
        self.configs = probing.config.health_checks
        self.passed: Callable[[Endpoint], None] | None = None
        """Is told of each endpoint that passes a check, and is healthy by all of them."""
        self._probing = probing
        self._endpoints = endpoints
        self._marks = marks
        self._stats = stats
        self._random = random
        self._watched: dict[Endpoint, list[_Watched]] = {}
        self._due: list[tuple[float, int, _Watched]] = []
        self._numbers = itertools.count()
        self._woken = trio.Event()
        self._running = False
        self._early = EARLY * min((shortest_interval(one) for one in self.configs), default=0.0)
        self._begin(self._endpoints())

    def _begin(self, endpoints: Sequence[Endpoint]) -> None:
        for endpoint in endpoints:
            if len(endpoint.checks) != len(self.configs):
                endpoint.checks = tuple(CheckRecord() for _ in self.configs)
            self._settle(endpoint)

    def changed(self) -> None:
        """The cluster has other endpoints: begin to check those that are new, and end it for those that went."""
        endpoints = self._endpoints()
        now_here = set(endpoints)
        for endpoint in [one for one in self._watched if one not in now_here]:
            for watched in self._watched.pop(endpoint):
                watched.leave()
        new = [one for one in endpoints if one not in self._watched]
        self._begin(new)
        if self._running:
            self._watch(new)

    def _watch(self, endpoints: Sequence[Endpoint]) -> None:
        now, many = trio.current_time(), len(endpoints) > MOST_AT_ONCE
        for place, endpoint in enumerate(endpoints, 1):
            self._watched[endpoint] = []
            for config, record in zip(self.configs, endpoint.checks, strict=True):
                probe = EndpointProbe(self._probing, endpoint)
                phase = place / len(endpoints) if many else 1.0
                watched = _Watched(endpoint, config, record, probe, phase)
                self._watched[endpoint].append(watched)
                wait = 0.0
                if (
                    not record.pending
                ):  # known from before: go on as if this had been its last check
                    wait = config.interval * self._random.random()
                self._schedule(watched, now + wait + config.initial_jitter * self._random.random())

    def _schedule(self, watched: _Watched, at: float) -> None:
        heapq.heappush(self._due, (at, next(self._numbers), watched))
        if self._due[0][2] is watched:
            self._woken.set()

    async def run(self) -> None:
        """Check for ever."""
        try:
            self._running = True
            self._watch([one for one in self._endpoints() if one not in self._watched])
            limiter, early = trio.Semaphore(MOST_AT_ONCE), 0.0
            async with trio.open_nursery() as nursery:
                while True:
                    while self._due and self._due[0][0] <= trio.current_time() + early:
                        watched, early = heapq.heappop(self._due)[2], self._early
                        if watched.gone:
                            continue
                        await limiter.acquire()
                        nursery.start_soon(self._check, watched, limiter)
                    self._woken, early = trio.Event(), 0.0
                    with trio.move_on_at(self._due[0][0] if self._due else math.inf):
                        await self._woken.wait()
        finally:
            self._running = False
            for several in self._watched.values():
                for watched in several:
                    watched.probe.close()
            self._watched.clear()
            self._due.clear()

    async def _check(self, watched: _Watched, limiter: trio.Semaphore) -> None:
        outcome: Passed | CheckFailed | None = None
        try:
            if watched.gone:
                return
            timeout = watched.config.timeout
            # One scope for both: who leaves is gone, so what else has cancelled it was its deadline.
            with trio.CancelScope(deadline=trio.current_time() + timeout) as scope:
                watched.scope = scope
                self._count("attempt")
                outcome = await self._outcome(watched)
            if outcome is None:
                watched.probe.close()
                outcome = CheckFailed(f"no answer in {timeout:g} s (timeout)")
            if not watched.gone:
                self._take(watched, outcome)
        finally:
            watched.scope = None
            if watched.gone or not self._running:
                watched.probe.close()
            limiter.release()

    async def _outcome(self, watched: _Watched) -> Passed | CheckFailed:
        config, probe = watched.config, watched.probe
        outcome: Passed | CheckFailed
        try:
            outcome = await config.check.options(probe) or PASSED
        except CheckFailed as exc:
            outcome = exc
        except StreamError as exc:
            outcome = CheckFailed(exc.detail)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            outcome = CheckFailed("the connection broke")
        except Exception as exc:
            # Somebody else's code, which may fail with anything: that is no reason to take an endpoint for healthy.
            _logger.exception("health check %s of %s has failed", config.check.name, probe.address)
            outcome = CheckFailed(f"the check itself failed: {type(exc).__name__}")
        if isinstance(outcome, CheckFailed) or not config.reuse_connection:
            probe.close()
        return outcome

    def _take(self, watched: _Watched, outcome: Passed | CheckFailed) -> None:
        endpoint, config, record = watched.endpoint, watched.config, watched.record
        first = record.pending
        if isinstance(outcome, Passed):
            self._count("success")
            change = passed(record, config.healthy_threshold)
            record.degraded = outcome.degraded
        else:
            self._count("failure")
            self._count("verify_failure" if outcome.at_once else "network_failure")
            change = failed(
                record, config.unhealthy_threshold, outcome.detail, at_once=outcome.at_once
            )
            if change is Change.CHANGED or config.always_log_health_check_failures:
                _logger.warning(
                    "cluster %s: %s %s: %s",
                    self._probing.cluster,
                    endpoint.address,
                    "is unhealthy" if change is Change.CHANGED else "failed a health check",
                    outcome.detail,
                )
        healthy = isinstance(outcome, Passed)
        if healthy and change is Change.CHANGED:
            _logger.info("cluster %s: %s is healthy", self._probing.cluster, endpoint.address)
        wait = next_interval(
            config,
            change,
            self._random.random,
            healthy=healthy,
            traffic=self._stats.upstream_rq_total > 0,
        )
        if first:
            # Not so soon that it would come along with what is due now.
            wait = max(wait * watched.phase, 2 * self._early)
        self._schedule(watched, trio.current_time() + wait)
        self._settle(endpoint)
        if healthy and self.passed is not None and not endpoint.unfit & _UNHEALTHY:
            self.passed(endpoint)

    def fail_now(self, endpoint: Endpoint) -> None:
        """It has said in an answer that it is not to be asked: it is unhealthy until it passes checks again."""
        if not endpoint.checks or endpoint.leaving or endpoint.checks[0].failed:
            return
        self._count("passive_failure")
        failed(endpoint.checks[0], 1, "it said so in an answer", at_once=True)
        _logger.warning(
            "cluster %s: %s is unhealthy: it said so in an answer",
            self._probing.cluster,
            endpoint.address,
        )
        self._settle(endpoint)

    def _settle(self, endpoint: Endpoint) -> None:
        """Let the endpoint's marks say what its checks do."""
        pending = failed = degraded = False
        for one in endpoint.checks:
            pending |= one.pending
            failed |= one.failed
            degraded |= one.degraded
        unfit = failed * _FAILED | pending * _UNCHECKED
        if endpoint.unfit & _UNHEALTHY == unfit and bool(endpoint.degraded & _DEGRADED) is degraded:
            return  # as after nearly every check
        change = self._marks.change
        change(endpoint, unfit=Unfit.UNCHECKED, on=pending)
        change(endpoint, unfit=Unfit.FAILED_CHECK, on=failed)
        change(endpoint, degraded=Degraded.CHECKED, on=degraded)

    def resumed(self) -> None:
        """What endpoints are known for has changed: let their marks say it."""
        for endpoint in self._endpoints():
            if len(endpoint.checks) == len(self.configs):
                self._settle(endpoint)

    def _count(self, event: str) -> None:
        counts = self._stats.health_check
        counts[event] = counts.get(event, 0) + 1
