"""The task of a stream on a shared connection. It serves one stream at a time, and then may wait for another."""

from __future__ import annotations

import contextlib
import logging
import math
from functools import partial
from typing import Protocol

import trio

from xproxy.codecs.api import PREPARED_FROM
from xproxy.codecs.outcome import without_trailers
from xproxy.connection.failures import INTERNAL_ERROR, body_failed
from xproxy.connection.preparing import prepared
from xproxy.connection.service import FilterChain, Service
from xproxy.connection.shared.inflow import Inflow
from xproxy.connection.shared.outflow import fits, send_body
from xproxy.connection.shared.wire import SharedWire
from xproxy.connection.standing import RelayedStream
from xproxy.connection.streams import StreamScope, answer
from xproxy.model.errors import LocalProtocolError, StreamError
from xproxy.model.frames import Head, Reset, Trailers, whole
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.status import Status
from xproxy.model.traits import WEB_FAMILY, Sharing
from xproxy.stream.body import Body, BytesBody, read_whole
from xproxy.stream.exchange import Request, Response, error_head
from xproxy.stream.held import COUNTED
from xproxy.transport.parking import Reason
from xproxy.transport.poller import AWAKE
from xproxy.transport.timers import Timers

_logger = logging.getLogger(__name__)

_NEVER = math.inf


class Dispatcher(Protocol):
    """Who gives workers their streams."""

    def done(self, worker: Worker) -> bool:
        """A worker has finished its stream. True: wait for another one."""
        ...

    def withdraw(self, worker: Worker) -> None:
        """A worker that was interrupted cannot wait for another stream. Idempotent."""
        ...


