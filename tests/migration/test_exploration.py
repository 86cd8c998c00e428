"""Every interleaving of a takeover of two connections: giving × taking × channel; each may die or give up anywhere.

And of two takeovers in a row from one process, which gives what it has left to a newer one yet; the one that took
first may die while the second takeover goes on.

The model is of the kernel and of what drives the machines: queues of whole messages, descriptors within them,
``stop_receiving``, ends, and processes that die between any two actions. What the machines do is the product's own.

What a process does to itself only (to its timers, to a connection that it has) commutes with all that another one
does, so that it is one step with what comes before it: nobody sees a difference, and there are fewer states by far.

Held in every state: no connection is served by two. Held at every end: each is served by one that lives, unless it
belonged to one that died; and there is an end from everywhere, as every step takes the world further.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Final

import attrs
import pytest

from xproxy.migration import giving, taking
from xproxy.migration.giving import Giving, Timer
from xproxy.migration.messages import Carry, Hello, Message, Offer, Stopped, Taken
from xproxy.migration.taking import Taking

HELLO: Final = Hello(versions=(1,), software="here")
CONNECTIONS: Final = (1, 2)
FREE: Final = "free"
FROZEN: Final = "frozen"
LEFT: Final = "left"
COPY: Final = "copy"
SERVED: Final = "served"
GONE: Final = "gone"


@attrs.define(eq=True, unsafe_hash=True)
class World:
    """All there is. Everything in it is a value, so that a copy is another history."""

    giver: Giving
    taker: Taking
    to_new: tuple[Message, ...] = ()
    to_old: tuple[Message, ...] = ()
    giver_does: tuple[giving.Action, ...] = ()
    """What the machine wants and the process has not done yet, in order."""
    taker_does: tuple[taking.Action, ...] = ()
    begun: tuple[bool, bool] = (False, False)
    alive: tuple[bool, bool] = (True, True)
    open: tuple[bool, bool] = (True, True)
    """Their ends of the channel."""
    deaf: bool = False
    """The giver receives nothing that is sent from here on."""
    old: tuple[str, str] = (FREE, FREE)
    """What the old process does with each connection."""
    new: tuple[str, str] = ("", "")
    said: frozenset[int] = frozenset()
    """Numbers whose TAKEN was sent."""
    sent: frozenset[int] = frozenset()
    """Offers that were sent."""
    refused: frozenset[int] = frozenset()
    numbers: tuple[tuple[int, int], ...] = ()
    """Which connection an offer is of."""
    timers: frozenset[Timer] = frozenset()
    whims: int = 1
    """How often somebody may still wish it to be over."""
    deaths: int = 1
    refusals: int = 1
    unsent: int = 1
    accepts: tuple[bool, bool] = (True, False)
    hasty: bool = False
    """The giver takes ECONNRESET for the end: a mistake, which must be found."""
    eager: bool = False
    """The taker serves before it has sent TAKEN: another one."""
    follows: int = 0
    """How often a process that is newer yet may come: the giver gives what is left to that."""
    first: World | None = None
    """The takeover before, of the same giver: its channel has ended for the giver."""
    impatient: bool = False
    """The giver follows while it has offers out: a mistake, which must be found."""
    forgetful: bool = False
    """The giver does not know any more that it accepts nobody since the takeover before: another one."""
    blind: bool = False
    """The giver thaws at once when it withdraws, and stops listening later: a third."""

    def of(self, number: int) -> int:
        return dict(self.numbers)[number]

    def with_old(self, index: int, state: str) -> None:
        self.old = (state, self.old[1]) if index == 0 else (self.old[0], state)

    def with_new(self, index: int, state: str) -> None:
        self.new = (state, self.new[1]) if index == 0 else (self.new[0], state)


def changed(world: World) -> World:
    """Return a copy to change."""
    found = copy.copy(world)
    found.giver, found.taker = copy.copy(world.giver), copy.copy(world.taker)
    return found


# ---- the giver's process


def giver_does(world: World) -> Iterator[tuple[str, World]]:
    if not world.alive[0]:
        return
    if world.giver_does:
        yield from _giver_acts(world)
        return  # one task's actions are done before it hears on
    if not world.begun[0]:
        after = changed(world)
        after.begun = (True, world.begun[1])
        after.giver_does = tuple(after.giver.begin())
        yield "giver begins", after
        return
    machine = world.giver
    if machine.over:
        if world.open[0]:
            after = changed(world)
            after.open = (False, world.open[1])
            yield "giver closes", after
        elif machine.state is giving.State.FOLLOWED:
            yield "a newer process comes", anew(world)
        return
    if world.to_old:
        after = changed(world)
        message, after.to_old = world.to_old[0], world.to_old[1:]
        after.giver_does = tuple(after.giver.hear(message))
        yield f"giver hears {message}", after
    elif world.deaf or not world.open[1]:
        after = changed(world)
        after.giver_does = tuple(after.giver.end())
        yield "giver hears the end", after
    for timer in world.timers:
        after = changed(world)
        after.timers -= {timer}
        after.giver_does = tuple(after.giver.late(timer))
        yield f"{timer} is late", after
    if world.whims:
        after = changed(world)
        after.whims -= 1
        after.giver_does = tuple(after.giver.withdraw("a whim"))
        yield "giver withdraws", after
    for index in range(2):
        if machine.room and world.old[index] == FREE:
            after = changed(world)
            number = after.giver.offer()
            after.numbers += ((number, index),)
            after.with_old(index, FROZEN)
            after.giver_does = (*after.giver.offered(), giving.Send(Offer(number=number, cut=0.0)))
            yield f"giver freezes {index}", after
    if not machine.out:
        if machine.state is giving.State.GIVING:
            after = changed(world)
            after.giver_does = tuple(after.giver.settled())
            yield "nothing more can move now", after
        elif machine.state is giving.State.TAILING and FREE not in world.old:
            after = changed(world)
            after.giver_does = tuple(after.giver.empty())
            yield "nothing is left", after
        if machine.state is giving.State.TAILING and world.follows:
            after = changed(world)
            after.giver_does = tuple(after.giver.follow())
            yield "what is left is for a newer one", after
    elif world.impatient and world.follows and machine.state is giving.State.TAILING:
        after = changed(world)
        after.giver.state = giving.State.FOLLOWED
        yield "it does not wait for answers", after


def anew(world: World) -> World:
    """Return the same giver's next takeover, to a newer process, beside what the first one is still doing."""
    # Every offer was answered: of how it came to this nothing is left but who has what.
    assert world.impatient or not world.giver.out
    first = changed(world)
    first.giver = attrs.evolve(Giving(HELLO), state=giving.State.FOLLOWED)
    first.numbers = ((1, 0), (2, 1))
    first.said = frozenset(world.of(number) + 1 for number in world.said)
    first.sent = first.refused = frozenset()
    first.timers, first.to_old = frozenset(), ()
    first.whims = first.follows = first.refusals = first.unsent = 0
    first.deaths = 0  # they are counted by the later one
    # No channel is common to it and to what follows: when it does what is left for it to do makes no difference.
    while following := list(taker_does(first)):
        [(_, first)] = following
    first.taker = attrs.evolve(first.taker, why="")
    accepts = world.accepts[0]
    machine = Giving(
        HELLO, canary=1.0, canaries=1, window=2, tails=not (accepts or world.forgetful)
    )
    after = World(machine, Taking(HELLO), first=first)
    after.old = world.old
    after.accepts = (accepts, False)
    after.whims, after.deaths = world.whims, world.deaths
    after.refusals, after.unsent = world.refusals, world.unsent
    return after


