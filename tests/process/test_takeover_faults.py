"""A takeover in which either process dies, stands still or fails at each of its steps: every connection has an owner.

What was not taken is served on by the old one, what was taken by the new one; who was killed takes with it what was
its own, and nothing else. And whoever comes then is served.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import attrs
import pytest

from tests.certificates import Authority
from tests.process.load import REQUEST
from tests.process.product import PATIENCE, eventually
from tests.process.upstreams import upstream
from tests.process.workers import Worker, Workers, workers
from xproxy.migration.faults import STEPS

pytestmark = pytest.mark.slow
CONNECTIONS: Final = 12
NAME: Final = "edge.test"
GIVES: Final = [step for step in STEPS if step.startswith("give.")]
TAKES: Final = [step for step in STEPS if step.startswith("take.")]
BEFORE: Final = ("give.begin", "give.described", "take.begin", "take.ready")
"""Steps at which nothing has changed for anybody."""


@attrs.define(eq=False)
class Scene:
    """A proxy with clients, in clear and in TLS, that have all been answered once."""

    them: Workers
    _trusting: ssl.SSLContext
    _stack: ExitStack
    clients: list[socket.socket] = attrs.field(factory=list)

    def connect(self) -> None:
        """Let clients come, in clear and in TLS."""
        for number in range(CONNECTIONS):
            client = socket.create_connection(("127.0.0.1", self.them.port), PATIENCE)
            if number % 3 == 0:
                client = self._trusting.wrap_socket(client, server_hostname=NAME)
            self.clients.append(self._stack.enter_context(client))

    def answered(self, client: socket.socket) -> bool:
        """Ask, and say whether the answer came; False: the connection has ended."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            client.sendall(REQUEST)
            received = b""
            while not received.endswith(b"\r\n\r\n") and b"\r\n\r\n" not in received:
                data = client.recv(65536)
                if not data:
                    return False
                received += data
            assert received.startswith(b"HTTP/1.1 200 "), received
            return True
        return False

    def lost(self) -> int:
        """Ask on every connection, twice; return how many have ended."""
        return sum(not (self.answered(client) and self.answered(client)) for client in self.clients)

    def serves_newcomers(self) -> None:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", self.them.port), PATIENCE) as client:
                assert self.answered(client)


@contextlib.contextmanager
def scene(tmp_path: Path) -> Iterator[Scene]:
    authority = Authority(tmp_path / "certificates")
    shown = authority.issue(NAME)
    with upstream("web") as port, ExitStack() as stack:
        text = (
            "listeners:\n"
            "  - name: edge\n"
            "    address: '{0}'\n"
            "    routes: main\n"
            f"    tls: {{certificates: [{{cert: {shown.cert}, key: {shown.key}}}]}}\n"
            "routes: {main: [{cluster: web}]}\n"
            f"clusters: {{web: {{endpoints: ['127.0.0.1:{port}']}}}}\n"
        )
        them = stack.enter_context(workers(text, tmp_path))
        trusting = ssl.create_default_context(cafile=str(authority.ca))
        yield Scene(them, trusting, stack)


def begin(found: Scene, fault: str) -> tuple[Worker, Worker | None]:
    """Start both, one of them with a fault, and let the one give to the other."""
    ours = fault.startswith("give.")
    old = found.them.start("--canary", "0", fault=fault if ours else "")
    found.connect()
    assert found.lost() == 0
    try:
        new: Worker | None = found.them.start(fault="" if ours else fault)
    except AssertionError:
        new = None  # it died before it was ready, as it was to
    old.give()
    return old, new


def moved(said: dict[str, object]) -> int:
    """How many clients' connections the old process knows to have been taken."""
    counts = said["moved"]
    assert isinstance(counts, dict)
    return sum(count for name, count in counts.items() if not name.startswith("upstream"))


@pytest.mark.parametrize("step", TAKES)
def test_the_new_process_is_killed(step: str, tmp_path: Path) -> None:
    with scene(tmp_path) as found:
        old, new = begin(found, f"{step}:kill")
        said = old.wait_for("withdrawn")
        assert said["why"]
        if new is not None:
            assert new.ended() == -signal.SIGKILL
        lost = found.lost()
        assert lost == moved(said)
        assert lost <= 4, "more than were out at a time"
        assert lost == 0 or step in ("take.taken", "take.begun")
        found.serves_newcomers()


@pytest.mark.parametrize("step", GIVES)
def test_the_old_process_is_killed(step: str, tmp_path: Path) -> None:
    with scene(tmp_path) as found:
        old, new = begin(found, f"{step}:kill")
        assert new is not None
        if step == "give.withdraw":
            # It withdraws of itself only if the other one stands still.
            os.kill(new.process.pid, signal.SIGSTOP)
        if step == "give.withdraw" and old.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                old.ended(8)
            os.kill(new.process.pid, signal.SIGCONT)
        if step != "give.withdraw":
            assert old.ended() == -signal.SIGKILL
        said = new.wait_for("alone", "withdrawn")
        lost = found.lost()
        if step in BEFORE or step == "give.paused":
            assert lost == CONNECTIONS, "they were the old one's, and it is dead"
        elif said["step"] == "alone":
            assert lost == CONNECTIONS - moved(said)
        if step == "give.done":
            assert lost == 0
        if said["step"] == "alone":
            found.serves_newcomers()


@pytest.mark.parametrize("step", ["take.received", "take.restored", "take.taken", "take.begun"])
def test_the_new_process_stands_still(step: str, tmp_path: Path) -> None:
    with scene(tmp_path) as found:
        old, new = begin(found, f"{step}:stop")
        assert new is not None
        said = old.wait_for("withdrawn")
        assert "did not answer" in str(said["why"])
        taken = moved(said)
        assert taken == 0 or step in ("take.taken", "take.begun")
        # At each step it stops again: it is woken until it knows.
        for _ in range(100):
            os.kill(new.process.pid, signal.SIGCONT)
            with contextlib.suppress(queue.Empty):
                assert new.wait_for("withdrawn", within=0.1)["why"]
                break
        # Those that it has taken it serves once more, with a goodbye.
        assert found.lost() <= taken
        found.serves_newcomers()


@pytest.mark.parametrize("step", ["give.frozen", "give.offered", "give.answered"])
def test_the_old_process_stands_still(step: str, tmp_path: Path) -> None:
    with scene(tmp_path) as found:
        old, new = begin(found, f"{step}:stop")
        assert new is not None
        state = Path(f"/proc/{old.process.pid}/stat")
        eventually(
            lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "it stands still"
        )
        found.serves_newcomers()
        # At each step it stops again: it is woken until nothing is left.
        for _ in range(200):
            os.kill(old.process.pid, signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                assert old.ended(0.1) == 0
                break
        assert new.wait_for("alone")["why"] == ""
        assert found.lost() == 0


@pytest.mark.parametrize(
    "fault", ["take.received:ctrunc", "take.restored:epipe", "give.offered:epipe"]
)
def test_what_fails_is_said_and_nothing_is_lost(fault: str, tmp_path: Path) -> None:
    with scene(tmp_path) as found:
        old, new = begin(found, fault)
        assert new is not None
        if fault == "take.restored:epipe":
            # It believes that nobody hears it, and the old one hears nothing from it.
            assert "did not answer" in str(old.wait_for("withdrawn")["why"])
            new.wait_for("withdrawn")
        else:
            # Every offer fails: they stay, and go on where they are.
            old.wait_for("giving")
            old.wait_for("giving")
        assert found.lost() == 0
        found.serves_newcomers()
