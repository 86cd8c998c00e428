"""Node's peers of Bolt and Dubbo, as processes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.interop.node_packages import NODE, node_packages
from tests.process.product import PATIENCE
from tests.process.upstreams import running


@contextmanager
def sofa_server() -> Iterator[dict[str, int]]:
    """Run sofa-rpc-node's server; gives the port of ``bolt`` and that of ``dubbo``."""
    said = ""

    def read(line: str) -> int:
        nonlocal said
        said = line
        return 0

    with running(["node", str(NODE / "sofa_peer.js"), "serve"], read, node_packages()):
        ports: dict[str, int] = json.loads(said)
        yield ports


def call(peer: str, ports: dict[str, int], *what: str) -> dict[str, list[str]]:
    """Run a client, ``sofa_peer`` or ``dubbo_peer``; returns what came of its calls, by what it speaks."""
    arguments = [f"{name}:{port}" for name, port in ports.items()]
    done = subprocess.run(
        ["node", str(NODE / f"{peer}.js"), *(what or ("call",)), *arguments],
        env=node_packages(),
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # The clients themselves print a line when they connect.
    told: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return told
