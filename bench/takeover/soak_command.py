"""``python -m bench.takeover soak``: many upgrades in a row under a load of all kinds, with long streams."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console

from bench.processes import Failed
from bench.takeover.options import MIB, add_common, console, setting_of
from bench.takeover.soak import Plan, Soak, soak
from bench.takeover.stage import stage, upstreams


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    this = argparse.ArgumentParser(prog="python -m bench.takeover soak", description=__doc__)
    for name, kind, default, what in (
        ("upgrades", int, 100, "upgrades in a row"),
        ("connections", int, 20, "connections of each kind"),
        ("rate", float, 600.0, "requests a second, of all kinds together"),
        ("between", float, 2.0, "seconds from the end of an old process to the next upgrade"),
        ("stream-mib", float, 24.0, "MiB of each long stream"),
        ("stream-pace", float, 4.0, "MiB a second of each"),
    ):
        this.add_argument(f"--{name}", type=kind, default=default, help=f"{what} (%(default)s)")
    add_common(this)
    return this


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; return 0, or 1 where anything is wrong."""
    arguments = parser().parse_args(argv)
    plan = Plan(
        upgrades=arguments.upgrades,
        connections=arguments.connections,
        rate=arguments.rate,
        between=arguments.between,
        stream_bytes=int(arguments.stream_mib * MIB),
        stream_pace=arguments.stream_pace * MIB,
        command=arguments.command,
        patience=arguments.patience,
    )
    screen = console()
    with (
        setting_of(arguments) as setting,
        upstreams(setting) as clusters,
        stage(setting, clusters) as made,
        screen.status("") as status,
    ):
        try:
            outcome = soak(made, plan, status.update)
        except Failed as exc:
            screen.print(str(exc), style="red", markup=False)
            return 1
    show(outcome, screen)
    return 1 if outcome.faults else 0


def show(outcome: Soak, console: Console) -> None:
    """Print what came of it."""
    one = outcome
    gone = [u.gone_after for u in one.upgrades if u.gone_after is not None]
    moved = sum(s.size for s in one.streams) / MIB
    console.print(
        f"{len(one.upgrades)} upgrades, {one.alive} of {one.connections} connections alive after the last; "
        f"{one.counts.requests:,} requests, {one.counts.failed + one.counts.unsent} failed, "
        f"{one.counts.mismatched} wrong; p50 {one.latencies.p50 * 1e3:.1f}, p99 {one.latencies.p99 * 1e3:.1f}, "
        f"max {one.latencies.most * 1e3:.1f} ms; over 50 ms {one.latencies.stalled[0]}, over 250 ms "
        f"{one.latencies.stalled[1]}"
    )
    console.print(
        f"{len(one.streams)} long streams, {moved:,.0f} MiB, {sum(bool(s.error) for s in one.streams)} broken; "
        f"old processes gone after {max(gone, default=0):.1f} s at most; all processes held "
        f"{one.peak_bytes / MIB:.0f} MiB at most"
    )
    for number, generation in enumerate(one.generations, 1):
        if number in (1, 2, 3, 5) or number % 10 == 0 or number == len(one.generations):
            console.print(
                f"  after upgrade {number}: {generation.rss_bytes / MIB:.1f} MiB, {generation.descriptors} "
                f"descriptors, {generation.cpu_per_request * 1e6:.0f} µs a request"
            )
    for fault in one.faults:
        console.print(fault, style="bold red", markup=False)
