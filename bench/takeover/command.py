"""The command line of the takeover's measures."""

from __future__ import annotations

import argparse
import datetime
import json
import os
from collections.abc import Sequence
from pathlib import Path

import attrs

from bench import procfs
from bench.processes import Failed
from bench.takeover import plot, report
from bench.takeover.kinds import KINDS
from bench.takeover.options import add_common, console, setting_of
from bench.takeover.peers import peers
from bench.takeover.stage import stage, upstreams
from bench.takeover.steady import Plan, Steady, steady


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    this = argparse.ArgumentParser(
        prog="python -m bench.takeover",
        description="Upgrade xproxy under a steady load of each kind, and say what its clients noticed.",
        epilog="There is more: python -m bench.takeover soak (many upgrades in a row), idle (10,000 connections), "
        "bulk (1 GiB each way), workers (one is killed); each with --help.",
    )
    this.add_argument(
        "kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; none given: all"
    )
    this.add_argument("--connections", type=int, default=500, help="(default %(default)s)")
    this.add_argument(
        "--rate", type=float, default=1000.0, help="requests a second (default %(default)s)"
    )
    this.add_argument(
        "--before", type=float, default=5.0, help="seconds until the upgrade (default %(default)s)"
    )
    this.add_argument(
        "--after", type=float, default=5.0, help="seconds of load after it (default %(default)s)"
    )
    this.add_argument(
        "--delay-ms", type=int, default=0, help="what upstreams wait before they answer"
    )
    add_common(this)
    this.add_argument(
        "--pin",
        action="store_true",
        help="the proxy on one CPU, all else on another, as the others' figures were taken",
    )
    this.add_argument("--peers", action="store_true", help="show the others' figures beside")
    this.add_argument("--json", type=Path, metavar="FILE", help="where all figures are written")
    this.add_argument("--plot", type=Path, metavar="FILE.svg", help="where latencies are drawn")
    return this


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; return 0, or 1 where a client noticed, or 2 if it cannot be run."""
    arguments = parser().parse_args(argv)
    screen = console()
    unknown = [kind for kind in arguments.kinds if kind not in KINDS]
    if unknown:
        screen.print(f"no kind named {', '.join(unknown)}; there are {', '.join(KINDS)}")
        return 2
    cpus = sorted(os.sched_getaffinity(0))
    plan = Plan(
        connections=arguments.connections,
        rate=arguments.rate,
        before=arguments.before,
        after=arguments.after,
        command=arguments.command,
        patience=arguments.patience,
        slack=arguments.delay_ms / 1e3,
    )
    found: list[Steady] = []
    failed = False
    with setting_of(arguments) as plain:
        setting = attrs.evolve(
            plain,
            proxy_cpu=cpus[0] if arguments.pin else None,
            load_cpu=cpus[-1] if arguments.pin else None,
            delay_ms=arguments.delay_ms,
        )
        with upstreams(setting) as clusters:
            for kind in arguments.kinds or KINDS:
                with screen.status(KINDS[kind].title), stage(setting, clusters) as made:
                    try:
                        found.append(steady(made, kind, plan))
                    except Failed as exc:
                        failed = True
                        screen.print(f"{kind}: {exc}", style="red", markup=False)
    if found:
        report.show(found, peers() if arguments.peers else [], screen)
    if arguments.json is not None:
        conditions = {
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **procfs.machine_facts(),
            **{name: value for name, value in vars(arguments).items() if _plain(value)},
        }
        document = report.as_json(found, conditions)
        arguments.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    if arguments.plot is not None and found:
        arguments.plot.write_text(plot.draw(found))
    return 1 if failed or not all(one.good for one in found) else 0


def _plain(value: object) -> bool:
    return isinstance(value, int | float | str)
