"""Bodies: bounded receive channels of ``bytes | Trailers``; one that came whole is a ``BytesBody``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import trio
from trio.abc import ReceiveChannel

from xproxy.model.errors import BodyTooLarge
from xproxy.model.frames import Trailers

Body: TypeAlias = ReceiveChannel[bytes | Trailers]
"""``receive`` gives pieces in order, ``Trailers`` last if there are any, then raises ``trio.EndOfChannel``.
A body that breaks off raises a ``StreamError`` instead: what came so far must not be taken for the whole."""


class BytesBody(ReceiveChannel[bytes | Trailers]):
    """A complete body. It can be read by anybody, any number of times: ``data`` and ``trailers`` are there at once.

    ``receive`` keeps a position like any channel; ``replay`` gives a fresh one.
    """

    __slots__ = ("_next", "data", "trailers")

    def __init__(self, data: bytes = b"", trailers: Trailers | None = None) -> None:
        self.data = data
        self.trailers = trailers
        self._next = 0

    def replay(self) -> BytesBody:
        """Return the same body from its start."""
        return BytesBody(self.data, self.trailers)

    async def receive(self) -> bytes | Trailers:
        """Never blocks and is no checkpoint."""
        if self._next == 0:
            self._next = 1
            if self.data:
                return self.data
        if self._next == 1:
            self._next = 2
            if self.trailers is not None:
                return self.trailers
        raise trio.EndOfChannel

    async def aclose(self) -> None:
        """Do nothing: there is nothing to release."""


async def read_whole(
    body: Body, limit: int, hold: Callable[[int], None] | None = None
) -> BytesBody:
    """Collect a body of at most ``limit`` bytes. Raises BodyTooLarge beyond it, and whatever the body raises.

    ``hold`` is told of every piece; see ``StreamControl``.
    """
    if isinstance(body, BytesBody):
        if len(body.data) > limit:
            raise BodyTooLarge(f"body is {len(body.data)} bytes, limit {limit}")
        return body
    parts: list[bytes] = []
    size = 0
    trailers: Trailers | None = None
    while True:
        try:
            piece = await body.receive()
        except trio.EndOfChannel:
            return BytesBody(b"".join(parts), trailers)
        if isinstance(piece, Trailers):
            trailers = piece
            continue
        size += len(piece)
        if size > limit:
            raise BodyTooLarge(f"body is above {limit} bytes")
        if hold is not None:
            hold(len(piece))
        parts.append(piece)
