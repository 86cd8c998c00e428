"""curl, httpx, aiohttp and websockets go on sending while the server answers and closes: they hear what it said.

Each of them in every try, and no try makes the endpoint a failing one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import attrs
import pytest
import websockets.exceptions
from websockets.asyncio.client import connect
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from tests.certificates import Authority
from tests.interop import last_words, uploads
from tests.process.product import PATIENCE, Product, product
from tests.process.upstreams import running

pytestmark = pytest.mark.slow

CODES: Final = (413, 401, 429)
TRIES: Final = 10
SIZES: Final = (200_000, 5_000_000)
PIECE: Final = 50_000


@attrs.frozen
class Scene:
    """Servers that hang up, and the proxy before them."""

    proxy: Product
    ca: Path

    def url(self, way: str) -> str:
        scheme = "https" if way == "tls" else "http"
        return f"{scheme}://127.0.0.1:{self.proxy.ports[way]}"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    work = tmp_path_factory.mktemp("last-words")
    authority = Authority(work, "ca")
    issued = authority.issue("127.0.0.1", file="edge")
    command = [sys.executable, last_words.__file__]
    with (
        running(command, int) as (clear, _),
        running([*command, str(issued.cert), str(issued.key)], int) as (tls, _),
    ):
        certificate = "tls: {certificates: [{cert: edge.pem, key: edge.key}]}"
        text = (
            "listeners:\n"
            "  - {name: clear, address: '127.0.0.1:0', routes: clear}\n"
            "  - {name: brief, address: '127.0.0.1:0', routes: clear, timeouts: {linger: 100ms}}\n"
            "  - {name: long, address: '127.0.0.1:0', routes: clear, timeouts: {linger: 20s}}\n"
            f"  - {{name: tls, address: '127.0.0.1:0', routes: tls, {certificate}}}\n"
            "routes:\n"
            "  clear:\n"
            "    - {hosts: [raw.example], cluster: raw, allow_connect: true}\n"
            "    - {cluster: clear, allow_upgrade: [websocket]}\n"
            "  tls: [{cluster: tls, allow_upgrade: [websocket]}]\n"
            "clusters:\n"
            f"  clear: {{endpoints: ['127.0.0.1:{clear}']}}\n"
            f"  tls: {{endpoints: ['127.0.0.1:{tls}'], tls: {{ca: ca.pem}}}}\n"
            f"  raw: {{codec: opaque, endpoints: ['127.0.0.1:{clear}']}}\n"
        )
        with product(text, work) as proxy:
            yield Scene(proxy, authority.ca)
            assert "Traceback" not in proxy.said()


def heard(proxy: Product, clusters: tuple[str, ...] = ("clear", "tls")) -> None:
    """Check that nobody was blamed, and that nothing is held."""
    proxy.settled()
    stats = proxy.stats()
    for cluster in clusters:
        for name in ("endpoint_failing", "upstream_rq_reset", "upstream_rq_resent"):
            assert stats[f"cluster.{cluster}.{name}"] == 0, f"{cluster}: {name}"


def curl(*options: str, body: bytes) -> str:
    """Upload with curl; returns code and body, or what it complains of."""
    command = ["curl", "-sS", "--noproxy", "", "--max-time", "200", "-X", "POST", "-H", "Expect:"]
    command += ["--data-binary", "@-", "-w", "%{response_code}", *options]
    done = subprocess.run(command, input=body, capture_output=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def with_curl(*options: str) -> Callable[[str, Path, list[int], int, bool], list[str]]:
    def upload(url: str, ca: Path, codes: list[int], size: int, chunked: bool) -> list[str]:
        framing = ["-H", "Transfer-Encoding: chunked"] if chunked else []
        every = ["--cacert", str(ca), *options, *framing]
        return [curl(*every, f"{url}/{code}", body=bytes(size)) for code in codes]

    return upload


def with_library(name: str) -> Callable[[str, Path, list[int], int, bool], list[str]]:
    # In a process of its own: where a body is not sent to its end, aiohttp leaves its sockets to the collector.
    def upload(url: str, ca: Path, codes: list[int], size: int, chunked: bool) -> list[str]:
        framing = "chunked" if chunked else "length"
        done = subprocess.run(
            [sys.executable, uploads.__file__, name, url, str(ca), str(size), framing]
            + [str(code) for code in codes],
            capture_output=True,
            text=True,
            timeout=4 * PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: list[str] = json.loads(done.stdout)
        return found

    return upload


CLIENTS: Final = {
    "curl": with_curl("--http1.1"),
    "curl-http2": with_curl("--http2"),
    "httpx": with_library("httpx"),
    "aiohttp": with_library("aiohttp"),
}


@pytest.mark.tool("curl")
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", ["clear", "tls"])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_refused_upload(client: str, way: str, size: int, chunked: bool, scene: Scene) -> None:
    codes = list(islice(cycle(CODES), TRIES))
    found = CLIENTS[client](scene.url(way), scene.ca, codes, size, chunked)
    assert found == [f"{last_words.BODY.decode()}{code}" for code in codes]
    heard(scene.proxy)


@pytest.mark.tool("curl")
@pytest.mark.parametrize("size", SIZES)
def test_a_refused_upload_in_a_tunnel(size: int, scene: Scene) -> None:
    through = [
        "-p",
        "-x",
        scene.url("long"),
    ]  # so long has curl to read, on a machine busy with other work
    for code in islice(cycle(CODES), TRIES):
        said = curl(*through, f"http://raw.example:80/{code}", body=bytes(size))
        assert said == f"{last_words.BODY.decode()}{code}"
    heard(scene.proxy, ("raw",))


@pytest.mark.parametrize("way", ["clear", "tls"])
def test_a_websocket_that_is_closed_while_its_client_speaks(way: str, scene: Scene) -> None:
    context = None if way == "clear" else ssl.create_default_context(cafile=str(scene.ca))
    url = scene.url(way).replace("http", "ws", 1) + "/orderly"
    for _ in range(TRIES):
        assert asyncio.run(heard_to_the_end(url, context)) == [
            last_words.ENOUGH,
            last_words.ORDERLY,
        ]
    heard(scene.proxy)


async def heard_to_the_end(url: str, context: ssl.SSLContext | None) -> list[object]:
    """Send without end; return what was said, and the code with which it was closed."""
    async with asyncio.timeout(PATIENCE), connect(url, ssl=context, proxy=None) as client:

        async def speak() -> None:
            with contextlib.suppress(websockets.exceptions.ConnectionClosed):
                while True:
                    await client.send(bytes(PIECE))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(speak())
            said: list[object] = []
            with contextlib.suppress(websockets.exceptions.ConnectionClosed):
                while True:
                    said.append(await client.recv())
        return [*said, client.close_code]


def test_a_websocket_that_is_left_while_its_client_speaks(scene: Scene) -> None:
    # In clear, and by hand: what a client has not read when its own write fails, libraries drop, and so does OpenSSL.
    for _ in range(TRIES):
        protocol = ClientProtocol(parse_uri("ws://a.example/"))
        with socket.create_connection(("127.0.0.1", scene.proxy.ports["brief"]), PATIENCE) as sock:
            protocol.send_request(protocol.connect())
            sock.sendall(b"".join(protocol.data_to_send()))
            while protocol.state is State.CONNECTING:
                protocol.receive_data(sock.recv(65536))
            (response,) = protocol.events_received()
            assert isinstance(response, Response)
            assert response.status_code == 101
            protocol.send_binary(bytes(PIECE))
            piece = b"".join(protocol.data_to_send())
            speaker = threading.Thread(target=repeat, args=(sock, piece))
            speaker.start()
            with contextlib.suppress(ConnectionResetError):
                while data := sock.recv(65536):
                    protocol.receive_data(data)
            speaker.join(PATIENCE)
            assert not speaker.is_alive()
        (said,) = protocol.events_received()
        assert isinstance(said, Frame)
        assert said.data == last_words.ENOUGH.encode()
    heard(scene.proxy)


def repeat(sock: socket.socket, piece: bytes) -> None:
    """Send the same until nobody takes it any more."""
    with contextlib.suppress(ConnectionError):
        while True:
            sock.sendall(piece)
