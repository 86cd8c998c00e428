"""Many requests at a time on an upstream connection that clients share."""

from __future__ import annotations

import re

import trio

from tests.live import (
    PATIENCE,
    Upstream,
    eventually,
    hang_up,
    refusing_port,
    running,
    upstream,
    web,
)
from xproxy.codecs.bolt.plugin import PLUGIN as BOLT
from xproxy.model.frames import Frame, Head
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.testing import END, NOTHING, Party, play

LINES = "    codecs: [lines]\n"
ASKED = re.compile(rb"~q (\d+) (\w+) (\w+) (\d+) -\n")


async def question(server: Party) -> tuple[bytes, bytes]:
    """Take one request without a body from the upstream's end; returns its id there and its method."""
    found = ASKED.match(await server.expect(ASKED))
    assert found is not None
    return found[1], found[3]


async def answer(server: Party, number: bytes, body: bytes = b"") -> None:
    await server.send(b"~s %b 0 %d -\n%b" % (number, len(body), body))


def lines(port: int, **fields: object) -> str:
    return web(port, timeouts="{}", listener=LINES, **fields)


async def call(client: Party, up: Upstream, method: bytes = b"hello") -> Party:
    """Make the first call over a new upstream connection and return the upstream's end of it."""
    await client.send(b"~q 1 s %b 0 -\n" % method)
    server = Party("upstream", await up.accept())
    number, _ = await question(server)
    await answer(server, number, b"yes")
    await client.expect(b"~s 1 0 3 -\nyes")
    return server


async def test_clients_share_a_connection_and_ids_do_not_mix() -> None:
    async with upstream() as up, running(lines(up.port)) as live:
        first, second = await live.client("first"), await live.client("second")
        await first.send(b"~q 7 s one 0 -\n")
        server = Party("upstream", await up.accept())
        one = await question(server)
        await second.send(b"~q 7 s two 0 -\n")
        two = await question(server)
        assert one[0] != two[0]
        await answer(server, two[0], b"2")
        await answer(server, one[0], b"1")
        await play(first << b"~s 7 0 1 -\n1", second << b"~s 7 0 1 -\n2")
        assert up.accepted == 1
        await live.settled(clients=2, upstreams=1)


async def test_one_dials_and_the_others_wait_for_it() -> None:
    async with upstream() as up, running(lines(up.port)) as live:
        client = await live.client()
        await client.send(b"".join(b"~q %d s m%d 0 -\n" % (n, n) for n in range(20)))
        server = Party("upstream", await up.accept())
        for _ in range(20):
            number, method = await question(server)
            await answer(server, number, method)
        for _ in range(20):
            await client.expect(re.compile(rb"~s (\d+) 0 \d -\nm\1(?!\d)"))
        assert up.accepted == 1
        stats = live.cluster().stats
        assert stats.upstream_cx_total == 1
        await live.settled(clients=1, upstreams=1)


async def test_when_the_dial_fails_all_who_wait_are_told() -> None:
    async with running(lines(refusing_port())) as live:
        client = await live.client()
        await client.send(b"".join(b"~q %d s m 0 -\n" % n for n in range(5)))
        refused = re.compile(rb"~s \d 14 (\d+) [^\n]*\n")
        for _ in range(5):
            await client.expect(refused)
        # Together, by one try: each on its own would find the same, one connect_timeout after the other.
        assert live.cluster().stats.upstream_cx_connect_fail == 1
        await live.settled(clients=1, upstreams=0)


async def test_too_many_that_wait_for_the_dial_are_refused() -> None:
    limits = "{max_pending_requests: 0}"
    async with upstream() as up, running(lines(up.port, circuit_breakers=limits)) as live:
        client = await live.client()
        await client.send(b"~q 1 s a 0 -\n~q 2 s b 0 -\n")
        refused = await client.expect(re.compile(rb"~s [12] 8 \d+ [^\n]*\n"))
        server = Party("upstream", await up.accept())
        number, _ = await question(server)
        await answer(server, number)
        await client.expect(b"~s 1 0 0 -\n" if refused[3:4] == b"2" else b"~s 2 0 0 -\n")
        assert live.cluster().stats.upstream_rq_pending_overflow == 1
        await live.settled(clients=1, upstreams=1)


