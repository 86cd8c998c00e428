"""An upstream connection that serves one stream at a time: HTTP/1.1 and L4. It is leased, and reads in line."""

from __future__ import annotations

import math
from functools import partial
from typing import Final

import trio

from xproxy.codecs.api import Codec
from xproxy.connection.pull import BYPASS_AFTER, FramePuller, PulledBody
from xproxy.model.address import Address
from xproxy.model.errors import (
    LocalProtocolError,
    StreamError,
    UpstreamProtocolError,
    UpstreamReset,
)
from xproxy.model.frames import Data, Head, Trailers, Violation, whole
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Traits
from xproxy.stream.body import Body, BytesBody
from xproxy.stream.exchange import Request, Response
from xproxy.transport.stream import ByteStream, write_all

_ACCEPTED: Final = ResponseHead(status=Status.OK)
"""What a one-way message gets: nobody will answer it."""


class SerialUpstream:
    """One connection to an endpoint. Whoever leases it calls ``exchange`` and gives it back, or closes it."""

    __slots__ = (
        "_body",
        "_failure",
        "_traits",
        "_uploading",
        "address",
        "idle_since",
        "requests",
        "side",
    )

    def __init__(self, stream: ByteStream, codec: Codec, traits: Traits, address: Address) -> None:
        self.side = FramePuller(stream, codec)
        self.address = address
        self.requests = 0
        """Exchanges begun."""
        self.idle_since = 0
        """The cluster tick since which nobody uses it; written by the pool."""
        self._traits = traits
        self._uploading = False
        self._failure: StreamError | None = None
        self._body: ResponseBody | None = None

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent: the last message was read to its end and nothing came after it."""
        side = self.side
        return not (
            side.closing
            or side.ended
            or side.stream.pending
            or side.stream.hung_up
            or self._uploading
            or side.inbox
            or self._failure is not None
        )

    @property
    def finished(self) -> bool:
        """Whether the last response was read to its end."""
        return self._body is None or self._body.finished

    def close(self) -> None:
        """Close the connection; half a request must not be taken for a whole one. Idempotent."""
        if self._uploading:
            self.side.stream.abort()
        else:
            self.side.stream.close()

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
        side = self.side
        stream = side.stream
        head = request.head
        body = request.body
        if type(body) is BytesBody:
            if body.trailers is None:
                data = side.codec.send(whole(1, head, body.data))
            else:
                # Head and data at once: so the codec knows that there will be trailers, whatever length is declared.
                data = side.codec.send(Head(1, head, body.data))
                data += side.codec.send(Trailers(1, body.trailers.headers))
            try:
                sent = stream.write_now(data)
                if sent != len(data):
                    await write_all(stream, data[sent:])
            except trio.BrokenResourceError:
                # An upstream that refuses early answers first and then closes: what it said is worth more.
                if not stream.pending:
                    raise UpstreamReset(f"{self.address} closed the connection") from None
            request.received_bytes = len(body.data)
            if head.oneway:
                return Response(_ACCEPTED, BytesBody())
            # The usual case in one step: the whole response in one read. Everything else goes the long way.
            try:
                data = await stream.read()
            except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                raise UpstreamReset(f"{self.address}: {exc}") from exc
            frames = side.codec.receive(data) if data else side.end()
            if len(frames) == 1:
                frame = frames[0]
                if type(frame) is Head and frame.end:
                    return Response(frame.message, BytesBody(frame.data), frame.origin)  # type: ignore[arg-type]  # a client's
            side.inbox.extend(frames)
        else:
            data = side.codec.send(Head(1, head))
            try:
                await write_all(stream, data)
            except trio.BrokenResourceError as exc:
                raise UpstreamReset(f"{self.address} closed the connection") from exc
            if not head.tunnel:
                self._uploading = True
                if not request.stream.start_soon(partial(self._upload, request, body)):
                    await self._upload(request, body)
        if head.tunnel:
            return await self._open_tunnel(request, body)
        return await self._response(request)

    async def _open_tunnel(self, request: Request, body: Body) -> Response:
        # Nothing goes before the answer: without a grant it would be read as the next request.
        response = await self._response(request)
        if request.head.grants(response.head):
            if type(body) is BytesBody:
                self.side.stream.shutdown_write()  # its first half had ended with the request
                return response
            self._uploading = True
            if not request.stream.start_soon(partial(self._upload, request, body)):
                await self._upload(request, body)
        return response

    async def _response(self, request: Request) -> Response:
        side = self.side
        if self._traits.headless:
            side.inbox.extend(
                side.codec.receive(b"")
            )  # its head is no bytes: it need not be waited for
        try:
            while True:
                frame = await side.pull()
                if type(frame) is Head:
                    if not frame.interim:
                        break
                    assert isinstance(frame.message, ResponseHead)
                    await request.stream.send_interim(frame.message)
                elif type(frame) is Violation:
                    raise self._broken(frame.detail)
                elif frame is None:
                    raise UpstreamReset(f"{self.address} closed the connection without an answer")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            if self._failure is not None:
                raise self._failure from None
            raise UpstreamReset(f"{self.address}: {exc}") from exc
        head = frame.message
        assert isinstance(head, ResponseHead)
        if frame.end:
            if side.inbox:
                self._settle()
            return Response(head, BytesBody(frame.data), frame.origin)
        self._body = ResponseBody(self, frame.data)
        return Response(head, self._body, None, self)

    def _broken(self, detail: str) -> StreamError:
        # A message that breaks off with the input is a lost connection, not a peer that speaks wrongly: on a pooled
        # connection it may be the normal race of keep-alive.
        kind = UpstreamReset if self.side.ended else UpstreamProtocolError
        return kind(f"{self.address}: {detail}")

    def _settle(self) -> None:
        # Frames behind a whole message: a notice that the connection ends, or bytes nobody asked for.
        side = self.side
        while side.inbox:
            side.inbox.popleft()
            side.closing = True

    async def _upload(self, request: Request, body: Body) -> None:
        # Never raises a StreamError: the one who reads the response learns of it.
        side = self.side
        bypass_at: float = BYPASS_AFTER
        try:
            while True:
                try:
                    piece = await body.receive()
                except trio.EndOfChannel:
                    break
                if isinstance(piece, Trailers):
                    await write_all(side.stream, side.codec.send(Trailers(1, piece.headers)))
                    self._uploading = False
                    return
                request.received_bytes += len(piece)
                request.stream.touch()
                await write_all(side.stream, side.codec.send(Data(1, piece)))
                if request.received_bytes >= bypass_at and isinstance(body, PulledBody):
                    await self._bypass(request, body)
                    bypass_at = math.inf
            end = side.codec.send(Data(1, b"", True))
            if end:
                await write_all(side.stream, end)
            if self._traits.half_close or request.head.tunnel:
                side.stream.shutdown_write()
            self._uploading = False
        except StreamError as error:
            self.fail(error)
        except LocalProtocolError as exc:
            self.fail(UpstreamProtocolError(f"request body cannot be sent on: {exc}"))
        except trio.BrokenResourceError as exc:
            # The upstream takes no more. It may have answered; if not, reading finds the broken connection.
            if not side.stream.pending:
                self.fail(UpstreamReset(f"{self.address}: {exc}"))
        except trio.ClosedResourceError:
            pass  # the exchange is over: the response was complete, or was given up

    async def _bypass(self, request: Request, body: PulledBody) -> None:
        def moved(count: int) -> None:
            request.received_bytes += count
            request.stream.touch()

        await body.bypass(self.side, math.inf, moved)

    def fail(self, error: StreamError) -> None:
        """Break the exchange off: the upstream must not take half a request for a whole one."""
        if self._failure is None:
            self._failure = error
        self.side.stream.abort()

    async def aclose(self) -> None:
        """See Releasable: only for a connection nobody pools."""
        self.close()


class ResponseBody(PulledBody):
    """A response body that did not come whole, read from the upstream as the client takes it."""

    __slots__ = ("_upstream",)

    def __init__(self, upstream: SerialUpstream, first: bytes) -> None:
        super().__init__(upstream.side, first)
        self._upstream = upstream

    def broken(self, detail: str) -> StreamError:
        """See PulledBody."""
        if self._upstream._failure is not None:
            return self._upstream._failure
        if self._side.violation is not None:
            return self._upstream._broken(detail)
        return UpstreamReset(f"{self._upstream.address}: {detail}")
