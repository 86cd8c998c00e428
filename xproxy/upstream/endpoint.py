"""One address of a cluster, and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from xproxy.model.address import Address


@attrs.frozen
class Locality:
    """Where an endpoint runs; empty: nobody has said it."""

    region: str = ""
    zone: str = ""
    sub_zone: str = ""


NOWHERE: Final = Locality()


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
