"""The command line of the bench."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench import against, chart, procfs, report
from bench.contest import hold
from bench.lab import Lab, affordable_connections, raise_file_limit
from bench.processes import pinned
from bench.rows import bolt, bulk, http1, http2, latency, memory, rpc, sizes, tls, unlike
from bench.rows.row import Row
from bench.tools import BUILD, HERE, Missing

ROWS: dict[str, Row] = {
    row.key: row
    for module in (unlike, http1, http2, tls, bolt, rpc, sizes, bulk, latency, memory)
    for row in module.ROWS
}
_IDLE_CONNECTIONS = 10_000
_QUICK_IDLE_CONNECTIONS = 500
_LOG_COLUMNS = 120


def parser() -> argparse.ArgumentParser:
    """Return the parser; its help names the rows."""
    this = argparse.ArgumentParser(
        prog="bench/run.py",
        description="Measure xproxy against its peers: the proxy alone on one CPU, load and upstream on another, "
        "rounds interleaved, medians of them.",
    )
    this.add_argument(
        "rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; none given: all"
    )
    this.add_argument(
        "--seconds",
        type=_positive,
        default=3,
        help="length of a measuring window (default %(default)s)",
    )
    this.add_argument(
        "--rounds",
        type=_positive,
        default=5,
        help="windows of each contender (default %(default)s)",
    )
    for option, default, what in (
        ("--json", BUILD / "figures.json", "where all figures are written"),
        ("--png", BUILD / "figures.png", "where the chart is drawn"),
    ):
        this.add_argument(
            option, type=Path, default=default, metavar="FILE", help=f"{what} (default %(default)s)"
        )
    this.add_argument(
        "--against",
        type=Path,
        metavar="PATH",
        help="another checkout of xproxy with its own .venv: measure both in alternated rounds, without peers, and "
        "end with 1 where this one is worse by more than 3 %%",
    )
    this.add_argument(
        "--quick",
        action="store_true",
        help="one round of 1 s and 500 idle connections: shows that everything works, measures nothing",
    )
    this.add_argument(
        "--python",
        type=Path,
        default=Path(sys.executable),
        metavar="FILE",
        help="the interpreter that runs xproxy (default: this one)",
    )
    return this


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return 0, 1 where somebody failed or ``--against`` is worse, 2 if it cannot be run."""
    arguments = parser().parse_args(argv)
    # Not a terminal means a log, which may be wide; 80 columns would break the tables' headings.
    console = Console(width=None if sys.stdout.isatty() else _LOG_COLUMNS)
    unknown = [key for key in arguments.rows if key not in ROWS]
    if unknown:
        console.print(f"no row named {', '.join(unknown)}; there are {', '.join(ROWS)}")
        return 2
    if not hasattr(os, "sched_setaffinity"):
        console.print("the bench needs Linux: it reads /proc and pins processes to CPUs")
        return 2
    rows = {key: ROWS[key] for key in dict.fromkeys(arguments.rows or ROWS)}
    if arguments.against is not None:
        tree = arguments.against.resolve()
        try:
            rows = {key: against.against(row, tree) for key, row in rows.items()}
        except Missing as exc:
            console.print(str(exc), markup=False)
            return 2
    cpus = sorted(os.sched_getaffinity(0))
    file_limit = raise_file_limit()
    wanted = _QUICK_IDLE_CONNECTIONS if arguments.quick else _IDLE_CONNECTIONS
    idle = affordable_connections(wanted, file_limit)
    with tempfile.TemporaryDirectory(prefix="xproxy-bench-") as work:
        lab = Lab(
            work=Path(work),
            python=arguments.python,
            tree=HERE.parent,
            proxy_cpu=cpus[0],
            load_cpu=cpus[1] if len(cpus) > 1 else cpus[0],
            seconds=1 if arguments.quick else arguments.seconds,
            rounds=1 if arguments.quick else arguments.rounds,
            idle_connections=idle,
        )
        facts = procfs.machine_facts()
        console.print(", ".join(f"{key}: {value}" for key, value in facts.items()), markup=False)
        console.print(
            f"proxy on CPU {lab.proxy_cpu}, load and upstream on CPU {lab.load_cpu}; {lab.rounds} interleaved "
            f"rounds of {lab.seconds} s\n"
        )
        if lab.proxy_cpu == lab.load_cpu:
            console.print("only one CPU: proxy and load share it, rates mean little\n", style="red")
        if idle < wanted:
            console.print(
                f"memory: {idle:,} connections instead of {wanted:,}: the file limit is {file_limit:,}\n",
                style="yellow",
            )
        outcomes = []
        with pinned(lab.load_cpu):
            for row in rows.values():
                with console.status("") as status:
                    outcome = hold(row, lab, status.update)
                report.show(outcome, console)
                outcomes.append(outcome)
    document = report.as_json(
        outcomes,
        machine=facts,
        conditions={
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "seconds": lab.seconds,
            "rounds": lab.rounds,
            "proxy_cpu": lab.proxy_cpu,
            "load_cpu": lab.load_cpu,
            "idle_connections": lab.idle_connections,
        },
    )
    BUILD.mkdir(exist_ok=True)
    arguments.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    console.print(f"all figures: {arguments.json}", markup=False)
    try:
        chart.draw(outcomes, arguments.png)
    except Missing as exc:
        console.print(f"no chart: {exc}", style="yellow", markup=False)
    else:
        console.print(f"chart: {arguments.png}", markup=False)
    worse = False
    if arguments.against is not None:
        found = [one for outcome in outcomes for one in against.compared(outcome)]
        against.show(found, tree, console)
        worse = any(one.worse for one in found)
    return 1 if worse or any(outcome.failed for outcome in outcomes) else 0
