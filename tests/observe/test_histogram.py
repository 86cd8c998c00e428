from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.observe.histogram import Histogram


@given(st.lists(st.floats(0, 100)), st.floats(0, 1))
def test_a_histogram_counts_every_value_once(values: list[float], share: float) -> None:
    found = Histogram((0.5, 1.0, 10.0))
    for value in values:
        found.observe(value)
    assert found.count == len(values)
    assert found.total == pytest.approx(sum(values))
    assert found.counts[0] == sum(value <= 0.5 for value in values)
    assert found.counts[-1] == sum(value > 10 for value in values)
    below = sum(value <= found.quantile(share) for value in values)
    assert below >= share * len(values) - 1e-9


@pytest.mark.parametrize("bounds", [(), (1.0, 1.0), (2.0, 1.0)])
def test_bounds_must_rise(bounds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="must rise"):
        Histogram(bounds)
