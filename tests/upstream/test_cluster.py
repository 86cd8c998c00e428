"""Choosing endpoints, marking those that fail, counting, converting, and coming to an end."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Sequence
from pathlib import Path
from random import Random

import pytest
import trio
from trio.testing import MockClock

from tests.http2_peer import Http2Peer
from tests.live import (
    GET,
    Live,
    Upstream,
    answering,
    eventually,
    hang_up,
    http_response,
    refusing_port,
    registry,
    running,
    unused_port,
    upstream,
    web,
)
from xproxy.model.status import Status
from xproxy.registry import LOAD_BALANCERS, Entry
from xproxy.stream.ending import Answered, Broke
from xproxy.stream.exchange import Request
from xproxy.testing import BROKEN, Party, play
from xproxy.upstream.attempt import Attempt
from xproxy.upstream.balance.api import Picker
from xproxy.upstream.endpoint import Endpoint

OK = http_response(b"ok")
HEAD = re.compile(rb"[^\r]+\r\n(?:[^\r]+\r\n)*\r\n")


async def get(client: Party) -> bytes:
    """Make a request and return the status code of the answer."""
    await client.send(GET)
    head = await client.expect(re.compile(rb"HTTP/1.1 (\d+) .*?\r\n\r\n", re.DOTALL))
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    assert length is not None
    await client.expect(re.compile(rb".{%b}" % length[1], re.DOTALL))
    return head[9:12]


def endpoint_at(live: Live, port: int) -> Endpoint:
    return next(e for e in live.cluster().endpoints if e.address.port == port)


async def test_requests_are_spread_over_the_endpoints() -> None:
    async with (
        upstream() as one,
        upstream() as two,
        running(web(one.port, two.port)) as live,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(one.serve, answering(b"1"))
        nursery.start_soon(two.serve, answering(b"2"))
        client = await live.client()
        bodies: Counter[bytes] = Counter()
        for _ in range(20):
            await client.send(GET)
            await client.expect(HEAD)
            bodies[await client.expect(re.compile(rb"[12]"))] += 1
        assert bodies == {b"1": 10, b"2": 10}
        assert [e.total for e in live.cluster().endpoints] == [10, 10]
        nursery.cancel_scope.cancel()


class ByPath:
    """The second endpoint has a path of its own."""

    def __init__(self, random: Random) -> None:
        self.endpoints: Sequence[Endpoint] = ()

    def picker(self, endpoints: Sequence[Endpoint], previous: Picker | None) -> ByPath:
        self.endpoints = endpoints
        return self

    def pick(self, request: Request, avoid: Container[object]) -> Endpoint:
        return self.endpoints[request.head.path == "/two"]


async def test_a_balancer_may_choose_by_the_request() -> None:
    plugins = registry(
        Entry.parse(LOAD_BALANCERS, "by_path", f"{__name__}:ByPath", "tests", "0"),
    )
    async with upstream() as one, upstream() as two:
        text = web(one.port, two.port, load_balancer="by_path")
        async with running(text, plugins=plugins) as live, trio.open_nursery() as nursery:
            nursery.start_soon(one.serve, answering(b"1"))
            nursery.start_soon(two.serve, answering(b"2"))
            client = await live.client()
            for path, body in ((b"/two", b"2"), (b"/one", b"1"), (b"/two", b"2")):
                await client.send(GET.replace(b" / ", b" %b " % path, 1))
                await play(client << HEAD, client << body)
            nursery.cancel_scope.cancel()


async def test_an_endpoint_that_fails_is_left_out_until_its_time_is_over(
    mock_clock: MockClock,
) -> None:
    mock_clock.rate = 1
    dead = unused_port()  # it comes back
    async with upstream() as up:
        text = web(up.port, dead, failure_threshold=2, failure_time="10s")
        async with running(text) as live, trio.open_nursery() as nursery:
            nursery.start_soon(up.serve, answering())
            client = await live.client()
            first = Counter([await get(client) for _ in range(4)])
            assert first == {b"200": 2, b"503": 2}
            failing = endpoint_at(live, dead)
            assert failing.failing_until > trio.current_time()
            assert live.cluster().stats.endpoint_failing == 1
            # Left out …
            assert {await get(client) for _ in range(10)} == {b"200"}
            assert failing.total == 2
            # … and asked again afterwards: one failure is enough to leave it out again.
            mock_clock.jump(11)
            again = Counter([await get(client) for _ in range(4)])
            assert again == {b"200": 3, b"503": 1}
            assert live.cluster().stats.endpoint_failing == 2
            # It comes back: one answer makes it an endpoint like any other.
            mock_clock.jump(11)
            async with upstream(dead) as revived:
                nursery.start_soon(revived.serve, answering())
                assert {await get(client) for _ in range(10)} == {b"200"}
                assert failing.failures_in_a_row == 0
                assert failing.total > 5
                nursery.cancel_scope.cancel()


async def test_a_success_between_failures_starts_the_count_anew() -> None:
    async with upstream() as up, running(web(up.port, failure_threshold=2)) as live:
        client = await live.client()

        async def fail(server: Party) -> None:
            await hang_up(server)
            assert b"HTTP/1.1 502" in await client.expect(re.compile(rb".*?\r\n\r\n.+", re.DOTALL))
            client.received.clear()

        for _ in range(3):
            await client.send(GET)
            server = Party("upstream", await up.accept())
            await play(server << HEAD, server >> OK, client << OK)
            post = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"
            await play(client >> post, server << HEAD)
            await fail(server)
        endpoint = endpoint_at(live, up.port)
        assert endpoint.failed == 3
        assert live.cluster().stats.endpoint_failing == 0


async def test_if_all_fail_the_balancer_still_spreads_them() -> None:
    ports = [refusing_port() for _ in range(3)]
    async with running(web(*ports, failure_threshold=1, failure_time="1h")) as live:
        client = await live.client()
        for _ in range(30):
            assert await get(client) == b"503"
        assert min(e.total for e in live.cluster().endpoints) >= 8


RETRY = (
    "    - cluster: web\n      timeout: 5s\n      filters:\n"
    "        - {name: retry, on: [connect-failure, reset, gateway-error], attempts: %d,"
    " back_off: {base: 0ms, cap: 0ms}}\n"
)


def retrying(text: str, attempts: int = 1) -> str:
    return text.replace("    - cluster: web\n", RETRY % attempts)


async def test_a_retry_goes_to_another_endpoint_first() -> None:
    async with (
        upstream() as up,
        running(retrying(web(up.port, refusing_port(), failure_threshold=1000))) as live,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(up.serve, answering())
        client = await live.client()
        assert {await get(client) for _ in range(20)} == {b"200"}
        stats = live.cluster().stats
        # Each retry takes a turn too, so with two endpoints every first try may meet the same one.
        assert 10 <= stats.upstream_cx_connect_fail <= 20
        await live.settled(clients=1)
        nursery.cancel_scope.cancel()


async def test_a_retry_after_an_answer_goes_to_another_endpoint_too() -> None:
    bad = http_response(b"no", "503 Service Unavailable")

    async def refuse(stream: trio.SocketStream) -> None:
        async for _ in stream:
            await stream.send_all(bad)

    async with (
        upstream() as up,
        upstream() as sick,
        running(retrying(web(up.port, sick.port))) as live,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(up.serve, answering())
        nursery.start_soon(sick.serve, refuse)
        client = await live.client()
        assert {await get(client) for _ in range(20)} == {b"200"}
        assert 10 <= endpoint_at(live, sick.port).total <= 20
        nursery.cancel_scope.cancel()


async def test_with_every_endpoint_tried_the_last_error_reaches_the_client() -> None:
    async with running(retrying(web(refusing_port(), refusing_port()), attempts=5)) as live:
        client = await live.client()
        assert await get(client) == b"503"
        assert sum(e.total for e in live.cluster().endpoints) == 6
        assert min(e.total for e in live.cluster().endpoints) >= 2
        await live.settled(clients=1, upstreams=0)


async def test_retries_in_flight_are_bounded() -> None:
    text = web(refusing_port(), circuit_breakers="{max_retries: 0}")
    async with running(retrying(text, attempts=5)) as live:
        client = await live.client()
        assert await get(client) == b"503"
        stats = live.cluster().stats
        assert stats.upstream_rq_total == 1
        assert stats.upstream_rq_retry_overflow == 1
        await live.settled(clients=1)


async def test_more_requests_than_allowed_are_refused_at_once() -> None:
    async with (
        upstream() as up,
        running(web(up.port, circuit_breakers="{max_requests: 1}")) as live,
    ):
        first, second = await live.client("first"), await live.client("second")
        await first.send(GET)
        server = Party("upstream", await up.accept())
        await server.expect(HEAD)
        assert await get(second) == b"503"
        assert live.cluster().stats.upstream_rq_pending_overflow == 1
        await play(server >> OK, first << OK)
        await live.settled(clients=2, upstreams=1)


async def test_answers_are_counted_by_neutral_status() -> None:
    async with upstream() as up, running(web(up.port)) as live, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, answering())
        client = await live.client()
        for _ in range(3):
            await get(client)
        counted = {s.label: n for s, n in live.cluster().stats.statuses.items()}
        assert counted == {"ok": 3}
        nursery.cancel_scope.cancel()


# ---- conversion


async def converted(up: Upstream, live: Live, answer: bytes) -> tuple[bytes, Party]:
    """Send a ``lines`` request to a bolt upstream that gives ``answer`` with the id put in."""
    client = await live.client()
    await client.send(b"~q 3 com.example.Hello hello 2 -\nhi")
    server = await up.accept()
    asked = b""
    while len(asked) < 22:
        asked += await server.receive_some()
    assert asked[0] == 1
    await server.send_all(answer[:5] + asked[5:9] + answer[9:])
    return asked, client


BOLT_BUSY = bytes.fromhex("01 00 0002 01 00000000 01 0004 0000 0000 00000000")


async def test_between_families_native_codes_are_dropped_and_the_neutral_one_speaks() -> None:
    text = web(0, codec="bolt").replace(
        "    routes: main\n", "    routes: main\n    codecs: [lines]\n"
    )
    async with (
        upstream() as up,
        running(text.replace("127.0.0.1:0]", f"127.0.0.1:{up.port}]")) as live,
    ):
        asked, client = await converted(up, live, BOLT_BUSY)
        assert b"com.example.Hello" in asked
        # Bolt's 4 (thread pool busy) is RESOURCE_EXHAUSTED (8); to lines, 4 would be DEADLINE_EXCEEDED.
        await client.expect(b"~s 3 8 0 -\n")
        await live.settled(clients=1, upstreams=1)


async def test_two_downstream_protocols_share_the_connections_of_one_upstream_codec() -> None:
    text = web(0, codec="lines").replace(
        "    routes: main\n", "    routes: main\n    codecs: [lines, bolt]\n"
    )
    async with (
        upstream() as up,
        running(text.replace("127.0.0.1:0]", f"127.0.0.1:{up.port}]")) as live,
    ):
        client, bolt = await live.client(), await live.client("bolt")
        await client.send(b"~q 3 s m 0 -\n")
        server = Party("upstream", await up.accept())
        asked = re.compile(rb"~q (\d+) \S+ \S+ (\d+) [^\n]*\n")
        found = asked.match(await server.expect(asked))
        assert found is not None
        await server.send(b"~s %b 0 0 -\n" % found[1])
        await client.expect(b"~s 3 0 0 -\n")
        frame = bytes.fromhex("01 01 0001 01 00000007 01 00000BB8 0000 0000 00000000")
        await bolt.send(frame)
        found = asked.match(await server.expect(asked))
        assert found is not None
        await server.send(b"~s %b 8 0 -\n" % found[1])
        busy = await bolt.expect(re.compile(rb"\x01\x00\x00\x02.{16}", re.DOTALL))
        assert busy[5:9] == b"\0\0\0\7"
        assert busy[10:12] == b"\0\4"
        assert up.accepted == 1
        await live.settled(clients=2, upstreams=1)


# ---- the end


async def test_a_cluster_that_a_reload_removes_closes_its_connections() -> None:
    async with upstream() as one, upstream() as two, running(web(one.port)) as live:
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await one.accept())
        await play(server << HEAD, server >> OK, client << OK)
        old = live.cluster()
        await live.reload(web(two.port, idle_timeout="59s"))
        assert live.cluster() is not old
        await eventually(lambda: old.stats.upstream_cx_active == 0, "the old cluster's connections")
        await client.send(GET)
        server = Party("upstream", await two.accept())
        await play(server << HEAD, server >> OK, client << OK)
        await live.settled(clients=1, upstreams=1)


async def test_a_cluster_in_use_ends_when_its_last_stream_has() -> None:
    async with upstream() as one, upstream() as two, running(web(one.port)) as live:
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await one.accept())
        await server.expect(HEAD)
        old = live.cluster()
        await live.reload(web(two.port, idle_timeout="59s"))
        assert old.stats.upstream_cx_active == 1
        await play(server >> OK, client << OK)
        await eventually(lambda: old.stats.upstream_cx_active == 0, "the old cluster's connection")
        await live.settled(clients=1, upstreams=0)


async def test_an_equal_cluster_is_the_same_one_after_a_reload() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK, client << OK)
        old = live.cluster()
        await live.reload(web(up.port, listener="    limits: {max_headers: 50}\n"))
        assert live.cluster() is old
        await play(client >> GET, server << HEAD, server >> OK, client << OK)


@pytest.mark.parametrize("sharing", ["shared", "bound"])
async def test_reloads_in_a_row_leave_no_connection_and_no_task(sharing: str) -> None:
    codecs = "    codecs: [lines]\n"
    async with (
        upstream() as up,
        running(web(up.port, listener=codecs, connections=sharing)) as live,
    ):
        client = await live.client()

        async def serve(stream: trio.SocketStream) -> None:
            async for data in stream:
                for number in re.findall(rb"~q (\d+) ", data):
                    await stream.send_all(b"~s %b 0 0 -\n" % number)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(up.serve, serve)
            for n in range(1, 6):
                await client.send(b"~q %d s m 0 -\n" % n)
                await client.expect(b"~s %d 0 0 -\n" % n)
                old = live.cluster()
                await live.reload(
                    web(up.port, listener=codecs, connections=sharing, connect_timeout=f"{n}s")
                )
                await eventually(
                    lambda old=old: old.stats.upstream_cx_active == 0,  # type: ignore[misc]
                    "the old cluster's connections",
                )
            await live.settled(clients=1, upstreams=0)
            nursery.cancel_scope.cancel()


LOG = "    filters: [{name: access_log, path: PATH, template: '%response_code% %status% %response_flags%'}]\n"


@pytest.mark.parametrize("framing", [b"Content-Length: 10\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_half_an_answer_is_a_failure_and_marks_its_endpoint(
    framing: bytes, tmp_path: Path
) -> None:
    log = LOG.replace("PATH", str(tmp_path / "log"))
    async with upstream() as up, running(web(up.port, listener=log)) as live:
        for _ in range(5):
            client = await live.client()
            await client.send(GET)
            server = Party("upstream", await up.accept())
            await play(
                server << HEAD,
                server >> b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + b"4\r\nhalf\r\n",
            )
            await client.expect(re.compile(rb"HTTP/1.1 200 .*half\r\n", re.DOTALL))
            await hang_up(server)
            await client.expect(BROKEN)
        await live.settled(clients=None, upstreams=0)
        (endpoint,) = live.cluster().endpoints
        assert (endpoint.total, endpoint.failed) == (5, 5)
        assert endpoint.failing_until > trio.current_time()
        stats = live.cluster().stats
        assert stats.statuses == {Status.UNAVAILABLE: 5}
        assert (stats.upstream_rq_reset, stats.endpoint_failing) == (5, 1)
        assert live.stats().statuses == {Status.UNAVAILABLE: 5}
        await eventually(lambda: (tmp_path / "log").read_text().count("\n") == 5, "five lines")
    assert set((tmp_path / "log").read_text().splitlines()) == {"200 unavailable UC"}


async def test_a_client_that_leaves_in_the_middle_marks_nobody() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await client.expect(re.compile(rb"HTTP/1.1 200 .*half", re.DOTALL))
        await hang_up(client)
        await live.settled(upstreams=0)
        (endpoint,) = live.cluster().endpoints
        assert (endpoint.failed, endpoint.failures_in_a_row) == (0, 0)
        assert live.cluster().stats.statuses == {Status.OK: 1}  # as far as it came
        assert live.stats().statuses == {Status.CANCELLED: 1}


@pytest.mark.parametrize("body", [b"", b"\0\0\0\0\2hi"])
async def test_a_call_that_ends_without_trailers_is_not_ok(body: bytes, tmp_path: Path) -> None:
    log = LOG.replace("PATH", str(tmp_path / "log"))
    async with (
        upstream() as up,
        running(web(up.port, listener=log, codec="http2")) as live,
        trio.open_nursery() as nursery,
    ):
        client = Http2Peer(await live.connect(), client=True)
        call = [("content-type", "application/grpc"), ("te", "trailers")]
        stream_id = await client.ask("/s/m", "POST", b"\0\0\0\0\0", call)

        async def serve() -> None:
            server = Http2Peer(await up.accept(), client=False)
            await server.until(lambda: server.asked, "a request")
            await server.answer(server.asked[0], body, [("content-type", "application/grpc")])
            while not server.over:
                await server.more()

        nursery.start_soon(serve)
        await client.whole(stream_id)
        await eventually(lambda: live.stats().statuses == {Status.UNKNOWN: 1}, "it is counted")
        assert live.cluster().stats.statuses == {Status.UNKNOWN: 1}
        await eventually(lambda: (tmp_path / "log").read_text() == "200 unknown -\n", "its line")
        nursery.cancel_scope.cancel()


async def test_whoever_observes_a_cluster_sees_each_attempt_once_with_its_times(
    mock_clock: MockClock,
) -> None:
    mock_clock.rate = 1
    dead = unused_port()
    async with (
        upstream() as up,
        running(web(up.port, dead)) as live,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(up.serve, answering())
        seen: list[Attempt] = []
        live.cluster().attempts.observe(seen.append)
        client = await live.client()
        for _ in range(4):
            await get(client)
        assert len({id(attempt) for attempt in seen}) == len(seen) == 4
        for attempt in seen:
            assert attempt.ended is not None
            if attempt.endpoint.address.port == dead:
                assert isinstance(attempt.how, Broke)
                assert attempt.began <= attempt.ended
                assert attempt.answered is None
            else:
                assert attempt.how == Answered(Status.OK)
                assert attempt.answered is not None
                assert attempt.began <= attempt.answered <= attempt.ended
        order = [attempt.ended for attempt in seen]
        assert order == sorted(order)  # type: ignore[type-var]  # none is under way
        nursery.cancel_scope.cancel()
