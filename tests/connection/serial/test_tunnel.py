"""L4 on a serial connection: bytes both ways, half-closed in either order, never a false end."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.web import (
    timeouts,
)
from xproxy.codecs.opaque.plugin import PLUGIN as OPAQUE
from xproxy.model.errors import RateLimited
from xproxy.model.limits import KIB
from xproxy.stream.exchange import Request, Response
from xproxy.testing import END, NOTHING, play
from xproxy.testing.proxy import End, ProxyPair, proxy_pair


async def tunnel(pair: ProxyPair) -> tuple[End, End]:
    return pair.client, await pair.accept()


async def test_l4_carries_bytes_both_ways_whoever_speaks_first(autojump_clock: MockClock) -> None:
    async with proxy_pair(OPAQUE) as pair:
        client, server = await tunnel(pair)
        await play(
            server >> b"220 ready\r\n",
            client << b"220 ready\r\n",
            client >> b"EHLO a\r\n",
            server << b"EHLO a\r\n",
            client << NOTHING,
        )
        assert pair.requests[0].record.sent_bytes == 11
        assert pair.requests[0].record.received_bytes == 8


async def test_l4_passes_on_what_was_read_for_detection(autojump_clock: MockClock) -> None:
    async with proxy_pair(OPAQUE, first=b"hello") as pair:
        _, server = await tunnel(pair)
        await server.expect(b"hello")


@pytest.mark.parametrize("first", ["client", "server"])
async def test_l4_half_closes_in_either_order(first: str, autojump_clock: MockClock) -> None:
    async with proxy_pair(OPAQUE) as pair:
        client, server = await tunnel(pair)
        one, two = (client, server) if first == "client" else (server, client)
        await play(one >> b"all I have", two << b"all I have")
        await one.send_eof()
        await two.expect(END)
        await trio.sleep(5)
        await play(two >> b"thank you", one << b"thank you")
        await two.send_eof()
        await one.expect(END)
        await pair.ended.wait()
        assert pair.stats.downstream_rq_reset == 0
        assert pair.stats.downstream_cx_destroy_remote == 0


async def test_l4_big_transfers_arrive_whole_both_ways_at_once(autojump_clock: MockClock) -> None:
    up, down = bytes(range(256)) * 8192, bytes(reversed(range(256))) * 8192

    async def send(end: End, data: bytes) -> None:
        await end.send(data)
        await end.send_eof()

    async def receive(end: End, data: bytes) -> None:
        got = bytearray()
        while piece := await end.raw.receive_some():
            got += piece
        assert bytes(got) == data

    async with proxy_pair(OPAQUE, bounded=True) as pair:
        client, server = await tunnel(pair)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, client, up)
            nursery.start_soon(send, server, down)
            nursery.start_soon(receive, client, down)
            nursery.start_soon(receive, server, up)
        await pair.ended.wait()


async def test_l4_client_that_does_not_read_stops_the_server(autojump_clock: MockClock) -> None:
    async with proxy_pair(OPAQUE, bounded=True) as pair, trio.open_nursery() as nursery:
        _, server = await tunnel(pair)
        sent = 0

        async def send() -> None:
            nonlocal sent
            while True:
                await server.send(bytes(64 * KIB))
                sent += 64 * KIB

        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        assert 0 < sent <= 512 * KIB
        nursery.cancel_scope.cancel()


async def test_l4_without_an_upstream_closes_the_client(autojump_clock: MockClock) -> None:
    async def refuse(_request: Request) -> Response:
        raise RateLimited("no")

    async with proxy_pair(OPAQUE, handler=refuse) as pair:
        await pair.client.expect(END)
        await pair.ended.wait()


async def test_l4_client_that_dies_is_not_taken_for_one_that_finished(
    autojump_clock: MockClock,
) -> None:
    async with proxy_pair(OPAQUE) as pair:
        client, server = await tunnel(pair)
        await client.send(b"half")
        await server.expect(b"half")
        pair.stream.abort()
        await server.expect(END)
        await pair.ended.wait()


async def test_l4_is_closed_when_nothing_moves(autojump_clock: MockClock) -> None:
    async with proxy_pair(OPAQUE, timeouts=timeouts(idle=100, stream_idle=5)) as pair:
        client, server = await tunnel(pair)
        for _ in range(3):
            await trio.sleep(90)
            await play(client >> b"x", server << b"x")
            await trio.sleep(90)
            await play(server >> b"x", client << b"x")
        last = trio.current_time()
        client.timeout = server.timeout = 200
        await client.expect(END)
        await server.expect(END)
        assert trio.current_time() - last == pytest.approx(100)