_OUTWARD: Final = (giving.Send, giving.Describe, giving.Pause, giving.StopReceiving)
"""What another process may notice."""


def _giver_acts(world: World) -> Iterator[tuple[str, World]]:
    for said, after in _giver_act(world):
        while after.giver_does and not isinstance(after.giver_does[0], _OUTWARD):
            [(_, after)] = _giver_act(after)
        yield said, after


def _giver_act(world: World) -> Iterator[tuple[str, World]]:
    after = changed(world)
    action, after.giver_does = world.giver_does[0], world.giver_does[1:]
    match action:
        case giving.Send(message=message):
            if isinstance(message, Offer) and message.number not in world.giver.out:
                pass  # withdrawn before it was sent
            elif not world.open[1]:
                pass  # nobody hears it: the end will tell
            else:
                if isinstance(message, Offer):
                    after.sent |= {message.number}
                    if world.unsent:
                        failed = changed(after)
                        failed.unsent -= 1
                        failed.sent -= {message.number}
                        thawed = tuple(failed.giver.unsent(message.number))
                        failed.giver_does = (*thawed, *failed.giver_does)
                        yield f"{message} cannot be sent", failed
                after.to_new += (message,)
        case giving.Describe():
            after.to_new += (Carry(kind="", name="", version=0, last=True),)
        case giving.Pause():
            after.accepts = (False, world.accepts[1])
            after.to_new += (Stopped(last_id=7),)
        case giving.Resume():
            after.accepts = (True, world.accepts[1])
        case giving.Leave(number=number):
            assert world.old[world.of(number)] == FROZEN
            after.with_old(world.of(number), LEFT)
        case giving.Thaw(number=number) | giving.Keep(number=number):
            assert world.old[world.of(number)] == FROZEN
            after.with_old(world.of(number), FREE)
        case giving.StopReceiving():
            after.deaf = not world.blind
            if world.blind:
                after.giver_does = (*after.giver.end(), *after.giver_does)
        case giving.Arm(timer=timer):
            after.timers |= {timer}
        case giving.Disarm(timer=timer):
            after.timers -= {timer}
        case giving.Over():
            pass
    yield f"giver does {action}", after


