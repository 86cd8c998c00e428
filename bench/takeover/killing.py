"""``python -m bench.takeover workers``: two workers under load, one is killed, then both are replaced."""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Sequence

import attrs
from rich.console import Console

from bench.processes import Failed
from bench.takeover.loading import loading
from bench.takeover.newcomers import Visits, coming
from bench.takeover.options import add_common, console, setting_of
from bench.takeover.processes import Leaving
from bench.takeover.records import Run
from bench.takeover.stage import Stage, stage, upstreams
from bench.takeover.upgrade import Upgraded, upgrade

RESTART_SECONDS = 2.0
"""A worker that was killed is replaced, and serves who waits for it, within so long."""
_KINDS = ("http1", "http2", "bolt", "l4", "tls-http1")
_LOOK_SECONDS = 0.01
_AT_ONCE_SECONDS = 0.1
"""Who comes so shortly before the kill may have been the killed one's."""


@attrs.frozen(kw_only=True)
class Plan:
    """A run."""

    connections: int
    """Of each kind."""
    rate: float
    before: float
    """Seconds of load before each thing that happens, and after the last."""
    command: str
    patience: float


@attrs.frozen(kw_only=True)
class Killing:
    """What came of it."""

    workers: int
    killed_at: float
    restarted_after: float | None
    """Seconds until there were as many workers again; None: there were not."""
    refused: tuple[str, ...]
    """What became of newcomers that the killed one cannot have had."""
    longest_visit: float
    """Seconds until the newcomers who waited longest were served: those whom the kernel gave to the killed one."""
    opened: int
    lost: int
    """Connections that the kill ended: the killed worker's own."""
    lost_later: int
    """Connections that ended at another time."""
    wrong: int
    """Requests that failed though their connection was not the killed one's, or were answered wrongly."""
    alive: int
    """Connections that answered after the upgrade of both."""
    upgraded: Upgraded

    @property
    def faults(self) -> list[str]:
        """Say what should not be."""
        late = self.restarted_after is None or self.longest_visit > RESTART_SECONDS
        found = [
            f"the killed worker's newcomers were not served within {RESTART_SECONDS:g} s"
            if late
            else "",
            f"newcomers were not served: {self.refused[:5]}" if self.refused else "",
            f"{self.lost_later} connections were lost without a kill" if self.lost_later else "",
            f"{self.wrong} requests of other connections failed" if self.wrong else "",
            "no connection was the killed worker's" if not self.lost else "",
            "every connection was the killed worker's" if self.lost == self.opened else "",
            f"{self.alive} connections alive of {self.opened - self.lost}"
            if self.alive != self.opened - self.lost
            else "",
            "an old worker stayed" if self.upgraded.gone is None else "",
        ]
        return [fault for fault in found if fault]


def killing(stage: Stage, plan: Plan) -> Killing:
    """Run it.

    Raises:
        Failed: the load could not begin, there are no workers, or the command failed.
    """
    kinds = [(kind, plan.connections) for kind in _KINDS]
    with coming(stage.ports["edge"]) as visits, loading(stage, kinds, plan.rate) as load:
        time.sleep(plan.before)
        workers = stage.workers()
        if not workers:
            raise Failed("the proxy has no workers of its own")
        killed_at = time.monotonic()
        os.kill(workers[0], signal.SIGKILL)
        restarted = _replaced(stage, workers)
        time.sleep(plan.before)
        upgraded = upgrade(stage, plan.command, plan.patience)
        time.sleep(max(plan.before, 2 * len(kinds) * plan.connections / plan.rate))
        run = load.stop()
    return judged(len(workers), killed_at, restarted, visits, run, upgraded)


def _replaced(stage: Stage, before: Sequence[int]) -> float | None:
    """Wait until there are as many workers as before, without the killed one; return how long it took."""
    leaving = Leaving([before[0]])
    began = time.monotonic()
    try:
        leaving.wait(RESTART_SECONDS)
        while time.monotonic() < began + 5 * RESTART_SECONDS:
            now = set(stage.workers()) - {before[0]}
            if len(now) == len(before):
                return time.monotonic() - began
            time.sleep(_LOOK_SECONDS)
    finally:
        leaving.close()
    return None


def judged(
    workers: int,
    killed_at: float,
    restarted: float | None,
    visits: Visits,
    run: Run,
    upgraded: Upgraded,
) -> Killing:
    """Put together what was seen."""
    lost = {
        number
        for number, one in enumerate(run.opened)
        if killed_at <= one.closed_at < killed_at + 1.0
    }
    closed = {number for number, one in enumerate(run.opened) if one.closed_at}
    wrong = [r for r in run.requests if r.outcome != "good" and r.connection not in lost]
    # A newcomer who was there at that moment may have been the killed one's.
    begin, end = killed_at - _AT_ONCE_SECONDS, killed_at + _AT_ONCE_SECONDS
    refused = [v.error for v in visits.found if v.error and not (v.began < end and v.ended > begin)]
    return Killing(
        workers=workers,
        killed_at=killed_at,
        restarted_after=restarted,
        refused=tuple(refused),
        longest_visit=visits.longest,
        opened=len(run.opened),
        lost=len(lost),
        lost_later=len(closed - lost),
        wrong=len(wrong),
        alive=len(
            {r.connection for r in run.requests if r.outcome == "good" and r.sent > upgraded.over}
        ),
        upgraded=upgraded,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; return 0, or 1 where anything is wrong."""
    this = argparse.ArgumentParser(prog="python -m bench.takeover workers", description=__doc__)
    this.add_argument("--connections", type=int, default=40, help="of each kind (%(default)s)")
    this.add_argument("--rate", type=float, default=400.0, help="requests a second (%(default)g)")
    this.add_argument("--before", type=float, default=3.0, help="seconds of load (%(default)g)")
    add_common(this)
    this.set_defaults(workers=2)
    arguments = this.parse_args(argv)
    plan = Plan(
        connections=arguments.connections,
        rate=arguments.rate,
        before=arguments.before,
        command=arguments.command,
        patience=arguments.patience,
    )
    screen = console()
    with (
        setting_of(arguments) as setting,
        upstreams(setting) as clusters,
        stage(setting, clusters) as made,
    ):
        try:
            outcome = killing(made, plan)
        except Failed as exc:
            screen.print(str(exc), style="red", markup=False)
            return 1
    show(outcome, screen)
    return 1 if outcome.faults else 0


def show(outcome: Killing, screen: Console) -> None:
    """Print what came of it."""
    after = outcome.restarted_after
    replaced = "not replaced" if after is None else f"replaced after {after:.2f} s"
    screen.print(
        f"{outcome.workers} workers, one killed: {outcome.lost} of {outcome.opened} connections were its own; "
        f"{replaced}; slowest newcomer {outcome.longest_visit:.2f} s; after the upgrade {outcome.alive} alive"
    )
    for fault in outcome.faults:
        screen.print(fault, style="bold red", markup=False)
