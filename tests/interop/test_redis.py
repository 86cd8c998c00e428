"""A real redis-server behind the codec of ``tests/redis_codec.py``: what one client says, another never feels."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from fuzz.run import run_loop
from fuzz.targets.codec import target
from tests.interop.redis_server import redis_server
from tests.live import Live, hang_up, registry, running
from tests.redis_codec import PLUGIN, SERVICE
from xproxy.api import DEFAULT_LIMITS, Head, RequestHead, Role
from xproxy.registry import CODECS, Entry, Registry
from xproxy.testing import Party, check_codec

pytestmark = pytest.mark.slow


def test_conformance() -> None:
    check_codec(PLUGIN)


def test_the_fuzzer_begins_with_the_plugins_own_samples() -> None:
    assert run_loop(target(PLUGIN), runs=300, seconds=None) == 0


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield port


def with_redis() -> Registry:
    """Return what is installed, and the codec."""
    found = registry()
    entry = Entry.parse(CODECS, "redis", "tests.redis_codec:PLUGIN", "tests", "0")
    groups = ("xproxy.codecs", "xproxy.filters", "xproxy.load_balancers")
    return Registry([*(e for group in groups for e in found.entries(group)), entry])


def configuration(port: int, cluster: str = "") -> str:
    return (
        "listeners: [{name: edge, address: '127.0.0.1:0', routes: main}]\n"
        "routes: {main: [{match: {protocol: redis}, cluster: redis}]}\n"
        f"clusters: {{redis: {{endpoints: ['127.0.0.1:{port}']{cluster}}}}}\n"
    )


@asynccontextmanager
async def proxied(port: int, cluster: str = "") -> AsyncIterator[Live]:
    async with running(configuration(port, cluster), plugins=with_redis()) as live:
        yield live


def said(*words: bytes) -> bytes:
    """Return a command as any client of Redis writes it."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)


async def ask(client: Party, words: bytes, answer: bytes) -> None:
    await client.send(said(*words.split()))
    assert await client.expect(answer) == answer


@pytest.mark.tool("redis-server")
async def test_commands_and_pipelines(redis: int) -> None:
    async with proxied(redis) as live:
        client = await live.client()
        await ask(client, b"PING", b"+PONG\r\n")
        await ask(client, b"SET name value", b"+OK\r\n")
        await ask(client, b"GET name", b"$5\r\nvalue\r\n")
        await ask(client, b"GET nobody", b"$-1\r\n")
        await ask(client, b"RPUSH list a b c", b":3\r\n")
        await ask(client, b"LRANGE list 0 -1", b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n")
        await client.send(said(b"NOTHING"))
        assert (await client.expect(b"-ERR unknown command")).startswith(b"-ERR")
        other = await live.client()
        await other.send(b"".join(said(b"ECHO", b"%d" % n) for n in range(50)))
        for n in range(50):
            text = b"%d" % n
            await other.expect(b"$%d\r\n%b\r\n" % (len(text), text))
        large = bytes(200_000)
        await other.send(said(b"SET", b"large", large) + said(b"GET", b"large"))
        await other.expect(b"+OK\r\n$200000\r\n" + large + b"\r\n")


@pytest.mark.tool("redis-server")
async def test_two_transactions_do_not_mix(redis: int) -> None:
    async with proxied(redis) as live:
        one, two = await live.client(), await live.client()
        await ask(one, b"MULTI", b"+OK\r\n")
        await ask(two, b"SET two 2", b"+OK\r\n")  # no QUEUED: it is nobody's transaction
        await ask(two, b"MULTI", b"+OK\r\n")
        await ask(one, b"SET one 1", b"+QUEUED\r\n")
        await ask(two, b"GET two", b"+QUEUED\r\n")
        await ask(one, b"EXEC", b"*1\r\n+OK\r\n")
        await ask(two, b"EXEC", b"*1\r\n$1\r\n2\r\n")
        await ask(one, b"SELECT 3", b"+OK\r\n")
        await ask(two, b"GET two", b"$1\r\n2\r\n")
        assert live.cluster("redis").stats.upstream_cx_total == 2


@pytest.mark.tool("redis-server")
async def test_a_client_that_leaves_takes_its_transaction_along(redis: int) -> None:
    async with proxied(redis) as live:
        one = await live.client()
        await ask(one, b"MULTI", b"+OK\r\n")
        await hang_up(one)
        await live.settled(clients=0, upstreams=0)
        await ask(await live.client(), b"SET three 3", b"+OK\r\n")


@pytest.mark.tool("redis-server")
async def test_shared_by_the_file_they_do_mix_and_check_says_so(redis: int) -> None:
    async with proxied(redis, ", connections: shared") as live:
        one, two = await live.client(), await live.client()
        await ask(one, b"MULTI", b"+OK\r\n")
        await ask(two, b"SET two 2", b"+QUEUED\r\n")
        await ask(one, b"DISCARD", b"+OK\r\n")


def test_the_client_side_takes_no_answer_that_was_not_asked_for() -> None:
    codec = PLUGIN.open(Role.CLIENT, DEFAULT_LIMITS)
    codec.send(Head(1, RequestHead(service=SERVICE, method="PING"), b"", end=True))
    frames = codec.receive(b"+PONG\r\n+PONG\r\n")
    assert [type(frame).__name__ for frame in frames] == ["Head", "Violation"]
