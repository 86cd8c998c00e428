"""The supervisor of a real proxy goes on in another installation; and in its own, where that one is broken."""

from __future__ import annotations

import http.client
import os
import signal
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
    resident_bytes,
    workers_of,
)
from tests.process.test_upgrade import config, control
from tests.process.upstreams import upstream
from tests.supervisor.test_successor import serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def web() -> Iterator[int]:
    with upstream("web") as port:
        yield port


def installed(folder: Path, name: str, *, before: str = "") -> Path:
    """Return another installation. ``before``: what is done in it before its supervisor is imported."""
    root = folder / name
    (root / "xproxy" / "supervisor").mkdir(parents=True)
    for part in ("", "supervisor"):
        for path in (ROOT / "xproxy" / part).iterdir():
            if path.name not in ("supervisor", "__pycache__"):
                # Links: what is compiled of each is there already.
                (root / "xproxy" / part / path.name).symlink_to(path)
    if before:
        main = root / "xproxy" / "supervisor" / "main.py"
        text = main.read_text().replace("from __future__", "# from __future__")
        main.unlink()
        main.write_text(before + text)
    return root


def upgrade(proxy: Product, root: Path) -> subprocess.CompletedProcess[str]:
    """Upgrade to an installation."""
    return subprocess.run(
        [
            *(sys.executable, "-P", "-m", "xproxy", "upgrade"),
            *("--control", str(proxy.config.parent / "control")),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )


def root_of(pid: int) -> str:
    """Return which installation a process was executed in; empty: it was not said."""
    found = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    paths = [one.decode().partition("=")[2] for one in found if one.startswith(b"PYTHONPATH=")]
    return "".join(paths).partition(":")[0]


def answered(proxy: Product) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE)
    try:
        connection.request("GET", "/x")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def test_nobody_notices_and_all_goes_on(web: int, tmp_path: Path) -> None:
    next_one, third = (installed(tmp_path, name) for name in ("next", "third"))
    with product(config(web, 2), tmp_path, *control(tmp_path)) as proxy:
        pid = proxy.process.pid
        with load(proxy.port, 8) as clients:
            clients.wait(200)
            for root in (next_one, third):
                done = upgrade(proxy, root)
                assert (done.returncode, done.stderr) == (0, "")
                assert "the supervisor goes on in it, too\n" in done.stdout
                assert root_of(pid) == str(root)
                clients.wait(200)
        assert set(clients.outcomes) == {"ok"}, clients.outcomes
        eventually(lambda: len(workers_of(pid)) == 2, "the former ones have ended")
        assert resident_bytes(pid) <= 15 * 1024 * 1024
        dead = workers_of(pid)
        for worker in dead:
            os.kill(worker, signal.SIGKILL)
        # Whoever connects waits in the queue of a socket that the supervisor has kept open.
        assert answered(proxy)
        eventually(lambda: len(set(workers_of(pid)) - set(dead)) == 2, "both are started again")
        eventually(lambda: len(serving(tmp_path / "control")) == 2, "both serve")
        assert {root_of(worker) for worker in workers_of(pid)} == {str(third)}
        assert proxy.end() == 0
        assert not (tmp_path / "control").exists()
        assert "Traceback" not in proxy.said()


_IMPORTED = """
import os
_resumes = os.environ.get("XPROXY_RESUME", "")
if _resumes{}:
    raise ImportError("half installed")
"""


@pytest.mark.parametrize(
    ("when", "why"),
    [
        (' == "try"', "the new one has ended with exit code 1 in its self-test"),
        (".isdigit()", "the new one could not: ImportError: half installed"),
    ],
)
def test_a_broken_one_leaves_the_former(when: str, why: str, web: int, tmp_path: Path) -> None:
    broken = installed(tmp_path, "broken", before=_IMPORTED.format(when))
    with product(config(web), tmp_path, *control(tmp_path)) as proxy:
        pid, before = proxy.process.pid, root_of(proxy.process.pid)
        with load(proxy.port, 4) as clients:
            clients.wait(100)
            done = upgrade(proxy, broken)
            assert done.returncode == 0, "the workers are fine"
            assert done.stderr == f"Warning: the supervisor stays as it was: {why}\n"
            clients.wait(100)
        assert set(clients.outcomes) == {"ok"}, clients.outcomes
        assert root_of(pid) == before
        (dead,) = workers_of(pid)[-1:]
        os.kill(dead, signal.SIGKILL)
        assert answered(proxy)
        assert upgrade(proxy, installed(tmp_path, "mended")).returncode == 0
        assert root_of(pid) == str(tmp_path / "mended")
        assert proxy.end() == 0
