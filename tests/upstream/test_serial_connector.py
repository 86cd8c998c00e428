"""One request at a time on an upstream connection: leased, handed back, resent, waited for, and never lost."""

from __future__ import annotations

import re

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.http2_peer import Http2Peer
from tests.live import (
    GET,
    PATIENCE,
    Live,
    Upstream,
    answering,
    eventually,
    hang_up,
    held_on_the_way,
    http_response,
    read_head,
    reset,
    running,
    small_buffers,
    socket_of,
    taken_from,
    upstream,
    web,
)
from xproxy.testing import BROKEN, END, NOTHING, Party, play

HEAD = re.compile(rb"[^\r]+\r\n(?:[^\r]+\r\n)*\r\n")
POST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi"
OK = http_response(b"ok")
BAD_GATEWAY = re.compile(rb"HTTP/1.1 502 .*?\r\n\r\n.*", re.DOTALL)
UNAVAILABLE = re.compile(rb"HTTP/1.1 503 .*?\r\n\r\n.*", re.DOTALL)

HINT = b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n"


async def one_exchange(client: Party, up: Upstream) -> Party:
    """Let one request through over a new upstream connection, and return the upstream's end of it."""
    await client.send(GET)
    server = Party("upstream", await up.accept())
    await play(server << HEAD, server >> OK, client << OK)
    return server


async def test_a_connection_is_kept_and_used_again() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        server = await one_exchange(client, up)
        await live.settled(clients=1, upstreams=1)
        other = await live.client("other client")
        await play(other >> GET, server << HEAD, server >> OK, other << OK)
        assert live.cluster().stats.upstream_cx_total == 1
        await live.settled(clients=2, upstreams=1)


async def test_an_idle_connection_that_the_endpoint_closed_is_not_used() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        server = await one_exchange(client, up)
        await hang_up(server)
        # Whether the close was noticed before the request or only by it: the client gets its answer.
        await one_exchange(client, up)
        await live.settled(clients=1, upstreams=1)


async def test_what_the_endpoint_closed_is_counted_and_let_go(mock_clock: MockClock) -> None:
    mock_clock.rate = 1
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        server = await one_exchange(client, up)
        await hang_up(server)
        stats = live.cluster().stats

        def noticed() -> bool:
            mock_clock.jump(1)
            return stats.upstream_cx_destroy_remote == 1

        await eventually(noticed, "upstream_cx_destroy_remote")
        await live.settled(clients=1, upstreams=0)


@pytest.mark.parametrize("idle", ["500ms", "3s"])
async def test_an_unused_connection_is_closed_after_its_time(
    idle: str, mock_clock: MockClock
) -> None:
    mock_clock.rate = 1
    async with upstream() as up, running(web(up.port, idle_timeout=idle)) as live:
        client = await live.client()
        server = await one_exchange(client, up)
        stats = live.cluster().stats

        def closed() -> bool:
            mock_clock.jump(1)
            return stats.upstream_cx_idle_timeout == 1

        await eventually(closed, "upstream_cx_idle_timeout")
        await server.expect(END)
        await live.settled(clients=1, upstreams=0)


async def test_unlimited_idle_time_closes_nothing(mock_clock: MockClock) -> None:
    mock_clock.rate = 1
    async with upstream() as up, running(web(up.port, idle_timeout="0")) as live:
        client = await live.client()
        server = await one_exchange(client, up)
        for _ in range(100):
            mock_clock.jump(1)
            await trio.lowlevel.checkpoint()
        await play(client >> GET, server << HEAD, server >> OK, client << OK)


async def test_lost_in_the_keep_alive_race_a_get_is_sent_again() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        server = await one_exchange(client, up)
        await play(client >> GET, server << HEAD)
        await hang_up(server)  # it had begun to close when the request came
        again = Party("second connection", await up.accept())
        await play(again << HEAD, again >> OK, client << OK)
        assert live.cluster().stats.upstream_rq_resent == 1
        await live.settled(clients=1, upstreams=1)


async def test_lost_in_the_keep_alive_race_a_post_is_not_sent_again() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        server = await one_exchange(client, up)
        await play(client >> POST, server << HEAD, server << b"hi")
        await hang_up(server)
        await client.expect(BAD_GATEWAY)
        assert up.accepted == 1
        assert live.cluster().stats.upstream_rq_resent == 0
        await live.settled(clients=1, upstreams=0)


async def test_a_new_connection_that_closes_without_an_answer_is_no_race() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        await client.send(GET)
        server = await up.accept()
        await read_head(server)
        await server.aclose()
        await client.expect(BAD_GATEWAY)
        assert up.accepted == 1
        await live.settled(clients=1, upstreams=0)


