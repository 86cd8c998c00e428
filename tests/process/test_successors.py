"""Real proxies of several generations at once: what the older ones have left goes to the newest."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h2.connection
import h2.events
import pytest

from tests.process.load import load
from tests.process.product import PATIENCE, eventually, product, workers_of
from tests.process.test_upgrade import config, control, upgrade

pytestmark = pytest.mark.slow

_HEAD = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n"
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Holding:
    """An upstream that answers a request for ``/hold/NAME`` when it is told to, and all others at once."""

    def __init__(self, listening: socket.socket) -> None:
        self.port = listening.getsockname()[1]
        self.asked: list[str] = []
        self._listening = listening
        self._released: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []

    def release(self, name: str) -> None:
        self._event(name).set()

    def _event(self, name: str) -> threading.Event:
        return self._released.setdefault(name, threading.Event())

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def end(self) -> None:
        """Wait for the threads; whoever has connected must have hung up."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        for event in self._released.values():
            event.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            data = b""
            while more := client.recv(65536):
                data += more
                while b"\r\n\r\n" in data:
                    head, _, data = data.partition(b"\r\n\r\n")
                    held = re.match(rb"GET /hold/(\w+) ", head)
                    if held is not None:
                        self.asked.append(held[1].decode())
                        self._event(held[1].decode()).wait(PATIENCE)
                    client.sendall(_OK)


@contextmanager
def holding() -> Iterator[Holding]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        found = Holding(listening)
        threading.Thread(target=found.accept, daemon=True).start()
        try:
            yield found
        finally:
            found.end()


class Shared:
    """A client of HTTP/2."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.h2 = h2.connection.H2Connection()
        self.h2.initiate_connection()
        self.answered: dict[int, str] = {}

    def ask(self, path: str) -> int:
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)]
        self.h2.send_headers(stream, head, end_stream=True)
        self.socket.sendall(self.h2.data_to_send())
        return stream

    def answer(self, stream: int) -> str:
        """Return the status of an answer that has come whole."""
        whole: set[int] = set()
        while stream not in whole:
            data = self.socket.recv(65536)
            assert data, "it has hung up"
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    fields = {bytes(name): bytes(value) for name, value in event.headers}
                    self.answered[event.stream_id] = fields[b":status"].decode()
                elif isinstance(event, h2.events.StreamEnded):
                    whole.add(event.stream_id)
                assert not isinstance(event, h2.events.StreamReset), event
            self.socket.sendall(self.h2.data_to_send())
        return self.answered[stream]


def owners(client: socket.socket, among: list[int]) -> list[int]:
    """Return which processes have the other end of a client's connection."""
    ours, theirs = client.getsockname()[1], client.getpeername()[1]
    ends = f":{theirs:04X} 0100007F:{ours:04X} "
    lines = Path("/proc/net/tcp").read_text().splitlines()
    inodes = [line.split()[9] for line in lines if ends in line]
    return [pid for pid in among if f"socket:[{inodes[0]}]" in _open(pid)] if inodes else []


