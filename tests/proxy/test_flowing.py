"""Exchanges that move while their bodies flow: neither peer notices, and nothing is told twice."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.foreign import Sizes
from tests.http2_peer import Http2Peer
from tests.live import (
    Live,
    Upstream,
    eventually,
    finish,
    hang_up,
    registry,
    reset,
    running,
    small_buffers,
    socket_of,
    upstream,
)
from tests.proxy.flows import driver_of, flowing, flows, move, receive
from xproxy.codecs.http_upgrade import accept_for
from xproxy.connection.standing import Standing
from xproxy.model.errors import Overflow
from xproxy.registry import FILTERS, Entry, Registry
from xproxy.stream.ending import Complete
from xproxy.testing import BROKEN, END, NOTHING, Party, play

L4: Final = """
listeners:
  - name: edge
    address: 127.0.0.1:0
    timeouts: {timeouts}
    filters: [{filters}]
    fallback: {{cluster: web}}
clusters:
  web: {{endpoints: ["127.0.0.1:{port}"]}}
"""
WEB: Final = """
listeners:
  - name: edge
    address: 127.0.0.1:0
    timeouts: {timeouts}
    filters: [{filters}]
    routes: main
routes:
  main:
    - {{cluster: web, allow_upgrade: [websocket], allow_connect: true}}
clusters:
  web: {{endpoints: ["127.0.0.1:{port}"]}}
