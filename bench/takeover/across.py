"""``python -m bench.takeover bulk``: streams of a gibibyte, each way, that go on through several upgrades."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import attrs
from rich.console import Console

from bench.processes import Failed
from bench.takeover.bulk import Transferred
from bench.takeover.bulk_beside import MARGIN_SECONDS, streaming, transfer
from bench.takeover.options import MIB, add_common, console, setting_of
from bench.takeover.stage import Stage, stage, upstreams
from bench.takeover.upgrade import Upgraded, upgrade

KINDS = ("http1", "tls-http1", "http2", "l4")
_GIB = 1 << 30


@attrs.frozen(kw_only=True)
class Plan:
    """A run."""

    size: int
    """Bytes of each stream."""
    pace: float
    """Bytes a second of each at most, so that it lasts."""
    upgrades: int
    command: str
    patience: float


@attrs.frozen(kw_only=True)
class Across:
    """What came of the two streams of a kind."""

    kind: str
    streams: tuple[Transferred, ...]
    upgrades: tuple[Upgraded, ...]

    @property
    def faults(self) -> list[str]:
        """Say what should not be."""
        found = [f"{s.kind} {s.way}: {s.error}" for s in self.streams if s.error]
        for number, one in enumerate(self.upgrades, 1):
            found += [
                f"{s.kind} {s.way} ended before upgrade {number} was over: it shows nothing"
                for s in self.streams
                if not s.error and not s.began < one.began < one.told < s.ended
            ]
        return found


def across(stage: Stage, kind: str, plan: Plan) -> Across:
    """Send both ways, and upgrade while that goes on.

    Raises:
        Failed: a command failed, or the streams did not end.
    """
    transfers = [
        transfer(stage, kind, way, size=plan.size, pace=plan.pace) for way in ("down", "up")
    ]
    lasts = plan.size / plan.pace
    upgrades = []
    with streaming(stage, transfers) as streams:
        began = time.monotonic()
        for number in range(plan.upgrades):
            due = began + lasts * (number + 1) / (plan.upgrades + 2)
            time.sleep(max(0.0, due - time.monotonic()))
            # A stream may keep an old process: it is not waited for, but at the end.
            upgrades.append(upgrade(stage, plan.command, 0.0))
        found = streams.results(lasts + MARGIN_SECONDS)
    return Across(kind=kind, streams=tuple(found), upgrades=tuple(upgrades))


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; return 0, or 1 where a byte was wrong."""
    this = argparse.ArgumentParser(prog="python -m bench.takeover bulk", description=__doc__)
    this.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}")
    this.add_argument("--mib", type=float, default=_GIB / MIB, help="of each stream (%(default)g)")
    this.add_argument("--pace", type=float, default=48.0, help="MiB a second (%(default)g)")
    this.add_argument("--upgrades", type=int, default=3, help="(%(default)s)")
    add_common(this)
    arguments = this.parse_args(argv)
    plan = Plan(
        size=int(arguments.mib * MIB),
        pace=arguments.pace * MIB,
        upgrades=arguments.upgrades,
        command=arguments.command,
        patience=arguments.patience,
    )
    screen, wrong = console(), False
    with setting_of(arguments) as setting, upstreams(setting) as clusters:
        for kind in arguments.kinds or KINDS:
            with stage(setting, clusters) as made:
                try:
                    outcome = across(made, kind, plan)
                except Failed as exc:
                    wrong = True
                    screen.print(f"{kind}: {exc}", style="red", markup=False)
                    continue
            show(outcome, screen)
            wrong = wrong or bool(outcome.faults)
    return 1 if wrong else 0


def show(outcome: Across, screen: Console) -> None:
    """Print what came of it."""
    for one in outcome.streams:
        took = one.ended - one.began
        screen.print(
            f"{one.kind} {one.way}: {one.size / MIB:,.0f} MiB in {took:.1f} s, {len(outcome.upgrades)} upgrades: "
            + (one.error or "every byte right"),
            style="bold red" if one.error else None,
            markup=False,
        )
    for fault in outcome.faults:
        screen.print(fault, style="bold red", markup=False)
