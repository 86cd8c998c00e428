"""A connection that many streams share: messages matched by id (MESSAGES), bodies in pieces (FRAMES). Either role.

Both ends may call: what the peer asks is served by a task a stream, what we ask waits in a table by id. A downstream
and an upstream connection differ only in who may call first.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

import trio

from xproxy.codecs.api import (
    Codec,
    SupportsBacklog,
    SupportsConcurrency,
    SupportsDeadline,
    SupportsElapsed,
    SupportsFlow,
    SupportsGoAway,
    SupportsHeartbeat,
    SupportsPreparing,
    SupportsProgress,
    supports,
)
from xproxy.connection.bindings import Bindings
from xproxy.connection.refusals import count_refusal
from xproxy.connection.serial.upstream import LAST_WORDS_SECONDS
from xproxy.connection.service import Port
from xproxy.connection.shared.acknowledgement import Acknowledgement
from xproxy.connection.shared.calls import Calls
from xproxy.connection.shared.hold import Hold
from xproxy.connection.shared.keepalive import keepalive
from xproxy.connection.shared.outbox import Outbox, WriteStalled
from xproxy.connection.shared.outflow import Outflow
from xproxy.connection.shared.remains import Remains
from xproxy.connection.shared.served import Served
from xproxy.connection.shared.settling import Settling
from xproxy.connection.shared.silence import Silence
from xproxy.model.errors import (
    LocalProtocolError,
    Overflow,
    UpstreamProtocolError,
    UpstreamReset,
)
from xproxy.model.frames import Credit, Data, Frame, GoAway, Head, Reply, Reset, Trailers, Violation
from xproxy.model.limits import MIB
from xproxy.model.message import Local, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role, Sharing
from xproxy.stream.exchange import Closable, ConnectionFacts, Request, Response
from xproxy.stream.held import COUNTED, FREE, TOO_MUCH
from xproxy.stream.record import RetryPermits
from xproxy.transport.farewell import linger
from xproxy.transport.stream import ByteStream
from xproxy.transport.timers import Timers
from xproxy.transport.turns import REQUEST

_logger = logging.getLogger(__name__)

_TELL: Final = 0.1
"""Seconds at least between two times that a codec is told, before it receives, how much time has passed."""
_AT_ONCE: Final = 64
"""Requests that one read may begin before the other connections have their turn: one read can bring a thousand."""


class Multiplexed(Bindings):
    """Drives one connection to its end. ``run`` owns the socket."""

    def __init__(
        self,
        stream: ByteStream,
        codec: Codec,
        role: Role,
        facts: ConnectionFacts,
        port: Port | None,
        timers: Timers,
        *,
        max_outbox_bytes: int = MIB,
        max_message_bytes: int = 16 * MIB,
        write_stall: float = 60.0,
    ) -> None:
        self.stream = stream
        self.codec = codec
        self.role = role
        self.facts = facts
        self.port = port
        """Who serves the peer's requests; None refuses them."""
        self.timers = timers
        stats = port.stats if port is not None and role is Role.SERVER else None
        self.share = facts.share
        self.share.holder = self
        self.outbox = Outbox(stream, max_outbox_bytes, write_stall, stats, self.share)
        self._max_replies = 4 * max_outbox_bytes
        self._backlog = codec if supports(codec, SupportsBacklog) else None
        self._unfinished = 0
        """Bytes of a message that has not come whole."""
        self.outflow = Outflow(codec, self.outbox)
        self.read_at = 0.0
        """When bytes last came (trio clock)."""
        self.spoken_at = 0.0
        """When a message last came, or a piece of one, and not only what says that the peer lives."""
        self.closing = False
        """No new streams: the peer said GoAway, we drain, or the connection ended."""
        self.deaf = False
        """Nothing is read at the moment."""
        self.concurrency = codec if supports(codec, SupportsConcurrency) else None
        """How many of our requests the peer takes at a time."""
        self.preparing = codec if supports(codec, SupportsPreparing) else None
        self.flow = codec if supports(codec, SupportsFlow) else None
        self._progress = codec if supports(codec, SupportsProgress) else None
        self.whole = (
            facts.traits.sharing if role is Role.SERVER else _upstream_sharing(facts)
        ) is Sharing.MESSAGES
        self._calls = Calls(self, max_message_bytes)
        self._hold = Hold(self)
        self._served = Served(self, port, self._hold)
        self._nursery: trio.Nursery | None = None
        self._early: list[Callable[[], Awaitable[None]]] = []
        self._scope = trio.CancelScope()
        self._reading = trio.CancelScope()
        self._written = trio.Event()
        self._first = b""
        self._violation = False
        self._amid = False
        self._ended = False  # the peer's input
        self._broken = False
        self._open_until = 0.0
        self._bindings: dict[object, Closable] | None = None
        self._silence: Silence | None = None
        self._acknowledgement: Acknowledgement | None = None
        self._elapsed = codec if supports(codec, SupportsElapsed) else None
        self._settling = Settling(self.concurrency)
        if role is Role.SERVER:
            facts.downstream = self
            if port is not None:
                self._silence = Silence(self, port, timers)

    # ---- life

    @property
    def streams(self) -> int:
        """Streams in flight, both directions."""
        return len(self._served.by_id) + len(self._calls)

    async def run(
        self, first: bytes = b"", heartbeat: tuple[float, float, int] | None = None
    ) -> None:
        """Serve the connection until it ends, then close it. ``heartbeat``: (interval s, timeout s, misses)."""
        self.read_at = self.spoken_at = trio.current_time()
        self._first, first = first, b""
        if supports(self.codec, SupportsDeadline):
            self._acknowledgement = Acknowledgement(self, self.codec, self.timers)
        try:
            with self._scope:
                async with trio.open_nursery() as outer:
                    outer.start_soon(self._write)
                    if heartbeat is not None and supports(self.codec, SupportsHeartbeat):
                        pause = self.facts.traits.heartbeat_pause
                        outer.start_soon(keepalive, self, self.codec, *heartbeat, pause)
                    async with trio.open_nursery() as self._nursery:
                        for work in self._early:
                            self._nursery.start_soon(work)
                        with self._reading:
                            await self._read()
                        self._end_input()
                    self.outbox.finish()
                    await self._farewell()
                    outer.cancel_scope.cancel()
        finally:
            self.closing = True
            self._calls.lose(UpstreamReset(f"{self.stream.peer} closed the connection"))
            self._served.end()
            if self._silence is not None:
                self._silence.end()
            if self._acknowledgement is not None:
                self._acknowledgement.end()
            self._settling.end()
            self.facts.downstream = None
            self.close_bound()
            self.stream.close()
            share = self.share
            self._count_unfinished(0)
            share.holder = None
            # Whatever still knows this connection, or a part of it, holds nothing of its messages.
            self.codec.receive(None)
            self._part()

    def _part(self) -> None:
        # None of its parts knows it any more.
        remains = Remains(
            *(
                self.stream,
                self.codec,
                self.outbox,
                self.outflow,
                self.facts,
                self.timers,
                self.role,
            ),
            whole=self.whole,
        )
        for part in (self._calls, self._served, self._hold):
            part.leave(remains)
        self._silence = self._acknowledgement = None

    async def _farewell(self) -> None:
        # The outbox itself gives up on a peer that takes nothing; one that is gone needs no patience at all.
        silence = self.port.service.timeouts.linger if self.port is not None else 1.0
        with trio.move_on_after(silence if self._gone else math.inf):
            await self._written.wait()
        progress = self._progress
        half = progress is not None and progress.unfinished
        owed = half or self._violation or self._served.answered_late
        if owed and self.role is Role.SERVER and not self._ended and not self._broken:
            # Who takes a long answer goes on saying so by credit.
            await linger(self.stream, silence, heard=self._heard)

    def _heard(self, count: int) -> None:
        if self.port is not None:
            self.port.stats.downstream_rx_bytes_total += count

    @property
    def _gone(self) -> bool:
        # Whether nobody reads our answers any more.
        return self._broken or (self._ended and not self.facts.traits.half_close)

    def close_soon(self) -> None:
        """Stop at once: streams in flight are cancelled, calls fail. Idempotent."""
        self.closing = True
        self._scope.cancel()

    def drain(self) -> None:
        """Say goodbye, finish what is in flight, then close. Idempotent.

        Not before ``timeouts.linger`` has passed: a client may have sent a request before it read the goodbye.
        """
        if not self.closing:
            self.closing = True
            if supports(self.codec, SupportsGoAway):
                self.outbox.put(self.codec.goaway())
            if self._silence is not None:
                self._open_until = self._silence.after_goodbye()
        self.finish_if_idle()

    @property
    def idle_since(self) -> float | None:
        """Since when nothing has been asked for (trio clock); None: something is in flight."""
        busy = self.streams or self._amid or self._backlogged or self._nursery is None
        return None if busy else self.read_at

    @property
    def _backlogged(self) -> bool:
        # Whole messages have come that nobody has seen yet.
        return self._backlog is not None and self._backlog.backlog

    def shed(self) -> None:
        """Close at once, with a goodbye if the kernel takes it. Call it on one that is idle. Never blocks."""
        self.closing = True
        if supports(self.codec, SupportsGoAway) and not self.outbox.size:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                self.stream.write_now(self.codec.goaway())
        self.stream.close()

    def leave(self) -> None:
        """See CallingConnection. A client's own connection goes on.

        Without a goodbye: some servers answer nothing more after a client's.
        """
        if self.role is Role.CLIENT:
            self.closing = True
            self.finish_if_idle()

    def finish_if_idle(self) -> None:
        """Close once nothing is in flight; call it when there will be no new streams."""
        # Before run there may be a request in the first bytes.
        idle = not self._served.by_id and not self._calls and self._nursery is not None
        if (
            idle
            and not self._amid
            and not self._backlogged
            and trio.current_time() >= self._open_until
        ):
            self.stop_reading()

    def stop_reading(self) -> None:
        """Look at no more of the peer's input."""
        self._reading.cancel()

    def spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run ``work`` until the connection ends."""
        if self._nursery is None:
            self._early.append(work)
        else:
            self._nursery.start_soon(work)

    def _end_input(self) -> None:
        # No more frames will come. One-way messages were really sent in any case.
        self.closing = True
        self._served.dismiss()
        self._calls.lose(UpstreamReset(f"{self.stream.peer} closed the connection"))
        if self._gone:
            self.forsake()
        elif self._ended or self._violation:
            self._served.cut_off()

    def forsake(self) -> None:
        """Nobody waits for answers any more."""
        self._served.forsake()

    async def _read(self) -> None:
        receive = self.codec.receive
        port = self.port
        stats = port.stats if port is not None and self.role is Role.SERVER else None
        stream = self.stream
        served = self._served
        silence = self._silence
        hold = self._hold
        share = self.share
        backlog = self._backlog
        # Where bodies come in pieces windows bound them, and who is not read could give no credit either.
        stops = self.whole and port is not None
        elapsed = self._elapsed
        told = self.read_at
        tell_at = told + _TELL if elapsed is not None else math.inf
        data, self._first = self._first, b""
        if stats is not None:
            stats.downstream_rx_bytes_total += len(data)
        frame: Frame | None = None
        try:
            frames: Sequence[Frame] = receive(data)
            if silence is not None:
                silence.heard(half_message=self._half_message(bool(data), frames))
                silence.start()
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
                stream.settle(begun * REQUEST)
                # Whoever waits holds no message: neither what was read, nor what came out of it.
                data, frame, frames = b"", None, ()
                if self.closing:
                    self.finish_if_idle()
                if (
                    # Who asks must go on reading: a peer that wants to be read before it reads on would wait on.
                    (self.outbox.full and self.role is Role.SERVER)
                    or hold.congested is not None
                    or (port is not None and served.crowded)
                    or (share.held > FREE and stops and share.full)
                ):
                    await hold.wait()
                if backlog is not None and backlog.backlog:
                    # It may go on for long.
                    await self._turn()
                    frames = receive(b"")
                    self._count_unfinished(backlog.backlog_bytes if backlog.backlog else 0)
                    if silence is not None and frames:
                        silence.heard(half_message=False)
                    continue
                data = await stream.read()
                now = self.read_at = trio.current_time()
                if now >= tell_at and elapsed is not None:
                    elapsed.elapsed(now - told)
                    told, tell_at = now, now + _TELL
                if not data:
                    self._ended = True
                    for frame in receive(None):
                        if self._other(frame):
                            break
                    return
                if stats is not None:
                    stats.downstream_rx_bytes_total += len(data)
                frames = receive(data)
                if frames and type(frames[-1]) is not Reply:
                    self.spoken_at = now
                if not frames:
                    self._count_unfinished(self._unfinished + len(data))
                elif self._unfinished or len(data) >= COUNTED:
                    # Behind what came whole there may be half a message, or whole ones that wait in the codec.
                    self._count_unfinished(len(data) if self._half_message(True, frames) else 0)
                if silence is not None:
                    silence.heard(half_message=self._half_message(True, frames))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            self._broken = True
            self._calls.lose(UpstreamReset(f"{stream.peer}: {exc}"))

    async def _let_others(self) -> None:
        # Between requests of one read.
        self.stream.settle(_AT_ONCE * REQUEST)
        await self._turn()

    async def _turn(self) -> None:
        # What was received is served, whatever happens in the meantime.
        self._amid = True
        try:
            with trio.CancelScope(shield=True):
                await self.stream.turn()
        finally:
            self._amid = False

    def _half_message(self, some: bool, frames: Sequence[Frame]) -> bool:
        if self._backlogged:
            return False  # it is whole, and its codec is busy with it
        progress = self._progress
        return progress.unfinished if progress is not None else some and not frames

    def _count_unfinished(self, count: int) -> None:
        # Bytes of what has not come whole, or whose frames have not.
        before, self._unfinished = self._unfinished, count
        if count >= COUNTED or before >= COUNTED:
            self.share.change_unfinished(
                before if before >= COUNTED else 0, count if count >= COUNTED else 0
            )

    @property
    def crowded(self) -> bool:
        """As many of the peer's streams are in flight as may be."""
        return self._served.crowded

    async def _write(self) -> None:
        try:
            await self.outbox.run()
        except WriteStalled as exc:
            if self.port is not None:
                self.port.stats.downstream_cx_write_timeout += 1
            self.give_up(f"{exc} (timeouts.write)")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            if self.role is Role.CLIENT and not self._broken and self._nursery is not None:
                self._hear_out()
            else:
                self.give_up(str(exc))
        finally:
            self._written.set()

    def _hear_out(self) -> None:
        # The upstream takes no more. What it has said is still answers: it may have refused a request that was too
        # large, and closed.
        self.closing = True
        self._calls.refuse()
        self._reading.deadline = trio.current_time() + LAST_WORDS_SECONDS
        self.finish_if_idle()

    def give_up(self, detail: str) -> None:
        """Nothing more can come or go: end the connection, with a reset. One-way messages are still handled."""
        self._broken = True
        self._calls.lose(UpstreamReset(f"{self.stream.peer}: {detail}"))
        self.stream.abort()
        self.forsake()
        self.stop_reading()

    def relieve(self) -> None:
        """See Holder: its streams are answered with overload; where there are none, the connection ends."""
        if not self._served.relieve(Overflow(TOO_MUCH)):
            self.give_up(TOO_MUCH)

    # ---- what comes

    def _other(self, frame: Frame) -> bool:
        # True: the input is over.
        kind = type(frame)
        if kind is Reply:
            if self.outbox.size > self._max_replies:
                # Only who asks for answers and takes none comes here.
                self.give_up("the peer asks for answers and takes none")
                return True
            self.outbox.put(frame.data)  # type: ignore[union-attr]  # by kind
            refused: ResponseHead | None = frame.refused  # type: ignore[union-attr, assignment]  # by kind
            if refused is not None and self.port is not None:
                count_refusal(self.port, self.facts, refused, "DPE")
            if self._settling.awaited:
                self._settling.look()
        elif isinstance(frame, Data | Trailers):
            self._piece(frame)
        elif isinstance(frame, Reset):
            if not self._calls.reset(frame) and not frame.detail:
                self._served.reset(frame)
        elif kind is Credit:
            self.outflow.credit()
        elif isinstance(frame, GoAway):
            self.closing = True
            if frame.last_stream_id is not None:
                self._calls.refused_above(frame.last_stream_id)
        elif isinstance(frame, Violation):
            self.violated(frame)
            return True
        return False

    async def settled(self, patience: float) -> None:
        """Return when the peer has said how many requests it takes, or has gone, or after ``patience`` seconds."""
        if not self.closing:
            await self._settling.wait(patience)

    def violated(self, frame: Violation) -> None:
        """Take the peer's crime: all that was asked of it fails, and it is told."""
        protocol, peer = self.facts.protocol, self.stream.peer
        if self.port is not None and self.role is Role.SERVER:
            stats = self.port.stats
            stats.downstream_cx_protocol_error += 1
            if frame.limit:
                limits = stats.downstream_cx_limit
                limits[frame.limit] = limits.get(frame.limit, 0) + 1
            if frame.farewell and self.whole:
                # In a protocol of messages the last word is the answer to the one that could not be read.
                answer = ResponseHead(status=frame.reason, extra=Local(detail=frame.detail))
                count_refusal(self.port, self.facts, answer, "DPE")
            name = self.port.name
            _logger.info("listener %s: %s from %s: %s", name, protocol, peer, frame.detail)
        else:
            _logger.info("endpoint %s: %s: %s", peer, protocol, frame.detail)
        self._violation = True
        self._calls.lose(UpstreamProtocolError(f"{self.stream.peer}: {frame.detail}"))
        self.outbox.put(frame.farewell)
        if frame.limit:
            # Who makes work that serves nobody gets no more of it done; else the end would wait for all answers.
            self._served.cancel()

    def _piece(self, frame: Data | Trailers) -> None:
        inflow = self._calls.piece(frame)
        if inflow is None:
            worker = self._served.by_id.get(frame.stream_id)
            inflow = worker.inflow if worker is not None else None
            if inflow is not None:
                inflow.feed(frame)
            elif isinstance(frame, Data) and not self._calls.unwanted(frame.stream_id):
                # Nobody takes it: the window must not leak.
                self.consumed(frame.stream_id, len(frame.data))
        if inflow is not None and self.flow is None and inflow.full:
            self._hold.congested = inflow

    def abandon(self, stream_id: int) -> None:
        """A request was answered before it had ended, and the rest is not wanted (RFC 9113 §8.1)."""
        if not self._broken:
            with contextlib.suppress(LocalProtocolError):  # the codec knows already
                self.outbox.put(self.codec.send(Reset(stream_id, Status.OK)))

    def consumed(self, stream_id: int, count: int) -> None:
        """A consumer took body bytes: let the codec give the peer credit for them."""
        if self.flow is not None and count and not self._broken:
            self.outbox.put(self.flow.consumed(stream_id, count))

    def in_flight(self, permits: RetryPermits) -> int:
        """See Downstream."""
        return self._served.asked(permits)

    @property
    def draining(self) -> bool:
        """See Downstream."""
        return self.port is not None and self.port.draining

    # ---- what we ask

    def call(self, request: Request) -> Coroutine[Any, Any, Response]:  # Any: as async def has it
        """Send ``request`` to the peer and return its answer. Cancelling gives up waiting, never writing.

        Raises UpstreamReset, UpstreamRefused, UpstreamProtocolError, Overflow, and what the request body raises.
        """
        return self._calls.call(request)

    def release(self, stream_id: int) -> None:
        """See Carrier."""
        self._calls.release(stream_id)


def _upstream_sharing(facts: ConnectionFacts) -> Sharing:
    return facts.traits.upstream_sharing or facts.traits.sharing
