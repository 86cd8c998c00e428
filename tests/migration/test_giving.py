"""The old process's side, step by step. That every interleaving ends well is ``test_exploration.py``'s."""

from __future__ import annotations

import pytest

from xproxy.migration.giving import (
    READY_WITHIN,
    STALL,
    Action,
    Arm,
    Describe,
    Disarm,
    Giving,
    Keep,
    Leave,
    Over,
    Pause,
    Resume,
    Send,
    State,
    StopReceiving,
    Thaw,
    Timer,
)
from xproxy.migration.messages import (
    Accepting,
    Done,
    Hello,
    Ready,
    Refused,
    Settled,
    Stopped,
    Taken,
    Withdraw,
)

HELLO = Hello(versions=(1,), software="old")
THEIRS = Hello(versions=(1, 2), software="new")


def giving(state: State = State.GIVING, *, accepting: bool = True, **fields: object) -> Giving:
    """Return a machine that has come to ``state``; ``accepting``: and has heard that the new process does."""
    machine = Giving(HELLO, **fields)  # type: ignore[arg-type]  # by the tests below
    machine.begin()
    if state is not State.GREETING:
        machine.hear(THEIRS)
    if state not in (State.GREETING, State.PREPARING):
        machine.hear(Ready(listeners=("edge",)))
        if accepting:
            machine.hear(Accepting())
    if state is State.TAILING:
        machine.settled()
    assert machine.state is state
    return machine


def test_until_it_gives() -> None:
    machine = Giving(HELLO)
    assert machine.begin() == [Send(HELLO), Arm(Timer.READY, READY_WITHIN)]
    assert machine.hear(THEIRS) == [Describe()]
    assert machine.room == 0
    assert machine.hear(Ready(listeners=("edge",))) == [
        *(Disarm(Timer.READY), Pause()),
        Arm(Timer.STALL, STALL),
    ]
    assert machine.listeners == {"edge"}
    assert machine.room == machine.window
    assert machine.hear(Accepting()) == [Disarm(Timer.STALL)]


def test_it_does_not_end_before_anybody_accepts() -> None:
    machine = giving(accepting=False)
    assert machine.settled() == []
    assert machine.state is State.GIVING
    number = machine.offer()
    assert machine.hear(Taken(numbers=(number,)))[-1] == Arm(Timer.STALL, STALL)
    assert machine.late(Timer.STALL)[-1] == StopReceiving()
    assert machine.why.endswith(f"it accepts nobody since {STALL:g} s")
    machine = giving(accepting=False)
    machine.offer()
    assert machine.hear(Accepting()) == [Arm(Timer.STALL, STALL)], "an offer is out"
    assert machine.hear(Taken(numbers=(1,))) == [Leave(1), Disarm(Timer.STALL)]
    machine.settled()
    assert machine.state is State.TAILING


def test_offers_are_answered() -> None:
    machine = giving(window=2)
    assert [machine.offer(), machine.offer()] == [1, 2]
    assert machine.room == 0
    assert machine.hear(Taken(numbers=(2,))) == [Leave(2), Arm(Timer.STALL, STALL)]
    refused = machine.hear(Refused(number=1, why="no", for_ever=True))
    assert refused == [Keep(1, "no", True), Disarm(Timer.STALL)]
    assert (machine.room, machine.taken) == (2, 1)


def test_what_could_not_be_sent_is_thawed_and_fewer_are_out() -> None:
    machine = giving(window=4)
    number = machine.offer()
    assert machine.offered() == [Arm(Timer.STALL, STALL)]
    assert machine.unsent(number) == [Thaw(number), Disarm(Timer.STALL)]
    assert machine.window == 2
    for _ in range(5):
        machine.unsent(machine.offer())
    assert machine.window == 1
    assert machine.unsent(99) == []


def test_the_new_process_proves_that_it_serves() -> None:
    machine = giving(canaries=2, canary=1.0, accepting=False)
    first, second = machine.offer(), machine.offer()
    assert machine.room == 0
    assert machine.hear(Taken(numbers=(first, second)))[-1] == Arm(Timer.CANARY, 1.0)
    assert machine.state.value == "proving"
    assert machine.room == 0
    machine.hear(Accepting())
    assert machine.late(Timer.CANARY) == []
    assert machine.state is State.GIVING
    assert machine.room == machine.window
    assert machine.late(Timer.CANARY) == []


def test_one_that_accepts_nobody_has_proved_nothing() -> None:
    machine = giving(canaries=1, accepting=False)
    machine.hear(Taken(numbers=(machine.offer(),)))
    actions = machine.late(Timer.CANARY)
    assert actions[-1] == StopReceiving()
    assert "does not accept" in machine.why


def test_it_ends_with_its_last_connection() -> None:
    machine = giving(State.TAILING)
    assert machine.settled() == []
    assert machine.empty({"http1": 1}) == [Send(Done(left={"http1": 1})), Over("")]
    assert machine.over
    assert giving().empty() == []


@pytest.mark.parametrize("state", [State.GREETING, State.PREPARING, State.GIVING, State.TAILING])
def test_it_can_be_withdrawn_at_any_time(state: State) -> None:
    machine = giving(state)
    out = [machine.offer() for _ in range(min(machine.room, 2))]
    actions = machine.withdraw("a whim")
    assert actions == [Send(Withdraw(why="a whim")), StopReceiving()]
    assert machine.withdraw("again") == []
    if out:
        assert machine.hear(Taken(numbers=(1,))) == [Leave(1)]
    thawed: list[Action] = [Thaw(2)] if out else []
    # Once it tails, another one accepts, by a newer configuration.
    resumed: list[Action] = [Resume()] if state is State.GIVING else []
    assert machine.end() == [*thawed, *resumed, Over("a whim", rest=True)]
    assert machine.end() == []


