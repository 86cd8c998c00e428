"""A peer that goes away at every byte there is: nothing is left behind, and nobody takes half for a whole.

In this process, on real sockets: so every gauge, socket and task can be looked at after each byte.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import cycle
from random import Random
from typing import Final

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.live import (
    PATIENCE,
    Live,
    answering,
    hang_up,
    http_response,
    reset,
    running,
    upstream,
    web,
)
from xproxy.testing import Party

pytestmark = pytest.mark.slow

POST: Final = (
    b"POST /a?b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n"
    b"5\r\nhello\r\n3;e\r\nyou\r\n0\r\nx: 1\r\n\r\n"
)
PIPELINED: Final = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n"
BOLT: Final = (
    bytes.fromhex("01 01 0001 01 00000007 01 00000BB8 0003 0010 00000004")
    + b"abc\0\0\0\7service\0\0\0\1s"
    + b"echo"
)
"""A request of class ``abc`` with one header and four bytes of content."""
BOLT_ANSWER: Final = bytes.fromhex("01 00 0002 01 00000007 01 0000 0000 0000 00000003") + b"yes"
WAYS: Final = ("fin", "rst")


async def leave(party: Party, way: str) -> None:
    if way == "rst":
        reset(party)
    else:
        await hang_up(party)


async def answer_http(stream: trio.SocketStream) -> None:
    """Answer each request once its end has come; what is broken off gets no answer."""
    buffer = b""
    async for data in stream:
        buffer += data
        while True:
            head, found, rest = buffer.partition(b"\r\n\r\n")
            if not found:
                break
            if b"chunked" in head:
                end = re.search(rb"(?:^|\r\n)0\r\n(?:[^\r]+\r\n)*\r\n", rest)
                if end is None:
                    break
                rest = rest[end.end() :]
            buffer = rest
            await stream.send_all(http_response(b"ok"))


async def answer_bolt(stream: trio.SocketStream) -> None:
    """Answer every whole frame."""
    buffer = b""
    async for data in stream:
        buffer += data
        while len(buffer) >= 22:
            size = 22 + sum(
                int.from_bytes(buffer[a:b], "big") for a, b in ((14, 16), (16, 18), (18, 22))
            )
            if len(buffer) < size:
                break
            answer = BOLT_ANSWER[:5] + buffer[5:9] + BOLT_ANSWER[9:]
            buffer = buffer[size:]
            await stream.send_all(answer)


SERVERS: Final[dict[str, tuple[bytes, Callable[[trio.SocketStream], Awaitable[None]]]]] = {
    "chunked": (POST, answer_http),
    "pipelined": (PIPELINED, answer_http),
    "bolt": (BOLT, answer_bolt),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SERVERS)
async def test_a_client_that_aborts_at_every_byte_of_a_request(name: str, way: str) -> None:
    wire, serve = SERVERS[name]
    async with upstream() as up, running(web(up.port)) as live, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, serve)
        fds = None
        for size in range(len(wire) + 1):
            client = await live.client()
            await client.send(wire[:size])
            if size % 2:  # sometimes the proxy has read it all, sometimes it comes with the end
                await wait_all_tasks_blocked()
            await leave(client, way)
            await live.settled(clients=0)
            open_now = len(os.listdir("/proc/self/fd"))
            fds = fds or open_now
            # Upstream connections are pooled, at most a few: nothing grows with the number of aborts.
            assert open_now <= fds + 6
        await answered(live, wire, name)
        assert live.stats().downstream_cx_total == len(wire) + 2
        nursery.cancel_scope.cancel()


async def answered(live: Live, wire: bytes, name: str) -> None:
    """Check that a good client is served as ever."""
    client = await live.client()
    await client.send(wire)
    count = 2 if name == "pipelined" else 1
    for _ in range(count):
        await client.expect(BOLT_ANSWER if name == "bolt" else http_response(b"ok"))
    await hang_up(client)
    await live.settled(clients=0)


RESPONSES: Final = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nx: 1\r\n\r\nhello, world", True),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n7;e\r\n, world\r\n0\r\nx: 1\r\n\r\n",
        True,
    ),
    "interim": (
        b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello, world",
        True,
    ),
    "until-close": (b"HTTP/1.1 200 OK\r\nx: 1\r\n\r\nhello, world", False),
}
"""What an upstream says, and whether its end can be seen in it."""


def whole(received: bytes) -> tuple[int, bytes] | None:
    """Return code and body if these are well-formed final responses to one GET, by their own framing."""
    rest = received
    while True:
        head, found, rest = rest.partition(b"\r\n\r\n")
        if not found:
            return None
        code = int(head[9:12])
        if code >= 200:
            break
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    if length is not None:
        return (code, rest) if len(rest) == int(length[1]) else None
    if b"chunked" in head.lower():
        body = b""
        while True:
            line, found, rest = rest.partition(b"\r\n")
            if not found:
                return None
            size = int(line.partition(b";")[0] or b"x", 16)
            if not size:
                return (code, body) if rest.endswith(b"\r\n") else None
            body, rest = body + rest[:size], rest[size + 2 :]
            if not rest:
                return None
    return code, rest


async def everything(party: Party) -> tuple[bytes, bool]:
    """Read to the end; returns what came, and whether the end was clean."""
    received = b""
    with trio.fail_after(PATIENCE):
        while True:
            try:
                data = await party.stream.receive_some()
            except trio.BrokenResourceError:
                return received, False
            if not data:
                return received, True
            received += data


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", RESPONSES)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_an_upstream_that_aborts_at_every_byte_of_a_response(
    name: str, way: str, version: bytes
) -> None:
    wire, framed = RESPONSES[name]
    request = b"GET / HTTP/%b\r\nHost: a\r\nConnection: close\r\n\r\n" % version
    async with upstream() as up, running(web(up.port, failure_threshold=1_000_000)) as live:
        for size in range(len(wire) + 1):
            client = await live.client()
            await client.send(request)
            server = Party("upstream", await up.accept())
            await server.expect(re.compile(rb"GET / HTTP/1\.1\r\n(?:[^\r]+\r\n)*\r\n"))
            await server.send(wire[:size])
            if size % 2:
                await wait_all_tasks_blocked()
            await leave(server, way)
            received, clean = await everything(client)
            found = whole(received) if clean else None
            told = f"after {size} bytes: {received!r}, {'clean' if clean else 'broken'}"
            if found is not None and found[0] == 200:
                # With RST what was sent may be lost on the way, so only a clean end must bring it all.
                complete = size == len(wire) if framed else way == "fin"
                assert complete, told
                begun = wire.partition(b"\r\n\r\n")[2] if name == "until-close" else b""
                wanted = begun[: len(begun) - (len(wire) - size)] if begun else b"hello, world"
                assert found[1] == wanted, told
            elif found is not None:
                assert found[0] == 502, told
                assert b" 200 OK" not in received, told
            else:
                # Broken: and then the client can see that it is.
                assert not clean or b" 200 OK" in received, told
            await hang_up(client)
            await live.settled(clients=0, upstreams=0)
        assert live.cluster().stats.upstream_cx_total == len(wire) + 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_bolt_upstream_that_aborts_at_every_byte_of_a_response(way: str) -> None:
    async with upstream() as up, running(web(up.port, failure_threshold=1_000_000)) as live:
        client = await live.client()
        for size in range(len(BOLT_ANSWER) + 1):
            await client.send(BOLT)
            server = Party("upstream", await up.accept())
            asked = await server.expect(re.compile(rb".{%d}" % len(BOLT), re.DOTALL))
            answer = BOLT_ANSWER[:5] + asked[5:9] + BOLT_ANSWER[9:]
            await server.send(answer[:size])
            if size % 2:
                await wait_all_tasks_blocked()
            await leave(server, way)
            head = await client.expect(re.compile(rb".{20}", re.DOTALL))
            assert head[5:9] == BOLT[5:9]
            if head[10:12] == b"\0\0":
                assert size == len(BOLT_ANSWER)
                await client.expect(b"yes")
            else:
                # Connection closed; or a communication error, where a frame broke off in the middle.
                assert int.from_bytes(head[10:12], "big") in (16, 5)
            # The client's connection is none the worse for it.
            await live.settled(clients=1, upstreams=0)


async def test_many_clients_that_abort_at_once_leave_nothing() -> None:
    async with upstream() as up, running(web(up.port)) as live, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, answering())

        async def abort(size: int) -> None:
            client = await live.client()
            await client.send(PIPELINED[: size % len(PIPELINED)])
            await leave(client, WAYS[size % 2])

        async with trio.open_nursery() as clients:
            for size in range(300):
                clients.start_soon(abort, size)
        await live.settled(clients=0)
        await answered(live, PIPELINED, "pipelined")
        nursery.cancel_scope.cancel()


CROWDED: Final = {
    "pooled": {"circuit_breakers": "{max_connections: 3, max_pending_requests: 50}"},
    "one connection a client": {"proxy_protocol": "v1"},
}


async def answer_after_proxy_header(stream: trio.SocketStream) -> None:
    """Answer as ``answer_http``, with or without a PROXY header first."""
    data = bytes(await stream.receive_some())
    if data.startswith(b"PROXY "):
        data = data.partition(b"\r\n")[2]
    rest = data.count(b"\r\n\r\n")
    for _ in range(rest):
        await stream.send_all(http_response(b"ok"))
    await answer_http(stream)


@pytest.mark.parametrize("name", CROWDED)
async def test_clients_that_give_up_at_any_moment_leave_nothing(name: str) -> None:
    random = Random(5)
    # However fast the machine is, some give up and some do not.
    moments = cycle((0.0, PATIENCE, *(random.random() ** 2 * 0.1 for _ in range(8))))
    outcomes: Counter[str] = Counter()
    async with (
        upstream() as up,
        running(web(up.port, **CROWDED[name])) as live,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(up.serve, answer_after_proxy_header)

        async def impatient() -> None:
            for _ in range(30):
                client = await live.client()
                with trio.move_on_after(next(moments)) as scope:
                    for _ in range(3):
                        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                        await client.expect(http_response(b"ok"))
                outcomes["gave up" if scope.cancelled_caught else "served"] += 1
                await leave(client, random.choice(WAYS))

        async with trio.open_nursery() as clients:
            for _ in range(10):
                clients.start_soon(impatient)
        await live.settled(clients=0)
        # Those that would not wait at all, and those that would wait for long.
        assert outcomes["gave up"] >= 30, outcomes
        assert outcomes["served"] >= 30, outcomes
        client = await live.client()
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.expect(http_response(b"ok"))
        await hang_up(client)
        await live.settled(clients=0)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("sharing", ["shared", "bound"])
async def test_calls_given_up_at_any_moment_leave_nothing(sharing: str) -> None:
    random = Random(6)
    codecs = "    codecs: [lines]\n"

    async def answer_lines(stream: trio.SocketStream) -> None:
        buffer = b""
        async for data in stream:
            *whole_lines, buffer = (buffer + data).split(b"\n")
            for line in whole_lines:
                # One in ten ends the connection instead, in the middle of everything.
                if random.random() < 0.1:
                    return
                await stream.send_all(b"~s %b 0 0 -\n" % line.split()[1])

    async with (
        upstream() as up,
        running(
            web(up.port, listener=codecs, connections=sharing, failure_threshold=10**6)
        ) as live,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(up.serve, answer_lines)

        async def impatient() -> None:
            for _ in range(20):
                client = await live.client()
                with trio.move_on_after(random.random() ** 2 * 0.1):
                    await client.send(b"".join(b"~q %d s m 0 -\n" % n for n in range(10)))
                    for _ in range(10):
                        await client.expect(re.compile(rb"~s \d+ \d+ 0 [^\n]*\n"))
                await leave(client, random.choice(WAYS))

        async with trio.open_nursery() as clients:
            for _ in range(10):
                clients.start_soon(impatient)
        await live.settled(clients=0, upstreams=None if sharing == "shared" else 0)
        nursery.cancel_scope.cancel()
