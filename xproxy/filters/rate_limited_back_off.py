"""How long a server says that it wants to be left alone: waits that are its own words, not ours.

(RFC 9110 §10.2.3 for Retry-After; idea: envoy:source/common/router/reset_header_parser.cc)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Literal

import attrs
from attrs.validators import gt, max_len, min_len

from xproxy.model.headers import Headers
from xproxy.model.limits import Duration

_DIGITS: Final = 12
"""Digits of a number; a longer one is no number."""


@attrs.frozen(kw_only=True)
class ResetHeader:
    """A field of a response that says when to come again."""

    name: str = attrs.field(validator=min_len(1))
    """Its name."""
    format: Literal["seconds", "unix_timestamp"] = "seconds"
    """What its number means: how long, or when."""


_DEFAULT: Final = (
    ResetHeader(name="retry-after"),
    ResetHeader(name="x-ratelimit-reset", format="unix_timestamp"),
)


@attrs.frozen(kw_only=True)
class RateLimitedBackOff:
    """Wait before a retry as long as the response says; else as ``back_off`` does."""

    reset_headers: tuple[ResetHeader, ...] = attrs.field(
        default=_DEFAULT, validator=[min_len(1), max_len(16)]
    )
    """Fields that may say it; the first one that has a number within ``max_interval`` counts."""
    max_interval: Duration = attrs.field(default=Duration(300.0), validator=gt(Duration(0.0)))
    """A server that wants to be left alone for longer is not heeded."""

    def wait(
        self, headers: Headers, draw: float, now: Callable[[], float] = time.time
    ) -> float | None:
        """Return the seconds before the retry, for a random ``draw`` in [0, 1); None: nothing is said.

        Up to half as much again is added, so that not all who were told the same come at once.
        """
        for one in self.reset_headers:
            text = (headers.get(one.name) or "").strip()
            if not text or len(text) > _DIGITS or not (text.isascii() and text.isdecimal()):
                continue
            seconds = float(text) - (now() if one.format == "unix_timestamp" else 0.0)
            if 0 < seconds <= self.max_interval:
                return seconds * (1 + draw / 2)
        return None
