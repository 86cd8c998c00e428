"""Real proxies whose old or new worker is stopped in an upgrade: a reason in time, and no client notices more of it.

Who takes the place of whom meanwhile, with workers that are no proxies: tests/supervisor/test_upgrading.py.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.process.product import PATIENCE, ROOT, Product, eventually, product, workers_of
from tests.process.test_successors import holding, owners
from tests.process.test_upgrade import config, control, upgrade

pytestmark = pytest.mark.slow

_CLIENTS = 12
_REQUEST = b"GET /more HTTP/1.1\r\nHost: a\r\n\r\n"


@contextmanager
def scene(tmp_path: Path) -> Iterator[tuple[Product, list[socket.socket]]]:
    """Give a proxy with clients that have been answered once."""
    with ExitStack() as stack:
        web = stack.enter_context(holding())
        text = config(web.port, extra="takeover: {canary: 0s}\n")
        proxy = stack.enter_context(product(text, tmp_path, *control(tmp_path)))
        clients = []
        for _ in range(_CLIENTS):
            client = socket.create_connection(("127.0.0.1", proxy.port), PATIENCE)
            clients.append(stack.enter_context(client))
        ask(clients)
        yield proxy, clients


def ask(clients: list[socket.socket]) -> None:
    for client in clients:
        client.sendall(_REQUEST)
    for client in clients:
        answer = client.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert b"close" not in answer.lower(), "it says goodbye"


def at(tmp_path: Path, step: str, more: str = "") -> dict[str, str]:
    """Return an environment in which workers stop at a step; ``more`` is done first in every process."""
    folder = tmp_path / "stops"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(
        f"import os\n{more}os.environ['XPROXY_FAULT_POINT'] = '{step}:stop'\n"
    )
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def stopped(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return ") T " in Path(f"/proc/{pid}/stat").read_text()
    return False


def wake(proxy: Product, pid: int) -> None:
    """Let it go on until it has ended: it stops again at the same step."""

    def ended() -> bool:
        if stopped(pid):
            os.kill(pid, signal.SIGCONT)
        return pid not in workers_of(proxy.process.pid)

    eventually(ended, "it has given back what it had, and ended")


@pytest.mark.parametrize("step", ["take.accepting", "take.begun"])
def test_what_a_new_worker_has_taken_when_it_is_stopped_goes_back(
    step: str, tmp_path: Path
) -> None:
    with scene(tmp_path) as (proxy, clients):
        (old,) = workers_of(proxy.process.pid)
        done = upgrade(proxy, environment=at(tmp_path, step))
        assert done.returncode == 1
        assert "worker 0 goes on as before: the new process is withdrawn from: it " in done.stderr
        with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as newcomer:
            ask([newcomer])
        new = [pid for pid in workers_of(proxy.process.pid) if pid != old]
        taken = [client for client in clients if owners(client, [old, *new]) == new]
        assert bool(taken) == (step == "take.begun")
        for pid in new:
            wake(proxy, pid)
        ask(clients)
        assert all(owners(client, [old]) == [old] for client in clients)
        assert workers_of(proxy.process.pid) == [old]
        assert proxy.stat("listener.edge.downstream_cx_total") == _CLIENTS + 1
        assert proxy.stat("listener.edge.downstream_rq_total") == 2 * _CLIENTS + 1
        assert upgrade(proxy).returncode == 0
        ask(clients)
        assert proxy.end() == 0


_IMPATIENT = "import xproxy.supervisor.upgrade\nxproxy.supervisor.upgrade.SILENCE = 2.0\n"


@pytest.mark.parametrize("step", ["give.paused", "give.answered"])
def test_an_old_worker_that_is_stopped_goes_on_with_what_it_has(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", at(tmp_path, step, _IMPATIENT)["PYTHONPATH"])
    with scene(tmp_path) as (proxy, clients):
        (old,) = workers_of(proxy.process.pid)
        done = upgrade(proxy)
        if step == "give.paused":
            assert done.returncode == 1
            assert done.stderr == f"Error: the old worker 0 (pid {old}) is stopped for 2 s\n"
            os.kill(old, signal.SIGCONT)
            eventually(lambda: workers_of(proxy.process.pid) == [old], "the new one was ended")
        else:
            said = done.stdout.splitlines()[-1]
            assert (done.returncode, done.stderr) == (0, ""), "the new one serves"
            assert f"the old worker 0 (pid {old}) is stopped: it gives what it has left" in said
            with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as newcomer:
                ask([newcomer])
            wake(proxy, old)
        ask(clients)
        assert proxy.end() == 0
