"""A request goes where its client meant to: found out from the kernel, or said in a header where that is allowed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.live import GET, answering, registry, running, upstream, web
from tests.upstream.discovery.kit import get
from xproxy.config.findings import InvalidConfig
from xproxy.config.load import load_text

ROOT = Path(__file__).parents[3]
HEADER = b"x-envoy-original-dst-host"


@pytest.mark.tool("iptables")
@pytest.mark.tool("ip")
@pytest.mark.tool("unshare")
@pytest.mark.parametrize("mode", ["redirect", "tproxy"])
def test_redirected_connections_go_where_they_were_going(mode: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("iptables rules need root")
    command = ["unshare", "--net", sys.executable, "-m", "tests.upstream.discovery.intercepted"]
    done = subprocess.run(
        [*command, mode], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for (one, two), said in zip(
        [("10.9.0.1", "10.9.0.2"), ("fd00::1", "fd00::2")], found, strict=True
    ):
        assert said["said"] == [
            f"200 {one}|8080",
            f"200 {two}|8080",
            f"200 {one}|8080",
            "503",  # who calls the proxy itself is not sent back to it
        ]
        assert said["requests"] == 3
        assert len(said["endpoints"]) == 2


def by_header(**options: object) -> str:
    said = {"use_http_header": "true"} | options
    fields = ", ".join(f"{key}: {value}" for key, value in said.items())
    return web(type=f"{{name: original_destination, {fields}}}").replace("    endpoints: []\n", "")


def to(where: str, name: bytes = HEADER) -> bytes:
    return GET.replace(b"\r\n\r\n", b"\r\n" + name + b": " + where.encode() + b"\r\n\r\n")


async def test_a_header_says_where_to_go_if_that_is_allowed() -> None:
    async with upstream() as one, upstream() as two, trio.open_nursery() as nursery:
        nursery.start_soon(one.serve, answering(b"1"))
        nursery.start_soon(two.serve, answering(b"2"))
        async with running(by_header()) as live:
            client, stats = await live.client(), live.cluster().stats
            for _ in range(2):
                assert await get(client, to(f"127.0.0.1:{one.port}")) == b"200 1"
                assert await get(client, to(f"127.0.0.1:{two.port}")) == b"200 2"
            assert len(live.cluster().endpoints) == 2
            assert [endpoint.total for endpoint in live.cluster().endpoints] == [2, 2]
            assert one.accepted == two.accepted == 1
            wrong = ("a.test:80", "127.0.0.1", "127.0.0.1:0", "unix:/x", "1" * 99, "[::1")
            for number, where in enumerate(wrong, 1):
                assert (await get(client, to(where))).startswith(b"503 ")
                assert stats.upstream_cx_none_healthy == number
            assert len(live.cluster().endpoints) == 2
            assert (await get(client)).startswith(b"503 "), "it called the proxy, and says nothing"
        async with running(by_header(use_http_header="false")) as live:
            client = await live.client()
            assert (await get(client, to(f"127.0.0.1:{one.port}"))).startswith(b"503 ")
        text = by_header(http_header_name="x-to", port_override=one.port)
        async with running(text) as live:
            client = await live.client()
            assert await get(client, to("127.0.0.1:9", b"x-to")) == b"200 1"
        nursery.cancel_scope.cancel()


def test_it_takes_no_endpoints() -> None:
    with pytest.raises(InvalidConfig, match="it takes no `endpoints`"):
        load_text(web(1, type="original_destination"), "x", registry())
