from __future__ import annotations

import pytest

from xproxy.config.routing import RangeConfig


@pytest.mark.parametrize(("start", "end"), [(1, 1), (2, 1)])
def test_a_range_has_something_in_it(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="must be below"):
        RangeConfig(start=start, end=end)
