"""A process that is short of file descriptors goes on serving those it served before."""

from __future__ import annotations

import contextlib
import re
import resource
import socket
import time
from pathlib import Path

import pytest

from tests.process.product import PATIENCE, Product, eventually, product, workers_of
from tests.process.test_upgrade import control, upgrade
from tests.process.upstreams import upstream
from xproxy.proxy.shedding import SILENT_SECONDS

pytestmark = pytest.mark.slow

_MOST = 256
_SILENT = 300


def configuration(port: int, overload: str = "{}") -> str:
    return (
        f"overload: {overload}\n"
        "listeners: [{name: edge, address: '127.0.0.1:0', routes: main}]\n"
        "routes: {main: [{cluster: web}]}\n"
        # Each request needs a descriptor of its own: none is kept from the one before.
        f"clusters: {{web: {{endpoints: ['127.0.0.1:{port}'], max_requests_per_connection: 1}}}}\n"
    )


def asks(client: socket.socket) -> bytes:
    """Ask for something on a connection, and return the status line."""
    client.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = client.recv(65536)
        assert data, "the connection was closed"
        answer += data
    return answer.partition(b"\r\n")[0]


def connect(proxy: Product) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), PATIENCE)


@pytest.mark.parametrize("overload", ["{}", "{reserved_descriptors: 100}"])
def test_silent_clients_take_nothing_from_one_that_was_there_before(
    overload: str, tmp_path: Path
) -> None:
    limits = {resource.RLIMIT_NOFILE: _MOST}
    with (
        upstream("web") as port,
        product(configuration(port, overload), tmp_path, limits=limits) as proxy,
        contextlib.ExitStack() as clients,
    ):
        before = clients.enter_context(connect(proxy))
        assert asks(before) == b"HTTP/1.1 200 OK"
        begun = time.monotonic()
        for number in range(_SILENT):
            clients.enter_context(connect(proxy))
            if number % 10 == 0:
                assert asks(before) == b"HTTP/1.1 200 OK"
        seen = "listener.edge.downstream_cx_total"
        eventually(lambda: proxy.stat(seen) > _SILENT, "all of them, by the admin who still can")
        assert proxy.descriptors < _MOST - 32
        for _ in range(20):
            assert asks(before) == b"HTTP/1.1 200 OK"
        # Who comes now and speaks is served too: those who have not said a word for long go first.
        eventually(lambda: time.monotonic() - begun > 3 * SILENT_SECONDS, "they are silent")
        late = clients.enter_context(connect(proxy))
        assert asks(late) == b"HTTP/1.1 200 OK"
        assert proxy.stat("listener.edge.downstream_cx_shed") > 0
        assert proxy.said().count("short of file descriptors") == 1
        assert "Traceback" not in proxy.said()


def test_the_soft_limit_is_raised_to_the_hard_one(tmp_path: Path) -> None:
    with upstream("web") as port, product(configuration(port), tmp_path) as proxy:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert resource.prlimit(proxy.worker, resource.RLIMIT_NOFILE) == (hard, hard)


def test_a_new_worker_that_has_too_few_gets_nobody(tmp_path: Path) -> None:
    few, clients = 64, 80
    with (
        upstream("web") as port,
        product(configuration(port), tmp_path, *control(tmp_path)) as proxy,
        contextlib.ExitStack() as stack,
    ):
        before = [stack.enter_context(connect(proxy)) for _ in range(clients)]
        for client in before:
            assert asks(client) == b"HTTP/1.1 200 OK"
        old = proxy.worker
        # What is started from now on has so many: as of a service whose LimitNOFILE is another now.
        resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE, (few, few))
        done = upgrade(proxy)
        assert done.returncode == 1
        said = re.search(r"the new process lacks descriptors: has room for (\d+)", done.stderr)
        assert said is not None, done.stderr
        assert int(said[1]) < few
        assert done.stderr.count("Error: ") == 1
        eventually(lambda: workers_of(proxy.process.pid) == [old], "the new one has ended")
        for client in (*before, stack.enter_context(connect(proxy))):
            assert asks(client) == b"HTTP/1.1 200 OK"
        assert "Traceback" not in proxy.said()
