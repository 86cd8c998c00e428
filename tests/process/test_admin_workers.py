"""Pages of the admin interface are of all workers: under load, when one is stuck, and during an upgrade."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process.load import load
from tests.process.product import Product, eventually, product, workers_of
from tests.process.test_upgrade import upgrade
from tests.process.upstreams import upstream

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def web() -> Iterator[int]:
    with upstream("web") as port:
        yield port


def config(web: int, workers: int = 2) -> str:
    return (
        f"workers: {workers}\n"
        "listeners:\n"
        "  - {name: edge, address: '127.0.0.1:0', routes: main}\n"
        "routes: {main: [{cluster: web}]}\n"
        f"clusters: {{web: {{endpoints: ['127.0.0.1:{web}']}}}}\n"
    )


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: f"{pid} (" in _stat(pid) and ") T " in _stat(pid), "it is stopped")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _stat(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text()


def page_of(proxy: Product, pid: int, path: str) -> str:
    """Return a page as the worker ``pid`` shows it."""
    others = [one for one in workers_of(proxy.process.pid) if one != pid]
    for other in others:
        os.kill(other, signal.SIGSTOP)
    try:
        return proxy.page(path)
    finally:
        for other in others:
            os.kill(other, signal.SIGCONT)


def test_counters_are_of_all_whoever_is_asked(web: int, tmp_path: Path) -> None:
    with product(config(web), tmp_path) as proxy:
        with load(proxy.port, 32) as clients:
            clients.wait(600)
            assert proxy.stat("listener.edge.downstream_cx_active") == 32
        assert set(clients.outcomes) == {"ok"}, clients.outcomes
        asked = clients.outcomes["ok"]
        proxy.settled()
        total = proxy.stat("listener.edge.downstream_rq_total")
        assert total == asked
        for _ in range(20):
            stats = proxy.stats()
            assert stats["listener.edge.downstream_rq_total"] == total
            assert stats["cluster.web.upstream_rq_total"] == total
            assert stats["listener.edge.downstream_cx_total"] == 32
        assert f"rq_total={total} " in proxy.page("/clusters")
        prometheus = proxy.page("/stats/prometheus")
        assert f'xproxy_listener_downstream_rq_total{{listener="edge"}} {total}.0' in prometheus
        for worker in (0, 1):
            of = f'generation="1",listener="edge",worker="{worker}"'
            assert f"xproxy_listener_downstream_cx_active{{{of}}} 0.0" in prometheus
            of = f'generation="1",worker="{worker}"'
            assert f"xproxy_worker_answering{{{of}}} 1.0" in prometheus
        # Each has done some of it, which a page of its own says when the other is stuck.
        shares = []
        for pid in workers_of(proxy.process.pid):
            page = page_of(proxy, pid, "/stats")
            assert "no answer: generation=1,worker=" in page
            lines = page.splitlines()
            [share] = [one for one in lines if one.startswith("listener.edge.downstream_rq_total")]
            shares.append(int(share.rpartition(" ")[2]))
        assert sum(shares) == total
        assert min(shares) > 0, "by chance all 32 went to one: once in 2 billion runs"
        assert proxy.page("/ready") == "LIVE\n"
        assert "elsewhere" not in json.loads(proxy.page("/config_dump"))
        assert proxy.end() == 0


def test_one_that_is_stuck_is_named_after_a_second(web: int, tmp_path: Path) -> None:
    with product(config(web), tmp_path) as proxy:
        pid = workers_of(proxy.process.pid)[1]
        with stopped(pid):
            for path in ("/stats", "/clusters", "/ready", "/upgrade", "/config_dump"):
                before = time.monotonic()
                page = proxy.page(path)
                assert time.monotonic() - before >= 0.9
                assert "no answer: generation=1,worker=1" in page, path
            page = proxy.page("/stats/prometheus")
            assert 'xproxy_worker_answering{generation="1",worker="1"} 0.0' in page
            # It is asked no more than so often; after that nobody waits for it.
            for _ in range(12):
                proxy.page("/ready")
            before = time.monotonic()
            assert "no answer" in proxy.page("/ready")
            assert time.monotonic() - before < 0.9
        eventually(lambda: proxy.page("/ready") == "LIVE\n", "it answers again")
        assert proxy.end() == 0


def test_an_upgrade_counts_nothing_twice(web: int, tmp_path: Path) -> None:
    with product(config(web), tmp_path, "--control", str(tmp_path / "control")) as proxy:
        highest = 0
        with load(proxy.port, 8) as clients:
            clients.wait(200)
            for _ in range(2):
                assert upgrade(proxy).returncode == 0
                clients.wait(100)
                total = proxy.stat("listener.edge.downstream_rq_total")
                # What is counted here may not be answered there yet.
                assert highest < total <= clients.outcomes.total() + 8
                highest = total
        assert set(clients.outcomes) == {"ok"}, clients.outcomes
        eventually(lambda: len(workers_of(proxy.process.pid)) == 2, "the old ones have ended")
        proxy.settled()
        assert proxy.stat("listener.edge.downstream_rq_total") == clients.outcomes["ok"]
        assert proxy.stat("listener.edge.downstream_cx_total") == 8
        assert proxy.end() == 0


def test_a_rehearsal_counts_nothing(web: int, tmp_path: Path) -> None:
    with product(config(web, 1), tmp_path, "--control", str(tmp_path / "control")) as proxy:
        with load(proxy.port, 4) as clients:
            clients.wait(50)
        proxy.settled()
        looked = 0
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(upgrade, proxy, "--check")
            while not done.done():
                assert proxy.stat("listener.edge.downstream_rq_total") == clients.outcomes["ok"]
                looked += 1
        assert done.result().returncode == 0, done.result().stderr
        assert looked > 10
        assert proxy.end() == 0


def test_one_worker_shows_its_own_page(web: int, tmp_path: Path) -> None:
    with product(config(web, 1), tmp_path) as proxy:
        for path in ("/stats", "/stats/prometheus", "/clusters", "/config_dump", "/upgrade"):
            assert "generation=" not in proxy.page(path)
        assert proxy.page("/ready") == "LIVE\n"
        assert proxy.end() == 0
