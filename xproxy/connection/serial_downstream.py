"""A downstream connection whose protocol has one stream at a time: HTTP/1.1, and L4 as a codec with one stream.

The stream runs in the connection's own task: no spawn, no queue, no scope and no channel for a message that came
whole.
"""

from __future__ import annotations

import logging
import math

import trio

from xproxy.codecs.api import Codec, SupportsGoAway, SupportsProgress
from xproxy.connection.bindings import Bindings
from xproxy.connection.pull import BYPASS_AFTER, FramePuller, PulledBody
from xproxy.connection.service import Port, Service
from xproxy.connection.streams import StreamScope, answer
from xproxy.model.errors import LocalProtocolError, RequestTimeout, StreamError, Unsupported
from xproxy.model.frames import Data, Frame, GoAway, Head, Reply, Reset, Trailers, Violation, whole
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Closable, ConnectionFacts, Request, Response, error_head
from xproxy.transport.stream import ByteStream
from xproxy.transport.timers import Timers

_logger = logging.getLogger(__name__)


class SerialDownstream(StreamScope, Bindings):
    """Drives one connection to its end. ``run`` owns the socket."""

    __slots__ = (
        "_bindings",
        "_busy",
        "_draining",
        "_half_close",
        "_half_finished",
        "_port",
        "_progress",
        "_service",
        "facts",
        "side",
    )

    def __init__(
        self, stream: ByteStream, codec: Codec, facts: ConnectionFacts, port: Port, timers: Timers
    ) -> None:
        StreamScope.__init__(self, timers)
        self.side = FramePuller(stream, codec)
        self.facts = facts
        facts.downstream = self
        self._port = port
        self._service: Service = port.service
        self._busy = False  # a stream, or a head that is not complete yet
        self._half_close = False
        self._half_finished = False
        self._progress = codec if isinstance(codec, SupportsProgress) else None
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
        if isinstance(self.side.codec, SupportsGoAway):
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
                        self._draining and not isinstance(codec, SupportsGoAway)
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

    async def _refuse(self, violation: Violation) -> None:
        self._port.stats.downstream_cx_protocol_error += 1
        if violation.farewell:
            self._count(violation.reason)
        _logger.info(
            "listener %s: %s from %s: %s",
            self._port.name,
            self.facts.protocol,
            self.facts.peer,
            violation.detail,
        )
        if violation.farewell:
            await self._write(violation.farewell)
        await self._linger()

    async def _linger(self) -> None:
        # Bytes unread when a socket closes make the kernel send RST, which can destroy what the peer has yet to read.
        if self.side.ended or self.side.stream.hung_up:
            return
        with trio.move_on_after(self._port.service.timeouts.linger):
            self.side.stream.shutdown_write()
            while await self.side.stream.read():
                pass

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

    async def _farewell(self, error: StreamError, *, linger: bool = False) -> None:
        # Answer a stream that was cut off. A peer that does not read must not hold us: the write is bounded.
        try:
            data = self.side.codec.send(Head(1, error_head(error), b"", True))
        except LocalProtocolError:
            self.side.closing = True  # the protocol has no place for an answer here
            return
        self._count(error.status)
        with trio.move_on_after(self._port.service.timeouts.linger) as scope:
            await self._write(data)
            if linger:
                await self._linger()
        if scope.cancelled_caught:
            self.side.closing = True

    # ---- one stream

    async def _exchange(self, head: Head) -> None:
        service = self._service = self._port.service
        stats = self._port.stats
        stats.downstream_rq_total += 1
        stats.downstream_rq_active += 1
        service.streams += 1
        self._busy = True
        now = trio.current_time()
        body = BytesBody(head.data) if head.end else RequestBody(self, head.data)
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
            stats.downstream_rq_active -= 1
            service.leave()

    async def _exchange_streaming(self, request: Request, service: Service) -> None:
        response: Response | None = None
        self._half_close = False
        if request.head.tunnel:
            self.side.stream.half_close = (
                True  # who has sent all there is to send still wants the answer
            )
        broken: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                response = await answer(service.handler, request)
                self._half_close = self.facts.traits.half_close or (
                    request.head.tunnel and response.head.status is Status.OK
                )
                await self._respond(request, response, keep=True)
                if self.facts.traits.headless and type(response.body) is BytesBody:
                    self._end_tunnel(request)
                if not self._half_close or request.local:
                    # An answer that is complete before its request ends the request.
                    nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError) as group:
            broken = group
        finally:
            self._nursery = None
            if response is not None:
                await response.aclose()
        if broken is not None:  # raised up there it might come out in a group
            raise trio.BrokenResourceError("the connection broke") from broken

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
            self._count(head.status)
            if request.local:
                self._port.stats.downstream_rq_local += 1
            if type(body) is BytesBody and body.trailers is None:
                data = self.side.codec.send(whole(1, head, body.data, response.origin))
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

    async def _respond_streaming(self, request: Request, response: Response) -> None:
        codec = self.side.codec
        body = response.body
        data = codec.send(Head(1, response.head))
        request.response_started = True
        if data:
            await self._write(data)
        ended = False
        bypass_at: float = BYPASS_AFTER
        try:
            while True:
                piece = await body.receive()
                if type(piece) is Trailers:
                    await self._write(codec.send(Trailers(1, piece.headers)))
                    ended = True
                    continue
                assert not isinstance(piece, Trailers)
                data = codec.send(Data(1, piece))
                request.sent_bytes += len(piece)
                await self._write(data)
                self.touch()
                if request.sent_bytes >= bypass_at and isinstance(body, PulledBody):
                    await self._bypass(request, body)
                    bypass_at = math.inf
        except trio.EndOfChannel:
            if not ended:
                data = codec.send(Data(1, b"", True))
                if data:
                    await self._write(data)
            if self._half_close:
                self.side.stream.shutdown_write()
        except StreamError as error:
            # The head is out: the client must see a broken message, never a well-formed lie.
            request.flag(error.flag)
            request.detail = error.detail
            self._port.stats.downstream_rq_reset += 1
            self.side.closing = True
            farewell = codec.send(Reset(1, error.status))
            if farewell:
                await self._write(farewell)
            self.side.stream.abort()

    async def _bypass(self, request: Request, body: PulledBody) -> None:
        stats = self._port.stats

        def moved(count: int) -> None:
            request.sent_bytes += count
            stats.downstream_tx_bytes_total += count
            self.touch()

        await body.bypass(self.side, self._service.timeouts.write or 1e9, moved)

    def _count(self, status: Status) -> None:
        statuses = self._port.stats.statuses
        statuses[status] = statuses.get(status, 0) + 1

    async def _write(self, data: bytes) -> None:
        self._port.stats.downstream_tx_bytes_total += len(data)
        sent = self.side.stream.write_now(data)
        if sent != len(data):
            await self._write_rest(data, sent)

    async def _write_rest(self, data: bytes, sent: int) -> None:
        limit = self._service.timeouts.write or 1e9
        with memoryview(data) as view:
            while sent < len(view):
                with trio.move_on_after(limit) as scope:
                    await self.side.stream.wait_writable()
                if scope.cancelled_caught:
                    self._port.stats.downstream_cx_write_timeout += 1
                    self.side.closing = True
                    self.side.stream.abort()
                    raise trio.BrokenResourceError(
                        f"the client took nothing for {limit:g} s (timeouts.write)"
                    )
                sent += self.side.stream.write_now(view[sent:])
                self.touch()

    # ---- StreamControl and Downstream

    async def send_interim(self, head: ResponseHead) -> None:
        """See StreamControl."""
        if self.facts.traits.interim:
            data = self.side.codec.send(Head(1, head, interim=True))
            if data:
                await self._write(data)

    async def call(self, request: Request) -> Response:
        """See Downstream."""
        raise Unsupported(f"{self.facts.protocol} has no requests from server to client")


class RequestBody(PulledBody):
    """A request body that did not come whole, read from the client as it is forwarded."""

    __slots__ = ("_downstream",)

    def __init__(self, downstream: SerialDownstream, first: bytes) -> None:
        super().__init__(downstream.side, first)
        self._downstream = downstream

    async def _pull(self) -> Frame | None:
        side = self._side
        downstream = self._downstream
        request = downstream.request
        tunnel = request is None or request.head.tunnel or downstream.facts.traits.headless
        if side.inbox or tunnel:  # a tunnel may be quiet for as long as its stream may be idle
            frame = await super()._pull()
        else:
            limit = downstream._service.timeouts.body or 1e9
            with trio.move_on_after(limit) as scope:
                frame = await super()._pull()
            if scope.cancelled_caught:
                raise RequestTimeout(
                    f"no piece of the request body came for {limit:g} s (timeouts.body)"
                )
        downstream.touch()
        return frame
