"""What a load saw, request by request, and how it is handed from its process to the one that judges it."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import attrs
import cattrs

Outcome = Literal["good", "failed", "mismatch", "unanswered", "unsent"]
OUTCOMES: Sequence[Outcome] = ("good", "failed", "mismatch", "unanswered", "unsent")
"""``failed``: an error, or the connection closed before the answer; ``unsent``: due when it was closed already."""


@attrs.frozen(kw_only=True)
class Opened:
    """One connection of the load."""

    kind: str
    local_port: int
    closed_at: float
    """0: it was open at the end."""
    why: str


@attrs.frozen(kw_only=True)
class Request:
    """One request. Times are of ``time.monotonic``."""

    connection: int
    due: float
    sent: float
    """0: never."""
    answered: float
    """0: never."""
    outcome: Outcome

    @property
    def latency(self) -> float:
        """Seconds from when it was due, so that a stall is felt by all that were due in it."""
        return self.answered - self.due


@attrs.define(eq=False)
class Log:
    """Grows while the load runs: numbers only, so that noting one costs little and no garbage."""

    connection: array[int] = attrs.field(factory=lambda: array("i"))
    due: array[float] = attrs.field(factory=lambda: array("d"))
    sent: array[float] = attrs.field(factory=lambda: array("d"))
    answered: array[float] = attrs.field(factory=lambda: array("d"))
    outcome: array[int] = attrs.field(factory=lambda: array("b"))

    def note(self, connection: int, due: float, sent: float, answered: float, outcome: int) -> None:
        self.connection.append(connection)
        self.due.append(due)
        self.sent.append(sent)
        self.answered.append(answered)
        self.outcome.append(outcome)


@attrs.frozen(kw_only=True)
class Run:
    """All of a load."""

    opened: tuple[Opened, ...]
    requests: tuple[Request, ...]
    complaints: Mapping[str, int]
    """What was wrong, in words, and how often."""
    cpu_seconds: float
    """Of the load's process while requests were due."""
    late_p99: float
    """By how many seconds the load's process itself was late with requests …"""
    late_max: float
    """… and at most: what is a proxy's stall must be more."""
    began: float
    ended: float

    def write(self, path: Path, log: Log) -> None:
        """Put it into a file, with the requests of ``log`` in columns."""
        document = {
            "opened": [attrs.asdict(one) for one in self.opened],
            "complaints": self.complaints,
            "cpu_seconds": self.cpu_seconds,
            "late_p99": self.late_p99,
            "late_max": self.late_max,
            "began": self.began,
            "ended": self.ended,
            **{name: getattr(log, name).tolist() for name in _COLUMNS},
        }
        path.write_text(json.dumps(document))


_COLUMNS = ("connection", "due", "sent", "answered", "outcome")


def read(path: Path) -> Run:
    """Return what ``Run.write`` wrote."""
    document = json.loads(path.read_text())
    rows = zip(*(document[name] for name in _COLUMNS), strict=True)
    requests = tuple(
        Request(
            connection=connection, due=due, sent=sent, answered=answered, outcome=OUTCOMES[outcome]
        )
        for connection, due, sent, answered, outcome in rows
    )
    return Run(
        opened=tuple(cattrs.structure(document["opened"], list[Opened])),
        requests=requests,
        complaints=document["complaints"],
        cpu_seconds=document["cpu_seconds"],
        late_p99=document["late_p99"],
        late_max=document["late_max"],
        began=document["began"],
        ended=document["ended"],
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that so many percent of the others do not exceed; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
