"""``python -m bench.takeover idle``: thousands of connections on which nothing happens, and one upgrade."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence

import attrs
from rich.console import Console

from bench.lab import affordable_connections, raise_file_limit
from bench.processes import Failed, fetch
from bench.takeover.loading import loading
from bench.takeover.options import MIB, add_common, console, setting_of
from bench.takeover.processes import watching
from bench.takeover.stage import Stage, stage, upstreams
from bench.takeover.upgrade import Upgraded, upgrade

KINDS = ("http1", "http2", "tls-http1")
"""A third each."""


@attrs.frozen(kw_only=True)
class Idle:
    """What came of it."""

    upgraded: Upgraded
    opened: int
    alive: int
    """Connections that answered after the old process had gone."""
    complaints: dict[str, int]
    before_bytes: int
    """What all processes of the proxy held with all connections open …"""
    peak_bytes: int
    """… and the most that they held."""
    page: str
    """What the admin interface says of the upgrade, the times that connections were without an owner among it."""

    @property
    def good(self) -> bool:
        return self.upgraded.gone is not None and self.alive == self.opened


def idle(stage: Stage, connections: int, command: str, patience: float) -> Idle:
    """Open so many connections, upgrade, and ask on each.

    Raises:
        Failed: they could not be opened, or the command failed.
    """
    share, rest = divmod(connections, len(KINDS))
    kinds = [(kind, share + (number < rest)) for number, kind in enumerate(KINDS)]
    with watching(stage.pid) as watch, loading(stage, kinds, 0.0) as load:
        before = watch.latest_bytes()
        upgraded = upgrade(stage, command, patience)
        try:
            page = fetch(stage.admin, "/upgrade").decode()
        except Failed as exc:
            page = str(exc)
        load.ask_each()
        run = load.stop()
    answered = {
        r.connection for r in run.requests if r.outcome == "good" and r.sent > upgraded.over
    }
    return Idle(
        upgraded=upgraded,
        opened=len(run.opened),
        alive=len(answered),
        complaints=dict(run.complaints),
        before_bytes=before,
        peak_bytes=watch.peak_bytes(),
        page=page,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; return 0, or 1 where a connection was lost."""
    this = argparse.ArgumentParser(prog="python -m bench.takeover idle", description=__doc__)
    this.add_argument(
        "--connections", type=int, default=10_000, help="(%(default)s, or what files there may be)"
    )
    add_common(this)
    arguments = this.parse_args(argv)
    screen = console()
    with setting_of(arguments) as setting:
        limit = raise_file_limit()
        count = affordable_connections(arguments.connections, limit)
        if count < arguments.connections:
            screen.print(f"{count:,} connections: the file limit is {limit:,}", style="yellow")
        with upstreams(setting) as clusters, stage(setting, clusters) as made:
            try:
                outcome = idle(made, count, arguments.command, arguments.patience)
            except Failed as exc:
                screen.print(str(exc), style="red", markup=False)
                return 1
    show(outcome, screen)
    return 0 if outcome.good else 1


def show(outcome: Idle, screen: Console) -> None:
    """Print what came of it."""
    gone = outcome.upgraded.gone_after
    lasted = f"gone after {gone:.1f} s" if gone is not None else "still there"
    screen.print(
        f"{outcome.alive:,} of {outcome.opened:,} idle connections alive, a third each {', '.join(KINDS)}; "
        f"command {outcome.upgraded.told - outcome.upgraded.began:.1f} s, old process {lasted}; "
        f"memory {outcome.before_bytes / MIB:.0f} MiB before, {outcome.peak_bytes / MIB:.0f} MiB at most",
        style=None if outcome.good else "bold red",
    )
    for text in (outcome.upgraded.said.rpartition("\n")[2], outcome.page):
        screen.print(text, markup=False)
    for what, times in Counter(outcome.complaints).most_common():
        screen.print(f"  {times} × {what}", style="red", markup=False)
