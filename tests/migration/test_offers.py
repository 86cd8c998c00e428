"""From an offer to gone or back."""

from __future__ import annotations

import pytest
import trio

from tests.live import GET, Live
from tests.migration.stock import HEAD, OK, Stock, giving, stock
from xproxy.migration.movable import MovableDownstream
from xproxy.migration.offers import Offers
from xproxy.migration.tally import Tally
from xproxy.migration.upstream_share import UpstreamShare
from xproxy.migration.waiting import LOOK_AGAIN, Waiting
from xproxy.testing import END, play


class Made:
    """Offers of a proxy's connections, and what was to be sent."""

    def __init__(self, live: Live, *, rehearsal: bool = False) -> None:
        machine = giving()
        self.tally = Tally()
        self.clients = Waiting(live.runtime, lambda _: False, rehearsal=rehearsal)
        self.clients.list_all(lambda _: "")
        self.sent: list[int] = []
        self.offers = Offers(
            machine,
            self.tally,
            self.clients,
            UpstreamShare(live.runtime, machine, rehearsal=rehearsal),
            lambda number, _cut: self.sent.append(number),
            rehearsal=rehearsal,
        )

    def item(self) -> MovableDownstream:
        found = self.clients.next(trio.current_time() + 10)
        assert found is not None
        return found


async def again(found: Stock) -> None:
    """Let the client be served as before."""
    [client], [server] = found.clients, found.servers
    await play(client >> GET, server << HEAD, server >> OK, client << OK)


async def test_who_was_put_off_is_not_offered_at_once_though_its_driver_says_that_it_can() -> None:
    async with stock(1) as found:
        made = Made(found.live)
        item = made.item()
        made.offers.offer(item)
        [number] = made.sent
        before = trio.current_time()
        made.offers.refused(number, "it is full", for_ever=False)
        after = trio.current_time()
        assert not made.clients.movable(item, before + LOOK_AGAIN / 2)
        assert made.clients.movable(item, after + LOOK_AGAIN)
        await again(found)


async def test_what_was_taken_has_left() -> None:
    async with stock(1) as found:
        made = Made(found.live)
        assert made.offers.offer(made.item()) == 1
        [number] = made.sent
        written = made.offers.to_send(number)
        assert written is not None
        assert (len(written[0]) > 0, len(written[1])) == (True, 1)
        made.offers.left(number)
        assert made.offers.to_send(number) is None
        assert (dict(made.tally.moved), len(made.tally.pauses)) == ({"http1": 1}, 1)
        assert made.clients.by_protocol() == {}
        await found.clients[0].expect(END)  # nobody had taken it, really


@pytest.mark.parametrize("how", ["unsent", "refused for now"])
async def test_what_comes_back_goes_on_and_is_offered_again(how: str) -> None:
    async with stock(1) as found:
        made = Made(found.live)
        made.offers.offer(made.item())
        if how == "unsent":
            made.offers.back(1)
        else:
            made.offers.refused(1, "full", for_ever=False)
        await again(found)
        assert made.tally.status.stats.put_off == 1
        now = trio.current_time() + 10
        made.clients.wake(now)
        assert made.offers.offer(made.item()) == 1
        made.offers.back(2)


async def test_what_is_refused_for_ever_ends_here() -> None:
    async with stock(1) as found:
        made = Made(found.live)
        made.offers.offer(made.item())
        made.offers.refused(1, "no such listener", for_ever=True)
        assert dict(made.tally.refused) == {"http1: no such listener": 1}
        await found.clients[0].expect(END)


async def test_what_is_only_tried_goes_on() -> None:
    async with stock(1) as found:
        made = Made(found.live, rehearsal=True)
        assert made.offers.offer(made.item()) == 0, "it stands still for no time"
        written = made.offers.to_send(1)
        assert written is not None
        assert written[1] == []
        await again(found)
        made.offers.left(1)
        assert (dict(made.tally.moved), made.tally.pauses) == ({"http1": 1}, [])
        await again(found)


async def test_what_nobody_can_know_of_is_not_ours() -> None:
    async with stock(1) as found:
        made = Made(found.live)
        made.offers.offer(made.item())
        made.offers.close()
        await found.clients[0].expect(END)
        assert dict(made.tally.moved) == {}
