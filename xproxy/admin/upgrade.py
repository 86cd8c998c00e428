"""The page ``/upgrade``: how a takeover goes, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from xproxy.observe.histogram import Histogram
from xproxy.observe.takeover import TakeoverStatus
from xproxy.observe.totals import Place, Value

PLACE: Final[Place] = ("takeover", "")
"""Where the numbers of takeovers are shown."""


def upgrade_text(status: TakeoverStatus, numbers: Mapping[str, Value], now: float) -> str:
    """Return the page. ``numbers``: those of ``PLACE``, of this process and older ones; ``now``: trio clock."""
    lines = [
        f"stage: {stage_text(status, now)}",
        f"takeovers: {_number(numbers, 'takeovers')}, withdrawn: {_number(numbers, 'withdrawn')}",
        f"older processes with something left: {_number(numbers, 'generations')}",
        *_connections(status, numbers),
        f"offers made again: {_number(numbers, 'put_off')}",
        *_relayed(numbers),
        *_reasons("refused", numbers, "refusals"),
        *_reasons("failed", numbers, "failed"),
        *(f"not carried: {name}" for name in status.not_carried),
        *_pauses(numbers.get("pause")),
    ]
    return "\n".join([*lines, ""])


def stage_text(status: TakeoverStatus, now: float) -> str:
    """Return how far a process is with it."""
    if status.began is None:
        return status.stage.value
    other = f" ({status.peer})" if status.peer else ""
    if status.ended is None:
        return f"{status.stage.value}{other}, for {now - status.began:.1f} s"
    took = f"took {status.ended - status.began:.1f} s"
    how = f"was given up: {status.why}" if status.why else took
    return f"{status.stage.value}; the last takeover{other} {how}"


def _number(numbers: Mapping[str, Value], name: str) -> int:
    found = numbers.get(name, 0)
    return found if isinstance(found, int) else 0


def _labelled(numbers: Mapping[str, Value], name: str) -> dict[str, int]:
    found = numbers.get(name, {})
    return found if isinstance(found, dict) else {}


def _connections(status: TakeoverStatus, numbers: Mapping[str, Value]) -> Iterator[str]:
    columns = {name: _labelled(numbers, name) for name in ("moved", "refused", "waiting")}
    columns["taken here"] = status.taken
    protocols = sorted({protocol for column in columns.values() for protocol in column})
    if not protocols:
        yield "connections moved: 0"
        return
    width = max(map(len, ["connections", *protocols]))
    yield f"{'connections':{width}}" + "".join(f"{name:>12}" for name in columns)
    for protocol in protocols:
        counts = "".join(f"{column.get(protocol, 0):>12}" for column in columns.values())
        yield f"{protocol:{width}}{counts}"


def _relayed(numbers: Mapping[str, Value]) -> Iterator[str]:
    # Streams, and not connections: those of all protocols first.
    ever, now = _labelled(numbers, "relayed"), _labelled(numbers, "relayed_active")
    yield f"streams relayed: {sum(ever.values())}, now: {sum(now.values())}"
    for protocol in sorted(ever.keys() | now.keys()):
        yield f"streams relayed of {protocol}: {ever.get(protocol, 0)}, now: {now.get(protocol, 0)}"


def _reasons(what: str, numbers: Mapping[str, Value], name: str) -> Iterator[str]:
    for reason, count in sorted(_labelled(numbers, name).items()):
        yield f"{what}: {count} x {reason}"


def _pauses(pauses: Value | None) -> Iterator[str]:
    if not isinstance(pauses, Histogram) or not pauses.count:
        return
    yield f"pauses: {pauses}"
    names = [*(f"<= {1000 * bound:g} ms" for bound in pauses.bounds), "longer"]
    most = max(pauses.counts)
    for name, count in zip(names, pauses.counts, strict=True):
        if count:
            yield f"{name:>12}{count:>10} {'#' * max(1, 40 * count // most)}"
