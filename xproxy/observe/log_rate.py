"""Lines that are alike: some are written, the others are counted, and a line says how many they were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias, final

import attrs

ALIKE_LINES: Final = 20
"""Log lines of one kind that are written within ``ALIKE_SECONDS``."""
ALIKE_SECONDS: Final = 10.0
"""Seconds, from the first line of a kind on, after which they are counted anew."""
MAX_KINDS: Final = 256
"""Kinds that are told apart; beyond it the one begun longest ago is forgotten."""

Kind: TypeAlias = tuple[str, int, str]
"""Who says it, its level, and its text before any values are put in."""


@attrs.define
class _Counted:
    began: float
    written: int = 0
    held_back: int = 0


@attrs.frozen
class HeldBack:
    """Lines that were not written."""

    kind: Kind
    count: int
    seconds: float
    """Since the first of the kind."""


@final
class Rate:
    """Decides for each line whether it is written. Pure: it is told the time, in seconds."""

    __slots__ = ("_kinds",)

    def __init__(self) -> None:
        self._kinds: dict[Kind, _Counted] = {}
        # In the order in which they began.

    def admit(self, kind: Kind, now: float) -> bool:
        """Say whether a line of this kind is written now."""
        known = self._kinds.get(kind)
        if known is None:
            known = self._kinds[kind] = _Counted(now)
        if known.written < ALIKE_LINES:
            known.written += 1
            return True
        known.held_back += 1
        return False

    def over(self, now: float) -> Iterator[HeldBack]:
        """End the kinds whose time is up, and those beyond the bound; give those of which lines were held back."""
        while self._kinds:
            kind, first = next(iter(self._kinds.items()))
            if now - first.began < ALIKE_SECONDS and len(self._kinds) <= MAX_KINDS:
                return
            del self._kinds[kind]
            if first.held_back:
                yield HeldBack(kind, first.held_back, now - first.began)
