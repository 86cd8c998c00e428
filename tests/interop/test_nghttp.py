"""nghttp and h2load, of the reference implementation of HTTP/2: straight at nginx and through the proxy."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.interop.origin import NAME, UPSTREAMS, Origin, configuration, origin
from tests.process.product import Product, product

pytestmark = [pytest.mark.slow, pytest.mark.tool("nghttp"), pytest.mark.tool("nginx")]

CASES: Final[dict[str, tuple[str, ...]]] = {
    "get": ("/file",),
    "five at once": ("-m", "5", "/file"),
    "several": ("/view?1", "/text", "/absent", "/nothing"),
    "response trailers": ("/trailers",),
    "upload": ("-d", "{file}", "/up/"),
    "upload without a length": ("-d", "{file}", "--no-content-length", "/up/"),
    "small windows": ("-w", "10", "-W", "10", "/up/chunked/300000"),
    "padded frames": ("-b", "255", "-d", "{file}", "/up/"),
    "no dynamic table": ("-c", "0", "--encoder-header-table-size=0", "/large"),
    "table size changed at once": ("-c", "4096", "-c", "0", "-c", "65536", "/large"),
    "continuation": ("--continuation", "-H", "x-test: a", "/view"),
    "no dependencies": ("--no-dep", "/view"),
}
"""What nghttp is told besides."""


@pytest.fixture(scope="module")
def server() -> Iterator[Origin]:
    with origin() as found:
        yield found


@pytest.fixture(scope="module")
def proxy(server: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with product(configuration(server), tmp_path_factory.mktemp("nghttp")) as found:
        yield found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "upload"
    found.write_bytes(b"0123456789abcdef" * 20_000)
    return found


def nghttp(port: int, case: tuple[str, ...], file: Path, *, tls: bool = False) -> list[str]:
    """Run nghttp; returns the fields that came back, trailers and the frames that end something, sorted."""
    base = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    arguments = [
        text.format(file=file) if not text.startswith("/") else base + text for text in case
    ]
    command = ["nghttp", "-nv", "-H", f":authority: {NAME}", *arguments]
    done = subprocess.run(command, capture_output=True, timeout=240, check=False)
    text = done.stdout.decode("latin-1")
    fields = re.findall(r"recv \(stream_id=\d+\) ([\w:-]+: .*)", text)
    skipped = ("date:", "server:", "content-length:", "via:", "connection:", "etag:", "last-mod")
    found = [field for field in fields if not field.startswith(skipped)]
    resets = re.findall(r"recv (?:RST_STREAM|GOAWAY).*\n.*", text)
    return sorted([f"exit {done.returncode}", *found, *resets])


def received(port: int, path: str) -> int:
    """Return how many bytes of body nghttp gets."""
    command = ["nghttp", f"http://127.0.0.1:{port}{path}"]
    return len(subprocess.run(command, capture_output=True, timeout=240, check=True).stdout)


@pytest.mark.parametrize("case", CASES)
def test_nghttp_sees_no_difference(server: Origin, proxy: Product, file: Path, case: str) -> None:
    direct = nghttp(server.http2, CASES[case], file)
    for to in UPSTREAMS:
        for tls in (False, True):
            assert nghttp(proxy.ports[f"to-{to}"], CASES[case], file, tls=tls) == direct, (to, tls)


def test_request_trailers(proxy: Product, file: Path) -> None:
    # Not directly: nginx 1.22 refuses them.
    case = ("-d", "{file}", "--trailer", "x-sum: 7", "/up/")
    for to in ("plain", "tls-http1"):
        assert ":status: 200" in nghttp(proxy.ports[f"to-{to}"], case, file)


def test_nghttp_gets_every_byte(server: Origin, proxy: Product) -> None:
    assert received(proxy.ports["to-plain"], "/file") == received(server.http2, "/file")


def h2load(url: str, *arguments: str) -> None:
    """Run h2load; every request must be answered with 200."""
    count = "10000" if not arguments else "2000"
    command = ["h2load", "-n", count, "-c", "8", "-m", "32", *arguments, f"{url}/view"]
    done = subprocess.run(command, capture_output=True, timeout=240, check=True, text=True)
    expected = (
        f"requests: {count} total, {count} started, {count} done, {count} succeeded, 0 failed, "
        "0 errored, 0 timeout"
    )
    assert expected in done.stdout, done.stdout
    assert f"status codes: {count} 2xx, 0 3xx, 0 4xx, 0 5xx" in done.stdout, done.stdout


@pytest.mark.tool("h2load")
@pytest.mark.parametrize("to", UPSTREAMS)
def test_h2load_makes_ten_thousand_requests(proxy: Product, to: str) -> None:
    h2load(f"http://127.0.0.1:{proxy.ports[f'to-{to}']}")


@pytest.mark.tool("h2load")
@pytest.mark.parametrize("options", [("--h1",), ("-d", "{file}")], ids=["HTTP/1.1", "posts"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_h2load_otherwise(
    proxy: Product, file: Path, scheme: str, options: tuple[str, ...]
) -> None:
    arguments = [option.format(file=file) for option in options]
    file.write_bytes(b"x" * 3000)
    h2load(f"{scheme}://127.0.0.1:{proxy.ports['to-plain']}", *arguments)


@pytest.mark.tool("h2load")
def test_h2load_over_tls(proxy: Product) -> None:
    h2load(f"https://127.0.0.1:{proxy.ports['to-plain']}")


def test_nothing_is_left_behind(proxy: Product) -> None:
    proxy.settled()
    assert "Traceback" not in proxy.said()
