"""Statuses of L4. The wire has none: bytes flowed (0), or they did not (1)."""

from __future__ import annotations

from xproxy.model.status import Status


def to_native(status: Status) -> int:
    """Return 0 for OK, 1 for everything else."""
    return 0 if status is Status.OK else 1


def from_native(native_status: int) -> Status:
    """Return OK for 0, UNKNOWN for everything else."""
    return Status.OK if native_status == 0 else Status.UNKNOWN
