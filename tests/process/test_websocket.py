"""WebSocket as people use it: a real client and server, direct and through the proxy, with the same results."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
import websockets.exceptions
import websockets.frames
import websockets.streams
from websockets.sync.client import ClientConnection, connect

from tests.process import websocket_echo
from tests.process.product import PATIENCE, Product, eventually, product, unused_port
from tests.process.upstreams import running, upstream

pytestmark = pytest.mark.slow

MIB: Final = 1 << 20
LARGE: Final = bytes(range(256)) * (16 * MIB // 256)


@attrs.frozen
class Ways:
    """Ports by the way that leads to the same server."""

    proxy: Product
    ports: dict[str, int]


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    inner = unused_port()
    server = [sys.executable, websocket_echo.__file__]
    with running(server, int) as (port, _), upstream("web") as web:
        text = (
            "listeners:\n"
            "  - {name: edge, address: '127.0.0.1:0', routes: main}\n"
            "  - {name: first, address: '127.0.0.1:0', routes: first}\n"
            f"  - {{name: inner, address: '127.0.0.1:{inner}', routes: main}}\n"
            "routes:\n"
            "  main:\n"
            "    - {match: {path: {prefix: /no}}, cluster: echo, timeout: 2s}\n"
            "    - {hosts: [raw.example], cluster: raw, allow_connect: true}\n"
            "    - {cluster: echo, allow_upgrade: [websocket], timeout: 2s}\n"
            "  first:\n"
            "    - {cluster: inner, allow_upgrade: [websocket], allow_connect: true}\n"
            "clusters:\n"
            f"  echo: {{codec: http1, endpoints: ['127.0.0.1:{port}']}}\n"
            f"  inner: {{codec: http2, endpoints: ['127.0.0.1:{inner}']}}\n"
            f"  raw: {{codec: opaque, endpoints: ['127.0.0.1:{web}']}}\n"
        )
        with product(text, tmp_path_factory.mktemp("websocket")) as proxy:
            ports = {"direct": port, "http1": proxy.port, "http1-http2-http1": proxy.ports["first"]}
            yield Ways(proxy, ports)


WAYS: Final = ("direct", "http1", "http1-http2-http1")


def dial(ways: Ways, way: str, path: str = "/", **options: Any) -> ClientConnection:  # Any: theirs
    client: ClientConnection = connect(
        f"ws://127.0.0.1:{ways.ports[way]}{path}",
        max_size=websocket_echo.LARGEST,
        open_timeout=PATIENCE,
        close_timeout=PATIENCE,
        proxy=None,
        **options,
    )
    return client


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("compression", ["deflate", None])
def test_messages(ways: Ways, way: str, compression: str | None) -> None:
    with dial(ways, way, compression=compression) as client:
        extensions = [extension.name for extension in client.protocol.extensions]
        assert extensions == (["permessage-deflate"] if compression else [])
        for message in ("text: caf\u00e9 \u4f60", b"\0\1\2 binary", "", b"", "x" * 70_000):
            client.send(message)
            assert client.recv(PATIENCE) == message
        client.send(["one ", "two ", "three"])
        assert client.recv(PATIENCE) == "one two three"
        assert client.ping(b"x").wait(PATIENCE)
        client.close(4444, "done")
        assert (client.close_code, client.close_reason) == (4444, "done")


@pytest.mark.parametrize("way", WAYS)
def test_a_large_message(ways: Ways, way: str) -> None:
    with dial(ways, way, compression=None) as client:
        client.send(LARGE)
        assert client.recv(2 * PATIENCE) == LARGE


@pytest.mark.parametrize("way", WAYS)
def test_many_messages_under_way_at_once(ways: Ways, way: str) -> None:
    with dial(ways, way) as client:
        sent = [f"message {number} {'y' * (number * 37 % 3000)}" for number in range(500)]
        for message in sent:
            client.send(message)
        assert [client.recv(PATIENCE) for _ in sent] == sent


@pytest.mark.parametrize("way", WAYS)
def test_the_server_closes_with_its_code(ways: Ways, way: str) -> None:
    with dial(ways, way, "/close") as client:
        with pytest.raises(websockets.exceptions.ConnectionClosedError):
            client.recv(PATIENCE)
        assert (client.close_code, client.close_reason) == (websocket_echo.GONE, "enough")


@pytest.mark.parametrize("way", WAYS)
def test_the_server_pings(ways: Ways, way: str) -> None:
    with dial(ways, way, "/ping") as client:
        assert client.recv(PATIENCE) == "True"


@pytest.mark.parametrize("way", WAYS)
def test_subprotocols_are_agreed_on(ways: Ways, way: str) -> None:
    with dial(ways, way, subprotocols=["first", "other"]) as client:
        assert client.subprotocol == "first"


@pytest.mark.parametrize("way", WAYS)
def test_a_refusal_arrives_as_it_is(ways: Ways, way: str) -> None:
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused, dial(ways, way, "/refuse"):
        pass
    response = refused.value.response
    assert response.status_code == 403
    assert bytes(response.body or b"") == b"not you\n"


def test_an_upgrade_that_no_route_allows_is_an_ordinary_request(ways: Ways) -> None:
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused, dial(ways, "http1", "/no"):
        pass
    assert refused.value.response.status_code == 426  # the server's own: it saw no wish


def test_a_tunnel_outlives_the_routes_timeout_and_is_counted(ways: Ways) -> None:
    proxy = ways.proxy
    name = "listener.edge.downstream_tunnels_"
    before = proxy.stat(f"{name}total")
    with dial(ways, "http1") as client:
        eventually(lambda: proxy.stat(f"{name}active") == 1, "it is counted")
        with pytest.raises(TimeoutError):
            client.recv(3.0)  # the route's timeout is 2 s
        client.send("still here")
        assert client.recv(PATIENCE) == "still here"
    eventually(lambda: proxy.stat(f"{name}active") == 0, "it is not counted any more")
    assert proxy.stat(f"{name}total") == before + 1


class Stream:
    """One extended CONNECT of an h2 client, which has no other streams."""

    def __init__(self, port: int, **headers: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        config = h2.config.H2Configuration(
            client_side=True, validate_outbound_headers=False, header_encoding="utf-8"
        )
        self.connection = h2.connection.H2Connection(config)
        self.connection.initiate_connection()
        self.flush()
        self.headers: dict[str, str] = {}
        self.reader = websockets.streams.StreamReader()
        self.reset: int | None = None
        self.ended = False
        self.offered = False
        self.until(lambda: self.offered)
        self.id = self.connection.get_next_available_stream_id()
        fields = {
            ":method": "CONNECT",
            ":protocol": "websocket",
            ":scheme": "http",
            ":path": "/",
            ":authority": "example",
            "sec-websocket-version": "13",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        path = headers.get("path")
        if path is not None:
            del fields["path"]
            fields[":path"] = path
        self.connection.send_headers(self.id, list(fields.items()))
        self.flush()

    def flush(self) -> None:
        self.socket.sendall(self.connection.data_to_send())

    def until(self, holds: Any) -> None:  # Any: a function without arguments
        while not holds():
            data = self.socket.recv(65536)
            assert data, "the proxy closed the connection"
            for event in self.connection.receive_data(data):
                self._take(event)
            self.flush()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RemoteSettingsChanged):
            setting = h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL
            change = event.changed_settings.get(setting)
            self.offered = self.offered or (change is not None and change.new_value == 1)
        elif isinstance(event, h2.events.ResponseReceived):
            self.headers = {str(name): str(value) for name, value in event.headers}
        elif isinstance(event, h2.events.DataReceived):
            self.reader.feed_data(event.data)
            self.connection.acknowledge_received_data(event.flow_controlled_length, self.id)
        elif isinstance(event, h2.events.StreamEnded):
            self.ended = True
        elif isinstance(event, h2.events.StreamReset):
            self.reset = int(event.error_code)

    def send(self, opcode: websockets.frames.Opcode, payload: bytes) -> None:
        frame = websockets.frames.Frame(opcode, payload).serialize(mask=True)
        while frame:
            self.until(lambda: self.connection.local_flow_control_window(self.id) > 0)
            room = min(self.connection.local_flow_control_window(self.id), 16384)
            self.connection.send_data(self.id, frame[:room])
            self.flush()
            frame = frame[room:]

    def receive(self) -> websockets.frames.Frame:
        parser = websockets.frames.Frame.parse(self.reader.read_exact, mask=False, max_size=None)
        while True:
            try:
                next(parser)
            except StopIteration as done:
                frame: websockets.frames.Frame = done.value
                return frame
            before = len(self.reader.buffer)
            self.until(lambda before=before: len(self.reader.buffer) > before)

    def close(self) -> None:
        self.socket.close()


@pytest.fixture(params=["edge", "first"])
def http2_port(request: pytest.FixtureRequest, ways: Ways) -> int:
    """HTTP/2 → HTTP/1.1, and HTTP/2 → HTTP/2 → HTTP/1.1."""
    return ways.proxy.ports[request.param]


def test_a_websocket_over_http2(http2_port: int) -> None:
    stream = Stream(http2_port, sec_websocket_protocol="first")
    stream.until(lambda: stream.headers)
    assert stream.headers[":status"] == "200"
    assert stream.headers["sec-websocket-protocol"] == "first"
    assert not {"sec-websocket-accept", "upgrade", "connection"} & stream.headers.keys()
    for payload in (b"hello", LARGE[:MIB]):
        stream.send(websockets.frames.Opcode.BINARY, payload)
        assert stream.receive().data == payload
    stream.send(websockets.frames.Opcode.PING, b"x")
    assert stream.receive().opcode is websockets.frames.Opcode.PONG
    stream.send(websockets.frames.Opcode.CLOSE, b"\x03\xe8")
    assert stream.receive().opcode is websockets.frames.Opcode.CLOSE
    stream.until(lambda: stream.ended)  # the server closed its connection
    assert stream.reset is None
    stream.close()


def test_a_refusal_over_http2(http2_port: int) -> None:
    stream = Stream(http2_port, path="/refuse")
    stream.until(lambda: stream.ended)
    assert stream.headers[":status"] == "403"
    stream.close()


def test_an_upgrade_over_http2_that_no_route_allows_is_refused(ways: Ways) -> None:
    stream = Stream(ways.proxy.port, path="/no")
    stream.until(lambda: stream.headers)
    assert stream.headers[":status"] == "501"
    stream.close()


@pytest.mark.tool("curl")
@pytest.mark.parametrize("listener", ["edge", "first"])
def test_curl_through_a_tunnel(ways: Ways, listener: str) -> None:
    """CONNECT ends at a cluster without a codec, over one hop and over HTTP/2 between two."""
    proxy = f"http://127.0.0.1:{ways.proxy.ports[listener]}"
    command = ["curl", "-sS", "-p", "-x", proxy, "--noproxy", "", "--max-time", "200"]
    command += ["http://raw.example:80/size/3000000", "http://raw.example:80/x"]
    done = subprocess.run(command, capture_output=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(rb"\d+ /x\n$", done.stdout)
    assert len(done.stdout) > 3_000_000


@pytest.mark.tool("curl")
def test_a_tunnel_that_no_route_allows(ways: Ways) -> None:
    proxy = f"http://127.0.0.1:{ways.proxy.port}"
    command = ["curl", "-sS", "-p", "-x", proxy, "--noproxy", "", "--max-time", "200"]
    done = subprocess.run(
        [*command, "http://other.example:80/"], capture_output=True, timeout=240, check=False
    )
    assert done.returncode == 56
    assert b"501" in done.stderr


@pytest.mark.parametrize("version", [1, 2])
def test_a_tunnel_ends_at_the_drains_deadline(version: int, tmp_path: Path) -> None:
    with running([sys.executable, websocket_echo.__file__], int) as (port, _):
        text = (
            "listeners:\n"
            "  - {name: edge, address: '127.0.0.1:0', routes: main, timeouts: {drain: 3s}}\n"
            "routes: {main: [{cluster: echo, allow_upgrade: [websocket]}]}\n"
            f"clusters: {{echo: {{codec: http1, endpoints: ['127.0.0.1:{port}']}}}}\n"
        )
        with product(text, tmp_path) as proxy:
            if version == 1:
                _drain_http1(proxy)
            else:
                _drain_http2(proxy)
            assert proxy.process.wait(PATIENCE) == 0


def _drain_http1(proxy: Product) -> None:
    with dial(Ways(proxy, {"http1": proxy.port}), "http1") as client:
        client.send("before")
        assert client.recv(PATIENCE) == "before"
        proxy.process.send_signal(signal.SIGTERM)
        client.send("while it drains")
        assert client.recv(PATIENCE) == "while it drains"
        with pytest.raises(websockets.exceptions.ConnectionClosedError):
            client.recv(PATIENCE)


def _drain_http2(proxy: Product) -> None:
    stream = Stream(proxy.port)
    stream.until(lambda: stream.headers)
    began = time.monotonic()
    proxy.process.send_signal(signal.SIGTERM)
    # The package takes a GOAWAY for the end of the connection, so from here on the test reads by itself.
    with stream.socket as sock, contextlib.suppress(ConnectionResetError):
        while sock.recv(65536):
            pass
    assert time.monotonic() - began > 2.9
