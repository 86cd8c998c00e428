"""Bolt under load: no answer goes to the wrong caller, whatever happens to the upstreams."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process.product import LOAD_SECONDS, PATIENCE, ROOT, eventually, product, unused_port
from tests.process.upstreams import connected

pytestmark = [pytest.mark.slow, pytest.mark.tool("gcc")]

CONNECTIONS, IN_FLIGHT = 8, 32


@pytest.fixture(scope="module")
def rpcload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = ROOT / "bench" / "rpcload.c"
    program = tmp_path_factory.mktemp("rpcload") / "rpcload"
    subprocess.run(["gcc", "-O2", "-o", str(program), str(source)], check=True, timeout=60)
    return program


@contextmanager
def server(rpcload: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run an upstream that echoes what it is sent, with the nonce of the request."""
    process = subprocess.Popen([str(rpcload), "serve", "-proto", "bolt", "-port", str(port)])
    try:
        eventually(lambda: connected(port), "the upstream listens")
        yield process
    finally:
        process.kill()
        process.wait()


def configuration(*ports: int) -> str:
    endpoints = ", ".join(f"'127.0.0.1:{port}'" for port in ports)
    return (
        "listeners: [{name: edge, address: '127.0.0.1:0', routes: main}]\n"
        "routes:\n"
        "  main:\n"
        "    - cluster: bolt\n"
        "      filters: [{name: retry, on: [connect-failure], attempts: 2}]\n"
        f"clusters: {{bolt: {{endpoints: [{endpoints}], failure_time: 500ms,"
        " circuit_breakers: {max_retries: 1000}}}\n"
    )


def run_load(rpcload: Path, port: int, seconds: float) -> dict[str, int]:
    command = [str(rpcload), "load", "-proto", "bolt", "-port", str(port), "-nonce"]
    command += ["-c", str(CONNECTIONS), "-p", str(IN_FLIGHT), "-d", str(seconds)]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE + seconds, check=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_no_error_and_no_mismatch(rpcload: Path, tmp_path: Path) -> None:
    port = unused_port()
    with server(rpcload, port), product(configuration(port), tmp_path) as proxy:
        report = run_load(rpcload, proxy.port, LOAD_SECONDS)
        assert report["requests"] > 5000
        for name in (
            "errors",
            "mismatches",
            "failed_inflight",
            "closes_inflight",
            "connect_errors",
        ):
            assert report[name] == 0, report
        # All clients share one connection to the endpoint.
        assert proxy.stat("cluster.bolt.upstream_cx_total") == 1
        proxy.settled()
        assert "Traceback" not in proxy.said()


def test_an_upstream_that_is_killed_and_comes_back_fails_only_what_it_had(
    rpcload: Path, tmp_path: Path
) -> None:
    killed, other = unused_port(), unused_port()
    with server(rpcload, other), product(configuration(killed, other), tmp_path) as proxy:
        report: dict[str, int] = {}

        def load() -> None:
            report.update(run_load(rpcload, proxy.port, LOAD_SECONDS + 2))

        loading = threading.Thread(target=load)
        with server(rpcload, killed) as victim:
            loading.start()
            eventually(lambda: proxy.stat("cluster.bolt.upstream_rq_total") > 2000, "load")
            assert proxy.stat("cluster.bolt.upstream_cx_active") == 2
            victim.send_signal(signal.SIGKILL)
            eventually(lambda: proxy.stat("cluster.bolt.endpoint_failing") > 0, "it is missed")
            before = proxy.stat("cluster.bolt.upstream_rq_total")
            eventually(lambda: proxy.stat("cluster.bolt.upstream_rq_total") > before + 2000, "load")
        with server(rpcload, killed):
            eventually(lambda: proxy.stat("cluster.bolt.upstream_cx_active") == 2, "it is back")
            loading.join(PATIENCE + LOAD_SECONDS)
        assert report["requests"] > 5000
        assert report["mismatches"] == 0, report
        assert report["closes_inflight"] == report["connect_errors"] == 0, report
        assert report["errors"] <= CONNECTIONS * IN_FLIGHT, report
        proxy.settled()
        assert "Traceback" not in proxy.said()