# ---- the taker's process


def taker_does(world: World) -> Iterator[tuple[str, World]]:
    if not world.alive[1]:
        return
    if world.taker_does:
        yield from _taker_acts(world)
        return
    if not world.begun[1]:
        after = changed(world)
        after.begun = (world.begun[0], True)
        after.taker_does = tuple(after.taker.begin())
        yield "taker begins", after
        return
    machine = world.taker
    if machine.over:
        if world.open[1]:
            after = changed(world)
            after.open = (world.open[0], False)
            yield "taker closes", after
        return
    if world.to_new:
        after = changed(world)
        message, after.to_new = world.to_new[0], world.to_new[1:]
        after.taker_does = tuple(after.taker.hear(message))
        yield f"taker hears {message}", after
    elif not world.open[0]:
        after = changed(world)
        after.taker_does = tuple(after.taker.end())
        yield "taker hears the end", after
    if world.whims:
        after = changed(world)
        after.whims -= 1
        after.taker_does = tuple(after.taker.withdraw("a whim"))
        yield "taker withdraws", after


def _taker_acts(world: World) -> Iterator[tuple[str, World]]:
    for said, after in _taker_act(world):
        while after.taker_does and not isinstance(
            after.taker_does[0], taking.Send | taking.Restore
        ):
            [(_, after)] = _taker_act(after)
        yield said, after


