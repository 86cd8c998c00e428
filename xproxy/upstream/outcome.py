"""The outcome of a call whose head does not say it: its trailers do, or what comes instead of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import trio
from trio.abc import ReceiveChannel

from xproxy.model.errors import StreamError
from xproxy.model.frames import Trailers
from xproxy.model.status import Status
from xproxy.stream.body import Body


@final
class OutcomeBody(ReceiveChannel[bytes | Trailers]):
    """A response body that tells once how the call ended."""

    __slots__ = ("_bare", "_first", "_inner", "_tell", "_told")

    def __init__(
        self,
        inner: Body,
        first: Status,
        bare: Status,
        tell: Callable[[Status, StreamError | None], None],
    ) -> None:
        self._inner = inner
        self._first = first
        """What the head said: it stands where trailers say nothing."""
        self._bare = bare
        """What it means that there were no trailers."""
        self._tell = tell
        self._told = False

    def _end(self, status: Status, error: StreamError | None = None) -> None:
        if not self._told:
            self._told = True
            self._tell(status, error)

    async def receive(self) -> bytes | Trailers:
        """Receive from the body itself."""
        try:
            piece = await self._inner.receive()
        except trio.EndOfChannel:
            self._end(self._bare)
            raise
        except StreamError as error:
            self._end(error.status, error)
            raise
        if isinstance(piece, Trailers):
            self._end(piece.status or self._first)
        return piece

    def give_up(self) -> None:
        """Nobody reads on: the response was closed. Does nothing after the end."""
        self._end(Status.CANCELLED)

    async def aclose(self) -> None:
        await self._inner.aclose()