"""
GET: Final = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
HEAD: Final = re.compile(rb"[^\r]+\r\n(?:[^\r]+\r\n)*\r\n")
BEGUN: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"
KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="
WISH: Final = (
    b"GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-key: " + KEY.encode() + b"\r\nsec-websocket-version: 13\r\n\r\n"
)
SWITCH: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-accept: " + accept_for(KEY).encode() + b"\r\n\r\n"
)


@asynccontextmanager
async def two(
    text: str, *, timeouts: str = "{}", filters: str = "", plugins: Registry | None = None
) -> AsyncIterator[tuple[Live, Live, Upstream]]:
    async with upstream() as up:
        config = text.format(port=up.port, timeouts=timeouts, filters=filters)
        async with (
            running(config, plugins=plugins) as old,
            running(config, plugins=plugins) as new,
        ):
            yield old, new, up


async def raw(old: Live, up: Upstream) -> tuple[Party, Party]:
    """Open a raw connection, over which something has gone both ways."""
    client = await old.client()
    await client.send(b"to")
    server = Party("upstream", await up.accept())
    await play(server << b"to", server >> b"fro", client << b"fro")
    return client, server


async def chat(old: Live, up: Upstream) -> tuple[Party, Party]:
    """Open a tunnel."""
    client = await old.client()
    await client.send(WISH)
    server = Party("upstream", await up.accept())
    await play(server << HEAD, server >> SWITCH, client << HEAD)
    return client, server


OPENED: Final = {"raw": (L4, raw), "websocket": (WEB, chat)}


def gone(live: Live) -> bool:
    return not live.runtime.listeners["edge"].connections


async def go(lives: list[Live]) -> None:
    """Move it there and let it end here, whoever has it; afterwards the first of them is the one that has it."""
    await flowing(lives[0])
    move(lives[0], lives[1])
    lives.reverse()
    await eventually(lambda: gone(lives[1]), "it has left")
    await flowing(lives[0])


@pytest.mark.parametrize("kind", OPENED)
@pytest.mark.parametrize("first", ["client", "server"])
async def test_it_goes_on_elsewhere_both_ways_and_half_closed(kind: str, first: str) -> None:
    text, opened = OPENED[kind]
    async with two(text) as (old, new, up):
        client, server = await opened(old, up)
        lives = [old, new]
        for turn in range(5):
            await go(lives)
            await play(client >> b"%d" % turn, server << b"%d" % turn)
            await play(server >> b"-%d" % turn, client << b"-%d" % turn)
        one, other = (client, server) if first == "client" else (server, client)
        await finish(one)
        await play(other << END)
        for turn in range(5):
            await go(lives)
            await play(one << NOTHING, other >> b"%d" % turn, one << b"%d" % turn)
        await finish(other)
        await play(one << END)
        await hang_up(client)
        await hang_up(server)
        for live in lives:
            await live.settled()


@pytest.mark.parametrize("kind", OPENED)
@pytest.mark.parametrize("who", ["client", "server"])
async def test_who_hangs_up_while_it_stands_still_is_noticed_afterwards(
    kind: str, who: str
) -> None:
    text, opened = OPENED[kind]
    for moved in (False, True):
        async with two(text) as (old, new, up):
            client, server = await opened(old, up)
            driver = await flowing(old)
            moment = driver.freeze()
            one, other = (client, server) if who == "client" else (server, client)
            reset(one)
            await wait_all_tasks_blocked(0.02)
            if moved:
                receive(new, moment, driver.facts)
                driver.leave()
            else:
                driver.thaw()
            await play(other << BROKEN)
            await hang_up(other)
            for live in (old, new):
                await live.settled()


async def test_nothing_ends_one_that_stands_still() -> None:
    async with two(L4, timeouts="{idle: 0.05s, linger: 0.05s, write: 0.05s}") as (old, new, up):
        client, server = await raw(old, up)
        driver = await flowing(old)
        for _ in range(2):
            moment = driver.freeze()
            assert driver.standing is not Standing.FLOWING
            driver.relieve()
            assert driver.idle_since is None
            await wait_all_tasks_blocked(0.1)  # longer than all of its times
            driver.thaw()
            await play(client >> b"a", server << b"a", server >> b"b", client << b"b")
        moment = driver.freeze()
        driver.drain()
        await wait_all_tasks_blocked(0.1)
        receive(new, moment, driver.facts)
        driver.leave()
        await play(client >> b"a", server << b"a", server >> b"b", client << b"b")
        for party in (client, server):
            await hang_up(party)
        for live in (old, new):
            await live.settled()


async def test_the_time_that_was_left_is_what_is_left(mock_clock: MockClock) -> None:
    mock_clock.rate = 1
    filters = "{name: timeout, whole: 1000s}"
    async with two(L4, filters=filters, timeouts="{idle: 0}") as (old, new, up):
        client, server = await raw(old, up)
        lives = [old, new]
        for _ in range(3):
            await go(lives)
            mock_clock.jump(250)  # of the time that it has
        await play(client >> b"there is some left", server << b"there is some left")
        mock_clock.jump(300)
        await play(client << BROKEN)
        [stats] = [live.stats() for live in lives if live.stats().downstream_rq_timeout]
        assert stats is lives[0].stats()
        await hang_up(server)


async def test_silence_goes_on_where_it_was(mock_clock: MockClock) -> None:
    mock_clock.rate = 1
    async with two(L4, timeouts="{idle: 1000s}") as (old, new, up):
        client, server = await raw(old, up)
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(600)
        await go([old, new])
        mock_clock.jump(600)
        await play(client << BROKEN)
        await hang_up(server)


@pytest.mark.parametrize("kind", OPENED)
async def test_what_cannot_go_on_there_goes_on_here(kind: str) -> None:
    text, opened = OPENED[kind]
    log = "{name: body_limit, response: 1MiB}"
    async with two(text, filters=log if kind == "raw" else "request_id") as (old, new, up):
        client, server = await opened(old, up)
        other = text.format(port=up.port, timeouts="{}", filters="")
        lacks = [
            other.replace("web", "elsewhere"),
            other.replace(f"127.0.0.1:{up.port}", f"127.0.0.1:{up.port + 1}"),
        ]
        lacks.append(other.replace('"]}', '"], proxy_protocol: v1}'))
        if kind == "raw":
            lacks.append(other)
        for config in lacks:
            await new.reload(config)
            driver = await flowing(old)
            moment = driver.freeze()
            sockets = len(new.runtime.poller)
            with pytest.raises(ValueError, match=r"there is no|has no endpoint|has other settings"):
                receive(new, moment, driver.facts)
            assert len(new.runtime.poller) == sockets
            driver.thaw()
            await play(client >> b"a", server << b"a", server >> b"b", client << b"b")
        for party in (client, server):
            await hang_up(party)
        await old.settled()
        assert new.stats().downstream_rq_active == 0


async def test_the_upstream_connection_is_used_again_where_it_went() -> None:
    async with two(WEB) as (old, new, up):
        client = await old.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> BEGUN + b"some")
        await client.expect(re.compile(HEAD.pattern + rb"some"))
        await go([old, new])
        await play(server >> b" more", client << b" more")
        await new.settled(clients=1, upstreams=1)
        await play(client >> GET, server << HEAD, server >> BEGUN + b"some more")
        await client.expect(re.compile(HEAD.pattern + rb"some more"))
        assert up.accepted == 1
        assert old.cluster().stats.upstream_cx_active == 0
        await hang_up(client)


async def begun(old: Live, up: Upstream) -> tuple[Party, Party]:
    """Let a response begin."""
    client = await old.client()
    await client.send(GET)
    server = Party("upstream", await up.accept())
    await play(server << HEAD, server >> BEGUN + b"some")
    await client.expect(re.compile(HEAD.pattern + rb"some"))
    return client, server


async def test_a_body_of_somebodys_goes_where_it_says_what_it_is() -> None:
    Sizes.ended.clear()
    plugins = registry(Entry.parse(FILTERS, "sizes", "tests.foreign:Sizes", "tests", "0"))
    async with two(WEB, filters="sizes", plugins=plugins) as (old, new, up):
        client, server = await begun(old, up)
        await go([old, new])
        assert not Sizes.ended
        await play(server >> b" more", client << b" more")
        await new.settled(clients=1)
        assert Sizes.ended == [(Complete, 9)]
        await hang_up(client)


async def test_a_body_that_cannot_say_what_it_is_keeps_its_exchange() -> None:
    plugins = registry(Entry.parse(FILTERS, "silent", "tests.foreign:Silent", "tests", "0"))
    async with two(WEB, filters="silent", plugins=plugins) as (old, _, up):
        client, server = await begun(old, up)
        driver = driver_of(old)
        assert driver.standing is Standing.BUSY
        assert driver.why == "xproxy.stream.wrapped.WrappedBody cannot say what it is"
        await play(server >> b" more", client << b" more")
        await eventually(lambda: driver.standing is Standing.IDLE, "it is over")
        await hang_up(client)


async def test_one_end_that_others_share_keeps_the_exchange() -> None:
    text = WEB.replace('"]}}\n', '"], codec: http2}}\n')
    async with two(text) as (old, _, up):
        client = await old.client()
        await client.send(GET)
        server = Http2Peer(await up.accept(), client=False)
        await server.until(lambda: 1 in server.messages, "it is asked")
        server.h2.send_headers(1, [(":status", "200")])
        server.h2.send_data(1, b"some")
        await server.flush()
        await client.expect(re.compile(HEAD.pattern + rb"(?s:.*)some\r\n"))
        driver = driver_of(old)
        assert driver.standing is Standing.BUSY
        assert driver.why == "one of its connections is shared with others"
        await hang_up(client)


@pytest.mark.parametrize("who", ["client", "server"])
async def test_one_line_of_the_log_says_how_it_ended(who: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    filters = f"{{name: access_log, path: {log}, template: '%status% %flags% %bytes_sent%'}}"
    filters = filters.replace("%flags%", "%response_flags%")
    async with two(WEB, filters=filters) as (old, new, up):
        client = await old.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> BEGUN + b"some")
        await client.expect(re.compile(HEAD.pattern + rb"some"))
        await go([old, new])
        if who == "client":
            await hang_up(client)
            await play(server << END)
        else:
            await hang_up(server)
            await play(client << BROKEN)
        for live in (old, new):
            await live.settled()
        await eventually(lambda: log.read_text() != "", "the line is written")
        line = "cancelled DC 4\n" if who == "client" else "unavailable UC 4\n"
        assert log.read_text() == line
        stats = new.cluster().stats
        assert stats.upstream_rq_reset == (who == "server")
        assert old.cluster().stats.upstream_rq_reset == 0
        assert old.cluster().stats.statuses == {}


async def test_who_asks_is_told_when_it_flows_and_has_it_at_once() -> None:
    async with two(WEB) as (old, new, up):
        client = await old.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await server.expect(HEAD)
        driver = driver_of(old)
        assert driver.standing is Standing.BUSY

        def found() -> bool:
            if driver.standing is not Standing.FLOWING:
                return False
            move(old, new)
            return True

        driver.seek(found)
        await server.send(BEGUN + b"some")
        await client.expect(re.compile(HEAD.pattern + rb"some"))
        await eventually(lambda: gone(old), "it has left")
        await play(server >> b" more", client << b" more")
        await hang_up(client)
        for live in (old, new):
            await live.settled()


async def test_who_asks_may_find_that_it_is_not_wanted() -> None:
    async with two(WEB) as (old, _, up):
        client = await old.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await server.expect(HEAD)
        driver = driver_of(old)
        frozen = 0

        def found() -> bool:
            nonlocal frozen
            if driver.standing is not Standing.FLOWING or frozen:
                return False
            driver.freeze()
            frozen += 1
            return True

        driver.seek(found)
        await play(server >> BEGUN + b"some", client << HEAD, client << NOTHING)
        assert frozen == 1
        driver.thaw()
        await play(client << b"some", server >> b" more", client << b" more")
        await eventually(lambda: driver.standing is Standing.IDLE, "it is over")
        await hang_up(client)
        await old.settled()


async def test_full_sockets_lose_nothing() -> None:
    piece = bytes(range(256)) * 256
    async with two(L4, timeouts="{write: 60s}") as (old, new, up):
        client, server = await raw(old, up)
        sent = {"client": 0, "upstream": 0}
        got = {"client": 0, "upstream": 0}
        wanted = 8 << 20
        reads = trio.Event()
        small_buffers(socket_of(client), socket_of(server))

        async def send(party: Party) -> None:
            while sent[party.name] < wanted:
                await party.stream.send_all(piece)
                sent[party.name] += len(piece)
            await finish(party)

        async def read(party: Party) -> None:
            await reads.wait()
            while data := await party.stream.receive_some(65536):
                start = got[party.name] % 256
                assert data == (piece * 2)[start : start + len(data)]
                got[party.name] += len(data)

        lives = [old, new]
        async with trio.open_nursery() as nursery:
            for party in (client, server):
                nursery.start_soon(send, party)
                nursery.start_soon(read, party)
            before = -1
            while sum(sent.values()) != before:  # until nothing goes any more
                before = sum(sent.values())
                await wait_all_tasks_blocked(0.1)
            assert before < 2 * wanted
            for _ in range(5):
                await go(lives)
            driver = await flowing(lives[0])
            driver.freeze()
            driver.thaw()
            reads.set()
            moves = 0
            while sum(got.values()) < 2 * wanted:  # as often as there is time for
                await trio.lowlevel.checkpoint()
                if flows(lives[0]):
                    move(lives[0], lives[1])
                    moves += 1
                    lives.reverse()
        assert moves > 1
        assert got == {"client": wanted, "upstream": wanted}
        for party in (client, server):
            await hang_up(party)
        for live in lives:
            await live.settled()
            assert live.stats().downstream_cx_write_timeout == 0


async def test_a_bound_connection_goes_with_its_client() -> None:
    text = WEB.replace('"]}}\n', '"], connections: bound}}\n')
    async with two(text) as (old, new, up):
        client = await old.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> BEGUN + b"some")
        await client.expect(re.compile(HEAD.pattern + rb"some"))
        await go([old, new])
        await play(server >> b" more", client << b" more")
        await play(client >> GET, server << HEAD, server >> BEGUN + b"some more")
        await client.expect(re.compile(HEAD.pattern + rb"some more"))
        assert up.accepted == 1
        await hang_up(client)
        await play(server << END)
        for live in (old, new):
            await live.settled()


async def test_one_that_is_relieved_after_it_went_is_told_so() -> None:
    async with two(WEB) as (old, new, up):
        client, server = await chat(old, up)
        await go([old, new])
        driver_of(new).stop(Overflow("x"))
        await play(client << BROKEN, server << BROKEN)
        for live in (old, new):
            await live.settled()
