"""An upstream connection that serves one stream at a time: HTTP/1.1, Thrift and L4. It is leased, and reads in line.

Rules of this file:

* An answer belongs to a call if it has the call's id, where the protocol has one, and was not there before the call.
* A write that fails ends one direction. What the upstream has said is read first, as that is mostly why: it refused a
  request that was too large, or too many, and closed.
* What is sent and what comes are not in turns: an upstream may answer before it has read a request, and instead.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable
from functools import partial
from typing import Final

import attrs
import trio

from xproxy.codecs.api import (
    PREPARED_FROM,
    Codec,
    SupportsStreamIds,
    supports,
)
from xproxy.connection.flowing import Half, UpstreamEnd
from xproxy.connection.phase import INPUT_OVER, Event, Phase
from xproxy.connection.plain import frames_of
from xproxy.connection.preparing import prepared
from xproxy.connection.serial.body import BYPASS_AFTER, PulledBody
from xproxy.connection.serial.wire import SerialWire
from xproxy.connection.standing import Moment
from xproxy.model.address import Address
from xproxy.model.errors import (
    LocalProtocolError,
    StreamError,
    UpstreamProtocolError,
    UpstreamReset,
)
from xproxy.model.frames import Data, Frame, Head, Reset, Trailers, Violation, whole
from xproxy.model.limits import MIB
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Traits
from xproxy.stream.body import Body, BytesBody
from xproxy.stream.exchange import Request, Response
from xproxy.stream.held import COUNTED, Share
from xproxy.stream.links import Note, Plain
from xproxy.transport.stream import ByteStream, Moved
from xproxy.transport.turns import SMALL

_SERVING: Final = Phase.SERVING
_ENDED: Final = INPUT_OVER | {Phase.BROKEN, Phase.CLOSED}
_FLOWS: Final = frozenset((Phase.SERVING, Phase.LEAVING, Phase.HEARD, Phase.FINISHED))
_ACCEPTED: Final = ResponseHead(status=Status.OK)
"""What a one-way message gets: nobody will answer it."""

LAST_WORDS_SECONDS: Final = 5.0
"""What an upstream that takes no more of a request has to answer it all the same."""
MAX_UNASKED_BYTES: Final = MIB
"""Answers to one-way messages that are read and dropped before a connection is used again."""


class SerialUpstream:
    """One connection to an endpoint. Whoever leases it calls ``exchange`` and gives it back, or closes it."""

    __slots__ = (
        "_answered",
        "_body",
        "_failure",
        "_numbered",
        "_owing",
        "_stream_id",
        "_traits",
        "_upload_of",
        "_uploading",
        "_write_error",
        "address",
        "idle_since",
        "oneway",
        "requests",
        "wire",
    )

    def __init__(
        self,
        stream: ByteStream,
        codec: Codec,
        traits: Traits,
        address: Address,
        *,
        requests: int = 0,
    ) -> None:
        """``requests``: exchanges begun before, elsewhere."""
        self.wire = SerialWire(stream, codec)
        self.address = address
        self.requests = requests
        """Exchanges begun."""
        self.idle_since = 0
        """The cluster tick since which nobody uses it; written by the pool."""
        self.oneway = False
        """It has carried a one-way message: nobody knows when the peer is done with it, or whether it answers."""
        self._traits = traits
        self._numbered = supports(codec, SupportsStreamIds)
        """Calls have ids: an answer says whose it is."""
        self._stream_id = 1
        self._uploading = False
        self._owing = False
        """A request that came whole has not gone to its end: the rest goes out while the answer is read."""
        self._write_error: trio.BrokenResourceError | None = None
        self._answered: trio.Event | None = None
        """Somebody waits for an answer's head to begin, or for its failing."""
        self._failure: StreamError | None = None
        self._body: ResponseBody | None = None
        self._upload_of: Body | None = None  # a request body that is being sent beside

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent: the last message was read to its end and nothing came after it."""
        wire = self.wire
        return not (
            wire.phase is not _SERVING
            or wire.stream.pending
            or wire.stream.hung_up
            or self._uploading
            or wire.inbox
            or (wire.progress is not None and wire.progress.unfinished)
        )

    def quiet(self) -> bool:
        """Return ``reusable``, once answers to one-way messages that have come are read and dropped. Never blocks."""
        wire = self.wire
        if not self.oneway or wire.phase is not _SERVING:
            return self.reusable
        left = MAX_UNASKED_BYTES
        try:
            while left > 0 and (data := wire.stream.read_now()) is not None:
                left -= len(data)
                if (wire.codec.receive(data) if data else wire.end()) or not data:
                    wire.after(Event.GOODBYE)
                    break
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            wire.after(Event.BREAK)
        return self.reusable

    @property
    def finished(self) -> bool:
        """Whether the last response was read to its end."""
        return self._body is None or self._body.finished

    def close(self) -> None:
        """Close the connection; half a request must not be taken for a whole one. Idempotent."""
        self.release()
        self._body = None  # each knows the other
        if self._uploading and not self.wire.paused:
            self.wire.abort()
        self.wire.close()

    # ---- moving to another process

    def freeze(self) -> Moment:
        """Stand still until ``thaw`` or ``leave``. For one that is reusable. Raises as ``Wire.export`` does."""
        sock = self.wire.pause()
        try:
            return Moment(parts=self.wire.export(), sock=sock)
        except BaseException:
            self.wire.resume()
            raise

    def thaw(self) -> None:
        """Go on as if nothing had been."""
        self.wire.resume()

    def leave(self) -> None:
        """Another process goes on with it."""
        self.wire.leave()

    @property
    def body(self) -> Body | None:
        """The last response's, as it comes from here; None: it came whole."""
        return self._body

    @property
    def uploads(self) -> Body | None:
        """The request body that is being sent; None: none is, as it came whole, or has ended."""
        return self._upload_of

    def stays(self) -> str:
        """Return why an exchange, whose response has begun, cannot be written down; empty: it can."""
        if self._failure is not None or self.wire.phase not in _FLOWS:
            return "its upstream connection is ending"
        return "its request has not gone to its end" if self._owing else ""

    def write_down(self, sock: socket.socket, lane: tuple[Plain, ...]) -> UpstreamEnd:
        """Return what another process needs to go on amid the exchange. While paused; ``lane``: what its lease says.

        Raises as ``Wire.export``, and ValueError for a lease that says anything else.
        """
        match lane:
            case (
                str() as cluster,
                str() as endpoint,
                str() as protocol,
                bytes() as settings,
                bool() as bound,
                (str() | None) as kind,
            ):
                parts = self.wire.export()
                if self._write_error is not None:
                    parts = attrs.evolve(parts, unsent=b"")  # the peer takes nothing any more
                return UpstreamEnd(
                    sock=sock,
                    parts=parts,
                    cluster=cluster,
                    endpoint=endpoint,
                    protocol=protocol,
                    settings=settings,
                    bound=bound,
                    kind=kind,
                    requests=self.requests,
                    stream_id=self._stream_id,
                    oneway=self.oneway,
                    uploading=self._uploading,
                )
        raise ValueError("its lease does not say where its upstream connection belongs")

    def go_on(self, end: UpstreamEnd, down: Half, share: Share) -> ResponseBody:
        """Go on amid the exchange that was written down; return what is left of the response."""
        wire = self.wire
        wire.phase = Phase(down.phase)
        wire.rest = memoryview(end.parts.unsent)
        wire.inbox.extend(frames_of(down.inbox, end.stream_id))
        wire.share = share
        wire.count(down)
        self.oneway = end.oneway
        self._stream_id = end.stream_id
        self._uploading = end.uploading
        self._body = body = ResponseBody(self, down.first)
        body.finished = not down.flows
        return body

    async def upload(self, request: Request) -> None:
        """Send on what is left of the request's body, beside the response."""
        await self._start_upload(request, request.body)

    def note(self) -> tuple[object | None, Note | None]:
        """See SupportsNote: its driver writes it down."""
        return None, None

    def depart(self) -> None:
        """See SupportsNote: ``leave`` does it."""

    def release(self) -> None:
        """The exchange is over: nothing is held for its client any more. Idempotent."""
        self.wire.let_go()
        self.wire.share = None

    def close_soon(self) -> None:
        """See Closable."""
        self.close()

    async def exchange(self, request: Request) -> Response:
        """Send ``request`` and return the response. A response whose body did not come whole reads on from here.

        Raises UpstreamReset, UpstreamProtocolError, and what the request body raises. After an exception the
        connection must be closed.
        """
        self.requests += 1
        self._body = None
        wire = self.wire
        head = request.head
        body = request.body
        stream_id = self._stream_id
        if self._numbered:
            stream_id = self._next_id()
        if type(body) is BytesBody:
            size = request.record.received_bytes = len(body.data)
            if body.trailers is None:
                if size < PREPARED_FROM or wire.preparing is None:
                    data = wire.codec.send(whole(stream_id, head, body.data))
                else:
                    ready = whole(stream_id, head, body.data)
                    ready = await prepared(wire.preparing, ready, wire.stream)
                    data = wire.codec.send(ready)
                    del ready
            else:
                # Head and data at once: so the codec knows that there will be trailers, whatever length is declared.
                data = wire.codec.send(Head(stream_id, head, body.data))
                data += wire.codec.send(Trailers(stream_id, body.trailers.headers))
            try:
                sent = wire.stream.write_now(data)
            except trio.BrokenResourceError as exc:
                return await self._last_words(request, exc)
            if sent != len(data) or head.oneway:
                wire.rest = memoryview(data)[sent:]
                data = b""
                return await self._exchange_slowly(request)
            # The usual case in one step: the whole response in one read. Everything else goes the long way.
            data = b""  # it has gone, and the answer may take its time
            try:
                data = await wire.stream.read()
            except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                raise UpstreamReset(f"{self.address}: {exc}") from exc
            frames = wire.codec.receive(data) if data else wire.end()
            if len(frames) == 1:
                frame = frames[0]
                if type(frame) is Head and frame.end and frame.stream_id == stream_id:
                    if len(data) > SMALL or self._numbered:
                        wire.stream.settle()
                    return Response(frame.message, BytesBody(frame.data), frame.origin)  # type: ignore[arg-type]  # a client's
            wire.stream.settle()
            wire.inbox.extend(frames)
            wire.share = request.connection.share
            if len(data) >= COUNTED:
                wire.held(len(data), half=not frames)
                data = b""
        else:
            try:
                await wire.write(wire.codec.send(Head(stream_id, head)))
            except trio.BrokenResourceError as exc:
                return await self._last_words(request, exc)
            if not head.tunnel:
                await self._start_upload(request, body)
        if head.tunnel:
            return await self._open_tunnel(request, body)
        if self._write_error is not None and self._answered is None:
            return await self._last_words(request, self._write_error)
        return await self._response(request)

    def _next_id(self) -> int:
        codec = self.wire.codec
        if supports(codec, SupportsStreamIds):
            self._stream_id = codec.next_stream_id()
        return self._stream_id

    async def _exchange_slowly(self, request: Request) -> Response:
        # A whole request of which some has not gone yet, or that gets no answer.
        if request.head.oneway:
            self.oneway = True
            self._uploading = True
            try:
                await self.wire.flush()
            except trio.BrokenResourceError as exc:
                raise UpstreamReset(f"{self.address}: {exc}") from exc
            self._uploading = False
            return Response(_ACCEPTED, BytesBody())
        self._uploading = self._owing = True
        return await self._response(request)

    async def _start_upload(self, request: Request, body: Body) -> None:
        self._uploading = True
        self._upload_of = body
        if not request.stream.start_soon(partial(self._upload_beside, request, body)):
            await self._upload(request, body)

    async def _last_words(self, request: Request, error: trio.BrokenResourceError) -> Response:
        # The upstream takes no more of the request. It may have answered it before it closed.
        self._uploading = True
        if request.head.oneway:
            raise UpstreamReset(f"{self.address}: {error}") from error
        with trio.move_on_after(LAST_WORDS_SECONDS):
            return await self._response(request)
        raise UpstreamReset(f"{self.address}: {error}") from error

    async def _open_tunnel(self, request: Request, body: Body) -> Response:
        # Nothing goes before the answer: without a grant it would be read as the next request.
        response = await self._response(request)
        if request.head.grants(response.head):
            if type(body) is BytesBody:
                self.wire.stream.shutdown_write()  # its first half had ended with the request
                return response
            await self._start_upload(request, body)
        return response

    async def _response(self, request: Request) -> Response:
        self.wire.share = request.connection.share
        try:
            frame = await self._head(request)
        finally:
            if self._answered is not None:
                self._answered.set()
        head = frame.message
        assert isinstance(head, ResponseHead)
        if frame.end:
            if self.wire.inbox:
                self._settle()
            self.release()
            return Response(head, BytesBody(frame.data), frame.origin)
        self._body = ResponseBody(self, frame.data)
        return Response(head, self._body, None, self)

    async def _head(self, request: Request) -> Head:
        wire = self.wire
        if self._traits.headless:
            wire.inbox.extend(
                wire.codec.receive(b"")
            )  # its head is no bytes: it need not be waited for
        try:
            while True:
                frame = await self.pull(request)
                if type(frame) is Head:
                    if frame.stream_id != self._stream_id:
                        raise UpstreamReset(f"{self.address}: an answer to another call")
                    if not frame.interim:
                        return frame
                    assert isinstance(frame.message, ResponseHead)
                    await request.stream.send_interim(frame.message)
                elif type(frame) is Reset:
                    raise self._broken(frame.detail or "the stream was reset")
                elif type(frame) is Violation:
                    if self._numbered and self.requests > 1:
                        # Not an answer to this call: one before it was answered twice. The race of keep-alive, too.
                        raise UpstreamReset(f"{self.address}: {frame.detail}")
                    raise self._broken(frame.detail)
                elif frame is None:
                    raise UpstreamReset(f"{self.address} closed the connection without an answer")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            if self._failure is not None:
                raise self._failure.again() from None
            raise UpstreamReset(f"{self.address}: {exc}") from exc

    async def pull(self, request: Request | None) -> Frame | None:
        """Return the next frame, as SerialWire does, while what is left of a whole request goes out."""
        if not self._owing:
            return await self.wire.pull()
        frame: Frame | None = None
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_rest, request)
            try:
                frame = await self.wire.pull()
            except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                failure = exc
            nursery.cancel_scope.cancel()
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # it knows this frame
        return frame

    @property
    def sending(self) -> bool:
        """Whether a whole request has not gone to its end, and goes on only while its answer is pulled."""
        return self._owing

    async def _send_rest(self, request: Request | None) -> None:
        try:
            await self.wire.flush(request.stream.touch if request is not None else None)
        except trio.BrokenResourceError as exc:
            self._owing = False
            await self._give_time(exc)
        except trio.ClosedResourceError:
            self._owing = False  # whoever reads learns of it
        else:
            self._owing = self._uploading = False

    def _broken(self, detail: str) -> StreamError:
        # A message that breaks off with the input is a lost connection, not a peer that speaks wrongly: on a pooled
        # connection it may be the normal race of keep-alive.
        kind = UpstreamReset if self.wire.phase in _ENDED else UpstreamProtocolError
        return kind(f"{self.address}: {detail}")

    def _settle(self) -> None:
        # Frames behind a whole message: a notice that the connection ends, or bytes nobody asked for.
        wire = self.wire
        while wire.inbox:
            wire.inbox.popleft()
            wire.after(Event.GOODBYE)

    async def _upload(self, request: Request, body: Body) -> None:
        # Never raises a StreamError: the one who reads the response learns of it.
        wire = self.wire
        stream_id = self._stream_id
        bypass_at: float = BYPASS_AFTER
        try:
            if wire.rest:
                await wire.flush()  # of what another process had begun to write
            while True:
                try:
                    piece = await body.receive()
                except trio.EndOfChannel:
                    break
                if isinstance(piece, Trailers):
                    await wire.write(wire.codec.send(Trailers(stream_id, piece.headers)))
                    self._uploading = False
                    return
                request.record.received_bytes += len(piece)
                request.stream.touch()
                await wire.write(wire.codec.send(Data(stream_id, piece)))
                piece = b""  # it has gone, and the next may take its time
                if request.record.received_bytes >= bypass_at and isinstance(body, PulledBody):
                    bypass_at = await self._bypass(request, body)
            end = wire.codec.send(Data(stream_id, b"", True))
            if end:
                await wire.write(end)
            if self._traits.half_close or request.head.tunnel:
                wire.stream.shutdown_write()
            self._uploading = False
        except StreamError as error:
            self.fail(error)
        except LocalProtocolError as exc:
            self.fail(UpstreamProtocolError(f"request body cannot be sent on: {exc}"))
        except trio.BrokenResourceError as exc:
            self._write_error = exc  # whoever reads goes on reading
        except trio.ClosedResourceError:
            pass  # the exchange is over: the response was complete, or was given up; or it goes on elsewhere
        finally:
            self._upload_of = None

    async def _upload_beside(self, request: Request, body: Body) -> None:
        # As a task, beside the one that reads the response.
        await self._upload(request, body)
        if self._write_error is not None and self._body is None:
            await self._give_time(self._write_error)

    async def _give_time(self, error: trio.BrokenResourceError) -> None:
        # The upstream takes no more of the request, and its answer is being waited for. With a reset that waiting
        # ends by itself; whoever only stopped to read must not make it last.
        self._answered = answered = trio.Event()
        with trio.move_on_after(LAST_WORDS_SECONDS):
            await answered.wait()
            return
        self.fail(UpstreamReset(f"{self.address}: {error}"))

    async def _bypass(self, request: Request, body: PulledBody) -> float:
        # Returns the received bytes from which on it is to be done again.
        def moved(count: int) -> None:
            request.record.received_bytes += count
            request.stream.touch()

        again = await body.bypass(self.wire, math.inf, moved)
        return BYPASS_AFTER if again else math.inf

    def fail(self, error: StreamError) -> None:
        """Break the exchange off: the upstream must not take half a request for a whole one."""
        if self._failure is None:
            self._failure = error.again()
        self.wire.abort()

    async def aclose(self) -> None:
        """See Releasable: only for a connection nobody pools."""
        self.close()


class ResponseBody(PulledBody):
    """A response body that did not come whole, read from the upstream as the client takes it."""

    __slots__ = ("_upstream",)

    def __init__(self, upstream: SerialUpstream, first: bytes) -> None:
        super().__init__(upstream.wire, first)
        self._upstream = upstream

    async def _pull(self) -> Frame | None:
        upstream = self._upstream
        try:
            if not upstream._owing:
                return await self._wire.pull()
            return await upstream.pull(None)
        except Moved:
            raise
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise self._break_off(str(exc)) from exc

    async def bypass(self, sink: SerialWire, stall: float, moved: Callable[[int], None]) -> bool:
        """See PulledBody."""
        return not self._upstream.sending and await super().bypass(sink, stall, moved)

    def broken(self, detail: str) -> StreamError:
        """See PulledBody."""
        if self._upstream._failure is not None:
            return self._upstream._failure.again()
        if self._wire.violation is not None:
            return self._upstream._broken(detail)
        return UpstreamReset(f"{self._upstream.address}: {detail}")
