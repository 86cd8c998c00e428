"""The demo's proxy as a process: it listens, is upgraded, says what is wrong, and leaves nothing behind."""

from __future__ import annotations

import functools
import socket
from pathlib import Path

import pytest
import trio

from xproxy.cli.demo.calls import ask, http_get
from xproxy.cli.demo.proxy import ProxyFailed, running
from xproxy.cli.demo.upstreams import start, web
from xproxy.config.load import simple

pytestmark = pytest.mark.slow


async def test_a_connection_outlives_the_process_that_accepted_it(tmp_path: Path) -> None:
    call = http_get("/x")
    async with trio.open_nursery() as nursery:
        upstream = await start(nursery, functools.partial(web, "w"))
        config = simple("127.0.0.1:0", [str(upstream)])
        async with running(config, tmp_path) as proxy:
            before = _workers(proxy.process.pid)
            async with await trio.open_tcp_stream("127.0.0.1", proxy.address.port) as stream:
                assert await ask(call, stream, call.first_bytes) == "200 from w"
                assert await proxy.upgrade()
                assert await ask(call, stream, call.again()) == "200 from w"
            after = _workers(proxy.process.pid)
        nursery.cancel_scope.cancel()
    assert before
    assert after - before
    assert not [pid for pid in before | after if _there(pid)]


def _there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _workers(pid: int) -> set[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return {int(child) for child in text.split()}


async def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        config = simple(place, ["127.0.0.1:1"])
        with pytest.raises(ProxyFailed, match=f"^cannot listen on {place}"):
            async with running(config, tmp_path):
                raise AssertionError("not reached")


async def test_an_upgrade_that_fails_says_why(tmp_path: Path) -> None:
    config = simple("127.0.0.1:0", ["127.0.0.1:1"])
    async with running(config, tmp_path) as proxy:
        (tmp_path / "demo.yaml").write_text("listeners: nonsense")
        with pytest.raises(ProxyFailed, match=r"^the upgrade failed: .*listeners"):
            await proxy.upgrade()
