"""Request id: a name for each request that all who handle it can log."""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable
from typing import Final, Literal

import attrs

from xproxy.filters.headers import check_name
from xproxy.observe.variables import REQUEST_ID
from xproxy.stream.exchange import Handler, Request, Response

__all__ = ["REQUEST_ID", "RequestId", "new_id"]


class _Ids:
    """Ids of one process: 74 random bits that stay, and 48 that walk through all their values in no visible order.

    uuid.uuid4() costs 2 µs, most of it for the system's random source; this costs a quarter. The part that changes
    comes first and is spread evenly, for those who sample by it.
    """

    __slots__ = ("_tail", "_walk")

    def __init__(self) -> None:
        self.seed()

    def seed(self) -> None:
        """Begin anew, as a process that was forked must."""
        source = random.SystemRandom()
        self._walk = source.getrandbits(48)
        bits = source.getrandbits(74)
        version, variant, node = bits & 0xFFF, bits >> 12 & 0x3FFF, bits >> 26
        self._tail = f"-4{version:03x}-{0x8000 | variant:04x}-{node:012x}"

    def next(self) -> str:
        self._walk = walk = self._walk + _STRIDE & _48_BITS
        return f"{walk >> 16:08x}-{walk & 0xFFFF:04x}{self._tail}"


_48_BITS: Final = (1 << 48) - 1
_STRIDE: Final = 0x9E3779B97F4B
"""Odd, so that all values come before one comes again; 2**48 divided by the golden ratio, so that they are spread."""
_ids: Final = _Ids()
os.register_at_fork(after_in_child=_ids.seed)

new_id: Final = _ids.next
"""Return a UUID of version 4 by its form (RFC 9562 §5.4). Unguessable it is not: it names, and proves nothing."""


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
        request.note(REQUEST_ID, value)
        if self.echo:
            return self._echoing(request, call_next, value)
        return call_next(request)

    async def _echoing(self, request: Request, call_next: Handler, value: str) -> Response:
        response = await call_next(request)
        head = response.head
        response.head = attrs.evolve(head, headers=head.headers.set(self.header, value))
        return response
