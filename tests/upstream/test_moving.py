"""Upstream connections that nobody uses, given by a cluster and adopted by another one."""

from __future__ import annotations

import re
import socket

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.http2_peer import Http2Peer
from tests.live import (
    GET,
    Live,
    Upstream,
    answering,
    hang_up,
    http_response,
    running,
    upstream,
    web,
)
from xproxy.model.address import Address
from xproxy.testing import Party, play
from xproxy.transport.listener import address_of
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.moving import Given

HEAD = re.compile(rb"[^\r]+\r\n(?:[^\r]+\r\n)*\r\n")
OK = http_response(b"ok")


async def exchange(client: Party, server: Party) -> None:
    await play(client >> GET, server << HEAD, server >> OK, client << OK)


def adopt(live: Live, given: Given) -> None:
    """Go on with it in another proxy, over another descriptor of the same socket."""
    sock = given.handed.moment.sock
    assert isinstance(sock, socket.socket)
    copy = sock.dup()
    stream = live.runtime.poller.add(copy, address_of(copy, peer=True), address_of(copy))
    try:
        live.cluster().adopt(given.endpoint.address, stream, given.handed)
    except ValueError:
        stream.close()
        raise


async def first(live: Live, up: Upstream) -> tuple[Party, Party]:
    """Let one request through: the connection that it opened is idle afterwards."""
    client = await live.client()
    await client.send(GET)
    server = Party("upstream", await up.accept())
    await play(server << HEAD, server >> OK, client << OK)
    await live.settled(clients=1, upstreams=1)
    return client, server


async def test_a_pooled_connection_goes_on_in_another_cluster() -> None:
    async with upstream() as up, running(web(up.port)) as old, running(web(up.port)) as new:
        client, server = await first(old, up)
        other, second = await first(new, up)
        [given] = old.cluster().give()
        assert given.handed.requests == 1
        adopt(new, given)
        given.leave()
        await old.settled(clients=1)
        assert new.cluster().stats.upstream_cx_active == 2
        # Last in, first out.
        await exchange(other, server)
        await hang_up(second)
        await hang_up(client)
        await hang_up(other)


async def test_who_was_idle_for_a_while_is_used_last() -> None:
    async with upstream() as up, running(web(up.port)) as old, running(web(up.port)) as new:
        client, server = await first(old, up)
        other, second = await first(new, up)
        old.runtime.ticker.tick += 5
        [given] = old.cluster().give()
        assert given.handed.idle >= 5
        adopt(new, given)
        given.leave()
        await old.settled(clients=1)
        await exchange(other, second)
        [idle, own] = new.cluster().give()
        assert idle.handed.idle >= given.handed.idle > own.handed.idle
        for one in (idle, own):
            one.stay()
        await exchange(other, second)
        await hang_up(server)
        await hang_up(client)
        await hang_up(other)


async def test_what_is_put_back_is_used_again_and_what_is_in_use_is_not_given() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client, server = await first(live, up)
        for _ in range(2):
            [given] = live.cluster().give()
            assert list(live.cluster().give()) == []
            given.stay()
        await client.send(GET)
        await server.expect(HEAD)
        assert list(live.cluster().give()) == []
        await play(server >> OK, client << OK)
        assert live.cluster().stats.upstream_cx_total == 1
        await hang_up(client)


async def test_a_connection_that_was_closed_is_not_given() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client, server = await first(live, up)
        await hang_up(server)
        await wait_all_tasks_blocked(0.01)
        assert list(live.cluster().give()) == []
        await hang_up(client)


class Numbered:
    """An HTTP/2 server that answers with the number of the request on its connection."""

    def __init__(self) -> None:
        self.streams: list[list[int]] = []

    async def __call__(self, stream: trio.SocketStream) -> None:
        peer = Http2Peer(stream, client=False)
        answered: list[int] = []
        self.streams.append(answered)
        while not peer.over:
            await peer.more()
            for stream_id in peer.asked[len(answered) :]:
                answered.append(stream_id)
                await peer.answer(stream_id, b"<%d>" % len(answered))


async def test_a_shared_connection_goes_on_in_another_cluster() -> None:
    server = Numbered()
    async with (
        upstream() as up,
        running(web(up.port, codec="http2")) as old,
        running(web(up.port, codec="http2")) as new,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(up.serve, server)
        client, other = await old.client(), await new.client()
        await play(client >> GET, client << re.compile(rb".*<1>", re.DOTALL))
        await play(other >> GET, other << re.compile(rb".*<1>", re.DOTALL))
        [own] = new.cluster().give()  # so that there is no other one to be asked
        [given] = old.cluster().give()
        assert list(old.cluster().give()) == []
        adopt(new, given)
        given.leave()
        await old.settled(clients=1)
        await play(other >> GET, other << re.compile(rb".*<2>", re.DOTALL))
        assert server.streams == [[1, 3], [1]]
        own.stay()
        assert new.cluster().stats.upstream_cx_active == 2
        nursery.cancel_scope.cancel()


async def test_a_shared_connection_that_nobody_needs_leaves_at_once() -> None:
    server = Numbered()
    async with (
        upstream() as up,
        running(web(up.port, codec="http2")) as old,
        running(web(up.port, codec="http2")) as new,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(up.serve, server)
        client, other = await old.client(), await new.client()
        await play(client >> GET, client << re.compile(rb".*<1>", re.DOTALL))
        await play(other >> GET, other << re.compile(rb".*<1>", re.DOTALL))
        [given] = old.cluster().give()
        adopt(new, given)
        given.leave()
        await old.settled(clients=1)
        await new.settled(clients=1, upstreams=1)
        await play(other >> GET, other << re.compile(rb".*<2>", re.DOTALL))
        assert server.streams == [[1], [1, 3]]
        nursery.cancel_scope.cancel()


async def test_who_has_no_such_endpoint_or_lane_takes_nothing() -> None:
    async with upstream() as up, running(web(up.port)) as old, running(web(up.port)) as new:
        client, _server = await first(old, up)
        [given] = old.cluster().give()
        with pytest.raises(ValueError, match="no connector for http1"):
            adopt(new, given)
        elsewhere = Endpoint(Address("127.0.0.1", 1))
        with pytest.raises(ValueError, match="no endpoint"):
            adopt(new, attrs.evolve(given, endpoint=elsewhere))
        assert new.cluster().stats.upstream_cx_active == 0
        given.stay()
        await hang_up(client)


@pytest.mark.parametrize("codec", ["http1", "http2"])
async def test_what_is_given_while_the_proxy_ends_harms_nobody(codec: str) -> None:
    server = Numbered()
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, answering() if codec == "http1" else server)
        async with running(web(up.port, codec=codec)) as live:
            client = await live.client()
            await play(client >> GET, client << re.compile(rb".*(ok|<1>)", re.DOTALL))
            await wait_all_tasks_blocked(0.01)
            [given] = live.cluster().give()
            await hang_up(client)
        given.stay()  # too late: it is closed
        nursery.cancel_scope.cancel()
