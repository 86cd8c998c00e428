"""Tunnels through a whole proxy: upgrades and CONNECT, over HTTP/1.1 and HTTP/2, and what is around them.

The peers over HTTP/2 are the `h2` package's.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest
import trio

from tests.live import (
    GET,
    PATIENCE,
    Live,
    eventually,
    finish,
    held_on_the_way,
    http_response,
    reset,
    running,
    small_buffers,
    socket_of,
    taken_from,
    upstream,
    web,
)
from xproxy.codecs.http_upgrade import accept_for
from xproxy.testing import BROKEN, END, NOTHING, Party, play

E = TypeVar("E", bound=h2.events.Event)

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
WISH = (
    b"GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-key: " + KEY.encode() + b"\r\nsec-websocket-version: 13\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-accept: " + accept_for(KEY).encode() + b"\r\n\r\n"
)
HEAD = re.compile(rb"[^\r]+\r\n(?:[^\r]+\r\n)*\r\n")
SWITCHED = re.compile(rb"HTTP/1\.1 101 [^\r]+\r\n(?:[^\r]+\r\n)*\r\n")
CONNECT = b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n"
OK = http_response(b"ok")
WEBSOCKET = {
    ":method": "CONNECT",
    ":protocol": "websocket",
    ":scheme": "http",
    ":path": "/chat",
    ":authority": "a",
    "sec-websocket-version": "13",
}


def tunnelling(
    port: int,
    timeouts: str = "{}",
    route: str = "allow_upgrade: [websocket]",
    codec: str = "same",
) -> str:
    """Return a configuration whose one route lets upgrades pass, unless ``route`` says otherwise."""
    return web(port, timeouts=timeouts, codec=codec).replace(
        "    - cluster: web\n", f"    - {{cluster: web, {route}}}\n"
    )


@asynccontextmanager
async def opened(
    timeouts: str = "{}",
) -> AsyncIterator[tuple[Live, Party, Party]]:
    """Run a proxy with an upgraded connection over HTTP/1.1: gives both ends of its tunnel."""
    async with upstream() as up, running(tunnelling(up.port, timeouts)) as live:
        client = await live.client()
        await client.send(WISH)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> SWITCH, client << SWITCHED)
        yield live, client, server


# ---- HTTP/1.1 on both sides


async def test_bytes_beside_the_handshake_belong_to_the_tunnel() -> None:
    async with upstream() as up, running(tunnelling(up.port)) as live:
        client = await live.client()
        await client.send(WISH + b"early")
        server = Party("upstream", await up.accept())
        await play(
            server << HEAD,
            server << NOTHING,
            server >> SWITCH + b"hello",
            client << SWITCHED,
            client << b"hello",
            server << b"early",
        )
        assert (live.stats().downstream_tunnels_total, live.stats().downstream_tunnels_active) == (
            1,
            1,
        )
        await finish(client)
        await server.expect(END)
        await finish(server)
        await client.expect(END)
        await live.settled(clients=0, upstreams=0)
        assert live.stats().downstream_tunnels_active == 0
        assert live.stats().downstream_rq_reset == 0


@pytest.mark.parametrize("first", ["client", "server"])
async def test_an_upgraded_connection_is_half_closed_in_either_order(first: str) -> None:
    async with opened() as (live, client, server):
        one, two = (client, server) if first == "client" else (server, client)
        await play(one >> b"all I have", two << b"all I have")
        await finish(one)
        await play(two << END, two >> b"thank ", one << b"thank ", two >> b"you", one << b"you")
        await finish(two)
        await play(one << END)
        await live.settled(clients=0, upstreams=0)


@pytest.mark.parametrize("dying", ["client", "server"])
async def test_who_dies_is_not_taken_for_one_that_finished(dying: str) -> None:
    async with opened() as (live, client, server):
        one, two = (client, server) if dying == "client" else (server, client)
        await play(one >> b"half", two << b"half")
        reset(one)
        await two.expect(BROKEN)
        await live.settled(clients=0, upstreams=0)


async def test_a_refused_upgrade_leaves_both_connections_in_use() -> None:
    """What came behind the request was the next request, as nothing was granted."""
    async with upstream() as up, running(tunnelling(up.port)) as live:
        client = await live.client()
        await client.send(WISH + GET)
        server = Party("upstream", await up.accept())
        refusal = http_response(b"no", "403 Forbidden")
        await play(
            server << HEAD,
            server << NOTHING,
            server >> refusal,
            client << refusal,
            server << re.compile(rb"GET / HTTP/1\.1\r\n(?:[^\r]+\r\n)*\r\n"),
            server >> OK,
            client << OK,
            client >> WISH,
            server << HEAD,
            server >> SWITCH,
            client << SWITCHED,
        )
        assert up.accepted == 1


async def test_an_upgrade_that_no_route_allows_is_passed_over() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        await client.send(WISH + GET)
        server = Party("upstream", await up.accept())
        head = await server.expect(HEAD)
        assert b"upgrade" not in head.lower()
        await play(server >> OK, client << OK, server << HEAD, server >> OK, client << OK)
        await client.send(WISH)
        await server.expect(HEAD)
        await play(server >> SWITCH, client << re.compile(rb"HTTP/1\.1 502 (?s:.*)"))


@pytest.mark.parametrize("token", [b"h2c", b"websocket, h2c", b"other"])
async def test_only_what_a_route_names_is_passed_on(token: bytes) -> None:
    async with upstream() as up, running(tunnelling(up.port)) as live:
        client = await live.client()
        await client.send(WISH.replace(b"upgrade: websocket", b"upgrade: " + token))
        server = Party("upstream", await up.accept())
        head = await server.expect(HEAD)
        assert b"upgrade" not in head.lower()
        await play(server >> OK, client << OK)


async def test_any_protocol_that_a_route_names_is_passed_on() -> None:
    route = "allow_upgrade: [Other]"
    async with upstream() as up, running(tunnelling(up.port, route=route)) as live:
        client = await live.client()
        await client.send(
            b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n"
        )
        server = Party("upstream", await up.accept())
        switch = (
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n"
        )
        await play(server << HEAD, server >> switch, client << switch)


@pytest.mark.parametrize(
    "answer",
    [
        SWITCH.replace(b"upgrade: websocket", b"upgrade: h2c"),
        SWITCH.replace(b"accept: ", b"accept: x"),
        SWITCH.replace(b"connection: upgrade\r\n", b""),
    ],
)
async def test_an_upstream_that_switches_to_something_else_is_a_broken_one(answer: bytes) -> None:
    async with upstream() as up, running(tunnelling(up.port)) as live:
        client = await live.client()
        await client.send(WISH)
        server = Party("upstream", await up.accept())
        await play(
            server << HEAD,
            server >> answer + b"hello",
            client << re.compile(rb"HTTP/1\.1 502 (?s:.*)"),
        )
        await live.settled(clients=None, upstreams=0)


async def test_an_upgrade_survives_the_race_of_keepalive() -> None:
    async with upstream() as up, running(tunnelling(up.port)) as live:
        client = await live.client()
        await client.send(GET)
        stale = Party("upstream", await up.accept())
        await play(stale << HEAD, stale >> OK, client << OK)
        await client.send(WISH + b"early")
        await stale.expect(HEAD)
        reset(stale)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> SWITCH, client << SWITCHED, server << b"early")


async def test_the_routes_timeout_is_for_the_grant_alone() -> None:
    route = "allow_upgrade: [websocket], timeout: 1s"
    async with upstream() as up, running(tunnelling(up.port, route=route)) as live:
        client = await live.client()
        await client.send(WISH)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, client << re.compile(rb"HTTP/1\.1 504 [^\r]+\r\n(?s:.*)"))
        client = await live.client()
        await client.send(WISH)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> SWITCH, client << SWITCHED)
        await finish(client)  # which ends the request's body, but starts no clock
        await server.expect(END)
        for _ in range(24):
            await play(client << NOTHING, server >> b"tick", client << b"tick")


async def test_a_silent_tunnel_ends_and_a_busy_one_does_not() -> None:
    # A byte in a tenth of the time, and longer than that in all: a busy machine may take much longer for each.
    async with opened("{stream_idle: 1s}") as (live, client, server):
        for _ in range(12):
            await play(client << NOTHING, client << NOTHING, client >> b"x", server << b"x")
        for _ in range(12):
            await play(client << NOTHING, client << NOTHING, server >> b"x", client << b"x")
        await play(client << BROKEN, server << BROKEN)
        assert live.stats().downstream_rq_timeout == 1


async def test_a_reload_lets_a_tunnel_be() -> None:
    async with upstream() as up, running(tunnelling(up.port)) as live:
        client = await live.client()
        await client.send(WISH)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> SWITCH, client << SWITCHED)
        await live.reload(web(up.port, idle_timeout="7s"))
        await play(client >> b"x", server << b"x", server >> b"y", client << b"y")
        other = await live.client()
        await other.send(WISH)
        plain = Party("upstream", await up.accept())
        head = await plain.expect(HEAD)
        assert b"upgrade" not in head.lower()


# ---- a tunnel that ends here


@pytest.mark.parametrize("first", ["client", "server"])
async def test_connect_ends_at_a_cluster_without_heads(first: str) -> None:
    route = "allow_connect: true, allow_upgrade: [websocket]"
    async with (
        upstream() as up,
        running(tunnelling(up.port, route=route, codec="opaque")) as live,
    ):
        client = await live.client()
        await client.send(CONNECT + b"early")
        server = Party("upstream", await up.accept())
        await play(client << re.compile(rb"HTTP/1\.1 200 OK\r\n\r\n"), server << b"early")
        one, two = (client, server) if first == "client" else (server, client)
        await finish(one)
        await play(two << END, two >> b"bye", one << b"bye")
        await finish(two)
        await one.expect(END)
        await live.settled(clients=0, upstreams=0)
        for request in (GET, WISH):
            client = await live.client()
            await play(client >> request, client << re.compile(rb"HTTP/1\.1 501 (?s:.*)"))
        assert up.accepted == 1


async def test_connect_to_nobody_is_an_ordinary_error() -> None:
    async with upstream() as up:
        await up.aclose()
        text = tunnelling(up.port, route="allow_connect: true", codec="opaque")
        async with running(text) as live:
            client = await live.client()
            await play(client >> CONNECT, client << re.compile(rb"HTTP/1\.1 503 (?s:.*)"))


# ---- HTTP/2


class Peer:
    """An end of a connection over HTTP/2."""

    def __init__(self, stream: trio.SocketStream, *, client: bool, offering: bool = True) -> None:
        self.stream = stream
        config = h2.config.H2Configuration(
            client_side=client,
            header_encoding="utf-8",
            validate_outbound_headers=False,
            validate_inbound_headers=False,
        )
        self.h2 = h2.connection.H2Connection(config)
        if offering and not client:
            code = h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL
            values = {
                h2.settings.SettingCodes(key): self.h2.local_settings[key]
                for key in self.h2.local_settings
            }
            self.h2.local_settings = h2.settings.Settings(
                client=False, initial_values={**values, code: 1}
            )
        self.events: list[h2.events.Event] = []

    async def start(self) -> None:
        self.h2.initiate_connection()
        await self.flush()

    async def flush(self) -> None:
        await self.stream.send_all(self.h2.data_to_send())

    async def event(self, kind: type[E]) -> E:
        """Wait for an event of this kind; others are passed over."""
        with trio.fail_after(PATIENCE):
            while True:
                while self.events:
                    event = self.events.pop(0)
                    if isinstance(event, kind):
                        return event
                data = await self.stream.receive_some()
                assert data, "the connection ended"
                self.events += self.h2.receive_data(bytes(data))
                await self.flush()

    async def ask(self, fields: dict[str, str], stream_id: int = 1, *, end: bool = False) -> None:
        self.h2.send_headers(stream_id, list(fields.items()), end_stream=end)
        await self.flush()

    async def say(self, data: bytes, stream_id: int = 1, *, end: bool = False) -> None:
        self.h2.send_data(stream_id, data, end_stream=end)
        await self.flush()

    async def heard(self, data: bytes) -> None:
        got = b""
        while len(got) < len(data):
            got += (await self.event(h2.events.DataReceived)).data
        assert got == data


async def h2_client(live: Live) -> Peer:
    peer = Peer(await live.connect(), client=True)
    await peer.start()
    changed = await peer.event(h2.events.RemoteSettingsChanged)
    offered = changed.changed_settings[h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL]
    assert offered.new_value == 1
    return peer


def fields_of(event: h2.events.ResponseReceived | h2.events.RequestReceived) -> dict[str, str]:
    return {str(name): str(value) for name, value in event.headers}


@asynccontextmanager
async def h2_down(timeouts: str = "{}") -> AsyncIterator[tuple[Live, Peer, Party]]:
    """Run a proxy with a tunnel from HTTP/2 to HTTP/1.1."""
    async with upstream() as up, running(tunnelling(up.port, timeouts, codec="http1")) as live:
        client = await h2_client(live)
        await client.ask(WEBSOCKET)
        await client.say(b"early")
        server = Party("upstream", await up.accept())
        head = (await server.expect(HEAD)).decode()
        assert head.startswith("GET /chat HTTP/1.1\r\n")
        found = re.search(r"Sec-WebSocket-Key: (\S+)\r\n", head)
        assert found is not None
        await server.expect(NOTHING)
        switch = SWITCH.replace(accept_for(KEY).encode(), accept_for(found[1]).encode())
        await server.send(switch + b"hello")
        fields = fields_of(await client.event(h2.events.ResponseReceived))
        assert fields == {":status": "200"}
        await client.heard(b"hello")
        await server.expect(b"early")
        yield live, client, server


async def test_http2_to_http1_half_closed_by_the_client() -> None:
    async with h2_down() as (live, client, server):
        await client.say(b"all I have", end=True)
        await play(server << b"all I have", server << END, server >> b"thank you")
        await client.heard(b"thank you")
        await finish(server)
        await client.event(h2.events.StreamEnded)
        await live.settled(clients=1, upstreams=0)


@pytest.mark.parametrize("granted", [True, False])
async def test_http2_a_half_that_came_whole_before_the_answer_waits_for_it(granted: bool) -> None:
    async with (
        upstream() as up,
        running(tunnelling(up.port, route="allow_connect: true", codec="http1")) as live,
    ):
        client = await h2_client(live)
        client.h2.send_headers(1, [(":method", "CONNECT"), (":authority", "a:1")])
        client.h2.send_data(1, b"all I have", end_stream=True)
        await client.flush()
        server = Party("upstream", await up.accept())
        assert (await server.expect(HEAD)).startswith(b"CONNECT a:1 HTTP/1.1\r\n")
        await server.expect(NOTHING)
        if granted:
            await play(
                server >> b"HTTP/1.1 200 OK\r\n\r\nthank ", server << b"all I have", server << END
            )
            await server.send(b"you")
            await finish(server)
            await client.heard(b"thank you")
        else:
            await server.send(http_response(b"no", "403 Forbidden"))
            await client.heard(b"no")
        await client.event(h2.events.StreamEnded)
        await live.settled(clients=1)
        assert live.stats().downstream_tunnels_total == granted


async def test_http2_to_http1_half_closed_by_the_server() -> None:
    async with h2_down() as (live, client, server):
        await server.send(b"all I have")
        await finish(server)
        await client.heard(b"all I have")
        await client.event(h2.events.StreamEnded)
        await client.say(b"thank ")
        await server.expect(b"thank ")
        assert live.stats().downstream_tunnels_active == 1
        await client.say(b"you", end=True)
        await play(server << b"you", server << END)
        await live.settled(clients=1, upstreams=0)


async def test_http2_a_reset_stream_resets_the_upstream_and_no_neighbour() -> None:
    async with h2_down() as (live, client, server):
        client.h2.reset_stream(1, h2.errors.ErrorCodes.CANCEL)
        await client.flush()
        await server.expect(BROKEN)
        await live.settled(clients=1, upstreams=0)
        await client.ask({**WEBSOCKET, ":protocol": "other"}, 3)
        fields = fields_of(await client.event(h2.events.ResponseReceived))
        assert fields[":status"] == "501"


async def test_http2_an_upstream_that_dies_is_a_connect_error() -> None:
    """RFC 9113 §8.5."""
    async with h2_down() as (live, client, server):
        reset(server)
        event = await client.event(h2.events.StreamReset)
        assert event.error_code is h2.errors.ErrorCodes.CONNECT_ERROR
        await live.settled(clients=1, upstreams=0)


async def test_http2_a_tunnel_that_only_sends_is_not_idle() -> None:
    async with h2_down("{stream_idle: 1s}") as (_, client, server):
        for _ in range(12):
            await play(server << NOTHING, server << NOTHING)
            await client.say(b"x")
            await server.expect(b"x")
        event = await client.event(h2.events.StreamReset)
        assert event.stream_id == 1


async def test_a_client_that_does_not_read_stops_the_server() -> None:
    async with opened() as (_, client, server):
        await stops(socket_of(server), socket_of(client))


async def test_http2_a_client_that_does_not_read_stops_the_server_and_no_neighbour() -> None:
    async with h2_down() as (live, client, server):
        assert isinstance(client.stream, trio.SocketStream)
        await stops(socket_of(server), client.stream)
        await client.ask({**WEBSOCKET, ":protocol": "other"}, 3)
        fields = fields_of(await client.event(h2.events.ResponseReceived))
        assert fields[":status"] == "501"
        assert live.stats().downstream_tunnels_active == 1


async def stops(sender: trio.SocketStream, reader: trio.SocketStream) -> None:
    """Check that the proxy takes no more from ``sender`` than the kernel and its own bounds hold."""
    small_buffers(sender, reader)
    most = held_on_the_way(sender, reader)
    assert await taken_from(sender, most) <= most


async def test_http2_a_success_that_grants_nothing_is_no_grant() -> None:
    async with upstream() as up, running(tunnelling(up.port, codec="http1")) as live:
        client = await h2_client(live)
        await client.ask(WEBSOCKET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> http_response(b"a page"))
        fields = fields_of(await client.event(h2.events.ResponseReceived))
        assert fields[":status"] == "502"


async def test_http2_connect_ends_at_a_cluster_without_heads() -> None:
    route = "allow_connect: true"
    async with (
        upstream() as up,
        running(tunnelling(up.port, route=route, codec="opaque")) as live,
    ):
        client = await h2_client(live)
        await client.ask({":method": "CONNECT", ":authority": "a:1"})
        fields = fields_of(await client.event(h2.events.ResponseReceived))
        assert fields == {":status": "200"}
        server = Party("upstream", await up.accept())
        await server.send(b"220 ready")
        await client.heard(b"220 ready")
        await client.say(b"QUIT", end=True)
        await play(server << b"QUIT", server << END)
        await finish(server)
        await client.event(h2.events.StreamEnded)
        await live.settled(clients=1, upstreams=0)


@asynccontextmanager
async def h2_up() -> AsyncIterator[tuple[Live, Party, Peer]]:
    """Run a proxy with a tunnel from HTTP/1.1 to HTTP/2."""
    async with upstream() as up, running(tunnelling(up.port, codec="http2")) as live:
        client = await live.client()
        await client.send(WISH + b"early")
        server = Peer(await up.accept(), client=False)
        await server.start()
        request = await server.event(h2.events.RequestReceived)
        assert fields_of(request) == WEBSOCKET
        await server.ask({":status": "200", "sec-websocket-protocol": "chat"})
        head = await client.expect(SWITCHED)
        assert f"Sec-WebSocket-Accept: {accept_for(KEY)}\r\n".encode() in head
        assert b"sec-websocket-protocol: chat\r\n" in head.lower()
        await server.heard(b"early")
        yield live, client, server


async def test_http1_to_http2_half_closed_by_the_client() -> None:
    async with h2_up() as (live, client, server):
        await client.send(b"all I have")
        await finish(client)
        await server.heard(b"all I have")
        await server.event(h2.events.StreamEnded)
        await server.say(b"thank you", end=True)
        await play(client << b"thank you", client << END)
        await live.settled(clients=0, upstreams=1)


async def test_http1_to_http2_half_closed_by_the_server() -> None:
    async with h2_up() as (live, client, server):
        await server.say(b"all I have", end=True)
        await play(client << b"all I have", client << END, client >> b"thank ")
        await server.heard(b"thank ")
        await client.send(b"you")
        await finish(client)
        await server.heard(b"you")
        await server.event(h2.events.StreamEnded)
        await live.settled(clients=0, upstreams=1)


@pytest.mark.parametrize("half", [True, False])
async def test_http1_to_http2_a_client_that_dies_resets_its_stream(half: bool) -> None:
    async with h2_up() as (live, client, server):
        if half:
            await server.say(b"bye", end=True)
            await play(client << b"bye", client << END)
        reset(client)
        await server.event(h2.events.StreamReset)
        await live.settled(clients=0, upstreams=1)


async def test_http1_to_http2_a_reset_stream_breaks_the_client() -> None:
    async with h2_up() as (live, client, server):
        server.h2.reset_stream(1, h2.errors.ErrorCodes.CONNECT_ERROR)
        await server.flush()
        await client.expect(BROKEN)
        await live.settled(clients=0, upstreams=1)


@pytest.mark.parametrize("known", [True, False])
async def test_an_upstream_over_http2_that_takes_no_upgrades_is_not_asked(known: bool) -> None:
    async with upstream() as up, running(tunnelling(up.port, codec="http2")) as live:
        client = await live.client()
        await client.send(GET if known else WISH)
        server = Peer(await up.accept(), client=False, offering=False)
        await server.start()
        if known:
            await server.event(h2.events.RequestReceived)
            await server.ask({":status": "204"}, end=True)
            await play(client << re.compile(rb"HTTP/1\.1 204 [^\r]+\r\n\r\n"), client >> WISH)
        await client.expect(re.compile(rb"HTTP/1\.1 501 (?s:.*)RFC 8441(?s:.*)"))
        await eventually(lambda: live.stats().downstream_rq_active == 0, "nothing is under way")
