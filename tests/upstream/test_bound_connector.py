"""Many requests at a time on a connection that is bound to one client's: the server may call the client."""

from __future__ import annotations

import re

import pytest

from tests.live import Live, hang_up, running, upstream, web
from tests.upstream.test_shared_connector import answer, call, lines, question
from xproxy.testing import END, NOTHING, Party, play


def bound(port: int) -> str:
    return lines(port, connections="bound")


async def test_each_client_has_its_own_connection() -> None:
    async with upstream() as up, running(bound(up.port)) as live:
        first, second = await live.client("first"), await live.client("second")
        one = await call(first, up)
        other = await call(second, up)
        await live.settled(clients=2, upstreams=2)
        await first.send(b"~q 2 s m 0 -\n")
        await question(one)
        await play(other << NOTHING)
        await hang_up(first)
        await one.expect(END)
        await hang_up(second)
        await other.expect(END)
        await live.settled(clients=0, upstreams=0)


async def test_requests_at_once_share_the_one_dial() -> None:
    async with upstream() as up, running(bound(up.port)) as live:
        client = await live.client()
        await client.send(b"".join(b"~q %d s m 0 -\n" % n for n in range(8)))
        server = Party("upstream", await up.accept())
        for _ in range(8):
            number, _ = await question(server)
            await answer(server, number)
        for _ in range(8):
            await client.expect(re.compile(rb"~s \d 0 0 -\n"))
        assert up.accepted == 1
        await live.settled(clients=1, upstreams=1)


async def reverse(live: Live, client: Party, server: Party) -> None:
    """Let the server call the client, and the client answer."""
    await server.send(b"~q 900 cb ring 2 -\nhi")
    asked = re.compile(rb"~q (\d+) cb ring 2 -\nhi")
    found = asked.match(await client.expect(asked))
    assert found is not None
    await client.send(b"~s %b 0 3 -\nyes" % found[1])
    await server.expect(b"~s 900 0 3 -\nyes")


async def test_a_server_calls_its_client_on_the_clients_connection() -> None:
    async with upstream() as up, running(bound(up.port)) as live:
        client = await live.client()
        server = await call(client, up)
        await reverse(live, client, server)
        await live.settled(clients=1, upstreams=1)
        # Both directions at once, with one id for two things: two directions, two id spaces.
        await client.send(b"~q 900 s m 0 -\n")
        number, _ = await question(server)
        await server.send(b"~q %b cb ring 0 -\n" % number)
        asked = re.compile(rb"~q (\d+) cb ring 0 -\n")
        found = asked.match(await client.expect(asked))
        assert found is not None
        await answer(server, number, b"forth")
        await client.send(b"~s %b 0 4 -\nback" % found[1])
        await client.expect(b"~s 900 0 5 -\nforth")
        await server.expect(b"~s %b 0 4 -\nback" % number)
        await live.settled(clients=1, upstreams=1)


async def test_a_client_that_leaves_during_a_reverse_call_leaves_nothing_behind() -> None:
    async with upstream() as up, running(bound(up.port)) as live:
        client = await live.client()
        server = await call(client, up)
        await server.send(b"~q 1 cb ring 0 -\n")
        await client.expect(re.compile(rb"~q \d+ cb ring 0 -\n"))
        await hang_up(client)
        await live.settled(clients=0, upstreams=0)
        await server.expect(re.compile(rb"(~s 1 \d+ 0 -\n)?"))


async def test_a_shared_connection_refuses_reverse_calls() -> None:
    async with upstream() as up, running(lines(up.port)) as live:
        client = await live.client()
        server = await call(client, up)
        await server.send(b"~q 4 cb ring 0 -\n")
        await server.expect(re.compile(rb"~s 4 12 0 [^\n]*\n"))
        await play(client << NOTHING)