@pytest.mark.parametrize("how", ["withdraw", "end"])
def test_the_new_process_gives_up_or_dies(how: str) -> None:
    machine = giving()
    machine.offer()
    actions = machine.end() if how == "end" else machine.hear(Withdraw(why="no room"))
    why = "the new process has ended" if how == "end" else "the new process gave up: no room"
    assert actions == [Thaw(1), Resume(), Over(why, rest=True)]


@pytest.mark.parametrize(
    ("timer", "state"),
    [
        (Timer.READY, State.GREETING),
        (Timer.READY, State.PREPARING),
        (Timer.STALL, State.GIVING),
        (Timer.STALL, State.TAILING),
    ],
)
def test_what_is_late_is_withdrawn(timer: Timer, state: State) -> None:
    machine = giving(state)
    if timer is Timer.STALL:
        assert machine.late(timer) == []
        machine.offer()
    assert machine.late(timer)[-1] == StopReceiving()
    assert machine.late(timer) == []


def test_a_timer_that_was_meant_for_another_state_is_nothing() -> None:
    assert giving().late(Timer.READY) == []


@pytest.mark.parametrize(
    "message",
    [
        Taken(numbers=(7,)),
        Refused(number=7, why=""),
        Ready(),
        THEIRS,
        Stopped(last_id=1),
        Done(),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_is_out_of_turn_withdraws(message: object) -> None:
    machine = giving()
    number = machine.offer()
    actions = machine.hear(message)  # type: ignore[arg-type]  # by the list above
    assert actions[-1] == StopReceiving()
    assert "cannot be" in machine.why
    assert machine.end()[0] == Thaw(number)


def test_what_was_really_taken_of_what_cannot_be_is_gone() -> None:
    machine = giving()
    number = machine.offer()
    assert machine.hear(Taken(numbers=(number, 7)))[0] == Leave(number)
    assert machine.state is State.SETTLING
    assert machine.end()[0] == Resume()


def test_no_message_withdraws_and_no_common_version_does() -> None:
    machine = giving()
    assert machine.broken("bytes")[-1] == StopReceiving()
    machine = giving(State.GREETING)
    actions = machine.hear(Hello(versions=(9,), software="new"))
    assert actions[-1] == StopReceiving()
    assert "versions" in machine.why


def test_a_rehearsal_pauses_nothing() -> None:
    machine = Giving(Hello(versions=(1,), software="old", rehearsal=True), canary=0.0)
    machine.begin()
    machine.hear(THEIRS)
    assert machine.hear(Ready()) == [Disarm(Timer.READY)]
    machine.hear(Taken(numbers=(machine.offer(),)))
    machine.settled()
    assert machine.empty()[-1] == Over("")


def test_what_is_left_goes_to_one_that_is_newer_yet() -> None:
    machine = giving(State.TAILING)
    assert machine.follow({"http1": 1}) == [Send(Done(left={"http1": 1})), Over("", rest=True)]
    assert machine.over
    assert giving().follow() == []


def test_one_that_tails_does_not_accept_again() -> None:
    machine = giving(tails=True)
    assert machine.hear(Withdraw(why="no"))[-1] == Over("the new process gave up: no", rest=True)
    assert Resume() not in giving(tails=True).hear(Withdraw(why="no"))


def test_what_has_settled_is_said_and_is_for_good() -> None:
    machine = giving()
    assert machine.settled({"http1": 2}) == [Send(Settled(left={"http1": 2}))]
    assert machine.end() == [Over("the new process has ended", rest=True)]
    assert machine.died
    rehearsal = Giving(Hello(versions=(1,), software="old", rehearsal=True))
    rehearsal.begin()
    rehearsal.hear(THEIRS)
    rehearsal.hear(Ready())
    assert rehearsal.settled() == []
    assert not rehearsal.tails


def test_who_says_that_it_ends_has_not_died() -> None:
    machine = giving(State.TAILING)
    machine.hear(Withdraw(why="it ends"))
    assert (machine.over, machine.died) == (True, False)


@pytest.mark.parametrize(("come", "lacks"), [(24, False), (25, True)])
def test_who_lacks_descriptors_is_told_so_before_anything_moves(come: int, lacks: bool) -> None:
    machine = Giving(Hello(versions=(1,), software="old", to_come=come))
    machine.begin()
    actions = machine.hear(Hello(versions=(1,), software="new", descriptors=64, used=40))
    if not lacks:
        assert actions == [Describe()]
        return
    why = "the new process lacks descriptors: has room for 24, 25 are to come"
    assert actions == [Send(Withdraw(why=why)), StopReceiving()]
    assert machine.end() == [Over(why, rest=True)]


@pytest.mark.parametrize("tails", [False, True])
def test_where_nobody_has_heard_that_it_is_settled_whoever_accepted_does_again(tails: bool) -> None:
    machine = giving(State.TAILING, tails=tails)
    actions = machine.unsettled("no room")
    assert [type(one) for one in actions] == [Send, StopReceiving]
    assert machine.tails is tails
    ended = machine.end()
    assert (Resume() in ended) is not tails
    assert machine.why == "no room"
