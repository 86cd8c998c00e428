"""A connection that many streams share: messages matched by id (MESSAGES), bodies in pieces (FRAMES). Either role.

Both ends may call: what the peer asks is served by a task a stream, what we ask waits in a table by id. A downstream
and an upstream connection differ only in who may call first.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import trio

from xproxy.codecs.api import Codec, SupportsDeadline, SupportsGoAway, SupportsHeartbeat, supports
from xproxy.connection.phase import INPUT_OVER, Event, Phase
from xproxy.connection.refusals import count_refusal
from xproxy.connection.serial.upstream import LAST_WORDS_SECONDS
from xproxy.connection.service import FilterChain
from xproxy.connection.shared.acknowledgement import Acknowledgement
from xproxy.connection.shared.calls import Calls
from xproxy.connection.shared.departure import bye, farewell
from xproxy.connection.shared.hold import Hold
from xproxy.connection.shared.keepalive import keepalive
from xproxy.connection.shared.moving import Moving
from xproxy.connection.shared.outbox import Outbox
from xproxy.connection.shared.served import Served
from xproxy.connection.shared.silence import Silence
from xproxy.connection.shared.wire import SharedWire
from xproxy.connection.standing import Moment
from xproxy.connection.wire import WriteStalled
from xproxy.model.errors import Overflow, UpstreamProtocolError, UpstreamReset
from xproxy.model.frames import Credit, Data, Frame, GoAway, Head, Reply, Reset, Trailers, Violation
from xproxy.model.limits import MIB
from xproxy.model.message import Local, ResponseHead
from xproxy.model.traits import Role, Sharing
from xproxy.stream.exchange import Closable, ConnectionFacts, Request, Response
from xproxy.stream.held import COUNTED, FREE, TOO_MUCH
from xproxy.stream.record import RetryPermits
from xproxy.transport.farewell import linger
from xproxy.transport.stream import ByteStream, Moved
from xproxy.transport.timers import Timers
from xproxy.transport.turns import REQUEST

_logger = logging.getLogger(__name__)

_SERVING: Final = Phase.SERVING
_TELL: Final = 0.1
"""Seconds at least between two times that a codec is told, before it receives, how much time has passed."""
_AT_ONCE: Final = 64
"""Requests that one read may begin before the other connections have their turn: one read can bring a thousand."""


class Multiplexed(Moving):
    """Drives one connection to its end. ``run`` owns the socket."""

    def __init__(
        self,
        stream: ByteStream,
        codec: Codec,
        role: Role,
        facts: ConnectionFacts,
        chain: FilterChain | None,
        timers: Timers,
        *,
        max_outbox_bytes: int = MIB,
        max_message_bytes: int = 16 * MIB,
        write_stall: float = 60.0,
        moment: Moment | None = None,
    ) -> None:
        """``chain``: who serves the peer's requests; None refuses them.

        ``moment``: the connection was frozen at it, elsewhere; ``codec`` was made of its parts.
        """
        super().__init__(moment)
        self.facts = facts
        self._chain = chain
        self._timers = timers
        self._stats = chain.stats if chain is not None and role is Role.SERVER else None
        outbox = Outbox(max_outbox_bytes, write_stall, self._stats, facts.share)
        whole = facts.traits.sharing if role is Role.SERVER else _upstream_sharing(facts)
        self.wire = SharedWire(stream, codec, outbox, role, facts, whole=whole is Sharing.MESSAGES)
        facts.share.holder = self
        self._max_replies = 4 * max_outbox_bytes
        self._unfinished = 0
        """Bytes of a message that has not come whole."""
        self._calls = Calls(self.wire, max_message_bytes)
        self.call: Callable[[Request], Coroutine[Any, Any, Response]] = (
            self._calls.call
        )  # Any: as async def has it
        """Send a request to the peer and return its answer: see ``Calls.call``. Cancelling gives up waiting, never
        writing."""
        if moment is not None:
            self._calls.last_id = moment.last_id
        self._served = Served(self.wire, chain, timers)
        self._hold = Hold(self.wire, self._served)
        self._scope = trio.CancelScope()
        self._written = trio.Event()
        self._first = b""
        self._bindings: dict[object, Closable] | None = None
        self._told = False  # of the peer's crime
        if role is Role.SERVER:
            facts.downstream = self
            if chain is not None:
                self._silence = Silence(self.wire, chain, timers)

    # ---- life

    @property
    def serving(self) -> bool:
        """Streams may begin: nobody has said goodbye, and nothing has ended or broken."""
        return self.wire.phase is _SERVING

    @property
    def streams(self) -> int:
        """Streams in flight, both directions."""
        return self.wire.streams

    async def run(
        self, first: bytes = b"", heartbeat: tuple[float, float, int] | None = None
    ) -> None:
        """Serve the connection until it ends, then close it. ``heartbeat``: (interval s, timeout s, misses)."""
        wire = self.wire
        wire.read_at = wire.spoken_at = trio.current_time()
        self._first, first = first, b""
        moment, self._moment = self._moment, None
        if moment is not None:
            self._take_over(moment)
        if supports(wire.codec, SupportsDeadline):
            patience = moment.patience if moment is not None else None
            self._acknowledgement = Acknowledgement(wire, self._timers, patience)
        try:
            with self._scope:
                async with trio.open_nursery() as outer:
                    outer.start_soon(self._write)
                    if heartbeat is not None and supports(wire.codec, SupportsHeartbeat):
                        pause = self.facts.traits.heartbeat_pause
                        outer.start_soon(keepalive, wire, *heartbeat, pause, self._give_up)
                    async with trio.open_nursery() as wire.nursery:
                        if self._relays is not None:
                            self._relays.start(wire.nursery)
                        for work in wire.early:
                            wire.nursery.start_soon(work)
                        wire.early.clear()
                        with wire.reading:
                            await self._read(moment)
                            if self._left:
                                await self._read_link()
                        self._end_input()
                    self._tell_off()
                    if self._left:
                        wire.outbox.put(bye(wire))
                    wire.outbox.finish()
                    await self._farewell()
                    outer.cancel_scope.cancel()
        finally:
            if self._departure is not None:
                self._departure.close()
            wire.end()
            self._calls.lose(UpstreamReset(f"{wire.stream.peer} closed the connection"))
            self._served.end()
            if self._relays is not None:
                self._relays.end()
            if self._silence is not None:
                self._silence.end()
            if self._acknowledgement is not None:
                self._acknowledgement.end()
            self.facts.downstream = None
            self.close_bound()
            self._count_unfinished(0)
            self.facts.share.holder = None

    # ---- the end

    async def _farewell(self) -> None:
        # The outbox itself gives up on a peer that takes nothing; one that is gone needs no patience at all.
        wire = self.wire
        silence = self._chain.service.timeouts.linger if self._chain is not None else 1.0
        with trio.move_on_after(silence if wire.gone else math.inf):
            await self._written.wait()
        owed = wire.half or wire.violation is not None or self._served.answered_late
        owed = owed and not self._left  # who is at the other end of a link needs no time
        over = wire.phase in INPUT_OVER or wire.phase is Phase.BROKEN
        if owed and wire.role is Role.SERVER and not over:
            # Who takes a long answer goes on saying so by credit.
            await linger(wire.stream, silence, heard=self._heard)

    def _heard(self, count: int) -> None:
        if self._stats is not None:
            self._stats.downstream_rx_bytes_total += count

    def close_soon(self) -> None:
        """Stop at once: streams in flight are cancelled, calls fail. Idempotent."""
        self.wire.after(Event.GOODBYE)
        self._scope.cancel()

    def drain(self) -> None:
        """Say goodbye, finish what is in flight, then close. Idempotent.

        Not before ``timeouts.linger`` has passed: a client may have sent a request before it read the goodbye.
        """
        if self.wire.paused:
            self._drain_later = True
        elif self._left:
            self.wire.outbox.put(farewell(self.wire))
        elif self._silence is not None:
            self._silence.goodbye()
        else:
            self.wire.goodbye()

    @property
    def idle_since(self) -> float | None:
        """Since when nothing has been asked for (trio clock); None: something is in flight."""
        wire = self.wire
        busy = wire.streams or wire.amid or wire.backlogged or wire.nursery is None or wire.paused
        return None if busy else wire.read_at

    def shed(self) -> None:
        """Close at once, with a goodbye if the kernel takes it. Call it on one that is idle. Never blocks."""
        wire = self.wire
        wire.after(Event.GOODBYE)
        if supports(wire.codec, SupportsGoAway) and not wire.outbox.size:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                wire.stream.write_now(wire.codec.goaway())
        wire.stream.close()

    def _end_input(self) -> None:
        # No more frames will come. One-way messages were really sent in any case.
        wire = self.wire
        wire.after(Event.STOP)
        self._seeking.cancel()
        self._served.dismiss()
        self._tell_off()
        self._lose()
        if wire.gone:
            self._client_gone()
        elif wire.phase in INPUT_OVER or wire.violation is not None:
            self._served.cut_off()
            if self._relays is not None:
                self._relays.cut_off()

    async def _read(self, moment: Moment | None) -> None:
        wire = self.wire
        stats = self._stats
        served = self._served
        silence = self._silence
        hold = self._hold
        share = self.facts.share
        # Where bodies come in pieces windows bound them, and who is not read could give no credit either.
        serves = self._chain is not None
        stops = wire.whole and serves
        told = wire.read_at
        tell_at = told + _TELL if wire.elapsed is not None else math.inf
        data, self._first = self._first, b""
        if stats is not None:
            stats.downstream_rx_bytes_total += len(data)
        frame: Frame | None = None
        try:
            frames: Sequence[Frame] = wire.codec.receive(data)
            if silence is not None:
                half = self._half_message(bool(data), frames)
                silence.heard(half_message=half or (moment is not None and moment.half))
                silence.start(moment.left if moment is not None else math.inf)
            while True:
                begun = 0
                for frame in frames:
                    if type(frame) is Head:
                        if type(frame.message) is ResponseHead:
                            self._calls.answered(frame)
                        else:
                            served.requested(frame)
                            begun += 1
                            if begun == _AT_ONCE:
                                begun = 0
                                await self._let_others()
                    elif self._other(frame):
                        return
                wire.stream.settle(begun * REQUEST)
                # Whoever waits holds no message: neither what was read, nor what came out of it.
                data, frame, frames = b"", None, ()
                if wire.phase is not _SERVING:
                    wire.finish_if_idle()
                if (
                    # Who asks must go on reading: a peer that wants to be read before it reads on would wait on.
                    (wire.outbox.full and wire.role is Role.SERVER)
                    or hold.congested is not None
                    or (serves and served.crowded)
                    or (share.held > FREE and stops and share.full)
                ):
                    await hold.wait()
                    while wire.paused:
                        await wire.credit.park()  # thaw and leave end it
                    if self._left:
                        return
                backlog = wire.backlog
                if backlog is not None and backlog.backlog:
                    # It may go on for long.
                    await self._turn()
                    frames = wire.codec.receive(b"")
                    self._count_unfinished(backlog.backlog_bytes if backlog.backlog else 0)
                    if silence is not None and frames:
                        silence.heard(half_message=False)
                    continue
                data = await wire.stream.read()
                now = wire.read_at = trio.current_time()
                if now >= tell_at and wire.elapsed is not None:
                    wire.elapsed.elapsed(now - told)
                    told, tell_at = now, now + _TELL
                if not data:
                    wire.after(Event.END)
                    for frame in wire.codec.receive(None):
                        if self._other(frame):
                            break
                    return
                if stats is not None:
                    stats.downstream_rx_bytes_total += len(data)
                frames = wire.codec.receive(data)
                if frames and type(frames[-1]) is not Reply:
                    wire.spoken_at = now
                if not frames:
                    self._count_unfinished(self._unfinished + len(data))
                elif self._unfinished or len(data) >= COUNTED:
                    # Behind what came whole there may be half a message, or whole ones that wait in the codec.
                    self._count_unfinished(len(data) if self._half_message(True, frames) else 0)
                if silence is not None:
                    silence.heard(half_message=self._half_message(True, frames))
        except Moved:
            return  # all of it, or all but what is served here
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            wire.detail = wire.detail or str(exc)
            wire.after(Event.BREAK)

    async def _let_others(self) -> None:
        # Between requests of one read.
        self.wire.stream.settle(_AT_ONCE * REQUEST)
        await self._turn()

    async def _turn(self) -> None:
        # What was received is served, whatever happens in the meantime.
        self.wire.amid = True
        try:
            with trio.CancelScope(shield=True):
                await self.wire.stream.turn()
        finally:
            self.wire.amid = False

    def _half_message(self, some: bool, frames: Sequence[Frame]) -> bool:
        if self.wire.backlogged:
            return False  # it is whole, and its codec is busy with it
        progress = self.wire.progress
        return progress.unfinished if progress is not None else some and not frames

    def _count_unfinished(self, count: int) -> None:
        # Bytes of what has not come whole, or whose frames have not.
        before, self._unfinished = self._unfinished, count
        if count >= COUNTED or before >= COUNTED:
            self.facts.share.change_unfinished(
                before if before >= COUNTED else 0, count if count >= COUNTED else 0
            )

    async def _write(self) -> None:
        wire = self.wire
        try:
            await wire.outbox.run(wire)
        except WriteStalled as exc:
            if self._chain is not None:
                self._chain.stats.downstream_cx_write_timeout += 1
            self._give_up(f"{exc} (timeouts.write)")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            broken = wire.phase is Phase.BROKEN
            if wire.role is Role.CLIENT and not broken and wire.nursery is not None:
                self._hear_out()
            else:
                self._give_up(str(exc))
        finally:
            self._written.set()

    def _hear_out(self) -> None:
        # The upstream takes no more. What it has said is still answers: it may have refused a request that was too
        # large, and closed.
        wire = self.wire
        wire.after(Event.GOODBYE)
        self._calls.refuse()
        wire.reading.deadline = trio.current_time() + LAST_WORDS_SECONDS
        wire.finish_if_idle()

    def _give_up(self, detail: str) -> None:
        # Also where nobody reads any more: what is in flight would never hear of it.
        self.wire.give_up(detail)
        self._lose()
        self._client_gone()

    def _client_gone(self) -> None:
        self._served.client_gone()
        if self._relays is not None:
            self._relays.client_gone()

    def _lose(self) -> None:
        wire = self.wire
        peer = wire.stream.peer
        detail = f"{peer}: {wire.detail}" if wire.detail else f"{peer} closed the connection"
        self._calls.lose(UpstreamReset(detail))

    def relieve(self) -> None:
        """See Holder: its streams are answered with overload; where there are none, the connection ends."""
        wire, relays = self.wire, self._relays
        if self._served.relieve(Overflow(TOO_MUCH)) or wire.paused:
            return
        if relays is None or not (relays.relieve() or wire.relayed):
            self._give_up(TOO_MUCH)

    # ---- what comes

    def _other(self, frame: Frame) -> bool:
        # True: the input is over.
        kind = type(frame)
        if kind is Reply:
            if self.wire.outbox.size > self._max_replies:
                # Only who asks for answers and takes none comes here.
                self.wire.give_up("the peer asks for answers and takes none")
                return True
            self.wire.outbox.put(frame.data)  # type: ignore[union-attr]  # by kind
            refused: ResponseHead | None = frame.refused  # type: ignore[union-attr, assignment]  # by kind
            if refused is not None and self._chain is not None:
                count_refusal(self._chain, self.facts, refused, "DPE")
            if self.wire.on_room is not None:
                self.wire.on_room()  # it may have said how many requests it takes
        elif isinstance(frame, Data | Trailers):
            self._piece(frame)
        elif isinstance(frame, Reset):
            if not self._calls.reset(frame) and not frame.detail:
                self._served.reset(frame)
                if self._relays is not None:
                    self._relays.reset(frame)
        elif kind is Credit:
            self.wire.credit.unpark_all()
        elif isinstance(frame, GoAway):
            self.wire.after(Event.GOODBYE)
            if frame.last_stream_id is not None:
                self._calls.refused_above(frame.last_stream_id)
        elif isinstance(frame, Violation):
            self.wire.violated(frame)
            return True
        return False

    def _tell_off(self) -> None:
        # The peer's crime, once: all that was asked of it fails, and it is told.
        wire, chain = self.wire, self._chain
        violation = wire.violation
        if violation is None or self._told:
            return
        self._told = True
        protocol, peer = self.facts.protocol, wire.stream.peer
        if chain is not None and wire.role is Role.SERVER:
            stats = chain.stats
            stats.downstream_cx_protocol_error += 1
            if violation.limit:
                limits = stats.downstream_cx_limit
                limits[violation.limit] = limits.get(violation.limit, 0) + 1
            if violation.farewell and wire.whole:
                # In a protocol of messages the last word is the answer to the one that could not be read.
                answer = ResponseHead(status=violation.reason, extra=Local(detail=violation.detail))
                count_refusal(chain, self.facts, answer, "DPE")
            _logger.info(
                "listener %s: %s from %s: %s", chain.name, protocol, peer, violation.detail
            )
        else:
            _logger.info("endpoint %s: %s: %s", peer, protocol, violation.detail)
        self._calls.lose(UpstreamProtocolError(f"{peer}: {violation.detail}"))
        wire.outbox.put(violation.farewell)
        if violation.limit:
            # Who makes work that serves nobody gets no more of it done; else the end would wait for all answers.
            self._served.cancel()

    def _piece(self, frame: Data | Trailers) -> None:
        inflow = self._calls.piece(frame)
        if inflow is None:
            worker = self._served.by_id.get(frame.stream_id)
            inflow = worker.inflow if worker is not None else None
            if inflow is not None:
                inflow.feed(frame)
            elif self._relays is not None and self._relays.piece(frame):
                return
            elif isinstance(frame, Data) and not self._calls.unwanted(frame.stream_id):
                # Nobody takes it: the window must not leak.
                self.wire.consumed(frame.stream_id, len(frame.data))
        if inflow is not None and self.wire.flow is None and inflow.full:
            self._hold.congested = inflow

    def in_flight(self, permits: RetryPermits) -> int:
        """See Downstream."""
        return self._served.asked(permits)

    @property
    def draining(self) -> bool:
        """See Downstream."""
        return self._chain is not None and self._chain.draining


def _upstream_sharing(facts: ConnectionFacts) -> Sharing:
    return facts.traits.upstream_sharing or facts.traits.sharing
