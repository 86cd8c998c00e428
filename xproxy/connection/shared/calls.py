"""What we ask of the peer of a shared connection: requests of ours, waiting for answers by id."""

from __future__ import annotations

import contextlib
import logging
from functools import partial
from typing import Final

import trio
from outcome import Error

from xproxy.codecs.api import (
    PREPARED_FROM,
    SupportsPreparing,
)
from xproxy.connection.phase import READS, Phase
from xproxy.connection.preparing import prepared
from xproxy.connection.shared.inflow import Inflow
from xproxy.connection.shared.outflow import fits, send_body
from xproxy.connection.shared.wire import LARGEST_ID, SharedWire
from xproxy.model.errors import (
    LocalProtocolError,
    Overflow,
    StreamError,
    UpstreamProtocolError,
    UpstreamRefused,
    UpstreamReset,
)
from xproxy.model.frames import Data, Head, Reset, Trailers, whole
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.stream.body import Body, BytesBody, read_whole
from xproxy.stream.exchange import Request, Response
from xproxy.transport.parking import Reason
from xproxy.transport.poller import AWAKE

_logger = logging.getLogger(__name__)

_SERVING: Final = Phase.SERVING
MOST_RESETS: Final = 50
"""Streams that may be reset on one connection at once; half of what the strictest peers take."""
RESETS_A_SECOND: Final = 1.0
"""So many more each second. Beyond it the connection takes no new streams, and what is given up on it is not said."""
_MOST_CALLS: Final = 65536
"""In flight on one connection."""
_MOST_SPARE: Final = 64
"""Objects of calls that are over, of one connection: as many as there were at once, mostly."""
MOST_INTERIM: Final = 4
"""Responses before the response (1xx) that wait for a client to take them; further ones are dropped."""


class Call:
    """A request of ours that waits for its answer."""

    __slots__ = (
        "body",
        "error",
        "frames",
        "half_over",
        "over",
        "request",
        "stream_id",
        "task",
        "tunnel",
        "upload",
        "waiting",
    )

    def __init__(self, stream_id: int, request: Request) -> None:
        self.stream_id = stream_id
        self.request = request
        self.task: trio.lowlevel.Task | None = None
        self.frames: list[Head] = []
        self.error: StreamError | None = None
        self.body: Inflow | None = None
        self.upload: trio.CancelScope | None = None
        """Round the sending of its own body, until all of that is out."""
        self.tunnel = False
        """It became a tunnel, of which either half may end first."""
        self.half_over = False
        """Nothing more comes for it, and what is sent goes on."""
        self.over = False
        """Nothing more comes for it."""
        self.waiting: Reason | None = None
        """Of a call that was made again from one that is over: see ``Calls``."""

    def note(self, count: int) -> None:
        """Body bytes were sent."""
        self.request.record.received_bytes += count
        self.request.stream.touch()

    def abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        """Give up waiting."""
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED


