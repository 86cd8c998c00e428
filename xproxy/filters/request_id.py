"""Request id: a name for each request that all who handle it can log."""

from __future__ import annotations

import random
from collections.abc import Awaitable
from typing import Literal

import attrs

from xproxy.filters.headers import check_name
from xproxy.observe.variables import REQUEST_ID
from xproxy.stream.exchange import Handler, Request, Response

__all__ = ["REQUEST_ID", "RequestId", "new_id"]


def new_id() -> str:
    """Return a random UUID of version 4 (RFC 9562 §5.4). Unguessable it is not: it names, and proves nothing."""
    # uuid.uuid4() costs 2 µs, most of it for the system's random source. Workers do not share a state: Python seeds
    # its generator anew after a fork.
    text = f"{random.getrandbits(128):032x}"
    variant = "89ab"[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


def _valid_name(_: object, __: object, name: str) -> None:
    check_name(name)


@attrs.frozen(kw_only=True)
class RequestId:
    """Give each request an id in a header, unless it has one; the variable ``%request_id%`` shows it."""

    header: str = attrs.field(default="x-request-id", validator=_valid_name)
    """Name of the header."""
    incoming: Literal["keep", "replace"] = "keep"
    """What becomes of an id that the client sent. Replace it where clients are not to be trusted."""
    echo: bool = False
    """Tell the client the id, in the same header of the response."""

    def __call__(self, request: Request, call_next: Handler) -> Awaitable[Response]:
        """Put the id into the head and into ``request.metadata[REQUEST_ID]``."""
        head = request.head
        value = head.headers.get(self.header)
        if value is None:
            value = new_id()
            request.head = head.adding(((self.header, value),))
        elif not value or self.incoming == "replace":
            value = new_id()
            request.head = head.with_headers(head.headers.set(self.header, value))
        request.metadata[REQUEST_ID] = value
        if self.echo:
            return self._echoing(request, call_next, value)
        return call_next(request)

    async def _echoing(self, request: Request, call_next: Handler, value: str) -> Response:
        response = await call_next(request)
        head = response.head
        response.head = attrs.evolve(head, headers=head.headers.set(self.header, value))
        return response
