"""Measure what an upgrade under load costs: ``python -m bench.takeover --help``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from bench.takeover import across, command, idle, killing, soak_command

OTHERS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "soak": soak_command.main,
    "idle": idle.main,
    "bulk": across.main,
    "workers": killing.main,
}
"""Named first; else it is the steady load of each kind."""


def main(argv: Sequence[str]) -> int:
    """Run what the first word names."""
    if argv and argv[0] in OTHERS:
        return OTHERS[argv[0]](argv[1:])
    return command.main(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
