"""Whose turn it is, and why the others wait."""

from __future__ import annotations

import trio

from tests.live import eventually, hang_up, web
from tests.migration.stock import stock
from xproxy.migration.movable import MovableDownstream
from xproxy.migration.waiting import SELDOM, Waiting


async def test_who_is_idle_can_go_and_who_is_busy_says_so_when_it_can() -> None:
    async with stock(2, busy=1) as found:
        told: list[MovableDownstream] = []

        def can_go(item: MovableDownstream) -> bool:
            told.append(item)
            return False

        waiting = Waiting(found.live.runtime, can_go, rehearsal=False)
        assert waiting.list_all(lambda _: "") == []
        assert (waiting.any_ready, waiting.soonest, waiting.share_gone) == (True, None, 0.0)
        now = trio.current_time()
        idle = waiting.next(now)
        assert idle is not None
        assert waiting.next(now) is None
        assert waiting.by_protocol() == {"http1": 2}
        waiting.gone(idle)
        assert waiting.by_protocol() == {"http1": 1}
        assert waiting.share_gone == 0.5
        assert waiting.soonest == now + SELDOM
        told.clear()
        await found.answer(1)
        await eventually(lambda: bool(told), "its driver tells")
        assert waiting.movable(told[0], now)
        assert not waiting.movable(idle, now), "it has gone"
        waiting.wake(now)
        assert waiting.next(now) is None
        waiting.wake(now + SELDOM)
        assert waiting.next(now + SELDOM) is told[0]
        waiting.close()


async def test_who_stays_is_counted_until_it_ends_and_never_looked_at_again() -> None:
    async with stock(1) as found:
        waiting = Waiting(found.live.runtime, lambda _: False, rehearsal=False)
        waiting.list_all(lambda _: "")
        now = trio.current_time()
        item = waiting.next(now)
        assert item is not None
        waiting.keep(item, "nobody wants it")
        assert (item.waits, waiting.may_go()) == ("nobody wants it", False)
        waiting.look_again(item, now)
        waiting.wake(now)
        assert waiting.next(now) is None
        assert waiting.by_protocol() == {"http1": 1}
        await hang_up(found.clients[0])
        await eventually(lambda: waiting.by_protocol() == {}, "it has ended")


async def test_who_comes_later_is_taken_up_and_is_no_part_of_the_whole() -> None:
    async with stock(2) as found:
        waiting = Waiting(found.live.runtime, lambda _: False, rehearsal=False)
        waiting.list_all(lambda _: "")
        await found.live.client("later")
        await eventually(lambda: found.live.stats().downstream_cx_active == 3, "it is there")
        assert waiting.list_all(lambda _: "") == []
        assert waiting.by_protocol() == {"http1": 2, "opening": 1}
        assert waiting.list_all(lambda _: "") == [], "each once"
        assert waiting.by_protocol() == {"http1": 2, "opening": 1}


async def test_whose_listener_has_stopped_is_to_be_kept() -> None:
    async with stock(1, busy=1) as found:
        [connection] = found.live.runtime.listeners["edge"].connections.values()
        await found.live.reload(web(1).replace("name: edge", "name: elsewhere"))
        waiting = Waiting(found.live.runtime, lambda _: False, rehearsal=False)
        [(item, why)] = waiting.list_all(lambda _: "")
        assert (item.connection is connection, why) == (True, "its listener has stopped")
        assert not waiting.any_ready


async def test_what_could_not_be_read_is_to_be_kept_at_once() -> None:
    async with stock(2, busy=1) as found:
        waiting = Waiting(found.live.runtime, lambda _: False, rehearsal=False)
        kept = waiting.list_all(lambda item: f"{item.name} is unknown")
        assert [why for _, why in kept] == ["http1 is unknown"] * 2
        assert not waiting.any_ready


async def test_who_is_put_off_often_is_looked_at_once() -> None:
    async with stock(1) as found:
        waiting = Waiting(found.live.runtime, lambda _: False, rehearsal=False)
        waiting.list_all(lambda _: "")
        now = trio.current_time()
        item = waiting.next(now)
        assert item is not None
        for number in range(
            100
        ):  # its driver says each time that it can go, and nobody has room for it
            waiting.look_again(item, now + 1 + number / 100)
        assert waiting.soonest == now + 1, "the first of them"
        looks = 0
        for number in range(300):
            waiting.wake(now + number / 100)
            while waiting.next(now + number / 100) is not None:
                looks += 1
        assert (looks, waiting.any_ready) == (1, False)
        waiting.look_again(item, now + 9)
        waiting.look_again(item, now + 8)
        assert waiting.soonest == now + 8, "the sooner of them"
        waiting.wake(now + 8)
        waiting.wake(now + 9)
        assert waiting.next(now + 9) is item
        assert waiting.next(now + 9) is None
        waiting.close()
