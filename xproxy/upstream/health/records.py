"""What is remembered of one endpoint for its health. Lives as long as the endpoint is known, across reloads too."""

from __future__ import annotations

from typing import final


@final
class Bucket:
    """Attempts of one interval, and how many of them went well."""

    __slots__ = ("succeeded", "total")

    def __init__(self) -> None:
        self.total = 0
        self.succeeded = 0

    def take(self) -> tuple[int, int]:
        """Return total and successes, and begin the next interval."""
        taken = (self.total, self.succeeded)
        self.total = self.succeeded = 0
        return taken


@final
class OutlierRecord:
    """What outlier detection remembers."""

    __slots__ = (
        "consecutive_5xx",
        "consecutive_gateway_failure",
        "consecutive_local_origin_failure",
        "ejected_until",
        "external",
        "local",
        "multiplier",
    )

    def __init__(self) -> None:
        self.consecutive_5xx = 0
        self.consecutive_gateway_failure = 0
        self.consecutive_local_origin_failure = 0
        self.external = Bucket()
        """What it answered in the interval that runs; local failures too, where they are not split."""
        self.local = Bucket()
        """Whether it answered, where that is split."""
        self.multiplier = 0
        """How often it was ejected of late."""
        self.ejected_until = 0.0
        """Of an ejected one: when that may end (trio clock, seconds)."""

    @property
    def quiet(self) -> bool:
        """Nothing of it changes with time."""
        return not (self.multiplier or self.external.total or self.local.total)

    def calm(self) -> None:
        """Begin to count failures in a row anew."""
        self.consecutive_5xx = 0
        self.consecutive_gateway_failure = 0
        self.consecutive_local_origin_failure = 0


@final
class CheckRecord:
    """What one health check of the cluster remembers."""

    __slots__ = ("degraded", "detail", "failed", "failures", "pending", "successes")

    def __init__(self) -> None:
        self.pending = True
        """No check has ended yet."""
        self.failed = False
        """The endpoint is unhealthy by this check."""
        self.successes = 0
        """In a row, while it is unhealthy."""
        self.failures = 0
        """In a row, while it is healthy."""
        self.degraded = False
        """The last one that passed said so."""
        self.detail = ""
        """Why the last one failed."""
