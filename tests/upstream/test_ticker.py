"""Who asked for it is looked after, once a second or later, and nobody else costs anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock

from tests.live import GET, http_response, running, upstream, web
from xproxy.testing import Party, play
from xproxy.upstream.ticker import TICK, Ticker


@attrs.define(eq=False)
class Looked:
    """Comes back after ``ticks``, and notes when it was called."""

    ticks: int = 1
    error: Exception | None = None
    at: list[int] = attrs.field(factory=list)

    def tick(self, tick: int) -> int:
        self.at.append(tick)
        if self.error is not None:
            raise self.error
        return self.ticks


@asynccontextmanager
async def ticking() -> AsyncIterator[Ticker]:
    ticker = Ticker()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ticker.run)
        yield ticker
        nursery.cancel_scope.cancel()


async def pass_ticks(count: int) -> None:
    await trio.sleep(count * TICK + TICK / 2)


async def test_each_comes_when_it_asked_for(autojump_clock: MockClock) -> None:
    async with ticking() as ticker:
        often, rarely, once, never = Looked(1), Looked(3), Looked(0), Looked()
        ticker.watch(often)
        ticker.watch(rarely, 3)
        ticker.watch(once, 2)
        await pass_ticks(7)
        assert ticker.tick == 7
        assert often.at == [1, 2, 3, 4, 5, 6, 7]
        assert rarely.at == [3, 6]
        assert once.at == [2]
        assert never.at == []
        assert len(ticker) == 2


async def test_who_is_needed_sooner_comes_sooner_and_once(autojump_clock: MockClock) -> None:
    async with ticking() as ticker:
        thing = Looked(0)
        ticker.watch(thing, 5)
        ticker.watch(thing, 2)
        ticker.watch(thing, 4)
        await pass_ticks(7)
        assert thing.at == [2]


async def test_who_is_forgotten_does_not_come(autojump_clock: MockClock) -> None:
    async with ticking() as ticker:
        thing = Looked()
        ticker.watch(thing, 2)
        ticker.forget(thing)
        ticker.forget(thing)
        await pass_ticks(3)
        assert thing.at == []
        assert len(ticker) == 0


async def test_one_that_fails_ends_nobody(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with ticking() as ticker:
        bad, good = Looked(error=ValueError("bad")), Looked()
        ticker.watch(bad)
        ticker.watch(good)
        await pass_ticks(3)
        assert bad.at == good.at == [1, 2, 3]
    assert "looking after idle connections has failed" in caplog.text


class Steps(trio.abc.Instrument):
    """Counts how often any task goes on."""

    count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


def many(count: int) -> str:
    others = "".join(f'  c{n}: {{endpoints: ["127.0.0.1:1"]}}\n' for n in range(count))
    return web(1).replace("clusters:\n", "clusters:\n" + others)


async def test_idle_clusters_cost_nothing_however_many_they_are(mock_clock: MockClock) -> None:
    async with running(many(4000)) as live:
        assert live.runtime.snapshot is not None
        assert len(live.runtime.snapshot.clusters) == 4001
        assert len(live.runtime.ticker) == 0
        await trio.testing.wait_all_tasks_blocked()
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        for _ in range(10):
            mock_clock.jump(TICK)
            await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(steps)
        # The ticker's own, this task's, and what few timers there are: with one for each cluster, 40,000.
        assert steps.count < 200


async def test_a_cluster_is_looked_after_while_it_has_a_connection(mock_clock: MockClock) -> None:
    async with upstream() as up, running(web(up.port, idle_timeout="3s")) as live:
        ticker, stats = live.runtime.ticker, live.cluster().stats
        for turn in (1, 2):
            assert len(ticker) == 0
            client = await live.client()
            await client.send(GET)
            server = Party("upstream", await up.accept())
            await play(server >> http_response(b"ok"), client << http_response(b"ok"))
            assert len(ticker) == 1
            for tick in range(1, 6):
                # Also after a long sleep its connections have their whole idle time.
                assert stats.upstream_cx_idle_timeout == turn - (tick <= 4), tick
                mock_clock.jump(TICK)
                await trio.testing.wait_all_tasks_blocked()
            for _ in range(20):
                mock_clock.jump(TICK)
                await trio.testing.wait_all_tasks_blocked()
