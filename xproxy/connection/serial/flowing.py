"""An exchange on a serial connection of which only bodies flow any more: written down, left, and gone on with.

Rule of this file: a task that waits has no byte in hand. What was read is in an inbox, in ``PulledBody.first`` or in
the rest of a wire, and what is in a pipe is brought back there before anything is written down.
"""

from __future__ import annotations

import math
from typing import Final

import attrs
import trio

from xproxy.codecs.api import SupportsSnapshot, supports
from xproxy.connection.bindings import Bindings
from xproxy.connection.flowing import FlowingExchange, Half, Piece
from xproxy.connection.phase import Phase
from xproxy.connection.plain import (
    answer_of,
    asked_of,
    attempts_of,
    frames_of,
    noted,
    pieces_of,
    request_of,
    told_of,
)
from xproxy.connection.serial.body import PulledBody
from xproxy.connection.serial.request_body import RequestBody, TunnelBody
from xproxy.connection.serial.upstream import SerialUpstream
from xproxy.connection.serial.writing import SerialWriting
from xproxy.connection.standing import Moment, Standing
from xproxy.connection.wire import Wire
from xproxy.stream.body import Body, BytesBody
from xproxy.stream.exchange import Request, Response
from xproxy.stream.links import Chain, Stays, chain_of

_ENDS: Final = frozenset((Phase.LEAVING, Phase.HEARD, Phase.FINISHED))
_FLOWS: Final = _ENDS | {Phase.SERVING, Phase.SOUGHT}
_NO_LINKS: Final = Chain((), (), None)


@attrs.frozen(eq=False)
class Flow:
    """Such an exchange, found."""

    request: Request
    response: Response
    upstream: SerialUpstream
    up: Chain
    """What the request's body comes through; empty once its end has gone."""
    down: Chain
    """What the response's comes through, likewise."""
    leases: Chain

    @property
    def bodies(self) -> tuple[PulledBody, ...]:
        """Those that still flow, as they come from their connections."""
        ends = (self.up.innermost, self.down.innermost)
        return tuple(body for body in ends if isinstance(body, PulledBody))

    def depart(self) -> None:
        """Nothing of it is told, counted or closed here any more."""
        for chain in (self.up, self.down, self.leases):
            for link in chain.links:
                link.depart()


@attrs.frozen(eq=False)
class Begun:
    """An exchange that another process had begun, put together again."""

    request: Request
    response: Response
    upstream: SerialUpstream
    told: FlowingExchange


