"""What is said beside the connections: what goes along, and what was counted."""

from __future__ import annotations

from tests.live import Live
from tests.migration.stock import stock
from xproxy.migration.messages import Carry, Counts, Message
from xproxy.migration.speaking import Speaking
from xproxy.migration.telling import Telling
from xproxy.migration.waiting import Waiting
from xproxy.observe.takeover import TakeoverStatus


class Heard(Speaking):
    """Notes what is to be said."""

    def __init__(self) -> None:
        self.heard: list[tuple[Message, bytes | None]] = []

    def say(self, message: Message, state: bytes | None = None) -> None:
        self.heard.append((message, state))


def telling(live: Live, *, rehearsal: bool = False) -> tuple[Telling, Heard]:
    heard, clients = Heard(), Waiting(live.runtime, lambda _: False, rehearsal=rehearsal)
    clients.list_all()
    status = TakeoverStatus() if rehearsal else live.runtime.takeover
    return Telling(live.runtime, heard, clients, status, rehearsal=rehearsal), heard


async def test_every_part_goes_along_and_the_last_one_is_marked() -> None:
    async with stock(1) as found:
        told, heard = telling(found.live)
        told.describe()
        *parts, (last, nothing) = heard.heard
        assert (last, nothing) == (Carry(kind="", name="", version=0, last=True), None)
        kinds = {part.kind for part, state in parts if isinstance(part, Carry) and state}
        assert "process" in kinds
        assert len(kinds) > 1


async def test_counts_are_told_whole_and_then_by_what_has_come() -> None:
    async with stock(1) as found:
        told, heard = telling(found.live)
        told.count()
        told.count()
        (first, whole), (_, more) = heard.heard
        assert first == Counts(left={"http1": 1})
        assert whole is not None
        assert more is not None
        assert len(more) < len(whole)
        assert found.live.runtime.takeover.stats.waiting == {"http1": 1}
        told.untold(whole)
        told.count()
        again = heard.heard[-1][1]
        assert again is not None
        assert len(again) > len(more), "what was not sent comes again"
        told.lost()
        assert found.live.runtime.metrics.teller is None


async def test_a_rehearsal_is_told_and_nobody_remembers_it() -> None:
    async with stock(1) as found:
        told, heard = telling(found.live, rehearsal=True)
        told.count()
        assert isinstance(heard.heard[0][0], Counts)
        assert found.live.runtime.metrics.teller is None