class Calls:
    """All calls of one connection. Once ``lost`` says why, none can be made any more.

    Where messages come whole, the objects of calls that were answered serve again: to make one, with what it takes to
    wait, is 3 % of what a small call costs.
    """

    __slots__ = (
        "_by_id",
        "_late",
        "_max_message_bytes",
        "_next_id",
        "_refusing",
        "_reset_at",
        "_resets",
        "_spare",
        "_unsaid",
        "_wire",
        "lost",
    )

    def __init__(self, wire: SharedWire, max_message_bytes: int) -> None:
        self.lost: StreamError | None = None
        self._resets = 0.0
        self._reset_at = 0.0
        self._unsaid: set[int] = set()
        """Streams given up whose reset was not said; no more of them than the connection ever had in flight, as it
        takes no new ones."""
        self._refusing = False  # the peer said that it takes no more
        self._wire = wire
        self._max_message_bytes = max_message_bytes
        self._by_id: dict[int, Call] = {}
        wire.asked = self._by_id
        self._spare: list[Call] = []
        self._next_id = 0
        self._late: set[int] = set()
        """Where ids are narrow, those of calls given up whose answer may still come: they are not taken again."""

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def last_id(self) -> int:
        """That of the last call, where the codec does not number them itself; the next ones go on from it."""
        return self._next_id

    @last_id.setter
    def last_id(self, last: int) -> None:
        self._next_id = last

    def _drop_spare(self) -> None:
        # Each knows itself, by its reason.
        for call in self._spare:
            call.waiting = None
        self._spare.clear()

    # ---- asking

    async def call(self, request: Request) -> Response:
        """Send ``request`` to the peer and return its answer. Cancelling gives up waiting, never writing.

        Raises UpstreamReset, UpstreamRefused, UpstreamProtocolError, Overflow, and what the request body raises.
        """
        wire = self._wire
        head = request.head
        body = request.body
        if type(body) is not BytesBody and wire.whole:
            body = await read_whole(body, self._max_message_bytes, request.stream.hold)
        outbox = wire.outbox
        if outbox.size >= outbox.limit:
            await outbox.room()
        if wire.phase is not _SERVING and self._over:
            raise self._refused()
        if wire.whole and type(body) is BytesBody:
            data = body.data
            size = request.record.received_bytes = len(data)
            if size >= PREPARED_FROM and wire.preparing is not None:
                head, data = await self._prepared(wire.preparing, head, data)
            # ``_take_id``, written out for where ids are wide: every message comes here.
            calls, stream_id = self._by_id, self._next_id + 1 & LARGEST_ID
            if wire.wide and stream_id not in calls and len(calls) < _MOST_CALLS:
                self._next_id = stream_id
            else:
                stream_id = self._take_id()
            outbox.put(wire.codec.send(whole(stream_id, head, data, request.origin)))
            data = b""  # it has gone, and the answer may take its time
            if head.oneway:
                return Response(_ACCEPTED, BytesBody())
            if self._spare:
                call = calls[stream_id] = self._spare.pop()
                call.stream_id, call.request, call.over = stream_id, request, False
            else:
                call = calls[stream_id] = Call(stream_id, request)
        else:
            call = self._begin(self._take_id(), request, body)
        try:
            while True:
                while not call.frames:
                    if call.error is not None:
                        raise call.error.again()
                    call.task = trio.lowlevel.current_task()
                    if call.waiting is not None:
                        await call.waiting.parked()
                    else:
                        await trio.lowlevel.wait_task_rescheduled(call.abort)
                frame = call.frames.pop(0)
                if not frame.interim:
                    break
                await request.stream.send_interim(frame.message)  # type: ignore[arg-type]  # answered() takes no other
        except BaseException:
            # Cancelled, mostly. A late answer finds no entry and is dropped.
            call.waiting = None
            if call.body is not None:
                await (
                    call.body.aclose()
                )  # no checkpoint: its bytes are credit that the peer must get back
            self.forget(call)
            raise
        message: ResponseHead = frame.message  # type: ignore[assignment]  # as above
        if frame.end:
            if wire.whole:
                self._keep(call)
            return Response(message, BytesBody(frame.data), frame.origin)
        assert call.body is not None
        # It may have come whole, in pieces of one read: then nothing is held open for it.
        collected = call.body.collect()
        if collected is not None:
            return Response(message, collected)
        return Response(message, call.body, None, call.body)

    def _keep(self, call: Call) -> None:
        spare = self._spare
        if call.over and not call.frames and self.lost is None and len(spare) < _MOST_SPARE:
            del call.request
            if call.waiting is None:
                call.waiting = Reason(call.abort)
            spare.append(call)
        else:
            call.waiting = (
                None  # it knows the call, which would keep its message until a collection
            )

    @property
    def _over(self) -> bool:
        # Whether no call can be made any more.
        return self._refusing or self.lost is not None or self._wire.phase not in READS

    def _refused(self) -> UpstreamRefused:
        # Nothing was sent: the connector had it when it was good, which was a moment ago.
        return UpstreamRefused(
            f"{self._wire.stream.peer} takes no more requests on this connection",
            leaving=True,
        )

    async def _prepared(
        self, codec: SupportsPreparing, head: RequestHead, data: bytes
    ) -> tuple[RequestHead, bytes]:
        ready = await prepared(codec, Head(0, head, data, True), self._wire.stream)
        if self._wire.outbox.full:
            await self._wire.outbox.room()
        if self._over:
            raise self._refused()
        return ready.message, ready.data  # type: ignore[return-value]  # of a request

    def _take_id(self) -> int:
        calls = self._by_id
        if len(calls) >= _MOST_CALLS:
            raise Overflow(
                f"{self._wire.stream.peer}: {_MOST_CALLS} requests are in flight on one connection"
            )
        if self._wire.stream_ids is not None:
            return self._wire.stream_ids.next_stream_id()
        ids = self._wire.largest_id
        if ids == LARGEST_ID:
            # Wider than all that can be in flight, and an answer that comes late finds nobody for 2³¹ calls.
            while True:
                stream_id = self._next_id = self._next_id + 1 & ids
                if stream_id not in calls:
                    return stream_id
        late = self._late
        if len(calls) + len(late) > ids:
            if late:
                # Its peer owes too many answers: a fresh connection has all ids.
                self._wire.stop_streams()
                raise UpstreamRefused(
                    f"{self._wire.stream.peer}: {len(late)} answers are overdue", leaving=True
                )
            raise Overflow(
                f"{self._wire.stream.peer}: all {ids + 1} ids are in flight on one connection"
            )
        while True:
            self._next_id = self._next_id + 1 & ids
            if self._next_id not in calls and self._next_id not in late:
                return self._next_id

    def _begin(self, stream_id: int, request: Request, body: Body) -> Call:
        # Bodies in pieces: the head opens the stream, and with it the window for what follows.
        wire = self._wire
        send = wire.codec.send
        empty = type(body) is BytesBody and not body.data and body.trailers is None
        wire.outbox.put(send(Head(stream_id, request.head, b"", empty)))
        call = self._by_id[stream_id] = Call(stream_id, request)
        if empty:
            return call
        if type(body) is BytesBody and fits(wire, stream_id, body):
            trailers = body.trailers
            if body.data:
                wire.outbox.put(send(Data(stream_id, body.data, trailers is None)))
            if trailers is not None:
                wire.outbox.put(send(Trailers(stream_id, trailers.headers)))
            request.record.received_bytes = len(body.data)
            return call
        call.upload = trio.CancelScope()
        upload = partial(self._upload, call, call.upload, body)
        if not request.stream.start_soon(upload):
            # The stream has no nursery, as its body came whole: that never makes anybody wait.
            wire.spawn(upload)
        return call

    async def _upload(self, call: Call, scope: trio.CancelScope, body: Body) -> None:
        # Never raises a StreamError: the one who waits for the answer learns of it.
        try:
            with scope:
                await send_body(self._wire, call.stream_id, body, call.note)
                call.upload = None
        except StreamError as error:
            self.settle(call, error)
        except LocalProtocolError as exc:
            self.settle(call, UpstreamProtocolError(f"request body cannot be sent on: {exc}"))
        finally:
            if call.upload is not None:
                call.upload = None
                self._reset(call)
            if call.half_over and not call.over:
                self._end(call, reset=False)

    def _reset(self, call: Call) -> None:
        # The peer must not take half a request for a whole one, nor go on with an answer nobody wants.
        if not self._wire.whole and self.lost is None and self._may_reset(call.stream_id):
            with contextlib.suppress(
                LocalProtocolError
            ):  # the stream is over for the codec already
                self._wire.outbox.put(
                    self._wire.codec.send(Reset(call.stream_id, Status.CANCELLED))
                )

    def _may_reset(self, stream_id: int) -> bool:
        # A peer may take many resets for an attack and end the connection, with all that is in flight on it. They
        # are many clients' who know nothing of one another: the connection is left before it comes to that.
        now = trio.current_time()
        level = max(self._resets - (now - self._reset_at) * RESETS_A_SECOND, 0.0)
        self._reset_at = now
        if level < MOST_RESETS:
            self._resets = level + 1
            return True
        self._resets = level
        self._unsaid.add(stream_id)
        self._wire.stop_streams()
        return False

    def unwanted(self, stream_id: int) -> bool:
        """Whether a stream was given up without a word: its peer gets no credit for what it sends on it."""
        return stream_id in self._unsaid

    # ---- what comes back

    def answered(self, frame: Head) -> None:
        """Take a response head."""
        call = self._by_id.get(frame.stream_id)
        if call is None:
            # A late answer, or one nobody asked for.
            self._late.discard(frame.stream_id)
            self._wire.consumed(frame.stream_id, len(frame.data))
            return
        wire = self._wire
        if call.upload is not None and not frame.interim:
            call.tunnel = call.request.head.grants(frame.message)  # type: ignore[arg-type]  # an answer
        if frame.interim:
            if len(call.frames) >= MOST_INTERIM:
                return  # its client does not take them, and the next would say no more
        elif frame.end and wire.whole and wire.phase is _SERVING:
            del self._by_id[call.stream_id]
            call.over = True
        elif frame.end:
            self._complete(call)
            wire.consumed(frame.stream_id, len(frame.data))
        else:
            share = call.request.connection.share
            call.body = Inflow(wire, call.stream_id, frame.data, share, self)
        call.frames.append(frame)
        task = call.task
        if task is not None:
            call.task = None
            trio.lowlevel.reschedule(task, AWAKE)

    def piece(self, frame: Data | Trailers) -> Inflow | None:
        """Take a piece of a response body; returns where it went, None if no call is meant."""
        call = self._by_id.get(frame.stream_id)
        if call is None or call.body is None:
            return None
        call.body.feed(frame)
        if call.body.complete:
            self._complete(call)
        return call.body

    def reset(self, frame: Reset) -> bool:
        """Take the peer's reset; False if no call is meant."""
        call = self._by_id.get(frame.stream_id)
        if call is None:
            self._late.discard(frame.stream_id)
            return False
        peer = self._wire.stream.peer
        error: StreamError
        if frame.refused:
            error = UpstreamRefused(f"{peer} refused the stream")
        elif frame.detail:
            error = UpstreamProtocolError(f"{peer}: {frame.detail}")
        else:
            # A caller is told what the callee said; elsewhere the reason is enough.
            status = Status.UNAVAILABLE if call.request.head.rpc is None else frame.status
            error = UpstreamReset(f"{peer} reset the stream ({frame.status.label})", status)
        self.settle(call, error, reset=False)
        return True

    def _complete(self, call: Call) -> None:
        if call.tunnel and call.upload is not None:
            call.half_over = True
        else:
            # Complete before its request, it ends that too: the rest is not wanted.
            self._end(call, reset=call.upload is not None)

    def _end(self, call: Call, *, reset: bool) -> None:
        # Nothing more comes for it.
        self._by_id.pop(call.stream_id, None)
        call.over = True
        if call.upload is not None:
            upload, call.upload = call.upload, None
            upload.cancel()
        if reset:
            self._reset(call)
        wire = self._wire
        if wire.on_room is not None:
            wire.on_room()
        if wire.phase is not _SERVING:
            wire.finish_if_idle()

    def settle(self, call: Call, error: StreamError, *, reset: bool = True) -> None:
        """Let a call fail."""
        if call.body is not None:
            call.body.fail(error)
        elif call.task is not None:
            task, call.task = call.task, None
            trio.lowlevel.reschedule(task, Error(error))
        else:
            call.error = error.again()
        self._end(call, reset=reset)

    def refuse(self) -> None:
        """No more calls can be made; those that were made may still be answered."""
        self._refusing = True

    def refused_above(self, last_stream_id: int) -> None:
        """The peer has not taken requests above this id, and never will."""
        peer = self._wire.stream.peer
        self._refusing = True
        for call in [c for c in self._by_id.values() if c.stream_id > last_stream_id]:
            error = UpstreamRefused(f"{peer} went away before it took the request", leaving=True)
            self.settle(call, error, reset=False)

    def lose(self, error: StreamError) -> None:
        """No more answers will come: all calls fail, and those that are yet to be made. The first reason stays."""
        if self.lost is None and self._by_id:
            _logger.info("endpoint %s: %d calls in flight fail", error.detail, len(self._by_id))
        lost = self.lost = self.lost or error.again()
        self._drop_spare()
        for call in list(self._by_id.values()):
            self.settle(call, lost.again(), reset=False)

    def forget(self, call: Call) -> None:
        """Nobody waits for this call any more."""
        if not call.over:
            if self._wire.largest_id < LARGEST_ID:
                self._late.add(call.stream_id)
            self._end(call, reset=True)

    def release(self, stream_id: int) -> None:
        """A response body was closed before its end."""
        call = self._by_id.get(stream_id)
        if call is not None:
            self.forget(call)


_ACCEPTED: Final = ResponseHead(status=Status.OK)
