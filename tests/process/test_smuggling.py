"""Every way to smuggle a request, against an upstream that logs each byte: nothing of it arrives."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.codecs.http1.test_smuggling import BODIES, HEADS
from tests.process.product import PATIENCE, Product, eventually, product
from tests.process.upstreams import upstream
from xproxy.codecs.http2.wire import SETTINGS

pytestmark = pytest.mark.slow

NEXT = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
ONE_READ = 16_000
"""What is longer does not come in one read: its head is on its way before its fault can be seen."""
GOOD = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n"


@attrs.define(eq=False)
class Scene:
    """The proxy, and what its upstream has seen."""

    proxy: Product
    log: Path

    @property
    def received(self) -> bytes:
        return self.log.read_bytes() if self.log.exists() else b""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    work = tmp_path_factory.mktemp("smuggling")
    log = work / "received"
    with upstream("log", str(log)) as port:
        text = (
            "listeners:\n"
            "  - {name: edge, address: '127.0.0.1:0', routes: main, timeouts: {linger: 50ms}}\n"
            "routes: {main: [{cluster: web}]}\n"
            f"clusters: {{web: {{endpoints: ['127.0.0.1:{port}']}}}}\n"
        )
        with product(text, work) as proxy:
            yield Scene(proxy, log)


def ask(port: int, wire: bytes, cut: int | None = None) -> bytes:
    """Send, in two pieces if ``cut``, and return all that comes."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        try:
            client.sendall(wire[:cut])
            if cut is not None:
                client.sendall(wire[cut:])
            while data := client.recv(65536):
                received += data
        except ConnectionError:  # it did not want to hear the rest
            pass
        return received


def refused(scene: Scene, code: int, wire: bytes) -> None:
    before = scene.received
    for data in (wire + NEXT, GOOD + wire + NEXT):
        answer = ask(scene.proxy.port, data)
        if data.startswith(GOOD):
            assert answer.startswith(b"HTTP/1.1 204 No Content\r\n")
            answer = answer.partition(b"\r\n\r\n")[2]
        elif wire.startswith(b"PRI "):
            # Coming first it is HTTP/2, which says SETTINGS, and GOAWAY to the rest.
            assert answer[3] == SETTINGS
            assert b"a frame of" in answer
            continue
        # What does not even look like HTTP gets no answer in HTTP when it comes first.
        assert not answer or answer.startswith(b"HTTP/1.1 %d " % code)
        assert answer.count(b"HTTP/1.1 ") <= 1
    arrived = scene.received[len(before) :]
    assert arrived.count(b" HTTP/1.1\r\n") == arrived.count(b"GET /good ") == 1, arrived
    assert b"smuggled" not in arrived


@pytest.mark.parametrize("name", HEADS)
def test_nothing_of_a_bad_head_arrives(scene: Scene, name: str) -> None:
    refused(scene, *HEADS[name])


@pytest.mark.parametrize("name", [n for n, (_, wire) in BODIES.items() if len(wire) < ONE_READ])
def test_nothing_of_a_bad_body_arrives(scene: Scene, name: str) -> None:
    refused(scene, *BODIES[name])


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_that_comes_later_never_becomes_a_request(scene: Scene, name: str) -> None:
    # The head is on its way when the body turns out to be wrong: what the upstream has must never be whole.
    _, wire = BODIES[name]
    path = f"/{name}".encode()
    wire = wire.replace(b" / HTTP", b" %b HTTP" % path, 1)
    before = len(scene.received)
    cut = wire.index(b"\r\n\r\n") + 4
    ask(scene.proxy.port, wire + NEXT, cut)
    arrived = scene.received[before:]
    assert b"smuggled" not in arrived
    # On a busy machine the head of a test before this one may come late.
    assert arrived.count(b" %b HTTP/1.1\r\n" % path) <= 1
    assert not arrived.endswith(b"0\r\n\r\n")


def test_nothing_is_left_behind(scene: Scene) -> None:
    eventually(lambda: not scene.proxy.leaks(), "the end of all streams")
    assert "Traceback" not in scene.proxy.said()


def test_the_log_names_nothing_that_a_peer_sent(scene: Scene) -> None:
    assert "smuggled" not in scene.proxy.said()
