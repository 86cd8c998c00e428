"""Many upgrades in a row under a load of all kinds at once, with long streams: nothing lost, nothing grown."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import attrs

from bench.processes import Failed
from bench.takeover.bulk import Transferred
from bench.takeover.bulk_beside import MARGIN_SECONDS, streaming, transfer
from bench.takeover.kinds import KINDS
from bench.takeover.loading import loading
from bench.takeover.processes import Watch, watching
from bench.takeover.records import Run
from bench.takeover.speakers.echo import bytes_of
from bench.takeover.stage import Stage
from bench.takeover.steady import Counts, Latencies, counts, latencies
from bench.takeover.upgrade import Upgraded, upgrade

STREAMS = tuple(
    (kind, way) for kind in ("http1", "tls-http1", "http2", "l4") for way in ("down", "up")
)
SETTLED = 10
"""Upgrades after which nothing may grow any more."""
_GROWTH = 1.3
"""What CPU per request may be of what it was after ``SETTLED`` upgrades, on a machine with others on it."""
_GROWTH_BYTES = 8 << 20
_GROWTH_DESCRIPTORS = 8
_LINES = "lines of the access log"
_SETTLE_SECONDS = 30.0


@attrs.frozen(kw_only=True)
class Plan:
    """A run."""

    upgrades: int
    connections: int
    """Of each kind."""
    rate: float
    """Requests a second, of all kinds together."""
    between: float
    """Seconds after an old process has gone until the next upgrade."""
    stream_bytes: int
    stream_pace: float
    """Bytes a second of each long stream."""
    command: str
    patience: float


@attrs.frozen(kw_only=True)
class Generation:
    """The proxy in the pause after an upgrade."""

    rss_bytes: int
    descriptors: int
    cpu_per_request: float
    """Seconds, long streams included: they are the same all the time."""


@attrs.frozen(kw_only=True)
class Soak:
    """What came of it."""

    upgrades: tuple[Upgraded, ...]
    generations: tuple[Generation, ...]
    connections: int
    alive: int
    counts: Counts
    latencies: Latencies
    streams: tuple[Transferred, ...]
    uncounted: Mapping[str, tuple[int, int]]
    """Counters of the proxy that are not what its clients counted: theirs, and what is right."""
    complaints: Mapping[str, int]
    errors: tuple[str, ...]
    """Lines of the proxy's log."""
    peak_bytes: int

    @property
    def faults(self) -> list[str]:
        """Say what should not be."""
        wrong = self.counts
        found = [
            f"{self.alive} of {self.connections} connections alive"
            if self.alive != self.connections
            else "",
            f"{wrong.failed} requests failed" if wrong.failed else "",
            f"{wrong.mismatched} requests answered wrongly" if wrong.mismatched else "",
            f"{wrong.unsent} requests could not be sent" if wrong.unsent else "",
            *(f"{s.kind} {s.way}: {s.error}" for s in self.streams if s.error),
            *(f"{name} is {told}, not {right}" for name, (told, right) in self.uncounted.items()),
            *(f"{times} × {what}" for what, times in self.complaints.items()),
            *(f"in the proxy's log: {line}" for line in self.errors),
            *self._grown(),
        ]
        stayed = sum(one.gone is None for one in self.upgrades)
        found.append(f"{stayed} old processes stayed" if stayed else "")
        return [fault for fault in found if fault]

    def _grown(self) -> list[str]:
        """Say what has grown since it should have been settled; nothing can be said of fewer upgrades."""
        settled, last = self.generations[SETTLED - 5 : SETTLED + 5], self.generations[-10:]
        if len(self.generations) < 2 * SETTLED:
            return []
        found = []
        for name, factor, more in (
            ("rss_bytes", 1.0, _GROWTH_BYTES),
            ("descriptors", 1.0, _GROWTH_DESCRIPTORS),
            ("cpu_per_request", _GROWTH, 0),
        ):
            before = statistics.median(getattr(one, name) for one in settled)
            after = statistics.median(getattr(one, name) for one in last)
            if after > before * factor + more:
                found.append(f"{name} was {before:g} and is {after:g}")
        return found


@attrs.frozen
class _Pause:
    begin: float
    end: float
    pids: tuple[int, ...]


