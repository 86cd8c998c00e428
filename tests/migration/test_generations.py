"""Several generations: what an older one has left goes to the newest, and none accepts again once a newer one has."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio

from tests.live import GET, PATIENCE, Live, eventually, hang_up, running, upstream, web
from tests.migration.moved import HEAD, OK, exchange, first, gone, moved
from tests.migration.takeover import QUICK, Takeover, giving_to, pair, successor, take_over
from xproxy.migration import giver
from xproxy.migration.batches import Batches
from xproxy.migration.giver import give
from xproxy.migration.messages import Done, Hello, Offer, Settled, Withdraw
from xproxy.migration.taker import take
from xproxy.observe.takeover import Stage
from xproxy.testing import Party, play


async def follow(old: Live, new: Live, found: Takeover) -> None:
    """Let ``new`` take the place of ``old``, and what takes over end with its process."""
    ours, theirs = pair()

    async def giving() -> None:
        found.given = await give(old.runtime, ours, found.reports.append, pace=QUICK)

    async def ends(scope: trio.CancelScope) -> None:
        await new.runtime.ended.wait()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(giving)
        async with trio.open_nursery() as living:
            living.start_soon(ends, living.cancel_scope)
            found.taken = await take(new.runtime, theirs, found.reports.append)
            living.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["its process ends", "it dies"])
async def test_an_older_one_never_accepts_again_though_its_successor_is_gone(how: str) -> None:
    async with (
        upstream() as up,
        running(web(up.port)) as oldest,
        successor(web(up.port), oldest) as old,
        successor(web(up.port), oldest) as new,
    ):
        client, server = await first(oldest, up)
        await play(client >> GET, server << HEAD)
        found, accepted = Takeover(), list[str]()
        # Counted, as it may do so for a moment only.
        oldest.runtime.accept = lambda: accepted.append("again")  # type: ignore[method-assign]
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                if how == "it dies":
                    async with giving_to(oldest) as (other, found):
                        await other.until_giving()
                        await eventually(lambda: oldest.runtime.tails_since is not None, "it tails")
                        new.runtime.accept()  # it was started again
                        other.close()
                        await eventually(lambda: said("left", found), "it has noticed")
                        assert await take_over_is_gone(oldest, new, server, client)
                else:
                    nursery.start_soon(follow, oldest, old, found)
                    await eventually(lambda: oldest.runtime.tails_since is not None, "it tails")
                    assert gone(await take_over(old, new))
                    await eventually(lambda: said("left", found), "it has noticed")
                    assert await take_over_is_gone(oldest, new, server, client)
        assert accepted == []
        await exchange(client, server)
        # What was counted is counted once.
        numbers = new.runtime.metrics.shown(("listener", "edge"))
        assert (numbers["downstream_cx_total"], numbers["downstream_rq_total"]) == (1, 3)


def said(step: str, found: Takeover) -> bool:
    """Whether a report has said that it has come to this."""
    return any(one["step"] == step for one in found.reports)


async def take_over_is_gone(oldest: Live, new: Live, server: Party, client: Party) -> bool:
    """Let the newest have what is left, once it is answered."""
    found = Takeover()
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await take_over(oldest, new, into=found)

        nursery.start_soon(run)
        await eventually(lambda: said("given", found), "it has its channel")
        await play(server >> OK, client << OK)
    return gone(found)


async def test_while_it_tails_a_newer_process_yet_gets_what_is_left() -> None:
    async with (
        upstream() as up,
        running(web(up.port)) as old,
        successor(web(up.port), old) as new,
        successor(web(up.port), old) as newest,
    ):
        client, server = await first(old, up)
        await play(client >> GET, server << HEAD)
        found: list[Takeover] = []

        async def run(to: Live) -> None:
            found.append(await take_over(old, to))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, new)
            await eventually(lambda: new.runtime.accepting.is_set(), "the new one accepts")
            # The newest has taken the place of the new one; it accepts already.
            assert gone(await take_over(new, newest))
            nursery.start_soon(run, newest)
            await eventually(lambda: len(found) == 1, "the first has ended")
            assert found[0].given is not None
            assert (found[0].given.gone, found[0].given.why) == (False, "")
            await play(server >> OK, client << OK)
        assert gone(found[1])
        assert moved(found[1]) == {"http1": 1, "upstream http1": 1}
        await exchange(client, server)
        await eventually(old.runtime.ended.is_set, "the old one has ended")
        assert newest.stats().downstream_cx_active == 1


@pytest.mark.parametrize("keeps", [False, True], ids=["its own has gone", "it keeps one"])
async def test_what_comes_from_an_older_one_while_it_is_given_goes_on_to_the_newest(
    keeps: bool,
) -> None:
    async with (
        upstream() as up,
        running(web(up.port)) as oldest,
        successor(web(up.port), oldest) as old,
        successor(web(up.port), oldest) as new,
    ):
        late, late_server = await first(oldest, up)
        await play(late >> GET, late_server << HEAD)  # its connection stays, until it is answered
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_over, oldest, old)
            await eventually(old.runtime.accepting.is_set, "the old one accepts")
            kept, kept_server = await first(old, up)
            await play(kept >> GET, kept_server << HEAD)  # so that this one tails, too
            nursery.start_soon(take_over, old, new)
            await eventually(
                lambda: old.runtime.takeover.stage is Stage.TAILING, "all that can go has gone"
            )
            await play(late_server >> OK, late << OK)
            await eventually(lambda: new.stats().downstream_cx_active == 1, "it has moved twice")
            await exchange(late, late_server)
            if keeps:
                await play(kept_server >> OK, kept << OK)
            else:
                await hang_up(kept)
        await eventually(old.runtime.ended.is_set, "both have ended")
        shown = old.runtime.takeover.stats
        assert (shown.takeovers, shown.withdrawn) == (1, 0)
        assert new.stats().downstream_cx_active == 1 + keeps


async def test_what_two_newer_ones_are_to_get_goes_to_one_after_the_other() -> None:
    async with AsyncExitStack() as stack:
        up = await stack.enter_async_context(upstream())
        old = await stack.enter_async_context(running(web(up.port)))
        others = [await stack.enter_async_context(successor(web(up.port), old)) for _ in range(4)]
        client, server = await first(old, up)
        await play(client >> GET, server << HEAD)
        found: list[Takeover] = []

        async def run(to: Live) -> None:
            found.append(await take_over(old, to))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, others[0])
            await eventually(others[0].runtime.accepting.is_set, "the first accepts")
            for one in others[1:]:
                one.runtime.accept()  # each has taken the place of the one before
                nursery.start_soon(run, one)
            await eventually(lambda: len(found) == 3, "three have nothing to wait for any more")
            assert [one.given is not None and one.given.why for one in found] == ["", "", ""]
            await play(server >> OK, client << OK)
        assert gone(found[3])
        assert moved(found[3]) == {"http1": 1, "upstream http1": 1}


async def test_what_a_newer_one_that_fails_was_told_is_not_told_again() -> None:
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        client, server = await first(old, up)
        await play(client >> GET, server << HEAD)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_over, old, new)
            await eventually(lambda: old.runtime.tails_since is not None, "it tails")
            async with giving_to(old) as (other, found):
                await other.until_giving()
                await other.say(Withdraw(why="no"))
                await other.end()
                # Whoever has taken its place before knows what it has counted, and goes on.
                assert old.runtime.metrics.teller is not None
                await play(server >> OK, client << OK)
                await hang_up(client)
            assert found.given is not None
            assert (found.given.gone, found.given.why) == (True, "the new process gave up: no")
        assert not old.runtime.accepting.is_set()
        assert new.runtime.metrics.shown(("listener", "edge"))["downstream_cx_total"] == 1


async def test_one_that_tails_ends_alone_where_nobody_takes_what_is_left() -> None:
    async with upstream() as up, running(web(up.port)) as old, successor(web(up.port), old) as new:
        client, server = await first(old, up)
        await play(client >> GET, server << HEAD)
        found: list[Takeover] = []

        async def run() -> None:
            found.append(await take_over(old, new))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await eventually(lambda: new.runtime.accepting.is_set(), "the new one accepts")
            async with giving_to(old) as (other, second):
                await other.hear(Hello)
                await other.say(Withdraw(why="no room"))
                await other.end()
                assert not old.runtime.accepting.is_set()
                await play(server >> OK, client << OK)
                await hang_up(client)
            assert second.given is not None
            assert second.given.gone


async def test_whoever_steps_aside_offers_nothing_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Batches] = []

    class Kept(Batches):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            made.append(self)

    monkeypatch.setattr(giver, "Batches", Kept)
    async with upstream() as up, running(web(up.port)) as old:
        client, server = await first(old, up)
        await play(client >> GET, server << HEAD)
        async with giving_to(old) as (other, found):
            await other.until_giving()
            await other.hear(Settled)
            step_aside = old.runtime.step_aside
            assert step_aside is not None
            await hang_up(client)
            await eventually(lambda: not old.runtime.listeners["edge"].connections, "it has ended")
            # What an older process may give it from here on is for the newest one.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(step_aside)
                await other.hear(Done)
        assert found.given is not None
        assert [one.over for one in made] == [True]


async def test_what_a_later_generation_gets_is_what_is_left() -> None:
    async with upstream() as up, running(web(up.port)) as old:
        client, server = await first(old, up)
        async with giving_to(old) as (other, _found):
            await other.until_giving()
            await other.hear(Offer)
            await other.say(Withdraw(why="another one comes"))
            await other.end()
        async with successor(web(up.port), old) as new:
            assert gone(await take_over(old, new, pace=QUICK))
            await exchange(client, server)
