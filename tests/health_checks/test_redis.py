"""The check of Redis, against a real one and against answers that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.health_checks.kit import bench, scripted
from tests.interop.redis_server import redis_server
from xproxy.health_checks.redis import Redis
from xproxy.upstream.health.api import CheckFailed


@pytest.mark.slow
@pytest.mark.tool("redis-server")
def test_a_real_server_and_a_key_that_takes_it_out(tmp_path: Path) -> None:
    """PING → PONG; EXISTS of a key that is missing = healthy."""

    async def main(port: int) -> None:
        async with bench(scripted()) as (by, _):
            assert await by.check(Redis(), port) is None
            assert await by.check(Redis(key="maintenance"), port) is None
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            async with stream:
                await stream.send_all(b"SET maintenance 1\r\n")
                assert await stream.receive_some() == b"+OK\r\n"
            with pytest.raises(CheckFailed, match="key is there") as caught:
                await by.check(Redis(key="maintenance"), port)
            assert caught.value.at_once
            # One connection for several.
            probe = by.probe(port)
            for _ in range(3):
                await Redis()(probe)
            probe.close()

    with redis_server(tmp_path) as port:
        trio.run(main, port)


@pytest.mark.parametrize(
    ("answer", "at_once"),
    [(b"-NOAUTH no\r\n", True), (b"$4\r\nPONG\r\n", True), (b"+PO", False), (b"x" * 2000, False)],
)
async def test_any_other_answer_is_a_failure(answer: bytes, at_once: bool) -> None:
    async with bench(scripted(answer)) as (by, up):
        with pytest.raises(CheckFailed) as caught:
            await by.check(Redis(), up.port)
        assert caught.value.at_once is at_once
