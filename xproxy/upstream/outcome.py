"""How an attempt ended whose answer did not come whole: by its trailers, or by what came instead of them."""

from __future__ import annotations

from typing import final

from xproxy.codecs.outcome import call_status
from xproxy.model.errors import StreamError
from xproxy.model.message import ResponseHead
from xproxy.stream.body import Body
from xproxy.stream.ending import ANSWERED, GIVEN_UP, BodyEnding, Broke, Complete, GivenUp
from xproxy.stream.links import Note, Stays
from xproxy.stream.wrapped import WrappedBody
from xproxy.upstream.attempt import Attempt


def end_answered(
    attempt: Attempt, head: ResponseHead, how: BodyEnding, *, call: bool, opaque: bool
) -> None:
    """End an attempt whose answer has this head, and a body that ended so.

    ``call``: trailers say how it ended, or that they are missing does. ``opaque``: its body is bytes that nobody
    understands, which may end in any way.
    """
    match how:
        case Complete(trailers):
            attempt.end(ANSWERED[call_status(head, trailers) if call else head.status])
        case Broke(error) if opaque:
            attempt.end(GivenUp(error.again()))
        case Broke(error):
            attempt.fail(error)  # half an answer is a failure of whoever gave it
        case GivenUp():
            attempt.end(GIVEN_UP)


@final
class OutcomeBody(WrappedBody):
    """The response body of a call."""

    __slots__ = ("_attempt", "_head", "_opaque")

    def __init__(self, inner: Body, attempt: Attempt, head: ResponseHead, *, opaque: bool) -> None:
        super().__init__(inner)
        self._attempt = attempt
        self._head = head
        self._opaque = opaque

    def ended(self, how: BodyEnding) -> None:
        """See WrappedBody."""
        end_answered(self._attempt, self._head, how, call=True, opaque=self._opaque)

    def note(self) -> tuple[object | None, Note | None]:
        """See SupportsNote: its cluster makes it anew."""
        if self.over:
            raise Stays("a call whose outcome is known", for_now=True)
        return self.inner, None


def end_unseen(attempt: Attempt, body: Body, head: ResponseHead, *, opaque: bool) -> None:
    """End an attempt whose response is closed, and into whose body nobody looked: it may move inside the kernel.

    Whether it was read to its end is not known, and its head has said how it ended.
    """
    failure: StreamError | None = getattr(body, "failure", None)
    how = Complete() if failure is None else Broke(failure)
    end_answered(attempt, head, how, call=False, opaque=opaque)
