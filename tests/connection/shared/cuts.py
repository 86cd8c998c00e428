"""Cuts: a connection stands still between two steps of any task, at every place of an exchange."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs
import trio

from tests.connection.shared.moves import Moves
from xproxy.connection.standing import Moment, Standing

_MOVABLE = (Standing.IDLE, Standing.RELAY)


@attrs.define(eq=False)
class Cuts(trio.abc.Instrument):
    """Freezes the connection before so many steps have been made, or as soon after as it can be."""

    scene: Moves
    steps: list[int]
    """Of all tasks together, from when this was begun; rising."""
    end: Callable[[Moves, Moment], None]
    """What becomes of each cut."""
    linger: int = 0
    """Times that all others are let run while it stands still."""
    made: int = 0
    """Steps so far."""
    done: int = 0
    """Cuts so far."""
    first: int = 0
    """The step before which the first one was; 0: there was none."""
    _moment: Moment | None = None
    _frozen: trio.Event = attrs.field(factory=trio.Event)
    failure: BaseException | None = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """See Instrument. Trio would only log what is raised here."""
        self.made += 1
        if not self.steps or self.made < self.steps[0] or self._moment is not None:
            return
        try:
            driver = self.scene.driver
            if driver.standing in _MOVABLE:
                self.steps.pop(0)
                self._moment = driver.freeze()
                self.first = self.first or self.made
                self._frozen.set()
        except BaseException as exc:
            self.failure = exc
            self.steps.clear()

    async def run(self) -> None:
        """End each cut."""
        while True:
            await self._frozen.wait()
            self._frozen = trio.Event()
            for _ in range(self.linger):
                await trio.lowlevel.checkpoint()
            moment, self._moment = self._moment, None
            assert moment is not None
            self.done += 1
            self.end(self.scene, moment)

    @property
    def next(self) -> int:
        """The first step at which a cut is another one than this was."""
        return max(self.first, self.made if not self.first else 0) + 1


def take(scene: Moves, moment: Moment) -> None:
    """Let another driver go on."""
    scene.take(moment)


def thaw(scene: Moves, _moment: Moment) -> None:
    """Go on as if nothing had been: refused, or withdrawn."""
    scene.driver.thaw()


@contextmanager
def cutting(
    scene: Moves,
    steps: list[int],
    end: Callable[[Moves, Moment], None] = take,
    *,
    linger: int = 0,
) -> Iterator[Cuts]:
    """Cut at ``steps``, counted from here."""
    cuts = Cuts(scene, list(steps), end, linger)
    scene.nursery.start_soon(cuts.run)
    trio.lowlevel.add_instrument(cuts)
    try:
        yield cuts
    finally:
        trio.lowlevel.remove_instrument(cuts)
    if cuts.failure is not None:
        raise cuts.failure
