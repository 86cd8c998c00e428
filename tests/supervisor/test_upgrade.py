"""One upgrade, played: everything that may happen, at every step."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import pytest

from xproxy.supervisor.table import Phase, Worker
from xproxy.supervisor.upgrade import ABORT_SECONDS, READY_SECONDS, SILENCE, Stage, Upgrade


@attrs.define(eq=False)
class Played:
    """What an upgrade asks for, noted; ``olds``: workers of the old generation by index."""

    olds: dict[int, Worker]
    wanted: int = 1
    did: list[str] = attrs.field(factory=list)
    result: tuple[int, str] | None = None
    cannot: str = ""
    waits: float = 0.0
    stopped: list[int] = attrs.field(factory=list)
    succeeded: list[int] = attrs.field(factory=list)
    _ids: int = 100

    def start_new(self, index: int, count: int) -> Worker | str:
        self.did.append(f"start {index}")
        if self.cannot:
            return self.cannot
        self._ids += 1
        return Worker(self._ids, index, 2, count or self.wanted)

    def old(self, index: int) -> Worker | None:
        found = self.olds.get(index)
        return found if found is not None and found.phase is Phase.SERVING else None

    def give(self, old: Worker, new: Worker, *, check: bool) -> None:
        self.did.append(f"{'try' if check else 'give'} {old.index}→{new.index}")

    def serve(self, new: Worker) -> None:
        self.did.append(f"serve {new.index}")

    def kill(self, new: Worker) -> None:
        self.did.append(f"kill {new.index}")

    def wait(self, seconds: float) -> None:
        self.waits = seconds

    def is_stopped(self, worker: Worker) -> bool:
        return worker.id in self.stopped

    def drain(self, worker: Worker) -> None:
        worker.phase = Phase.LEAVING
        self.did.append(f"drain {worker.generation}/{worker.index}")

    def follow(self, old: Worker, new: Worker) -> None:
        old.phase, new.phase = Phase.LEAVING, Phase.SERVING
        self.did.append(f"follow {old.index}")

    def take_back(self, old: Worker, new: Worker) -> None:
        old.phase, new.phase = Phase.SERVING, Phase.LEAVING
        self.did.append(f"take back {old.index}")

    def restart(self, old: Worker, code: int) -> None:
        self.did.append(f"restart {old.index} after {code}")

    def succeed(self, new: Worker) -> None:
        self.succeeded.append(new.index)

    def tell(self, progress: Mapping[str, object]) -> None:
        del progress

    def over(self, code: int, why: str) -> None:
        assert self.result is None, "it is over once"
        self.result = code, why


def begun(count: int = 1, wanted: int = 1, *, check: bool = False) -> tuple[Played, Upgrade]:
    olds = {}
    for index in range(count):
        olds[index] = Worker(index + 1, index, 1, count)
        olds[index].phase = Phase.SERVING
    acts = Played(olds, wanted)
    upgrade = Upgrade(acts, 2, check=check)
    upgrade.begin()
    return acts, upgrade


def new_of(upgrade: Upgrade) -> Worker:
    assert upgrade.new is not None
    return upgrade.new


def replace(acts: Played, upgrade: Upgrade, index: int) -> None:
    new = new_of(upgrade)
    upgrade.prepared(new)
    upgrade.reported(new, "accepting", "")
    upgrade.reported(acts.olds[index], "given", "")


def test_workers_are_replaced_one_after_the_other() -> None:
    acts, upgrade = begun(2, 2)
    replace(acts, upgrade, 0)
    assert acts.result is None
    replace(acts, upgrade, 1)
    assert acts.did == [
        *("start 0", "give 0→0", "follow 0"),
        *("start 1", "give 1→1", "follow 1"),
    ]
    assert acts.result == (0, "")


def test_those_that_are_older_yet_give_to_the_newest() -> None:
    acts, upgrade = begun(1, 2)
    replace(acts, upgrade, 0)
    assert acts.succeeded == [0]
    upgrade.prepared(new_of(upgrade))
    assert acts.succeeded == [0, 1]


def test_it_says_how_many_workers_are_not_what_they_were() -> None:
    acts, upgrade = begun(3, 3)
    replace(acts, upgrade, 0)
    new = new_of(upgrade)
    upgrade.prepared(new)
    upgrade.ended(new, 1, "broken")
    assert acts.result == (1, "broken")
    assert upgrade.changed == 1


def test_only_some_workers_are_replaced_on_the_way_back() -> None:
    acts = Played({index: Worker(index + 1, index, 1, 3) for index in range(3)})
    for worker in acts.olds.values():
        worker.phase = Phase.SERVING
    upgrade = Upgrade(acts, 2, count=3, until=2)
    upgrade.begin()
    replace(acts, upgrade, 0)
    replace(acts, upgrade, 1)
    assert acts.result == (0, "")
    assert acts.olds[2].phase is Phase.SERVING


def test_more_workers_than_before() -> None:
    acts, upgrade = begun(1, 3)
    replace(acts, upgrade, 0)
    upgrade.prepared(new_of(upgrade))
    upgrade.prepared(new_of(upgrade))
    assert acts.did[-4:] == ["start 1", "serve 1", "start 2", "serve 2"]
    assert acts.result == (0, "")


def test_fewer_workers_than_before() -> None:
    acts, upgrade = begun(3, 1)
    replace(acts, upgrade, 0)
    assert acts.did[-2:] == ["drain 1/1", "drain 1/2"]
    assert acts.result == (0, "")


def test_the_old_ones_word_may_be_heard_first() -> None:
    acts, upgrade = begun()
    new = new_of(upgrade)
    upgrade.prepared(new)
    upgrade.reported(acts.olds[0], "given", "")
    upgrade.reported(new, "accepting", "")
    assert acts.did == ["start 0", "give 0→0", "follow 0"]
    assert acts.result == (0, "")


@pytest.mark.parametrize(("why", "code"), [("", 0), ("h2: other bytes", 1)])
def test_a_check_tries_and_ends_the_new_one(why: str, code: int) -> None:
    acts, upgrade = begun(check=True)
    upgrade.prepared(new_of(upgrade))
    upgrade.reported(acts.olds[0], "given", "")
    upgrade.reported(new_of(upgrade), "rehearsed", "")
    assert "kill 0" not in acts.did
    upgrade.reported(acts.olds[0], "rehearsed", why)
    assert acts.did == ["start 0", "try 0→0", "kill 0"]
    assert acts.result == (code, why)
    assert acts.olds[0].phase is Phase.SERVING


def test_a_new_one_that_has_tried_may_end_before_the_old_one_has_said_it() -> None:
    acts, upgrade = begun(check=True)
    new = new_of(upgrade)
    upgrade.prepared(new)
    assert upgrade.ended(new, 0, "")
    assert acts.result is None
    upgrade.reported(acts.olds[0], "rehearsed", "")
    assert acts.result == (0, "")


def test_an_old_one_that_dies_while_it_tries_is_started_again() -> None:
    acts, upgrade = begun(check=True)
    upgrade.prepared(new_of(upgrade))
    assert not upgrade.ended(acts.olds[0], 137, "")
    assert acts.did[-1] == "kill 0"
    assert acts.result is not None
    assert acts.result[0] == 1


def test_what_cannot_be_started() -> None:
    acts = Played({}, cannot="no such interpreter")
    upgrade = Upgrade(acts, 2)
    upgrade.begin()
    assert acts.result == (1, "no such interpreter")
    assert upgrade.stage is Stage.OVER


@pytest.mark.parametrize("giving", [False, True])
@pytest.mark.parametrize(
    ("code", "why", "expected"),
    [
        (2, "edge: unknown key", (2, "edge: unknown key")),
        (1, "", (1, "the new worker has ended with exit code 1 before it accepted")),
        (137, "", (1, "the new worker has ended with exit code 137 before it accepted")),
        (0, "", (1, "the new worker has ended with exit code 0 before it accepted")),
    ],
)
def test_a_new_one_that_ends_before_it_accepts(
    code: int, why: str, expected: tuple[int, str], giving: bool
) -> None:
    acts, upgrade = begun()
    new = new_of(upgrade)
    if giving:
        upgrade.prepared(new)
    assert upgrade.ended(new, code, why), "and it is not started again"
    assert acts.result == expected
    assert acts.olds[0].phase is Phase.SERVING


def test_a_new_one_that_ends_after_it_accepts_is_started_again() -> None:
    _, upgrade = begun()
    new = new_of(upgrade)
    upgrade.prepared(new)
    upgrade.reported(new, "accepting", "")
    assert not upgrade.ended(new, 1, "")


def test_one_that_hangs() -> None:
    acts, upgrade = begun()
    upgrade.late()
    assert acts.did == ["start 0", "kill 0"]
    assert acts.result is not None
    assert acts.result[0] == 1
    assert "60 s" in acts.result[1]
    assert not upgrade.ended(new_of(upgrade), 137, ""), "its end is no news"


def test_an_old_one_that_takes_it_back() -> None:
    acts, upgrade = begun()
    upgrade.prepared(new_of(upgrade))
    upgrade.reported(acts.olds[0], "withdrawn", "it does not answer")
    assert acts.did[-1] == "kill 0"
    assert acts.result == (1, "worker 0 goes on as before: it does not answer")


def test_an_old_one_that_takes_it_back_when_the_new_one_serves_some() -> None:
    acts, upgrade = begun()
    new = new_of(upgrade)
    upgrade.prepared(new)
    upgrade.reported(new, "accepting", "")
    upgrade.reported(acts.olds[0], "withdrawn", "it stalled")
    assert acts.did[-1] == "take back 0"
    assert acts.olds[0].phase is Phase.SERVING
    assert acts.result is not None
    assert acts.result[0] == 1
    assert upgrade.changed == 0
    assert not acts.succeeded


@pytest.mark.parametrize("accepting", [False, True])
def test_an_old_one_that_dies_is_followed_all_the_same(accepting: bool) -> None:
    acts, upgrade = begun()
    new = new_of(upgrade)
    upgrade.prepared(new)
    if accepting:
        upgrade.reported(new, "accepting", "")
    assert upgrade.ended(acts.olds[0], 139, ""), "nobody else is to be started there"
    if not accepting:
        upgrade.reported(new, "accepting", "")
        assert acts.did[-1] == "serve 0", "it counts as one that serves"
    assert acts.result == (0, "")


@pytest.mark.parametrize("aborted", [False, True])
def test_an_old_one_that_nobody_follows_is_started_again(aborted: bool) -> None:
    acts, upgrade = begun()
    new = new_of(upgrade)
    upgrade.prepared(new)
    assert upgrade.ended(acts.olds[0], 139, "")
    if aborted:
        assert upgrade.abort()
        upgrade.late()
    else:
        assert upgrade.ended(new, 1, "")
    assert acts.did[-1] == "restart 0 after 139"
    assert acts.result is not None
    assert acts.result[0] == 1


@pytest.mark.parametrize("check", [False, True])
def test_one_that_nobody_has_given_to_is_aborted_at_once(check: bool) -> None:
    acts, upgrade = begun(check=check)
    if check:
        upgrade.prepared(new_of(upgrade))
    assert upgrade.abort()
    assert acts.did[-1] == "kill 0"
    assert acts.result == (1, "aborted")
    assert not upgrade.abort()


@pytest.mark.parametrize("accepting", [False, True])
def test_aborted_while_it_moves_it_goes_back_when_that_has_been_done(accepting: bool) -> None:
    acts, upgrade = begun(2, 2)
    new = new_of(upgrade)
    upgrade.prepared(new)
    if accepting:
        upgrade.reported(new, "accepting", "")
    assert upgrade.abort()
    assert acts.waits == (SILENCE if accepting else ABORT_SECONDS)
    assert upgrade.abort(), "it may be said twice"
    if not accepting:
        # In the same turn: whether it accepts already was not known.
        upgrade.reported(acts.olds[0], "giving", "")
        assert acts.waits == ABORT_SECONDS, "that is waited for no longer"
        upgrade.reported(new, "accepting", "")
        assert acts.waits == SILENCE
    assert not acts.result
    upgrade.reported(acts.olds[0], "given", "")
    assert acts.did == ["start 0", "give 0→0", "follow 0"], "nobody was ended, nor another begun"
    assert upgrade.changed == 1, "which goes back"
    assert acts.result == (1, "aborted")


def test_aborted_one_that_does_not_come_to_accept_is_ended() -> None:
    acts, upgrade = begun()
    upgrade.prepared(new_of(upgrade))
    assert upgrade.abort()
    assert not acts.result
    upgrade.late()
    assert acts.did[-1] == "kill 0"
    assert upgrade.changed == 0
    assert acts.result == (1, "aborted")


@pytest.mark.parametrize(
    ("stopped", "why"),
    [
        ("old", "the old worker 0 (pid 7) is stopped"),
        ("new", "the new worker 0 (pid 8) is stopped"),
        ("", "the old worker 0 (pid 7) says nothing"),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_a_handover_that_nobody_speaks_of_is_given_up(stopped: str, why: str, check: bool) -> None:
    acts, upgrade = begun(check=check)
    old, new = acts.olds[0], new_of(upgrade)
    old.pid, new.pid = 7, 8
    upgrade.prepared(new)
    assert acts.waits == SILENCE
    acts.stopped = [one.id for one in (old, new) if one is {"old": old, "new": new}.get(stopped)]
    upgrade.late()
    assert acts.did[-1] == "kill 0"
    assert acts.result == (1, f"{why} for {SILENCE:g} s")
    assert old.phase is Phase.SERVING


def test_each_word_of_either_is_waited_for_anew() -> None:
    acts, upgrade = begun()
    new = new_of(upgrade)
    assert acts.waits == READY_SECONDS
    upgrade.prepared(new)
    for worker, step in ((new, "ready"), (new, "accepting"), (acts.olds[0], "giving")):
        acts.waits = 0.0
        upgrade.reported(worker, step, "")
        assert acts.waits == SILENCE
    acts.waits = 0.0
    upgrade.reported(Worker(99, 0, 1, 1), "giving", "")
    assert acts.waits == 0.0


def test_an_old_one_that_stands_still_does_not_hold_up_the_others() -> None:
    acts, upgrade = begun(2, 2)
    new = new_of(upgrade)
    acts.olds[0].pid = 7
    acts.stopped = [acts.olds[0].id]
    upgrade.prepared(new)
    upgrade.reported(new, "accepting", "")
    upgrade.late()
    assert acts.did == ["start 0", "give 0→0", "follow 0", "start 1"]
    upgrade.reported(acts.olds[0], "withdrawn", "it is continued")  # which is no matter of this one
    replace(acts, upgrade, 1)
    said = "the old worker 0 (pid 7) is stopped: it gives what it has left when it goes on"
    assert acts.result == (0, said)


def test_what_others_say_is_nothing() -> None:
    acts, upgrade = begun()
    stranger = Worker(77, 0, 1, 1)
    upgrade.prepared(stranger)
    upgrade.reported(stranger, "accepting", "")
    upgrade.reported(acts.olds[0], "accepting", "")
    assert not upgrade.ended(stranger, 0, "")
    assert acts.did == ["start 0"]
