"""What came of steady loads, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.report import Json
from bench.takeover.kinds import KINDS
from bench.takeover.peers import Peer
from bench.takeover.steady import STALL_SECONDS, Latencies, Steady

_MIB = 1 << 20


def show(found: Sequence[Steady], peers: Sequence[Peer], console: Console) -> None:
    """Print the table, then what was complained of."""
    table = Table(title="One upgrade under load", title_justify="left", title_style="bold")
    table.add_column("load")
    for heading in (
        *("connections\nalive", "requests", "failed", "wrong"),
        *("before: p50,\np99, max (ms)", "upgrade: p50,\np99, max (ms)"),
        *(f"over\n{bound * 1e3:g} ms" for bound in STALL_SECONDS),
        *("old gone\nafter (s)", "MiB: supervisor,\nold, new", "CPU s: supervisor,\nold, new"),
        "load late: p99,\nmax (ms); CPU",
    ):
        table.add_column(heading, justify="right")
    for one in found:
        gone = one.upgraded.gone_after
        table.add_row(
            escape(KINDS[one.kind].title),
            f"{one.alive} of {one.connections}",
            f"{one.counts.requests:,}",
            str(one.counts.failed + one.counts.unsent),
            str(one.counts.mismatched),
            _three(one.before),
            _three(one.during),
            *map(str, one.during.stalled),
            "still there" if gone is None else f"{gone:.1f}",
            ", ".join(f"{f.rss_bytes / _MIB:.0f}" for f in (one.supervisor, one.old, one.new)),
            ", ".join(f"{f.cpu_seconds:.2f}" for f in (one.supervisor, one.old, one.new)),
            f"{one.late_p99 * 1e3:.1f}, {one.late_max * 1e3:.1f}; {one.load_cpu:.0%}",
            style=None if one.good else "bold red",
        )
    console.print(table)
    for one in found:
        for what, times in one.complaints.items():
            console.print(f"  {times} × {what}", style="red", markup=False)
        for line in one.errors:
            console.print(f"  {one.kind}, in the proxy's log: {line}", style="red", markup=False)
    if peers:
        show_peers(peers, console)


def _three(latencies: Latencies) -> str:
    return ", ".join(
        f"{value * 1e3:.1f}" for value in (latencies.p50, latencies.p99, latencies.most)
    )


def show_peers(peers: Sequence[Peer], console: Console) -> None:
    """Print the figures of others, measured at another time."""
    table = Table(title="Others, not measured in this run", title_justify="left")
    for heading in peers[0].facts:
        table.add_column(heading)
    for peer in peers:
        table.add_row(*map(escape, peer.facts.values()))
    console.print(table)


def as_json(found: Sequence[Steady], conditions: dict[str, Json]) -> Json:
    """Return the runs as what ``json.dumps`` takes; latencies in seconds."""
    return {"conditions": conditions, "runs": [_run(one) for one in found]}


def _run(one: Steady) -> Json:
    return {
        "kind": one.kind,
        "good": one.good,
        "connections": one.connections,
        "alive": one.alive,
        "requests": one.counts.requests,
        "failed": one.counts.failed,
        "mismatched": one.counts.mismatched,
        "unsent": one.counts.unsent,
        "before": _latencies(one.before),
        "during": _latencies(one.during),
        "old_gone_after": one.upgraded.gone_after,
        "command_took": one.upgraded.told - one.upgraded.began,
        "said": one.upgraded.said,
        "processes": {
            name: {"rss_bytes": f.rss_bytes, "cpu_seconds": f.cpu_seconds}
            for name, f in (("supervisor", one.supervisor), ("old", one.old), ("new", one.new))
        },
        "peak_bytes": one.peak_bytes,
        "load": {"late_p99": one.late_p99, "late_max": one.late_max, "cpu": one.load_cpu},
        "complaints": one.complaints,
        "errors": list(one.errors),
    }


def _latencies(latencies: Latencies) -> Json:
    return {
        "requests": latencies.count,
        "p50": latencies.p50,
        "p99": latencies.p99,
        "max": latencies.most,
        "stalled": {
            f"{bound:g}": n for bound, n in zip(STALL_SECONDS, latencies.stalled, strict=True)
        },
    }
