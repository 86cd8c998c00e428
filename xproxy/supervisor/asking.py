"""What a worker asks all the others: passed to them, and their answers back, unread and without waiting.

An answer is a descriptor: however long it is, nothing of it is held here. Who asks sets the deadline.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from xproxy.supervisor.link import Link
from xproxy.supervisor.listeners import Sockets
from xproxy.supervisor.loop import Timer
from xproxy.supervisor.messages import number, text
from xproxy.supervisor.table import Phase, Worker

MOST_UNDER_WAY: Final = 64
"""Questions of all workers together; whoever asks one more is told so."""
MOST_UNANSWERED: Final = 16
"""Questions of one worker; it is asked no more until it has answered one, and counts as silent."""
MOST_TEXT: Final = 256
"""Characters of a question."""
SECONDS: Final = 2.0
"""After which a question is forgotten; whoever asked has given up before."""


class Timers(Protocol):
    """A Loop as this sees it."""

    def after(self, seconds: float, call: Callable[[], object]) -> Timer: ...


class _Question:
    """One that is under way."""

    __slots__ = ("expiry", "id", "of", "waits_for")

    def __init__(self, of: Worker, id_: int, waits_for: set[int], expiry: Timer) -> None:
        self.of: Final = of
        self.id: Final = id_
        self.waits_for: Final = waits_for
        """Workers, by id."""
        self.expiry: Final = expiry


class Asking:
    """All questions of the workers of one supervisor."""

    def __init__(
        self, timers: Timers, table: Sockets, links: Mapping[int, Link], first: int = 1
    ) -> None:
        """``links``: by worker. ``first``: the number of the first question."""
        self._timers = timers
        self._table = table
        self._links = links
        self._numbers = itertools.count(first)
        self._questions: dict[int, _Question] = {}
        self._unanswered: dict[int, set[int]] = {}
        """By worker: what it was asked, however long ago."""

    def ask(self, worker: Worker, message: Mapping[str, object]) -> None:
        """Pass a question on, and tell who asks of whom there will be answers. Raises ValueError."""
        id_, what = number(message, "id"), text(message, "what")
        if len(what) > MOST_TEXT:
            raise ValueError(f"a question of {len(what)} characters, the limit is {MOST_TEXT}")
        if len(self._questions) >= MOST_UNDER_WAY:
            self._say(worker, {"kind": "others", "id": id_, "busy": True})
            return
        others = self._others(worker)
        able = [one for one in others if len(self._unanswered.get(one.id, ())) < MOST_UNANSWERED]
        self._say(
            worker,
            {
                "kind": "others",
                "id": id_,
                "of": [[one.generation, one.index] for one in others],
                "silent": [[one.generation, one.index] for one in others if one not in able],
            },
        )
        if not able:
            return
        asked = next(self._numbers)
        expiry = self._timers.after(SECONDS, lambda: self._questions.pop(asked, None))
        self._questions[asked] = _Question(worker, id_, {one.id for one in able}, expiry)
        for one in able:
            self._unanswered.setdefault(one.id, set()).add(asked)
            self._say(one, {"kind": "asked", "ask": asked, "what": what})

    def told(
        self, worker: Worker, message: Mapping[str, object], descriptors: Sequence[int]
    ) -> None:
        """Pass an answer on; the descriptors stay the caller's. One that nobody waits for is dropped.

        Raises ValueError.
        """
        asked = number(message, "ask")
        length = number(message, "bytes", 0)
        unanswered = self._unanswered.get(worker.id, set())
        if asked not in unanswered:
            return
        unanswered.discard(asked)
        self._answered(asked, worker, length, descriptors[:1])

    def ended(self, worker: Worker) -> None:
        """It asks and answers no more."""
        for asked, question in list(self._questions.items()):
            if question.of is worker:
                self._forget(asked)
        for asked in self._unanswered.pop(worker.id, set()):
            self._answered(asked, worker, 0, ())

    def _answered(
        self, asked: int, worker: Worker, length: int, descriptors: Sequence[int]
    ) -> None:
        question = self._questions.get(asked)
        if question is None:
            return
        question.waits_for.discard(worker.id)
        message = {
            "kind": "told",
            "id": question.id,
            "of": [worker.generation, worker.index],
            "bytes": length,
        }
        self._say(question.of, message, descriptors)
        if not question.waits_for:
            self._forget(asked)

    def _forget(self, asked: int) -> None:
        question = self._questions.pop(asked, None)
        if question is not None:
            question.expiry.cancel()

    def _others(self, worker: Worker) -> list[Worker]:
        # One that starts has counted nothing, and the numbers of one that is apart are shown by another.
        found = [
            one
            for one in self._table.workers.values()
            if one is not worker and one.phase is not Phase.STARTING and not one.apart
        ]
        return sorted(found, key=lambda one: (one.generation, one.index, one.id))

    def _say(
        self, worker: Worker, message: Mapping[str, object], descriptors: Sequence[int] = ()
    ) -> None:
        link = self._links.get(worker.id)
        if link is None:
            return
        try:
            link.say(message, descriptors)
        except OSError:
            # No descriptor was left for a copy, to be sent later: an answer that does not come is shown as such.
            return
