"""A downstream connection whose protocol has one stream at a time: HTTP/1.1, and L4 as a codec with one stream.

The stream runs in the connection's own task: no spawn, no queue, no scope and no channel for a message that came
whole. Here is the life of the connection; what one stream is is in ``exchanging.py``, what moves is in ``moving.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import trio

from xproxy.codecs.api import Codec, SupportsGoAway, supports
from xproxy.connection.phase import INPUT_OVER, LAST, Event, Phase
from xproxy.connection.serial.exchanging import SerialExchanging
from xproxy.connection.serial.wire import SerialWire
from xproxy.connection.service import FilterChain
from xproxy.connection.standing import Moment
from xproxy.model.errors import Overflow, RequestTimeout, Unsupported
from xproxy.model.frames import Frame, GoAway, Head, Reply, Violation
from xproxy.stream.exchange import (
    Closable,
    ConnectionFacts,
    Request,
    Response,
    error_head,
)
from xproxy.stream.held import COUNTED, FREE, TOO_MUCH
from xproxy.stream.record import RetryPermits
from xproxy.transport.farewell import linger
from xproxy.transport.stream import ByteStream
from xproxy.transport.timers import Timers
from xproxy.transport.turns import REQUEST, TINY

_SERVING: Final = Phase.SERVING
_DRAINING: Final = Phase.DRAINING
_SOUGHT: Final = Phase.SOUGHT
_AT_ONCE: Final = 16
"""Requests of one read that are served before others have their turn. Who answers them may never have to wait."""
_NONE: Sequence[Frame] = ()


class SerialDownstream(SerialExchanging):
    """Drives one connection to its end. ``run`` owns the socket."""

    __slots__ = ("_bindings",)

    def __init__(
        self,
        stream: ByteStream,
        codec: Codec,
        facts: ConnectionFacts,
        chain: FilterChain,
        timers: Timers,
        *,
        waited: float = 0.0,
        moment: Moment | None = None,
    ) -> None:
        """``waited``: seconds since the first byte came, which count for the first head's time.

        ``moment``: the connection was frozen at it, elsewhere; ``codec`` was made of its parts.
        """
        super().__init__(
            SerialWire(stream, codec, chain.stats, facts.share),
            facts,
            chain,
            timers,
            waited=waited,
            moment=moment,
        )
        facts.downstream = self
        facts.share.holder = self
        if moment is not None:
            if moment.parts.unsent:
                self.wire.rest = memoryview(moment.parts.unsent)
            if moment.half and len(moment.parts.codec) >= COUNTED:
                self.wire.held(len(moment.parts.codec), half=True)  # it is in the codec
        self._bindings: dict[object, Closable] | None = None

    # ---- life

    async def run(self, first: bytes) -> None:
        """Serve the connection, whose first bytes have been read already, until it ends; then close it."""
        self._chain.stats.downstream_rx_bytes_total += len(first)
        self.wire.inbox.extend(self.wire.codec.receive(first))
        self.wire.stream.settle()
        self._half_finished |= bool(first) and not self.wire.inbox
        if len(first) >= COUNTED:
            self.wire.held(len(first), half=self._half_finished)
        if not self._half_finished:
            self._waited = 0.0
        first = b""
        if self._begun is not None and self._begun.told.tunnel:
            self.wire.stream.half_close = True  # before anybody looks whether the client is gone
        try:
            while True:
                with trio.CancelScope() as scope:
                    self.scope = self._timer.scope = scope
                    self._timer.fired = False
                    self.wire.stream.watch(scope)
                    await self._serve()
                    break
                self.wire.stream.watch(None)
                if not await self._interrupted():
                    return
            await self._leave()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            if self.request is not None:
                self._chain.stats.downstream_cx_destroy_remote += 1
        finally:
            self._timers.discard(self._timer)
            self.facts.share.holder = None
            self.facts.downstream = None
            self.close_bound()
            started = self.request is not None and self.request.record.response_started
            if started and not self._frozen:
                # Cut off from outside in the middle of a response: a clean end could make it look whole.
                self.wire.abort()
            self.wire.close()
            self._tunnel = self.request = None  # each knows this
            # Whatever still knows this connection holds nothing of its messages.
            self.wire.let_go()
            self.wire.inbox.clear()
            self.wire.codec.receive(None)

    def drain(self) -> None:
        """Let the stream in flight finish, announce the end with its response, and close.

        An idle connection has ``timeouts.linger`` for one more request: a client of keep-alive may have sent it
        already, and a close would fail it (RFC 9112 §9.6).
        """
        self.wire.after(Event.DRAIN)
        if supports(self.wire.codec, SupportsGoAway):
            self.wire.codec.goaway()
        if self._busy or self.request is not None:
            return
        linger = self._chain.service.timeouts.linger
        if self._frozen:
            self._time_left = linger
        elif self.scope is not None:
            self._timers.arm(self._timer, trio.current_time() + linger)

    @property
    def idle_since(self) -> float | None:
        """Since when nothing has been asked for, or a head is awaited (trio clock); None: a stream is in flight."""
        if self.request is not None or self.wire.inbox or self.scope is None or self._frozen:
            return None
        timeouts = self._chain.service.timeouts
        return self._timer.deadline - ((timeouts.head if self._busy else timeouts.idle) or 1e9)

    def shed(self) -> None:
        """Close at once. Call it on one that is idle. Never blocks."""
        self.wire.close()

    async def _serve(self) -> None:
        wire = self.wire
        inbox = wire.inbox
        timers = self._timers
        in_a_row = 0
        frame: Frame | None
        if self._begun is not None:
            await self._continue(self._begun)
            self._busy = False
            if wire.phase is not _SERVING and self._last:
                return
            inbox.extend(wire.codec.receive(b""))
        while True:
            while inbox:
                frame = inbox.popleft()
                if type(frame) is Head:
                    if self._timer.fired:
                        # The old scope was cancelled just as this came: it must not cancel the new stream.
                        inbox.appendleft(frame)
                        await trio.lowlevel.checkpoint()
                    self._half_finished = False
                    if inbox and type(inbox[-1]) is Violation:
                        # It is broken already: nothing of it may reach an upstream.
                        await self._refuse(inbox[-1])
                        return
                    await self._exchange(frame)
                    self._busy = False
                    if wire.phase is not _SERVING:
                        if wire.phase is _SOUGHT and not inbox:
                            await self._sought()  # before a request that was held back is taken out
                        if self._last:
                            return
                    inbox.extend(wire.codec.receive(b""))
                    if inbox:
                        in_a_row += 1
                        if in_a_row == _AT_ONCE:
                            in_a_row = 0
                            wire.stream.settle(_AT_ONCE * REQUEST)
                            await wire.stream.turn()
                elif await self._aside(frame):
                    return
            if wire.rest:
                await self._write(
                    wire.taken_rest()
                )  # of a write that was given up, or of another process
            if wire.phase is not _SERVING:
                if wire.phase is _SOUGHT:
                    await self._sought()
                if wire.phase in INPUT_OVER:
                    return
            timeouts = self._chain.service.timeouts
            if self._half_finished or (wire.progress is not None and wire.progress.unfinished):
                if not self._busy:
                    self._busy = True
                    left = max(timeouts.head - self._waited, 0.0) if timeouts.head else 1e9
                    left, self._time_left = min(left, self._time_left), math.inf
                    self._waited = 0.0
                    timers.arm(self._timer, trio.current_time() + left)
                share = self.facts.share
                if share.held > FREE and share.full:
                    await share.room()
            else:
                self._busy = False
                if self.wire.counted:
                    self.wire.let_go()
                draining = wire.phase is _DRAINING
                limit = timeouts.linger if draining else timeouts.idle or 1e9
                if self._time_left < limit:
                    limit, self._time_left = self._time_left, math.inf
                timers.arm(self._timer, trio.current_time() + limit)
            # Whoever waits holds no message: neither what was read, nor what came out of it.
            data, frame, frames = b"", None, _NONE
            data = await wire.stream.read()
            if data:
                self._chain.stats.downstream_rx_bytes_total += len(data)
                frames = wire.codec.receive(data)
                if len(data) > TINY or self._half_finished:
                    wire.stream.settle()
                    if len(data) >= COUNTED or self._half_finished:
                        self.wire.held(len(data), half=not frames)
                in_a_row = 0
                if frames:
                    inbox.extend(frames)
                else:
                    self._half_finished = True
            else:
                inbox.extend(wire.end())

    @property
    def _last(self) -> bool:
        # Whether no further stream begins. A codec that says goodbye in its own words says itself which is the last.
        phase = self.wire.phase
        return phase in LAST or (
            phase is Phase.DRAINING and not supports(self.wire.codec, SupportsGoAway)
        )

    async def _leave(self) -> None:
        # However the connection ends, its client may be sending still, and has to read what it was told.
        phase = self.wire.phase
        if phase not in INPUT_OVER and phase is not Phase.BROKEN:
            self.wire.after(Event.STOP)
            silence = self._chain.service.timeouts.linger
            await linger(self.wire.stream, silence, heard=self._heard)

    async def _aside(self, frame: Frame) -> bool:
        # A frame that begins no stream. True: the connection ends.
        if type(frame) is Reply:
            await self._write(frame.data)
        elif type(frame) is GoAway:
            return True
        elif type(frame) is Violation:
            await self._refuse(frame)
            return True
        return False  # a late piece of a request that has been answered already

    async def _interrupted(self) -> bool:
        # The scope was cancelled. True: go on with the connection.
        stats = self._chain.stats
        request, self.request = self.request, None
        begun = self._busy and self._stopped is not None  # a head that may not go on
        if not self._timer.fired and (self._stopped is None or (request is None and not begun)):
            if request is not None:
                stats.downstream_cx_destroy_remote += 1
            return False
        error = self.interruption()
        if request is None:
            if begun and error is not None:
                self._refused(error_head(error), error.flag)
                await self._farewell(error)
                self.wire.codec.receive(None)
                self.wire.let_go()
                await self._leave()
                return False
            if self.wire.inbox or self._timer.deadline != math.inf:
                # A request came at the very moment; or the stream before had ended when its time came, and another
                # time was set since.
                return True
            if self._busy:
                stats.downstream_cx_head_timeout += 1
                limit = self._chain.service.timeouts.head
                error = RequestTimeout(
                    f"the request head was not complete within {limit:g} s (timeouts.head)"
                )
                self._refused(error_head(error), error.flag)
                await self._farewell(error)
                await self._leave()
            elif self.wire.phase is not Phase.DRAINING:
                stats.downstream_cx_idle_timeout += 1
            return False
        if self._stopped is None:
            stats.downstream_rq_timeout += 1
        self._stopped = None
        if error is None or request.record.response_started:
            stats.downstream_rq_reset += 1
            self.wire.abort()
            return False
        request.record.flag(error.flag)
        request.record.detail = error.detail
        await self._farewell(error)
        if self.wire.phase in LAST or self.facts.traits.headless:
            await self._leave()
            return False
        self.wire.inbox.extend(self.wire.codec.receive(b""))
        return True

    def relieve(self) -> None:
        """See Holder: its stream is answered with overload; where there is none, the connection ends."""
        if self._frozen:
            return  # it may be another process's by now
        if (self.request is None and not self._busy) or self._stopped is not None:
            self.wire.abort()
        else:
            self.stop(Overflow(TOO_MUCH))

    # ---- Downstream

    @property
    def streams(self) -> int:
        """See Downstream: one at a time."""
        return 1

    def in_flight(self, _permits: RetryPermits) -> int:
        """See Downstream: the one that asks has begun nothing else."""
        return 0

    @property
    def draining(self) -> bool:
        """See Downstream."""
        return self._chain.draining

    async def call(self, request: Request) -> Response:
        """See Downstream."""
        raise Unsupported(f"{self.facts.protocol} has no requests from server to client")
