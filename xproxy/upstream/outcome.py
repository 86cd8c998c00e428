"""The outcome of a call whose head does not say it: its trailers do, or what comes instead of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from xproxy.model.errors import StreamError
from xproxy.model.frames import Trailers
from xproxy.model.status import Status
from xproxy.stream.body import Body
from xproxy.stream.ending import BodyEnding, Broke, Complete
from xproxy.stream.wrapped import WrappedBody


@final
class OutcomeBody(WrappedBody):
    """A response body that tells once how the call ended."""

    __slots__ = ("_bare", "_first", "_tell")

    def __init__(
        self,
        inner: Body,
        first: Status,
        bare: Status,
        tell: Callable[[Status, StreamError | None], None],
    ) -> None:
        super().__init__(inner)
        self._first = first
        """What the head said: it stands where trailers say nothing."""
        self._bare = bare
        """What it means that there were no trailers."""
        self._tell = tell

    def ended(self, how: BodyEnding) -> None:
        """See WrappedBody."""
        match how:
            case Complete(Trailers() as trailers):
                self._tell(trailers.status or self._first, None)
            case Complete():
                self._tell(self._bare, None)
            case Broke(error):
                self._tell(error.status, error)
            case _:
                self._tell(Status.CANCELLED, None)
