"""Clusters that the request names, and those that are asked instead of one without endpoints."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from xproxy.model.errors import ClusterNotFound, NoHealthyEndpoint
from xproxy.model.message import RequestHead
from xproxy.routing.beside import RoutingStats
from xproxy.stream.exchange import Handler, Request, Response

_MOST_DIGITS: Final = 20
"""Of 64 bits."""


def given_value(head: RequestHead, name: str) -> int | None:
    """Return the number in a header, 64 bits; None: there is none (semantics of Envoy's ``header_name``)."""
    text = head.headers.get(name)
    if text is None or len(text) > _MOST_DIGITS or not (text.isascii() and text.isdigit()):
        return None
    value = int(text)
    return value if value < 2**64 else None


def by_header(name: str, ask: Handler) -> Handler:
    """Return the handler that notes which cluster the header ``name`` names, and asks it.

    It raises ClusterNotFound where there is no such header.
    """

    def handle(request: Request) -> Awaitable[Response]:
        cluster = request.head.headers.get(name)
        if not cluster:
            raise ClusterNotFound(
                f"route {request.record.route!r}: no header {name!r} names the cluster"
            )
        request.record.cluster = cluster[:_SHOWN]
        return ask(request)

    return handle


_SHOWN: Final = 256
"""Characters of a cluster's name that a client gives."""


def falling_back(first: Handler, name: str, instead: Handler, stats: RoutingStats) -> Handler:
    """Return the handler that asks cluster ``name`` where the first one has no endpoint to ask.

    Nothing of the body is gone then. The flag (UH) stays, to tell that it happened.
    """

    async def handle(request: Request) -> Response:
        try:
            return await first(request)
        except NoHealthyEndpoint as error:
            record = request.record
            record.flag(error.flag)
            stats.fallback_total[record.route] = stats.fallback_total.get(record.route, 0) + 1
            record.cluster = name
            record.wish = None
        return await instead(request)

    return handle
