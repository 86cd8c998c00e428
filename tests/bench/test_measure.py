from __future__ import annotations

import pytest

from bench.measure import Sample, medians, others_cpu, ratios


def samples(*values: float, key: str = "cpu_us") -> list[Sample]:
    return [Sample(values={key: value}, errors=0, others_cpu=0.0) for value in values]


def test_the_median_ignores_one_disturbed_round() -> None:
    assert medians(samples(40, 41, 400, 42, 39)) == {"cpu_us": 41}


def test_ratios_compare_windows_of_the_same_round() -> None:
    # The machine ran at half its speed from the third round on: both cost twice as much.
    ours, peer = samples(10, 10, 20, 20, 20), samples(20, 20, 40, 40, 40)

    assert ratios(ours, peer) == {"cpu_us": 0.5}


def test_a_figure_with_nothing_to_divide_by_has_no_ratio() -> None:
    assert ratios(samples(10, 10), samples(0, 5)) == {}
    assert ratios(samples(10), samples(5, key="p50_ms")) == {}


@pytest.mark.parametrize(
    ("machine", "ours", "share"), [(3.0, 2.0, 0.5), (2.0, 2.0, 0.0), (1.98, 2.0, 0.0)]
)
def test_others_are_what_the_machine_did_beyond_us(
    machine: float, ours: float, share: float
) -> None:
    assert others_cpu(machine=machine, ours=ours, elapsed=2.0) == pytest.approx(share)