async def test_requests_go_to_the_connection_with_the_fewest_in_flight() -> None:
    async with upstream() as up, running(lines(up.port, connections_per_endpoint=2)) as live:
        client = await live.client()
        servers: list[Party] = []
        for n in (1, 2):
            await client.send(b"~q %d s m 0 -\n" % n)
            servers.append(Party(f"upstream {n}", await up.accept()))
        asked = [await question(server) for server in servers]
        await answer(servers[1], asked[1][0])
        await client.expect(b"~s 2 0 0 -\n")
        await client.send(b"~q 3 s m 0 -\n")
        number, _ = await question(servers[1])
        await play(servers[0] << NOTHING)
        await answer(servers[1], number)
        await client.expect(b"~s 3 0 0 -\n")
        await answer(servers[0], asked[0][0])
        await client.expect(b"~s 1 0 0 -\n")
        assert up.accepted == 2
        await live.settled(clients=1, upstreams=2)


async def test_one_connection_has_half_of_a_cluster_and_leaves_the_rest() -> None:
    """Hundreds of calls on one connection, as RPC clients have; and a flood of them leaves others what they need."""
    async with upstream() as up, running(lines(up.port)) as live:
        greedy, good = await live.client("greedy"), await live.client("good")
        await greedy.send(b"".join(b"~q %d s m 0 -\n" % n for n in range(600)))
        server = Party("upstream", await up.accept())
        stats = live.cluster().stats
        await eventually(lambda: stats.upstream_rq_pending_overflow == 88, "the rest is refused")
        assert stats.upstream_rq_active == 512
        for _ in range(512):
            await question(server)
        await good.send(b"~q 1 s good 0 -\n")
        number, method = await question(server)
        assert method == b"good"
        await answer(server, number)
        await good.expect(b"~s 1 0 0 -\n")


async def test_above_the_limit_of_connections_those_there_are_serve() -> None:
    text = lines(0, connections_per_endpoint=4, circuit_breakers="{max_connections: 2}")
    async with (
        upstream() as up,
        running(text.replace("127.0.0.1:0]", f"127.0.0.1:{up.port}]")) as live,
    ):
        client = await live.client()
        servers: list[Party] = []
        for n in range(2):
            await client.send(b"~q %d s m 0 -\n" % n)
            servers.append(Party(f"upstream {n}", await up.accept()))
            await question(servers[-1])
        await client.send(b"~q 9 s m 0 -\n")
        stats = live.cluster().stats
        await eventually(lambda: stats.upstream_rq_active == 3, "the third request")
        assert stats.upstream_cx_active == up.accepted == 2
        assert stats.upstream_cx_overflow >= 1


async def test_a_lost_connection_fails_what_was_in_flight_and_is_replaced() -> None:
    async with upstream() as up, running(lines(up.port)) as live:
        client = await live.client()
        server = await call(client, up)
        await client.send(b"~q 2 s lost 0 -\n~q 3 s lost 0 -\n")
        await question(server)
        await question(server)
        await hang_up(server)
        for _ in range(2):
            await client.expect(re.compile(rb"~s [23] 14 0 [^\n]*\n"))
        await live.settled(clients=1, upstreams=0)
        await call(client, up)
        await live.settled(clients=1, upstreams=1)


async def test_a_violation_fails_what_was_in_flight_and_closes_the_connection() -> None:
    async with upstream() as up, running(lines(up.port)) as live:
        client = await live.client()
        server = await call(client, up)
        await client.send(b"~q 2 s m 0 -\n")
        await question(server)
        await server.send(b"this is no line\n")
        await client.expect(re.compile(rb"~s 2 14 0 [^\n]*\n"))
        await server.expect(END)
        await live.settled(clients=1, upstreams=0)


