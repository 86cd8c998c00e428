"""Endpoints follow a file: as it is replaced, and not where it is wrong."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import trio

from tests.live import (
    Live,
    answering,
    eventually,
    registry,
    running,
    upstream,
    web,
)
from tests.upstream.discovery.kit import get
from xproxy.config.findings import InvalidConfig
from xproxy.config.load import load_text

LOOKS = "interval: 100ms"


def from_file(path: Path) -> str:
    """Return a configuration whose endpoints are those of ``path``."""
    return web(type=f"{{name: file, path: {path}, {LOOKS}}}").replace("    endpoints: []\n", "")


def replace(path: Path, *ports: int) -> None:
    """Rename a new file over ``path``."""
    new = path.with_suffix(".new")
    new.write_text("".join(f"- 127.0.0.1:{port}\n" for port in ports) or "[]\n")
    os.replace(new, path)


def ports(live: Live) -> list[int]:
    return [endpoint.address.port for endpoint in live.cluster().endpoints]


async def test_requests_follow_the_file_and_a_wrong_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "endpoints.yaml"
    async with (
        upstream() as one,
        upstream() as two,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(one.serve, answering(b"1"))
        nursery.start_soon(two.serve, answering(b"2"))
        replace(path, one.port)
        async with running(from_file(path)) as live:
            cluster, stats = live.cluster(), live.cluster().stats
            assert ports(live) == []
            client = await live.client()
            assert await get(client) == b"200 1", "the first request waits for the file"
            first = cluster.endpoints[0]
            replace(path, one.port, two.port)
            await eventually(lambda: len(cluster.endpoints) == 2, "two endpoints")
            assert cluster.endpoints[0] is first
            assert {await get(client) for _ in range(4)} == {b"200 1", b"200 2"}
            path.write_text("- 127.0.0.1:1\n- {address: x}\n")
            with caplog.at_level(logging.WARNING):
                await eventually(lambda: stats.discovery_failed == 1, "the mistake was seen")
            assert f"{path}:2:" in caplog.text
            assert ports(live) == [one.port, two.port]
            path.unlink()
            await eventually(lambda: stats.discovery_failed == 2, "that it has gone was seen")
            assert ports(live) == [one.port, two.port]
            replace(path, two.port)
            await eventually(lambda: ports(live) == [two.port], "the other one left")
            assert await get(client) == b"200 2"
            replace(path)
            await eventually(lambda: not ports(live), "there is none")
            assert (await get(client)).startswith(b"503 ")
            assert stats.upstream_cx_none_healthy == 1
            assert stats.discovery_updates == 4
            replace(path, one.port)
            await eventually(lambda: bool(ports(live)), "there is one again")
            assert await get(client) == b"200 1"
        nursery.cancel_scope.cancel()


async def test_a_cluster_that_nobody_uses_looks_at_nothing(tmp_path: Path) -> None:
    async with running(from_file(tmp_path / "none")) as live:
        assert live.cluster().stats.discovery_failed == 0
        live.cluster().discover()
        await eventually(lambda: live.cluster().stats.discovery_failed == 1, "now it looks")


def test_its_path_is_needed_and_endpoints_are_not() -> None:
    with pytest.raises(InvalidConfig, match="key `path` is missing"):
        load_text(web(type="file").replace("    endpoints: []\n", ""), "x", registry())
    with pytest.raises(InvalidConfig, match="it takes no `endpoints` here"):
        load_text(web(1, type="{name: file, path: x}"), "x", registry())


def test_its_path_is_relative_to_the_configuration() -> None:
    text = web(type="{name: file, path: sub/e.yaml}").replace("    endpoints: []\n", "")
    config = load_text(text, "x", registry(), Path("/etc/here"))
    assert "PosixPath('/etc/here/sub/e.yaml')" in repr(config.clusters["web"].type)
