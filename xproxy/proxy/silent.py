"""Destinations whose clients are known to listen first: what a listener with ``server_first`` remembers."""

from __future__ import annotations

from typing import Final, TypeAlias, final

import attrs
import trio

from xproxy.codecs.state_kinds import FLAG, amount, sequence, text
from xproxy.codecs.state_schema import StateRecord, StateSchema, state_field
from xproxy.config.schema import ServerFirstConfig
from xproxy.model.address import Address
from xproxy.stream.carrying import CarriedAs, cut_now, seconds_left

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

    def until(self) -> list[tuple[Destination, float]]:
        """Return until when each is remembered (trio clock), in the order in which they were last seen."""
        return list(self._until.items())

    def __len__(self) -> int:
        return len(self._until)


# ---- to the process that takes over


@attrs.frozen
class _Seen:
    address: str
    tls: bool
    left: float
    """Seconds for which it is remembered."""


@attrs.frozen
class _AllSeen:
    cut: float
    seen: list[_Seen]


_SECONDS: Final = amount(1e9)
_MOST: Final = 65_536
"""Destinations of one listener that are read, whatever its configuration keeps of them."""
_SEEN: Final = StateRecord(
    _Seen,
    state_field("address", text(1024)),
    state_field("tls", FLAG, False),
    state_field("left", _SECONDS),
)
_SCHEMA: Final = StateSchema(
    "silent destinations",
    1,
    StateRecord(
        _AllSeen, state_field("cut", _SECONDS), state_field("seen", sequence(_SEEN.kind, _MOST))
    ),
)


@attrs.frozen(eq=False)
class CarriedSilence:
    """A listener's silent destinations as they go along to another process."""

    listener: str
    config: ServerFirstConfig
    known: SilentDestinations

    def carried_as(self) -> CarriedAs:
        """See SupportsCarry."""
        return CarriedAs(
            kind="silent destinations", name=self.listener, version=1, settings=self.config.cluster
        )

    def carry(self) -> bytes:
        """See SupportsCarry."""
        now = trio.current_time()
        seen = [
            _Seen(str(address), tls, until - now)
            for (address, tls), until in self.known.until()
            if until > now
        ]
        return _SCHEMA.pack(_AllSeen(cut_now(), seen[-_MOST:])) if seen else b""

    def resume(self, data: bytes) -> None:
        """See SupportsCarry. None is remembered for longer than this configuration says, and not more of them."""
        state = _SCHEMA.unpack(data)
        found = [(Address.parse(one.address), one) for one in state.seen]
        now = trio.current_time()
        for address, one in found:
            left = seconds_left(min(one.left, self.config.remember), state.cut)
            if left:
                self.known.note((address, one.tls), now + left, self.config.max_remembered)
