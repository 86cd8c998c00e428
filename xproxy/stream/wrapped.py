"""A body round another one: to look at its pieces, to change them, to learn how it ends."""

from __future__ import annotations

import trio
from trio.abc import ReceiveChannel

from xproxy.model.errors import StreamError
from xproxy.model.frames import Trailers
from xproxy.stream.body import Body
from xproxy.stream.ending import COMPLETE, GIVEN_UP, BodyEnding, Broke, Complete, GivenUp
from xproxy.stream.links import Note, Stays


class WrappedBody(ReceiveChannel[bytes | Trailers]):
    """A body whose pieces pass through ``piece``, and whose end is told to ``ended``: override what you need.

    Put it in the place of ``request.body`` or ``response.body``. One that came whole (``BytesBody``) needs none: its
    data and trailers are there at once, and wrapped it would be sent on in pieces.
    """

    __slots__ = ("_how", "failure", "inner")

    inner: Body
    """The body itself."""
    failure: StreamError | None
    """Why it broke off, once it has."""

    def __init__(self, inner: Body) -> None:
        self.inner = inner
        self.failure = None
        self._how: type[BodyEnding] | None = None

    def piece(self, piece: bytes | Trailers) -> bytes | Trailers:
        """Return what goes on in the place of ``piece``; empty bytes: nothing does. Must not block.

        Trailers are the last piece, and may become bytes. A StreamError raised here breaks the body off.
        """
        return piece

    def ended(self, how: BodyEnding) -> None:
        """Take note of how the body ended. Called once; never for a cancelled ``receive``, after which it goes on.

        Trailers are the end: senders do not come back for another. ``GivenUp`` is told when the response is closed,
        or the request's stream is over, before the end was read. Of a body that is ``Complete``, a StreamError raised
        here comes in the place of the end.
        """

    async def receive(self) -> bytes | Trailers:
        """See Body. Raises trio.ClosedResourceError once it was given up."""
        if self._how is not None:
            raise self._no_more()
        try:
            while True:
                piece = await self.inner.receive()
                given = self.piece(piece)
                if isinstance(piece, Trailers):
                    self._end(Complete(piece))
                    if not given:
                        raise trio.EndOfChannel
                if given:
                    return given
        except trio.EndOfChannel:
            self._end(COMPLETE)
            raise
        except StreamError as error:
            self._end(Broke(error))
            raise
        except Exception as bug:
            self._end(Broke(StreamError(f"{type(bug).__name__} in a body"), bug))
            raise

    def _end(self, how: BodyEnding) -> None:
        if self._how is not None:
            return
        self._how = type(how)
        try:
            self.ended(how)
        except StreamError as error:
            self.failure = error.again()
            raise
        if isinstance(how, Broke):
            self.failure = how.error.again()

    def _no_more(self) -> Exception:
        if self.failure is not None:
            return self.failure.again()
        if self._how is Complete:
            return trio.EndOfChannel()
        return trio.ClosedResourceError("the body was given up")

    def give_up(self) -> None:
        """Nobody reads on. Does nothing after the end."""
        self._end(GIVEN_UP)

    @property
    def over(self) -> bool:
        """How it ended has been told."""
        return self._how is not None

    def note(self) -> tuple[object | None, Note | None]:
        """See SupportsNote: override it where there is all that a body of this kind needs to be made anew."""
        kind = type(self)
        raise Stays(f"{kind.__module__}.{kind.__qualname__} cannot say what it is")

    def depart(self) -> None:
        """See SupportsNote: how it ends is told in the other process."""
        if self._how is None:
            self._how = GivenUp

    async def aclose(self) -> None:
        """Give up this body, and the one within."""
        self.give_up()
        await self.inner.aclose()