async def test_what_was_sent_again_is_not_sent_a_third_time() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        server = await one_exchange(client, up)
        await play(client >> GET, server << HEAD)
        await hang_up(server)
        again = await up.accept()
        await read_head(again)
        await again.aclose()
        await client.expect(BAD_GATEWAY)
        assert up.accepted == 2
        assert live.cluster().stats.upstream_rq_resent == 1
        await live.settled(clients=1, upstreams=0)


async def test_a_connection_serves_its_bound_of_requests() -> None:
    async with upstream() as up, running(web(up.port, max_requests_per_connection=2)) as live:
        client = await live.client()
        server = await one_exchange(client, up)
        await play(client >> GET, server << HEAD, server >> OK, client << OK, server << END)
        await one_exchange(client, up)
        await live.settled(clients=1, upstreams=1)


async def test_a_response_that_announces_the_end_closes_the_connection() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        closing = http_response(b"ok", connection="close")
        await play(server << HEAD, server >> closing, client << OK, server << END)
        await live.settled(clients=1, upstreams=0)


async def test_bytes_behind_a_response_make_the_connection_unusable() -> None:
    # They would be taken for the answer to the next request: response splitting (RFC 9112 §9.2).
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK + http_response(b"for somebody else"), client << OK)
        await one_exchange(client, up)
        assert up.accepted == 2


# ---- bodies in pieces


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


async def test_a_streamed_response_read_to_its_end_gives_the_connection_back() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> CHUNKED, client << HEAD)
        stats = live.cluster().stats
        assert stats.upstream_rq_active == 1
        await play(
            server >> b"2\r\nab\r\n",
            client << b"2\r\nab\r\n",
            server >> b"0\r\n\r\n",
            client << b"0\r\n\r\n",
        )
        await live.settled(clients=1, upstreams=1)
        await play(client >> GET, server << HEAD, server >> OK, client << OK)


async def test_a_client_that_leaves_in_the_middle_of_a_response_costs_the_connection() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await play(
            server << HEAD,
            server >> CHUNKED + b"2\r\nab\r\n",
            client << HEAD,
            client << b"2\r\nab\r\n",
        )
        await hang_up(client)
        await live.settled(clients=0, upstreams=0)
        assert live.stats().downstream_cx_destroy_remote == 1


@pytest.mark.parametrize("way", ["fin", "rst"])
async def test_an_upstream_that_dies_in_the_middle_shows_the_client_a_broken_message(
    way: str,
) -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await play(
            server << HEAD,
            server >> CHUNKED + b"2\r\nab\r\n",
            client << HEAD,
            client << b"2\r\nab\r\n",
        )
        if way == "rst":
            reset(server)
        else:
            await hang_up(server)
        await client.expect(BROKEN)
        await live.settled(clients=0, upstreams=0)
        assert live.stats().downstream_rq_reset == 1


async def test_an_upload_is_streamed_and_the_connection_kept() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        await client.send(
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
        )
        server = Party("upstream", await up.accept())
        await play(
            server << HEAD,
            server << b"3\r\nabc\r\n",
            client >> b"1\r\nd\r\n",
            server << b"1\r\nd\r\n",
            client >> b"0\r\n\r\n",
            server << b"0\r\n\r\n",
            server >> OK,
            client << OK,
        )
        await live.settled(clients=1, upstreams=1)


async def test_half_an_upload_never_becomes_a_whole_one() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        await client.send(
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
        )
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server << b"3\r\nabc\r\n")
        await hang_up(client)
        came = b""
        try:
            with trio.fail_after(PATIENCE):
                while data := await server.stream.receive_some():
                    came += data
        except trio.BrokenResourceError:
            pass
        assert came == b""
        await live.settled(clients=0, upstreams=0)


async def test_an_answer_before_the_end_of_the_upload_reaches_the_client() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        await client.send(
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
        )
        server = Party("upstream", await up.accept())
        refused = http_response(b"no", "403 Forbidden")
        await play(server << HEAD, server << b"3\r\nabc\r\n", server >> refused)
        assert (await client.expect(HEAD)).startswith(b"HTTP/1.1 403 Forbidden\r\n")
        await client.expect(b"no")
        await live.settled(clients=None, upstreams=0)


# ---- waiting for a connection


FULL = "{max_connections: 1, max_pending_requests: 2}"


async def test_waiting_requests_get_the_connection_in_turn() -> None:
    async with upstream() as up, running(web(up.port, circuit_breakers=FULL)) as live:
        clients = [await live.client(f"client {n}") for n in range(3)]
        stats = live.cluster().stats
        await clients[0].send(b"GET /0 HTTP/1.1\r\nhost: a\r\n\r\n")
        server = Party("upstream", await up.accept())
        for n in (1, 2):
            await clients[n].send(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % n)
            await eventually(lambda n=n: stats.upstream_rq_pending_active == n, "pending")  # type: ignore[misc]
        for n in range(3):
            asked = await server.expect(HEAD)
            assert asked.startswith(b"GET /%d " % n)
            await play(server >> OK, clients[n] << OK)
        assert up.accepted == 1
        await live.settled(clients=3, upstreams=1)
        assert stats.upstream_cx_overflow == 2


