"""Outlier detection: endpoints are ejected for what they answer, and come back after a while.

It is told of each attempt that ended, and looks at rates once an interval. Nothing happens, and nothing wakes the
process, in a cluster without requests. (idea: envoy:source/common/upstream/outlier_detection_impl.cc)
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, final

import trio

from xproxy.config.health import OutlierDetectionConfig
from xproxy.model.errors import ConnectFailed, DeadlineExceeded
from xproxy.model.status import SERVER_FAULTS, Status
from xproxy.stream.ending import Answered, Broke, GivenUp
from xproxy.upstream.attempt import TIMED_OUT, Attempt
from xproxy.upstream.endpoint import Endpoint, Unfit
from xproxy.upstream.health.marks import Marks
from xproxy.upstream.health.records import OutlierRecord
from xproxy.upstream.stats import ClusterStats

_logger = logging.getLogger(__name__)

GATEWAY: Final = frozenset({502, 503, 504})
"""Codes that say something of what is behind the endpoint."""
CONSECUTIVE_5XX: Final = "consecutive_5xx"
CONSECUTIVE_GATEWAY: Final = "consecutive_gateway_failure"
CONSECUTIVE_LOCAL: Final = "consecutive_local_origin_failure"
SUCCESS_RATE: Final = "success_rate"
LOCAL_SUCCESS_RATE: Final = "local_origin_success_rate"
FAILURE_PERCENTAGE: Final = "failure_percentage"
LOCAL_FAILURE_PERCENTAGE: Final = "local_origin_failure_percentage"


def code_of_status(status: Status) -> int:
    """Return what a neutral status counts as, in codes of the web."""
    if status is Status.UNAVAILABLE:
        return 503
    if status is Status.DEADLINE_EXCEEDED:
        return 504
    return 500 if status in SERVER_FAULTS else 200


def code_of_failure(error: Exception) -> int:
    """Return what an attempt without a whole answer counts as."""
    if isinstance(error, DeadlineExceeded):
        return 504
    return 503 if isinstance(error, ConnectFailed) else 500


def success_threshold(rates: Sequence[float], factor: int) -> float:
    """Return the success rate below which an endpoint is an outlier among ``rates`` (percent).

    The mean less ``factor`` thousandths of the population's standard deviation.
    """
    mean = sum(rates) / len(rates)
    deviation = math.sqrt(sum((rate - mean) ** 2 for rate in rates) / len(rates))
    return mean - factor / 1000 * deviation


@final
class OutlierDetector:
    """Of one cluster. ``run`` must be running."""

    def __init__(
        self,
        cluster: str,
        config: OutlierDetectionConfig,
        endpoints: Callable[[], Sequence[Endpoint]],
        marks: Marks,
        stats: ClusterStats,
        random: Random,
    ) -> None:
        """``endpoints`` returns those that the cluster has now."""
        self.config = config
        self._cluster = cluster
        self._endpoints = endpoints
        self._marks = marks
        self._stats = stats
        self._random = random
        self._awaited: trio.Event | None = None
        # Set as soon as there is something to look at.
        self._enforcing = {
            CONSECUTIVE_5XX: config.enforcing_consecutive_5xx,
            CONSECUTIVE_GATEWAY: config.enforcing_consecutive_gateway_failure,
            CONSECUTIVE_LOCAL: config.enforcing_consecutive_local_origin_failure,
            SUCCESS_RATE: config.enforcing_success_rate,
            LOCAL_SUCCESS_RATE: config.enforcing_local_origin_success_rate,
            FAILURE_PERCENTAGE: config.enforcing_failure_percentage,
            LOCAL_FAILURE_PERCENTAGE: config.enforcing_failure_percentage_local_origin,
        }

    # ---- attempts

    def ended(self, attempt: Attempt) -> None:
        """See Observer."""
        code = attempt.code
        match attempt.how:
            case Answered(status):
                self.answered(attempt.endpoint, code_of_status(status) if code is None else code)
            case Broke(error):
                self.failed(attempt.endpoint, code_of_failure(error))
            case GivenUp() if code == TIMED_OUT:
                self.failed(attempt.endpoint, 504)

    def answered(self, endpoint: Endpoint, code: int) -> None:
        """It has answered with this code."""
        record = self._record(endpoint)
        if self.config.split_external_local_origin_errors:
            record.local.total += 1
            record.local.succeeded += 1
            record.consecutive_local_origin_failure = 0
        self._external(endpoint, record, code)

    def failed(self, endpoint: Endpoint, code: int) -> None:
        """It has not answered, which counts as this code unless local failures are split."""
        record = self._record(endpoint)
        config = self.config
        if not config.split_external_local_origin_errors:
            self._external(endpoint, record, code)
            return
        record.local.total += 1
        record.consecutive_local_origin_failure += 1
        # Not just equal, here and below: counts outlive a reload, and may be over what the threshold is now.
        if record.consecutive_local_origin_failure >= config.consecutive_local_origin_failure:
            self._detect(endpoint, CONSECUTIVE_LOCAL)
            record.consecutive_local_origin_failure = 0

    def _external(self, endpoint: Endpoint, record: OutlierRecord, code: int) -> None:
        bucket = record.external
        bucket.total += 1
        if not 500 <= code < 600:
            bucket.succeeded += 1
            record.consecutive_5xx = record.consecutive_gateway_failure = 0
            return
        config = self.config
        if code in GATEWAY:
            record.consecutive_gateway_failure += 1
            if record.consecutive_gateway_failure >= config.consecutive_gateway_failure:
                self._detect(endpoint, CONSECUTIVE_GATEWAY)
                record.consecutive_gateway_failure = 0
        else:
            record.consecutive_gateway_failure = 0
        record.consecutive_5xx += 1
        if record.consecutive_5xx >= config.consecutive_5xx:
            self._detect(endpoint, CONSECUTIVE_5XX)
            record.consecutive_5xx = 0

    def _record(self, endpoint: Endpoint) -> OutlierRecord:
        record = endpoint.outliers
        if record is None:
            record = endpoint.outliers = OutlierRecord()
        if self._awaited is not None:
            self._awaited.set()
        return record

    # ---- ejection

    def _detect(self, endpoint: Endpoint, why: str) -> None:
        if endpoint.unfit & Unfit.EJECTED or endpoint.leaving:
            return
        self._count(f"ejections_detected_{why}")
        if not self._may_eject():
            self._count("ejections_overflow")
            _logger.info(
                "cluster %s: %s would be ejected (%s), but max_ejection_percent are",
                self._cluster,
                endpoint.address,
                why,
            )
        elif self._random.random() * 100 >= self._enforcing[why]:
            _logger.info(
                "cluster %s: %s is an outlier (%s), not enforced",
                self._cluster,
                endpoint.address,
                why,
            )
        else:
            self._count(f"ejections_enforced_{why}")
            self._count("ejections_enforced_total")
            self.eject(endpoint, why)

    def _may_eject(self) -> bool:
        endpoints = self._endpoints()
        ejected = sum(1 for one in endpoints if one.unfit & Unfit.EJECTED)
        if not ejected and self.config.always_eject_one_host:
            return True
        return 100 * (ejected + 1) <= self.config.max_ejection_percent * len(endpoints)

    def eject(self, endpoint: Endpoint, why: str) -> None:
        """Eject ``endpoint`` for as long as its multiplier says, which grows."""
        config = self.config
        record = self._record(endpoint)
        base, longest = config.base_ejection_time, config.longest_ejection
        if record.multiplier * base < longest:
            record.multiplier += 1
        seconds = min(base * record.multiplier, longest)
        seconds += self._random.random() * config.max_ejection_time_jitter
        record.ejected_until = trio.current_time() + seconds
        self._marks.change(endpoint, unfit=Unfit.EJECTED, on=True)
        self.recount()
        _logger.warning(
            "cluster %s: %s is ejected for %.3g s (%s)",
            self._cluster,
            endpoint.address,
            seconds,
            why,
        )

    def restore(self, endpoint: Endpoint, why: str) -> None:
        """End an ejection; does nothing if there is none."""
        if not endpoint.unfit & Unfit.EJECTED:
            return
        if endpoint.outliers is not None:
            endpoint.outliers.calm()
        self._marks.change(endpoint, unfit=Unfit.EJECTED, on=False)
        self.recount()
        _logger.info("cluster %s: %s is back (%s)", self._cluster, endpoint.address, why)

    def recount(self) -> None:
        """Count those that are ejected: other endpoints may be here now."""
        self._stats.ejections_active = sum(
            1 for one in self._endpoints() if one.unfit & Unfit.EJECTED
        )

    def resumed(self) -> None:
        """What endpoints are known for has changed: go on from there."""
        self.recount()
        if self._awaited is not None:
            self._awaited.set()

    def _count(self, event: str) -> None:
        counts = self._stats.outlier_detection
        counts[event] = counts.get(event, 0) + 1

    # ---- the interval

    async def run(self) -> None:
        """Look at the endpoints once an interval, for ever; not while nothing has happened."""
        while True:
            if all(one.outliers is None or one.outliers.quiet for one in self._endpoints()):
                self._awaited = trio.Event()
                await self._awaited.wait()
                self._awaited = None
            await trio.sleep(self.config.interval)
            self.interval()

    def interval(self) -> None:
        """An interval is over: let come back whose time is over, and look at the rates of the interval."""
        now = trio.current_time()
        external: list[tuple[Endpoint, int, int]] = []
        local: list[tuple[Endpoint, int, int]] = []
        for endpoint in self._endpoints():
            record = endpoint.outliers
            if record is None:
                continue
            if not endpoint.unfit & Unfit.EJECTED:
                # Not in the interval in which it came back.
                record.multiplier = max(0, record.multiplier - 1)
            elif now >= record.ejected_until:
                self.restore(endpoint, "its time is over")
            rates, local_rates = record.external.take(), record.local.take()
            if not endpoint.unfit & Unfit.EJECTED:
                external.append((endpoint, *rates))
                local.append((endpoint, *local_rates))
        self._compare(external, SUCCESS_RATE, FAILURE_PERCENTAGE)
        if self.config.split_external_local_origin_errors:
            self._compare(local, LOCAL_SUCCESS_RATE, LOCAL_FAILURE_PERCENTAGE)

    def _compare(
        self, counted: Sequence[tuple[Endpoint, int, int]], by_rate: str, by_failures: str
    ) -> None:
        config = self.config
        rates = _rates(counted, config.success_rate_request_volume)
        if rates and len(rates) >= config.success_rate_minimum_hosts:
            bound = success_threshold([rate for _, rate in rates], config.success_rate_stdev_factor)
            for endpoint, rate in rates:
                if rate < bound:
                    self._detect(endpoint, by_rate)
        rates = _rates(counted, config.failure_percentage_request_volume)
        if rates and len(rates) >= config.failure_percentage_minimum_hosts:
            for endpoint, rate in rates:
                if 100 - rate >= config.failure_percentage_threshold:
                    self._detect(endpoint, by_failures)


def _rates(
    counted: Sequence[tuple[Endpoint, int, int]], volume: int
) -> list[tuple[Endpoint, float]]:
    return [
        (endpoint, 100 * succeeded / total)
        for endpoint, total, succeeded in counted
        if total and total >= volume
    ]
