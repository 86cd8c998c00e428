"""The conditions of a run: which CPUs, how long, with what."""

from __future__ import annotations

import resource
from pathlib import Path

import attrs

BODY_BYTES = 1024
"""What the web upstreams answer with."""
RPC_PAYLOAD_BYTES = 256
WARM_UP_SECONDS = 1
"""Load that each contender gets before its first window."""


@attrs.frozen(kw_only=True)
class Lab:
    """What is the same for every contender of a run."""

    work: Path
    """A folder for configurations and logs that lives as long as the run."""
    python: Path
    """The interpreter that runs xproxy."""
    tree: Path
    """The checkout whose xproxy it runs."""
    proxy_cpu: int
    """Where the proxy under test runs, alone."""
    load_cpu: int
    """Where load generator, upstream and the bench itself run."""
    seconds: int
    """Length of one measuring window."""
    rounds: int
    """Windows of each contender, interleaved with those of the others."""
    idle_connections: int
    """Connections open at once where memory is measured."""


def raise_file_limit() -> int:
    """Use all file descriptors this user may have, for us and what we start; return how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def affordable_connections(wanted: int, file_limit: int) -> int:
    """Return how many of the wanted connections a proxy with so many file descriptors can hold.

    400 are left for its upstream connections, of which the load generator causes at most 50 at once,
    and for its own files.
    """
    return max(0, min(wanted, file_limit - 400))