class Worker(StreamScope):
    """Serves streams of one connection, one after another; a StreamControl."""

    __slots__ = (
        "_chain",
        "_direct",
        "_dispatcher",
        "_frame",
        "_reset",
        "_task",
        "_wire",
        "inflow",
        "key",
    )

    def __init__(
        self,
        wire: SharedWire,
        dispatcher: Dispatcher,
        chain: FilterChain,
        timers: Timers,
        frame: Head,
        key: int,
    ) -> None:
        super().__init__(timers, wire.facts.share)
        self._wire = wire
        self._dispatcher = dispatcher
        self._chain = chain
        self._frame: Head | None = frame
        self._task: trio.lowlevel.Task | None = None
        traits = wire.facts.traits
        self._direct = traits.sharing is Sharing.MESSAGES and traits.family != WEB_FAMILY
        """Its requests have no targets: see Service."""
        self._reset = False
        self.key = key
        """Under which the dispatcher knows its stream: mostly the stream's id."""
        self.inflow: Inflow | None = None
        if not frame.end:
            self._open_inflow(frame)
        elif len(frame.data) >= COUNTED:
            self._count_in(frame)

    def _open_inflow(self, frame: Head) -> None:
        # At once, not when the task runs: the next frame of the same read may be a piece of this body.
        self.inflow = Inflow(self._wire, frame.stream_id, frame.data, self._share)

    def _count_in(self, frame: Head) -> None:
        # At once, too: one read may bring many of them. It is held as it came, and as it goes on.
        self.hold(2 * len(frame.data))

    @property
    def oneway(self) -> bool:
        """Whether the stream is a message that nobody awaits an answer to."""
        frame = self._frame
        return frame is not None and isinstance(frame.message, RequestHead) and frame.message.oneway

    @property
    def relayed(self) -> RelayedStream:
        """What another process must know of its stream."""
        frame, inflow, request = self._frame, self.inflow, self.request
        assert frame is not None  # it has one
        return RelayedStream(
            id=frame.stream_id,
            complete=inflow is None or inflow.complete,
            begun=request is not None and request.record.response_started,
        )

    def hand_over(self, frame: Head, key: int) -> None:
        """Give a waiting worker its next stream."""
        self._frame = frame
        self.key = key
        if not frame.end:
            self._open_inflow(frame)
        elif len(frame.data) >= COUNTED:
            self._count_in(frame)
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task, AWAKE)

    def dismiss(self) -> None:
        """Let a waiting worker end."""
        self._frame = None
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task, AWAKE)

    def cancel(self) -> None:
        """Stop the stream: the peer does not want it any more."""
        self._reset = True
        if self.scope is not None:
            self.scope.cancel()

    def discard(self) -> None:
        """Forget the timer, and all that is held: the connection has ended."""
        self._timers.discard(self._timer)
        self._let_go()

    def stop(self, error: StreamError) -> None:
        """See StreamScope. One that was stopped already is left to end."""
        if self._stopped is None and not self._reset:
            super().stop(error)

    async def run(self) -> None:
        """Serve streams until there is none to wait for."""
        try:
            while self._frame is not None:
                with trio.CancelScope() as scope:
                    self.scope = self._timer.scope = scope
                    self._timer.fired = False
                    if self._reset or self._stopped is not None:
                        scope.cancel()
                    await self._serve_all()
                    return
                self._interrupted()
        finally:
            self.discard()

    async def _serve_all(self) -> None:
        task = trio.lowlevel.current_task()
        idle = Reason(self._abort)
        while True:
            frame = self._frame
            if frame is None:
                return
            # A scope cancelled when its stream has just ended, by a reset or by the timer, ends the waiting below and
            # with it itself: it cannot hit the next stream.
            await self._serve(frame)
            frame = None  # whoever waits holds no message
            if not self._next():
                return
            if self._frame is None:
                self._task = task
                await idle.parked()

    def _next(self) -> bool:
        if self.inflow is not None and not self.inflow.complete and not self._reset:
            assert self._frame is not None
            self._wire.abandon(self._frame.stream_id)
        self._frame = None
        self.request = None
        self.inflow = None
        self._reset = False
        self._stopped = None
        if self._held:
            self._let_go()
        self._timer.deadline = _NEVER  # while it waits it has all the time in the world
        return self._dispatcher.done(self)

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _interrupted(self) -> None:
        # The scope was cancelled: by the deadline, by the peer's reset, or too late to matter.
        frame, request = self._frame, self.request
        if frame is None:
            self._dispatcher.withdraw(self)  # too late: it was waiting already
            return
        if request is None:
            return  # too late: it was given its next stream already
        error = self.interruption()
        if error is not None and not self._reset:
            if self._stopped is None:
                self._chain.stats.downstream_rq_timeout += 1
            request.record.flag(error.flag)
            request.record.detail = error.detail
            if not self.oneway:
                self._answer_error(frame.stream_id, request, error)
        if self._next():
            # It is in the dispatcher's list without a task to wake: run goes on with a frame only, so end instead.
            self._dispatcher.withdraw(self)

    def _answer_error(self, stream_id: int, request: Request, error: StreamError) -> None:
        if request.record.response_started:
            self._chain.stats.downstream_rq_reset += 1
            self._say(Reset(stream_id, error.status))
        else:
            self._count(error.status)
            self._say(Head(stream_id, error_head(error), b"", True))

    def _give_up(self) -> None:
        # The answer broke off: nobody wants the rest of the request.
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def _say(self, frame: Head | Reset) -> None:
        # The last word on a stream that failed. The codec refuses it where all has been said.
        with contextlib.suppress(LocalProtocolError):
            self._wire.outbox.put(self._wire.codec.send(frame))

    async def _serve(self, frame: Head) -> None:
        wire = self._wire
        service = self._chain.service
        stats = self._chain.stats
        stats.downstream_rq_total += 1
        stats.downstream_rq_active += 1
        service.streams += 1
        now = wire.read_at
        inflow = self.inflow
        body: Body
        if inflow is None:
            body = BytesBody(frame.data)
        else:
            # What came in pieces of one read is whole by now. A tunnel is none, even if its first half has ended:
            # nothing of that is sent before the grant.
            body = (None if frame.message.tunnel else inflow.collect()) or inflow  # type: ignore[union-attr]  # a request
        request = Request(frame.message, body, wire.facts, self, now, frame.origin)  # type: ignore[arg-type]  # a request
        self.request = request
        self._begin(now, service.timeouts.stream_idle)
        try:
            if type(body) is BytesBody:
                handler = service.direct if self._direct else service.handler
                response = await answer(handler, request, service.refusals)
                await self._respond(frame.stream_id, request, response)
            else:
                await self._serve_streaming(frame.stream_id, request, service)
        except* Exception as group:
            # A body that a filter wrapped, or its work beside the stream. The neighbours must not notice.
            body_failed(request, group)
            self._refuse_response(frame.stream_id, request)
        finally:
            self._nursery = None
            if self._untold:
                self._left(request)
            stats.downstream_rq_active -= 1
            service.streams -= 1
            if service.drained is not None and not service.streams:
                service.emptied()
            if self.inflow is not None:
                await self.inflow.aclose()

    async def _serve_streaming(self, stream_id: int, request: Request, service: Service) -> None:
        response: Response | None = None
        stats = self._chain.stats
        tunnels = 0
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                response = await answer(service.handler, request, service.refusals)
                if request.head.grants(response.head):
                    tunnels = 1
                    stats.downstream_tunnels_total += 1
                    stats.downstream_tunnels_active += 1
                await self._respond(stream_id, request, response, keep=True)
                if not tunnels or request.record.local:
                    # An answer that is complete before its request ends the request. A tunnel has two halves.
                    nursery.cancel_scope.cancel()
        finally:
            stats.downstream_tunnels_active -= tunnels
            if response is not None:
                await response.aclose()
            await request.body.aclose()  # whoever wrapped it learns that nobody reads on

    async def _respond(
        self, stream_id: int, request: Request, response: Response, *, keep: bool = False
    ) -> None:
        wire = self._wire
        stats = self._chain.stats
        record = request.record
        try:
            if request.head.oneway:
                return
            head = response.head
            if record.local:
                stats.downstream_rq_local += 1
            body = response.body
            if type(body) is not BytesBody and wire.whole:
                try:
                    body = await read_whole(body, self._chain.service.max_message_bytes, self.hold)
                except StreamError as error:
                    record.flag(error.flag)
                    record.detail = error.detail
                    self._answer_error(stream_id, request, error)
                    return
            size = len(body.data) if type(body) is BytesBody else 0
            if size >= COUNTED:
                self.hold(size)
            outbox = wire.outbox
            if outbox.size >= outbox.limit:
                await outbox.room()
            if wire.whole or fits(wire, stream_id, body):
                assert type(body) is BytesBody
                outcome = head.status
                trailers = body.trailers
                if wire.whole:
                    frame = whole(stream_id, head, body.data, response.origin)
                    if size >= PREPARED_FROM and wire.preparing is not None:
                        frame = await prepared(wire.preparing, frame, wire.stream)
                        if outbox.full:
                            await outbox.room()
                    data = wire.codec.send(frame)
                elif trailers is None:
                    target = request.head.extra
                    if type(target) is Target and target.rpc is not None:
                        outcome = record.outcome = record.outcome or without_trailers(head)
                    data = wire.codec.send(whole(stream_id, head, body.data, response.origin))
                else:
                    data = wire.codec.send(Head(stream_id, head, body.data))
                    record.response_started = True
                    data += wire.codec.send(Trailers(stream_id, trailers.headers))
                    if trailers.status is not None and request.head.rpc is not None:
                        outcome = record.outcome = record.outcome or trailers.status
                record.response_started = True
                statuses = stats.statuses
                statuses[outcome] = statuses.get(outcome, 0) + 1
                record.sent_bytes = size
                outbox.put(data)
            else:
                await self._respond_streaming(stream_id, request, response)
        except LocalProtocolError as exc:
            _logger.warning("response cannot be sent as it is: %s", exc)
            self._refuse_response(stream_id, request)
        finally:
            if not keep and (response.lease is not None or type(response.body) is not BytesBody):
                await response.aclose()

    async def _respond_streaming(
        self, stream_id: int, request: Request, response: Response
    ) -> None:
        wire = self._wire
        wire.outbox.put(wire.codec.send(Head(stream_id, response.head)))
        request.record.response_started = True
        self._head_out(request, response.head)
        try:
            status = await send_body(wire, stream_id, response.body, partial(self._sent, request))
            self._told(request, status or _bare(request, response))
        except StreamError as error:
            self._told(request, error.status)
            request.record.flag(error.flag)
            request.record.detail = error.detail
            self._answer_error(stream_id, request, error)
            self._give_up()

    def _refuse_response(self, stream_id: int, request: Request) -> None:
        self._give_up()
        if request.record.response_started:
            self._chain.stats.downstream_rq_reset += 1
            self._say(Reset(stream_id, Status.INTERNAL))
        elif not request.head.oneway:
            self._count(INTERNAL_ERROR.status)
            self._say(Head(stream_id, INTERNAL_ERROR, b"", True))

    def _sent(self, request: Request, count: int) -> None:
        request.record.sent_bytes += count
        self.touch()

    def _count(self, status: Status) -> None:
        statuses = self._chain.stats.statuses
        statuses[status] = statuses.get(status, 0) + 1

    async def send_interim(self, head: ResponseHead) -> None:
        """See StreamControl."""
        wire = self._wire
        if wire.facts.traits.interim and self._frame is not None:
            if wire.outbox.full:
                await wire.outbox.room()
            wire.outbox.put(wire.codec.send(Head(self._frame.stream_id, head, interim=True)))


def _bare(request: Request, response: Response) -> Status:
    # The outcome of what ended without trailers.
    head = response.head
    return head.status if request.head.rpc is None else without_trailers(head)
