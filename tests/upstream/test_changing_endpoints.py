"""Endpoints change in a cluster that is in use: those that stay notice nothing, those that go drain."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.alive import part
from tests.live import (
    GET,
    Live,
    answering,
    eventually,
    hang_up,
    http_response,
    refusing_port,
    running,
    upstream,
    web,
)
from xproxy.config.schema import EndpointConfig
from xproxy.testing import END, Party, play
from xproxy.upstream.choice import Choice
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.membership import Membership
from xproxy.upstream.roster import Roster

OK = http_response(b"ok")
HEAD = re.compile(rb"[^\r]+\r\n(?:[^\r]+\r\n)*\r\n")
LINES = "    codecs: [lines]\n"
ASKED = re.compile(rb"~q (\d+) [^\n]*\n")


def weighted(text: str, *weights: tuple[int, int]) -> str:
    """Replace the endpoints of ``text`` by ports with weights."""
    some = ", ".join(f"{{address: '127.0.0.1:{port}', weight: {w}}}" for port, w in weights)
    return re.sub(r"endpoints: \[[^\]]*\]", f"endpoints: [{some}]", text)


async def test_a_weight_that_changes_costs_no_connection_counter_or_mark() -> None:
    dead = refusing_port()
    async with upstream() as up:
        text = web(up.port, dead, failure_threshold=1, failure_time="1h")
        async with running(text) as live:
            client = await live.client()
            await client.send(GET)
            server: Party | None = None
            with trio.move_on_after(0.5):
                server = Party("upstream", await up.accept())
            if server is None:  # the other one came first
                await client.expect(re.compile(rb"HTTP/1.1 503 .*?\r\n\r\n.+", re.DOTALL))
                await client.send(GET)
                server = Party("upstream", await up.accept())
            await play(server << HEAD, server >> OK, client << OK)
            cluster, stats = live.cluster(), live.cluster().stats
            cluster.endpoints[1].failing_until = trio.current_time() + 3600
            part(cluster, Choice).marked()
            knew = [(e, e.total, e.failed, e.failing_until) for e in cluster.endpoints]
            total = stats.upstream_rq_total
            await live.reload(weighted(text, (up.port, 3), (dead, 5)))
            assert live.cluster() is cluster
            assert live.cluster().stats is stats
            assert [(e, e.total, e.failed, e.failing_until) for e in cluster.endpoints] == knew
            assert [e.weight for e in cluster.endpoints] == [3, 5]
            for _ in range(4):  # the one that is marked is left out, and the connection is the same
                await play(client >> GET, server << HEAD, server >> OK, client << OK)
            assert stats.upstream_rq_total == total + 4
            assert up.accepted == 1
            await live.settled(clients=1, upstreams=1)


async def test_one_endpoint_among_four_thousand_clusters_changes_and_nothing_else() -> None:
    others = "".join(f'  c{n}: {{endpoints: ["127.0.0.1:1"]}}\n' for n in range(4000))
    async with upstream() as up:
        text = web(up.port).replace("clusters:\n", "clusters:\n" + others)
        async with running(text) as live, trio.open_nursery() as nursery:
            nursery.start_soon(up.serve, answering())
            client = await live.client()
            await play(client >> GET, client << OK)
            assert live.runtime.snapshot is not None
            before = dict(live.runtime.snapshot.clusters)
            endpoints = {name: tuple(cluster.endpoints) for name, cluster in before.items()}
            changed = text.replace('c7: {endpoints: ["127.0.0.1:1"]}', C7)
            config = live.parse(changed)
            breaks = Breaks(trio.lowlevel.current_task())
            trio.lowlevel.add_instrument(breaks)
            await live.runtime.reload(config)
            trio.lowlevel.remove_instrument(breaks)
            assert breaks.count > 3
            assert live.runtime.snapshot.clusters == before
            assert {n: tuple(c.endpoints) for n, c in before.items()} == endpoints
            assert [
                (name, one.weight)
                for name, cluster in before.items()
                for one in cluster.endpoints
                if one.weight != 1
            ] == [("c7", 5)]
            assert len(live.runtime.ticker) == 1  # the one that has a connection
            await play(client >> GET, client << OK)
            assert up.accepted == 1
            nursery.cancel_scope.cancel()


C7 = 'c7: {endpoints: [{address: "127.0.0.1:1", weight: 5}]}'


class Breaks(trio.abc.Instrument):
    """Counts how often a task gives way to others."""

    def __init__(self, task: trio.lowlevel.Task) -> None:
        self.task = task
        self.count = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task is self.task


def removed_from(live: Live, before: Sequence[Endpoint]) -> Endpoint:
    """Return the endpoint that was removed, and look that it is not among the others."""
    (gone,) = [one for one in before if one not in live.cluster().endpoints]
    assert gone.leaving
    return gone


async def forgotten(live: Live, gone: Endpoint, clock: MockClock) -> None:
    """Let ticks pass until nothing is kept of an endpoint."""
    cluster = live.cluster()
    for _ in range(3):
        clock.jump(1.1)
        await wait_all_tasks_blocked()
    assert part(part(cluster, Roster), Membership).leaving == []
    assert gone.drained


@pytest.mark.parametrize("connections", ["shared", "bound"])
async def test_a_removed_endpoint_drains_http1(connections: str, mock_clock: MockClock) -> None:
    mock_clock.rate = 1
    async with (
        upstream() as one,
        upstream() as two,
        running(web(one.port, connections=connections)) as live,
    ):
        # Two clients: one connection is idle when its endpoint goes, the other in use.
        idle, busy = await live.client("idle"), await live.client("busy")
        servers: list[Party] = []
        for client in (idle, busy):
            await client.send(GET)
            servers.append(Party("upstream", await one.accept()))
            await servers[-1].expect(HEAD)
        before = live.cluster().endpoints
        await play(servers[0] >> OK, idle << OK)
        await live.reload(web(two.port, connections=connections))
        gone = removed_from(live, before)
        await servers[0].expect(END)
        await play(servers[1] >> OK, busy << OK)
        await servers[1].expect(END)
        assert gone.drained
        for client in (idle, busy):
            await client.send(GET)
            if connections == "bound" or client is idle:
                other = Party("other", await two.accept())
            await play(other << HEAD, other >> OK, client << OK)
        assert one.accepted == 2
        await forgotten(live, gone, mock_clock)
        await live.settled(clients=2)


@pytest.mark.parametrize("connections", ["shared", "bound"])
async def test_a_removed_endpoint_drains_shared_connections(
    connections: str, mock_clock: MockClock
) -> None:
    mock_clock.rate = 1
    async with (
        upstream() as one,
        upstream() as two,
        running(web(one.port, listener=LINES, connections=connections)) as live,
    ):
        client = await live.client()
        await client.send(b"~q 1 s m 0 -\n")
        server = Party("upstream", await one.accept())
        first = ASKED.match(await server.expect(ASKED))
        before = live.cluster().endpoints
        await live.reload(web(two.port, listener=LINES, connections=connections))
        gone = removed_from(live, before)
        await client.send(b"~q 2 s m 0 -\n")
        other = Party("other", await two.accept())
        second = ASKED.match(await other.expect(ASKED))
        assert first is not None
        assert second is not None
        await other.send(b"~s %b 0 0 -\n" % second[1])
        await client.expect(b"~s 2 0 0 -\n")
        assert not gone.drained
        await server.send(b"~s %b 0 0 -\n" % first[1])
        await client.expect(b"~s 1 0 0 -\n")
        await eventually(lambda: gone.drained, "its connection")
        await forgotten(live, gone, mock_clock)
        await live.settled(clients=1, upstreams=1)


async def test_a_stream_of_bytes_goes_on_to_an_endpoint_that_was_removed() -> None:
    def l4(port: int) -> str:
        return (
            "listeners: [{name: edge, address: '127.0.0.1:0', fallback: {cluster: web}}]\n"
            f"clusters: {{web: {{endpoints: ['127.0.0.1:{port}']}}}}\n"
        )

    async with upstream() as one, upstream() as two, running(l4(one.port)) as live:
        client = await live.client()
        server = Party("upstream", await one.accept())
        await play(client >> b"a", server << b"a")
        before = live.cluster().endpoints
        await live.reload(l4(two.port))
        gone = removed_from(live, before)
        await play(client >> b"b", server << b"b", server >> b"c", client << b"c")
        late = await live.client("late")
        other = Party("other", await two.accept())
        await play(late >> b"d", other << b"d")
        assert not gone.drained
        live.hang_up_all()
        for party in (server, other):
            await party.expect(END)
            await hang_up(party)
        await live.settled(clients=0, upstreams=0)
        assert gone.drained


async def test_a_connection_that_opens_while_its_endpoint_goes_is_used_once(
    mock_clock: MockClock,
) -> None:
    mock_clock.rate = 1
    async with upstream() as one, upstream() as two, running(web(one.port, listener=LINES)) as live:
        client = await live.client()
        cluster = live.cluster()
        (gone,) = cluster.endpoints
        await client.send(b"~q 1 s m 0 -\n")
        await eventually(lambda: gone.connections == 1, "it dials")
        cluster.become(live.parse(web(two.port, listener=LINES)).clusters["web"])
        server = Party("upstream", await one.accept())
        asked = ASKED.match(await server.expect(ASKED))
        assert asked is not None
        await server.send(b"~s %b 0 0 -\n" % asked[1])
        await client.expect(b"~s 1 0 0 -\n")
        await forgotten(live, gone, mock_clock)


async def test_an_endpoint_that_comes_back_while_it_drains_goes_on() -> None:
    async with upstream() as one, upstream() as two, running(web(one.port, two.port)) as live:
        client = await live.client()
        await client.send(GET)
        with trio.move_on_after(0.5) as scope:
            server = Party("upstream", await one.accept())
        port, other = (two.port, one.port) if scope.cancelled_caught else (one.port, two.port)
        if scope.cancelled_caught:
            server = Party("upstream", await two.accept())
        await server.expect(HEAD)
        cluster = live.cluster()
        (used,) = [one for one in cluster.endpoints if one.address.port == port]
        await live.reload(web(other))
        assert used.leaving
        await live.reload(web(port))
        assert list(cluster.endpoints) == [used]
        await play(server >> OK, client << OK)
        # It is no longer leaving, so its connection stays.
        await play(client >> GET, server << HEAD, server >> OK, client << OK)
        await live.settled(clients=1, upstreams=1)


async def test_a_reload_that_fails_changes_no_endpoint() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        cluster = live.cluster()
        before = list(cluster.endpoints)
        bad = web(refusing_port(), listener="    filters: [start_fails]\n")
        with pytest.raises(Exception, match="no such device"):
            await live.reload(bad)
        assert list(cluster.endpoints) == before
        assert not before[0].leaving
        assert cluster.config.endpoints == (EndpointConfig(address=before[0].address),)
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK, client << OK)
