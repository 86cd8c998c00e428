"""What people do with a proxy: real clients of several protocols, through one port."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from tests.process.product import LOAD_SECONDS, PATIENCE, Product, eventually, product, unused_port
from tests.process.upstreams import connected, pieces, upstream

pytestmark = pytest.mark.slow

MIB: Final = 1 << 20
BULK: Final = 200 * MIB
GROWTH: Final = 32 * MIB
"""Half of the smallest body here: a proxy that keeps what it passes on holds all of it."""
BOLT: Final = bytes.fromhex("01 01 0001 01 00000007 01 00000BB8 0000 0000 00000004") + b"ping"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with upstream("web") as web, upstream("echo") as echo:
        text = (
            "listeners:\n"
            "  - {name: edge, address: '127.0.0.1:0', routes: main, fallback: {cluster: raw}}\n"
            "routes:\n"
            "  main:\n"
            "    - {match: {protocol: bolt}, cluster: raw}\n"
            "    - {cluster: web}\n"
            "clusters:\n"
            f"  web: {{endpoints: ['127.0.0.1:{web}']}}\n"
            f"  raw: {{endpoints: ['127.0.0.1:{echo}']}}\n"
        )
        with product(text, tmp_path_factory.mktemp("serving")) as found:
            yield found


def curl(proxy: Product, *arguments: str, path: str = "/x") -> str:
    """Run curl; returns what it prints."""
    command = [
        "curl",
        "-sS",
        "--max-time",
        "60",
        *arguments,
        f"http://127.0.0.1:{proxy.port}{path}",
    ]
    done = subprocess.run(command, capture_output=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode("latin-1")


@pytest.mark.tool("curl")
def test_get(proxy: Product) -> None:
    answer = curl(proxy, "-i", path="/x?a=b")
    assert answer.startswith("HTTP/1.1 200 OK\r\n")
    assert answer.endswith(" /x?a=b\n")


@pytest.mark.tool("curl")
def test_head_has_the_length_and_no_body(proxy: Product) -> None:
    answer = curl(proxy, "-I", path="/size/12345")
    assert "content-length: 12345\r\n" in answer.lower()
    assert answer.endswith("\r\n\r\n")


@pytest.mark.tool("curl")
def test_post_with_a_length_and_in_chunks(proxy: Product) -> None:
    body = "x" * 70_000
    digest = hashlib.sha256(body.encode()).hexdigest()
    for extra in ((), ("-H", "Transfer-Encoding: chunked")):
        answer = curl(proxy, "-H", "Expect:", *extra, "--data-binary", body)
        assert answer == f"70000 {digest} - \n"


@pytest.mark.tool("curl")
def test_a_hundred_continue_is_asked_for_and_given(proxy: Product) -> None:
    # curl sends no byte of the body until the 100 has come.
    arguments = ("--expect100-timeout", "30", "-H", "Expect: 100-continue")
    answer = curl(proxy, "-i", *arguments, "--data-binary", "hello")
    first, _, rest = answer.partition("\r\n\r\n")
    assert first.startswith("HTTP/1.1 100 Continue")
    assert rest.startswith("HTTP/1.1 200 OK\r\n")
    assert "5 " in rest
    assert "100-continue" in rest


@pytest.mark.tool("curl")
def test_trailers_of_a_response(proxy: Product, tmp_path: Path) -> None:
    headers = tmp_path / "headers"
    body = curl(proxy, "--raw", "-D", str(headers), path="/chunked/1000")
    assert "transfer-encoding: chunked" in headers.read_text().lower()
    digest = hashlib.sha256(b"".join(pieces(1000))).hexdigest()
    assert re.search(rf"0\r\nx-digest: {digest}\r\n\r\n$", body, re.IGNORECASE)


def test_trailers_of_a_request(proxy: Product) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as client:
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n"
            b"2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n"
        )
        answer = client.recv(65536)
    assert answer.lower().endswith(b"x-sum: 7\n")


def test_pipelined_requests_are_answered_in_order(proxy: Product) -> None:
    count = 50
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as client:
        client.sendall(
            b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(count - 1))
            + b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        received = b""
        while data := client.recv(65536):
            received += data
    assert received.count(b"HTTP/1.1 200 OK") == count
    order = re.findall(rb"\d+ /(\w+)\n", received)
    assert order == [b"%d" % n for n in range(count - 1)] + [b"last"]


def test_bolt_and_raw_bytes_beside_http_on_one_port(proxy: Product) -> None:
    with (
        socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as raw,
        socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as http,
    ):
        raw.sendall(b"\xff no protocol that anybody knows")
        assert raw.recv(100) == b"\xff no protocol that anybody knows"
        http.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        assert http.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
    # What the echo upstream gives back is no answer but a request of its own, which a shared connection refuses:
    # the client's call stays open until it leaves. That it was understood is what counts here.
    before = proxy.stat("detection.recognised.bolt")
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as bolt:
        bolt.sendall(BOLT)
        eventually(lambda: proxy.stat("detection.recognised.bolt") == before + 1, "bolt")
    stats = proxy.stats()
    assert stats["detection.recognised.http1"] >= 1
    assert stats["listener.edge.downstream_cx_unknown_protocol"] >= 1


@pytest.mark.tool("curl")
def test_many_clients_at_once(proxy: Product) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: curl(proxy, path=f"/{n}"), range(64)))
    assert [answer.split()[1] for answer in answers] == [f"/{n}" for n in range(64)]


# ---- bulk


class Peak:
    """The most memory the proxy had at any moment of the block, above what it had before."""

    def __init__(self, proxy: Product) -> None:
        self._proxy = proxy
        self.growth = 0

    def __enter__(self) -> Peak:
        # Reading the kernel's own high-water mark misses nothing between two looks (proc(5), clear_refs).
        Path(f"/proc/{self._proxy.worker}/clear_refs").write_text("5")
        self._before = self._proxy.resident
        return self

    def __exit__(self, *_: object) -> None:
        status = Path(f"/proc/{self._proxy.worker}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        self.growth = int(found[1]) * 1024 - self._before


@pytest.mark.tool("curl")
@pytest.mark.parametrize("kind", ["size", "chunked"])
def test_a_download_of_200_mib_is_streamed(proxy: Product, kind: str, tmp_path: Path) -> None:
    curl(proxy, "-o", "/dev/null", path=f"/{kind}/{4 * MIB}")  # its buffers are there from now on
    headers = tmp_path / "headers"
    arguments = ["--raw", "-D", str(headers)] if kind == "chunked" else []
    with Peak(proxy) as peak:
        told = curl(
            proxy, *arguments, "-o", "/dev/null", "-w", "%{size_download}", path=f"/{kind}/{BULK}"
        )
    assert int(told) >= BULK
    assert peak.growth < GROWTH


@pytest.mark.tool("curl")
@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_an_upload_of_200_mib_is_streamed(proxy: Product, framing: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    digest = hashlib.sha256()
    with source.open("wb") as file:
        for piece in pieces(BULK):
            digest.update(piece)
            file.write(piece)
    curl(proxy, "-T", str(source), "-r", "0-100000", path="/up")
    extra = ["-H", "Transfer-Encoding: chunked"] if framing == "chunked" else []
    with Peak(proxy) as peak:
        told = curl(proxy, "-T", str(source), "-H", "Expect:", *extra, path="/up")
    source.unlink()
    assert told == f"{BULK} {digest.hexdigest()} - \n"
    assert peak.growth < GROWTH


def test_raw_bytes_both_ways_at_once_are_streamed(proxy: Product) -> None:
    size = 64 * MIB
    sent, received = hashlib.sha256(), hashlib.sha256()
    with (
        socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as client,
        Peak(proxy) as peak,
    ):

        def push() -> None:
            client.sendall(b"\xff")
            sent.update(b"\xff")
            for piece in pieces(size):
                client.sendall(piece)
                sent.update(piece)
            client.shutdown(socket.SHUT_WR)

        pusher = threading.Thread(target=push)
        pusher.start()
        while data := client.recv(1 << 20):
            received.update(data)
        pusher.join(PATIENCE)
    assert received.digest() == sent.digest()
    assert peak.growth < GROWTH


# ---- load

NGINX = """
worker_processes 1; daemon off; pid {work}/nginx.pid; error_log {work}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {work}/a; proxy_temp_path {work}/b; fastcgi_temp_path {work}/c;
  uwsgi_temp_path {work}/d; scgi_temp_path {work}/e;
  server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return 200 "{body}"; }} }}
}}
"""


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[int]:
    port = unused_port()
    config = tmp_path / "nginx.conf"
    config.write_text(NGINX.format(work=tmp_path, port=port, body="x" * 1024))
    command = ["nginx", "-c", str(config), "-p", str(tmp_path)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: connected(port), "nginx listens")
        yield port
    finally:
        server.terminate()
        server.wait(PATIENCE)


@pytest.mark.tool("wrk")
@pytest.mark.tool("nginx")
def test_wrk_with_128_connections_sees_no_error(nginx: int, tmp_path: Path) -> None:
    text = (
        "listeners: [{name: edge, address: '127.0.0.1:0', routes: main}]\n"
        "routes: {main: [{cluster: web}]}\n"
        f"clusters: {{web: {{endpoints: ['127.0.0.1:{nginx}']}}}}\n"
    )
    script = tmp_path / "report.lua"
    script.write_text(
        "done = function(s, l, r)\n"
        "  local e = s.errors\n"
        '  io.write(string.format("{\\"requests\\": %d, \\"connect\\": %d, \\"read\\": %d, \\"write\\": %d,'
        ' \\"status\\": %d, \\"timeout\\": %d}\\n",'
        " s.requests, e.connect, e.read, e.write, e.status, e.timeout))\n"
        "end\n"
    )
    with product(text, tmp_path) as proxy:
        command = [
            "wrk",
            "-t1",
            "-c128",
            f"-d{LOAD_SECONDS:g}s",
            "-s",
            str(script),
            f"http://127.0.0.1:{proxy.port}/",
        ]
        done = subprocess.run(
            command, capture_output=True, timeout=240 + LOAD_SECONDS, check=True, text=True
        )
        report = json.loads(done.stdout.strip().splitlines()[-1])
        assert report.pop("requests") > 128, "each connection was answered"
        assert set(report.values()) == {0}, report
        proxy.settled()
        stats = proxy.stats()
        # What was in flight when wrk ended is the difference.
        given_up = stats["cluster.web.upstream_rq_total"] - stats["cluster.web.statuses.ok"]
        assert given_up == stats["cluster.web.upstream_rq_cancelled"] <= 128
        assert "Traceback" not in proxy.said()


def test_nothing_is_left_behind(proxy: Product) -> None:
    proxy.settled()
    assert "Traceback" not in proxy.said()
