"""One stream of a serial downstream connection: from a request's head to the end of its response, in one task."""

from __future__ import annotations

import logging
import math

import trio

from xproxy.codecs.outcome import without_trailers
from xproxy.connection.failures import body_failed
from xproxy.connection.phase import Event
from xproxy.connection.serial.body import PulledBody
from xproxy.connection.serial.flowing import Begun
from xproxy.connection.serial.moving import SerialMoving
from xproxy.connection.serial.request_body import RequestBody, TunnelBody
from xproxy.connection.service import Service
from xproxy.connection.streams import answer
from xproxy.model.errors import LocalProtocolError, StreamError
from xproxy.model.frames import Head, whole
from xproxy.model.message import RequestHead, Target
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request, Response
from xproxy.stream.held import COUNTED
from xproxy.transport.farewell import hear_out

_logger = logging.getLogger(__name__)


class SerialExchanging(SerialMoving):
    """The part of a downstream connection that knows a stream; ``downstream`` adds what comes between two."""

    __slots__ = ()

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

    def _heard(self, count: int) -> None:
        self._chain.stats.downstream_rx_bytes_total += count
