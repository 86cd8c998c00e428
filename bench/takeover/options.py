"""What the commands of the takeover's measures have in common."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
from rich.console import Console

from bench.lab import raise_file_limit
from bench.takeover.stage import Setting, here
from bench.takeover.upgrade import COMMAND

MIB = 1 << 20
_LOG_COLUMNS = 200


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command takes."""
    parser.add_argument(
        "--command",
        default=COMMAND,
        help="what upgrades; {pid}, {python} and {config} are filled in (default: %(default)s)",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=30.0,
        help="seconds that an old process may take to go (default %(default)s)",
    )
    parser.add_argument("--workers", type=int, default=1, help="(default %(default)s)")
    parser.add_argument(
        "--stays", action="store_true", help="the command replaces no process, as a reload does not"
    )
    parser.add_argument(
        "--tree", type=Path, metavar="PATH", help="another checkout, whose xproxy runs"
    )
    parser.add_argument("--access-log", action="store_true", help="with an access log of all")


@contextmanager
def setting_of(arguments: argparse.Namespace) -> Iterator[Setting]:
    """Yield the setting that the options ask for, with a folder that goes when the block is left."""
    raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="xproxy-takeover-") as work:
        setting = here(Path(work))
        yield attrs.evolve(
            setting,
            tree=setting.tree if arguments.tree is None else arguments.tree.resolve(),
            workers=arguments.workers,
            stays=arguments.stays,
            access_log=arguments.access_log,
        )


def console() -> Console:
    """Return where to print: a log may be wide."""
    return Console(width=None if sys.stdout.isatty() else _LOG_COLUMNS)
