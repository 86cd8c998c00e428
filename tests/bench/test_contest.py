from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from bench.contest import Outcome, hold
from bench.lab import Lab, affordable_connections
from bench.measure import Sample
from bench.processes import Failed
from bench.rows.row import Contender, Figure, Goal, Probe, Row
from bench.tools import Missing

_COST = Figure(key="cost", label="cost", unit="µs")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(
        work=tmp_path,
        python=Path("python"),
        tree=Path("tree"),
        proxy_cpu=0,
        load_cpu=1,
        seconds=2,
        rounds=3,
        idle_connections=10,
    )


def contender(name: str, cost: float, order: list[str]) -> Contender:
    def probe(seconds: int) -> Sample:
        order.append(f"{name} {seconds}")
        return Sample(values={"cost": cost}, errors=0, others_cpu=0.0)

    @contextmanager
    def start(lab: Lab, upstream: int) -> Iterator[Probe]:
        yield probe
        order.append(f"{name} ends")

    return Contender(name=name, version=lambda: "1", start=start)


def refusing(name: str, error: Exception) -> Contender:
    def start(lab: Lab, upstream: int) -> AbstractContextManager[Probe]:
        raise error

    return Contender(name=name, version=lambda: "1", start=start)


@contextmanager
def upstream(lab: Lab) -> Iterator[int]:
    yield 1


def row(*contenders: Contender, goals: tuple[Goal, ...] = ()) -> Row:
    return Row(
        key="row",
        title="A row",
        figures=(_COST,),
        upstream=upstream,
        contenders=contenders,
        goals=goals,
    )


def run(row: Row, lab: Lab) -> Outcome:
    return hold(row, lab, lambda _text: None)


def test_rounds_interleave_after_a_warm_up(lab: Lab) -> None:
    order: list[str] = []

    run(row(contender("peer", 2, order), contender("xproxy", 1, order)), lab)

    assert order[:2] == ["peer 1", "xproxy 1"]
    first, second = ["peer 2", "xproxy 2"], ["xproxy 2", "peer 2"]
    assert order[2:8] == [*first, *second, *first]
    assert order[8:] == ["xproxy ends", "peer ends"]


def test_what_is_missing_is_skipped_and_what_breaks_has_failed(lab: Lab) -> None:
    order: list[str] = []

    outcome = run(
        row(
            refusing("peer", Missing("peer is not installed")),
            refusing("xproxy", Failed("xproxy ended")),
            contender("other", 1, order),
        ),
        lab,
    )

    assert outcome.skipped == (("peer", "peer is not installed"),)
    assert outcome.failed == (("xproxy", "xproxy ended"),)
    assert [standing.name for standing in outcome.standings] == ["other"]
    assert outcome.ratios == {}
    assert outcome.judged == ()


def test_who_fails_in_a_round_is_out_and_the_others_go_on(lab: Lab) -> None:
    order: list[str] = []
    calls: list[int] = []

    def probe(seconds: int) -> Sample:
        calls.append(seconds)
        if len(calls) == 3:
            raise Failed("peer answered nothing")
        return Sample(values={"cost": 1.0}, errors=0, others_cpu=0.0)

    @contextmanager
    def start(lab: Lab, upstream: int) -> Iterator[Probe]:
        yield probe

    breaking = Contender(name="peer", version=lambda: "1", start=start)

    outcome = run(row(breaking, contender("xproxy", 1, order)), lab)

    assert outcome.failed == (("peer", "peer answered nothing"),)
    assert order.count("xproxy 2") == 3


def test_goals_are_judged_against_a_peer_and_alone(lab: Lab) -> None:
    order: list[str] = []
    goals = (
        Goal(figure="cost", peer="peer", bound=0.9),
        Goal(figure="cost", bound=10.0, better="higher"),
        Goal(figure="cost", peer="absent", bound=1.0),
    )

    outcome = run(
        row(contender("peer", 10, order), contender("xproxy", 8, order), goals=goals), lab
    )

    assert [(judged.value, judged.met) for judged in outcome.judged] == [(0.8, True), (8, False)]


@pytest.mark.parametrize(("limit", "count"), [(20_000, 10_000), (4_096, 3_696), (256, 0)])
def test_idle_connections_fit_the_file_limit(limit: int, count: int) -> None:
    assert affordable_connections(10_000, limit) == count