async def test_more_than_may_wait_are_refused_at_once() -> None:
    async with upstream() as up, running(web(up.port, circuit_breakers=FULL)) as live:
        clients = [await live.client(f"client {n}") for n in range(4)]
        stats = live.cluster().stats
        await clients[0].send(GET)
        server = Party("upstream", await up.accept())
        for n in (1, 2):
            await clients[n].send(GET)
            await eventually(lambda n=n: stats.upstream_rq_pending_active == n, "pending")  # type: ignore[misc]
        await clients[3].send(GET)
        refused = await clients[3].expect(UNAVAILABLE)
        assert b"retry-after: 1" in refused.lower()
        assert b"x-envoy-overloaded: true" in refused
        assert stats.upstream_rq_pending_overflow == 1
        for n in range(3):
            await play(server << HEAD, server >> OK, clients[n] << OK)
        await live.settled(clients=4, upstreams=1)


async def test_a_waiting_client_that_leaves_is_passed_over() -> None:
    async with upstream() as up, running(web(up.port, circuit_breakers=FULL)) as live:
        first, second, third = [await live.client(f"client {n}") for n in range(3)]
        stats = live.cluster().stats
        await first.send(GET)
        server = Party("upstream", await up.accept())
        await second.send(GET)
        await eventually(lambda: stats.upstream_rq_pending_active == 1, "pending")
        await third.send(GET)
        await eventually(lambda: stats.upstream_rq_pending_active == 2, "pending")
        await hang_up(second)
        await eventually(lambda: stats.upstream_rq_pending_active == 1, "one gave up")
        await play(server << HEAD, server >> OK, first << OK)
        await play(server << HEAD, server >> OK, third << OK)
        await play(server << NOTHING)
        await live.settled(clients=2, upstreams=1)


async def test_when_the_connection_dies_who_waits_opens_another() -> None:
    async with upstream() as up, running(web(up.port, circuit_breakers=FULL)) as live:
        first, second = [await live.client(f"client {n}") for n in range(2)]
        stats = live.cluster().stats
        await first.send(POST)
        server = Party("upstream", await up.accept())
        await second.send(GET)
        await eventually(lambda: stats.upstream_rq_pending_active == 1, "pending")
        await server.expect(HEAD)
        await hang_up(server)
        await first.expect(BAD_GATEWAY)
        other = Party("second connection", await up.accept())
        await play(other << HEAD, other >> OK, second << OK)
        await live.settled(clients=2, upstreams=1)


async def test_when_the_endpoint_is_gone_nobody_waits_for_ever() -> None:
    async with upstream() as up, running(web(up.port, circuit_breakers=FULL)) as live:
        first, second, third = [await live.client(f"client {n}") for n in range(3)]
        stats = live.cluster().stats
        await first.send(POST)
        server = await up.accept()
        await second.send(GET)
        await third.send(GET)
        await eventually(lambda: stats.upstream_rq_pending_active == 2, "pending")
        await up.aclose()
        await read_head(server)
        await server.aclose()
        await first.expect(BAD_GATEWAY)
        await second.expect(UNAVAILABLE)
        await third.expect(UNAVAILABLE)
        await live.settled(clients=3, upstreams=0)


async def test_a_connection_of_another_protocol_to_the_endpoint_leaves_nobody_waiting() -> None:
    # An L4 connection to the same endpoint uses up the limit, and will never be given to an HTTP request.
    text = web(9, circuit_breakers="{max_connections: 1}").replace(
        "    routes: main\n", "    routes: main\n    fallback: {cluster: web}\n"
    )
    async with (
        upstream() as up,
        running(text.replace("127.0.0.1:9", f"127.0.0.1:{up.port}")) as live,
    ):
        raw = await live.client("raw")
        await raw.send(b"\x00\x01\x02 no protocol that anybody knows")
        await up.accept()
        client = await live.client()
        await one_exchange(client, up)


# ---- cancelled at every step


async def scenario(live: Live, up: Upstream, step: int) -> None:
    """Go ``step`` steps through an exchange with a body each way, and leave."""
    client = await live.client()
    steps = (
        b"POST / HTTP/1.1\r\nhost: a\r\n",
        b"transfer-encoding: chunked\r\n\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
    )
    for data in steps[:step]:
        await client.send(data)
        await wait_all_tasks_blocked(0.001)
    server: trio.SocketStream | None = None
    if step >= 2:
        server = await up.accept()
        await read_head(server)
    for data in (CHUNKED, b"2\r\nab\r\n", b"0\r\n\r\n")[: max(0, step - len(steps))]:
        assert server is not None
        await server.send_all(data)
        await wait_all_tasks_blocked(0.001)
    if step % 2:
        reset(client)
    else:
        await hang_up(client)
    await live.settled(clients=0, upstreams=None)
    if server is not None:
        await server.aclose()


