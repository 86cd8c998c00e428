"""What this worker asks all others of its proxy, of whatever generation, and what it answers them.

Questions and answers go by the supervisor, which passes them on. Whoever does not answer in time is named; nothing
here waits any longer than that.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeAlias

import attrs
import trio

from xproxy.supervisor.messages import flag, number
from xproxy.transport.channel import MAX_STATE_BYTES
from xproxy.transport.sealed import sealed, unsealed

PATIENCE: Final = 1.0
"""Seconds in which all have to answer."""
MOST_AT_ONCE: Final = 8
"""Questions of this worker under way; further ones wait for their turn, within ``PATIENCE``."""
MOST_ANSWERING: Final = 8
"""Questions of others that are being answered; further ones are answered with nothing."""

Say: TypeAlias = Callable[[Mapping[str, object], Sequence[int]], object]
"""Sends a message with descriptors, which stay the caller's. Never waits."""
Answer: TypeAlias = Callable[[str], Awaitable[bytes | None]]
"""Returns the answer to a question; None: it is not known here."""


@attrs.frozen(order=True)
class Process:
    """A worker, as it is named."""

    generation: int
    worker: int

    @property
    def labels(self) -> dict[str, str]:
        return {"generation": str(self.generation), "worker": str(self.worker)}

    def __str__(self) -> str:
        return f"generation={self.generation},worker={self.worker}"


@attrs.frozen
class Answers:
    """What came in time."""

    this: Process
    told: Mapping[Process, bytes] = attrs.field(factory=dict)
    """By who has told it, in order."""
    silent: Sequence[Process] = attrs.field(factory=list)
    """Those that have not answered, or had no answer; in order."""
    why: str = ""
    """The reason why nobody was asked, though there may be others."""

    @property
    def lone(self) -> bool:
        """There is no other worker."""
        return not (self.told or self.silent or self.why)


@attrs.define(eq=False)
class _Question:
    """One of ours."""

    others: list[Process] | None = None
    """None: it is not known yet."""
    busy: bool = False
    told: dict[Process, bytes] = attrs.field(factory=dict)
    silent: set[Process] = attrs.field(factory=set)
    complete: trio.Event = attrs.field(factory=trio.Event)

    def look(self) -> None:
        if self.busy or (
            self.others is not None and len(self.told) + len(self.silent) >= len(self.others)
        ):
            self.complete.set()


class Siblings:
    """The other workers, as one of them reaches them."""

    def __init__(self, this: Process, say: Say) -> None:
        self.this: Final = this
        self._say = say
        self._ids = itertools.count(1)
        self._questions: dict[int, _Question] = {}
        self._turns = trio.Semaphore(MOST_AT_ONCE)
        self._answering = 0
        self._lost = False

    async def ask(self, what: str) -> Answers:
        """Ask all others. Takes ``PATIENCE`` at most."""
        if self._lost:
            await trio.lowlevel.checkpoint()
            return Answers(self.this, why="the supervisor has ended")
        question = _Question()
        with trio.move_on_after(PATIENCE):
            async with self._turns:
                id_ = next(self._ids)
                self._questions[id_] = question
                try:
                    self._say({"kind": "ask", "id": id_, "what": what}, ())
                    await question.complete.wait()
                finally:
                    del self._questions[id_]
        if question.others is None:
            busy = "too much is being asked" if question.busy else "the supervisor does not answer"
            return Answers(self.this, why=busy)
        told = {one: question.told[one] for one in sorted(question.told)}
        silent = sorted(one for one in question.others if one not in told)
        return Answers(self.this, told, silent)

    def lose(self) -> None:
        """The supervisor has ended: nobody can be asked any more."""
        self._lost = True

    # ---- heard

    def heard(self, message: Mapping[str, object], found: Sequence[int]) -> None:
        """Take what the supervisor says of a question of ours; descriptors stay the caller's. Raises ValueError."""
        question = self._questions.get(number(message, "id"))
        if question is None:
            return  # it came too late
        if message["kind"] == "others":
            question.busy = flag(message, "busy")
            if not question.busy:
                question.others = _processes(message.get("of"))
                question.silent.update(_processes(message.get("silent")))
        else:
            [process] = _processes([message.get("of")])
            state = _state(found, number(message, "bytes", 0))
            if state is None:
                question.silent.add(process)
            else:
                question.told[process] = state
        question.look()

    async def answer(self, asked: int, what: str, answer: Answer | None) -> None:
        """Answer question ``asked`` of another worker: with nothing, if ``answer`` is None or too much is asked."""
        state: bytes | None = None
        if answer is not None and self._answering < MOST_ANSWERING:
            self._answering += 1
            try:
                state = await answer(what)
            finally:
                self._answering -= 1
        reply = {"kind": "told", "ask": asked}
        descriptor = _sealed(state)
        if state is None or descriptor is None:
            self._say(reply, ())
            return
        try:
            self._say({**reply, "bytes": len(state)}, [descriptor])
        finally:
            os.close(descriptor)


def _sealed(state: bytes | None) -> int | None:
    if state is None or len(state) > MAX_STATE_BYTES:
        return None
    try:
        return sealed(state)
    except OSError:
        return None  # whoever asked is told that there is no answer


def _state(found: Sequence[int], length: int) -> bytes | None:
    if not found or length > MAX_STATE_BYTES:
        return None
    return unsealed(found[0], length)


def _processes(found: object) -> list[Process]:
    if not isinstance(found, list):
        raise ValueError("processes are a list")
    processes = []
    for one in found:
        if not isinstance(one, list) or len(one) != 2 or not all(type(n) is int for n in one):
            raise ValueError("a process is a generation and a worker")
        processes.append(Process(*one))
    return processes