def soak(stage: Stage, plan: Plan, say: Callable[[str], None]) -> Soak:
    """Run it; ``say`` is told how far it is.

    Raises:
        Failed: the load could not begin, or an upgrade failed.
    """
    kinds = [(kind, plan.connections) for kind in KINDS]
    transfers = [
        transfer(stage, kind, way, size=plan.stream_bytes, pace=plan.stream_pace)
        for kind, way in STREAMS
    ]
    upgrades, pauses = [], []
    with (
        watching(stage.pid) as watch,
        loading(stage, kinds, plan.rate) as load,
        streaming(stage, transfers, repeat=True) as streams,
    ):
        time.sleep(plan.between)
        for number in range(plan.upgrades):
            upgrades.append(upgrade(stage, plan.command, plan.patience, load.turn))
            begin = time.monotonic()
            time.sleep(plan.between)
            pauses.append(_Pause(begin, time.monotonic(), _serving(stage)))
            say(f"{number + 1} of {plan.upgrades} upgrades")
        # Each connection must have had its turn since.
        time.sleep(2 * len(kinds) * plan.connections / plan.rate)
        run = load.stop()
        found = streams.results(MARGIN_SECONDS)
        wrong = uncounted(stage, run, found, sum(one.turns for one in upgrades))
    return Soak(
        upgrades=tuple(upgrades),
        generations=tuple(_generations(pauses, run, watch)),
        connections=len(run.opened),
        alive=len(
            {
                r.connection
                for r in run.requests
                if r.outcome == "good" and r.sent > upgrades[-1].over
            }
        ),
        counts=counts(run.requests),
        latencies=latencies(run.requests),
        streams=tuple(found),
        uncounted=wrong,
        complaints=run.complaints,
        errors=tuple(stage.errors()),
        peak_bytes=watch.peak_bytes(),
    )


def _serving(stage: Stage) -> tuple[int, ...]:
    return tuple(stage.workers()) or (stage.pid,)


def _generations(pauses: Sequence[_Pause], run: Run, watch: Watch) -> list[Generation]:
    found = []
    for pause in pauses:
        figures = watch.of(pause.pids, pause.begin, pause.end)
        answered = sum(pause.begin <= r.answered < pause.end for r in run.requests)
        found.append(
            Generation(
                rss_bytes=figures.rss_bytes,
                descriptors=figures.descriptors,
                cpu_per_request=figures.cpu_seconds / max(1, answered),
            )
        )
    return found


def expected(run: Run, streams: Sequence[Transferred], turns: int) -> dict[str, int]:
    """Return what the proxy must have counted; calls that last were begun anew ``turns`` times."""
    asked: Counter[str] = Counter()
    sent: Counter[int] = Counter()
    for request in run.requests:
        if request.sent:
            asked[run.opened[request.connection].kind] += 1
            sent[request.connection] += 1
    opened = Counter(one.kind for one in run.opened)
    lasting = opened["grpc-stream"] * (1 + turns)
    long = Counter("l4-bulk" if one.kind == "l4" else "edge" for one in streams)
    upstreams = {
        "http": ("http1", "http2", "tls-http1", "tls-http2", "tls12-http1"),
        "bolt": ("bolt", "tls-bolt"),
        "dubbo": ("dubbo",),
        "thrift": ("thrift",),
    }
    found = {
        f"cluster.{name}.statuses.ok": sum(asked[kind] for kind in kinds)
        for name, kinds in upstreams.items()
    }
    tls = sum(count for kind, count in opened.items() if KINDS[kind].tls)
    return {
        **found,
        "cluster.grpc.upstream_rq_total": asked["grpc"] + lasting,
        "cluster.websocket.upstream_rq_total": opened["websocket"],
        "cluster.l4.upstream_rq_total": opened["l4"],
        "cluster.bulk.statuses.ok": long["edge"],
        "cluster.bulk-raw.upstream_rq_total": long["l4-bulk"],
        "listener.edge.downstream_rq_total": sum(found.values())
        + asked["grpc"]
        + lasting
        + opened["websocket"]
        + long["edge"],
        "listener.edge.downstream_tls_handshakes": tls
        + sum(bool(KINDS[one.kind].tls) for one in streams),
        "listener.l4.downstream_cx_total": opened["l4"],
        "listener.l4.downstream_rx_bytes_total": sum(
            bytes_of(count)
            for connection, count in sent.items()
            if run.opened[connection].kind == "l4"
        ),
        "listener.l4-bulk.downstream_cx_total": long["l4-bulk"],
    }


def uncounted(
    stage: Stage, run: Run, streams: Sequence[Transferred], turns: int
) -> dict[str, tuple[int, int]]:
    """Return the counters that are wrong, once everybody has left."""
    right = expected(run, streams, turns)
    if stage.setting.access_log:
        right[_LINES] = right["listener.edge.downstream_rq_total"]
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        try:
            told = stage.stats()
            if _LINES in right:
                told[_LINES] = stage.logged()
        except Failed:
            told = {}
        wrong = {
            name: (told.get(name, 0), count)
            for name, count in right.items()
            if told.get(name, 0) != count
        }
        active = {
            name: (value, 0)
            for name, value in told.items()
            if value
            and name.endswith(("downstream_cx_active", "rq_active"))
            and not name.startswith("listener.(admin)")
        }
        ended = stage.process.popen.poll() is not None
        if (not wrong and not active) or ended or time.monotonic() > deadline:
            return {**wrong, **active}
        time.sleep(0.1)
