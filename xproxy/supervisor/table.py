"""What a supervisor knows: its workers, and the listening sockets that they have copies of. Does nothing.

A socket is of a listener and of a worker's index: worker 1 of the next generation gets what worker 1 of this one has.
It is closed only when no worker wants it any more, as closing resets whoever waits in its queue.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from xproxy.supervisor.sockets import Place

S = TypeVar("S")
"""A socket; nothing here uses it."""


MOST_WORKERS: Final = 256
"""Of one generation; a host has fewer cores."""


class Phase(enum.Enum):
    """How far a worker is."""

    STARTING = "starting"
    """It reads its configuration and opens its listeners."""
    PREPARED = "prepared"
    """It could accept, and has not been told to."""
    SERVING = "serving"
    LEAVING = "leaving"
    """It accepts no more, and ends when what it serves has ended."""


class Command(NamedTuple):
    """How a worker is started."""

    executable: str
    arguments: tuple[str, ...]
    """All of them, with the name of the program."""
    environment: tuple[tuple[str, str], ...] = ()
    """What it has beside, or instead of, the supervisor's own."""
    absent: tuple[str, ...] = ()
    """Names that it does not have of the supervisor's own."""

    def environment_of(self, own: dict[str, str]) -> dict[str, str]:
        """Return all of it."""
        kept = {name: value for name, value in own.items() if name not in self.absent}
        return {**kept, **dict(self.environment)}


class Key(NamedTuple):
    """A listener as sockets are found again: by place; where the port may be any, by name too."""

    name: str
    place: Place

    @classmethod
    def of(cls, name: str, place: Place) -> Key:
        """Return the key of a listener. Two that ask for any free port are two."""
        return cls(name if place.port == 0 and not place.is_unix else "", place)


class Slot(Generic[S]):
    """One listening socket."""

    __slots__ = ("activated", "holders", "socket")

    def __init__(self, socket: S, *, activated: bool = False) -> None:
        self.socket: Final = socket
        self.holders: Final[set[int]] = set()
        """Workers that have a copy."""
        self.activated: Final = activated
        """Whoever started us has opened it, and keeps it: its path is not ours to remove."""


class Worker:
    """One process."""

    __slots__ = (
        "apart",
        "count",
        "foreign",
        "generation",
        "gives",
        "id",
        "index",
        "phase",
        "pid",
        "said_hello",
        "serving",
        "since",
        "unused",
        "why",
    )

    def __init__(self, id_: int, index: int, generation: int, count: int) -> None:
        self.id: Final = id_
        self.index: Final = index
        self.generation: Final = generation
        self.count = count
        """How many workers its generation has; 0: it is the first, and has not said it yet."""
        self.phase = Phase.STARTING
        self.pid = 0
        self.apart = False
        """It has been told the counters of another, which goes on: a rehearsal, or one that was taken back."""
        self.foreign = False
        """It is no child of ours, and its pid perhaps none here: it ends when its control socket does."""
        self.said_hello = False
        self.gives = False
        """Another one has taken its place, and gets what it has left as that becomes movable."""
        self.serving: dict[str, int] = {}
        """Connections that it has left, by protocol, as far as it has said."""
        self.since = 0.0
        """When it was started, on the monotonic clock."""
        self.unused = False
        """It was told to end before it had accepted anybody: its exit code says nothing about the proxy."""
        self.why = ""
        """What it gave as the reason for its end, before it ended."""

    def __str__(self) -> str:
        return f"worker {self.index} of generation {self.generation} (pid {self.pid})"


