"""What is known of endpoints' health, for the process that takes over: nobody has to find it out again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

import attrs
import trio

from xproxy.codecs.state_kinds import FLAG, amount, number, sequence, text
from xproxy.codecs.state_schema import StateRecord, StateSchema, state_field
from xproxy.config.schema import ClusterConfig
from xproxy.stream.carrying import CarriedAs, cut_now, seconds_left
from xproxy.upstream.carried import MOST_ENDPOINTS
from xproxy.upstream.endpoint import Endpoint, Unfit
from xproxy.upstream.health.records import CheckRecord, OutlierRecord
from xproxy.upstream.membership import named

_COUNT: Final = number(0, 2**31)
_SECONDS: Final = amount(1e9)
MOST_CHECKS: Final = 64
"""Of a cluster, that are told of."""


class Told(Protocol):
    """Who goes on from what was resumed."""

    def resumed(self) -> None: ...


@attrs.frozen
class _Check:
    pending: bool
    failed: bool
    degraded: bool
    successes: int
    failures: int


@attrs.frozen
class _Health:
    endpoint: str
    ejected: bool
    left: float
    """Seconds of the ejection."""
    multiplier: int
    consecutive_5xx: int
    gateway: int
    local: int
    checks: list[_Check]


@attrs.frozen
class _All:
    cut: float
    endpoints: list[_Health]


_CHECK: Final = StateRecord(
    _Check,
    state_field("pending", FLAG),
    state_field("failed", FLAG),
    state_field("degraded", FLAG),
    state_field("successes", _COUNT, 0),
    state_field("failures", _COUNT, 0),
)
_HEALTH: Final = StateRecord(
    _Health,
    state_field("endpoint", text(1024)),
    state_field("ejected", FLAG),
    state_field("left", _SECONDS, 0.0),
    state_field("multiplier", _COUNT, 0),
    state_field("consecutive_5xx", _COUNT, 0),
    state_field("gateway", _COUNT, 0),
    state_field("local", _COUNT, 0),
    state_field("checks", sequence(_CHECK.kind, MOST_CHECKS)),
)
_ALL: Final = StateSchema(
    "endpoint health",
    1,
    StateRecord(
        _All,
        state_field("cut", _SECONDS),
        state_field("endpoints", sequence(_HEALTH.kind, MOST_ENDPOINTS)),
    ),
)


@attrs.frozen(eq=False)
class EndpointHealth:
    """Which endpoints are ejected, for how long, and how often they were; and what health checks have found."""

    cluster: str
    config: ClusterConfig
    endpoints: Iterable[Endpoint]
    """Gives those of the moment."""
    told: Told

    def carried_as(self) -> CarriedAs:
        """See SupportsCarry."""
        # With other TLS it may be for another reason that they failed.
        return CarriedAs(
            kind="endpoint health", name=self.cluster, version=1, settings=self.config.tls
        )

    def carry(self) -> bytes:
        """See SupportsCarry."""
        now = trio.current_time()
        known = [
            _written(name, endpoint, now)
            for name, endpoint in named(self.endpoints)
            if endpoint.outliers is not None or endpoint.checks
        ]
        return _ALL.pack(_All(cut_now(), known[:MOST_ENDPOINTS])) if known else b""

    def resume(self, data: bytes) -> None:
        """See SupportsCarry. Nobody is ejected for longer than this configuration says."""
        state = _ALL.unpack(data)
        ours = dict(named(self.endpoints))
        for health in state.endpoints:
            endpoint = ours.get(health.endpoint)
            if endpoint is None:
                continue
            if self.config.outlier_detection is not None:
                self._eject(endpoint, health, state.cut)
            if len(health.checks) == len(self.config.health_checks):
                for record, check in zip(endpoint.checks, health.checks, strict=True):
                    _resume_check(record, check)
        self.told.resumed()

    def _eject(self, endpoint: Endpoint, health: _Health, cut: float) -> None:
        config = self.config.outlier_detection
        assert config is not None
        record = endpoint.outliers = OutlierRecord()
        record.multiplier = health.multiplier
        record.consecutive_5xx = health.consecutive_5xx
        record.consecutive_gateway_failure = health.gateway
        record.consecutive_local_origin_failure = health.local
        if health.ejected:
            most = config.longest_ejection + config.max_ejection_time_jitter
            left = seconds_left(min(health.left, most), cut)
            record.multiplier = max(1, record.multiplier)
            # Whose time is over comes back with the next interval, as it would have there.
            record.ejected_until = trio.current_time() + left
            endpoint.unfit |= Unfit.EJECTED


def _written(name: str, endpoint: Endpoint, now: float) -> _Health:
    record = endpoint.outliers or OutlierRecord()
    ejected = bool(endpoint.unfit & Unfit.EJECTED)
    return _Health(
        endpoint=name,
        ejected=ejected,
        left=max(0.0, record.ejected_until - now) if ejected else 0.0,
        multiplier=record.multiplier,
        consecutive_5xx=record.consecutive_5xx,
        gateway=record.consecutive_gateway_failure,
        local=record.consecutive_local_origin_failure,
        checks=[
            _Check(one.pending, one.failed, one.degraded, one.successes, one.failures)
            for one in endpoint.checks[:MOST_CHECKS]
        ],
    )


def _resume_check(record: CheckRecord, check: _Check) -> None:
    record.pending, record.failed, record.degraded = check.pending, check.failed, check.degraded
    record.successes, record.failures = check.successes, check.failures
