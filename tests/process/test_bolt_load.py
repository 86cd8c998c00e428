"""Bolt under load: no answer goes to the wrong caller, whatever happens to the upstreams."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.process.product import (
    LOAD_SECONDS,
    PATIENCE,
    ROOT,
    Product,
    eventually,
    product,
    unused_port,
)
from tests.process.upstreams import connected

pytestmark = [pytest.mark.slow, pytest.mark.tool("gcc")]

CONNECTIONS, IN_FLIGHT = 8, 32


@pytest.fixture(scope="module")
def rpcload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = ROOT / "bench" / "rpcload.c"
    program = tmp_path_factory.mktemp("rpcload") / "rpcload"
    subprocess.run(["gcc", "-O2", "-o", str(program), str(source)], check=True, timeout=240)
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


class Load:
    """rpcload at work, until ``ended`` is asked for."""

    def __init__(self, rpcload: Path, port: int) -> None:
        command = [str(rpcload), "load", "-proto", "bolt", "-port", str(port), "-nonce"]
        command += ["-c", str(CONNECTIONS), "-p", str(IN_FLIGHT), "-d", "3600"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)

    def ended(self) -> dict[str, int]:
        """Let it finish what is in flight; return its report."""
        self._process.send_signal(signal.SIGTERM)
        said, _ = self._process.communicate(timeout=PATIENCE)
        found: dict[str, int] = json.loads(said)
        return found

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def loading(rpcload: Path, port: int) -> Iterator[Load]:
    """Load the proxy for as long as the block takes, or until it is asked for its report."""
    found = Load(rpcload, port)
    try:
        yield found
    finally:
        found.kill()


def answered(proxy: Product, requests: int) -> None:
    """Wait until the upstreams have been asked so much more often."""
    wanted = proxy.stat("cluster.bolt.upstream_rq_total") + requests
    eventually(lambda: proxy.stat("cluster.bolt.upstream_rq_total") > wanted, "load")


def test_no_error_and_no_mismatch(rpcload: Path, tmp_path: Path) -> None:
    port = unused_port()
    with (
        server(rpcload, port),
        product(configuration(port), tmp_path) as proxy,
        loading(rpcload, proxy.port) as load,
    ):
        over = time.monotonic() + LOAD_SECONDS
        answered(proxy, 5000)
        time.sleep(max(0.0, over - time.monotonic()))
        report = load.ended()
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
        with ExitStack() as stack:
            with server(rpcload, killed) as victim:
                load = stack.enter_context(loading(rpcload, proxy.port))
                answered(proxy, 2000)
                assert proxy.stat("cluster.bolt.upstream_cx_active") == 2
                victim.send_signal(signal.SIGKILL)
                eventually(lambda: proxy.stat("cluster.bolt.endpoint_failing") > 0, "it is missed")
                answered(proxy, 2000)
            stack.enter_context(server(rpcload, killed))
            eventually(lambda: proxy.stat("cluster.bolt.upstream_cx_active") == 2, "it is back")
            answered(proxy, 2000)
            report = load.ended()
        assert report["requests"] > 5000
        assert report["mismatches"] == 0, report
        assert report["closes_inflight"] == report["connect_errors"] == 0, report
        assert report["errors"] <= CONNECTIONS * IN_FLIGHT, report
        proxy.settled()
        assert "Traceback" not in proxy.said()
