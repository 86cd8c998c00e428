"""What is said beside the connections: what goes along, and what was counted."""

from __future__ import annotations

import attrs
import trio

from tests.live import Live, registry
from tests.migration.stock import stock
from tests.migration.turns import Turns, turns
from xproxy.migration.counts import Counts as Counted
from xproxy.migration.messages import Carry, Counts, Message
from xproxy.migration.speaking import Speaking
from xproxy.migration.telling import Telling
from xproxy.migration.waiting import Waiting
from xproxy.observe.metrics import counter, mark_of
from xproxy.observe.takeover import TakeoverStatus
from xproxy.proxy.runtime import Runtime
from xproxy.stream.carrying import CarriedAs


class Heard(Speaking):
    """Notes what is to be said."""

    def __init__(self) -> None:
        self.heard: list[tuple[Message, bytes | None]] = []

    def say(self, message: Message, state: bytes | None = None) -> None:
        self.heard.append((message, state))


def telling(live: Live, *, rehearsal: bool = False) -> tuple[Telling, Heard]:
    heard, clients = Heard(), Waiting(live.runtime, lambda _: False, rehearsal=rehearsal)
    clients.list_all(lambda _: "")
    status = TakeoverStatus() if rehearsal else live.runtime.takeover
    return Telling(live.runtime, heard, clients, status, rehearsal=rehearsal), heard


async def test_every_part_goes_along_and_the_last_one_is_marked() -> None:
    async with stock(1) as found:
        told, heard = telling(found.live)
        await told.describe(lambda: True)
        *parts, (last, nothing) = heard.heard
        assert (last, nothing) == (Carry(kind="", name="", version=0, last=True), None)
        kinds = {part.kind for part, state in parts if isinstance(part, Carry) and state}
        assert "process" in kinds
        assert len(kinds) > 1


async def test_counts_are_told_whole_and_then_by_what_has_come() -> None:
    async with stock(1) as found:
        told, heard = telling(found.live)
        await told.count()
        await told.count()
        (first, whole), (_, more) = heard.heard
        assert first == Counts(left={"http1": 1})
        assert whole is not None
        assert more is not None
        assert len(more) < len(whole)
        assert found.live.runtime.takeover.stats.waiting == {"http1": 1}
        told.untold(whole)
        await told.count()
        again = heard.heard[-1][1]
        assert again is not None
        assert len(again) > len(more), "what was not sent comes again"
        told.lost()
        assert found.live.runtime.metrics.teller is None


@attrs.frozen(eq=False)
class Slow:
    """A part whose writing down fills a slice."""

    name: str
    turns: Turns

    def carried_as(self) -> CarriedAs:
        return CarriedAs(kind="slow", name=self.name, version=1)

    def carry(self) -> bytes:
        self.turns.work()
        return b"x"

    def resume(self, data: bytes) -> None:
        raise AssertionError


async def test_however_much_goes_along_others_have_their_turns() -> None:
    async with stock(1) as found:
        snapshot = found.live.runtime.snapshot
        assert snapshot is not None
        with turns() as counted:
            parts = tuple(Slow(str(number), counted) for number in range(20))
            found.live.runtime.snapshot = attrs.evolve(snapshot, carrying=parts)
            told, heard = telling(found.live)
            await told.describe(lambda: True)
            assert (counted.pieces, counted.most) == (20, 1)
            said = [
                one.name for one, _ in heard.heard if isinstance(one, Carry) and one.kind == "slow"
            ]
            assert said == [part.name for part in parts]
            heard.heard.clear()
            await told.describe(lambda: False)
            assert heard.heard == [], "it was withdrawn meanwhile"


@attrs.define(eq=False)
class Numbers:
    """Statistics that take a slice to read."""

    turns: Turns
    count: int = counter("A number.")

    def __getattribute__(self, name: str) -> object:
        if name == "count":
            object.__getattribute__(self, "turns").work()
        return object.__getattribute__(self, name)


async def test_however_much_is_counted_others_have_their_turns() -> None:
    async with stock(1) as found:
        with turns() as first:
            mark_of(Numbers(first, 0))  # what the class has is looked at once
        with turns() as counted:
            for number in range(10):
                found.live.runtime.metrics.add("slow", str(number), Numbers(counted, number + 1))
            told, heard = telling(found.live)
            before = counted.pieces
            await told.count()
            # Each is read twice: whether it has changed, and what it is.
            assert (counted.pieces - before, counted.most) == (20, 2)
            assert len(heard.heard) == 1


async def test_what_was_broken_off_is_told_the_next_time() -> None:
    async with stock(1) as found:
        with turns() as counted:
            found.live.runtime.metrics.add("slow", "0", Numbers(counted, 7))
            told, heard = telling(found.live)
            await told.count()
            found.live.runtime.metrics.add("slow", "1", Numbers(counted, 8))
            with trio.CancelScope() as scope:
                scope.cancel()
                await told.count()
            assert len(heard.heard) == 1
            await told.count()
        other = Runtime(registry())
        theirs = Counted(other)
        for _, counts in heard.heard:
            assert counts is not None
            theirs.add(counts)
        assert other.metrics.earlier.of(("slow", "0")) == {"count": 7}
        assert other.metrics.earlier.of(("slow", "1")) == {"count": 8}


async def test_a_rehearsal_is_told_and_nobody_remembers_it() -> None:
    async with stock(1) as found:
        told, heard = telling(found.live, rehearsal=True)
        await told.count()
        assert isinstance(heard.heard[0][0], Counts)
        assert found.live.runtime.metrics.teller is None
