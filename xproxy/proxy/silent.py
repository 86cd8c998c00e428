"""Destinations whose clients are known to listen first: what a listener with ``server_first`` remembers."""

from __future__ import annotations

from typing import Final, TypeAlias, final

from xproxy.model.address import Address

Destination: TypeAlias = tuple[Address, bool]
"""The address that was called, and whether inside TLS."""


@final
class SilentDestinations:
    """Remembered for a while, and no more than so many: the oldest goes first."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: Final[dict[Destination, float]] = {}
        # In the order in which they were last seen.

    def known(self, destination: Destination, now: float) -> bool:
        """Say whether a silent client was seen there, not too long before ``now`` (trio clock)."""
        until = self._until.get(destination)
        if until is None:
            return False
        if until <= now:
            del self._until[destination]
            return False
        return True

    def note(self, destination: Destination, until: float, most: int) -> None:
        """Remember it up to ``until``, and ``most`` destinations in all."""
        self._until.pop(destination, None)
        while len(self._until) >= most:
            del self._until[next(iter(self._until))]
        self._until[destination] = until

    def __len__(self) -> int:
        return len(self._until)
