"""A serial downstream connection that stands still, to go to another process: between its streams, or as bodies flow.

Rule of this file: nothing in here waits but ``_sought``, so that nobody sees a connection that is frozen in part.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import trio

from xproxy.connection.phase import Event, Phase
from xproxy.connection.serial.flowing import SerialFlowing
from xproxy.connection.serial.wire import SerialWire
from xproxy.connection.service import FilterChain
from xproxy.connection.standing import Moment, Standing
from xproxy.stream.exchange import ConnectionFacts
from xproxy.transport.timers import Timers

_SERVING: Final = Phase.SERVING
_SOUGHT: Final = Phase.SOUGHT


class SerialMoving(SerialFlowing):
    """The part of a downstream connection that can be frozen, and begin where another was."""

    __slots__ = (
        "_between",
        "_busy",
        "_frozen",
        "_half_finished",
        "_thawed",
        "_time_left",
        "_waited",
    )

    def __init__(
        self,
        wire: SerialWire,
        facts: ConnectionFacts,
        chain: FilterChain,
        timers: Timers,
        *,
        waited: float,
        moment: Moment | None,
    ) -> None:
        """See ``SerialDownstream``."""
        super().__init__(wire, facts, chain, timers)
        self._busy = False  # a stream, or a head that is not complete yet
        self._half_finished = moment is not None and moment.half
        self._frozen = False
        self._begun = self._frozen_flow = None
        self._between = False
        """It is between two streams, in its own task."""
        self._thawed: trio.Event | None = None
        """Set when it need no longer stand still there."""
        self._waited = waited
        self._time_left = moment.left if moment is not None else math.inf
        """Of a connection that was frozen, seconds until its timer comes to its end."""

    @property
    def standing(self) -> Standing:
        """Whether it can be frozen: between its streams, or once nothing but bodies flow."""
        if self._flow is not None:
            return self._standing_amid(self._flow)
        wire = self.wire
        if wire.phase is not _SERVING and wire.phase is not _SOUGHT:
            return Standing.NEVER
        if wire.paused:
            return Standing.NOT_NOW
        if self.request is not None or wire.inbox:
            return Standing.BUSY
        return Standing.IDLE if wire.awaited or self._between else Standing.NOT_NOW

    def seek(self, found: Callable[[], bool] | None) -> None:
        """Let ``found`` be called each time it can be frozen: before it waits for bytes, and between two streams.

        At the latter it is not seen from outside, and a client that pipelines without a pause knows nothing else. And
        when a response has begun, as from then on nothing but bodies flows. ``found`` never blocks. True: it has
        frozen the connection, which stands still until ``thaw`` or ``leave``; False: it goes on. None: nobody asks
        any more.
        """
        self._found = found
        if found is not None:
            self.wire.after(Event.SEEK)

    def freeze(self) -> Moment:
        """Stand still: nothing is read, written or timed until ``thaw`` or ``leave``. Call it on one that is idle.

        Or on one that is flowing: then its upstream connection stands still with it.

        Raises what ``Wire.export`` raises; then it goes on.
        """
        wire = self.wire
        if self._flow is not None:
            moment = self._freeze_flow(self._flow)
            self._frozen = True
            self._time_left = moment.left
            return moment
        sock = wire.pause()
        try:
            parts = wire.export()
        except BaseException:
            wire.resume()
            raise
        self._frozen = True
        self._time_left = self._left_of_its_time()
        self._timers.arm(self._timer, math.inf)
        half = self._busy or self._half_finished
        return Moment(parts=parts, sock=sock, half=half, left=self._time_left)

    def _left_of_its_time(self) -> float:
        if self._busy or self.wire.awaited:
            return self._timer.deadline - trio.current_time()
        # The time for what comes next has not begun; that for a head may have, before its protocol was known.
        limit = self._chain.service.timeouts.head
        return max(limit - self._waited, 0.0) if self._half_finished and limit else math.inf

    def thaw(self) -> None:
        """Go on as if nothing had been, with the time that was left."""
        self._frozen = False
        if self._thawed is not None:
            self._thawed.set()
        if self._frozen_flow is not None:
            self._thaw_flow(self._frozen_flow)
        if self.wire.phase is Phase.CLOSED:
            return  # it was ended meanwhile
        left, self._time_left = self._time_left, math.inf
        self._timers.arm(self._timer, trio.current_time() + left)
        self.wire.resume()

    def leave(self) -> None:
        """Another process goes on with it: ``run`` returns, and the peer notices nothing."""
        if self._frozen_flow is not None:
            self._leave_flow(self._frozen_flow)
        self.wire.leave()
        self._frozen = False
        if self._thawed is not None:
            self._thawed.set()

    async def _sought(self) -> None:
        """Let whoever would freeze it do so, and stand still for as long as it is frozen."""
        found = self._found
        if found is None or self.scope is None or self.scope.cancel_called:
            return  # its time is up, or its client is gone: that comes first
        self._between = True
        try:
            taken = found()
        finally:
            self._between = False
        if not taken:
            return
        if self._frozen:
            self._thawed = trio.Event()
            try:
                await self._thawed.wait()
            finally:
                self._thawed = None
        if self.wire.phase is Phase.CLOSED:
            raise trio.ClosedResourceError("it was given away, or closed, while it stood still")
