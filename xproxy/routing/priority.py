"""Requests of routes that come before others."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from xproxy.stream.exchange import Handler, Request, Response

HIGH: Final = 1
"""``record.priority`` of a route with ``priority: high``; that of any other is 0."""


def prioritised(request: Request, call_next: Handler) -> Awaitable[Response]:
    """Say that a request goes first where requests wait. A filter."""
    request.record.priority = HIGH
    return call_next(request)