async def test_an_endpoint_that_says_goodbye_answers_what_it_has_and_gets_no_more() -> None:
    async with upstream() as up, running(lines(up.port)) as live:
        client = await live.client()
        server = await call(client, up)
        await client.send(b"~q 2 s old 0 -\n")
        number, _ = await question(server)
        await server.send(b"~g\n")
        await call(client, up, b"new")
        await answer(server, number)
        await client.expect(b"~s 2 0 0 -\n")
        await server.expect(END)
        await live.settled(clients=1, upstreams=1)


async def test_goodbye_and_a_client_that_gives_up_leave_no_connection_behind() -> None:
    async with upstream() as up, running(lines(up.port)) as live:
        client = await live.client()
        server = await call(client, up)
        await client.send(b"~q 2 s m 0 -\n")
        await question(server)
        await server.send(b"~g\n")
        await hang_up(client)
        await server.expect(END)
        await live.settled(clients=0, upstreams=0)


async def test_a_client_that_leaves_gives_up_its_requests_and_not_the_connection() -> None:
    async with upstream() as up, running(lines(up.port)) as live:
        first, second = await live.client("first"), await live.client("second")
        server = await call(first, up)
        await first.send(b"~q 2 s slow 0 -\n")
        late, _ = await question(server)
        await hang_up(first)
        await live.settled(clients=1, upstreams=1)
        assert live.cluster().stats.upstream_rq_cancelled == 1
        await answer(server, late)  # nobody waits for it any more: dropped
        await second.send(b"~q 1 s m 0 -\n")
        number, _ = await question(server)
        assert number != late
        await answer(server, number)
        await second.expect(b"~s 1 0 0 -\n")


async def test_a_client_that_leaves_during_the_dial_does_not_fail_the_others() -> None:
    async with upstream() as up, running(lines(up.port)) as live:
        first, second = await live.client("first"), await live.client("second")
        await first.send(b"~q 1 s m 0 -\n")
        await hang_up(first)
        await second.send(b"~q 1 s m 0 -\n")

        async def serve(stream: trio.SocketStream) -> None:
            async for data in stream:
                for asked in ASKED.finditer(data):
                    await stream.send_all(b"~s %b 0 0 -\n" % asked[1])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(up.serve, serve)
            await second.expect(b"~s 1 0 0 -\n")
            nursery.cancel_scope.cancel()


async def test_a_oneway_message_is_sent_and_nobody_waits() -> None:
    async with upstream() as up, running(lines(up.port)) as live:
        client = await live.client()
        server = await call(client, up)
        await client.send(b"~o 5 s tell 2 -\nhi")
        await server.expect(re.compile(rb"~o \d+ s tell 2 -\nhi"))
        await live.settled(clients=1, upstreams=1)


async def test_an_endpoint_that_answers_before_it_reads_on_is_no_deadlock() -> None:
    # More is asked and answered than all buffers on the way hold: whoever stops reading first stops everybody.
    body, count = bytes(1024 * 1024), 24

    async def serve(stream: trio.SocketStream) -> None:
        codec = BOLT.open(Role.SERVER, DEFAULT_LIMITS)
        async for data in stream:
            for frame in codec.receive(bytes(data)):
                assert isinstance(frame, Head)
                answer = Head(frame.stream_id, ResponseHead(status=Status.OK), frame.data, True)
                await stream.send_all(codec.send(answer))

    async with upstream() as up, running(web(up.port)) as live, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, serve)
        stream = await live.connect()
        codec = BOLT.open(Role.CLIENT, DEFAULT_LIMITS)
        head = RequestHead(service="a", method="b")

        async def ask() -> None:
            for number in range(1, count + 1):
                await stream.send_all(codec.send(Head(number, head, body, True)))

        nursery.start_soon(ask)
        answers: list[Frame] = []
        with trio.fail_after(PATIENCE):
            while len(answers) < count:
                answers += codec.receive(bytes(await stream.receive_some(1 << 20)))
        assert {a.stream_id for a in answers if isinstance(a, Head)} == set(range(1, count + 1))
        assert all(isinstance(a, Head) and a.data == body for a in answers)
        nursery.cancel_scope.cancel()
