"""HTTP/2 connections that end, or stay, while requests are in flight on them: nobody may notice."""

from __future__ import annotations

import math
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.http2_load import http2_load
from tests.process.product import LOAD_SECONDS, PATIENCE, eventually, product, with_admin
from tests.process.upstreams import upstream

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def web() -> Iterator[int]:
    with upstream("web") as port:
        yield port


def configuration(*ports: int, codec: str = "http1", timeouts: str = "{}", extra: str = "") -> str:
    endpoints = ", ".join(f"'127.0.0.1:{port}'" for port in ports)
    return (
        "listeners:\n"
        f"  - {{name: edge, address: '127.0.0.1:0', routes: main, timeouts: {timeouts}}}\n"
        f"routes: {{main: [{{cluster: web{extra}}}]}}\n"
        f"clusters: {{web: {{endpoints: [{endpoints}], codec: {codec},"
        " circuit_breakers: {max_retries: 1000}}}\n"
    )


def test_a_drain_under_load_fails_no_request_and_exits_0(web: int, tmp_path: Path) -> None:
    with product(configuration(web), tmp_path) as proxy, http2_load(proxy.port, 6) as clients:
        clients.wait(300)
        assert proxy.end() == 0
        clients.stop()
        assert not clients.failed, clients.outcomes
        # In two steps: even what had crossed the goodbye was served.
        assert clients.outcomes["goodbye"] >= 6
        assert clients.outcomes["after the goodbye"] == 0
        assert "Traceback" not in proxy.said()


def test_a_listener_that_a_reload_removes_fails_no_request(web: int, tmp_path: Path) -> None:
    text = configuration(web)
    with product(text, tmp_path) as proxy, http2_load(proxy.port, 4) as clients:
        clients.wait(200)
        proxy.reload(with_admin(text.replace("name: edge", "name: other"), proxy.admin))
        clients.stop()
        assert not clients.failed, clients.outcomes
        assert clients.outcomes["goodbye"] >= 4
        assert clients.outcomes["after the goodbye"] == 0


@pytest.mark.tool("h2load")
def test_reloads_under_load_fail_no_request_and_close_no_connection(
    web: int, tmp_path: Path
) -> None:
    with product(configuration(web), tmp_path) as proxy:
        command = ["h2load", "-c", "4", "-m", "16", "-D", str(math.ceil(LOAD_SECONDS))]
        clients = subprocess.Popen(
            [*command, f"http://127.0.0.1:{proxy.port}/x"], stdout=subprocess.PIPE, text=True
        )
        try:
            eventually(lambda: proxy.stat("listener.edge.downstream_rq_total") > 0, "load")
            reloads = 0
            while clients.poll() is None:
                reloads += 1
                text = configuration(web, timeouts=f"{{idle: {reloads}m}}")
                proxy.reload(with_admin(text, proxy.admin))
            told, _ = clients.communicate(timeout=PATIENCE)
        finally:
            clients.kill()
        assert re.search(r" 0 failed, 0 errored, 0 timeout", told), told
        assert re.search(r" 2xx, 0 3xx, 0 4xx, 0 5xx", told), told
        assert reloads >= 1
        assert proxy.stat("listener.edge.downstream_cx_total") == 4


def test_an_upstream_that_drains_is_left_without_a_failed_request(web: int, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two", "front")]
    for folder in folders:
        folder.mkdir()

    with (
        product(configuration(web), folders[0]) as one,
        product(configuration(web), folders[1]) as two,
    ):
        retry = ", filters: [{name: retry, on: [connect-failure, refused-stream], attempts: 3}]"
        text = configuration(one.port, two.port, codec="http2", extra=retry)
        with product(text, folders[2]) as front, http2_load(front.port, 6) as clients:
            clients.wait(300)
            assert one.end(signal.SIGTERM) == 0
            clients.wait(300)
            clients.stop()
            assert set(clients.outcomes) == {"ok"}, clients.outcomes
            front.settled()
            assert two.stat("listener.edge.downstream_rq_total") > 300