class SerialFlowing(SerialWriting, Bindings):
    """The part of a downstream connection that moves with its exchange."""

    __slots__ = ("_begun", "_frozen_flow")

    _begun: Begun | None
    """To be gone on with before anything else."""
    _frozen_flow: Flow | None

    @property
    def patience(self) -> float:
        """See BodyOwner. A tunnel may be quiet for as long as its stream may be idle."""
        if self._tunnel is not None or self.facts.traits.headless:
            return math.inf
        return self._service.timeouts.body or math.inf

    @property
    def why(self) -> str:
        """Why its exchange cannot be written down, for a report; empty: it can, or there is none."""
        if self.request is None or self._frozen_flow is not None:
            return ""
        if self._flow is None:
            return "a request that is being answered"
        try:
            self._find_flow(self.request, self._flow)
        except Stays as stays:
            return str(stays)
        return ""

    def _standing_amid(self, response: Response) -> Standing:
        if self.wire.phase not in _FLOWS or self._chain.draining:
            return Standing.NEVER
        if self.scope is None or self.scope.cancel_called or self.request is None:
            return Standing.NEVER  # it is being cut off
        if self.wire.paused:
            return Standing.NOT_NOW
        try:
            self._find_flow(self.request, response)
        except Stays as stays:
            return Standing.NOT_NOW if stays.for_now else Standing.BUSY
        return Standing.FLOWING

    def _find_flow(self, request: Request, response: Response) -> Flow:
        if response.lease is None:
            raise Stays("a response of the proxy's own")
        leases = chain_of(response.lease)
        upstream = leases.innermost
        if not isinstance(upstream, SerialUpstream):
            raise Stays("its upstream connection is shared with others")
        if why := upstream.stays():
            raise Stays(why, for_now=True)
        up = down = _NO_LINKS
        if self._down:
            down = chain_of(response.body)
            if down.innermost is not upstream.body:
                raise Stays("its response comes from somewhere else")
        uploads = upstream.uploads
        if uploads is not None:
            up = chain_of(uploads)
            body = up.innermost
            if not isinstance(body, RequestBody) or not body.comes_from(self.wire):
                raise Stays("its request's body comes from somewhere else")
        if not (up.links or down.links):
            raise Stays("an exchange that is about to end", for_now=True)
        beside = len(self._nursery.child_tasks) if self._nursery is not None else 0
        if beside != (1 if up.links else 0):
            raise Stays("a filter works beside it", for_now=uploads is None)
        if self.binds_others(*leases.links):
            raise Stays("other upstream connections are bound to it")
        for wire in (self.wire, upstream.wire):
            _can_move(wire)
        pieces_of(self.wire.inbox)
        pieces_of(upstream.wire.inbox)
        return Flow(request, response, upstream, up, down, leases)

    # ---- in the process that has it

    def _freeze_flow(self, response: Response) -> Moment:
        if self.request is None:
            raise Stays("an exchange that is about to end")
        flow = self._find_flow(self.request, response)
        upstream = flow.upstream
        sock = self.wire.pause()
        try:
            upstream_sock = upstream.wire.pause()
            for body in flow.bodies:
                body.halt()
            left = self._timer.deadline - trio.current_time()
            lease, *links = flow.leases.notes
            exchange = FlowingExchange(
                asked=asked_of(flow.request.head),
                answer=answer_of(response.head),
                told=told_of(flow.request.record),
                age=trio.current_time() - flow.request.started,
                attempts=attempts_of(flow.request.record.attempts, trio.current_time()),
                metadata=noted(flow.request.noted),
                deadline=max(self._deadline - trio.current_time(), 0.0),
                idle_limit=float(self._idle_limit),
                untold=self._untold,
                streamed=self._nursery is not None,
                tunnel=flow.request.head.grants(response.head),
                up=_half(flow.up, self.wire.phase, pieces_of(self.wire.inbox)),
                down=_half(flow.down, upstream.wire.phase, pieces_of(upstream.wire.inbox)),
                leases=tuple(links),
                upstream=upstream.write_down(upstream_sock, lease.fields),
            )
            moment = Moment(parts=self.wire.export(), sock=sock, left=left, exchange=exchange)
        except BaseException:
            if upstream.wire.paused:
                upstream.wire.resume()
            self.wire.resume()
            raise
        self._timers.arm(self._timer, math.inf)
        self._frozen_flow = flow
        return moment

    def _thaw_flow(self, flow: Flow) -> None:
        self._frozen_flow = None
        if flow.upstream.wire.phase is not Phase.CLOSED:
            flow.upstream.wire.resume()

    def _leave_flow(self, flow: Flow) -> None:
        # Before the connection itself leaves: whoever waits is told by both, and finds that nothing is his any more.
        self._frozen_flow = self.request = None
        self._untold = False
        flow.depart()
        flow.upstream.leave()
        if self.scope is not None:
            self.scope.cancel()

    # ---- in the process that gets it

    def take(self, told: FlowingExchange) -> Request:
        """Return the request of an exchange that goes on here, with its body as it comes from the client.

        Before ``run``; ``go_on`` follows.
        """
        self.wire.phase = Phase(told.up.phase)
        self.wire.inbox.extend(frames_of(told.up.inbox, 1))
        self.wire.count(told.up)
        body: Body = BytesBody()
        if told.up.flows:
            self._tunnel = TunnelBody(self, told.up.first) if told.tunnel else None
            body = self._tunnel or RequestBody(self, told.up.first)
            if self._tunnel is not None:
                self._tunnel.open()
        return request_of(told, self.facts, self, body)

    def go_on(self, begun: Begun) -> None:
        """Let ``run`` go on with this exchange first."""
        self._begun = begun


def _can_move(wire: Wire) -> None:
    if not supports(wire.codec, SupportsSnapshot):
        raise Stays("its codec cannot be written down")
    if not wire.movable:
        raise Stays("its stream cannot be given to another process")
    if wire.unsettled:
        raise Stays("a step that ends soon", for_now=True)


def _half(chain: Chain, phase: Phase, inbox: tuple[Piece, ...]) -> Half:
    body = chain.innermost
    return Half(
        flows=bool(chain.links),
        first=bytes(body.first) if isinstance(body, PulledBody) else b"",
        inbox=inbox,
        phase=phase.value if phase in _ENDS else Phase.SERVING.value,
        notes=chain.notes,
    )
