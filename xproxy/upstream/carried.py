"""What a cluster knows of its endpoints beyond the configuration, for the process that takes over.

An endpoint is known by its address (``membership.named``). What is told of one that is not here is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

import attrs
import trio

from xproxy.codecs.state_kinds import amount, mapping, number, sequence, text
from xproxy.codecs.state_schema import StateRecord, StateSchema, state_field
from xproxy.config.schema import ClusterConfig
from xproxy.stream.carrying import CarriedAs, cut_now, seconds_left
from xproxy.upstream.balance.api import MovablePicker, Picker
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.membership import named

MOST_ENDPOINTS: Final = 65_536
"""Of which one cluster tells; more go on as if nothing was known."""
_NAME: Final = text(1024)
_SECONDS: Final = amount(1e9)
_LONGEST_START: Final = 86_400.0
"""Seconds after which nobody asks any more when an endpoint came."""


# ---- marks


@attrs.frozen
class _Mark:
    endpoint: str
    failures: int
    failing: float
    """Seconds left."""


@attrs.frozen
class _Marks:
    cut: float
    marks: list[_Mark]


_MARK: Final = StateRecord(
    _Mark,
    state_field("endpoint", _NAME),
    state_field("failures", number(0, 2**62), 0),
    state_field("failing", _SECONDS, 0.0),
)
_MARKS: Final = StateSchema(
    "endpoint marks",
    1,
    StateRecord(
        _Marks,
        state_field("cut", _SECONDS),
        state_field("marks", sequence(_MARK.kind, MOST_ENDPOINTS)),
    ),
)


@attrs.frozen(eq=False)
class EndpointMarks:
    """Which endpoints have failed of late, and for how long they are chosen last."""

    cluster: str
    config: ClusterConfig
    endpoints: Iterable[Endpoint]
    """Gives those of the moment."""
    marked: Callable[[], None]
    """Called when one is failing."""

    def carried_as(self) -> CarriedAs:
        """See SupportsCarry."""
        # With other TLS it may be for another reason that they failed.
        return CarriedAs(
            kind="endpoint marks", name=self.cluster, version=1, settings=self.config.tls
        )

    def carry(self) -> bytes:
        """See SupportsCarry."""
        now = trio.current_time()
        marks = [
            _Mark(name, endpoint.failures_in_a_row, max(0.0, endpoint.failing_until - now))
            for name, endpoint in named(self.endpoints)
            if endpoint.failures_in_a_row or endpoint.failing_until > now
        ]
        return _MARKS.pack(_Marks(cut_now(), marks[:MOST_ENDPOINTS])) if marks else b""

    def resume(self, data: bytes) -> None:
        """See SupportsCarry. No endpoint is failing for longer than this configuration says."""
        state = _MARKS.unpack(data)
        ours = dict(named(self.endpoints))
        now = trio.current_time()
        for mark in state.marks:
            endpoint = ours.get(mark.endpoint)
            if endpoint is None:
                continue
            endpoint.failures_in_a_row = mark.failures
            left = seconds_left(min(mark.failing, self.config.failure_time), state.cut)
            if left:
                endpoint.failing_until = now + left
                self.marked()


# ---- the balancer's turn


@attrs.frozen(eq=False)
class BalancerTurn:
    """Whose turn it is, where the balancer's picker can say it."""

    cluster: str
    balancer: str
    picker: Callable[[], Picker]
    """Returns the one in use."""

    def carried_as(self) -> CarriedAs:
        """See SupportsCarry."""
        return CarriedAs(kind="balancer turn", name=self.cluster, version=1, settings=self.balancer)

    def carry(self) -> bytes:
        """See SupportsCarry."""
        picker = self.picker()
        return picker.carry() if isinstance(picker, MovablePicker) else b""

    def resume(self, data: bytes) -> None:
        """See SupportsCarry."""
        picker = self.picker()
        if not isinstance(picker, MovablePicker):
            raise ValueError(f"{self.balancer} has no turns here")
        picker.resume(data)


# ---- slow starts


@attrs.frozen
class _Starts:
    cut: float
    ages: dict[str, float]
    """Seconds since each became available."""


_STARTS: Final = StateSchema(
    "slow starts",
    1,
    StateRecord(
        _Starts,
        state_field("cut", _SECONDS),
        state_field("ages", mapping(_NAME, _SECONDS, MOST_ENDPOINTS)),
    ),
)


@attrs.frozen(eq=False)
class SlowStarts:
    """Since when endpoints are there that came, or came back."""

    cluster: str
    endpoints: Iterable[Endpoint]
    changed: Callable[[], None]
    """Called when some have begun of late."""

    def carried_as(self) -> CarriedAs:
        """See SupportsCarry."""
        return CarriedAs(kind="slow starts", name=self.cluster, version=1)

    def carry(self) -> bytes:
        """See SupportsCarry."""
        now = trio.current_time()
        ages = [(name, now - one.since) for name, one in named(self.endpoints)]
        known = {name: max(0.0, age) for name, age in ages if age < _LONGEST_START}
        return _STARTS.pack(_Starts(cut_now(), known)) if known else b""

    def resume(self, data: bytes) -> None:
        """See SupportsCarry."""
        state = _STARTS.unpack(data)
        on_the_way = max(0.0, cut_now() - state.cut)
        now = trio.current_time()
        for name, endpoint in named(self.endpoints):
            if name in state.ages:
                endpoint.since = now - state.ages[name] - on_the_way
        self.changed()


# ---- protocols agreed on


@attrs.frozen
class _Agreed:
    protocols: dict[str, dict[str, str]]


_AGREED: Final = StateSchema(
    "agreed protocols",
    1,
    StateRecord(
        _Agreed,
        state_field("protocols", mapping(_NAME, mapping(_NAME, _NAME, MOST_ENDPOINTS), 256)),
    ),
)

Protocols: TypeAlias = Mapping[str, Mapping[str, str]]
"""By the best protocol that was offered and by endpoint: the name of the codec whose protocol that has chosen."""


@attrs.frozen(eq=False)
class AgreedProtocols:
    """What each endpoint has chosen in TLS, so that the first request need not find it out anew."""

    cluster: str
    config: ClusterConfig
    known: Callable[[], Protocols]
    learn: Callable[[Protocols], None]

    def carried_as(self) -> CarriedAs:
        """See SupportsCarry."""
        return CarriedAs(
            kind="agreed protocols",
            name=self.cluster,
            version=1,
            settings=(self.config.tls, self.config.codec),
        )

    def carry(self) -> bytes:
        """See SupportsCarry."""
        known = {best: dict(chosen) for best, chosen in self.known().items() if chosen}
        return _AGREED.pack(_Agreed(known)) if known else b""

    def resume(self, data: bytes) -> None:
        """See SupportsCarry."""
        self.learn(_AGREED.unpack(data).protocols)
