"""Upstream connections of one client's own: L4, and clusters that are told who the client is (PROXY header)."""

from __future__ import annotations

import re
import struct
from collections.abc import Awaitable, Callable

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from tests.live import (
    GET,
    Live,
    Upstream,
    eventually,
    finish,
    hang_up,
    held_on_the_way,
    http_response,
    port_of,
    refusing_port,
    reset,
    running,
    small_buffers,
    upstream,
    web,
)
from xproxy.config.schema import ClusterConfig, EndpointConfig
from xproxy.model.address import Address
from xproxy.model.errors import StreamError
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.traits import Sharing, Traits
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Closable, ConnectionFacts, Request, Response
from xproxy.testing import BROKEN, END, NOTHING, Party, play
from xproxy.testing.fakes import LinesPlugin
from xproxy.transport.poller import Poller
from xproxy.transport.timers import Timers
from xproxy.upstream.breaker import Breaker
from xproxy.upstream.connector import Dialer
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.serial_connector import DedicatedConnector
from xproxy.upstream.stats import ClusterStats
from xproxy.upstream.ticker import Ticker

OK = http_response(b"ok")
HEAD = re.compile(rb"[^\r]+\r\n(?:[^\r]+\r\n)*\r\n")


def l4(port: int, timeouts: str = "{}", **fields: object) -> str:
    """Return a configuration that relays everything to one endpoint."""
    extra = "".join(f"    {key}: {value}\n" for key, value in fields.items())
    return (
        "listeners:\n"
        f"  - {{name: edge, address: '127.0.0.1:0', fallback: {{cluster: raw}}, timeouts: {timeouts}}}\n"
        "clusters:\n"
        "  raw:\n"
        f"    endpoints: [127.0.0.1:{port}]\n"
        f"{extra}"
    )


# ---- L4


async def test_both_sides_speak_whenever_they_like() -> None:
    async with upstream() as up, running(l4(up.port)) as live:
        client = await live.client()
        server = Party("upstream", await up.accept())
        await play(
            server >> b"220 who is there\r\n",  # the server speaks first
            client << b"220 who is there\r\n",
            client >> b"a",
            server << b"a",
            client >> b"b",
            server << b"b",
            server >> b"c",
            client << b"c",
        )
        await hang_up(client)
        await server.expect(END)
        await hang_up(server)
        await live.settled(clients=0, upstreams=0)


async def test_one_side_may_finish_and_still_receive() -> None:
    async with upstream() as up, running(l4(up.port)) as live:
        client = await live.client()
        server = Party("upstream", await up.accept())
        await client.send(b"question")
        await finish(client)
        await play(server << b"question", server << END, server >> b"answer", client << b"answer")
        await hang_up(server)
        await client.expect(END)
        await live.settled(clients=0, upstreams=0)


async def test_the_upstream_may_finish_first() -> None:
    async with upstream() as up, running(l4(up.port)) as live:
        client = await live.client()
        server = Party("upstream", await up.accept())
        await server.send(b"all I have")
        await finish(server)
        await play(client << b"all I have", client << END, client >> b"thanks", server << b"thanks")
        await hang_up(client)
        await server.expect(END)
        await live.settled(clients=0, upstreams=0)


async def test_a_client_that_resets_takes_its_upstream_connection_with_it() -> None:
    async with upstream() as up, running(l4(up.port)) as live:
        client = await live.client()
        server = Party("upstream", await up.accept())
        await play(client >> b"half a", server << b"half a")
        reset(client)
        await live.settled(clients=0, upstreams=0)
        await server.expect(BROKEN)  # and not an end, which would make half a message a whole one


async def test_an_upstream_that_resets_takes_the_client_with_it() -> None:
    async with upstream() as up, running(l4(up.port)) as live:
        client = await live.client()
        server = Party("upstream", await up.accept())
        await play(server >> b"half a", client << b"half a")
        reset(server)
        await client.expect(BROKEN)
        await live.settled(clients=0, upstreams=0)


async def test_a_client_has_time_to_read_what_the_upstream_said_before_it_reset() -> None:
    async with upstream() as up, running(l4(up.port, "{linger: 60s}")) as live:
        client = await live.client()
        server = Party("upstream", await up.accept())
        await play(client >> b"a", server << b"a", server >> b"enough", client << b"enough")
        reset(server)
        stats = live.cluster("raw").stats
        await eventually(lambda: not stats.upstream_cx_active, "the upstream has gone")
        for _ in range(100):  # a reset would not let it
            await client.send(bytes(10_000))
        await finish(client)
        await client.expect(BROKEN)
        await live.settled(clients=0, upstreams=0)


