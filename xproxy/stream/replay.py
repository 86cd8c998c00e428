"""A body in pieces that can be taken from its start again, as long as little of it was taken.

(idea: linkerd2-proxy:linkerd/http/retry/src/replay.rs)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import trio
from trio.abc import ReceiveChannel

from xproxy.model.errors import RequestBroken, StreamError
from xproxy.model.frames import Trailers
from xproxy.stream.body import Body
from xproxy.stream.links import Note, Stays


@final
class Recording:
    """What was taken of a body, up to ``limit`` bytes. Above it nothing can be taken again."""

    __slots__ = (
        "_ended",
        "_hold",
        "_inner",
        "_limit",
        "_lock",
        "_replays",
        "_size",
        "_start",
        "_waiting",
        "pieces",
        "replayable",
    )

    def __init__(self, inner: Body, limit: int, hold: Callable[[int], None] | None = None) -> None:
        """``hold`` is told of every piece that is kept; see ``StreamControl``."""
        self._inner = inner
        self._hold = hold
        self._limit = limit
        self._replays = 0
        self._size = 0
        self._start = 0
        self._ended = False
        # Who was sending to an upstream that failed may still wait for the next piece: it comes to whoever is next.
        self._lock = trio.Lock()
        self._waiting = False  # for the next piece, and not only for the turn to do so
        self.pieces: list[bytes | Trailers] = []
        """From number ``_start`` on, which is 0 while ``replayable``."""
        self.replayable = True
        """All that was taken is here."""

    @property
    def taken(self) -> bool:
        """Somebody has a piece of it."""
        return bool(self.pieces) or self._ended or not self.replayable

    def replay(self) -> ReplayedBody:
        """Return the body from its start. Only the last one that was returned may be read."""
        self._replays += 1
        return ReplayedBody(self, self._replays)

    async def piece(self, number: int, replay: int) -> bytes | Trailers:
        """Return a piece by its number, for a replay by its own; they are asked for in turn.

        Raises what the body raises; RequestBroken to a replay that is not the last any more, of a piece that only the
        last one gets.
        """
        while number - self._start >= len(self.pieces):
            if self._ended:
                raise trio.EndOfChannel
            async with self._lock:
                if number - self._start >= len(self.pieces) and not self._ended:
                    await self._take()
        if number < self._start:
            raise RequestBroken("the request is being made anew")
        piece = self.pieces[number - self._start]
        # One that was left may still wait here, beside the one that took its place and wants the same piece.
        if not self.replayable and replay == self._replays:
            del self.pieces[: number + 1 - self._start]
            self._start = number + 1
        return piece

    async def _take(self) -> None:
        self._waiting = True
        try:
            piece = await self._inner.receive()
        except trio.EndOfChannel:
            self._ended = True
            return
        except StreamError:
            self.replayable = False
            raise
        finally:
            self._waiting = False
        self.pieces.append(piece)
        if not isinstance(piece, Trailers):
            self._size += len(piece)
            if self._size > self._limit:
                self.replayable = False
            elif self._hold is not None:
                self._hold(len(piece))

    def within(self, number: int, replay: int) -> Body:
        """Return the body itself, for a replay that has taken all that is kept. Raises Stays for any other."""
        if replay != self._replays or number - self._start < len(self.pieces):
            raise Stays("a request body that may be sent again", for_now=True)
        if self._lock.locked() and not self._waiting:
            raise Stays("a request body that is about to be read", for_now=True)
        return self._inner

    async def aclose(self, number: int) -> None:
        """Close the body itself, if the replay of this number is the last one."""
        if number == self._replays:
            await self._inner.aclose()


@final
class ReplayedBody(ReceiveChannel[bytes | Trailers]):
    """A recorded body, from its start."""

    __slots__ = ("_next", "_number", "_recording")

    def __init__(self, recording: Recording, number: int) -> None:
        self._recording = recording
        self._number = number
        self._next = 0

    async def receive(self) -> bytes | Trailers:
        """See Body."""
        piece = await self._recording.piece(self._next, self._number)
        self._next += 1
        return piece

    def note(self) -> tuple[object | None, Note | None]:
        """See SupportsNote. Nothing is sent again once the response has begun: it need not be made anew."""
        return self._recording.within(self._next, self._number), None

    def depart(self) -> None:
        """See SupportsNote: whoever reads on is told by the body itself."""

    async def aclose(self) -> None:
        """Close the body itself, unless it is replayed once more."""
        await self._recording.aclose(self._number)
