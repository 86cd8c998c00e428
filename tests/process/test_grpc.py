"""gRPC with the reference implementation at both ends: through the proxy all is as it is without it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, Event, PingAckReceived, StreamEnded

from tests.certificates import Authority
from tests.process.grpc_lab import SCENARIOS, Lab, lab
from tests.process.product import PATIENCE, Product, eventually, product, refusing_port

pytestmark = pytest.mark.slow

FLOOD_MIB: Final = int(os.environ.get("XPROXY_FLOOD_MIB", "64"))
"""How much goes to a slow reader; ``make soak`` asks for more."""
HELD_BYTES: Final = 48 * 1024 * 1024
"""One stream's window towards the server, and what Python needs beside it."""

CONFIG: Final = """
listeners:
  - {{name: edge, address: '127.0.0.1:0', routes: main}}
  - name: secure
    address: '127.0.0.1:0'
    routes: main
    tls: {{certificates: [{{cert: edge.pem, key: edge.key}}]}}
routes:
  main:
    - match: {{service: lab.Echo, method: Flaky}}
      cluster: echo
      filters: [{{name: retry, on: [unavailable], attempts: 4, back_off: {{base: 1ms}}}}]
    - {{match: {{protocol: grpc, service: lab.Gone}}, cluster: gone}}
    - {{match: {{protocol: grpc, service: lab.Slow}}, cluster: slow, timeout: 2s}}
    - {{match: {{protocol: grpc, service: {{prefix: lab.}}}}, cluster: echo}}
clusters:
  echo:
    endpoints: ['127.0.0.1:{port}']
    circuit_breakers: {{max_retries: 100}}
    keepalive: {{interval: 50ms, timeout: 50ms, max_misses: 1200}}
  slow: {{endpoints: ['127.0.0.1:{silent}']}}
  gone: {{endpoints: ['127.0.0.1:{gone}']}}
"""


@attrs.frozen
class Scene:
    """A server with clients, and the proxy before it."""

    lab: Lab
    proxy: Product
    authority: Path

    def through(self, scenario: str) -> object:
        return self.lab.run(scenario, self.proxy.port)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    work = tmp_path_factory.mktemp("grpc")
    Authority(work, "ca").issue("edge.test", file="edge")
    with lab() as running:
        text = CONFIG.format(port=running.direct, silent=running.direct, gone=refusing_port())
        with product(text, work) as proxy:
            yield Scene(running, proxy, work / "ca.pem")


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_different(name: str, scene: Scene) -> None:
    assert scene.through(name) == scene.lab.run(name, scene.lab.direct)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "unary",
            "metadata",
            "16 MiB",
            "server stream that fails",
            "client stream",
            "both streams",
        ),
        *("failure NOT_FOUND", "concurrent", "deadline", "cancelled", "gone"),
    ],
)
def test_nothing_is_different_over_tls(name: str, scene: Scene) -> None:
    port = scene.proxy.ports["secure"]
    through = scene.lab.run(f"tls {scene.authority} edge.test {name}", port)
    assert through == scene.lab.run(name, scene.lab.direct)


def test_a_failure_is_retried_as_the_route_says(scene: Scene) -> None:
    assert scene.through("retried") == ["OK", ["3"], 3]


def test_a_failure_here_is_said_as_grpc_says_it(scene: Scene) -> None:
    assert scene.through("to gone") == ["UNAVAILABLE", "the upstream cannot be reached"]
    assert scene.through("to nowhere") == ["UNIMPLEMENTED", "no route matches the request"]
    assert "DEADLINE_EXCEEDED" in str(scene.through("slow route"))
    assert scene.through("slow stream") == [["begun"], "DEADLINE_EXCEEDED", {}]


