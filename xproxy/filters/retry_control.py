"""What a client may say about the retries of its request, where a route lets it: fields of Envoy's names.

They are for this proxy: removed in any case, and heeded only with ``retry.client_control``.
"""

from __future__ import annotations

from typing import Final

import attrs

from xproxy.model.headers import Headers

RETRY_ON: Final = ("x-envoy-retry-on",)
"""Conditions, comma-separated; unknown ones are passed over."""
MAX_RETRIES: Final = "x-envoy-max-retries"
STATUS_CODES: Final = "x-envoy-retriable-status-codes"
"""With the condition ``retriable-status-codes``."""
TIMEOUT_MS: Final = "x-envoy-upstream-rq-timeout-ms"
PER_TRY_TIMEOUT_MS: Final = "x-envoy-upstream-rq-per-try-timeout-ms"
FIELDS: Final = frozenset((*RETRY_ON, MAX_RETRIES, STATUS_CODES, TIMEOUT_MS, PER_TRY_TIMEOUT_MS))
"""All of them."""
MOST_CLIENT_RETRIES: Final = 10
"""A client that asks for more gets so many."""
_DIGITS: Final = 9
"""Digits of a number; a longer one is no number."""


@attrs.frozen(kw_only=True)
class Asked:
    """What a request says; None: it does not."""

    on: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()
    attempts: int | None = None
    timeout: float | None = None
    """Seconds, for all tries together."""
    per_try_timeout: float | None = None
    """Seconds."""


def asked(headers: Headers) -> Asked:
    """Read what the fields say. What cannot be read counts as not said."""
    on = [
        word.strip().lower() for name in RETRY_ON for word in (headers.get(name) or "").split(",")
    ]
    codes = [_number(word.strip()) for word in (headers.get(STATUS_CODES) or "").split(",")]
    attempts = _number(headers.get(MAX_RETRIES))
    return Asked(
        on=tuple(dict.fromkeys(word for word in on if word)),
        statuses=tuple(code for code in codes if code) if "retriable-status-codes" in on else (),
        attempts=None if attempts is None else min(attempts, MOST_CLIENT_RETRIES),
        timeout=_seconds(headers.get(TIMEOUT_MS)),
        per_try_timeout=_seconds(headers.get(PER_TRY_TIMEOUT_MS)),
    )


def _number(text: str | None) -> int | None:
    if text and len(text) <= _DIGITS and text.isascii() and text.isdecimal():
        return int(text)
    return None


def _seconds(text: str | None) -> float | None:
    milliseconds = _number(text)
    return milliseconds / 1000 if milliseconds else None
