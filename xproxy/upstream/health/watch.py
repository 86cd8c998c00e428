"""What watches over the health of a cluster's endpoints, as one thing. A cluster that asks for none has none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Final, final

import trio

from xproxy.config.schema import ClusterConfig
from xproxy.model.errors import DeadlineExceeded
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.traits import WEB_FAMILY, Traits
from xproxy.stream.carrying import SupportsCarry
from xproxy.stream.exchange import Request
from xproxy.upstream.attempt import TIMED_OUT, Attempt, Attempts
from xproxy.upstream.endpoint import Degraded, Endpoint, Unfit
from xproxy.upstream.health.carried import EndpointHealth
from xproxy.upstream.health.checks import HealthChecks
from xproxy.upstream.health.marks import Marks
from xproxy.upstream.health.outlier import OutlierDetector
from xproxy.upstream.membership import Membership
from xproxy.upstream.stats import ClusterStats

IMMEDIATE_FAIL: Final = "x-envoy-immediate-health-check-fail"
"""A header of any answer: its endpoint is unhealthy until it passes checks again."""


@final
class Watch:
    """Outlier detection, active checks, or both."""

    def __init__(
        self,
        cluster: str,
        config: ClusterConfig,
        members: Membership,
        marks: Marks,
        stats: ClusterStats,
        random: Random,
        checks: HealthChecks | None,
    ) -> None:
        def endpoints() -> Sequence[Endpoint]:
            return members.endpoints

        self.checks = checks
        self.outliers: OutlierDetector | None = None
        if config.outlier_detection is not None:
            self.outliers = OutlierDetector(
                cluster, config.outlier_detection, endpoints, marks, stats, random
            )
            if (
                checks is not None
                and config.outlier_detection.successful_active_health_check_uneject_host
            ):
                checks.passed = self._passed
        self._lost: list[Endpoint] = []
        self._losing = trio.Event()
        marks.lost = self._lose
        self._cluster = cluster
        self._config = config
        self._members = members
        self._marks = marks

    def _passed(self, endpoint: Endpoint) -> None:
        assert self.outliers is not None
        self.outliers.restore(endpoint, "a health check passed")

    def observe(self, attempts: Attempts) -> None:
        """Be told of attempts, if that is needed."""
        if self.outliers is not None:
            attempts.observe(self.outliers.ended)

    def changed(self) -> None:
        """The cluster has other endpoints now."""
        if self.outliers is not None:
            self.outliers.recount()
        if self.checks is not None:
            self.checks.changed()

    async def run(self, part: Callable[[Endpoint], None]) -> None:
        """Watch until cancelled. ``part`` is called for each endpoint that has become unfit."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._part, part)
            if self.outliers is not None:
                nursery.start_soon(self.outliers.run)
            if self.checks is not None:
                nursery.start_soon(self.checks.run)

    def _lose(self, endpoint: Endpoint) -> None:
        self._lost.append(endpoint)
        self._losing.set()

    async def _part(self, part: Callable[[Endpoint], None]) -> None:
        # In a task of its own: it is amid a request of one of its connections that an endpoint is found to be unfit.
        while True:
            await self._losing.wait()
            self._losing = trio.Event()
            lost, self._lost = self._lost, []
            for endpoint in lost:
                part(endpoint)

    # ---- requests

    def heard(
        self, attempt: Attempt, asked: RequestHead, answer: ResponseHead, traits: Traits
    ) -> None:
        """The head of an answer is there; ``traits``: of the codec that its endpoint is spoken to in."""
        if traits.family == WEB_FAMILY and asked.rpc is None:
            attempt.code = answer.native_status  # finer than the neutral status
        if self.checks is not None and IMMEDIATE_FAIL in answer.headers:
            self.checks.fail_now(attempt.endpoint)

    def broke_off(self, attempt: Attempt, request: Request, due: float) -> None:
        """It ends by an exception. ``due``: until when whoever called wanted to wait (trio clock)."""
        late = min(due, request.stream.deadline) <= trio.current_time()
        if late or isinstance(request.stream.interruption(), DeadlineExceeded):
            attempt.code = TIMED_OUT

    # ---- moving to another process

    def carrying(self) -> Iterator[SupportsCarry]:
        """Give what is known of the endpoints' health."""
        yield EndpointHealth(self._cluster, self._config, self._members, self)

    def resumed(self) -> None:
        """See Told."""
        if self.checks is not None:
            self.checks.resumed()
        if self.outliers is not None:
            self.outliers.resumed()
        self._marks.recount(self._members)


def forget(endpoints: Sequence[Endpoint], config: ClusterConfig) -> None:
    """Forget of ``endpoints``, which a former cluster of this name had, what this one does not look at."""
    for endpoint in endpoints:
        if config.outlier_detection is None:
            endpoint.outliers = None
            endpoint.unfit &= ~Unfit.EJECTED
        if len(endpoint.checks) != len(config.health_checks):
            endpoint.checks = ()
            endpoint.unfit &= ~(Unfit.FAILED_CHECK | Unfit.UNCHECKED)
            endpoint.degraded &= ~Degraded.CHECKED
