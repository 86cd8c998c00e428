"""Upstreams that take a few requests at a time on a connection, refuse some, or say goodbye in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import h2.errors
import h2.settings
import pytest
import trio

from tests.http2_peer import Http2Peer
from tests.live import Live, Upstream, eventually, running, upstream, web
from xproxy.model.status import Status

MOST = h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS


class Server:
    """Takes ``most`` requests at a time on a connection, and answers when it is let."""

    def __init__(self, most: int, *, reads: bool = True) -> None:
        self.most = most
        self.reads = reads
        self.peers: list[Http2Peer] = []
        self.peak = 0
        self.go = trio.Event()

    async def __call__(self, stream: trio.SocketStream) -> None:
        peer = Http2Peer(stream, client=False, settings={MOST: self.most}, reads=self.reads)
        self.peers.append(peer)
        async with trio.open_nursery() as nursery:
            known = 0
            while not peer.over:
                await peer.more()
                new = peer.asked[known:]
                known += len(new)
                self.peak = max(self.peak, peer.h2.open_inbound_streams)
                for stream_id in new:
                    nursery.start_soon(self._answer, peer, stream_id)
            nursery.cancel_scope.cancel()

    async def _answer(self, peer: Http2Peer, stream_id: int) -> None:
        await self.go.wait()
        await peer.answer(stream_id)

    @property
    def taken(self) -> list[int]:
        """Requests so far, by connection."""
        return [len(peer.messages) for peer in self.peers]


async def client_of(live: Live) -> Http2Peer:
    peer = Http2Peer(await live.connect(), client=True)
    await peer.flush()
    return peer


async def test_full_connections_get_company() -> None:
    server = Server(2)
    async with (
        upstream() as up,
        running(web(up.port, codec="same")) as live,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(up.serve, server)
        client = await client_of(live)
        asked = [await client.ask() for _ in range(7)]
        await eventually(lambda: sum(server.taken) == 7, "all requests")
        # The first opens a connection; the others wait until it is known how many it takes.
        assert sorted(server.taken) == [1, 2, 2, 2]
        server.go.set()
        for stream_id in asked:
            assert (await client.whole(stream_id)).body == b"ok"
        assert server.peak <= 2
        assert live.cluster().stats.upstream_cx_total == 4
        # And what comes now finds them again, the first ones first.
        assert (await client.whole(await client.ask())).body == b"ok"
        assert up.accepted == 4
        live.hang_up_all()
        await live.settled(clients=0, upstreams=4)
        nursery.cancel_scope.cancel()


async def test_beyond_the_connections_requests_wait_and_are_bounded() -> None:
    server = Server(2)
    breakers = "{max_connections: 1, max_pending_requests: 3, connection_share: 100}"
    async with (
        upstream() as up,
        running(web(up.port, circuit_breakers=breakers, codec="same")) as live,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(up.serve, server)
        client = await client_of(live)
        first = await client.ask()
        await eventually(lambda: sum(server.taken) == 1, "the first")
        asked = [first, *[await client.ask() for _ in range(4)]]
        await eventually(lambda: live.cluster().stats.upstream_rq_active == 5, "the others")
        refused = await client.whole(await client.ask())
        assert refused[":status"] == "503"
        assert live.cluster().stats.upstream_rq_pending_overflow == 1
        server.go.set()
        for stream_id in asked:
            assert (await client.whole(stream_id)).body == b"ok"
        assert server.taken == [5]
        assert server.peak <= 2
        nursery.cancel_scope.cancel()


ONE = "{max_connections: 1, connection_share: 100}"


async def test_who_waits_is_counted_and_leaves_when_its_client_does() -> None:
    server = Server(1)
    async with (
        upstream() as up,
        running(web(up.port, circuit_breakers=ONE, codec="same")) as live,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(up.serve, server)
        client = await client_of(live)
        stats = live.cluster().stats
        first = await client.ask()
        await eventually(lambda: server.taken == [1], "the first")
        asked = [await client.ask() for _ in range(3)]
        await eventually(lambda: stats.upstream_rq_pending_active == 3, "the others")
        client.h2.reset_stream(asked[1])
        await client.flush()
        await eventually(lambda: stats.upstream_rq_pending_active == 2, "one to leave")
        server.go.set()
        for stream_id in (first, asked[0], asked[2]):
            assert (await client.whole(stream_id)).body == b"ok"
        assert server.taken == [3]
        assert stats.upstream_rq_pending_active == 0
        # What its server never heard of is no reset of one.
        assert all(message.reset is None for message in server.peers[0].messages.values())
        nursery.cancel_scope.cancel()


async def test_a_server_that_takes_fewer_than_before_and_more_again() -> None:
    server = Server(3)
    async with (
        upstream() as up,
        running(web(up.port, circuit_breakers=ONE, codec="same")) as live,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(up.serve, server)
        client = await client_of(live)
        stats = live.cluster().stats
        for _ in range(3):
            await client.ask()
        await eventually(lambda: server.taken == [3], "as many as it takes")
        (peer,) = server.peers
        peer.h2.update_settings({MOST: 1})
        await peer.flush()
        for _ in range(3):
            await client.ask()
        await eventually(lambda: stats.upstream_rq_pending_active == 3, "the others to wait")
        await peer.answer(peer.asked[0])
        await peer.answer(peer.asked[1])
        await client.until(
            lambda: sum(m.ended for m in client.messages.values()) == 2, "two of them"
        )
        assert server.taken == [3], "one is still in flight, and no more are taken"
        peer.h2.update_settings({MOST: 3})
        await peer.flush()
        await eventually(lambda: server.taken == [5], "two more")
        await eventually(lambda: stats.upstream_rq_pending_active == 1, "one to wait")
        nursery.cancel_scope.cancel()


async def test_who_waits_for_a_connection_that_says_goodbye_goes_to_another() -> None:
    server = Server(1)
    async with (
        upstream() as up,
        running(web(up.port, circuit_breakers=ONE, codec="same")) as live,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(up.serve, server)
        client = await client_of(live)
        first = await client.ask()
        await eventually(lambda: server.taken == [1], "the first")
        # A body in pieces cannot be sent again: it goes to the other connection in the first place.
        waiting = await client.ask(method="POST", body=b"half", ends=False)
        await eventually(lambda: live.cluster().stats.upstream_rq_pending_active == 1, "the other")
        await server.peers[0].goodbye(1)
        await eventually(lambda: len(server.peers) == 2, "another connection")
        client.h2.end_stream(waiting)
        server.go.set()
        for stream_id in (waiting, first):
            assert (await client.whole(stream_id)).body == b"ok"
        assert server.taken == [1, 1]
        nursery.cancel_scope.cancel()


async def test_a_request_that_cannot_be_sent_leaves_its_place_to_the_next() -> None:
    server = Server(1)
    async with (
        upstream() as up,
        running(web(up.port, circuit_breakers=ONE, codec="same")) as live,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(up.serve, server)
        client = await client_of(live)
        stats = live.cluster().stats
        first = await client.ask()
        await eventually(lambda: server.taken == [1], "the first")
        (peer,) = server.peers
        peer.h2.update_settings({h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: 1000})
        await peer.flush()
        long = await client.ask(extra=[("x-long", "v" * 2000)])
        await eventually(lambda: stats.upstream_rq_pending_active == 1, "one that is too long")
        short = await client.ask()
        await eventually(lambda: stats.upstream_rq_pending_active == 2, "one that is not")
        server.go.set()
        assert (await client.whole(first)).body == b"ok"
        assert (await client.whole(long))[":status"] == "431"
        assert (await client.whole(short)).body == b"ok"
        nursery.cancel_scope.cancel()


async def test_a_clients_own_connection_takes_no_more_than_its_server_does() -> None:
    server = Server(2)
    async with (
        upstream() as up,
        running(web(up.port, connections="bound", codec="same")) as live,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(up.serve, server)
        client = await client_of(live)
        stats = live.cluster().stats
        asked = [await client.ask() for _ in range(5)]
        await eventually(lambda: server.taken == [2], "as many as it takes")
        await eventually(lambda: stats.upstream_rq_pending_active == 3, "the others to wait")
        assert server.taken == [2]
        server.go.set()
        for stream_id in asked:
            assert (await client.whole(stream_id)).body == b"ok"
        assert (server.taken, server.peak, up.accepted) == ([5], 2, 1)
        nursery.cancel_scope.cancel()


async def test_who_waits_for_a_clients_own_connection_goes_to_its_successor() -> None:
    server = Server(1)
    async with (
        upstream() as up,
        running(web(up.port, connections="bound", codec="same")) as live,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(up.serve, server)
        client = await client_of(live)
        asked = [await client.ask()]
        await eventually(lambda: server.taken == [1], "the first")
        asked += [await client.ask() for _ in range(2)]
        await eventually(lambda: live.cluster().stats.upstream_rq_pending_active == 2, "the others")
        await server.peers[0].goodbye(1)
        await eventually(lambda: server.taken == [1, 1], "another connection")
        server.go.set()
        for stream_id in asked:
            assert (await client.whole(stream_id)).body == b"ok"
        assert server.taken == [1, 2]
        nursery.cancel_scope.cancel()


async def test_a_server_that_says_nothing_is_not_waited_for_for_ever() -> None:
    async with (
        upstream() as up,
        running(web(up.port, connect_timeout="500ms", codec="http2")) as live,
        trio.open_nursery() as nursery,
    ):
        client = await client_of(live)
        stats = live.cluster().stats
        asked = [await client.ask() for _ in range(2)]
        streams = [await up.accept()]
        await eventually(lambda: stats.upstream_rq_pending_active == 1, "the other one to wait")
        streams.append(await up.accept())
        await eventually(lambda: stats.upstream_rq_pending_active == 0, "it to go elsewhere")
        for stream in streams:
            nursery.start_soon(answering, stream)
        for stream_id in asked:
            assert (await client.whole(stream_id)).body == b"ok"
        nursery.cancel_scope.cancel()


async def answering(stream: trio.SocketStream) -> None:
    peer = Http2Peer(stream, client=False)
    await peer.until(lambda: peer.asked, "a request")
    await peer.answer(peer.asked[0])
    while not peer.over:
        await peer.more()


@pytest.mark.parametrize("connections", ["shared", "bound"])
async def test_who_must_hear_the_server_first_goes_elsewhere_once(connections: str) -> None:
    """A long head is not sent before its settings, and a server that leaves before it says them is asked no more."""
    async with (
        upstream() as up,
        running(web(up.port, codec="http2", connections=connections)) as live,
    ):
        client = await client_of(live)
        asked = await client.ask(extra=[("x-long", "v" * 9000)])
        for _ in range(2):
            await (await up.accept()).aclose()
        assert (await client.whole(asked))[":status"] == "503"
        assert up.accepted == 2
        stats = live.cluster().stats
        assert (stats.upstream_rq_total, stats.upstream_rq_pending_active) == (1, 0)


@pytest.mark.parametrize("connections", ["shared", "bound"])
async def test_who_must_hear_the_server_first_needs_no_place_in_the_queue(connections: str) -> None:
    none = "{max_pending_requests: 0}"
    server = Server(1)
    async with (
        upstream() as up,
        running(
            web(up.port, circuit_breakers=none, codec="http2", connections=connections)
        ) as live,
        trio.open_nursery() as nursery,
    ):
        server.go.set()
        nursery.start_soon(up.serve, server)
        client = await client_of(live)
        asked = await client.ask(extra=[("x-long", "v" * 9000)])
        assert (await client.whole(asked)).body == b"ok"
        assert server.taken == [1]
        nursery.cancel_scope.cancel()


async def test_one_connection_cannot_use_up_a_cluster() -> None:
    """1,024 uploads without an end, as many as a cluster takes: others are served all the same."""
    codec = (
        "    codecs: [auto, {name: http2, max_concurrent_streams: 1024, settings_timeout: 60s}]\n"
    )
    async with (
        upstream() as up,
        running(web(up.port, listener=codec, codec="http2")) as live,
        trio.open_nursery() as nursery,
    ):
        server = Server(10_000)
        server.go.set()
        nursery.start_soon(up.serve, server)
        greedy, good = await client_of(live), await client_of(live)
        for _ in range(1024):
            await greedy.ask(method="POST", ends=False)
        stats = live.cluster().stats
        await greedy.until(
            lambda: sum(m.ended for m in greedy.messages.values()) == 512, "512 refusals"
        )
        assert stats.upstream_rq_active == 512
        # Which of them is not said: tasks that begin in one round of the loop do so in any order.
        assert {m[":status"] for m in greedy.messages.values() if m.ended} == {"503"}
        for _ in range(3):
            assert (await good.whole(await good.ask()))[":status"] == "200"
        nursery.cancel_scope.cancel()


async def test_a_hundred_requests_are_what_a_client_is_offered() -> None:
    async with upstream() as up, running(web(up.port, codec="http2")) as live:
        client = await client_of(live)
        await client.until(lambda: client.h2.remote_settings.max_concurrent_streams == 100)


async def test_a_window_that_others_have_used_up_is_nobody_elses() -> None:
    """The upstream takes nothing of one upload, which fills its connection's window; another request has a body."""
    server = Server(100, reads=False)
    async with (
        upstream() as up,
        running(web(up.port, codec="http2")) as live,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(up.serve, server)
        server.go.set()
        client = await client_of(live)
        await client.ask(method="POST", body=bytes(60_000), ends=False)
        await client.ask(method="POST", body=bytes(60_000), ends=False)
        await eventually(
            lambda: sum(len(m.body) for p in server.peers for m in p.messages.values()) == 65_535,
            "a full window",
        )
        # What needs no window goes the usual way, and a body another one.
        assert (await client.whole(await client.ask())).body == b"ok"
        assert len(server.peers) == 1
        small = await client.ask(method="POST", body=b"ten bytes!")
        assert (await client.whole(small)).body == b"ok"
        assert len(server.peers) == 2
        nursery.cancel_scope.cancel()


async def test_surplus_connections_leave_when_the_rush_is_over() -> None:
    server = Server(1)
    async with (
        upstream() as up,
        running(web(up.port, idle_timeout="1s", codec="same")) as live,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(up.serve, server)
        client = await client_of(live)
        asked = [await client.ask() for _ in range(3)]
        await eventually(lambda: sum(server.taken) == 3, "all requests")
        server.go.set()
        for stream_id in asked:
            await client.whole(stream_id)
        assert live.cluster().stats.upstream_cx_active == 3

        async def go_on() -> None:
            while True:
                # At once, or it would count as idle itself where the machine has no time for it.
                await client.whole(await client.ask())

        nursery.start_soon(go_on)
        stats = live.cluster().stats
        await eventually(lambda: stats.upstream_cx_active == 1, "the others to leave")
        assert stats.upstream_cx_idle_timeout == 2
        assert not server.peers[0].over
        nursery.cancel_scope.cancel()


Behaviour = Callable[[Http2Peer, int], Awaitable[None]]


async def serve(up: Upstream, *behaviours: Behaviour) -> None:
    """Treat requests by turns, whichever connection they come on; the last of them stays."""
    left = list(behaviours)

    async def connection(stream: trio.SocketStream) -> None:
        peer = Http2Peer(stream, client=False)
        known = 0
        while not peer.over:
            await peer.more()
            for stream_id in peer.asked[known:]:
                known += 1
                await (left.pop(0) if len(left) > 1 else left[0])(peer, stream_id)

    await up.serve(connection)


async def refuse(peer: Http2Peer, stream_id: int) -> None:
    peer.h2.reset_stream(stream_id, h2.errors.ErrorCodes.REFUSED_STREAM)
    await peer.flush()


async def leave(peer: Http2Peer, stream_id: int) -> None:
    """Say goodbye without having looked at the request."""
    await peer.goodbye(max(stream_id - 2, 0))


async def answer(peer: Http2Peer, stream_id: int) -> None:
    await peer.answer(stream_id)


async def test_a_request_that_crosses_a_goodbye_is_sent_again() -> None:
    async with (
        upstream() as up,
        running(web(up.port, codec="same")) as live,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(serve, up, answer, leave, answer)
        client = await client_of(live)
        for body in (b"", b"a body, and a method that is not safe"):
            told = await client.whole(await client.ask(method="POST", body=body))
            assert told[":status"] == "200"
        stats = live.cluster().stats
        assert up.accepted == 2
        assert stats.upstream_rq_total == 2
        assert stats.upstream_rq_reset == 0
        nursery.cancel_scope.cancel()


async def test_who_always_says_goodbye_is_not_asked_for_ever() -> None:
    async with (
        upstream() as up,
        running(web(up.port, codec="same")) as live,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(serve, up, leave)
        client = await client_of(live)
        told = await client.whole(await client.ask())
        assert told[":status"] == "503"
        assert up.accepted == 2
        assert live.stats().statuses == {Status.UNAVAILABLE: 1}
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("retried", [True, False])
async def test_a_refused_stream_may_be_retried_whatever_it_asks_for(retried: bool) -> None:
    async with upstream() as up, trio.open_nursery() as nursery:
        text = web(up.port, codec="same")
        if retried:
            text = text.replace(
                "    - cluster: web\n",
                "    - {cluster: web, filters: [{name: retry, on: [refused-stream]}]}\n",
            )
        async with running(text) as live:
            nursery.start_soon(serve, up, refuse, answer)
            client = await client_of(live)
            told = await client.whole(await client.ask(method="POST", body=b"x"))
            assert told[":status"] == ("200" if retried else "503")
            assert live.cluster().stats.upstream_rq_retry == (1 if retried else 0)
            assert up.accepted == 1
        nursery.cancel_scope.cancel()
