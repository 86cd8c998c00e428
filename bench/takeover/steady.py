"""A steady load of one kind, with one upgrade in the middle of it."""

from __future__ import annotations

import time
from collections.abc import Sequence

import attrs

from bench.takeover.load import WARM_UP_SECONDS
from bench.takeover.loading import loading
from bench.takeover.processes import Figures, Watch, watching
from bench.takeover.records import Request, Run, percentile
from bench.takeover.stage import Stage
from bench.takeover.upgrade import Upgraded, upgrade

STALL_SECONDS = (0.05, 0.25)
"""A request that takes longer was stalled: the goal, and the bound."""
_AFTER_SECONDS = 0.5
"""What is begun so soon after the old process has gone still belongs to the upgrade."""


@attrs.frozen(kw_only=True)
class Plan:
    """A run."""

    connections: int
    rate: float
    """Requests a second, of all connections together."""
    before: float
    """Seconds of load until the upgrade begins …"""
    after: float
    """… and after the last old process has gone."""
    command: str
    patience: float
    """Seconds that the old process may take to go, after the command."""
    slack: float = 0.0
    """Seconds that the upstreams take for an answer: no stall."""


@attrs.frozen(kw_only=True)
class Latencies:
    """Of some requests, in seconds."""

    count: int
    p50: float
    p99: float
    most: float
    stalled: tuple[int, ...]
    """How many took longer than each of ``STALL_SECONDS``."""


@attrs.frozen(kw_only=True)
class Counts:
    """Of all requests of a run."""

    requests: int
    failed: int
    """Answered with an error or not at all, or unanswered when their connection was closed."""
    mismatched: int
    unsent: int
    """Due on a connection that was closed by then."""


@attrs.frozen(kw_only=True)
class Steady:
    """What came of a run."""

    kind: str
    connections: int
    alive: int
    """Connections on which a request was answered that was sent after the last old process had gone."""
    counts: Counts
    before: Latencies
    """Of the requests before the upgrade: what the same load takes without one."""
    during: Latencies
    """Of those that were due from the upgrade until half a second after the last old process had gone."""
    upgraded: Upgraded
    supervisor: Figures
    old: Figures
    new: Figures
    peak_bytes: int
    """The most that all processes of the proxy held together."""
    late_p99: float
    """By how many seconds the load itself was late."""
    late_max: float
    load_cpu: float
    """Share of a processor that the load took."""
    complaints: dict[str, int]
    """What clients complained of, and how often."""
    errors: tuple[str, ...]
    """Lines of the proxy's log."""
    points: tuple[tuple[float, float], ...]
    """Seconds since the upgrade began, and latency, of each answered request: for the plot."""

    @property
    def good(self) -> bool:
        """Whether no client can have told: every connection alive, every request answered as it should be."""
        wrong = self.counts.failed + self.counts.mismatched + self.counts.unsent
        bound = self.during.stalled[-1]
        return self.alive == self.connections and not wrong and not bound and not self.errors


def latencies(requests: Sequence[Request], slack: float = 0.0) -> Latencies:
    """Return the figures of those that were answered; what took ``slack`` more than allowed was not stalled."""
    taken = [r.latency for r in requests if r.answered]
    return Latencies(
        count=len(taken),
        p50=percentile(taken, 50),
        p99=percentile(taken, 99),
        most=max(taken, default=0.0),
        stalled=tuple(sum(t > bound + slack for t in taken) for bound in STALL_SECONDS),
    )


def counts(requests: Sequence[Request]) -> Counts:
    """Count them by what became of them."""
    outcomes = [r.outcome for r in requests]
    return Counts(
        requests=len(outcomes),
        failed=outcomes.count("failed") + outcomes.count("unanswered"),
        mismatched=outcomes.count("mismatch"),
        unsent=outcomes.count("unsent"),
    )


def alive(run: Run, since: float) -> int:
    """Count the connections that answered a request sent after ``since``; no line of the load is opened twice."""
    found = {r.connection for r in run.requests if r.outcome == "good" and r.sent > since}
    return len(found)


def judged(
    kind: str,
    plan: Plan,
    run: Run,
    upgraded: Upgraded,
    watch: Watch,
    errors: Sequence[str] = (),
) -> Steady:
    """Put together what was seen."""
    begun, over = run.began + WARM_UP_SECONDS, upgraded.over + _AFTER_SECONDS
    before = [r for r in run.requests if begun <= r.due < upgraded.began]
    during = [r for r in run.requests if upgraded.began <= r.due < over]
    pids = {s.pid for s in watch.samples}
    new = tuple(pids - set(upgraded.old) - {watch.root})
    return Steady(
        kind=kind,
        connections=plan.connections,
        alive=alive(run, upgraded.over) if upgraded.gone is not None else 0,
        counts=counts(run.requests),
        before=latencies(before, plan.slack),
        during=latencies(during, plan.slack),
        upgraded=upgraded,
        supervisor=watch.of([watch.root]),
        old=watch.of(upgraded.old, upgraded.began, upgraded.over),
        new=watch.of(new, upgraded.began, upgraded.over),
        peak_bytes=watch.peak_bytes(),
        late_p99=run.late_p99,
        late_max=run.late_max,
        load_cpu=run.cpu_seconds / max(1e-9, run.ended - run.began),
        complaints=dict(run.complaints),
        errors=tuple(errors),
        points=tuple(
            (r.due - upgraded.began, r.latency)
            for r in run.requests
            if r.answered and r.due > begun
        ),
    )


def steady(stage: Stage, kind: str, plan: Plan) -> Steady:
    """Run it.

    Raises:
        Failed: the load could not begin, or the command failed.
    """
    kinds = [(kind, plan.connections)]
    with watching(stage.pid) as watch, loading(stage, kinds, plan.rate) as load:
        time.sleep(plan.before)
        upgraded = upgrade(stage, plan.command, plan.patience, load.turn)
        # Each connection must have had its turn since.
        time.sleep(max(plan.after, 2 * plan.connections / plan.rate))
        run = load.stop()
    return judged(kind, plan, run, upgraded, watch, stage.errors())
