"""How a takeover goes: what who gives and who takes fill in, for the admin page, the metrics and the command.

The numbers (``TakeoverStats``, shown as ``takeover.*``) are counted by the process that **gives**, once for each
thing; they reach the other one as all counters and gauges do, so that the newest process shows what all have done.

* ``takeovers``: that came to an end: everything was given.
* ``withdrawn``: that did not: the old process went on.
* ``moved`` (by protocol): connections that the other process has taken.
* ``refused`` (by protocol) and ``refusals`` (by reason): connections that stay for ever, and are drained.
* ``put_off``: offers that came to nothing, and are made again.
* ``relayed``, ``relayed_active`` (by protocol): streams in flight whose connection has moved.
* ``failed`` (by reason): streams and connections that were cut off, as their process ended. Streams of a process that
  was killed are counted by who has their connections, as ``downstream_rq_link_lost`` of the listener.
* ``waiting`` (by protocol): connections that have not been given yet.
* ``generations``: older processes that still have something and tell this one; of the newest it is shown with those
  that tell the older ones.
* ``pause``: seconds for which a connection was nobody's, from its cut to TAKEN.

``TakeoverStatus`` has besides what the takeover under way, or the last one, is to this process: its ``stage``,
whether it ``gives``, the ``peer``, when it ``began`` and ``ended`` and ``why``, what it has ``taken`` (by protocol),
and what was ``not_carried``.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Final

import attrs
import trio

from xproxy.observe.histogram import Histogram
from xproxy.observe.metrics import counter, counters, gauge, gauges, histogram

PAUSE_BOUNDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
)  # fmt: skip
"""Upper bounds in seconds."""
MAX_REASONS: Final = 100
"""Protocols, reasons and names that are told apart; what comes then is counted as ``OTHER``."""
OTHER: Final = "other"
MAX_REASON: Final = 200
"""Characters of a reason or a name; the rest is cut off."""


class Stage(enum.Enum):
    """What a process does in a takeover."""

    SERVING = "serving"
    """No takeover is under way."""
    PREPARING = "preparing"
    """The new one gets ready; the old one serves."""
    GIVING = "giving"
    """The old one accepts no more, and offers its connections."""
    TAILING = "tailing"
    """The old one has streams in flight, and nothing left to give."""
    TAKING = "taking"
    """The new one accepts, and takes what is offered."""


@attrs.define(eq=False)
class TakeoverStats:
    """Counters of all takeovers; see the module."""

    takeovers: int = counter("Takeovers after which nothing was left to give.")
    withdrawn: int = counter("Takeovers that were given up.")
    moved: dict[str, int] = counters("protocol", "Connections that another process has taken.")
    refused: dict[str, int] = counters("protocol", "Connections that stay, and are drained.")
    refusals: dict[str, int] = counters("reason", "The same, by reason.")
    put_off: int = counter("Offers that came to nothing, and are made again.")
    relayed: dict[str, int] = counters("protocol", "Streams in flight whose connection moved.")
    relayed_active: dict[str, int] = gauges("protocol", "Of these, the ones that have not ended.")
    failed: dict[str, int] = counters("reason", "Streams and connections that were cut off.")
    waiting: dict[str, int] = gauges("protocol", "Connections that have not been given yet.")
    generations: int = gauge("Older processes that still have something.")
    pause: Histogram = histogram("Seconds for which a connection was nobody's.", PAUSE_BOUNDS)


@attrs.define(eq=False)
class TakeoverStatus:
    """One in each process. Its methods never block; ``begin`` and ``end`` are called in a Trio task."""

    stats: TakeoverStats = attrs.field(factory=TakeoverStats)
    stage: Stage = Stage.SERVING
    gives: bool = False
    """This process is the old one."""
    peer: str = ""
    """What the other process says that it is."""
    began: float | None = None
    """Trio clock; None: never."""
    ended: float | None = None
    """Trio clock; None: it is under way, or there was none."""
    why: str = ""
    """Why it was given up; empty: it was not."""
    taken: dict[str, int] = attrs.field(factory=dict)
    """By protocol: connections that this process has taken."""
    not_carried: list[str] = attrs.field(factory=list)
    """States of parts that did not go along: ``kind name: why``."""

    # ---- both

    def begin(self, *, gives: bool) -> None:
        """A takeover begins; this process ``gives``, or takes."""
        self.stage, self.gives = Stage.PREPARING, gives
        self.peer = ""
        self.began, self.ended, self.why = trio.current_time(), None, ""
        self.taken, self.not_carried = {}, []

    def meet(self, peer: str) -> None:
        """The other process has said what it is."""
        self.peer = peer[:MAX_REASON]

    def enter(self, stage: Stage) -> None:
        """It goes on to this stage."""
        self.stage = stage

    def end(self, why: str = "") -> None:
        """It is over, or was given up, and ``why``. Idempotent."""
        if self.ended is not None or self.began is None:
            return
        self.ended = trio.current_time()
        self.why = why[:MAX_REASON]
        if self.gives:
            self.stats.withdrawn += bool(why)
            self.stats.takeovers += not why
        self.stage = Stage.SERVING
        # Nobody looks at these from here on.
        self.stats.waiting.clear()
        self.stats.relayed_active.clear()

    # ---- who gives

    def wait(self, waiting: Mapping[str, int]) -> None:
        """So many connections, by protocol, have not been given yet."""
        _show(self.stats.waiting, waiting)

    def gave(self, protocol: str, pause: float) -> None:
        """The other process has taken a connection, which was nobody's for so many seconds."""
        _count(self.stats.moved, protocol)
        self.stats.pause.observe(pause)

    def put_off(self) -> None:
        """An offer came to nothing, and is made again."""
        self.stats.put_off += 1

    def refuse(self, protocol: str, reason: str) -> None:
        """A connection stays for ever, and is drained."""
        _count(self.stats.refused, protocol)
        _count(self.stats.refusals, reason)

    def relay(self, protocol: str, streams: int) -> None:
        """So many streams stay here, and their connection has moved."""
        if streams:
            _count(self.stats.relayed, protocol, streams)

    def relaying(self, streams: Mapping[str, int]) -> None:
        """So many of them, by protocol, of this takeover and others, have not ended."""
        _show(self.stats.relayed_active, streams)

    def fail(self, reason: str, count: int = 1) -> None:
        """So many streams or connections were cut off. By whoever notices alone: who gives, or takes if that died."""
        _count(self.stats.failed, reason, count)

    # ---- who takes

    def took(self, protocol: str) -> None:
        """A connection is this process's now."""
        _count(self.taken, protocol)

    def left_behind(self, names: Iterable[object]) -> None:
        """The states of these parts did not go along."""
        for name in names:
            if len(self.not_carried) < MAX_REASONS:
                self.not_carried.append(str(name)[:MAX_REASON])

    def older(self, more: int) -> None:
        """So many more older processes that tell this one (fewer, below 0) still have something."""
        self.stats.generations += more


def _show(where: dict[str, int], now: Mapping[str, int]) -> None:
    where.clear()
    for label, count in now.items():
        if count:
            _count(where, label, count)


def _count(where: dict[str, int], label: str, count: int = 1) -> None:
    label = label[:MAX_REASON]
    if label not in where and len(where) >= MAX_REASONS:
        label = OTHER
    where[label] = where.get(label, 0) + count
