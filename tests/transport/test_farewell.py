from __future__ import annotations

import trio
from trio.testing import MockClock

from tests.transport.ends import connected
from xproxy.transport.farewell import LINGER_SECONDS, linger


async def test_it_reads_until_the_peer_goes() -> None:
    async with connected("trio-memory") as (stream, peer), trio.open_nursery() as nursery:
        nursery.start_soon(linger, stream)
        await peer.send_all(b"a request on its way")
        assert await peer.receive_some() == b""
        await peer.send_eof()


async def test_it_waits_for_a_second_at_most(autojump_clock: MockClock) -> None:
    async with connected("trio-memory") as (stream, _):
        begin = trio.current_time()
        await linger(stream)
        assert trio.current_time() - begin == LINGER_SECONDS


async def test_a_peer_that_is_gone_is_no_error() -> None:
    async with connected("trio-memory") as (stream, peer):
        await trio.aclose_forcefully(peer)
        await linger(stream)
        stream.close()
        await linger(stream)


async def test_it_reads_a_bounded_number_of_bytes() -> None:
    async with connected("trio-memory") as (stream, peer), trio.open_nursery() as nursery:
        nursery.start_soon(peer.send_all, b"x" * 1_000_000)
        await linger(stream)
        nursery.cancel_scope.cancel()
