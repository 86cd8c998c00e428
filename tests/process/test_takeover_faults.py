"""A takeover in which either process dies, stands still or fails at each of its steps: every connection has an owner.

What was not taken is served on by the old one, what was taken by the new one; who was killed takes with it what was
its own, and nothing else: of a connection that was taken before the old one died only the streams that this still
served are reset. And whoever comes then is served.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import attrs
import pytest

from tests.certificates import Authority
from tests.process.http2_blocking import serve as serve_streams
from tests.process.in_flight import ENDED, KINDS, RESET, WHOLE, Client, Kind
from tests.process.product import PATIENCE, eventually
from tests.process.serving import echo, head, serving
from tests.process.workers import Worker, Workers, workers
from xproxy.migration import giver, giving, taker, waiting
from xproxy.migration.faults import STEPS

pytestmark = pytest.mark.slow
CONNECTIONS: Final = 6
NAME: Final = "edge.test"
GIVES: Final = [step for step in STEPS if step.startswith("give.")]
TAKES: Final = [step for step in STEPS if step.startswith("take.")]
BEFORE: Final = ("give.begin", "give.described", "give.paused", "take.begin", "take.ready")
"""Steps before any connection stands still."""
every_kind: Final = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def serve_web(connection: socket.socket) -> None:
    with contextlib.suppress(AssertionError):  # it was the last one
        while head(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


SERVERS: Final = {"web": serve_web, "streams": serve_streams, "echo": echo}


@attrs.define(eq=False)
class Scene:
    """A proxy with clients, in clear and in TLS, each of which has been answered once and has something in flight."""

    kind: Kind
    them: Workers
    _trusting: ssl.SSLContext
    _stack: ExitStack
    clients: list[Client] = attrs.field(factory=list)

    def connect(self, *, secured: bool = False) -> Client:
        """Let one more come."""
        client = socket.create_connection(("127.0.0.1", self.them.port), PATIENCE)
        if secured:
            client = self._trusting.wrap_socket(client, server_hostname=NAME)
        self._stack.enter_context(client)
        return self.kind.client(client)

    def fared(self, *, later: bool = True) -> Counter[str]:
        """Bring everything to its end; return how many clients fared how."""
        return Counter(client.fare(later=later) for client in self.clients)

    def serves_newcomers(self) -> None:
        assert self.connect().fare() == WHOLE


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def scene(
    kind: Kind, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Scene]:
    # What the processes are forked with. Those that cannot be idle are not waited for to be so.
    for module in (giver, waiting):
        monkeypatch.setattr(module, "IDLE_FIRST", 0.05)
    shown = authority.issue(NAME)
    with ExitStack() as stack:
        port = stack.enter_context(serving(SERVERS[kind.upstream]))
        text = kind.configuration(port, shown.cert, shown.key)
        them = stack.enter_context(workers(text, tmp_path, forks=True))
        trusting = ssl.create_default_context(cafile=str(authority.ca))
        if kind.alpn:
            trusting.set_alpn_protocols(list(kind.alpn))
        yield Scene(kind, them, trusting, stack)


@pytest.fixture
def stalls_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody is about to stand still: that need not take the time that it may take."""
    for module in (giving, taker):
        monkeypatch.setattr(module, "STALL", 1.5)


def begin(found: Scene, *faults: str) -> tuple[Worker, Worker | None]:
    """Start both, one of them with a fault or each, and let the one give to the other."""
    given = {fault.partition(".")[0]: fault for fault in faults}
    old = found.them.start("--canary", "0", fault=given.get("give", ""))
    for number in range(CONNECTIONS):
        found.clients.append(found.connect(secured=found.kind.tls and number % 3 == 0))
    try:
        new: Worker | None = found.them.start(fault=given.get("take", ""))
    except AssertionError:
        new = None  # it died before it was ready, as it was to
    old.give()
    return old, new


def moved(said: dict[str, object]) -> int:
    """How many clients' connections a process knows to have been taken."""
    counts = said["moved"]
    assert isinstance(counts, dict)
    clients = {name: count for name, count in counts.items() if not name.startswith("upstream")}
    return sum(clients.values())


def named(worker: Worker) -> int:
    """How many streams a process has said to be lost with an older one, and of which protocol they were."""
    pattern = r"an older process has gone: (\d+) http2 streams that it served are reset"
    return sum(map(int, re.findall(pattern, worker.log.read_text())))


