"""The onion: filters round a handler, composed once when a snapshot is built, not for every request."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from xproxy.stream.exchange import Filter, Handler, Request, Response


def wrap(filter_: Filter, inner: Handler) -> Handler:
    """Return the handler that runs ``filter_`` round ``inner``."""

    # Returns the filter's own awaitable: no frame of ours stands between two filters.
    def handle(request: Request) -> Awaitable[Response]:
        return filter_(request, inner)

    return handle


def compose(filters: Sequence[Filter], innermost: Handler) -> Handler:
    """Return ``innermost`` wrapped by all of them, the first one outermost."""
    handler = innermost
    for filter_ in reversed(filters):
        handler = wrap(filter_, handler)
    return handler
