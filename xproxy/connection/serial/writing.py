"""What goes out on a serial downstream connection: responses in pieces, farewells, and how long one may stall."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import trio

from xproxy.codecs.outcome import without_trailers
from xproxy.connection.phase import Event
from xproxy.connection.refusals import tell_of_refusal
from xproxy.connection.serial.body import BYPASS_AFTER, PulledBody
from xproxy.connection.serial.request_body import TunnelBody
from xproxy.connection.serial.wire import SerialWire
from xproxy.connection.service import FilterChain, Service
from xproxy.connection.streams import StreamScope
from xproxy.connection.wire import WriteStalled
from xproxy.model.errors import LocalProtocolError, RequestBroken, StreamError
from xproxy.model.frames import Data, Head, Reset, Trailers, Violation
from xproxy.model.message import Local, ResponseHead
from xproxy.model.status import Status
from xproxy.stream.exchange import ConnectionFacts, Request, Response, error_head
from xproxy.transport.timers import Timers

_logger = logging.getLogger(__name__)


class SerialWriting(StreamScope):
    """The way out of a connection; ``downstream`` adds its life."""

    __slots__ = (
        "_chain",
        "_cut_off",
        "_down",
        "_flow",
        "_found",
        "_half_close",
        "_service",
        "_tunnel",
        "facts",
        "wire",
    )

    def __init__(
        self, wire: SerialWire, facts: ConnectionFacts, chain: FilterChain, timers: Timers
    ) -> None:
        StreamScope.__init__(self, timers, facts.share)
        self.wire = wire
        self.facts = facts
        self._chain = chain
        self._service: Service = chain.service
        self._half_close = False
        self._cut_off = False
        """A tunnel that its upstream broke off is to be reset, once its client has had time to read."""
        self._tunnel: TunnelBody | None = None
        """What the client sends into the tunnel that the request asks for, if it does."""
        self._flow: Response | None = None
        """The response, while nothing is left of its exchange but bodies that flow."""
        self._down = False
        """Its own still does."""
        self._found: Callable[[], bool] | None = None
        """Whoever would freeze the connection; None: nobody."""

    def _count(self, status: Status) -> None:
        statuses = self._chain.stats.statuses
        statuses[status] = statuses.get(status, 0) + 1

    async def _write(self, data: bytes) -> None:
        wire = self.wire
        sent = 0 if wire.rest else wire.stream.write_now(data)
        self._chain.stats.downstream_tx_bytes_total += sent
        if sent != len(data):
            await self._write_rest(memoryview(data)[sent:])

    async def _write_rest(self, rest: memoryview) -> None:
        wire = self.wire
        wire.rest = memoryview(b"".join((wire.rest, rest))) if wire.rest else rest
        del rest  # it is the wire's
        limit = self._service.timeouts.write or math.inf
        try:
            await wire.flush(self.touch, limit)
        except WriteStalled as exc:
            self._chain.stats.downstream_cx_write_timeout += 1
            wire.abort()
            raise trio.BrokenResourceError(
                f"the client took nothing for {limit:g} s (timeouts.write)"
            ) from exc

    # ---- a response in pieces

    async def _respond_streaming(
        self, request: Request, response: Response, *, begun: bool = False
    ) -> None:
        wire = self.wire
        body = response.body
        if not begun:
            data = wire.codec.send(Head(1, response.head))
            request.record.response_started = True
            self._head_out(request, response.head)
            if data:
                await self._write(data)
            if self._half_close and self._tunnel is not None:
                self._tunnel.open()
        self._flow = response
        self._down = True
        ended = False
        outcome = response.head.status
        bypass_at: float = BYPASS_AFTER
        try:
            if begun and wire.rest:
                # Of what another process had begun to write.
                await self._write_rest(memoryview(b""))
            if self._found is not None:
                await self._sought()
            while True:
                piece = await body.receive()
                if type(piece) is Trailers:
                    self._flow = None  # it is about to end
                    await self._write(wire.codec.send(Trailers(1, piece.headers)))
                    ended = True
                    outcome = piece.status or outcome
                    continue
                assert not isinstance(piece, Trailers)
                data = wire.codec.send(Data(1, piece))
                request.record.sent_bytes += len(piece)
                await self._write(data)
                data = piece = b""  # they have gone, and the next may take their time
                self.touch()
                if request.record.sent_bytes >= bypass_at and isinstance(body, PulledBody):
                    bypass_at = await self._bypass(request, body)
        except trio.EndOfChannel:
            self._flow = None
            if not ended and request.head.rpc is not None:
                outcome = without_trailers(response.head)
            self._told(request, outcome)
            if not ended:
                data = wire.codec.send(Data(1, b"", True))
                if data:
                    await self._write(data)
            if self._half_close:
                self.wire.stream.shutdown_write()
        except StreamError as error:
            # The head is out: the client must see a broken message, never a well-formed lie.
            self._flow = None
            self._told(request, error.status)
            request.record.flag(error.flag)
            request.record.detail = error.detail
            self._chain.stats.downstream_rq_reset += 1
            wire.after(Event.GOODBYE)
            farewell = wire.codec.send(Reset(1, error.status))
            if farewell:
                await self._write(farewell)
            if self._half_close and self._nursery is not None and request.record.sent_bytes:
                # It may be sending, and would hear of the reset before it has read what the upstream said.
                self._cut_off = True
                self._nursery.cancel_scope.cancel()
            else:
                wire.abort()
        finally:
            self._flow = None

    async def _sought(self) -> None:
        """Let whoever would freeze it do so, and stand still for as long as it is frozen."""
        raise NotImplementedError

    async def _bypass(self, request: Request, body: PulledBody) -> float:
        # Returns the sent bytes from which on it is to be done again.
        stats = self._chain.stats

        def moved(count: int) -> None:
            request.record.sent_bytes += count
            stats.downstream_tx_bytes_total += count
            self.touch()

        again = await body.bypass(self.wire, self._service.timeouts.write or 1e9, moved)
        return BYPASS_AFTER if again else math.inf

    async def send_interim(self, head: ResponseHead) -> None:
        """See StreamControl."""
        if self.facts.traits.interim:
            data = self.wire.codec.send(Head(1, head, interim=True))
            if data:
                try:
                    await self._write(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                    # Whoever forwards it must not take it for the upstream's doing.
                    raise RequestBroken("the client went away before the response") from exc

    # ---- last words

    async def _refuse(self, violation: Violation) -> None:
        self._chain.stats.downstream_cx_protocol_error += 1
        if violation.farewell:
            self._count(violation.reason)
            if self.request is None:
                extra = Local(detail=violation.detail)
                code = violation.native_status
                self._refused(
                    ResponseHead(status=violation.reason, native_status=code, extra=extra), "DPE"
                )
        _logger.info(
            "listener %s: %s from %s: %s",
            self._chain.name,
            self.facts.protocol,
            self.facts.peer,
            violation.detail,
        )
        if violation.farewell:
            await self._write(violation.farewell)

    def _refused(self, head: ResponseHead, flag: str) -> None:
        self._chain.stats.downstream_rq_refused += 1
        tell_of_refusal(self._chain, self.facts, head, flag, self)

    async def _farewell(self, error: StreamError) -> None:
        # Answer a stream that was cut off. A peer that does not read must not hold us: the write is bounded.
        try:
            data = self.wire.codec.send(Head(1, error_head(error), b"", True))
        except LocalProtocolError:
            self.wire.after(Event.GOODBYE)  # the protocol has no place for an answer here
            return
        self._count(error.status)
        with trio.move_on_after(self._chain.service.timeouts.linger) as scope:
            await self._write(data)
        if scope.cancelled_caught:
            self.wire.after(Event.GOODBYE)
