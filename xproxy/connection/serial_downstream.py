"""A downstream connection whose protocol has one stream at a time: HTTP/1.1, and L4 as a codec with one stream.

The stream runs in the connection's own task: no spawn, no queue, no scope and no channel for a message that came
whole.
"""

from __future__ import annotations

import contextlib
import logging
import math

import trio

from xproxy.codecs.api import Codec, SupportsGoAway, SupportsProgress, supports
from xproxy.connection.bindings import Bindings
from xproxy.connection.pull import FramePuller
from xproxy.connection.request_body import RequestBody, TunnelBody
from xproxy.connection.serial_writing import SerialWriting
from xproxy.connection.service import Port, Service
from xproxy.connection.streams import answer
from xproxy.model.errors import LocalProtocolError, RequestTimeout, StreamError, Unsupported
from xproxy.model.frames import Frame, GoAway, Head, Reply, Violation, whole
from xproxy.model.message import RequestHead
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Closable, ConnectionFacts, Request, Response, error_head
from xproxy.transport.stream import ByteStream
from xproxy.transport.timers import Timers

_logger = logging.getLogger(__name__)


class SerialDownstream(SerialWriting, Bindings):
    """Drives one connection to its end. ``run`` owns the socket."""

    __slots__ = ("_bindings", "_busy", "_draining", "_half_finished", "_progress")

    def __init__(
        self, stream: ByteStream, codec: Codec, facts: ConnectionFacts, port: Port, timers: Timers
    ) -> None:
        super().__init__(FramePuller(stream, codec), facts, port, timers)
        facts.downstream = self
        self._busy = False  # a stream, or a head that is not complete yet
        self._half_finished = False
        self._progress = codec if supports(codec, SupportsProgress) else None
        self._draining = False
        self._bindings: dict[object, Closable] | None = None

    # ---- life

    async def run(self, first: bytes) -> None:
        """Serve the connection, whose first bytes have been read already, until it ends; then close it."""
        self.side.inbox.extend(self.side.codec.receive(first))
        self._half_finished = bool(first) and not self.side.inbox
        try:
            while True:
                with trio.CancelScope() as scope:
                    self.scope = self._timer.scope = scope
                    self._timer.fired = False
                    self.side.stream.watch(scope)
                    await self._serve()
                    return
                self.side.stream.watch(None)
                if not await self._interrupted():
                    return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            if self.request is not None:
                self._port.stats.downstream_cx_destroy_remote += 1
        finally:
            self._timers.discard(self._timer)
            self.facts.downstream = None
            self.close_bound()
            if self.request is not None and self.request.response_started:
                # Cut off from outside in the middle of a response: a clean end could make it look whole.
                self.side.stream.abort()
            self.side.stream.close()

    def drain(self) -> None:
        """Let the stream in flight finish, announce the end with its response, and close.

        An idle connection has ``timeouts.linger`` for one more request: a client of keep-alive may have sent it
        already, and a close would fail it (RFC 9112 §9.6).
        """
        self._draining = True
        if supports(self.side.codec, SupportsGoAway):
            self.side.codec.goaway()
        if not self._busy and self.scope is not None:
            self._timers.arm(self._timer, trio.current_time() + self._port.service.timeouts.linger)

    async def _serve(self) -> None:
        inbox = self.side.inbox
        codec = self.side.codec
        timers = self._timers
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
                    if self.side.closing or (
                        self._draining and not supports(codec, SupportsGoAway)
                    ):
                        return
                    inbox.extend(codec.receive(b""))
                elif await self._aside(frame):
                    return
            if self.side.ended:
                return
            timeouts = self._port.service.timeouts
            if self._half_finished or (self._progress is not None and self._progress.unfinished):
                if not self._busy:
                    self._busy = True
                    timers.arm(self._timer, trio.current_time() + (timeouts.head or 1e9))
            else:
                self._busy = False
                limit = timeouts.linger if self._draining else timeouts.idle or 1e9
                timers.arm(self._timer, trio.current_time() + limit)
            data = await self.side.stream.read()
            if data:
                self._port.stats.downstream_rx_bytes_total += len(data)
                frames = codec.receive(data)
                if frames:
                    inbox.extend(frames)
                else:
                    self._half_finished = True
            else:
                self.side.ended = True
                inbox.extend(codec.receive(None))

    async def _aside(self, frame: Frame) -> bool:
        # A frame that begins no stream. True: the connection ends.
        if type(frame) is Reply:
            await self._write(frame.data)
        elif type(frame) is GoAway:
            await self._linger()
            return True
        elif type(frame) is Violation:
            await self._refuse(frame)
            return True
        return False  # a late piece of a request that has been answered already

    async def _interrupted(self) -> bool:
        # The scope was cancelled. True: go on with the connection.
        stats = self._port.stats
        request, self.request = self.request, None
        if not self._timer.fired:
            if request is not None:
                stats.downstream_cx_destroy_remote += 1
            return False
        error = self.interruption()
        if request is None:
            if self.side.inbox or self._timer.deadline != math.inf:
                # A request came at the very moment; or the stream before had ended when its time came, and another
                # time was set since.
                return True
            if self._busy:
                stats.downstream_cx_head_timeout += 1
                error = RequestTimeout(
                    f"the request head was not complete within {self._port.service.timeouts.head:g} s (timeouts.head)"
                )
                self._refused(error_head(error), error.flag)
                await self._farewell(error, linger=True)
            elif not self._draining:
                stats.downstream_cx_idle_timeout += 1
            return False
        stats.downstream_rq_timeout += 1
        if error is None or request.response_started:
            stats.downstream_rq_reset += 1
            self.side.stream.abort()
            return False
        request.flag(error.flag)
        request.detail = error.detail
        await self._farewell(error)
        if self.side.closing or self.facts.traits.headless:
            return False
        self.side.inbox.extend(self.side.codec.receive(b""))
        return True

    # ---- one stream

    async def _exchange(self, head: Head) -> None:
        service = self._service = self._port.service
        stats = self._port.stats
        stats.downstream_rq_total += 1
        stats.downstream_rq_active += 1
        service.streams += 1
        self._busy = True
        now = trio.current_time()
        body = BytesBody(head.data) if head.end else self._pulled(head)
        request = Request(head.message, body, self.facts, self, now, head.origin)  # type: ignore[arg-type]  # a server's
        self.request = request
        timeouts = service.timeouts
        self._begin(now, timeouts.idle if self.facts.traits.headless else timeouts.stream_idle)
        try:
            if head.end:
                await self._respond(request, await answer(service.handler, request))
            else:
                await self._exchange_streaming(request, service)
            self.request = None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise
        except Exception:
            # A body that a filter wrapped, or its work beside the stream: nothing about the message is sure any more.
            _logger.exception("a body failed on a %s request", self.facts.protocol)
            self.request = None
            self.side.closing = True
            if request.response_started:
                stats.downstream_rq_reset += 1
                self.side.stream.abort()
            else:
                await self._farewell(StreamError("internal error in the proxy"), linger=True)
        finally:
            if self._untold:
                self._left(request)
            stats.downstream_rq_active -= 1
            service.leave()

    def _pulled(self, head: Head) -> RequestBody:
        # A body that is still to come, and nothing of it while nobody knows whether there is a tunnel.
        message = head.message
        if not isinstance(message, RequestHead) or not message.tunnel:
            self._tunnel = None
            return RequestBody(self, head.data)
        self._tunnel = TunnelBody(self, head.data)
        return self._tunnel

    @property
    def patience(self) -> float:
        """See BodyOwner. A tunnel may be quiet for as long as its stream may be idle."""
        if self._tunnel is not None or self.facts.traits.headless:
            return math.inf
        return self._service.timeouts.body or math.inf

    async def _exchange_streaming(self, request: Request, service: Service) -> None:
        response: Response | None = None
        half_close = self._half_close = self.facts.traits.half_close
        if self._tunnel is not None:
            # Who has sent all there is to send still wants the answer.
            self.side.stream.half_close = True
        broken: BaseException | None = None
        tunnels = 0
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                response = await answer(service.handler, request)
                if request.head.grants(response.head):
                    self._half_close = True
                    self.side.closing = True  # it is no message's connection any more
                    tunnels = 1
                    self._port.stats.downstream_tunnels_total += 1
                    self._port.stats.downstream_tunnels_active += 1
                else:
                    self.side.stream.half_close = half_close
                await self._respond(request, response, keep=True)
                if tunnels and self._tunnel is not None and type(response.body) is BytesBody:
                    self._tunnel.open()  # all that there is in its other half came with its answer
                    self.side.stream.shutdown_write()
                if self.facts.traits.headless and type(response.body) is BytesBody:
                    self._end_tunnel(request)
                if not self._half_close or request.local:
                    # An answer that is complete before its request ends the request.
                    nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError) as group:
            broken = group
        finally:
            self._nursery = None
            self._port.stats.downstream_tunnels_active -= tunnels
            if not tunnels:
                self.side.stream.half_close = half_close
            if response is not None:
                await response.aclose()
        if broken is not None:  # raised up there it might come out in a group
            raise trio.BrokenResourceError("the connection broke") from broken
        if tunnels:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._linger()

    def _end_tunnel(self, request: Request) -> None:
        # An answer that was made here. L4 has no word for an error, so the client must at least see a broken
        # connection; it would wait for ever otherwise.
        if request.local:
            self.side.closing = True
            self.side.stream.abort()
        else:
            self.side.stream.shutdown_write()

    async def _respond(self, request: Request, response: Response, *, keep: bool = False) -> None:
        try:
            if self.side.violation is not None:
                # The request broke its protocol half-way: the codec has the right answer and takes no other.
                violation, self.side.violation = self.side.violation, None
                self.side.closing = True
                if request.response_started:
                    self.side.stream.abort()
                else:
                    await self._refuse(violation)
                return
            head = response.head
            body = response.body
            if request.local:
                self._port.stats.downstream_rq_local += 1
            if type(body) is BytesBody and body.trailers is None:
                data = self.side.codec.send(whole(1, head, body.data, response.origin))
                self._count(head.status)
                request.response_started = True
                request.sent_bytes = len(body.data)
                sent = self.side.stream.write_now(data)
                if sent != len(data):
                    await self._write_rest(data, sent)
                self._port.stats.downstream_tx_bytes_total += len(data)
            else:
                await self._respond_streaming(request, response)
        except LocalProtocolError as exc:
            _logger.warning("response cannot be sent as it is: %s", exc)
            self.side.closing = True
            self.side.stream.abort()
        finally:
            if response.lease is not None and not keep:
                await response.aclose()

    # ---- Downstream

    @property
    def draining(self) -> bool:
        """See Downstream."""
        return self._port.draining

    async def call(self, request: Request) -> Response:
        """See Downstream."""
        raise Unsupported(f"{self.facts.protocol} has no requests from server to client")