def _taker_act(world: World) -> Iterator[tuple[str, World]]:
    after = changed(world)
    action, after.taker_does = world.taker_does[0], world.taker_does[1:]
    match action:
        case taking.Send(message=message):
            heard = world.open[0] and not world.deaf
            if isinstance(message, Taken):
                [number] = message.numbers
                told = after.taker.sent(number) if heard else after.taker.unheard(number)
                after.taker_does = (*told, *after.taker_does)
                if heard:
                    after.said |= {number}
            if heard:
                after.to_old += (message,)
        case taking.Restore(offer=offer):
            after.with_new(world.of(offer.number), COPY)
            if world.refusals:
                refused = changed(after)
                refused.refusals -= 1
                refused.refused |= {offer.number}
                refused.taker_does = (
                    *refused.taker.refuse(offer.number, "no", for_ever=False),
                    *refused.taker_does,
                )
                yield f"taker refuses {offer}", refused
            follows = after.taker.restored(offer.number)
            if world.eager:
                after.with_new(world.of(offer.number), SERVED)
            after.taker_does = (*follows, *after.taker_does)
        case taking.Begin(number=number):
            assert world.new[world.of(number)] == (SERVED if world.eager else COPY)
            after.with_new(world.of(number), SERVED)
        case taking.Drop(number=number):
            if world.new[world.of(number)] == COPY:
                after.with_new(world.of(number), GONE)
        case taking.Accept():
            after.accepts = (world.accepts[0], True)
        case taking.Over(serve=serve):
            after.accepts = (world.accepts[0], serve)
    yield f"taker does {action}", after


# ---- death


def dies(world: World) -> Iterator[tuple[str, World]]:
    if not world.deaths:
        return
    for index, name in enumerate(("giver", "taker")):
        if world.alive[index]:
            after = changed(world)
            after.deaths -= 1
            after.alive = (False, world.alive[1]) if index == 0 else (world.alive[0], False)
            after.open = (False, world.open[1]) if index == 0 else (world.open[0], False)
            if index == 0:
                after.giver_does = ()
            else:
                after.taker_does = ()
                if world.hasty and world.to_new:
                    after.to_old = ()
            yield f"{name} dies", after
    if world.first is not None and world.first.alive[1]:
        after = changed(world)
        after.deaths -= 1
        after.first = changed(world.first)
        after.first.alive = (True, False)
        yield "the first taker dies", after


def steps(world: World) -> Iterator[tuple[str, World]]:
    yield from giver_does(world)
    yield from taker_does(world)
    yield from dies(world)


# ---- what holds


def look(world: World) -> None:
    """Raise where two serve one connection, or the machines are in a state that cannot be."""
    for old, new in zip(world.old, world.new, strict=True):
        if world.alive[0] and world.alive[1]:
            assert not (old == FREE and new == SERVED), "two serve it"
    for number in world.said:
        # It is the new one's from here on, whatever happens.
        assert world.old[world.of(number)] != FREE or not world.alive[0], "taken, and still served"
    assert len(world.giver.out) <= 2, "more offers than may be out"
    assert not (world.giver.tails and world.accepts[0]), "it accepts though a newer one does"
    first = world.first
    if first is not None:
        look(first)
        for before, old, new in zip(first.new, world.old, world.new, strict=True):
            # Whether they live or not: what was taken once is never the giver's to offer again.
            assert before != SERVED or (old == LEFT and not new), "two serve it"


def look_at_the_end(world: World) -> None:
    """Raise where a connection is nobody's."""
    old_lives, new_lives = world.alive
    first = world.first
    elsewhere: frozenset[int] = frozenset()
    if first is not None:
        elsewhere = frozenset(first.of(number) for number in first.said)
        if first.alive[1]:
            assert first.taker.over, "the first taker never ends"
            for index, new in enumerate(first.new):
                assert new != COPY, "it was made and never served"
                assert (new == SERVED) is (index in elsewhere), "nobody serves it"
    for index, (old, new) in enumerate(zip(world.old, world.new, strict=True)):
        if index in elsewhere:
            continue
        assert old != FROZEN or not old_lives, "it stands still for ever"
        assert new != COPY or not new_lives, "it was made and never served"
        if old_lives and new_lives:
            assert (old == FREE) is not (new == SERVED), "nobody serves it"
        elif old_lives:
            taken = any(world.of(number) == index for number in world.said)
            assert old == (LEFT if taken else FREE), "it died with a process that never took it"
        elif new_lives and old != FREE:
            # By whom ever: then it is the old one's, or nobody hears of it any more.
            withdrawn = world.taker.why not in ("", "the old process has ended")
            offered = any(world.of(number) == index for number in world.sent - world.refused)
            assert new == SERVED or withdrawn or not offered, "an offer that could be read is lost"
    if old_lives:
        assert world.giver.over, "the giver never ends"
        if world.giver.state is giving.State.WITHDRAWN:
            assert world.accepts[0] or world.giver.tails, "nobody accepts"
        if first is not None and first.giver.state is giving.State.FOLLOWED:
            assert not world.accepts[0], "one accepts that was followed"
    if new_lives:
        assert world.taker.over, "the taker never ends"
        if world.taker.state is taking.State.SERVING:
            assert world.accepts[1], "nobody accepts"
    if old_lives and new_lives and world.giver.tails:
        # One that gives up before it has heard that it may not ends: its supervisor starts another one.
        assert world.accepts[1] or world.taker.state is taking.State.WITHDRAWN, "nobody accepts"


