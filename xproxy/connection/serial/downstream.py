"""A downstream connection whose protocol has one stream at a time: HTTP/1.1, and L4 as a codec with one stream.

The stream runs in the connection's own task: no spawn, no queue, no scope and no channel for a message that came
whole.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Final

import trio

from xproxy.codecs.api import Codec, SupportsGoAway, supports
from xproxy.codecs.outcome import without_trailers
from xproxy.connection.failures import body_failed
from xproxy.connection.phase import INPUT_OVER, LAST, Event, Phase
from xproxy.connection.serial.body import PulledBody
from xproxy.connection.serial.flowing import Begun, SerialFlowing
from xproxy.connection.serial.request_body import RequestBody, TunnelBody
from xproxy.connection.serial.wire import SerialWire
from xproxy.connection.service import FilterChain, Service
from xproxy.connection.standing import Moment, Standing
from xproxy.connection.streams import answer
from xproxy.model.errors import (
    LocalProtocolError,
    Overflow,
    RequestTimeout,
    StreamError,
    Unsupported,
)
from xproxy.model.frames import Frame, GoAway, Head, Reply, Violation, whole
from xproxy.model.message import RequestHead, Target
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import (
    Closable,
    ConnectionFacts,
    Request,
    Response,
    error_head,
)
from xproxy.stream.held import COUNTED, FREE, TOO_MUCH
from xproxy.stream.record import RetryPermits
from xproxy.transport.farewell import hear_out, linger
from xproxy.transport.stream import ByteStream
from xproxy.transport.timers import Timers
from xproxy.transport.turns import REQUEST, TINY

_logger = logging.getLogger(__name__)

_SERVING: Final = Phase.SERVING
_DRAINING: Final = Phase.DRAINING
_SOUGHT: Final = Phase.SOUGHT
_AT_ONCE: Final = 16
"""Requests of one read that are served before others have their turn. Who answers them may never have to wait."""
_NONE: Sequence[Frame] = ()


class SerialDownstream(SerialFlowing):
    """Drives one connection to its end. ``run`` owns the socket."""

    __slots__ = (
        "_between",
        "_bindings",
        "_busy",
        "_frozen",
        "_half_finished",
        "_thawed",
        "_time_left",
        "_waited",
    )

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
        super().__init__(SerialWire(stream, codec, chain.stats, facts.share), facts, chain, timers)
        facts.downstream = self
        facts.share.holder = self
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

    # ---- moving to another process

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

    def _heard(self, count: int) -> None:
        self._chain.stats.downstream_rx_bytes_total += count

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

    # ---- one stream

    async def _exchange(self, head: Head) -> None:
        service = self._service = self._chain.service
        stats = self._chain.stats
        stats.downstream_rq_total += 1
        stats.downstream_rq_active += 1
        service.streams += 1
        self._busy = True
        now = trio.current_time()
        body = BytesBody(head.data) if head.end else self._pulled(head)
        request = Request(head.message, body, self.facts, self, now, head.origin)  # type: ignore[arg-type]  # a server's
        if head.data and len(head.data) >= COUNTED:
            self.hold(2 * len(head.data))
            self.wire.let_go()  # the same bytes
        self.request = request
        timeouts = service.timeouts
        self._begin(now, timeouts.idle if self.facts.traits.headless else timeouts.stream_idle)
        try:
            if head.end:
                response = await answer(service.handler, request, service.refusals)
                await self._respond(request, response)
            else:
                await self._exchange_streaming(request, service)
            self.request = None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise
        except Exception as error:
            await self._failed(request, error)
        finally:
            if self._untold:
                self._left(request)
            if self._held:
                self._let_go()
            stats.downstream_rq_active -= 1
            service.streams -= 1
            if service.drained is not None and not service.streams:
                service.emptied()

    async def _failed(self, request: Request, error: Exception) -> None:
        # A body that a filter wrapped, or its work beside the stream: nothing about the message is sure any more.
        body_failed(request, error)
        self.request = None
        self.wire.after(Event.GOODBYE)
        if request.record.response_started:
            self._chain.stats.downstream_rq_reset += 1
            self.wire.abort()
        else:
            await self._farewell(StreamError("internal error in the proxy"))

    async def _continue(self, begun: Begun) -> None:
        # As ``_exchange``, of one that was begun elsewhere, and counted there.
        self._begun = None
        service = self._service = self._chain.service
        stats = self._chain.stats
        stats.downstream_rq_active += 1
        service.streams += 1
        request, told = begun.request, begun.told
        self._busy = True
        self.request = request
        self._untold = told.untold
        now = trio.current_time()
        self._deadline = now + told.deadline
        self._idle_limit = told.idle_limit
        left, self._time_left = self._time_left, math.inf
        self._timers.arm(self._timer, now + left)
        try:
            if told.streamed:
                await self._exchange_streaming(request, service, begun)
            else:
                await self._respond(request, begun.response, begun=True)
            self.request = None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise
        except Exception as error:
            await self._failed(request, error)
        finally:
            if self._untold:
                self._left(request)
            if self._held:
                self._let_go()
            stats.downstream_rq_active -= 1
            service.streams -= 1
            if service.drained is not None and not service.streams:
                service.emptied()

    def _pulled(self, head: Head) -> RequestBody:
        # A body that is still to come, and nothing of it while nobody knows whether there is a tunnel.
        message = head.message
        if not isinstance(message, RequestHead) or not message.tunnel:
            self._tunnel = None
            return RequestBody(self, head.data)
        self._tunnel = TunnelBody(self, head.data)
        return self._tunnel

    async def _exchange_streaming(
        self, request: Request, service: Service, begun: Begun | None = None
    ) -> None:
        response: Response | None = None
        body = request.body
        half_close = self._half_close = self.facts.traits.half_close
        if self._tunnel is not None or (begun is not None and begun.told.tunnel):
            # Who has sent all there is to send still wants the answer.
            self.wire.stream.half_close = True
        broken: BaseException | None = None
        tunnels = 0
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                if begun is not None:
                    response = begun.response
                    if begun.told.up.flows:
                        await begun.upstream.upload(request)
                else:
                    response = await answer(service.handler, request, service.refusals)
                if request.head.grants(response.head):
                    self._half_close = True
                    self.wire.after(Event.GOODBYE)  # it is no message's connection any more
                    tunnels = 1
                    if begun is None:
                        self._chain.stats.downstream_tunnels_total += 1
                    self._chain.stats.downstream_tunnels_active += 1
                else:
                    self.wire.stream.half_close = half_close
                if begun is None or begun.told.down.flows:
                    await self._respond(request, response, keep=True, begun=begun is not None)
                elif self.wire.rest:
                    self._flow, self._down = response, False
                    await self._write_rest(memoryview(b""))
                if tunnels and self._tunnel is not None and type(response.body) is BytesBody:
                    self._tunnel.open()  # all that there is in its other half came with its answer
                    self.wire.stream.shutdown_write()
                if self.facts.traits.headless and type(response.body) is BytesBody:
                    self._end_tunnel(request)
                if not self._half_close or request.record.local:
                    # An answer that is complete before its request ends the request.
                    nursery.cancel_scope.cancel()
                elif not self._cut_off:
                    self._flow, self._down = response, False
                    if self._found is not None:
                        await self._sought()
        except* (trio.BrokenResourceError, trio.ClosedResourceError) as group:
            broken = group
        finally:
            self._nursery = self._flow = None
            self._chain.stats.downstream_tunnels_active -= tunnels
            if not tunnels:
                self.wire.stream.half_close = half_close
            if response is not None:
                await response.aclose()
            await request.body.aclose()  # whoever wrapped it learns that nobody reads on
        if broken is not None:  # raised up there it might come out in a group
            try:
                raise trio.BrokenResourceError("the connection broke") from broken
            finally:
                del broken  # it knows this frame
        if self._cut_off:
            brief = self._chain.service.timeouts.linger
            await hear_out(self.wire.stream, brief, brief, heard=self._heard)
            self.wire.abort()
        if self.facts.traits.headless and isinstance(body, PulledBody) and not body.finished:
            # The upstream takes no more of it, and has said all that it had to say.
            self.wire.after(Event.GOODBYE)

    def _end_tunnel(self, request: Request) -> None:
        # An answer that was made here. L4 has no word for an error, so the client must at least see a broken
        # connection; it would wait for ever otherwise.
        if request.record.local:
            self.wire.abort()
        else:
            self.wire.stream.shutdown_write()

    async def _respond(
        self, request: Request, response: Response, *, keep: bool = False, begun: bool = False
    ) -> None:
        try:
            if self.wire.violation is not None:
                # The request broke its protocol half-way: the codec has the right answer and takes no other.
                violation, self.wire.violation = self.wire.violation, None
                if request.record.response_started:
                    self.wire.abort()
                else:
                    await self._refuse(violation)
                return
            head = response.head
            body = response.body
            stats = self._chain.stats
            if request.record.local:
                stats.downstream_rq_local += 1
            if type(body) is BytesBody and body.trailers is None:
                size = len(body.data)
                if size >= COUNTED:
                    self.hold(2 * size)
                data = self.wire.codec.send(whole(1, head, body.data, response.origin))
                outcome = head.status
                target = request.head.extra
                if type(target) is Target and target.rpc is not None:
                    outcome = request.record.outcome = request.record.outcome or without_trailers(
                        head
                    )
                statuses = stats.statuses
                statuses[outcome] = statuses.get(outcome, 0) + 1
                request.record.response_started = True
                request.record.sent_bytes = size
                sent = 0 if self.wire.rest else self.wire.stream.write_now(data)
                stats.downstream_tx_bytes_total += sent
                if sent != len(data):
                    await self._write_rest(memoryview(data)[sent:])
            else:
                await self._respond_streaming(request, response, begun=begun)
        except LocalProtocolError as exc:
            _logger.warning("response cannot be sent as it is: %s", exc)
            self.wire.abort()
        finally:
            if not keep and (response.lease is not None or type(response.body) is not BytesBody):
                await response.aclose()

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
