"""What one stream does on an upstream connection that many share costs its neighbours nothing (HTTP/2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import h2.settings
import pytest
import trio

from tests.http2_peer import Http2Peer, Pairs
from tests.live import Live, eventually, running, upstream, web
from xproxy.connection.shared.calls import MOST_RESETS

LONGEST = h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE
LONG = [(f"x-{n}", "v" * 650) for n in range(90)]
"""A legal head, of 62 KiB."""


@attrs.define(eq=False)
class Server:
    """Answers each request when it is let; to ``/long`` with fields that are longer than we take."""

    settings: dict[h2.settings.SettingCodes, int] = attrs.field(factory=dict)
    peers: list[Http2Peer] = attrs.field(factory=list)
    go: trio.Event = attrs.field(factory=trio.Event)
    answer: list[tuple[str, str]] = attrs.field(factory=list)

    async def __call__(self, stream: trio.SocketStream) -> None:
        peer = Http2Peer(stream, client=False, settings=self.settings)
        self.peers.append(peer)
        try:
            async with trio.open_nursery() as nursery:
                known = 0
                while not peer.over:
                    await peer.more()
                    new = peer.asked[known:]
                    known += len(new)
                    for stream_id in new:
                        nursery.start_soon(self._answer, peer, stream_id)
                nursery.cancel_scope.cancel()
        except* trio.BrokenResourceError:
            pass  # the proxy has left: nobody waits for the other answers

    async def _answer(self, peer: Http2Peer, stream_id: int) -> None:
        if peer.messages[stream_id][":path"] == "/long":
            await peer.answer(stream_id, extra=self.answer)
            return
        await self.go.wait()
        if peer.messages[stream_id].reset is None:
            await peer.answer(stream_id)

    @property
    def resets(self) -> int:
        return sum(m.reset is not None for peer in self.peers for m in peer.messages.values())

    @property
    def taken(self) -> int:
        return sum(len(peer.asked) for peer in self.peers)


@asynccontextmanager
async def shared(server: Server) -> AsyncIterator[Live]:
    async with (
        upstream() as up,
        running(web(up.port, codec="http2")) as live,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(up.serve, server)
        yield live
        nursery.cancel_scope.cancel()


async def client_of(live: Live) -> Http2Peer:
    peer = Http2Peer(await live.connect(), client=True)
    await peer.flush()
    return peer


async def ten_innocents(client: Http2Peer, server: Server) -> list[int]:
    """Ask ten times, for answers that are yet to come."""
    before = server.taken
    asked = [await client.ask() for _ in range(10)]
    await eventually(lambda: server.taken == before + 10, "all requests")
    return asked


async def all_served(client: Http2Peer, asked: list[int], server: Server) -> None:
    server.go.set()
    for stream_id in asked:
        assert (await client.whole(stream_id)).body == b"ok"


async def test_a_head_that_the_server_does_not_take_is_not_sent() -> None:
    server = Server({LONGEST: 16_384})
    async with shared(server) as live:
        client = await client_of(live)
        asked = await ten_innocents(client, server)
        refused = await client.whole(await client.ask(extra=LONG))
        assert refused[":status"] == "431"
        assert b"16384" in refused.body
        await all_served(client, asked, server)
        assert len(server.peers) == 1


async def test_nor_before_the_server_has_said_so() -> None:
    server = Server({LONGEST: 16_384})
    server.go.set()
    async with shared(server) as live:
        client = await client_of(live)
        assert (await client.whole(await client.ask(extra=LONG)))[":status"] == "431"
        assert (await client.whole(await client.ask()))[":status"] == "200"
        assert server.taken == 1


async def test_a_server_that_takes_it_gets_it() -> None:
    server = Server({LONGEST: 1 << 20})
    server.go.set()
    async with shared(server) as live:
        client = await client_of(live)
        assert (await client.whole(await client.ask(extra=LONG)))[":status"] == "200"


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([(f"x-{n}", "v" * 1000) for n in range(70)], id="above max_head_bytes"),
        pytest.param([(f"x-{n}", "v") for n in range(120)], id="above max_headers"),
        pytest.param([(f"x-{n}", "v" * 2500) for n in range(40)], id="100 KiB"),
    ],
)
async def test_an_answer_whose_head_is_too_long_fails_alone(fields: Pairs) -> None:
    server = Server(answer=list(fields))
    async with shared(server) as live:
        client = await client_of(live)
        asked = await ten_innocents(client, server)
        for _ in range(3):  # and the table is the same afterwards
            assert (await client.whole(await client.ask("/long")))[":status"] == "502"
        await all_served(client, asked, server)
        assert len(server.peers) == 1
        assert (await client.whole(await client.ask()))[":status"] == "200"


async def test_a_request_whose_head_is_too_long_fails_alone() -> None:
    server = Server()
    async with shared(server) as live:
        client = await client_of(live)
        asked = await ten_innocents(client, server)
        for _ in range(3):
            refused = await client.whole(
                await client.ask(extra=[*LONG, *[(f"y-{n}", "v" * 2000) for n in range(9)]])
            )
            assert refused[":status"] == "431"
        await all_served(client, asked, server)


async def test_resets_of_many_clients_do_not_meet_on_one_connection() -> None:
    """A mesh whose clients time out: a server that takes a hundred for an attack would end what is innocent."""
    server = Server()
    async with shared(server) as live:
        good = await client_of(live)
        asked = await ten_innocents(good, server)
        for _ in range(3):
            hasty = await client_of(live)
            before = server.taken
            given_up = [await hasty.ask() for _ in range(70)]
            await eventually(lambda before=before: server.taken == before + 70, "all requests")  # type: ignore[misc]  # bound
            for stream_id in given_up:
                hasty.h2.reset_stream(stream_id, 8)
            await hasty.flush()
            await eventually(
                lambda: live.cluster().stats.upstream_rq_active == 10, "they are given up"
            )
        for peer in server.peers:
            resets = sum(m.reset is not None for m in peer.messages.values())
            assert resets <= MOST_RESETS + 10  # a few more as seconds pass
        assert len(server.peers) > 1
        await all_served(good, asked, server)
        # What was left with nobody waiting has gone; one connection stays.
        await eventually(
            lambda: live.cluster().stats.upstream_cx_active <= 2, "the others are gone"
        )
