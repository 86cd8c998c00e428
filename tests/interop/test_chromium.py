"""A browser: Chromium loads a page with a WebSocket through the proxy, over TLS and HTTP/2."""

from __future__ import annotations

import html
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.certificates import Authority
from tests.interop import page
from tests.process import websocket_echo
from tests.process.product import Product, eventually, product
from tests.process.upstreams import running

pytestmark = [pytest.mark.slow, pytest.mark.tool("chromium")]

NAME: Final = "page.test"
OPTIONS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--ignore-certificate-errors",
    "--window-size=800,600",
    f"--host-resolver-rules=MAP {NAME} 127.0.0.1",
)
PATIENCE: Final = 60.0
"""Seconds: a browser's first start on a busy machine."""


@pytest.fixture(scope="module", params=["http2", "http1"])
def proxy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Product]]:
    """Run it once with all codecs, and once with HTTP/1.1 alone."""
    codecs = {"http2": "auto", "http1": "[http1]"}[request.param]
    work = tmp_path_factory.mktemp(request.param)
    shown = Authority(work / "certificates").issue(NAME)
    with (
        running([sys.executable, page.__file__], int) as (web, _),
        running([sys.executable, websocket_echo.__file__], int) as (socket, _),
    ):
        text = (
            "listeners:\n"
            f"  - {{name: edge, address: '127.0.0.1:0', codecs: {codecs}, routes: main,"
            f" tls: {{certificates: [{{cert: {shown.cert}, key: {shown.key}}}]}},"
            " filters: [{name: access_log, template: 'seen %protocol% %path%'}]}\n"
            "routes:\n"
            "  main:\n"
            "    - {match: {path: /socket}, cluster: socket, allow_upgrade: [websocket]}\n"
            "    - {cluster: web}\n"
            "clusters:\n"
            # Told nothing of what they speak: ordinary web servers behind a listener with TLS.
            f"  web: {{endpoints: ['127.0.0.1:{web}']}}\n"
            f"  socket: {{endpoints: ['127.0.0.1:{socket}']}}\n"
        )
        with product(text, work) as found:
            yield request.param, found


def chromium(url: str, work: Path, *options: str) -> str:
    """Run it on a page until that is loaded; returns what it prints."""
    command = ["chromium", *OPTIONS, f"--user-data-dir={work / 'profile'}", *options, url]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "HOME": str(work)},
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=PATIENCE)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)  # it is a dozen processes
        except ProcessLookupError:
            pass
        process.wait()
    return said


def test_a_page_with_a_websocket(proxy: tuple[str, Product], tmp_path: Path) -> None:
    version, through = proxy
    url = f"https://{NAME}:{through.port}/"
    dom = chromium(url, tmp_path, "--dump-dom")
    found = re.search(r'data-seen="([^"]*)"', dom)
    assert found is not None, dom
    seen: dict[str, Any] = json.loads(html.unescape(found[1]))  # Any: what a script said
    assert seen == {
        "fetches": 40,
        "upload": True,
        "texts": 20,
        "binary": True,
        "close": 4000,
        "protocol": {"http2": "h2", "http1": "http/1.1"}[version],
    }
    assert "<title>over</title>" in dom
    through.settled()
    # The WebSocket too: over HTTP/2 by extended CONNECT (RFC 8441).
    eventually(lambda: f"seen {version} /socket" in through.said(), "the line in the log")
    other = {"http1": "http2", "http2": "http1"}[version]
    assert f"seen {other} " not in through.said()
    assert "Traceback" not in through.said()


def test_the_page_is_drawn(proxy: tuple[str, Product], tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    chromium(f"https://{NAME}:{proxy[1].port}/", tmp_path, f"--screenshot={picture}")
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert (int.from_bytes(data[16:20]), int.from_bytes(data[20:24])) == (800, 600)
    assert len(data) > 5000  # an empty page is smaller by far
