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


def _in_url(_: object, __: object, text: str | None) -> None:
    if text is not None and (not text.isascii() or not text.isprintable() or " " in text):
        raise ValueError(f"{text!r} cannot stand in a URL: write it percent-encoded")
    if text == "":
        raise ValueError("must not be empty")


def _path_prefix(_: object, __: object, text: str | None) -> None:
    _in_url(None, None, text)
    if text is not None and (not text.startswith("/") or "?" in text or "#" in text):
        raise ValueError(f"{text!r} must begin with / and have no query")


@attrs.frozen(kw_only=True)
class RewriteConfig:
    """What is changed of web requests, and calls within them, before the route's filters. Others stay as they are."""

    prefix: str | None = field(default=None, validator=_path_prefix)
    """In place of the ``prefix`` or ``segment_prefix`` that the route's path must have."""
    host: str | None = field(default=None, validator=_in_url)
    """In place of the authority, with a port if need be."""
    host_header: str | None = field(default=None, validator=_in_url)
    """The header whose value takes the place of the authority; where it is not there or no host, it stays."""

    def __attrs_post_init__(self) -> None:
        if self.host is not None and self.host_header is not None:
            raise ValueError("`host` and `host_header` exclude each other")
