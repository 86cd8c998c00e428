"""The supervisor of real proxies: what a terminal, a service manager and an operator do to it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process.product import (
    PATIENCE,
    Product,
    eventually,
    product,
    unused_port,
    with_admin,
    workers_of,
)

pytestmark = pytest.mark.slow

CONFIG = """\
listeners:
  - {name: edge, address: 'ADDRESS', codecs: [http1], routes: main}
routes: {main: [{filters: [{name: direct_response, body: fine}]}]}
clusters: {}
"""


PROXIED = """\
listeners:
  - {name: edge, address: '127.0.0.1:0', codecs: [http1], routes: main}
routes: {main: [{cluster: held}]}
clusters: {held: {endpoints: ['127.0.0.1:PORT']}}
"""


@contextmanager
def in_flight(tmp_path: Path) -> Iterator[tuple[Product, Callable[[], bytes]]]:
    """Give a proxy with a request in flight, and what lets that be answered: it returns the answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        text = PROXIED.replace("PORT", str(server.getsockname()[1]))
        with product(text, tmp_path) as proxy, connect(proxy) as client:
            client.settimeout(PATIENCE)
            client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            held, _ = server.accept()
            with held:
                held.settimeout(PATIENCE)
                asked = b""
                while not asked.endswith(b"\r\n\r\n"):
                    asked += held.recv(65536)

                def answered() -> bytes:
                    held.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                    return client.recv(65536)

                yield proxy, answered


def config(address: str = "127.0.0.1:0") -> str:
    return CONFIG.replace("ADDRESS", address)


def ask(client: socket.socket) -> bytes:
    client.settimeout(PATIENCE)
    client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    return client.recv(65536)


def connect(proxy: Product) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), PATIENCE)


def test_it_is_small_and_has_one_worker(tmp_path: Path) -> None:
    with product(config(), tmp_path) as proxy:
        assert len(workers_of(proxy.process.pid)) == 1
        status = Path(f"/proc/{proxy.process.pid}/status").read_text()
        (resident,) = [int(line.split()[1]) for line in status.splitlines() if "VmRSS" in line]
        assert resident <= 15 * 1024


def test_ctrl_c_in_a_terminal_is_one_drain(tmp_path: Path) -> None:
    with in_flight(tmp_path) as (proxy, answered):
        os.killpg(proxy.process.pid, signal.SIGINT)
        eventually(lambda: "SIGINT: draining" in proxy.said(), "the drain")
        assert answered().startswith(b"HTTP/1.1 200 OK")
        assert proxy.process.wait(PATIENCE) == 0
        assert "cut off" not in proxy.said()


def test_sigterm_to_all_processes_is_one_drain(tmp_path: Path) -> None:
    # As a service manager does that ends a whole control group.
    with in_flight(tmp_path) as (proxy, answered):
        os.killpg(proxy.process.pid, signal.SIGTERM)
        eventually(lambda: "SIGTERM: draining" in proxy.said(), "the drain")
        assert answered().startswith(b"HTTP/1.1 200 OK")
        assert proxy.process.wait(PATIENCE) == 0
        assert proxy.said().count("draining") == 1


def test_a_worker_goes_on_without_its_supervisor_and_ends_by_signals(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with product(config(f"unix:{path}"), tmp_path) as proxy:
        worker = proxy.worker
        proxy.process.kill()
        proxy.process.wait(PATIENCE)
        eventually(lambda: "goes on without it" in proxy.said(), "it is noticed")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            assert ask(client).startswith(b"HTTP/1.1 200 OK")
        os.kill(worker, signal.SIGHUP)
        eventually(lambda: "in force" in proxy.said(), "the reload")
        os.kill(worker, signal.SIGTERM)
        eventually(lambda: not path.exists(), "the end")
        assert proxy.said().count("goes on without it") == 1


def test_a_reload_opens_and_closes_sockets_with_the_supervisor(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    port, other = unused_port(), unused_port()
    first, second = config(f"127.0.0.1:{port}"), config(f"127.0.0.1:{other}")
    inner = "  - {name: inner, address: 'unix:PATH', routes: main}\n".replace("PATH", str(path))
    with product(first, tmp_path) as proxy:
        proxy.reload(
            with_admin(second.replace("routes: {main", inner + "routes: {main"), proxy.admin)
        )
        with socket.create_connection(("127.0.0.1", other), PATIENCE) as client:
            assert ask(client).startswith(b"HTTP/1.1 200 OK")
        eventually(lambda: _refused(port), "the old port is closed everywhere")
        assert path.is_socket()
        proxy.reload(with_admin(first, proxy.admin))
        eventually(lambda: not path.exists(), "the path is removed")
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            assert ask(client).startswith(b"HTTP/1.1 200 OK")
        assert proxy.end() == 0


def _refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_path_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with product(config(f"unix:{path}"), tmp_path) as proxy:
        assert path.is_socket()
        assert proxy.end() == 0
        assert not path.exists()
