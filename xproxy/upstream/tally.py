"""What is known of endpoints by their attempts: numbers, and which of them fail. Every cluster has this observer."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from xproxy.config.schema import ClusterConfig
from xproxy.stream.ending import Answered, Broke, GivenUp
from xproxy.stream.record import RetryPermits
from xproxy.upstream.attempt import Attempt, Attempts
from xproxy.upstream.stats import ClusterStats


@final
class Tally:
    """Counts how attempts ended, and marks endpoints that fail several times in a row.

    A mark is a time until which an endpoint is chosen only if nothing else is left. That attempts began is counted by
    the cluster.
    """

    __slots__ = ("_marked", "_seconds", "_stats", "_threshold")

    def __init__(
        self, config: ClusterConfig, stats: ClusterStats, marked: Callable[[], None]
    ) -> None:
        """``marked`` is called when an endpoint fails that did not."""
        self._stats = stats
        self._threshold = config.failure_threshold
        self._seconds = config.failure_time
        self._marked = marked

    def ended(self, attempt: Attempt) -> None:
        """See Observer."""
        stats = self._stats
        endpoint = attempt.endpoint
        stats.upstream_rq_active -= 1
        endpoint.active -= 1
        how = attempt.how
        if type(how) is Answered:
            endpoint.failures_in_a_row = 0
            status = how.status
            statuses = stats.statuses
            try:
                statuses[status] += 1
            except KeyError:
                statuses[status] = 1
        else:
            self._unanswered(attempt)

    def _unanswered(self, attempt: Attempt) -> None:
        stats = self._stats
        endpoint = attempt.endpoint
        status = attempt.status
        if status is not None:  # it had begun to answer
            stats.statuses[status] = stats.statuses.get(status, 0) + 1
        match attempt.how:
            case Broke():
                stats.upstream_rq_reset += 1
                endpoint.failed += 1
                endpoint.failures_in_a_row += 1
                if endpoint.failures_in_a_row >= self._threshold:
                    self._mark(attempt)
            case GivenUp(None) if status is None:
                stats.upstream_rq_cancelled += 1
            case GivenUp(None):
                endpoint.failures_in_a_row = 0

    def _mark(self, attempt: Attempt) -> None:
        now = attempt.ended
        assert now is not None
        if attempt.endpoint.failing_until <= now:
            self._stats.endpoint_failing += 1
            self._marked()
        attempt.endpoint.failing_until = now + self._seconds


def high_attempts(ordinary: Attempts, permits: RetryPermits, stats: ClusterStats) -> Attempts:
    """Return what attempts of the high priority have in common: they count apart, and tell the same observers."""

    def ended(attempt: Attempt) -> None:
        stats.upstream_rq_high_active -= 1
        ordinary.tell(attempt)

    return Attempts(ordinary.cluster, permits, ended)
