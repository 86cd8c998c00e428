"""An attempt at an endpoint: it begins when the endpoint was chosen, and ends exactly once, in ``Attempt.end``.

Whoever wants to know how endpoints do observes a cluster's attempts, and looks nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final, TypeAlias, final

import trio

from xproxy.codecs.other_protocol import HERE
from xproxy.model.errors import StreamError
from xproxy.model.status import Status
from xproxy.stream.ending import (
    DEPARTED,
    GIVEN_UP,
    Answered,
    AttemptEnding,
    Broke,
    Departed,
    GivenUp,
)
from xproxy.stream.exchange import Releasable
from xproxy.stream.links import Note, Stays
from xproxy.stream.record import Attempted, RetryPermits
from xproxy.upstream.endpoint import Endpoint

TIMED_OUT: Final = -1
"""In place of a code: nothing came in the time there was."""


@final
class Attempt:
    """One try of a request. Also what its response holds: closed, it ends the attempt and releases the connection."""

    __slots__ = (
        "_finish",
        "_head_at",
        "_lease",
        "_of",
        "began",
        "code",
        "ended",
        "endpoint",
        "how",
        "previous",
    )

    endpoint: Endpoint
    previous: Attempted | None
    """The one before it, of the same request."""
    began: float
    """All times are the trio clock's, in seconds."""
    ended: float | None
    """When it ended."""
    how: AttemptEnding | None
    """How it ended; None: it is under way."""
    code: int | None
    """The web's code of the answer, or ``TIMED_OUT``, where the cluster watches over the health of its endpoints."""

    def __init__(self, of: Attempts, endpoint: Endpoint, previous: Attempted | None) -> None:
        self._of = of
        self.endpoint = endpoint
        self.previous = previous
        self.began = of.now() + of.offset
        self.ended = self.how = self.code = None
        self._head_at: float | None = None  # of an answer that did not come whole
        self._lease: Releasable | None = None
        self._finish: Callable[[], None] | None = None

    def end(self, how: AttemptEnding) -> None:
        """It ended, and observers are told. The first time counts, any other changes nothing."""
        if self.how is None:
            of = self._of
            self.how = how
            self.ended = of.now() + of.offset
            of.tell(self)

    def fail(self, error: BaseException) -> None:
        """It ended by ``error``: it broke, or was given up, as the error tells."""
        if not isinstance(error, StreamError):
            # Cancelled, by the client or by the limit of this one try: the next is better made elsewhere.
            self.end(GIVEN_UP)
        elif error.condition:
            if HERE in error.detail:
                error.detail = error.detail.replace(HERE, f"cluster {self._of.cluster}")
            self.end(Broke(error.again()))  # a copy: see there
        else:
            self.end(GivenUp(error.again()))  # the client's doing, or a full breaker

    def goes_on(self, lease: Releasable | None, finish: Callable[[], None]) -> None:
        """The response head is there, and its body comes in pieces.

        ``finish`` is called if nobody has said how it ended when the response is closed, and has to.
        """
        self._head_at = self._of.now() + self._of.offset
        self._lease = lease
        self._finish = finish

    def resume(self, began: float, answered: float) -> None:
        """It has been under way elsewhere, since that time, and its head came at this one (trio clock)."""
        self.began = began
        self._head_at = answered

    def note(self) -> tuple[object | None, Note | None]:
        """See SupportsNote: its cluster makes it anew."""
        if self.how is not None:
            raise Stays("an attempt that is over", for_now=True)
        return self._lease, None

    def depart(self) -> None:
        """See SupportsNote."""
        self.end(DEPARTED)
        self._lease = self._finish = None

    def hold(self, lease: Releasable) -> None:
        """Release ``lease`` when the response is closed."""
        self._lease = lease

    async def aclose(self) -> None:
        """See Releasable. Idempotent."""
        finish, self._finish = self._finish, None
        lease, self._lease = self._lease, None
        if finish is not None and self.how is None:
            finish()
        if lease is not None:
            await lease.aclose()

    @property
    def answered(self) -> float | None:
        """When the response head was there; None: it never was, or is not yet."""
        return self.ended if type(self.how) is Answered and self._head_at is None else self._head_at

    @property
    def permits(self) -> RetryPermits:
        """The bound on retries of its cluster."""
        return self._of.permits

    @property
    def status(self) -> Status | None:
        """How the call ended for who made it; None: it is under way, or there was never an answer."""
        how = self.how
        if isinstance(how, Answered):
            return how.status
        if how is None or self.answered is None:
            return None
        match how:
            case Departed():
                return None
            case Broke(error):
                return error.status
            case GivenUp(why):
                return Status.CANCELLED if why is None else why.status

    @property
    def failed(self) -> bool:
        """Another endpoint may do better."""
        match self.how:
            case None | Departed():
                return False
            case Answered(status):
                return status is not Status.OK
            case Broke():
                return True
            case GivenUp(why):
                return why is None


Observer: TypeAlias = Callable[[Attempt], None]
"""Is told of each attempt once, when it has ended here: also of one that has ``Departed``, which another process will
be told of. Never blocks, and raises nothing."""


@final
class Attempts:
    """What all attempts of one cluster have in common."""

    __slots__ = ("_observers", "cluster", "now", "offset", "permits", "tell")

    def __init__(self, cluster: str, permits: RetryPermits, first: Observer) -> None:
        """``cluster``: its name. ``first``: is told before any other observer."""
        self.cluster = cluster
        self.permits = permits
        self._observers = [first]
        self.tell: Observer = first
        """Tell all observers; for ``Attempt.end`` alone."""
        self.now: Callable[[], float] = trio.current_time
        self.offset = 0.0
        """What is to be added to ``now`` for the trio clock."""

    def observe(self, observer: Observer) -> None:
        """Tell ``observer``, too, of each attempt that ends from now on."""
        self._observers.append(observer)
        self.tell = self._tell_each

    def _tell_each(self, attempt: Attempt) -> None:
        for observer in self._observers:
            observer(attempt)

    def bind(self, clock: trio.abc.Clock) -> None:
        """Take the time from the running clock at half the price, twice an attempt, if it is trio's own.

        That is ``perf_counter``, moved by an offset.
        """
        offset = getattr(clock, "offset", None)
        if isinstance(offset, float) and abs(clock.current_time() - perf_counter() - offset) < 1:
            self.now, self.offset = perf_counter, offset
