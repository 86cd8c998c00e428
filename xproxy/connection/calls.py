"""What we ask of the peer of a shared connection: requests of ours, waiting for answers by id."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

import trio
from outcome import Error

from xproxy.codecs.api import Codec, SupportsStreamIds, supports
from xproxy.connection.inflow import Carrier, Inflow
from xproxy.connection.outbox import Outbox
from xproxy.connection.outflow import Outflow
from xproxy.model.errors import (
    LocalProtocolError,
    Overflow,
    StreamError,
    UpstreamProtocolError,
    UpstreamRefused,
    UpstreamReset,
)
from xproxy.model.frames import Data, Head, Reset, Trailers, whole
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.stream.body import Body, BytesBody, read_whole
from xproxy.stream.exchange import Request, Response
from xproxy.transport.poller import AWAKE
from xproxy.transport.stream import ByteStream

_IDS: Final = 0x7FFFFFFF
_MOST_CALLS: Final = 65536
"""In flight on one connection."""


class CallingConnection(Carrier, Protocol):
    """The connection as its calls see it."""

    codec: Codec
    stream: ByteStream
    outbox: Outbox
    outflow: Outflow
    whole: bool
    closing: bool

    def finish_if_idle(self) -> None: ...

    def spawn(self, work: Callable[[], Awaitable[None]]) -> None: ...


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

    def note(self, count: int) -> None:
        """Body bytes were sent."""
        self.request.received_bytes += count
        self.request.stream.touch()

    def abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        """Give up waiting."""
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED


class Calls:
    """All calls of one connection. Once ``lost`` says why, none can be made any more."""

    __slots__ = (
        "_by_id",
        "_connection",
        "_max_message_bytes",
        "_next_from_codec",
        "_next_id",
        "_refusing",
        "lost",
    )

    def __init__(self, connection: CallingConnection, max_message_bytes: int) -> None:
        self.lost: StreamError | None = None
        self._refusing = False  # the peer said that it takes no more
        self._connection = connection
        self._max_message_bytes = max_message_bytes
        self._by_id: dict[int, Call] = {}
        self._next_id = 0
        codec = connection.codec
        self._next_from_codec = codec.next_stream_id if supports(codec, SupportsStreamIds) else None

    def __len__(self) -> int:
        return len(self._by_id)

    # ---- asking

    async def call(self, request: Request) -> Response:
        """Send ``request`` to the peer and return its answer. Cancelling gives up waiting, never writing.

        Raises UpstreamReset, UpstreamRefused, UpstreamProtocolError, Overflow, and what the request body raises.
        """
        connection = self._connection
        head = request.head
        body = request.body
        if type(body) is not BytesBody and connection.whole:
            body = await read_whole(body, self._max_message_bytes)
        if connection.outbox.full:
            await connection.outbox.room()
        if self._refusing or self.lost is not None:
            # Nothing was sent: the lane had it when it was good, which was a moment ago.
            raise UpstreamRefused(
                f"{connection.stream.peer} takes no more requests on this connection", leaving=True
            )
        stream_id = self._take_id()
        if connection.whole and type(body) is BytesBody:
            request.received_bytes = len(body.data)
            connection.outbox.put(
                connection.codec.send(whole(stream_id, head, body.data, request.origin))
            )
            if head.oneway:
                return Response(_ACCEPTED, BytesBody())
            call = self._by_id[stream_id] = Call(stream_id, request)
        else:
            call = self._begin(stream_id, request, body)
        try:
            while True:
                while not call.frames:
                    if call.error is not None:
                        raise call.error
                    call.task = trio.lowlevel.current_task()
                    await trio.lowlevel.wait_task_rescheduled(call.abort)
                frame = call.frames.pop(0)
                if not frame.interim:
                    break
                await request.stream.send_interim(frame.message)  # type: ignore[arg-type]  # answered() takes no other
        except BaseException:
            # Cancelled, mostly. A late answer finds no entry and is dropped.
            if call.body is not None:
                await (
                    call.body.aclose()
                )  # no checkpoint: its bytes are credit that the peer must get back
            self.forget(call)
            raise
        message: ResponseHead = frame.message  # type: ignore[assignment]  # as above
        if frame.end:
            return Response(message, BytesBody(frame.data), frame.origin)
        assert call.body is not None
        # It may have come whole, in pieces of one read: then nothing is held open for it.
        collected = call.body.collect()
        if collected is not None:
            return Response(message, collected)
        return Response(message, call.body, None, call.body)

    def _take_id(self) -> int:
        calls = self._by_id
        if len(calls) >= _MOST_CALLS:
            raise Overflow(
                f"{self._connection.stream.peer}: {_MOST_CALLS} requests are in flight on one connection"
            )
        if self._next_from_codec is not None:
            return self._next_from_codec()
        while True:
            self._next_id = self._next_id + 1 & _IDS
            if self._next_id not in calls:
                return self._next_id

    def _begin(self, stream_id: int, request: Request, body: Body) -> Call:
        # Bodies in pieces: the head opens the stream, and with it the window for what follows.
        connection = self._connection
        send = connection.codec.send
        empty = type(body) is BytesBody and not body.data and body.trailers is None
        connection.outbox.put(send(Head(stream_id, request.head, b"", empty)))
        call = self._by_id[stream_id] = Call(stream_id, request)
        if empty:
            return call
        if type(body) is BytesBody and connection.outflow.fits(stream_id, body):
            trailers = body.trailers
            if body.data:
                connection.outbox.put(send(Data(stream_id, body.data, trailers is None)))
            if trailers is not None:
                connection.outbox.put(send(Trailers(stream_id, trailers.headers)))
            request.received_bytes = len(body.data)
            return call
        call.upload = trio.CancelScope()
        upload = partial(self._upload, call, call.upload, body)
        if not request.stream.start_soon(upload):
            # The stream has no nursery, as its body came whole: that never makes anybody wait.
            connection.spawn(upload)
        return call

    async def _upload(self, call: Call, scope: trio.CancelScope, body: Body) -> None:
        # Never raises a StreamError: the one who waits for the answer learns of it.
        try:
            with scope:
                await self._connection.outflow.send(call.stream_id, body, call.note)
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
        if not self._connection.whole and self.lost is None:
            with contextlib.suppress(
                LocalProtocolError
            ):  # the stream is over for the codec already
                self._connection.outbox.put(
                    self._connection.codec.send(Reset(call.stream_id, Status.CANCELLED))
                )

    # ---- what comes back

    def answered(self, frame: Head) -> None:
        """Take a response head."""
        call = self._by_id.get(frame.stream_id)
        if call is None:
            # A late answer, or one nobody asked for.
            self._connection.consumed(frame.stream_id, len(frame.data))
            return
        connection = self._connection
        if call.upload is not None and not frame.interim:
            call.tunnel = call.request.head.grants(frame.message)  # type: ignore[arg-type]  # an answer
        if frame.interim:
            pass
        elif frame.end and connection.whole and not connection.closing:
            del self._by_id[call.stream_id]
            call.over = True
        elif frame.end:
            self._complete(call)
            connection.consumed(frame.stream_id, len(frame.data))
        else:
            call.body = Inflow(connection, call.stream_id, frame.data)
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
            return False
        peer = self._connection.stream.peer
        error: StreamError
        if frame.refused:
            error = UpstreamRefused(f"{peer} refused the stream")
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
        if self._connection.closing:
            self._connection.finish_if_idle()

    def settle(self, call: Call, error: StreamError, *, reset: bool = True) -> None:
        """Let a call fail."""
        if call.body is not None:
            call.body.fail(error)
        elif call.task is not None:
            task, call.task = call.task, None
            trio.lowlevel.reschedule(task, Error(error))
        else:
            call.error = error
        self._end(call, reset=reset)

    def refused_above(self, last_stream_id: int) -> None:
        """The peer has not taken requests above this id, and never will."""
        peer = self._connection.stream.peer
        self._refusing = True
        for call in [c for c in self._by_id.values() if c.stream_id > last_stream_id]:
            error = UpstreamRefused(f"{peer} went away before it took the request", leaving=True)
            self.settle(call, error, reset=False)

    def lose(self, error: StreamError) -> None:
        """No more answers will come: all calls fail, and those that are yet to be made. The first reason stays."""
        lost = self.lost = self.lost or error
        for call in list(self._by_id.values()):
            self.settle(call, type(lost)(lost.detail), reset=False)

    def forget(self, call: Call) -> None:
        """Nobody waits for this call any more."""
        if not call.over:
            self._end(call, reset=True)

    def release(self, stream_id: int) -> None:
        """A response body was closed before its end."""
        call = self._by_id.get(stream_id)
        if call is not None:
            self.forget(call)


_ACCEPTED: Final = ResponseHead(status=Status.OK)
