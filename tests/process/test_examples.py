"""The examples at work: each as it stands, on other ports, with real requests of several protocols through it."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, TypeAlias

import grpc
import pytest
from websockets.asyncio.client import connect

from tests.process import grpc_echo, websocket_echo
from tests.process.product import PATIENCE, ROOT, Product, product
from tests.process.upstreams import running, upstream
from xproxy.model.frames import Head
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.registry import default_registry

pytestmark = pytest.mark.slow

BODIES: Final[Mapping[str, bytes]] = {
    "bolt": b"ping",
    "dubbo": b"\x04ping",  # a text of hessian2
    "thrift": b"\x0b\x00\x01\x00\x00\x00\x04ping\x00",  # a struct with a text
}
"""What is asked in each protocol. The servers give it back."""
Calling: TypeAlias = "grpc.UnaryUnaryMultiCallable[bytes, bytes]"
SERVICE: Final = "com.example.orders.Orders"


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the examples, and make their certificates as a reader would."""
    folder = tmp_path_factory.mktemp("examples") / "examples"
    shutil.copytree(ROOT / "examples", folder, ignore=shutil.ignore_patterns("certs"))
    subprocess.run([sys.executable, folder / "certificates.py"], check=True, timeout=240)
    return folder


@contextmanager
def example(path: Path, ports: Mapping[int, int]) -> Iterator[Product]:
    """Run an example: its listeners on free ports, its endpoints on those that ``ports`` says for its own ones."""
    text = re.sub(r"^admin: .*\n", "", path.read_text("utf-8"), flags=re.MULTILINE)
    text = re.sub(r"(address: 127\.0\.0\.1):\d+", r"\1:0", text)
    text = re.sub(r"127\.0\.0\.1:(\d{4,})", lambda m: f"127.0.0.1:{ports[int(m[1])]}", text)
    work = path.with_suffix("")
    work.mkdir(exist_ok=True)
    text = text.replace("unix:/tmp/", f"unix:{work}/")
    text = text.replace("certs/", f"{path.parent}/certs/").replace(
        f"../{path.parent}", f"{path.parent}/.."
    )
    with product(text, work) as found:
        yield found


def call(protocol: str, port: int) -> bytes:
    """Make one call and return the answer's body."""
    codec = default_registry().codec(protocol).open(Role.CLIENT, DEFAULT_LIMITS)
    named = Headers((("service", SERVICE),)) if protocol == "bolt" else Headers(())
    head = RequestHead(service=SERVICE, method="place", headers=named, deadline=PATIENCE)
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        client.sendall(codec.send(Head(1, head, BODIES[protocol], end=True)))
        while data := client.recv(65536):
            for frame in codec.receive(data):
                if isinstance(frame, Head):
                    assert isinstance(frame.message, ResponseHead)
                    assert frame.message.status is Status.OK, frame
                    return frame.data
    raise AssertionError("closed without an answer")


