"""What goes along when a new process takes the place of this one: parts write down what they know, and resume it.

A part is anything that a configuration has and that learns something while it runs: a filter, a balancer, a listener.
Only durations cross: Trio's clock begins anywhere in each process. Where seconds matter, ``cut_now`` is written down
beside them, and ``seconds_left`` takes off what the way took.
"""

from __future__ import annotations

import time
from typing import Final, Protocol, runtime_checkable

import attrs

MAX_NAME: Final = 1024
"""Characters of the kind, and of the name, of a part."""


def _is_name(_part: object, field: attrs.Attribute[str], value: str) -> None:
    if not 0 < len(value) <= MAX_NAME:
        raise ValueError(f"{field.name}: 1 … {MAX_NAME} characters")


@attrs.frozen(kw_only=True)
class CarriedAs:
    """Whose state it is, and what it means. Raises ValueError for names that are empty, or above ``MAX_NAME``."""

    kind: str = attrs.field(validator=_is_name)
    """What sort of part it is: a plugin's own name, so that nobody else has it."""
    name: str = attrs.field(validator=_is_name)
    """Which one of them. No two of a kind have the same."""
    version: int = attrs.field(validator=[attrs.validators.ge(0), attrs.validators.lt(2**31)])
    """Of what ``carry`` writes."""
    reads: tuple[int, ...] = ()
    """Older versions that ``resume`` reads, too."""
    settings: object = None
    """Values of the configuration that must be the same in both processes: what attrs classes, tuples, mappings and
    plain values can say. Else nothing is resumed. None: none matter."""


@runtime_checkable
class SupportsCarry(Protocol):
    """A part whose state goes along to the process that takes over."""

    def carried_as(self) -> CarriedAs:
        """Say whose state it is. Never blocks."""
        ...

    def carry(self) -> bytes:
        """Write the state down; empty: there is nothing to tell. Changes nothing, and never blocks.

        The old process goes on, and may be asked again. Secrets may be in it: it goes from process to process only.
        """
        ...

    def resume(self, data: bytes) -> None:
        """Go on from a state that was written down, before the first request. Never blocks.

        Raises ValueError for what cannot be read, or does not fit, and has changed nothing then: it is other
        people's bytes.
        """
        ...


def cut_now() -> float:
    """Return a time, in seconds, that all processes of this machine have in common."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def seconds_left(seconds: float, cut: float) -> float:
    """Return what is left of ``seconds`` that were left at ``cut`` (``cut_now``); never less than 0, nor more."""
    return max(0.0, seconds - max(0.0, cut_now() - cut))
