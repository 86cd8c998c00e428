"""Carrying out a row: everybody started, warmed, then measured in turn, round after round."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import attrs

from bench.lab import WARM_UP_SECONDS, Lab
from bench.measure import Sample, medians, ratios
from bench.processes import Failed
from bench.rows.row import Contender, Goal, Probe, Row
from bench.tools import Missing

OURS = "xproxy"


@attrs.frozen(kw_only=True)
class Standing:
    """How one contender did in a row."""

    name: str
    version: str
    samples: tuple[Sample, ...]
    """One a round."""

    @property
    def medians(self) -> dict[str, float]:
        return medians(self.samples)

    @property
    def errors(self) -> int:
        """Failed requests of all rounds."""
        return sum(sample.errors for sample in self.samples)

    @property
    def others_cpu(self) -> float:
        """The worst disturbance of all rounds, as a share of one CPU."""
        return max(sample.others_cpu for sample in self.samples)


@attrs.frozen(kw_only=True)
class Judged:
    """A goal and what became of it."""

    goal: Goal
    value: float
    met: bool


@attrs.frozen(kw_only=True)
class Outcome:
    """All that a row yielded."""

    row: Row
    standings: tuple[Standing, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    """Who was not measured, and what the machine lacks for it."""
    failed: tuple[tuple[str, str], ...] = ()
    """Who was started and did not do its work, and what happened."""

    def standing(self, name: str) -> Standing | None:
        return next((s for s in self.standings if s.name == name), None)

    @property
    def ratios(self) -> dict[str, dict[str, float]]:
        """xproxy's figures as multiples of each other contender's: by contender, then by figure."""
        ours = self.standing(OURS)
        if ours is None:
            return {}
        return {
            peer.name: ratios(ours.samples, peer.samples)
            for peer in self.standings
            if peer.name != OURS
        }

    @property
    def judged(self) -> tuple[Judged, ...]:
        """The goals that can be judged with who was measured."""
        ours = self.standing(OURS)
        if ours is None:
            return ()
        found = []
        for goal in self.row.goals:
            compared = ours.medians if goal.peer is None else self.ratios.get(goal.peer, {})
            value = compared.get(goal.figure)
            if value is not None:
                found.append(Judged(goal=goal, value=value, met=goal.met(value)))
        return tuple(found)


@attrs.define(eq=False)
class _Entrant:
    contender: Contender
    version: str
    probe: Probe
    samples: list[Sample] = attrs.field(factory=list)


def hold(row: Row, lab: Lab, say: Callable[[str], None]) -> Outcome:
    """Measure everybody of a row who can be on this machine; ``say`` is told how far it is."""
    skipped: list[tuple[str, str]] = []
    failed: list[tuple[str, str]] = []
    entrants: list[_Entrant] = []
    with ExitStack() as stack:
        try:
            upstream = stack.enter_context(row.upstream(lab))
        except Missing as exc:
            return Outcome(row=row, skipped=((row.key, str(exc)),))
        except Failed as exc:
            return Outcome(row=row, failed=((row.key, str(exc)),))
        for contender in row.contenders:
            say(f"{row.key}: {contender.name} starts")
            try:
                version = contender.version()
                probe = stack.enter_context(contender.start(lab, upstream))
                if row.warm_up:
                    probe(WARM_UP_SECONDS)
            except Missing as exc:
                skipped.append((contender.name, str(exc)))
            except Failed as exc:
                failed.append((contender.name, str(exc)))
            else:
                entrants.append(_Entrant(contender, version, probe))
        for number in range(1, lab.rounds + 1):
            # Every second round the other way round: nobody always has the better moment.
            for entrant in list(entrants if number % 2 else reversed(entrants)):
                say(f"{row.key}: round {number} of {lab.rounds}, {entrant.contender.name}")
                try:
                    entrant.samples.append(entrant.probe(lab.seconds))
                except Failed as exc:
                    failed.append((entrant.contender.name, str(exc)))
                    entrants.remove(entrant)
    return Outcome(
        row=row,
        standings=tuple(
            Standing(name=e.contender.name, version=e.version, samples=tuple(e.samples))
            for e in entrants
        ),
        skipped=tuple(skipped),
        failed=tuple(failed),
    )
