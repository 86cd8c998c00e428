"""What is concluded of a killed worker, and newcomers."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from bench.takeover.killing import Killing, judged
from bench.takeover.newcomers import Visit, Visits, coming
from bench.takeover.records import Opened, Outcome, Request, Run
from bench.takeover.upgrade import Upgraded
from tests.process.product import eventually, refusing_port
from tests.process.upstreams import upstream

KILLED = 10.0
UPGRADED = Upgraded(began=20.0, told=21.0, let_go=21.0, turns=0, gone=22.0, old=(1, 2), said="")


def _killing(
    *, closed: dict[int, float], outcomes: dict[int, Outcome], visits: tuple[Visit, ...] = ()
) -> Killing:
    """Judge four connections, each asked once after the upgrade unless it was closed."""
    requests = tuple(
        Request(
            connection=number,
            due=23.0,
            sent=23.0,
            answered=23.1,
            outcome=outcomes.get(number, "unsent" if number in closed else "good"),
        )
        for number in range(4)
    )
    run = Run(
        opened=tuple(
            Opened(kind="http1", local_port=1, closed_at=closed.get(number, 0.0), why="")
            for number in range(4)
        ),
        requests=requests,
        complaints={},
        cpu_seconds=0.0,
        late_p99=0.0,
        late_max=0.0,
        began=0.0,
        ended=25.0,
    )
    return judged(2, KILLED, 0.5, Visits(list(visits)), run, UPGRADED)


GOOD: dict[str, Any] = {"closed": {0: 10.01, 1: 10.02}, "outcomes": {}}


def test_only_the_killed_ones_own_connections_may_end() -> None:
    found = _killing(**GOOD)
    assert (found.faults, found.lost, found.alive) == ([], 2, 2)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"closed": {0: 10.01, 1: 10.02, 2: 20.5}}, "lost without a kill"),
        ({"closed": {}}, "no connection was"),
        ({"closed": dict.fromkeys(range(4), 10.01)}, "every connection was"),
        ({"outcomes": {3: "failed"}}, "requests of other connections failed"),
        ({"visits": (Visit(10.5, 10.6, "reset"),)}, "newcomers were not served"),
        ({"visits": (Visit(9.0, 9.1, "reset"),)}, "newcomers were not served"),
    ],
)
def test_all_else_is_a_fault(wrong: dict[str, Any], said: str) -> None:
    faults = _killing(**{**GOOD, **wrong}).faults
    assert any(said in fault for fault in faults), faults


def test_a_newcomer_of_the_killed_one_may_fail() -> None:
    visits = (Visit(9.99, 10.01, "reset"), Visit(11.0, 11.1, ""))
    assert _killing(**GOOD, visits=visits).faults == []


def test_a_late_replacement_is_a_fault() -> None:
    late = ["the killed worker's newcomers were not served within 2 s"]
    assert attrs.evolve(_killing(**GOOD), restarted_after=None).faults == late
    assert _killing(**GOOD, visits=(Visit(10.5, 12.6, ""),)).faults == late


@pytest.mark.slow
def test_newcomers_are_answered_or_say_why_not() -> None:
    with upstream("web") as port, coming(port) as visits:
        eventually(lambda: len(visits.found) >= 4, "newcomers came")
    assert not [visit.error for visit in visits.found if visit.error]
    assert visits.longest > 0.0
    with coming(refusing_port()) as visits:
        eventually(lambda: bool(visits.found), "a newcomer came")
    assert "ConnectionRefused" in visits.found[0].error
