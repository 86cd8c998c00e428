"""Starting, reloading and ending a real process, under load: nobody may notice."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.load import load
from tests.process.product import PATIENCE, ROOT, eventually, product, read_to_reset, with_admin
from tests.process.upstreams import upstream

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def web() -> Iterator[int]:
    with upstream("web") as port:
        yield port


def configuration(port: int, *, retry: bool = False, extra: str = "", timeouts: str = "{}") -> str:
    filters = ", filters: [request_id]" if retry else ""
    return (
        "listeners:\n"
        f"  - {{name: edge, address: '127.0.0.1:0', routes: main, timeouts: {timeouts}}}\n{extra}"
        f"routes: {{main: [{{cluster: web{filters}}}]}}\n"
        f"clusters: {{web: {{endpoints: ['127.0.0.1:{port}']}}}}\n"
    )


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``xproxy`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "xproxy", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=ROOT,
    )


# ---- starting


def test_it_prints_a_line_for_each_listener_when_it_is_ready(web: int, tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    extra = f"  - {{name: inner, address: 'unix:{path}', routes: main}}\n"
    with product(configuration(web, extra=extra), tmp_path) as proxy:
        assert set(proxy.ports) >= {"edge"}
        for family, address in (
            (socket.AF_INET, ("127.0.0.1", proxy.port)),
            (socket.AF_UNIX, str(path)),
        ):
            with socket.socket(family) as client:
                client.settimeout(PATIENCE)
                client.connect(address)
                client.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
                assert client.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_port_that_is_taken_is_one_line_and_exit_code_1(web: int, tmp_path: Path) -> None:
    config = tmp_path / "x.yaml"
    config.write_text(configuration(web).replace("127.0.0.1:0", f"127.0.0.1:{web}"))
    done = command("run", "-c", str(config))
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{web}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_file_is_every_mistake_and_exit_code_2(tmp_path: Path) -> None:
    config = tmp_path / "x.yaml"
    config.write_text("listeners:\n  - {name: edge, adress: '127.0.0.1:0', routes: nowhere}\n")
    done = command("run", "-c", str(config))
    assert done.returncode == 2
    assert f"{config}:2:" in done.stderr
    assert "did you mean" in done.stderr
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


# ---- reloading


def test_reloads_under_load_fail_no_request_and_close_no_connection(
    web: int, tmp_path: Path
) -> None:
    with product(configuration(web), tmp_path) as proxy, load(proxy.port, 8) as clients:
        clients.wait(200)
        for n in range(6):
            proxy.reload(with_admin(configuration(web, retry=n % 2 == 0), proxy.admin))
            clients.wait(200)
        clients.stop()
        assert not clients.failed, clients.outcomes
        assert set(clients.outcomes) == {"ok"}
        assert proxy.stat("listener.edge.downstream_cx_total") == 8
        assert proxy.stat("cluster.web.upstream_cx_connect_fail") == 0
        proxy.settled()
        assert "Traceback" not in proxy.said()


def test_reloads_that_change_the_cluster_fail_no_request(web: int, tmp_path: Path) -> None:
    with upstream("web") as other, product(configuration(web), tmp_path) as proxy:
        with load(proxy.port, 8) as clients:
            for n in range(6):
                proxy.reload(with_admin(configuration(web if n % 2 else other), proxy.admin))
                clients.wait(200)
        assert set(clients.outcomes) == {"ok"}, clients.outcomes
        proxy.settled()


def test_reloads_in_a_row_hold_no_memory_and_no_descriptor(web: int, tmp_path: Path) -> None:
    with product(configuration(web), tmp_path) as proxy:
        descriptors, resident = [], []
        for n in range(50):
            proxy.reload(
                with_admin(configuration(web, timeouts=f"{{idle: {n + 1}s}}"), proxy.admin)
            )
            if n % 10 == 9:
                descriptors.append(proxy.descriptors)
                resident.append(proxy.resident)
        assert descriptors[-1] <= descriptors[0] + 1
        # What the allocator takes comes now and then; what is kept of a reload comes with each ten of them.
        grown = [after - before for before, after in itertools.pairwise(resident)]
        assert min(grown) < 1 << 20, grown


def test_a_bad_file_changes_nothing_and_says_why(web: int, tmp_path: Path) -> None:
    with product(configuration(web), tmp_path) as proxy, load(proxy.port, 4) as clients:
        clients.wait(50)
        before = proxy.page("/config_dump")
        for text, told in (
            ("listeners: nonsense\n", "nothing has changed"),
            (configuration(web).replace("cluster: web", "cluster: wed"), "wed"),
            ("\0", "nothing has changed"),
        ):
            said = len(proxy.said())
            proxy.config.write_text(text)
            proxy.process.send_signal(signal.SIGHUP)
            eventually(lambda: told in proxy.said()[said:], told)  # noqa: B023  # called in this round
            clients.wait(50)
        proxy.config.unlink()
        proxy.process.send_signal(signal.SIGHUP)
        eventually(lambda: "cannot be read" in proxy.said(), "the missing file")
        clients.wait(50)
        assert proxy.page("/config_dump") == before
        assert proxy.process.poll() is None
    assert set(clients.outcomes) == {"ok"}


# ---- ending


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_drain_under_load_fails_no_request_and_exits_0(
    number: signal.Signals, web: int, tmp_path: Path
) -> None:
    with product(configuration(web), tmp_path) as proxy, load(proxy.port, 16) as clients:
        clients.wait(300)
        assert proxy.end(number) == 0
        clients.stop()
        assert not clients.failed, clients.outcomes
        assert clients.outcomes["refused"] >= 1
        assert "Traceback" not in proxy.said()


def test_an_idle_proxy_ends_at_once(web: int, tmp_path: Path) -> None:
    with product(configuration(web), tmp_path) as proxy:
        assert proxy.end() == 0


def test_what_does_not_end_is_cut_off_at_the_deadline(web: int, tmp_path: Path) -> None:
    with product(configuration(web, timeouts="{drain: 500ms}"), tmp_path) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(b"GET /size/100000000 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(15) == b"HTTP/1.1 200 OK"
            assert proxy.end() == 0
            assert read_to_reset(client)
        assert "1 connections cut off at the drain deadline (timeouts.drain)" in proxy.said()


def test_a_second_signal_ends_it_at_once(web: int, tmp_path: Path) -> None:
    with (
        product(configuration(web), tmp_path) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as client,
    ):
        client.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        eventually(lambda: proxy.stat("listener.edge.downstream_rq_active") == 1, "the request")
        proxy.process.send_signal(signal.SIGTERM)
        eventually(lambda: "SIGTERM: draining" in proxy.said(), "the drain")
        proxy.process.send_signal(signal.SIGHUP)
        eventually(lambda: "SIGHUP: ignored" in proxy.said(), "the refusal")
        assert proxy.end() == 0


def test_readiness_says_that_it_drains(web: int, tmp_path: Path) -> None:
    with product(configuration(web), tmp_path) as proxy:
        with (
            socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as client,
            socket.create_connection(("127.0.0.1", proxy.admin), PATIENCE) as probe,
        ):
            probe.sendall(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"LIVE" in probe.recv(65536)
            client.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
            eventually(lambda: proxy.stat("listener.edge.downstream_rq_active") == 1, "the request")
            probe.sendall(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n")
            os.kill(proxy.process.pid, signal.SIGTERM)
            eventually(lambda: "SIGTERM: draining" in proxy.said(), "the drain")
            probe.sendall(b"\r\n")
            assert probe.recv(65536).startswith(b"HTTP/1.1 503 ")
            client.sendall(b"hello")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        assert proxy.process.wait(PATIENCE) == 0


def test_sigterm_is_seen_while_a_reload_waits_for_its_file(web: int, tmp_path: Path) -> None:
    with product(configuration(web), tmp_path) as proxy:
        proxy.config.unlink()
        os.mkfifo(proxy.config)  # nobody will ever write into it
        proxy.process.send_signal(signal.SIGHUP)
        eventually(lambda: waits_for_a_pipe(proxy.worker), "the reload")
        assert proxy.stat("listener.edge.downstream_cx_total") == 0, "it goes on serving"
        assert proxy.end() == 0


def waits_for_a_pipe(pid: int) -> bool:
    """Say whether a thread of a process is in open(2), where it waits for the other end of a pipe."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        call = (task / "syscall").read_text().split()
        # open(2), openat(2): numbers of x86-64 and of ARM.
        if int(task.name) != pid and call[0] in ("2", "257", "56"):
            return True
    return False
