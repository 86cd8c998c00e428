"""The demo's access log: keeps the proxy's own view of each request, in memory."""

from __future__ import annotations

from collections import deque

import attrs

from xproxy.stream.exchange import Handler, Request, Response


@attrs.define(eq=False)
class Recorder:
    """A filter that remembers the last requests; what became of one is read from it afterwards."""

    requests: deque[Request] = attrs.field(factory=lambda: deque(maxlen=64), init=False)

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """Note the request and hand it on."""
        self.requests.append(request)
        return await call_next(request)
