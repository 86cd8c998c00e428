"""What is offered in one go."""

from __future__ import annotations

import math

import attrs
import trio

from tests.live import Live, eventually
from tests.migration.stock import giving, stock
from xproxy.migration.batches import Batches
from xproxy.migration.giving import Giving
from xproxy.migration.messages import StateVersions
from xproxy.migration.movable import MovableDownstream
from xproxy.migration.offers import Offers
from xproxy.migration.tally import Tally
from xproxy.migration.upstream_share import UpstreamShare
from xproxy.migration.waiting import LOOK_AGAIN, Waiting


class Made:
    def __init__(self, live: Live, machine: Giving, rest: float = 1e9) -> None:
        runtime = live.runtime
        self.machine = machine
        self.sent: list[int] = []
        self.asked: list[bool] = []
        self.clients = Waiting(runtime, self.found, rehearsal=False)
        upstreams = UpstreamShare(runtime, machine, rehearsal=False)
        self.tally = Tally()
        self.offers = Offers(
            machine,
            self.tally,
            self.clients,
            upstreams,
            lambda number, _cut: self.sent.append(number),
            rehearsal=False,
        )
        self.batches = Batches(
            runtime, machine, self.clients, upstreams, self.offers, lambda: None, rest=rest
        )
        self.batches.list_all()

    def found(self, item: MovableDownstream) -> bool:
        self.asked.append(self.batches.found(item))
        return self.asked[-1]


async def test_as_many_as_there_is_room_for_and_then_a_rest() -> None:
    async with stock(3) as found:
        machine = giving(window=2)
        made = Made(found.live, machine)
        now = trio.current_time()
        assert made.batches.offer(now) == math.inf, "only an answer makes room"
        assert made.sent == [1, 2]
        machine.unsent(2)
        made.offers.back(2)
        assert made.batches.offer(now) == LOOK_AGAIN, "it rests, as it serves somebody"
        assert made.sent == [1, 2]
        made.offers.back(1)


async def test_who_is_found_movable_is_offered_at_once_while_there_is_room() -> None:
    async with stock(1, busy=1) as found:
        made = Made(found.live, giving())
        assert made.batches.offer(trio.current_time()) is None
        await found.answer(0)
        await eventually(lambda: made.sent == [1], "its driver has told")
        made.offers.back(1)


async def test_when_it_is_over_nobody_is_offered() -> None:
    async with stock(2, busy=1) as found:
        made = Made(found.live, giving())
        asked = made.asked
        made.batches.offer(trio.current_time())  # who is busy will tell
        before = list(made.sent)
        made.batches.over = True
        asked.clear()
        await found.answer(1)
        await eventually(lambda: bool(asked), "its driver has told")
        assert not any(asked)
        assert made.sent == before
        for number in before:
            made.offers.back(number)


async def test_what_cannot_be_written_down_is_kept_once_however_often_its_driver_asks() -> None:
    async with stock(1) as found:
        made = Made(found.live, giving())
        item = made.clients.next(trio.current_time())
        assert item is not None
        hello = made.machine.hello
        made.offers.theirs = attrs.evolve(hello, states=(StateVersions(name="other"),))
        assert [made.batches.found(item) for _ in range(3)] == [False] * 3
        made.batches.offer(trio.current_time())
        assert made.tally.refused["http1: the new one has no codec http1"] == 1
        assert made.clients.by_protocol() == {"http1": 1}
