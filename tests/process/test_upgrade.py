"""A real proxy is replaced under load by ``xproxy upgrade``; and what is wrong with the new one changes nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.load import load
from tests.process.product import (
    PATIENCE,
    ROOT,
    Product,
    eventually,
    product,
    with_admin,
    workers_of,
)
from tests.process.upstreams import upstream
from xproxy.supervisor import messages

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def web() -> Iterator[int]:
    with upstream("web") as port:
        yield port


def config(web: int, workers: int = 1, extra: str = "") -> str:
    return (
        f"workers: {workers}\n{extra}"
        "listeners:\n"
        "  - name: edge\n    address: '127.0.0.1:0'\n    routes: main\n"
        "    timeouts: {detect: 2m, head: 2m}\n"  # an upgrade takes long on a busy machine
        "routes: {main: [{cluster: web, timeout: 5m}]}\n"
        f"clusters: {{web: {{endpoints: ['127.0.0.1:{web}']}}}}\n"
    )


def upgrade(
    proxy: Product, *options: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Upgrade a proxy that was started with a control socket in its own folder."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "xproxy", "upgrade"),
            *("--control", str(proxy.config.parent / "control"), *options),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
    )


def control(folder: Path) -> tuple[str, str]:
    return "--control", str(folder / "control")


@pytest.mark.parametrize("workers", [1, 2])
def test_upgrades_under_load_keep_every_connection(workers: int, web: int, tmp_path: Path) -> None:
    with product(config(web, workers), tmp_path, *control(tmp_path)) as proxy:
        before = workers_of(proxy.process.pid)
        with load(proxy.port, 8) as clients:
            clients.wait(200)
            for generation in (2, 3):
                done = upgrade(proxy)
                assert (done.returncode, done.stderr) == (0, "")
                assert f"generation {generation} serves" in done.stdout.splitlines()[-1]
                clients.wait(200)
        # None has ended, and none was told that it would: they have all moved.
        assert set(clients.outcomes) == {"ok"}, clients.outcomes
        eventually(lambda: len(workers_of(proxy.process.pid)) == workers, "the old ones have ended")
        after = workers_of(proxy.process.pid)
        assert not set(before) & set(after)
        # They have begun as batch jobs.
        assert {os.sched_getscheduler(pid) for pid in after} == {os.SCHED_OTHER}
        assert proxy.end() == 0
        assert not (tmp_path / "control").exists()
        assert "Traceback" not in proxy.said()


def test_another_configuration(web: int, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    path = tmp_path / "x.sock"
    with product(config(web), tmp_path, *control(tmp_path)) as proxy:
        inner = f"  - {{name: inner, address: 'unix:{path}', routes: main}}\n"
        text = config(web).replace("routes: {main", inner + "routes: {main")
        other.write_text(with_admin(text, proxy.admin))
        assert upgrade(proxy, "-c", str(other)).returncode == 0
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
        assert upgrade(proxy, "-c", str(proxy.config)).returncode == 0
        eventually(lambda: not path.exists(), "nobody wants it any more")
        assert proxy.end() == 0


def test_a_wrong_new_one_changes_nothing(web: int, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "trio").mkdir()
    (broken / "trio" / "__init__.py").write_text("raise ImportError('half installed')\n")
    bad = tmp_path / "bad.yaml"
    bad.write_text("listeners: nonsense\n")
    with (
        product(config(web), tmp_path, *control(tmp_path)) as proxy,
        load(proxy.port, 4, pause=0.02) as clients,
    ):
        before = workers_of(proxy.process.pid)
        done = upgrade(proxy, "-c", str(bad))
        assert done.returncode == 2
        assert done.stderr.startswith(f"Error: {bad}:1:")
        taken = tmp_path / "taken.yaml"
        taken.write_text(config(web).replace("127.0.0.1:0", f"127.0.0.1:{web}"))
        done = upgrade(proxy, "-c", str(taken))
        assert (done.returncode, done.stderr) == (
            1,
            f"Error: cannot listen on 127.0.0.1:{web}: Address already in use\n",
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.settimeout(PATIENCE)
            client.connect(str(tmp_path / "control"))
            question = {
                "kind": "upgrade",
                "executable": sys.executable,
                "arguments": ["-m", "xproxy", "run", "-c", str(proxy.config)],
                "environment": {"PYTHONPATH": str(broken)},
            }
            messages.send(client, question)
            heard = messages.receive(client)
            assert heard is not None
            assert heard[0]["why"] == "ImportError: half installed"
        missing = tmp_path / "missing.yaml"
        assert upgrade(proxy, "-c", str(missing)).returncode == 2
        done = upgrade(proxy, "--check", "-c", str(bad))
        assert done.returncode == 2
        assert upgrade(proxy, "--check").returncode == 0
        clients.wait(50)
        assert workers_of(proxy.process.pid) == before
        clients.stop()
        assert set(clients.outcomes) == {"ok"}
        assert proxy.end() == 0


def test_sigusr2_upgrades_in_place(web: int, tmp_path: Path) -> None:
    with (
        product(config(web), tmp_path, *control(tmp_path)) as proxy,
        load(proxy.port, 4, pause=0.02) as clients,
    ):
        before = proxy.worker
        proxy.process.send_signal(signal.SIGUSR2)
        eventually(lambda: "generation 2 serves" in proxy.said(), "the upgrade")
        eventually(lambda: before not in workers_of(proxy.process.pid), "the old one has ended")
        clients.wait(50)
        clients.stop()
        assert set(clients.outcomes) == {"ok"}, clients.outcomes
        assert proxy.end() == 0