class Table(Generic[S]):
    """All of them."""

    def __init__(self) -> None:
        self.workers: Final[dict[int, Worker]] = {}
        self.slots: Final[dict[tuple[Key, int], Slot[S]]] = {}
        self.waiting: Final[dict[str, Slot[S]]] = {}
        """Sockets that came with the start, by name or place, until a listener wants them."""
        self.next = 1
        """The id of the next worker; none is used twice."""

    # ---- workers

    def add(self, index: int, generation: int, count: int) -> Worker:
        """Return a new worker."""
        worker = Worker(self.next, index, generation, count)
        self.next += 1
        self.workers[worker.id] = worker
        return worker

    def of_pid(self, pid: int) -> Worker | None:
        return next((one for one in self.workers.values() if one.pid == pid), None)

    def of(self, generation: int) -> list[Worker]:
        """Return the workers of a generation, by index."""
        found = (one for one in self.workers.values() if one.generation == generation)
        return sorted(found, key=lambda one: (one.index, one.id))

    def generations(self) -> list[int]:
        """Return those that still have workers, oldest first."""
        return sorted({one.generation for one in self.workers.values()})

    def serving(self) -> Iterator[Worker]:
        """Give those that accept, or are about to."""
        for worker in list(self.workers.values()):
            if worker.phase is not Phase.LEAVING:
                yield worker

    def all_prepared(self, generation: int) -> bool:
        """Say whether every worker of a generation that is being started is there, and could accept."""
        found = self.of(generation)
        return (
            bool(found)
            and len(found) == found[0].count
            and all(one.phase is Phase.PREPARED for one in found)
        )

    def remove(self, worker: Worker) -> None:
        """Forget one that has ended. The sockets that it had stay open: their queues are its successor's."""
        del self.workers[worker.id]
        for slot in self.slots.values():
            slot.holders.discard(worker.id)

    # ---- sockets

    def lacking(self, key: Key, count: int, *, single: bool) -> list[int]:
        """Return the indices for which a listener has no socket yet, all of which are opened before one accepts.

        ``single``: there is one socket for all workers, as of a Unix path, which cannot have two.
        """
        wanted = range(1 if single else max(count, 1))
        return [index for index in wanted if (key, index) not in self.slots]

    def share(self, key: Key, worker: Worker, *, single: bool) -> list[Slot[S]]:
        """Return the sockets that a worker gets of a listener, and note that it has them.

        Its own comes first; where there were more workers before, those of indices that nobody has any more are dealt
        out among all, as what waits in their queues has to be served.
        """
        count = 1 if single else max(worker.count, 1)
        own = 0 if single else worker.index
        indices = sorted(index for found, index in self.slots if found == key)
        mine = [index for index in indices if index == own or (index >= count and not single)]
        mine = [index for index in mine if index == own or index % count == own]
        mine.sort(key=lambda index: index != own)
        slots = [self.slots[key, index] for index in mine]
        for slot in slots:
            slot.holders.add(worker.id)
        return slots

    def release(self, key: Key, worker: Worker) -> tuple[list[Slot[S]], bool]:
        """Take a listener from a worker. Returns the sockets nobody has now, and whether its queue is this one's.

        The last one who has a socket serves what waits in its queue before it closes its copy.
        """
        closing: list[Slot[S]] = []
        last = True
        for found, index in list(self.slots):
            slot = self.slots[found, index]
            if found != key or worker.id not in slot.holders:
                continue
            slot.holders.discard(worker.id)
            if slot.holders:
                last = False
            else:
                closing.append(self.slots.pop((found, index)))
        return closing, last

    def unwanted(self) -> list[tuple[Key, Slot[S]]]:
        """Take out, and return, the sockets that no worker has a copy of."""
        return self._take(where for where, slot in self.slots.items() if not slot.holders)

    def take_all(self) -> list[tuple[Key, Slot[S]]]:
        """Take out, and return, the sockets of all listeners."""
        return self._take(self.slots)

    def _take(self, found: Iterable[tuple[Key, int]]) -> list[tuple[Key, Slot[S]]]:
        return [(where[0], self.slots.pop(where)) for where in list(found)]

    def activate(self, name: str, place: Place) -> Slot[S] | None:
        """Take a socket that came with the start for a listener: by the listener's name, else by its place."""
        for known in (name, str(place)):
            if known in self.waiting:
                slot = self.waiting[known]
                for other in [k for k, v in self.waiting.items() if v is slot]:
                    del self.waiting[other]
                return slot
        return None


def summary(workers: Sequence[Worker]) -> list[dict[str, object]]:
    """Return what may be told of workers, as plain values."""
    return [
        {
            "generation": one.generation,
            "worker": one.index,
            "pid": one.pid,
            "phase": one.phase.value,
            "serving": one.serving,
        }
        for one in sorted(workers, key=lambda one: (one.generation, one.index, one.id))
    ]
