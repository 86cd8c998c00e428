"""Several workers on the same ports, under load, and when one of them dies."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.load import load
from tests.process.product import PATIENCE, eventually, product, workers_of
from tests.process.upstreams import upstream

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def web() -> Iterator[int]:
    with upstream("web") as port:
        yield port


def config(web: int, workers: object = 2, extra: str = "") -> str:
    return (
        f"workers: {workers}\n"
        "listeners:\n"
        "  - name: edge\n    address: '127.0.0.1:0'\n    routes: main\n"
        f"    timeouts: {{detect: 2m, head: 2m}}\n{extra}"  # a start takes long on a busy machine
        "routes: {main: [{cluster: web, timeout: 5m}]}\n"
        f"clusters: {{web: {{endpoints: ['127.0.0.1:{web}']}}}}\n"
    )


def cpu_of(pid: int) -> float:
    return time.clock_gettime(~pid << 3 | 2)


def test_both_work(web: int, tmp_path: Path) -> None:
    with product(config(web), tmp_path) as proxy:
        first, second = workers_of(proxy.process.pid)
        before = [cpu_of(first), cpu_of(second)]
        with load(proxy.port, 32) as clients:
            clients.wait(600)
        assert set(clients.outcomes) == {"ok"}, clients.outcomes
        for pid, cpu in zip((first, second), before, strict=True):
            assert cpu_of(pid) > cpu + 0.01, "by chance all 32 went to one: once in 2 billion runs"
        assert proxy.end() == 0


def test_auto_is_one_a_core_and_the_option_wins(web: int, tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    with product(config(web, "auto"), tmp_path) as proxy:
        assert len(workers_of(proxy.process.pid)) == cores
    with product(config(web, 1), tmp_path, "--workers", "3") as proxy:
        assert len(workers_of(proxy.process.pid)) == 3


def test_a_reload_is_everybodys(web: int, tmp_path: Path) -> None:
    with product(config(web), tmp_path) as proxy:
        proxy.process.send_signal(signal.SIGHUP)
        eventually(lambda: proxy.said().count("configuration 2 is in force") == 2, "both")
        with load(proxy.port, 8) as clients:
            clients.wait(100)
        assert set(clients.outcomes) == {"ok"}


def test_a_killed_worker_costs_its_own_connections_only(web: int, tmp_path: Path) -> None:
    with product(config(web), tmp_path) as proxy:
        dead, alive = workers_of(proxy.process.pid)
        with load(proxy.port, 16) as clients:
            clients.wait(200)
            os.kill(dead, signal.SIGKILL)
            killed = time.monotonic()
            # Whoever connects now waits at most until there is a successor; nobody is refused or reset.
            clients_after = [
                socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) for _ in range(40)
            ]
            eventually(lambda: len(workers_of(proxy.process.pid)) == 2, "it is started again")
            assert time.monotonic() - killed < 2
            for client in clients_after:
                with client:
                    client.settimeout(PATIENCE)
                    client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                    assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
            assert time.monotonic() - killed < PATIENCE
        assert "refused" not in clients.outcomes
        lost = clients.outcomes.total() - clients.outcomes["ok"]
        assert 0 < lost <= 16, "those that were connected to it, and each once"
        assert alive in workers_of(proxy.process.pid)
        assert "ended unexpectedly, by SIGKILL" in proxy.said()
        assert proxy.end() == 0
