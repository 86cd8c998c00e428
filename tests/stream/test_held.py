"""Bytes that are held: counted to zero, bounded, and never a standstill."""

from __future__ import annotations

import attrs
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from xproxy.model.limits import MIB
from xproxy.stream.held import COUNTED, FREE, Held, Share


@attrs.define(eq=False)
class Holder:
    """Lets go of all when it is told to, or of nothing."""

    lets_go: bool = True
    share: Share | None = None
    relieved: int = 0

    def relieve(self) -> None:
        self.relieved += 1
        if self.lets_go and self.share is not None:
            self.share.take(self.share.held)


def holding(of: Held, count: int, most: int = 1 << 40) -> tuple[Holder, Share]:
    holder = Holder()
    share = of.share(holder, most)
    holder.share = share
    share.add(count)
    return holder, share


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1 << 20)), max_size=60))
def test_whatever_comes_and_goes_the_sum_is_what_the_shares_hold(
    steps: list[tuple[int, int]],
) -> None:
    held = Held()
    shares = [held.share(None) for _ in range(4)]
    whole = [0] * 4
    for which, count in steps:
        share = shares[which]
        if count % 3 == 0:
            share.change_unfinished(share.unfinished, count)
        elif count % 3 == 1:
            share.add(count)
            whole[which] += count
        elif whole[which]:
            share.take(whole[which])
            whole[which] = 0
        assert held.stats.held_bytes == sum(one.held for one in shares)
        assert held.shares == {one for one in shares if one.held}
        assert all(one.held == w + one.unfinished for one, w in zip(shares, whole, strict=True))
    for share, count in zip(shares, whole, strict=True):
        share.change_unfinished(share.unfinished, 0)
        share.take(count)
    assert held.stats.held_bytes == 0
    assert not held.shares


async def test_who_holds_next_to_nothing_is_always_read() -> None:
    held = Held(10 * MIB)
    holding(held, 20 * MIB)
    _, small = holding(held, FREE)
    assert held.is_near
    assert not small.full
    assert not held.share(None).full


async def test_a_connection_above_its_own_bound_is_not_read_but_its_message_goes_on() -> None:
    held = Held()
    _, share = holding(held, MIB, most=MIB)
    assert share.full
    share.take(MIB)
    share.change_unfinished(0, 2 * MIB)
    assert not share.full, "nothing else could make it less"


async def test_near_the_bound_one_after_the_other_goes_on(autojump_clock: MockClock) -> None:
    held = Held(10 * MIB)
    shares = [holding(held, 3 * MIB)[1] for _ in range(3)]
    order: list[int] = []

    async def go_on(number: int) -> None:
        await shares[number].room()
        order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(go_on, number)
    assert sorted(order) == [0, 1, 2], "each has its turn"
    assert held.stats.held_back_total == 3


async def test_room_is_there_as_soon_as_somebody_lets_go(autojump_clock: MockClock) -> None:
    held = Held(10 * MIB)
    _, first = holding(held, 5 * MIB)
    _, second = holding(held, 5 * MIB)
    assert not first.full, "its turn"
    with trio.fail_after(0.1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(second.room)
            await wait_all_tasks_blocked()
            first.take(5 * MIB)


async def test_above_the_bound_the_greediest_is_relieved_and_no_other(
    autojump_clock: MockClock,
) -> None:
    held = Held(10 * MIB)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(held.run)
        small, _ = holding(held, 4 * MIB)
        greedy, share = holding(held, 5 * MIB)
        await wait_all_tasks_blocked()
        assert (small.relieved, greedy.relieved) == (0, 0)
        share.add(2 * MIB)
        await wait_all_tasks_blocked()
        assert (small.relieved, greedy.relieved) == (0, 1)
        assert held.stats.held_bytes == 4 * MIB
        assert held.stats.relieved_total == 1
        nursery.cancel_scope.cancel()


async def test_what_was_freed_is_given_back_once_when_little_is_left(
    autojump_clock: MockClock,
) -> None:
    held = Held(8 * MIB)
    given: list[int] = []
    held.give_back = lambda: given.append(held.stats.held_bytes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(held.run)
        _, share = holding(held, 7 * MIB)
        for _ in range(7):
            share.take(MIB)
            await wait_all_tasks_blocked()
        _, share = holding(held, MIB)
        share.take(MIB)
        await wait_all_tasks_blocked()
        assert given == [3 * MIB]
        nursery.cancel_scope.cancel()


async def test_many_small_ones_are_bounded_too_and_no_more_go_than_must(
    autojump_clock: MockClock,
) -> None:
    held = Held(1 * MIB)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(held.run)
        holders = [holding(held, FREE - 1)[0] for _ in range(100)]
        await wait_all_tasks_blocked()
        assert sum(holder.relieved for holder in holders) == 100 - MIB // (FREE - 1)
        assert held.stats.held_bytes <= MIB
        nursery.cancel_scope.cancel()


@given(st.lists(st.integers(COUNTED, 4 * MIB), max_size=40), st.integers(0, 20 * MIB))
def test_whatever_the_mixture_what_is_held_comes_down_to_the_bound(
    sizes: list[int], most: int
) -> None:
    async def main() -> None:
        held = Held(most)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(held.run)
            holders = [holding(held, size)[0] for size in sizes]
            await wait_all_tasks_blocked()
            assert held.stats.held_bytes <= most
            kept = [h.share.held for h in holders if h.share is not None and not h.relieved]
            gone = [s for s, h in zip(sizes, holders, strict=True) if h.relieved]
            assert not kept or not gone or max(kept) <= min(gone), "the greediest went"
            nursery.cancel_scope.cancel()

    trio.run(main)
