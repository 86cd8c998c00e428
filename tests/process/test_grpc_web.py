"""gRPC-Web and the HTTP/1.1 bridge: clients without gRPC before the proxy, the reference implementation behind it."""

from __future__ import annotations

import base64
import http.client
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest

from tests.process.grpc_lab import lab
from tests.process.product import PATIENCE, Product, product, refusing_port
from tests.process.upstreams import upstream
from xproxy.codecs.grpc.framing import TRAILERS, MessageReader, frame
from xproxy.codecs.grpc.health import PATH as HEALTH
from xproxy.codecs.grpc.health import Serving, decode_response, encode_request
from xproxy.codecs.grpc.web import TextReader, parse_trailers

pytestmark = pytest.mark.slow

CONFIG: Final = """
listeners:
  - name: edge
    address: '127.0.0.1:0'
    filters: [grpc_web, grpc_http1_bridge, {{name: grpc_health, services: [lab.Echo]}}]
    routes: main
routes:
  main:
    - {{match: {{protocol: grpc, service: lab.Echo}}, cluster: echo}}
    - {{match: {{service: lab.Gone}}, cluster: gone}}
    - {{match: {{service: lab.Web}}, cluster: web}}
clusters:
  echo: {{endpoints: ['127.0.0.1:{echo}'], codec: http2}}
  gone: {{endpoints: ['127.0.0.1:{gone}'], codec: http2}}
  web: {{endpoints: ['127.0.0.1:{web}'], codec: http1}}
"""


@attrs.frozen
class Answer:
    """What a client got, with the trailers wherever they were."""

    code: int
    headers: dict[str, str]
    messages: list[bytes]
    trailers: dict[str, str]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    work = tmp_path_factory.mktemp("grpc-web")
    with lab() as running, upstream("web") as plain:
        text = CONFIG.format(echo=running.direct, gone=refusing_port(), web=plain)
        with product(text, work) as running_proxy:
            yield running_proxy


def post(
    port: int, path: str, kind: str, body: bytes, *headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Post over HTTP/1.1."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        more = dict(header.split(": ", 1) for header in headers)
        connection.request("POST", path, body, {"Content-Type": kind, **more})
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return response.status, found, response.read()
    finally:
        connection.close()


def web(port: int, method: str, message: bytes, *, text: bool = False) -> Answer:
    """Make a call of gRPC-Web, as a browser would."""
    kind = "application/grpc-web-text" if text else "application/grpc-web+proto"
    body = frame(message)
    code, headers, answer = post(
        port, method, kind, base64.b64encode(body) if text else body, "X-Grpc-Web: 1"
    )
    if text:
        reader = TextReader()
        answer = reader.feed(answer)
        reader.finish()
    frames = MessageReader(1 << 24).feed(answer)
    trailers = [parse_trailers(m) for flags, m in frames if flags & TRAILERS]
    said = dict(trailers[0].pairs) if trailers else headers
    return Answer(code, headers, [m for flags, m in frames if not flags & TRAILERS], said)


both = pytest.mark.parametrize("text", [False, True])


@both
def test_a_call_of_a_browser(proxy: Product, text: bool) -> None:
    found = web(proxy.port, "/lab.Echo/Unary", b"hello", text=text)
    assert (found.code, found.messages) == (200, [b"hello"])
    assert found.trailers["grpc-status"] == "0"
    assert found.trailers["x-grpc-web"] == "1"  # the server mirrors metadata into its trailers
    assert found.headers["x-first"] == "yes"
    kind = "application/grpc-web-text" if text else "application/grpc-web"
    assert found.headers["content-type"] == kind
    assert "grpc-status" not in found.headers


@both
def test_a_stream_for_a_browser(proxy: Product, text: bool) -> None:
    found = web(proxy.port, "/lab.Echo/Download", b"50", text=text)
    assert [m.partition(b" ")[0] for m in found.messages] == [b"%d" % n for n in range(50)]
    assert found.trailers["grpc-status"] == "0"
    found = web(proxy.port, "/lab.Echo/Download", b"51", text=text)
    assert len(found.messages) == 51
    assert (found.trailers["grpc-status"], found.trailers["grpc-message"]) == ("15", "odd")


@both
def test_failures_for_a_browser(proxy: Product, text: bool) -> None:
    found = web(proxy.port, "/lab.Echo/Fail", b"7", text=text)
    assert (found.code, found.trailers["grpc-status"], found.messages) == (200, "7", [])
    assert found.trailers["grpc-status-details-bin"] == "CAVkZXRhaWxzAA"
    for method, number in (("/lab.Gone/X", "14"), ("/nobody/X", "12"), ("/lab.Web/X", "2")):
        found = web(proxy.port, method, b"", text=text)
        assert (found.code, found.trailers["grpc-status"]) == (200, number), method


@both
def test_what_a_browser_sends_wrongly(proxy: Product, text: bool) -> None:
    kind = "application/grpc-web-text" if text else "application/grpc-web"
    code, headers, _ = post(proxy.port, "/lab.Echo/Unary", kind, b"a$b=" if text else b"\x02")
    assert (code, headers["grpc-status"]) == (200, "3") if text else code == 200


def test_a_stream_reaches_a_browser_as_it_comes(proxy: Product) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE)
    try:
        kind = {"Content-Type": "application/grpc-web", "Grpc-Timeout": "1S"}
        connection.request("POST", "/lab.Echo/Hang", frame(b""), kind)
        response = connection.getresponse()
        assert response.read(10) == frame(b"begun")  # the call goes on for another second
    finally:
        connection.close()
    proxy.settled()


