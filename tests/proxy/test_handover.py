"""One process follows another, both played by objects that note what they are told."""

from __future__ import annotations

import socket
from collections.abc import Mapping

import attrs
import trio

from xproxy.proxy.handover import Handover, give, rehearse, take
from xproxy.supervisor.messages import pair

PATIENCE = 30.0


@attrs.define(eq=False)
class Played:
    """A runtime."""

    told: list[str] = attrs.field(factory=list)
    reports: list[Mapping[str, object]] = attrs.field(factory=list)
    accepting: trio.Event = attrs.field(factory=trio.Event)

    def hold(self) -> None:
        self.told.append("hold")

    def accept(self) -> None:
        self.told.append("accept")

    def stop(self) -> None:
        self.told.append("stop")


async def test_the_old_one_stops_before_the_new_one_accepts() -> None:
    old, new = Played(), Played()
    new.told = old.told  # one order of all
    ours, theirs = pair()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(give, old, ours, old.reports.append)
            nursery.start_soon(take, new, theirs, new.reports.append)
    assert old.told == ["hold", "accept", "stop"]
    assert [one["step"] for one in old.reports] == ["stopped", "given"]
    assert [one["step"] for one in new.reports] == ["accepting"]
    assert ours.fileno() == theirs.fileno() == -1


async def test_a_new_one_that_dies_is_as_if_it_had_never_been() -> None:
    old = Played()
    ours, theirs = pair()
    theirs.close()
    with trio.fail_after(PATIENCE):
        await give(old, ours, old.reports.append)
    assert old.told == ["hold", "accept"]
    assert [one["step"] for one in old.reports] == ["stopped", "withdrawn"]


async def test_a_new_one_that_says_nothing(autojump_clock: trio.testing.MockClock) -> None:
    old = Played()
    ours, theirs = pair()
    with theirs:
        await give(old, ours, old.reports.append)
    assert old.told == ["hold", "accept"]


async def test_an_old_one_that_dies_is_followed_all_the_same() -> None:
    new = Played()
    ours, theirs = pair()
    ours.close()
    with trio.fail_after(PATIENCE):
        await take(new, theirs, new.reports.append)
    assert new.told == ["accept"]
    assert [one["step"] for one in new.reports] == ["accepting"]


async def test_a_rehearsal_moves_nothing() -> None:
    old = Played()
    ours, theirs = pair()
    with theirs:
        await rehearse(old, ours, old.reports.append)
    assert (old.told, old.reports) == ([], [{"step": "rehearsed"}])


def test_what_takes_their_place() -> None:
    async def other(_runtime: object, _sock: socket.socket, _report: object) -> None: ...

    assert Handover().give is give
    assert Handover().rehearse is rehearse
    assert Handover(give=other).take is take
