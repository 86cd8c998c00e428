"""A real redis-server, as a process."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.process.product import eventually, unused_port
from tests.process.upstreams import connected


@contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """Run it in ``folder``; yield its port once it listens."""
    port = unused_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen([*command, "--dir", str(folder)], stdout=subprocess.DEVNULL) as server:
        try:
            eventually(lambda: connected(port), "redis-server listens")
            yield port
        finally:
            server.terminate()