async def test_what_the_codec_sets_apart_has_connections_of_its_own(mock_clock: MockClock) -> None:
    """A server may take a connection to speak what it spoke first: each dialect has its own."""
    mock_clock.rate = 1
    framed = bytes.fromhex("0000000e 80010001 00000001 6d 00000000 00")
    unframed = bytes.fromhex("80010001 00000001 6d 00000000 00")

    def answer_to(call: bytes) -> bytes:
        return call.replace(b"\x80\1\0\1", b"\x80\1\0\2")

    spoken: list[set[int]] = []

    async def serve(stream: trio.SocketStream) -> None:
        lengths: set[int] = set()
        spoken.append(lengths)
        async for data in stream:
            lengths.add(len(data))
            await stream.send_all(answer_to(bytes(data)))

    async with (
        upstream() as up,
        running(web(up.port, idle_timeout="3s")) as live,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(up.serve, serve)
        for call in (framed, unframed, framed, unframed):
            client = await live.client()
            await play(client >> call, client << answer_to(call))
        stats = live.cluster().stats
        assert stats.upstream_cx_total == 2
        assert spoken == [{len(framed)}, {len(unframed)}]

        def expired() -> bool:
            mock_clock.jump(1)
            return stats.upstream_cx_idle_timeout == 2

        await eventually(expired, "upstream_cx_idle_timeout")
        await live.settled(clients=4, upstreams=0)
        nursery.cancel_scope.cancel()


async def test_a_client_that_leaves_at_any_step_leaves_nothing_behind() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        for step in range(8):
            await scenario(live, up, step)
            # What was kept is usable, or is noticed not to be: the next request is answered in any case.
            client = await live.client()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(up.serve, answering())
                await play(client >> GET, client << OK)
                nursery.cancel_scope.cancel()
            await hang_up(client)
            await live.settled(clients=0)


@pytest.mark.parametrize("version", ["http1", "http2"])
async def test_interim_responses_that_nobody_reads_stop_the_endpoint(version: str) -> None:
    """However many it sends: what is not read does not pile up."""
    # A busy machine takes its time until all that lies on the way is full.
    patient = "- {cluster: web, timeout: 10m}"
    async with (
        upstream() as up,
        running(web(up.port).replace("- cluster: web", patient)) as live,
    ):
        if version == "http1":
            client = await live.client()
            await client.send(GET)
            reader = socket_of(client)
        else:
            reader = await live.connect()
            peer = Http2Peer(reader, client=True)
            await peer.ask()
            await peer.more()  # its settings, which must be acknowledged in time
        sender = await up.accept()
        await sender.receive_some(1000)
        small_buffers(sender, reader)
        most = held_on_the_way(sender, reader)
        if version == "http2":
            most *= 4  # where a hint is shorter by as much
        assert await taken_from(sender, most, HINT * 100) <= most
        assert live.stats().downstream_rq_active == 1
        await reader.aclose()
        await live.settled(clients=0, upstreams=0)


async def test_a_client_that_resets_during_interim_responses_is_not_the_endpoints_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with upstream() as up, running(web(up.port)) as live:
        for _ in range(5):
            client = await live.client()
            await client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            server = await up.accept()
            await server.receive_some(1000)
            await server.send_all(HINT)
            await client.expect(b"HTTP/1.1 103 ")
            reset(client)
            try:
                while True:  # until the proxy has ended it
                    await server.send_all(HINT * 100)
            except trio.BrokenResourceError:
                pass
        await live.settled(clients=0, upstreams=0)
        (endpoint,) = live.cluster().endpoints
        assert (endpoint.failed, endpoint.failures_in_a_row) == (0, 0)
        assert live.cluster().stats.upstream_rq_reset == 0
    assert not [record for record in caplog.records if record.exc_info]


async def test_of_100_gets_that_meet_a_closing_connection_none_fails() -> None:
    # Without any retry configured: each but the first finds a connection that its server closes as the request comes.
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        server = await one_exchange(client, up)
        for _ in range(100):
            await play(client >> GET, server << HEAD)
            await hang_up(server)
            server = Party("the next connection", await up.accept())
            await play(server << HEAD, server >> OK, client << OK)
            await play(client >> GET, server << HEAD, server >> OK, client << OK)
        stats = live.cluster().stats
        assert (stats.upstream_rq_resent, stats.upstream_rq_retry) == (100, 0)
        await live.settled(clients=1, upstreams=1)
