"""What routes may say beyond where requests go: which of them, and what is changed on the way."""

from __future__ import annotations

from typing import Final

import attrs
from attrs import field
from attrs.validators import ge, gt, le

from xproxy.model.limits import KIB, Duration, Size

MILLION: Final = 1_000_000
"""What shares of requests are drawn of (semantics of Envoy's ``runtime_fraction``)."""


@attrs.frozen(kw_only=True)
class RangeConfig:
    """Whole numbers, written in decimal digits with or without a sign; a text that is none is not among them."""

    start: int = field(default=-(2**63), validator=[ge(-(2**63)), le(2**63 - 1)])
    """The first one."""
    end: int = field(default=2**63 - 1, validator=[ge(-(2**63)), le(2**63 - 1)])
    """The first one behind them (semantics of Envoy's ``range_match``: half-open)."""

    def __attrs_post_init__(self) -> None:
        if self.start >= self.end:
            raise ValueError("`start` must be below `end`")


@attrs.frozen(kw_only=True)
class FractionConfig:
    """A share of the requests, by chance."""

    percent: float = field(validator=[ge(0), le(100)])
    """0 … 100, to the fourth decimal: parts of a million."""


@attrs.frozen(kw_only=True)
class MirrorConfig:
    """Where copies of a route's requests go. Their answers are dropped, and nothing waits for them."""

    cluster: str
    """Name of a cluster."""
    percent: float = field(default=100.0, validator=[ge(0), le(100)])
    """The share of the requests that is copied, by chance; 0 … 100."""
    timeout: Duration = field(default=Duration(15.0), validator=gt(Duration(0)))
    """A copy is given up after it."""
    max_concurrent: int = field(default=64, validator=[ge(1), le(65536)])
    """Copies in flight; above it a request is not copied."""
    max_body_bytes: Size = field(default=Size(64 * KIB), validator=ge(Size(0)))
    """Of a copy; a request with more is not copied."""
