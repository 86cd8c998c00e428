from __future__ import annotations

import attrs

from xproxy.model.limits import DEFAULT_LIMITS


def test_every_limit_bounds_something() -> None:
    values = attrs.asdict(DEFAULT_LIMITS)
    assert values
    assert all(value > 0 for value in values.values())
    assert DEFAULT_LIMITS.max_target_bytes <= DEFAULT_LIMITS.max_head_bytes