@pytest.mark.parametrize("way", ["goodbye", "close"])
async def test_a_bound_connection_that_ends_is_replaced(way: str) -> None:
    async with upstream() as up, running(bound(up.port)) as live:
        client = await live.client()
        server = await call(client, up)
        if way == "goodbye":
            await client.send(b"~q 2 s slow 0 -\n")
            number, _ = await question(server)
            await server.send(b"~g\n")
        else:
            await hang_up(server)
            await live.settled(clients=1, upstreams=0)
        successor = await call(client, up)
        if way == "goodbye":
            await answer(server, number)
            await client.expect(b"~s 2 0 0 -\n")
            await server.expect(END)
        # The end of the old one must not make the proxy forget the new one.
        await live.settled(clients=1, upstreams=1)
        await reverse(live, client, successor)
        await hang_up(client)
        await successor.expect(END)
        await live.settled(clients=0, upstreams=0)


async def test_a_bound_connection_that_says_goodbye_goes_with_its_client() -> None:
    async with upstream() as up, running(bound(up.port)) as live:
        client = await live.client()
        server = await call(client, up)
        await client.send(b"~q 2 s slow 0 -\n")
        await question(server)
        await server.send(b"~g\n")
        successor = await call(client, up)
        await hang_up(client)
        await server.expect(END)
        await successor.expect(END)
        await live.settled(clients=0, upstreams=0)


# ---- the same in Bolt, whose servers do call their clients


def bolt_request(number: int, content: bytes) -> bytes:
    return (
        bytes.fromhex("01 01 0001 01")
        + number.to_bytes(4, "big")
        + bytes.fromhex("01 00000BB8 0000 0000")
        + len(content).to_bytes(4, "big")
        + content
    )


def bolt_response(number: int, content: bytes) -> bytes:
    return (
        bytes.fromhex("01 00 0002 01")
        + number.to_bytes(4, "big")
        + bytes.fromhex("01 0000 0000 0000")
        + len(content).to_bytes(4, "big")
        + content
    )


async def bolt_asked(party: Party, content: bytes) -> int:
    """Take a request with this content; returns its id."""
    wanted = bolt_request(0, content)
    frame = await party.expect(re.compile(rb".{%d}" % len(wanted), re.DOTALL))
    assert frame[:5] + wanted[5:9] + frame[9:] == wanted
    return int.from_bytes(frame[5:9], "big")


async def test_a_bolt_server_calls_its_client_on_the_clients_connection() -> None:
    async with upstream() as up, running(web(up.port, connections="bound")) as live:
        first, second = await live.client("first"), await live.client("second")
        servers: list[Party] = []
        for client in (first, second):
            await client.send(bolt_request(7, b"hello"))
            servers.append(Party(f"server of {client.name}", await up.accept()))
            number = await bolt_asked(servers[-1], b"hello")
            await servers[-1].send(bolt_response(number, b"welcome"))
            await client.expect(bolt_response(7, b"welcome"))
        # Each server reaches its own client, whatever ids they choose.
        for client, server in zip((second, first), reversed(servers), strict=True):
            await server.send(bolt_request(7, b"notify " + client.name.encode()))
            number = await bolt_asked(client, b"notify " + client.name.encode())
            await client.send(bolt_response(number, b"noted"))
            await server.expect(bolt_response(7, b"noted"))
        # While the client waits for an answer of the server's own.
        await first.send(bolt_request(8, b"slow"))
        slow = await bolt_asked(servers[0], b"slow")
        await servers[0].send(bolt_request(9, b"ask back"))
        number = await bolt_asked(first, b"ask back")
        await first.send(bolt_response(number, b"sure"))
        await servers[0].expect(bolt_response(9, b"sure"))
        await servers[0].send(bolt_response(slow, b"done"))
        await first.expect(bolt_response(8, b"done"))
        await live.settled(clients=2, upstreams=2)
        await hang_up(first)
        await servers[0].expect(END)
        await live.settled(clients=1, upstreams=1)
