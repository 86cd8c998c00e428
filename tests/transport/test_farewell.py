from __future__ import annotations

import trio
from trio.testing import MockClock

from tests.transport.ends import connected
from xproxy.transport.farewell import LINGER_SECONDS, hear_out, linger


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


async def test_who_is_heard_out_is_not_told_that_it_is_the_end(autojump_clock: MockClock) -> None:
    async with connected("trio-memory") as (stream, peer), trio.open_nursery() as nursery:
        left: list[float] = []

        async def leave() -> None:
            await hear_out(stream, 1.0, 3.0)
            left.append(trio.current_time())

        begin = trio.current_time()
        nursery.start_soon(leave)
        for _ in range(8):  # it goes on sending, and is left all the same
            await peer.send_all(b"more")
            await trio.sleep(0.5)
        assert left == [begin + 3]
        stream.write_now(b"x")
        assert await peer.receive_some() == b"x"


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
