"""What goes along beside the connections, as giver and taker see it: parts by kind and name, and counters.

Whoever knows the parts stands behind this: the channel only carries their bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import attrs

from xproxy.proxy.runtime import Runtime


@attrs.frozen(kw_only=True)
class Part:
    """One part's state."""

    kind: str
    name: str
    version: int
    data: bytes


class Parts(Protocol):
    """What knows a proxy's parts and counters."""

    def collect(self, runtime: Runtime) -> Sequence[Part]:
        """Old: write them down, and begin to count what happens from here on."""
        ...

    def resume(self, runtime: Runtime, parts: Iterable[Part]) -> Sequence[str]:
        """New: go on with them; return what was refused, by name and reason."""
        ...

    def counted(self, runtime: Runtime) -> bytes:
        """Old: return what was counted since the last time."""
        ...

    def add(self, runtime: Runtime, counts: bytes) -> None:
        """New: add it. Raises ValueError for what is none."""
        ...


class NoParts:
    """Nothing goes along."""

    def collect(self, _runtime: Runtime) -> Sequence[Part]:
        """See Parts."""
        return ()

    def resume(self, _runtime: Runtime, _parts: Iterable[Part]) -> Sequence[str]:
        """See Parts."""
        return ()

    def counted(self, _runtime: Runtime) -> bytes:
        """See Parts."""
        return b""

    def add(self, _runtime: Runtime, _counts: bytes) -> None:
        """See Parts."""
