"""One address of a cluster, and what is known of it."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from typing import Final

import attrs

from xproxy.model.address import Address
from xproxy.upstream.health.records import CheckRecord, OutlierRecord


@attrs.frozen
class Locality:
    """Where an endpoint runs; empty: nobody has said it."""

    region: str = ""
    zone: str = ""
    sub_zone: str = ""


NOWHERE: Final = Locality()


class Unfit(enum.IntFlag):
    """Why an endpoint is not to be chosen, beside failing of late. None of them: it is fit."""

    FAILED_CHECK = 1
    """Active health checks say so."""
    UNCHECKED = 2
    """It has checks, and the first has not ended yet."""
    EJECTED = 4
    """What it answered says so (outlier detection)."""
    DISCOVERED = 8
    """Whoever names the endpoints says so."""


class Degraded(enum.IntFlag):
    """Who says that an endpoint is to be chosen only where healthy ones cannot take all."""

    CHECKED = 1
    """Its answers to health checks."""
    DISCOVERED = 2
    """Whoever names the endpoints."""


@attrs.define(eq=False)
class Endpoint:
    """Lives as long as its cluster has it, and then until it has drained."""

    address: Address
    weight: int = 1
    metadata: Mapping[str, str] = attrs.field(factory=dict)
    active: int = 0
    """Requests in flight."""
    connections: int = 0
    """Connections open or being opened."""
    total: int = 0
    """Requests sent to it so far."""
    failed: int = 0
    """Of these, the ones without an answer."""
    failures_in_a_row: int = 0
    """Connect failures and resets since the last answer."""
    failing_until: float = 0.0
    """Chosen only if nothing else is left before this time (trio clock)."""
    priority: int = 0
    """0 is asked first, the others when those before them are not available."""
    locality: Locality = NOWHERE
    dial: Address | None = None
    """Where its connections are opened; None: at ``address``."""
    hostname: str = ""
    """Its name, where it has one: for rewritten authorities and health checks."""
    since: float = -math.inf
    """When it became available, where its cluster had others before (trio clock): see slow start."""
    unfit: int = 0
    """Of ``Unfit``. Whoever changes it tells the cluster's ``Choice`` (``marked``)."""
    degraded: int = 0
    """Of ``Degraded``, likewise."""
    outliers: OutlierRecord | None = None
    """What outlier detection remembers, where the cluster has it."""
    checks: tuple[CheckRecord, ...] = ()
    """What each of the cluster's health checks remembers, in their order."""
    check_port: int = 0
    """Where health checks go, if not to the port of its address."""
    leaving: bool = False
    """The cluster has it no more: no request comes, what is in flight is finished, and its connections close."""

    @property
    def drained(self) -> bool:
        """Whether it has neither requests nor connections."""
        return not (self.active or self.connections)

    def follow(self, before: Endpoint) -> None:
        """Take the place of the same address in a cluster that was changed: go on counting, keep what is known.

        Requests in flight and connections stay with the one they began on.
        """
        self.total = before.total
        self.failed = before.failed
        self.failures_in_a_row = before.failures_in_a_row
        self.failing_until = before.failing_until
        self.since = before.since
        self.outliers = before.outliers
        self.checks = before.checks
        self.unfit = before.unfit & ~Unfit.DISCOVERED | self.unfit & Unfit.DISCOVERED
        self.degraded = before.degraded & ~Degraded.DISCOVERED | self.degraded & Degraded.DISCOVERED