async def test_an_upstream_that_resets_while_the_client_only_listens() -> None:
    async with upstream() as up, running(l4(up.port)) as live:
        client = await live.client()
        server = Party("upstream", await up.accept())
        await client.send(b"question")
        await finish(client)
        await play(server << b"question", server << END)
        reset(server)
        await client.expect(BROKEN)
        await live.settled(clients=0, upstreams=0)


async def test_where_nobody_listens_the_client_is_let_go() -> None:
    async with running(l4(refusing_port())) as live:
        client = await live.client()
        await client.expect(BROKEN)
        await live.settled(clients=0, upstreams=0)
        assert live.cluster("raw").stats.upstream_cx_connect_fail == 1


async def test_above_the_limit_of_connections_a_client_is_refused_at_once() -> None:
    async with (
        upstream() as up,
        running(l4(up.port, circuit_breakers="{max_connections: 1}")) as live,
    ):
        first = await live.client()
        server = Party("upstream", await up.accept())
        await play(first >> b"a", server << b"a")
        second = await live.client("second")
        await second.expect(BROKEN)
        stats = live.cluster("raw").stats
        assert stats.upstream_cx_overflow == 1
        await play(first >> b"b", server << b"b")
        await hang_up(first)
        await hang_up(server)
        await live.settled(clients=0, upstreams=0)


async def test_a_reader_that_stops_makes_the_sender_wait() -> None:
    async with upstream() as up, running(l4(up.port)) as live:
        client = await live.connect()
        server = await up.accept()
        small_buffers(client, server)
        most = held_on_the_way(client, server)
        sent = 0

        async def push() -> None:
            nonlocal sent
            while sent <= most:
                await client.send_all(bytes(65536))
                sent += 65536

        async with trio.open_nursery() as nursery:
            nursery.start_soon(push)
            seen = -1
            while sent != seen:  # until nothing moves any more
                seen = sent
                with trio.move_on_after(0.1):
                    await wait_all_tasks_blocked(0.05)
            assert sent <= most
            received = 0
            while received < sent:
                received += len(await server.receive_some(1 << 20))
            nursery.cancel_scope.cancel()


# ---- the PROXY header

PROXY = re.compile(rb"PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 (\d+) (\d+)\r\n")


async def introduced(live: Live, server: Party, client: Party) -> None:
    """Expect the header that names ``client``."""
    found = PROXY.match(await server.expect(PROXY))
    assert found is not None
    assert found.groups() == (b"%d" % port_of(client), b"%d" % live.port())


async def test_each_client_has_a_connection_of_its_own_that_names_it() -> None:
    async with upstream() as up, running(web(up.port, proxy_protocol="v1")) as live:
        first, second = await live.client("first"), await live.client("second")
        await first.send(GET)
        one = Party("one", await up.accept())
        await introduced(live, one, first)
        await play(one << HEAD, one >> OK, first << OK)
        await second.send(GET)
        other = Party("other", await up.accept())
        await introduced(live, other, second)
        await play(other << HEAD, other >> OK, second << OK)
        # The next request of a client goes over its own connection, and the header is not repeated.
        await play(first >> GET, one << HEAD, one >> OK, first << OK, other << NOTHING)
        await live.settled(clients=2, upstreams=2)
        await hang_up(first)
        await one.expect(END)
        await live.settled(clients=1, upstreams=1)
        await hang_up(second)
        await live.settled(clients=0, upstreams=0)


async def test_version_two_is_sent_too() -> None:
    async with upstream() as up, running(web(up.port, proxy_protocol="v2")) as live:
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        signature = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c"
        ports = struct.pack("!HH", port_of(client), live.port())
        await play(
            server << signature + bytes((127, 0, 0, 1)) * 2 + ports,
            server << HEAD,
            server >> OK,
            client << OK,
        )


async def test_a_bound_connection_lost_in_the_race_is_replaced() -> None:
    async with upstream() as up, running(web(up.port, proxy_protocol="v1")) as live:
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << PROXY, server << HEAD, server >> OK, client << OK)
        await play(client >> GET, server << HEAD)
        await hang_up(server)
        again = Party("again", await up.accept())
        await introduced(live, again, client)
        await play(again << HEAD, again >> OK, client << OK)
        await live.settled(clients=1, upstreams=1)


async def test_a_try_that_took_too_long_is_not_followed_by_one_on_its_closed_connection() -> None:
    async with upstream() as slow, upstream() as fast:
        text = web(slow.port, fast.port, proxy_protocol="v1").replace(
            "    - cluster: web\n",
            "    - cluster: web\n"
            "      filters: [{name: retry, on: [deadline-exceeded], per_try_timeout: 100ms}]\n",
        )
        async with running(text) as live:
            client = await live.client()
            await client.send(GET)
            taken: list[Party] = []

            async def take(name: str, up: Upstream) -> None:
                taken.append(Party(name, await up.accept()))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(take, "slow", slow)
                nursery.start_soon(take, "fast", fast)
            # Whichever came first was given up: the second try went to the other endpoint.
            second = taken[1]
            await play(second << PROXY, second << HEAD, second >> OK, client << OK)
            await live.settled(clients=1, upstreams=1)