def test_each_call_is_counted_once_by_how_it_ended(scene: Scene) -> None:
    before = scene.proxy.stats()
    wanted = {"ok": 1, "not-found": 1, "data-loss": 1, "cancelled": 1, "deadline-exceeded": 1}
    for scenario in (
        *("unary", "failure NOT_FOUND", "server stream that fails", "cancelled"),
        "deadline in a stream",
    ):
        scene.through(scenario)

    def counted(where: str) -> dict[str, int]:
        after = scene.proxy.stats()
        return {
            name.removeprefix(where): value - before.get(name, 0)
            for name, value in after.items()
            if name.startswith(where) and value != before.get(name, 0)
        }

    # The client and the proxy end a call whose time is over at the same moment: either may be first.
    also = {**wanted, "cancelled": 2}
    del also["deadline-exceeded"]
    for where in ("listener.edge.statuses.", "cluster.echo.statuses."):
        eventually(lambda where=where: counted(where) in (wanted, also), f"{where}: {wanted}")  # type: ignore[misc]  # bound
    scene.proxy.settled()


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("slow readers", "OK"),
        ("stuck uploads", ["OK", "OK"]),
        ("given up", ["eno", ["DEADLINE_EXCEEDED"], "owt", "OK"]),
    ],
)
def test_neighbours_cost_nothing(name: str, right: object, scene: Scene) -> None:
    assert scene.lab.run(name, scene.proxy.port, within=120) == right
    scene.proxy.settled()


def test_a_quiet_stream_outlives_keepalives(scene: Scene) -> None:
    # Its server would end a connection on which we asked as often as the configuration says, and the stream with it.
    assert scene.lab.run("pinging", scene.proxy.port, within=300) == ["eno", "owt", "OK", 1]
    scene.proxy.settled()


def test_a_client_may_ask_for_ever_whether_a_quiet_connection_lives(scene: Scene) -> None:
    before = scene.proxy.stat("listener.edge.downstream_cx_protocol_error")
    pings = 1200  # more control frames than a listener takes at once, and fewer a second than it takes for good
    connection = H2Connection(H2Configuration(header_encoding="utf-8"))
    with socket.create_connection(("127.0.0.1", scene.proxy.port), PATIENCE) as sock:
        seen: list[Event] = []

        def flush() -> None:
            sock.sendall(connection.data_to_send())

        def look(kind: type[Event], count: int, patience: float = PATIENCE) -> bool:
            """Read until so many of a kind have come; False: not in time."""
            end = time.monotonic() + patience
            while sum(isinstance(event, kind) for event in seen) < count:
                assert not any(isinstance(event, ConnectionTerminated) for event in seen)
                sock.settimeout(max(end - time.monotonic(), 1e-4))
                try:
                    data = sock.recv(65536)
                except TimeoutError:
                    return False
                assert data, "the proxy closed the connection"
                seen.extend(connection.receive_data(data))
                sock.settimeout(PATIENCE)
                flush()
            return True

        def say(message: bytes, *, end: bool = False) -> None:
            data = b"\0" + len(message).to_bytes(4, "big") + message
            connection.send_data(1, data, end_stream=end)
            flush()

        connection.initiate_connection()
        head = {":method": "POST", ":scheme": "http", ":authority": "a", ":path": "/lab.Echo/Chat"}
        head |= {"te": "trailers", "content-type": "application/grpc"}
        connection.send_headers(1, list(head.items()))
        say(b"one")
        assert look(DataReceived, 1)
        for number in range(pings):
            connection.ping(number.to_bytes(8, "big"))
            flush()
            look(PingAckReceived, pings + 1, 0.005)
        assert look(PingAckReceived, pings)
        say(b"two", end=True)
        assert look(StreamEnded, 1)
    said = b"".join(event.data for event in seen if isinstance(event, DataReceived))
    assert said == b"\0\0\0\0\3eno\0\0\0\0\3owt"
    assert scene.proxy.stat("listener.edge.downstream_cx_protocol_error") == before
    scene.proxy.settled()


def test_a_slow_reader_holds_the_server_back(scene: Scene) -> None:
    messages = FLOOD_MIB * 16
    before = scene.proxy.resident
    held = scene.through(f"flood {messages}")
    assert isinstance(held, int)
    assert held < messages
    assert scene.proxy.resident - before < HELD_BYTES
    assert scene.lab.run(f"flood {messages}", scene.proxy.port, within=300) == [messages, "OK"]
    scene.proxy.settled()
