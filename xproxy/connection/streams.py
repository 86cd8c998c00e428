"""What every stream has, on whatever connection: a cancel scope that outlives it, a deadline, an answer."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Sequence

import trio

from xproxy.connection.failures import INTERNAL_ERROR, Refusal, handler_failed
from xproxy.model.errors import DeadlineExceeded, LocalProtocolError, StreamError, StreamIdle
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Handler, Request, Response, error_head
from xproxy.stream.held import Share
from xproxy.transport.timers import Timer, Timers

_logger = logging.getLogger(__name__)


async def answer(handler: Handler, request: Request, refusals: Sequence[Refusal] = ()) -> Response:
    """Run ``handler``; whatever it raises becomes a local reply. Cancellation passes.

    ``refusals`` are told of a request that failed before any access log saw it.

    One stream's failure never touches its neighbours: hence the broad ``except``. Its bodies are read outside of the
    handler, so each driver has another one for these.
    """
    try:
        return await handler(request)
    except StreamError as error:
        request.record.flag(error.flag)
        request.record.detail = error.detail
        request.record.local = True
        return Response(error_head(error), BytesBody())
    except LocalProtocolError as error:
        request.record.detail = str(error)
        request.record.local = True
        _logger.warning("request cannot be sent on as it is: %s", error)
        return Response(INTERNAL_ERROR, BytesBody())
    except Exception as error:
        await handler_failed(request, error, refusals)
        return Response(INTERNAL_ERROR, BytesBody())


class StreamScope:
    """The part of a stream's task that outlives the stream.

    A cancel scope costs 5 µs, so one is used for many streams in turn: it is replaced only after it was cancelled.
    """

    __slots__ = (
        "_deadline",
        "_held",
        "_idle_limit",
        "_nursery",
        "_share",
        "_stopped",
        "_timer",
        "_timers",
        "_untold",
        "request",
        "scope",
    )

    def __init__(self, timers: Timers, share: Share) -> None:
        self._share = share
        self._held = 0  # of the share, until the stream ends
        self._stopped: StreamError | None = None  # why it is stopped here, by nobody's wish
        self._timers = timers
        self._timer = Timer()
        self._deadline = math.inf
        self._idle_limit = 0.0
        self._nursery: trio.Nursery | None = None
        self._untold = False
        """A head has left that does not say how the call ends: it is counted when that is known."""
        self.request: Request | None = None
        self.scope: trio.CancelScope | None = None

    def _begin(self, now: float, idle_limit: float) -> None:
        # A stream begins: its deadline is not known yet, but silence is bounded from the start.
        self._deadline = math.inf
        self._idle_limit = limit = idle_limit or math.inf
        # ``Timers.arm``, written out for what nearly always is: the time is put off. So it is below.
        timer = self._timer
        timer.deadline = deadline = now + limit
        if deadline < timer.wake:
            self._timers.arm(timer, deadline)

    def touch(self) -> None:
        """Something moved on the stream."""
        deadline = trio.current_time() + self._idle_limit
        if deadline > self._deadline:
            deadline = self._deadline
        timer = self._timer
        timer.deadline = deadline
        if deadline < timer.wake:
            self._timers.arm(timer, deadline)

    def limit(self, deadline: float) -> None:
        """See StreamControl."""
        if deadline < self._deadline:
            self._deadline = deadline
            timer = self._timer
            if deadline < timer.deadline:
                timer.deadline = deadline
                if deadline < timer.wake:
                    self._timers.arm(timer, deadline)

    @property
    def deadline(self) -> float:
        """See StreamControl."""
        return self._deadline

    def _count(self, status: Status) -> None:
        """Count a response."""
        raise NotImplementedError

    def _head_out(self, request: Request, head: ResponseHead) -> None:
        # What came of it is known at its end: by trailers, or by what comes instead of the rest.
        self._untold = True

    def _told(self, request: Request, status: Status) -> None:
        if self._untold:
            self._untold = False
            request.record.outcome = request.record.outcome or status
            self._count(request.record.outcome)

    def _left(self, request: Request) -> None:
        # The stream is over: what was not told by now will not be.
        error = self.interruption()
        self._told(request, Status.CANCELLED if error is None else error.status)

    def hold(self, count: int) -> None:
        """See StreamControl."""
        self._held += count
        self._share.add(count)

    def _let_go(self) -> None:
        # The stream is over, and with it all that was held for it.
        held, self._held = self._held, 0
        if held:
            self._share.take(held)

    @property
    def holds(self) -> bool:
        """Something large is held for the stream."""
        return self._held > 0

    def stop(self, error: StreamError) -> None:
        """End the stream with ``error``, which its client is told."""
        if self._stopped is None:
            self._stopped = error.again()
            if self.scope is not None:
                self.scope.cancel()

    def interruption(self) -> StreamError | None:
        """See StreamControl."""
        if self._stopped is not None:
            return self._stopped
        if not self._timer.fired:
            return None
        if trio.current_time() >= self._deadline:
            return DeadlineExceeded("the response did not end before the stream's deadline")
        return StreamIdle(
            f"nothing moved on the stream for {self._idle_limit:g} s (timeouts.stream_idle)"
        )

    def start_soon(self, work: Callable[[], Awaitable[None]]) -> bool:
        """See StreamControl."""
        if self._nursery is None:
            return False
        self._nursery.start_soon(work)
        return True