def explore(first: World) -> tuple[int, int]:
    """Look at everything that can come of ``first``; return how many states and how many ends there are."""
    known = {first}
    before: dict[World, tuple[str, World]] = {}
    work = [first]
    ends = 0
    while work:
        world = work.pop()
        try:
            look(world)
            found = False
            for said, after in steps(world):
                found = found or not said.endswith("dies")
                if after not in known:
                    known.add(after)
                    before[after] = said, world
                    work.append(after)
            if not found:
                ends += 1
                look_at_the_end(world)
        except AssertionError as exc:
            history = []
            at = world
            while at in before:
                said, at = before[at]
                history.append(said)
            raise AssertionError("\n".join([str(exc), *reversed(history), str(world)])) from exc
    return len(known), ends


def world(**fields: object) -> World:
    machine = Giving(HELLO, canary=1.0, canaries=1, window=2)
    return World(machine, Taking(HELLO), **fields)  # type: ignore[arg-type]  # by the tests below


@pytest.mark.parametrize(
    "fields",
    [
        {"whims": 0, "deaths": 0, "refusals": 1, "unsent": 1},
        {"whims": 2, "deaths": 1, "refusals": 0, "unsent": 0},
        {"whims": 1, "deaths": 2, "refusals": 0, "unsent": 0},
        {"whims": 0, "deaths": 1, "refusals": 1, "unsent": 1},
        {"whims": 1, "deaths": 1, "refusals": 1, "unsent": 0},
    ],
    ids=str,
)
def test_in_every_interleaving_each_connection_has_one_owner(fields: dict[str, int]) -> None:
    states, ends = explore(world(**fields))
    assert states > 1000
    assert ends > 10


@pytest.mark.parametrize(
    "fields",
    [
        {"whims": 0, "deaths": 0, "refusals": 1, "unsent": 1},
        {"whims": 0, "deaths": 1, "refusals": 0, "unsent": 0},
        {"whims": 1, "deaths": 0, "refusals": 0, "unsent": 0},
    ],
    ids=str,
)
def test_what_is_left_goes_to_a_newer_one_yet_and_has_one_owner(fields: dict[str, int]) -> None:
    states, ends = explore(world(follows=1, **fields))
    assert states > 1000
    assert ends > 10


@pytest.mark.parametrize(
    ("mistake", "what"),
    [
        ("hasty", "still served|never took"),
        ("eager", "two serve it"),
        ("blind", "still served|two serve it"),
        ("impatient", "stands still for ever"),
        ("forgetful", "nobody accepts|one accepts that was followed"),
    ],
)
def test_mistakes_are_found(mistake: str, what: str) -> None:
    follows = mistake in ("impatient", "forgetful")
    first = world(whims=1, deaths=not follows, refusals=0, unsent=0, follows=follows)
    setattr(first, mistake, True)
    with pytest.raises(AssertionError, match=what):
        explore(first)