async def test_an_upstream_that_takes_no_header_is_a_failed_connection() -> None:
    async with upstream() as up, running(web(up.port, proxy_protocol="v1")) as live:
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        reset(server)
        answer = await client.expect(re.compile(rb"HTTP/1.1 50[23] .*?\r\n\r\n", re.DOTALL))
        assert answer
        client.received.clear()
        await live.settled(clients=1, upstreams=0)


# ---- a connector by itself


class NoTick:
    def tick(self, tick: int) -> int:
        return 0


@attrs.define(eq=False)
class Client:
    """A client's connection as a connector sees it."""

    bindings: dict[object, Closable] = attrs.field(factory=dict)
    draining: bool = False
    streams: int = 1

    def in_flight(self, _permits: object) -> int:
        return 0

    def bind(self, key: object, bound: Closable) -> None:
        self.bindings[key] = bound

    def bound(self, key: object) -> Closable | None:
        return self.bindings.get(key)

    def unbind(self, key: object) -> None:
        self.bindings.pop(key, None)

    def drain(self) -> None:
        raise NotImplementedError

    async def call(self, request: Request) -> Response:
        raise NotImplementedError


class Alone:
    """A stream's control, for requests whose bodies came whole."""

    deadline = float("inf")

    def limit(self, deadline: float) -> None: ...

    def touch(self) -> None: ...

    def hold(self, count: int) -> None:
        """Count nothing."""

    def interruption(self) -> StreamError | None:
        return None

    def start_soon(self, work: Callable[[], Awaitable[None]]) -> bool:
        return False

    async def send_interim(self, head: ResponseHead) -> None: ...


TURNS = LinesPlugin(
    name="turns",
    traits=Traits(sharing=Sharing.MESSAGES, upstream_sharing=Sharing.SERIAL, oneway=True),
)
"""Several requests at a time downstream, one at a time upstream, as Thrift will be."""


async def test_streams_of_one_client_that_overlap_do_not_meet_on_its_connection() -> None:
    poller = Poller()
    stats = ClusterStats()
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        endpoint = Endpoint(Address("127.0.0.1", up.port))
        config = ClusterConfig(endpoints=(EndpointConfig(address=endpoint.address),))
        breaker = Breaker(config.circuit_breakers, stats, "web")
        connector = DedicatedConnector(
            Dialer(
                "web",
                config,
                TURNS,
                poller,
                Timers(),
                stats,
                breaker,
                DEFAULT_LIMITS,
                Ticker(),
                NoTick(),
            )
        )
        client = Client()
        facts = ConnectionFacts(
            id=1,
            listener="edge",
            protocol="turns",
            traits=TURNS.traits,
            peer=Address("127.0.0.1", 1),
            local=Address("127.0.0.1", 2),
            downstream=client,
        )
        answers: dict[str, bytes] = {}

        async def ask(method: str) -> None:
            head = RequestHead(service="s", method=method)
            response = await connector.exchange(
                Request(head, BytesBody(), facts, Alone(), trio.current_time()), endpoint
            )
            assert isinstance(response.body, BytesBody)
            answers[method] = response.body.data
            await response.aclose()

        line = re.compile(rb"~q 1 s (\w+) 0 -\n")
        async with trio.open_nursery() as streams:
            streams.start_soon(ask, "first")
            one = Party("one", await up.accept())
            await one.expect(b"~q 1 s first 0 -\n")
            streams.start_soon(ask, "second")
            other = Party("other", await up.accept())
            await other.expect(b"~q 1 s second 0 -\n")
            await play(other >> b"~s 1 0 1 -\n2", one << NOTHING, one >> b"~s 1 0 1 -\n1")
        assert answers == {"first": b"1", "second": b"2"}
        # The client's own one is kept, the other went with its stream.
        await other.expect(END)
        assert endpoint.connections == stats.upstream_cx_active == 1
        async with trio.open_nursery() as streams:
            streams.start_soon(ask, "third")
            assert line.match(await one.expect(line))
            await one.send(b"~s 1 0 1 -\n3")
        assert answers["third"] == b"3"
        next(iter(client.bindings.values())).close_soon()
        assert endpoint.connections == stats.upstream_cx_active == len(poller) == 0
        nursery.cancel_scope.cancel()
    poller.close()