@contextlib.contextmanager
def woken(worker: Worker) -> Iterator[None]:
    """Wake one as often as it stands still."""
    over = threading.Event()

    def wake() -> None:
        while not over.wait(0.02) and worker.process.poll() is None:
            os.kill(worker.process.pid, signal.SIGCONT)

    thread = threading.Thread(target=wake)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def stands(worker: Worker) -> None:
    """Wait until one stands still."""
    state = Path(f"/proc/{worker.process.pid}/stat")
    eventually(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "it stands still")


@every_kind
@pytest.mark.parametrize("step", TAKES)
def test_the_new_process_is_killed(step: str, scene: Scene) -> None:
    old, new = begin(scene, f"{step}:kill")
    said = old.wait_for("withdrawn")
    assert said["why"]
    if new is not None:
        assert new.ended() == -signal.SIGKILL
    fared = scene.fared()
    assert fared == Counter({WHOLE: CONNECTIONS - moved(said), ENDED: moved(said)})
    assert fared[ENDED] <= giving.WINDOW, "more than were out at a time"
    assert not fared[ENDED] or step in ("take.taken", "take.begun")
    scene.serves_newcomers()


@every_kind
@pytest.mark.parametrize("step", GIVES)
@pytest.mark.usefixtures("stalls_soon")
def test_the_old_process_is_killed(step: str, scene: Scene) -> None:
    # It withdraws of itself only if the other one stands still.
    stops = ["take.received:stop"] if step == "give.withdraw" else []
    old, new = begin(scene, f"{step}:kill", *stops)
    assert new is not None
    if step == "give.done":
        # Else something is left, where it is relayed.
        assert scene.fared(later=False) == Counter({WHOLE: CONNECTIONS})
    assert old.ended() == -signal.SIGKILL
    with woken(new):
        said = new.wait_for("alone")
    if step == "give.done":
        return
    fared = scene.fared()
    assert fared[ENDED] == CONNECTIONS - moved(said)
    assert fared[ENDED] == CONNECTIONS or step not in BEFORE
    assert fared[RESET] == (moved(said) if scene.kind.relayed else 0)
    assert named(new) == 2 * fared[RESET], "each of its streams is counted"
    scene.serves_newcomers()


@every_kind
@pytest.mark.parametrize("step", ["take.received", "take.restored", "take.taken", "take.begun"])
@pytest.mark.usefixtures("stalls_soon")
def test_the_new_process_stands_still(step: str, scene: Scene) -> None:
    old, new = begin(scene, f"{step}:stop")
    assert new is not None
    said = old.wait_for("withdrawn")
    assert "did not answer" in str(said["why"])
    taken = moved(said)
    assert taken == 0 or step in ("take.taken", "take.begun")
    with woken(new):
        assert new.wait_for("withdrawn")["why"]
        # Those that it has taken it serves to the end of what they have in flight, with a goodbye.
        fared = scene.fared(later=False)
        assert fared == Counter({WHOLE: CONNECTIONS})
    assert scene.fared()[ENDED] <= taken
    scene.serves_newcomers()


@every_kind
@pytest.mark.parametrize("step", ["give.frozen", "give.offered", "give.answered"])
def test_the_old_process_stands_still(step: str, scene: Scene) -> None:
    old, new = begin(scene, f"{step}:stop")
    assert new is not None
    stands(old)
    scene.serves_newcomers()
    with woken(old):
        assert scene.fared() == Counter({WHOLE: CONNECTIONS})
        assert old.ended() == 0
    assert new.wait_for("alone")["why"] == ""


@every_kind
@pytest.mark.parametrize(
    "fault", ["take.received:ctrunc", "take.restored:epipe", "give.offered:epipe"]
)
@pytest.mark.usefixtures("stalls_soon")
def test_what_fails_is_said_and_nothing_is_lost(fault: str, scene: Scene) -> None:
    old, new = begin(scene, fault)
    assert new is not None
    if fault == "take.restored:epipe":
        # It believes that nobody hears it, and the old one hears nothing from it.
        assert "did not answer" in str(old.wait_for("withdrawn")["why"])
        new.wait_for("withdrawn")
    else:
        # Every offer fails: they stay, and go on where they are.
        old.wait_for("giving")
        old.wait_for("giving")
    assert scene.fared() == Counter({WHOLE: CONNECTIONS})
    scene.serves_newcomers()
