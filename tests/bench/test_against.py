from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.against import WORSE, against, compared, interpreter
from bench.command import main
from bench.contest import hold
from bench.lab import Lab
from bench.measure import Sample
from bench.rows.row import Contender, Figure, Probe, Row
from bench.tools import Missing


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return what looks like a checkout with an environment."""
    for name in ("xproxy/__main__.py", ".venv/bin/python"):
        path = tmp_path / "before" / name
        path.parent.mkdir(parents=True)
        path.touch()
    return tmp_path / "before"


@contextmanager
def no_upstream(lab: Lab) -> Iterator[int]:
    yield 1


def row(order: list[str], costs: dict[str, float]) -> Row:
    """Return a row whose contenders cost what ``costs`` says of their tree."""

    @contextmanager
    def start(lab: Lab, upstream: int) -> Iterator[Probe]:
        def probe(seconds: int) -> Sample:
            order.append(lab.tree.name)
            return Sample(values={"cost": costs[lab.tree.name]}, errors=0, others_cpu=0.0)

        yield probe

    return Row(
        key="one",
        title="One",
        figures=(Figure(key="cost", label="cost", unit="µs"),),
        upstream=no_upstream,
        contenders=tuple(
            Contender(name=name, version=lambda: "1", start=start)
            for name in ("envoy", "xproxy", "xproxy, two filters")
        ),
        warm_up=False,
    )


@pytest.mark.parametrize(("before", "worse"), [(100.0, False), (90.0, True), (98.0, False)])
def test_both_checkouts_are_measured_in_alternated_rounds(
    before: float, worse: bool, tree: Path, tmp_path: Path
) -> None:
    lab = Lab(
        work=tmp_path,
        python=Path("python"),
        tree=Path("now"),
        proxy_cpu=0,
        load_cpu=1,
        seconds=1,
        rounds=2,
        idle_connections=1,
    )
    order: list[str] = []
    outcome = hold(against(row(order, {"now": 100.0, "before": before}), tree), lab, lambda _: None)
    assert order == ["now", "before", "now", "before", "before", "now", "before", "now"]
    found = compared(outcome)
    assert [one.contender for one in found] == ["xproxy", "xproxy, two filters"]
    assert found[0].ratio == pytest.approx(100.0 / before)
    assert found[0].worse is worse is (found[0].ratio > WORSE)


def test_the_other_interpreter_runs_the_other_tree(tree: Path) -> None:
    assert interpreter(tree) == tree / ".venv" / "bin" / "python"
    (tree / ".venv" / "bin" / "python").unlink()
    with pytest.raises(Missing, match="no environment"):
        interpreter(tree)


def test_what_is_no_checkout_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["http1-32", "--against", str(tmp_path)]) == 2
    assert "is no checkout of xproxy" in capsys.readouterr().out.replace("\n", " ")
