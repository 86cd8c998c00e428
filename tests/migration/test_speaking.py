"""What is to be said is said in its order, or its sayer is told."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.live import PATIENCE
from tests.migration.takeover import pair
from xproxy.migration.giving import STALL
from xproxy.migration.messages import Counts, Done, Message, Offer, Stopped, Withdraw, unpack
from xproxy.migration.speaking import Speaking
from xproxy.transport.channel import Channel, NotSent


class Said:
    """A channel whose other end the test reads."""

    def __init__(self) -> None:
        ours, theirs = pair()
        self.channel, self.other = Channel(ours), Channel(theirs)
        self.unsent: list[Message] = []
        self.speaking = Speaking(self.channel, self.offered, self.failed)

    def offered(self, number: int) -> tuple[bytes, list[int]] | None:
        return None if number == 2 else (b"state of %d" % number, [])

    def failed(self, message: Message, _state: bytes | None) -> None:
        self.unsent.append(message)

    async def hear(self) -> tuple[Message | None, bytes | None]:
        with trio.fail_after(PATIENCE):
            received = await self.other.receive()
        assert received is not None
        with received:
            return unpack(received.message), received.state

    def close(self) -> None:
        self.channel.close()
        self.other.close()


async def test_in_order_and_a_withdrawn_offer_is_passed_over() -> None:
    said = Said()
    said.speaking.say(Stopped(last_id=7))
    for number in (1, 2, 3):
        said.speaking.say(Offer(number=number, cut=1.0))
    said.speaking.say(Counts(), b"counted")
    before = said.speaking.silent
    await said.speaking.flush()
    assert (before, said.speaking.silent) == (False, True)
    assert [await said.hear() for _ in range(4)] == [
        (Stopped(last_id=7), None),
        (Offer(number=1, cut=1.0), b"state of 1"),
        (Offer(number=3, cut=1.0), b"state of 3"),
        (Counts(), b"counted"),
    ]
    said.close()


async def test_whoever_runs_it_hears_each_time_that_all_was_said() -> None:
    said = Said()
    silences = 0

    def silent() -> None:
        nonlocal silences
        silences += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(said.speaking.run, silent)
        await wait_all_tasks_blocked()
        said.speaking.say(Done())
        assert (await said.hear())[0] == Done()
        await wait_all_tasks_blocked()
        assert silences == 2
        nursery.cancel_scope.cancel()
    said.close()


async def test_nothing_is_received_after_the_order_to_stop() -> None:
    said = Said()
    said.speaking.say(Withdraw(why="enough"))
    said.speaking.stop_receiving()
    await said.speaking.flush()
    assert (await said.hear())[0] == Withdraw(why="enough")
    assert await said.channel.receive() is None
    said.close()


@pytest.mark.parametrize("message", [Counts(), Offer(number=1, cut=1.0)])
async def test_what_nobody_reads_comes_back(
    message: Message, autojump_clock: trio.testing.MockClock
) -> None:
    said = Said()
    while not said.unsent:
        said.speaking.say(message, b"x" * 60_000)
        await said.speaking.flush()
    assert said.unsent == [message]
    assert trio.current_time() >= STALL
    # But for this, which may take as long as it wants: whose an offer is depends on it.
    said.speaking.say(Withdraw(why="enough"))
    with trio.move_on_after(100 * STALL):
        await said.speaking.flush()
    assert said.unsent == [message]
    assert not said.speaking.silent
    said.close()


async def test_where_the_other_side_has_gone_nobody_is_told() -> None:
    said = Said()
    said.other.close()
    said.speaking.say(Done())
    await said.speaking.flush()
    assert (said.speaking.silent, said.unsent) == (True, [])
    said.channel.close()


class Scarce(Channel):
    """One for which there is no memory, some times."""

    times = 2

    async def send(
        self,
        message: bytes,
        descriptors: Sequence[int] = (),
        state: bytes | None = None,
        *,
        within: float,
    ) -> None:
        if self.times:
            self.times -= 1
            raise NotSent("no memory")
        await super().send(message, descriptors, state, within=within)


async def test_without_memory_for_it_withdraw_is_said_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = pair()
    unsent: list[Message] = []
    channel, other = Scarce(ours), Channel(theirs)
    speaking = Speaking(channel, lambda _: None, lambda message, _: unsent.append(message))
    speaking.say(Withdraw(why="enough"))
    speaking.stop_receiving()
    with trio.fail_after(PATIENCE):
        await speaking.flush()
        received = await other.receive()
    assert received is not None
    assert unpack(received.message) == Withdraw(why="enough")
    assert (channel.times, unsent) == (0, [])
    channel.close()
    other.close()
