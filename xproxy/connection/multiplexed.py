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
    SupportsConcurrency,
    SupportsDeadline,
    SupportsFlow,
    SupportsGoAway,
    SupportsHeartbeat,
    SupportsProgress,
    supports,
)
from xproxy.connection.acknowledgement import Acknowledgement
from xproxy.connection.bindings import Bindings
from xproxy.connection.calls import Calls
from xproxy.connection.hold import Hold
from xproxy.connection.keepalive import keepalive
from xproxy.connection.outbox import Outbox, WriteStalled
from xproxy.connection.outflow import Outflow
from xproxy.connection.served import Served
from xproxy.connection.service import Port
from xproxy.connection.settling import Settling
from xproxy.connection.silence import Silence
from xproxy.model.errors import (
    LocalProtocolError,
    UpstreamProtocolError,
    UpstreamReset,
)
from xproxy.model.frames import Credit, Data, Frame, GoAway, Head, Reply, Reset, Trailers, Violation
from xproxy.model.limits import MIB
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role, Sharing
from xproxy.stream.exchange import Closable, ConnectionFacts, Request, Response
from xproxy.transport.stream import ByteStream
from xproxy.transport.timers import Timers

_logger = logging.getLogger(__name__)

LONGEST_FAREWELL: Final = 30.0
"""Seconds that a client may take for its last answers before the connection closes, as long as it is heard of."""
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
        self.outbox = Outbox(stream, max_outbox_bytes, write_stall)
        self.outflow = Outflow(codec, self.outbox)
        self.read_at = 0.0
        """When bytes last came (trio clock)."""
        self.closing = False
        """No new streams: the peer said GoAway, we drain, or the connection ended."""
        self.deaf = False
        """Nothing is read at the moment."""
        self.concurrency = codec if supports(codec, SupportsConcurrency) else None
        """How many of our requests the peer takes at a time."""
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
        self._violation = False
        self._amid = False
        self._ended = False  # the peer's input
        self._broken = False
        self._open_until = 0.0
        self._bindings: dict[object, Closable] | None = None
        self._silence: Silence | None = None
        self._acknowledgement: Acknowledgement | None = None
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
        self.read_at = trio.current_time()
        if supports(self.codec, SupportsDeadline):
            self._acknowledgement = Acknowledgement(self, self.codec, self.timers)
        try:
            with self._scope:
                async with trio.open_nursery() as outer:
                    outer.start_soon(self._write)
                    if heartbeat is not None and supports(self.codec, SupportsHeartbeat):
                        outer.start_soon(keepalive, self, self.codec, *heartbeat)
                    async with trio.open_nursery() as self._nursery:
                        for work in self._early:
                            self._nursery.start_soon(work)
                        with self._reading:
                            await self._read(first)
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

    async def _farewell(self) -> None:
        # The outbox itself gives up on a peer that takes nothing; one that is gone needs no patience at all.
        linger = self.port.service.timeouts.linger if self.port is not None else 1.0
        with trio.move_on_after(linger if self._gone else math.inf):
            await self._written.wait()
        owed = self._violation or self._served.answered_late
        if owed and self.role is Role.SERVER and not self._ended and not self._broken:
            # Bytes unread when a socket closes make the kernel send RST, which can destroy what the peer has yet to
            # read: the answers that were owed. Who takes a long one goes on saying so by credit.
            most = linger if self._violation else max(linger, LONGEST_FAREWELL)
            with (
                trio.move_on_after(most),
                contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError),
            ):
                self.stream.shutdown_write()
                heard = True
                while heard:
                    heard = False
                    with trio.move_on_after(linger):
                        heard = bool(await self.stream.read())

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

    def finish_if_idle(self) -> None:
        """Close once nothing is in flight; call it when there will be no new streams."""
        # Before run there may be a request in the first bytes.
        idle = not self._served.by_id and not self._calls and self._nursery is not None
        if idle and not self._amid and trio.current_time() >= self._open_until:
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

    async def _read(self, first: bytes) -> None:
        receive = self.codec.receive
        port = self.port
        stats = port.stats if port is not None else None
        stream = self.stream
        served = self._served
        silence = self._silence
        hold = self._hold
        try:
            frames: Sequence[Frame] = receive(first)
            if silence is not None:
                silence.heard(half_message=self._half_message(bool(first), frames))
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
                if self.closing:
                    self.finish_if_idle()
                if (
                    # Who asks must go on reading: a peer that wants to be read before it reads on would wait on.
                    (self.outbox.full and self.role is Role.SERVER)
                    or hold.congested is not None
                    or (port is not None and served.crowded)
                ):
                    await hold.wait()
                data = await stream.read()
                self.read_at = trio.current_time()
                if not data:
                    self._ended = True
                    for frame in receive(None):
                        if self._other(frame):
                            break
                    return
                if stats is not None:
                    stats.downstream_rx_bytes_total += len(data)
                frames = receive(data)
                if silence is not None:
                    silence.heard(half_message=self._half_message(True, frames))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            self._broken = True
            self._calls.lose(UpstreamReset(f"{stream.peer}: {exc}"))

    async def _let_others(self) -> None:
        # Between requests of one read. What was received is served, whatever happens in the meantime.
        self._amid = True
        await trio.lowlevel.cancel_shielded_checkpoint()
        self._amid = False

    def _half_message(self, some: bool, frames: Sequence[Frame]) -> bool:
        progress = self._progress
        return progress.unfinished if progress is not None else some and not frames

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
            self.give_up(str(exc))
        finally:
            self._written.set()

    def give_up(self, detail: str) -> None:
        """Nothing more can come or go: end the connection, with a reset. One-way messages are still handled."""
        self._broken = True
        self._calls.lose(UpstreamReset(f"{self.stream.peer}: {detail}"))
        self.stream.abort()
        self.forsake()
        self.stop_reading()

    # ---- what comes

    def _other(self, frame: Frame) -> bool:
        # True: the input is over.
        kind = type(frame)
        if kind is Reply:
            self.outbox.put(frame.data)  # type: ignore[union-attr]  # by kind
            if self._settling.awaited:
                self._settling.look()
        elif isinstance(frame, Data | Trailers):
            self._piece(frame)
        elif isinstance(frame, Reset):
            if not self._calls.reset(frame):
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
        if self.port is not None and self.role is Role.SERVER:
            stats = self.port.stats
            stats.downstream_cx_protocol_error += 1
            if frame.limit:
                limits = stats.downstream_cx_limit
                limits[frame.limit] = limits.get(frame.limit, 0) + 1
        self._violation = True
        _logger.info("%s %s: %s", self.facts.protocol, self.stream.peer, frame.detail)
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
            elif isinstance(frame, Data):
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
