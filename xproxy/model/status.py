"""The neutral outcome of a stream: the canonical codes of gRPC, by name.

Each codec maps its own codes to these and back, and both mappings are total (``codecs/*/status.py``), so that
routing, retries, outlier detection and statistics never look at a protocol's own numbers.
"""

from __future__ import annotations

import enum
from typing import Final


class Status(enum.Enum):
    """A canonical status; the values are gRPC's numbers (grpc/doc/statuscodes.md)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    # Members are singletons. Enum hashes names, in Python: a statistic kept by status would cost 0.3 µs more.
    __hash__ = object.__hash__

    @property
    def label(self) -> str:
        """The name as configuration writes it, e.g. ``deadline-exceeded``."""
        return self.name.lower().replace("_", "-")

    @classmethod
    def from_label(cls, label: str) -> Status:
        """Return the status with this label; underscores and case do not matter. Raises KeyError."""
        return cls[label.upper().replace("-", "_")]


SERVER_FAULTS: Final = frozenset(
    {
        Status.UNKNOWN,
        Status.DEADLINE_EXCEEDED,
        Status.INTERNAL,
        Status.UNAVAILABLE,
        Status.DATA_LOSS,
        Status.RESOURCE_EXHAUSTED,
    }
)
"""What counts against an endpoint; everything else is the caller's own doing or a success."""