@pytest.mark.tool("curl")
def test_a_browser_over_http2(proxy: Product, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(frame(b"3"))
    command = ["curl", "-sS", "--http2-prior-knowledge", "--data-binary", f"@{body}"]
    command += ["-H", "content-type: application/grpc-web+proto", "-m", str(PATIENCE)]
    command.append(f"http://127.0.0.1:{proxy.port}/lab.Echo/Download")
    done = subprocess.run(command, capture_output=True, check=True, timeout=2 * PATIENCE)
    frames = MessageReader(1 << 20).feed(done.stdout)
    assert [flags for flags, _ in frames] == [0, 0, 0, TRAILERS]
    assert parse_trailers(frames[-1][1]).get("grpc-status") == "15"


class TestBridge:
    def test_a_unary_call(self, proxy: Product) -> None:
        code, headers, body = post(
            proxy.port, "/lab.Echo/Unary", "application/grpc", frame(b"hi"), "X-A: b"
        )
        assert (code, body) == (200, frame(b"hi"))
        assert (headers["grpc-status"], headers["x-a"]) == ("0", "b")
        assert headers["content-length"] == "7"

    def test_failures(self, proxy: Product) -> None:
        for method, code, number in (
            ("/lab.Echo/Fail", 403, "7"),
            ("/lab.Gone/X", 503, "14"),
            ("/nobody/X", 501, "12"),
            ("/lab.Web/X", 500, "2"),
        ):
            found, headers, body = post(proxy.port, method, "application/grpc", frame(b"7"))
            assert (found, headers["grpc-status"], body) == (code, number, b""), method


class TestHealth:
    def test_over_http1(self, proxy: Product) -> None:
        asked = frame(encode_request("lab.Echo"))
        code, headers, body = post(proxy.port, HEALTH, "application/grpc", asked)
        assert (code, headers["grpc-status"]) == (200, "0")
        assert decode_response(body[5:]) is Serving.SERVING

    def test_for_a_browser(self, proxy: Product) -> None:
        found = web(proxy.port, HEALTH, b"")
        assert [decode_response(m) for m in found.messages] == [Serving.SERVING]
        assert found.trailers["grpc-status"] == "0"

    def test_an_unknown_service(self, proxy: Product) -> None:
        found = web(proxy.port, HEALTH, encode_request("other"))
        assert found.trailers["grpc-status"] == "5"
