"""One upgrade: which worker is replaced when, and when it has failed. Decides, and does nothing.

Workers are replaced one after the other. Until the new one accepts, whatever goes wrong ends the new one only; the
old one has not noticed, or accepts again. What is done is told to ``Acts``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, Protocol

from xproxy.supervisor.table import Worker

READY_SECONDS: Final = 60.0
"""A new worker that could not accept by then is given up."""
SILENCE: Final = 30.0
"""Seconds without a word of a handover, from either worker, after which nobody waits for it any more.

One that gives says how it goes each second, and looks itself after one that does not answer (``giving.STALL``)."""
ABORT_SECONDS: Final = 5.0
"""So long it may take from ``abort`` until the new worker accepts, to go back then; else it is ended."""


class Acts(Protocol):
    """What an upgrade asks for."""

    def start_new(self, index: int, count: int) -> Worker | str:
        """Start a worker of the new generation; a text is why that cannot be."""
        ...

    def old(self, index: int) -> Worker | None:
        """Return the worker of an older generation that accepts, if there is one."""
        ...

    def give(self, old: Worker, new: Worker, *, check: bool) -> None:
        """Let the old one hand over to the new one; ``check``: only let them try."""
        ...

    def serve(self, new: Worker) -> None:
        """Let a new worker accept that follows nobody."""
        ...

    def kill(self, new: Worker) -> None:
        """End a worker that has never accepted."""
        ...

    def wait(self, seconds: float) -> None:
        """Call ``late`` after so many seconds, unless this is called again before."""
        ...

    def is_stopped(self, worker: Worker) -> bool:
        """Say whether somebody has stopped it (SIGSTOP)."""
        ...

    def drain(self, worker: Worker) -> None: ...

    def follow(self, old: Worker, new: Worker) -> None:
        """Note that the new one accepts, and the old one does not."""
        ...

    def take_back(self, old: Worker, new: Worker) -> None:
        """Note that the old one accepts again; the new one gives back what it has taken, and ends.

        Whoever was started in its place ends, too.
        """
        ...

    def restart(self, old: Worker, code: int) -> None:
        """Start an old one again that has ended with ``code``."""
        ...

    def succeed(self, new: Worker) -> None:
        """Let those that are older yet give to the new one what they have left."""
        ...

    def tell(self, progress: Mapping[str, object]) -> None: ...

    def over(self, code: int, why: str) -> None:
        """The upgrade is over: 0, or another exit code. ``why`` it has failed, or what is to be known of it."""
        ...


class Stage(enum.Enum):
    """How far the replacement of a worker is."""

    STARTING = "starting"
    GIVING = "giving"
    """The old one has been told; the new one does not accept yet."""
    MOVING = "moving"
    """The new one accepts; the old one has not given everything yet."""
    OVER = "over"


class Upgrade:
    """From one generation to the next."""

    __slots__ = (
        *("_aborted", "_acts", "_died", "_index", "_old", "_remarks", "_until", "check", "count"),
        *("generation", "new", "stage"),
    )

    def __init__(
        self,
        acts: Acts,
        generation: int,
        *,
        check: bool = False,
        count: int = 0,
        until: int | None = None,
    ) -> None:
        """``check``: only see whether a new worker could accept, then end it.

        ``count``: how many workers there are to be, where that is known; ``until``: only those before it are
        replaced.
        """
        self._acts = acts
        self.check: Final = check
        self._aborted = ""
        # Why, once somebody has given it up.
        self._index = 0
        self._remarks: list[str] = []
        # What is to be known of one that has succeeded.
        self._old: Worker | None = None
        self._died: tuple[Worker, int] | None = None
        # The old one that has ended, with its exit code, before the new one accepts.
        self.generation: Final = generation
        self._until = until
        self.count = count
        """How many workers there are to be; the first says it."""
        self.new: Worker | None = None
        self.stage = Stage.STARTING

    def begin(self) -> None:
        """Start the first worker."""
        self._next()

    @property
    def changed(self) -> int:
        """How many workers, from the first, are not what they were before it began."""
        return 0 if self.check else self._index

    # ---- what happens

    def prepared(self, worker: Worker) -> None:
        """A new worker could accept."""
        if worker is not self.new or self.stage is not Stage.STARTING:
            return
        self.count = worker.count
        self._old = self._acts.old(self._index)
        if self.check and self._old is None:
            self._acts.kill(worker)
            self._end(0, "")
            return
        self._acts.tell({"step": "prepared", "worker": self._index})
        self.stage = Stage.GIVING
        if self._old is None:
            self._acts.serve(worker)
            self._done()
        else:
            self._acts.wait(SILENCE)
            self._acts.give(self._old, worker, check=self.check)

    def reported(self, worker: Worker, step: str, why: str) -> None:
        """A worker says how it goes."""
        if worker in (self._old, self.new):
            self._heard()
        if self.check:
            # Whatever else is said of a rehearsal, nobody accepts and nothing is given.
            if worker is self._old and step in ("rehearsed", "withdrawn"):
                self._tried(why)
        elif worker is self.new and step == "accepting" and self.stage is Stage.GIVING:
            self.stage = Stage.MOVING
            self._heard()
            if self._old is not None:
                self._acts.follow(self._old, worker)
            else:
                self._acts.serve(worker)  # which it does already: nobody is there to be followed
                self._died = None
                self._done()
        elif worker is self._old and step == "given":
            # Two sockets: that the new one accepts, which comes before, may be heard later.
            if self.stage is Stage.GIVING and self.new is not None:
                self._acts.follow(worker, self.new)
            if self.stage in (Stage.GIVING, Stage.MOVING):
                self._done()
        elif worker is self._old and step == "withdrawn":
            self._give_up(f"worker {self._index} goes on as before: {why}", 1)

    def _heard(self) -> None:
        # Whoever has aborted waits for one word only.
        if self.stage is Stage.MOVING or (self.stage is Stage.GIVING and not self._aborted):
            self._acts.wait(SILENCE)

    def _tried(self, why: str) -> None:
        if self.new is not None:
            self._acts.kill(self.new)
        self._end(1 if why else 0, why)

    def ended(self, worker: Worker, code: int, why: str) -> bool:
        """A worker has ended. Says whether that was seen to here; else it is to be started again, or was to end."""
        if worker is self.new and self.check and self.stage is Stage.GIVING and not code:
            self.new = None  # it has tried; what came of it the old one says
            return True
        if worker is self.new and self.stage in (Stage.STARTING, Stage.GIVING):
            why = why or f"the new worker has ended with exit code {code} before it accepted"
            self.new = None
            self._end(2 if code == 2 else 1, why)
            return True
        if worker is self._old:
            # Its successor notices, and accepts.
            self._old = None
            if self.stage is Stage.GIVING and not self.check:
                self._died = worker, code
            if self.check:
                self._give_up("the worker to try it with has ended", 1)
                return False
            if self.stage is Stage.MOVING:
                self._done()
            return True
        return False

    def late(self) -> None:
        """What was waited for has not come."""
        if self.stage is Stage.STARTING:
            self._give_up(f"the new worker was not ready within {READY_SECONDS:g} s", 1)
        elif self.stage is Stage.GIVING:
            # It has not accepted: nothing was lost with it, and the old one goes on when it can.
            self._give_up(self._aborted or f"{self._silent()} for {SILENCE:g} s", 1)
        elif self.stage is Stage.MOVING and self._old is not None:
            # The new one serves. What the old one has yet it gives, when it goes on.
            self._remarks.append(f"{self._silent()}: it gives what it has left when it goes on")
            self._done()

    def _silent(self) -> str:
        for worker, which in ((self._old, "old"), (self.new, "new")):
            if worker is not None and self._acts.is_stopped(worker):
                return f"the {which} worker {worker.index} (pid {worker.pid}) is stopped"
        if self._old is None:
            return f"the new worker {self._index} says nothing"
        return f"the old worker {self._index} (pid {self._old.pid}) says nothing"

    def abort(self, why: str = "aborted") -> bool:
        """Give up; says whether that is possible.

        Once the old one has been told, the new one may have accepted before we hear of it, and may have taken
        connections: then it goes back as soon as this worker has been replaced.
        """
        if self.stage is Stage.OVER:
            return False
        if self.stage is Stage.STARTING or self.check:
            self._give_up(why, 1)
            return True
        if not self._aborted:
            self._aborted = why
            if self.stage is Stage.GIVING:
                self._acts.wait(ABORT_SECONDS)
        return True

    # ---- how it goes on

    def _next(self) -> None:
        self.stage = Stage.STARTING
        self._old = None
        self._acts.wait(READY_SECONDS)
        found = self._acts.start_new(self._index, self.count)
        if isinstance(found, str):
            self.new = None
            self._end(1, found)
        else:
            self.new = found

    def _done(self) -> None:
        self._acts.tell({"step": "replaced", "worker": self._index})
        if self.new is not None:
            self._acts.succeed(self.new)
        self._index += 1
        if self._aborted:
            self._end(1, self._aborted)
            return
        if self._index < (self.count if self._until is None else min(self._until, self.count)):
            self._next()
            return
        # There are fewer now: what the others have, these have too.
        index = self.count
        while (surplus := self._acts.old(index)) is not None:
            self._acts.drain(surplus)
            index += 1
        self._end(0, "; ".join(self._remarks))

    def _give_up(self, why: str, code: int) -> None:
        if self.new is not None:
            if self.stage is not Stage.MOVING:
                self._acts.kill(self.new)
            elif self._old is not None:
                self._acts.take_back(self._old, self.new)
        self._end(code, why)

    def _end(self, code: int, why: str) -> None:
        self.stage = Stage.OVER
        if self._died is not None:
            self._acts.restart(*self._died)  # nobody has followed it
        self._acts.over(code, why)