def curl(*arguments: str) -> str:
    """Run curl; returns what it prints."""
    command = ["curl", "-sS", "--max-time", "200", "--noproxy", "*", *arguments]
    done = subprocess.run(command, capture_output=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode("latin-1")


def echoed(port: int, said: bytes) -> bytes:
    """Send bytes of no protocol and read what comes back."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        client.sendall(said)
        client.shutdown(socket.SHUT_WR)
        back = b""
        while data := client.recv(65536):
            back += data
    return back


def without_certificate(port: int, ca: Path) -> None:
    """Make a request over TLS, with no certificate to show. TLS 1.3 tells of the refusal after the handshake."""
    context = ssl.create_default_context(cafile=ca)
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as client,
        context.wrap_socket(client, server_hostname="far.example.org") as stranger,
    ):
        stranger.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        stranger.recv(1)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, int]]:
    """Run one of each kind; gives their ports."""
    with ExitStack() as running:
        found = {kind: running.enter_context(upstream(kind)) for kind in ("web", "echo")}
        for protocol in BODIES:
            found[protocol] = running.enter_context(upstream("calls", protocol))
        yield found


@pytest.mark.tool("curl")
def test_edge(examples: Path, servers: Mapping[str, int]) -> None:
    behind = dict.fromkeys(range(8001, 8006), servers["web"])
    with example(examples / "edge.yaml", behind) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        assert curl(f"{url}/healthz") == "ok\n"
        moved = curl("-i", "-H", "Host: example.org", f"{url}/a")
        assert "location: http://www.example.org/a\r\n" in moved.lower()
        assert "/api/a\n" in curl("-H", "Host: www.example.org", f"{url}/api/a")
        assert curl("-T", __file__, f"{url}/upload/").startswith(
            f"{Path(__file__).stat().st_size} "
        )
        proxy.settled()


def test_raw_tcp(examples: Path, servers: Mapping[str, int]) -> None:
    behind = dict.fromkeys((5432, 5433, 5434), servers["echo"])
    with example(examples / "l4.yaml", behind) as proxy:
        assert echoed(proxy.ports["database"], b"select 1") == b"select 1"
        local = proxy.config.parent / "xproxy-database.sock"
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(local))
            client.sendall(b"select 2")
            assert client.recv(64) == b"select 2"
        # A balancer may say who the client is; nobody else.
        assert echoed(proxy.ports["behind-a-balancer"], b"") == b""
        proxy.settled()


@pytest.mark.tool("curl")
def test_mixed(examples: Path, servers: Mapping[str, int]) -> None:
    behind = dict.fromkeys((12200, 12201, 12202, 12203), servers["bolt"])
    behind |= {8001: servers["web"], 9001: servers["dubbo"], 7001: servers["echo"]}
    with example(examples / "mixed.yaml", behind) as proxy:
        port = proxy.ports["mixed"]
        for version in ("--http1.1", "--http2-prior-knowledge"):
            assert "/x\n" in curl(version, f"http://127.0.0.1:{port}/x")
        for protocol in ("bolt", "dubbo"):
            assert call(protocol, port) == BODIES[protocol]
        assert echoed(port, b"(nobody's protocol)") == b"(nobody's protocol)"
        proxy.settled()


@pytest.mark.tool("curl")
def test_sidecars(examples: Path, servers: Mapping[str, int]) -> None:
    local = {
        8080: servers["web"],
        12200: servers["bolt"],
        20880: servers["dubbo"],
        9090: servers["thrift"],
    }
    with (
        example(examples / "sidecar/ingress.yaml", local) as ingress,
        example(examples / "sidecar/egress.yaml", {15006: ingress.ports["ingress"]}) as egress,
    ):
        port = egress.ports["egress"]
        to = f"http://reviews:{port}/reviews/0"
        for version in ("--http1.1", "--http2-prior-knowledge"):
            answer = curl(
                "-w", "%{http_version}", "--resolve", f"reviews:{port}:127.0.0.1", version, to
            )
            assert "/reviews/0\n" in answer
            assert answer.endswith("1.1" if version == "--http1.1" else "2")
        for protocol in ("bolt", "dubbo", "thrift"):
            assert call(protocol, port) == BODIES[protocol]
        # The two web requests, of two versions, went over one connection of HTTP/2 from proxy to proxy.
        assert egress.stat("cluster.reviews.upstream_cx_total") == 1
        assert ingress.stat("cluster.web.upstream_rq_total") == 2
        for name in ("bolt", "dubbo", "thrift"):
            assert ingress.stat(f"cluster.{name}.upstream_rq_total") == 1
        egress.settled()
        # The connections from proxy to proxy stay open for the next request; nothing else does.
        assert [leak for leak in ingress.leaks() if "downstream_cx_active" not in leak] == []


@pytest.mark.tool("curl")
def test_two_proxies_with_tls_between(examples: Path, servers: Mapping[str, int]) -> None:
    behind = {
        8080: servers["web"], 12200: servers["bolt"], 20880: servers["dubbo"], 9090: servers["thrift"],
        5432: servers["echo"],
    }  # fmt: skip
    with (
        example(examples / "double-proxy-tls/far.yaml", behind) as far,
        example(examples / "double-proxy-tls/near.yaml", {15443: far.ports["far"]}) as near,
    ):
        port = near.ports["near"]
        for version in ("--http1.1", "--http2-prior-knowledge"):
            assert "/x\n" in curl(version, f"http://127.0.0.1:{port}/x")
        for protocol in ("bolt", "dubbo", "thrift"):
            assert call(protocol, port) == BODIES[protocol]
        assert echoed(port, b"(nobody's protocol)\n") == b"(nobody's protocol)\n"
        # Nobody else comes in: not in plaintext, and not in TLS without the certificate.
        plain = curl(
            "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{far.ports['far']}/x"
        )
        assert plain[0] == "4"
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            without_certificate(far.ports["far"], examples / "certs/ca.pem")
        near.settled()


@pytest.mark.tool("curl")
def test_edge_tls(examples: Path, servers: Mapping[str, int]) -> None:
    certs = examples / "certs"
    near = ["--cert", str(certs / "near.pem"), "--key", str(certs / "near.key")]
    code = ["-o", "/dev/null", "-w", "%{http_code}"]
    behind = dict.fromkeys((8080, 12200, 20880, 9090, 5432), servers["web"])
    with (
        socket.create_server(("127.0.0.1", 0)) as mail,
        example(examples / "double-proxy-tls/far.yaml", behind) as far,  # a server with TLS
        example(
            examples / "edge-tls.yaml",
            dict.fromkeys((8443, 8444), far.ports["far"]) | {8025: mail.getsockname()[1]},
        ) as proxy,
    ):
        port = proxy.ports["edge"]
        api, own = f"api.example.org:{port}", f"db.own.example.org:{port}"
        known = ["--resolve", f"{api}:127.0.0.1", "--cacert", str(certs / "ca.pem")]
        assert "/x\n" in curl(*known, f"https://{api}/x")
        assert curl(*known, *code, f"http://{api}/x") == "301"
        # Who may come in is told by the certificate.
        assert curl(*known, *code, f"https://{api}/admin/x") == "403"
        assert "/admin/x\n" in curl(*known, *near, f"https://{api}/admin/x")
        # Passed through: the certificate is that of the server behind, and the client's reaches it.
        assert proxy.stat("listener.edge.downstream_tls_passthrough") == 0
        there = ["--resolve", f"{own}:127.0.0.1", "--insecure", *near]
        assert "/own\n" in curl(*there, f"https://{own}/own")
        assert proxy.stat("listener.edge.downstream_tls_passthrough") == 1
        # And a client that is silent is spoken to.
        mail.settimeout(PATIENCE)
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            server, _ = mail.accept()
            with server:
                server.sendall(b"220 ready\r\n")
                assert client.recv(100) == b"220 ready\r\n"
        proxy.settled()


@pytest.fixture(scope="module")
def front(examples: Path, servers: Mapping[str, int]) -> Iterator[Product]:
    greeter = [sys.executable, grpc_echo.__file__, "example.Greeter"]
    chat = [sys.executable, websocket_echo.__file__]
    with running(greeter, int) as (calls, _), running(chat, int) as (chats, _):
        behind = dict.fromkeys((8001, 8002, 8004), servers["web"])
        behind |= {8003: chats, 8005: calls, 12200: servers["bolt"], 9090: servers["thrift"]}
        with example(examples / "front-proxy.yaml", behind) as proxy:
            yield proxy
            proxy.settled()


@pytest.mark.tool("curl")
def test_front_proxy_serves_the_web(examples: Path, front: Product) -> None:
    shop, api = f"shop.example.org:{front.port}", f"api.example.org:{front.port}"
    known = ["--resolve", f"{shop}:127.0.0.1", "--resolve", f"{api}:127.0.0.1"]
    known += ["--cacert", str(examples / "certs/ca.pem")]
    # A browser: TLS, with the certificate of the name it asks for, in either version.
    for version in ("1.1", "2"):
        options = (f"--http{version}", "-w", "%{http_version}")
        answer = curl(*known, *options, f"https://{shop}/basket")
        assert "/basket\n" in answer
        assert answer.endswith(f"\n{version}")
    assert "/v1/items\n" in curl(*known, f"https://{api}/v1/items")
    # Without TLS the shop sends it there, and the others are served on the same port.
    moved = curl(*known, "-i", f"http://{shop}/basket").lower()
    assert re.search(r"\r\nlocation: https://shop\.example\.org[:\d]*/basket\r\n", moved)
    assert "/v1/items\n" in curl(*known, "--http2-prior-knowledge", f"http://{api}/v1/items")


def test_front_proxy_serves_calls(examples: Path, front: Product) -> None:
    for protocol in ("bolt", "thrift"):
        assert call(protocol, front.port) == BODIES[protocol]
    credentials = grpc.ssl_channel_credentials((examples / "certs/ca.pem").read_bytes())
    name = ("grpc.ssl_target_name_override", "api.example.org")
    with grpc.secure_channel(f"127.0.0.1:{front.port}", credentials, [name]) as channel:
        say: Calling = channel.unary_unary("/example.Greeter/Say")
        part: Calling = channel.unary_unary("/example.Greeter/Part")
        assert say(b"you", timeout=PATIENCE) == b"you"
        with pytest.raises(grpc.RpcError) as caught:
            part(b"you", timeout=PATIENCE)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_front_proxy_serves_websocket(examples: Path, front: Product) -> None:
    context = ssl.create_default_context(cafile=examples / "certs/ca.pem")

    async def talk() -> None:
        shop = "wss://shop.example.org/chat"
        async with (
            asyncio.timeout(PATIENCE),
            connect(shop, host="127.0.0.1", port=front.port, ssl=context, proxy=None) as connection,
        ):
            await connection.send("so")
            assert await connection.recv() == "so"

    asyncio.run(talk())


def test_front_proxy_has_the_option_that_its_codec_was_given(front: Product) -> None:
    with socket.create_connection(("127.0.0.1", front.port), PATIENCE) as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"))
        said = client.recv(65536)
    assert said[3:4] == b"\x04", "SETTINGS come first"
    settings = said[9 : 9 + int.from_bytes(said[:3])]
    pairs = {settings[at : at + 2]: settings[at + 2 : at + 6] for at in range(0, len(settings), 6)}
    assert int.from_bytes(pairs[b"\x00\x03"]) == 100, "max_concurrent_streams"
