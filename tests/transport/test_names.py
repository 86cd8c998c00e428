"""Names: one that hangs costs nobody anything, and is told by whoever waits for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.live import PATIENCE, running, upstream, web
from xproxy.transport.names import (
    MOST_LOOKUPS,
    MOST_OF_A_NAME,
    PATIENCE_SECONDS,
    Found,
    Resolver,
    use_resolver,
)


class Hanging:
    """Looks up ``hang…`` until it is let go; any other name is 127.0.0.1."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> Found:
        self.asked.append(host)
        if host.startswith("hang"):
            assert self.let_go.wait(PATIENCE * 6)
        if host == "bad":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, "127.0.0.1", port)]


@contextmanager
def hanging() -> Iterator[Hanging]:
    lookup = Hanging()
    try:
        yield lookup
    finally:
        lookup.let_go.set()


async def test_a_name_is_found_and_one_that_is_not_says_why() -> None:
    with hanging() as lookup:
        resolver = Resolver(lookup)
        assert await resolver.find("good", 80) == [(socket.AF_INET, "127.0.0.1", 80)]
        with pytest.raises(OSError, match="Name or service not known"):
            await resolver.find("bad", 80)
        assert resolver.threads == 0


async def test_who_asks_for_a_name_that_hangs_shares_one_thread_and_may_give_up() -> None:
    with hanging() as lookup:
        resolver = Resolver(lookup)
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(resolver.find, "hangs", 80)
            await wait_all_tasks_blocked()
            assert resolver.threads == 1
            assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
            with trio.fail_after(PATIENCE):
                assert await resolver.find("good", 80)
            nursery.cancel_scope.cancel()
        assert resolver.threads == 1, "the thread cannot be stopped"
        lookup.let_go.set()
        with trio.fail_after(PATIENCE):
            await resolver.find("hangs", 80)
        assert lookup.asked.count("hangs") == 1


async def test_a_name_that_goes_on_hanging_is_asked_for_once_more(mock_clock: MockClock) -> None:
    with hanging() as lookup:
        resolver = Resolver(lookup)
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(resolver.find, "hangs", 80)
                await wait_all_tasks_blocked()
                mock_clock.jump(PATIENCE_SECONDS)
            assert resolver.threads == MOST_OF_A_NAME
            nursery.cancel_scope.cancel()


async def test_there_is_a_bound_for_all_names() -> None:
    with hanging() as lookup:
        resolver = Resolver(lookup)
        async with trio.open_nursery() as nursery:
            for number in range(MOST_LOOKUPS):
                nursery.start_soon(resolver.find, f"hangs{number}", 80)
            await wait_all_tasks_blocked()
            with pytest.raises(OSError, match="64 names are being looked up already"):
                await resolver.find("good", 80)
            nursery.cancel_scope.cancel()


async def test_a_cluster_whose_name_hangs_holds_up_nobody_else() -> None:
    with hanging() as lookup:
        async with upstream() as server:
            text = f"""
listeners:
  - {{name: edge, address: '127.0.0.1:0', routes: main}}
routes:
  main:
    - {{match: {{path: /hang}}, cluster: hanging}}
    - {{cluster: web}}
clusters:
  hanging: {{endpoints: ['hangs.test:80'], connect_timeout: 60s}}
  web: {{endpoints: ['good.test:{server.port}']}}
"""
            async with running(text) as live, trio.open_nursery() as nursery:
                use_resolver(Resolver(lookup))

                async def answer(stream: trio.SocketStream) -> None:
                    async for _ in stream:
                        await stream.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")

                nursery.start_soon(server.serve, answer)
                for _ in range(60):  # more than there are worker threads
                    waiting = await live.connect()
                    await waiting.send_all(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
                client = await live.connect()
                await client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                with trio.fail_after(PATIENCE):
                    assert (await client.receive_some()).startswith(b"HTTP/1.1 204")
                    await live.reload(web(server.port))
                    await trio.to_thread.run_sync(lambda: None)
                nursery.cancel_scope.cancel()
