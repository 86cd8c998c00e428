"""The new process's side, step by step. That every interleaving ends well is ``test_exploration.py``'s."""

from __future__ import annotations

import pytest

from xproxy.migration.messages import (
    Accepting,
    Carry,
    Counts,
    Done,
    Hello,
    Offer,
    Ready,
    Refused,
    Settled,
    Stopped,
    Taken,
    Withdraw,
)
from xproxy.migration.taking import (
    Accept,
    Begin,
    Count,
    Drop,
    Number,
    Over,
    Restore,
    Resume,
    Send,
    State,
    Taking,
    Try,
)

HELLO = Hello(versions=(1,), software="new")
THEIRS = Hello(versions=(1,), software="old")
REHEARSAL = Hello(versions=(1,), software="old", rehearsal=True)
LAST = Carry(kind="", name="", version=0, last=True)


def offer(number: int) -> Offer:
    return Offer(number=number, cut=1.0)


def taking(state: State = State.TAKING, theirs: Hello = THEIRS) -> Taking:
    """Return a machine that has come to ``state``."""
    machine = Taking(HELLO, listeners=("edge",))
    machine.begin()
    if state is not State.GREETING:
        machine.hear(theirs)
    if state in (State.READY, State.TAKING):
        machine.hear(LAST)
    if state is State.TAKING:
        machine.hear(Stopped(last_id=7))
    assert machine.state is state
    return machine


def test_until_it_takes() -> None:
    machine = Taking(HELLO, listeners=("edge",))
    assert machine.begin() == [Send(HELLO)]
    assert machine.hear(THEIRS) == []
    part = Carry(kind="listener", name="edge", version=1)
    assert machine.hear(part) == [Resume(part)]
    assert machine.hear(LAST) == [Send(Ready(listeners=("edge",)))]
    accepting = Send(Accepting(listeners=("edge",)))
    assert machine.hear(Stopped(last_id=7)) == [Number(7), Accept(), accepting]


def test_the_last_part_may_be_one() -> None:
    machine = taking(State.HEARING)
    part = Carry(kind="listener", name="edge", version=1, last=True)
    assert machine.hear(part) == [Resume(part), Send(Ready(listeners=("edge",)))]


def test_an_offer_is_taken() -> None:
    machine = taking()
    assert machine.hear(offer(1)) == [Restore(offer(1))]
    assert machine.restored(1) == [Send(Taken(numbers=(1,)))]
    assert machine.sent(1) == [Begin(1)]
    assert machine.sent(1) == []
    assert machine.held == frozenset()


def test_an_offer_is_refused() -> None:
    machine = taking()
    machine.hear(offer(1))
    said = Send(Refused(number=1, why="x" * 1000, for_ever=False))
    assert machine.refuse(1, "x" * 2000, for_ever=False) == [Drop(1), said]
    assert machine.refuse(1, "again") == [Drop(1)]
    assert machine.restored(1) == [Drop(1)]


@pytest.mark.parametrize("how", ["withdraw", "end"])
def test_what_is_in_doubt_is_decided_by_what_was_said_before(how: str) -> None:
    machine = taking()
    machine.hear(offer(1))
    machine.restored(1)
    assert machine.unheard(1) == []
    assert machine.unheard(9) == []
    assert machine.withdraw("a whim") == []  # nobody would hear it
    if how == "end":
        assert machine.end() == [Begin(1), Over("a whim", serve=True)]
    else:
        assert machine.hear(Withdraw(why="slow")) == [Drop(1), Over("a whim", serve=False)]
    assert machine.hear(offer(2)) == [Drop(2)]


@pytest.mark.parametrize("state", [State.GREETING, State.HEARING, State.READY])
def test_an_old_process_that_dies_early_is_followed(state: State) -> None:
    machine = taking(state)
    assert machine.end() == [Accept(), Over("the old process has ended", serve=True)]
    assert machine.end() == []


def test_an_old_process_that_is_done_is_followed() -> None:
    machine = taking()
    counts = Counts(left={"http1": 1})
    assert machine.hear(counts) == [Count(counts)]
    assert machine.hear(Done()) == [Over("", serve=True)]


@pytest.mark.parametrize("state", [State.GREETING, State.HEARING, State.READY, State.TAKING])
def test_it_can_be_withdrawn_by_either(state: State) -> None:
    said = [Send(Withdraw(why="a whim")), Over("a whim", serve=False)]
    machine = taking(state)
    assert machine.withdraw("a whim") == said
    assert machine.withdraw("again") == []
    why = "the old process withdrew: a whim"
    assert taking(state).hear(Withdraw(why="a whim")) == [Over(why, serve=False)]


@pytest.mark.parametrize(
    "message",
    [Taken(numbers=(1,)), THEIRS, LAST, Stopped(last_id=1)],
    ids=lambda message: type(message).__name__,
)
def test_what_is_out_of_turn_withdraws(message: object) -> None:
    machine = taking()
    actions = machine.hear(message)  # type: ignore[arg-type]  # by the list above
    assert isinstance(actions[-1], Over)
    assert "cannot be" in machine.why
    assert machine.broken("bytes") == []


def test_offers_out_of_turn_or_twice_are_dropped() -> None:
    machine = taking(State.READY)
    assert machine.hear(offer(1))[0] == Drop(1)
    assert machine.over
    machine = taking()
    machine.hear(offer(1))
    assert Drop(1) in machine.hear(offer(1))
    assert machine.over
    machine = taking()
    machine.hear(offer(1))
    machine.restored(1)
    machine.unheard(1)
    assert machine.hear(offer(1)) == []
    assert machine.end()[0] == Begin(1)


def test_no_common_version_withdraws() -> None:
    machine = taking(State.GREETING)
    assert isinstance(machine.hear(Hello(versions=(9,), software="old"))[-1], Over)


def test_a_rehearsal_takes_nothing() -> None:
    machine = taking(State.READY, REHEARSAL)
    assert machine.hear(offer(1)) == [Try(offer(1))]
    assert machine.restored(1) == [Send(Taken(numbers=(1,)))]
    assert machine.sent(1) == [Drop(1)]
    assert machine.hear(Done()) == [Over("", serve=False)]
    machine = taking(State.READY, REHEARSAL)
    assert machine.end() == [Over("the old process has ended", serve=False)]


@pytest.mark.parametrize("how", ["WITHDRAW", "stop", "end", "DONE"])
def test_an_heir_goes_on_whatever_becomes_of_the_old_one(how: str) -> None:
    machine = taking()
    assert machine.hear(Settled(left={"http1": 1})) == []
    machine.hear(offer(1))
    if how == "WITHDRAW":
        actions = machine.hear(Withdraw(why="it did not answer"))
        assert actions[0] == Drop(1), "it is the old one's"
    elif how == "stop":
        actions = machine.withdraw("it ends")
        assert actions[:2] == [Send(Withdraw(why="it ends")), Drop(1)]
    elif how == "DONE":
        actions = machine.hear(Done())
    else:
        actions = machine.end()
        assert actions[0] == Begin(1), "ours is the only copy"
    over = actions[-1]
    assert isinstance(over, Over)
    assert over.serve
    assert machine.state is State.SERVING
