"""Endpoints follow a file: as it is replaced, and not where it is wrong."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import pytest
import trio

from tests.live import (
    Live,
    Upstream,
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
from xproxy.testing import Party

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


ASKED = re.compile(rb"~q (\d+) [^\n]*\n")


async def test_calls_of_any_protocol_follow_it(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    text = from_file(path).replace("    routes: main\n", "    routes: main\n    codecs: [lines]\n")

    async def call(number: int, up: Upstream) -> None:
        await client.send(b"~q %d s m 0 -\n" % number)
        server = Party("upstream", await up.accept())
        asked = ASKED.match(await server.expect(ASKED))
        assert asked is not None
        await server.send(b"~s %b 0 0 -\n" % asked[1])
        await client.expect(b"~s %d 0 0 -\n" % number)

    async with upstream() as one, upstream() as two:
        replace(path, one.port)
        async with running(text) as live:
            client = await live.client()
            await call(1, one)
            replace(path, two.port)
            await eventually(lambda: ports(live) == [two.port], "the other endpoint")
            await call(2, two)
            replace(path)
            await eventually(lambda: ports(live) == [], "none")
            await client.send(b"~q 3 s m 0 -\n")
            refused = await client.expect(re.compile(rb"~s 3 (\d+) [^\n]*\n"))
            assert not refused.startswith(b"~s 3 0 ")
            assert live.cluster().stats.upstream_cx_none_healthy == 1


async def test_who_waits_for_the_first_answer_is_bounded_too(tmp_path: Path) -> None:
    text = from_file(tmp_path / "none") + "    circuit_breakers: {max_pending_requests: 0}\n"
    async with running(text) as live:
        assert (await get(await live.client())).startswith(b"503 ")
        stats = live.cluster().stats
        assert (stats.upstream_rq_pending_overflow, stats.upstream_rq_pending_active) == (1, 0)
        assert stats.upstream_cx_none_healthy == 0


async def test_a_cluster_that_is_made_anew_begins_with_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, answering(b"1"))
        replace(path, up.port)
        async with running(from_file(path)) as live:
            client, before = await live.client(), live.cluster()
            assert await get(client) == b"200 1"
            before.endpoints[0].failures_in_a_row = 2
            path.unlink()
            await live.reload(from_file(path) + "    connect_timeout: 3s\n")
            assert live.cluster() is not before
            assert ports(live) == [up.port]
            assert live.cluster().endpoints[0].failures_in_a_row == 2
            assert await get(client) == b"200 1"
        nursery.cancel_scope.cancel()