def _open(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


def test_what_ends_in_the_oldest_goes_on_in_the_newest(tmp_path: Path) -> None:
    with (
        holding() as web,
        product(config(web.port), tmp_path, *control(tmp_path)) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as busy,
    ):
        shared = Shared(proxy.port)
        with shared.socket:
            assert shared.answer(shared.ask("/more")) == "200"
            stream = shared.ask("/hold/shared")
            busy.sendall(_HEAD % b"/hold/busy")
            eventually(lambda: len(web.asked) == 2, "both are under way")
            (first,) = workers_of(proxy.process.pid)
            for generation in (2, 3):
                done = upgrade(proxy)
                assert (done.returncode, done.stderr) == (0, "")
                assert f"generation {generation} serves" in done.stdout.splitlines()[-1]
            alive = workers_of(proxy.process.pid)
            newest = alive[-1]
            assert alive[0] == first
            assert owners(busy, alive) == [first]
            web.release("busy")
            assert busy.recv(65536).endswith(b"ok")
            eventually(lambda: owners(busy, alive) == [newest], "it goes to the newest")
            assert first in workers_of(proxy.process.pid), "a stream keeps it alive"
            busy.sendall(_HEAD % b"/more")
            assert busy.recv(65536).endswith(b"ok")
            assert shared.answer(shared.ask("/more")) == "200"
            web.release("shared")
            assert shared.answer(stream) == "200"
            eventually(lambda: workers_of(proxy.process.pid) == [newest], "the older ones ended")
            counted = {
                name: proxy.stat(f"listener.edge.{name}")
                for name in ("downstream_cx_total", "downstream_rq_total", "downstream_cx_active")
            }
            assert counted == {
                "downstream_cx_total": 2,
                "downstream_rq_total": 5,
                "downstream_cx_active": 2,
            }
        assert proxy.end() == 0
        assert "Traceback" not in proxy.said()


def test_the_newest_may_die_and_its_successor_gets_what_is_left(tmp_path: Path) -> None:
    with (
        holding() as web,
        product(config(web.port), tmp_path, *control(tmp_path)) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as busy,
    ):
        busy.sendall(_HEAD % b"/hold/busy")
        eventually(lambda: len(web.asked) == 1, "it is under way")
        assert upgrade(proxy).returncode == 0
        first, second = workers_of(proxy.process.pid)
        os.kill(second, signal.SIGKILL)
        eventually(lambda: workers_of(proxy.process.pid)[-1] not in (first, second), "another")
        third = workers_of(proxy.process.pid)[-1]
        web.release("busy")
        assert busy.recv(65536).endswith(b"ok")
        eventually(lambda: owners(busy, [first, third]) == [third], "it goes to the newest")
        eventually(lambda: workers_of(proxy.process.pid) == [third], "the oldest has ended")
        busy.sendall(_HEAD % b"/more")
        assert busy.recv(65536).endswith(b"ok")
        assert proxy.end() == 0


def test_the_oldest_is_named_with_what_it_serves_and_may_be_cut(tmp_path: Path) -> None:
    extra = "takeover: {generations: 1}\n"
    with (
        holding() as web,
        product(config(web.port, extra=extra), tmp_path, *control(tmp_path)) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as busy,
    ):
        busy.sendall(_HEAD % b"/hold/busy")
        eventually(lambda: len(web.asked) == 1, "it is under way")
        (first,) = workers_of(proxy.process.pid)
        assert upgrade(proxy).returncode == 0
        done = upgrade(proxy)
        assert done.returncode == 1
        assert f"the oldest is 1 (pid {first}: 1 http1)" in done.stderr
        assert upgrade(proxy, "--cut-oldest").returncode == 0
        eventually(lambda: first not in workers_of(proxy.process.pid), "it was cut")
        with contextlib.suppress(ConnectionResetError):
            assert b"200 OK" not in busy.recv(65536)
        assert proxy.end() == 0


def test_workers_go_back_where_one_cannot_be_replaced(tmp_path: Path) -> None:
    broken, once = tmp_path / "broken", tmp_path / "once"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import os\n"
        "if 'XPROXY_SUPERVISOR' in os.environ:\n"
        f"    if os.path.exists({str(once)!r}):\n"
        "        os._exit(3)\n"
        f"    open({str(once)!r}, 'w').close()\n"
    )
    with ExitStack() as stack:
        web = stack.enter_context(holding())
        text = config(web.port, workers=2)
        proxy = stack.enter_context(product(text, tmp_path, *control(tmp_path)))
        clients = stack.enter_context(load(proxy.port, 8))
        clients.wait(100)
        first, second = workers_of(proxy.process.pid)
        done = upgrade(proxy, environment={"PYTHONPATH": str(broken)})
        assert done.returncode == 1
        assert done.stderr == (
            "Error: the new worker has ended with exit code 3 before it accepted; it went back\n"
        )
        eventually(lambda: len(workers_of(proxy.process.pid)) == 2, "those on the way have ended")
        alive = workers_of(proxy.process.pid)
        assert second in alive
        assert first not in alive
        for pid in alive:
            assert str(broken).encode() not in Path(f"/proc/{pid}/environ").read_bytes()
        clients.wait(100)
        clients.stop()
        assert set(clients.outcomes) == {"ok"}, clients.outcomes
        assert proxy.end() == 0
