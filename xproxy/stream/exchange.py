"""One request and its response, as filters see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeAlias, TypeVar, runtime_checkable

import attrs

from xproxy.model.address import Address
from xproxy.model.errors import StreamError
from xproxy.model.frames import Origin
from xproxy.model.headers import NO_HEADERS, Headers
from xproxy.model.message import Local, Reason, RequestHead, ResponseHead
from xproxy.model.metadata import Key, Metadata
from xproxy.model.traits import Traits
from xproxy.stream.body import Body, BytesBody
from xproxy.stream.held import Share, uncounted
from xproxy.stream.record import Record, RetryPermits

T = TypeVar("T")


class Closable(Protocol):
    """What ends with the downstream connection that it is bound to."""

    def close_soon(self) -> None:
        """Begin to close; the owner finishes it. Never blocks."""
        ...


class Downstream(Protocol):
    """A live downstream connection, as its bound upstream connections use it."""

    def bind(self, key: object, bound: Closable) -> None:
        """Close ``bound`` when this connection ends."""
        ...

    def bound(self, key: object) -> Closable | None:
        """Return what was bound under ``key`` and still lives."""
        ...

    def unbind(self, key: object) -> None:
        """Forget ``key``; does nothing if it is unknown."""
        ...

    def drain(self) -> None:
        """Finish what is in flight, then close. Idempotent."""
        ...

    @property
    def draining(self) -> bool:
        """Its listener is about to end: no new connections come."""
        ...

    @property
    def streams(self) -> int:
        """Streams in flight."""
        ...

    def in_flight(self, permits: RetryPermits) -> int:
        """Return how many of its requests the cluster whose permits these are was asked last, and are not over."""
        ...

    async def call(self, request: Request) -> Response:
        """Send a reverse request to the client on its own connection, and await its answer.

        Raises Unsupported where the protocol has no such thing.
        """
        ...


@attrs.define(eq=False, kw_only=True)
class ConnectionFacts:
    """What is known of the downstream connection that a request came on. One object a connection."""

    id: int
    """Unique in this process."""
    listener: str
    protocol: str
    """The codec's name."""
    traits: Traits
    peer: Address
    """Who called: from the PROXY header where the listener wants one, else the socket's peer."""
    local: Address
    """The address that was called, likewise."""
    destination: Address | None = None
    """Where the client was going, where its connection was intercepted on the way (``transparent``); None: to us."""
    tls: bool = False
    """Its TLS was ended here."""
    sni: str | None = None
    """The server name the client asked for, in lower case; also where its TLS is passed through."""
    alpn: str | None = None
    """The ALPN protocol agreed on; where TLS is passed through, the client's first choice."""
    tls_version: str | None = None
    """``TLSv1.2`` or ``TLSv1.3``, where TLS was ended here."""
    tls_cipher: str | None = None
    """OpenSSL's name of the cipher suite, likewise."""
    peer_identity: str | None = None
    """Subject alternative name of a verified client certificate, else its subject."""
    code_of: Callable[[ResponseHead, RequestHead | None], int] | None = None
    """Which of its own codes the protocol gives a reply made here; None where it has no codes."""
    text_of: Callable[[ResponseHead, RequestHead | None], bytes] | None = None
    """The body that it gives such a reply, where nobody else did; None where it gives none."""
    share: Share = attrs.field(factory=uncounted, repr=False)
    """What the connection holds of the process's bytes."""
    downstream: Downstream | None = None
    """The live connection, for upstream connections that are bound to it; None in tests and local requests."""


class StreamControl(Protocol):
    """What the connection's driver does for a stream, besides carrying it."""

    def limit(self, deadline: float) -> None:
        """End the stream with DeadlineExceeded at ``deadline`` (trio clock) unless it has an earlier one already."""
        ...

    @property
    def deadline(self) -> float:
        """The earliest that was set (trio clock); infinite: none was."""
        ...

    def touch(self) -> None:
        """Something moved on the stream: it is not idle."""
        ...

    def hold(self, count: int) -> None:
        """So many more bytes are held for the stream, until it ends; for what a filter keeps of a body."""
        ...

    def interruption(self) -> StreamError | None:
        """While a stream is being cancelled: why, or None if the client went away or the proxy stops."""
        ...

    def start_soon(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Run ``work`` beside the stream, in its nursery: it is cancelled when the stream ends.

        Returns False where the stream has no nursery, as its body came whole: then do the work in line.
        """
        ...

    async def send_interim(self, head: ResponseHead) -> None:
        """Send a response before the response (100, 103), if the client's protocol has such a thing."""
        ...


class Releasable(Protocol):
    """What a response holds until it is closed: its upstream lease."""

    async def aclose(self) -> None: ...


@attrs.define(eq=False)
class Request:
    """A request on its way. Heads and pieces are frozen; to change one, put another in its place."""

    head: RequestHead
    body: Body
    """May be read once; a ``BytesBody`` as often as you like."""
    connection: ConnectionFacts
    stream: StreamControl
    started: float
    """When the head was complete (trio clock, seconds)."""
    origin: Origin | None = None
    """The raw message, for codecs only."""
    record: Record = attrs.field(factory=Record)
    """What became of it."""
    _metadata: Metadata | None = None

    @property
    def metadata(self) -> Metadata:
        """What filters tell one another about this request."""
        if self._metadata is None:
            self._metadata = Metadata()
        return self._metadata

    @property
    def noted(self) -> Metadata | None:
        """What is in ``metadata``; None: nothing ever was."""
        return self._metadata

    def note(self, key: Key[T], value: T) -> None:
        """Write one thing down in ``metadata``; cheaper if it is the first."""
        if self._metadata is None:
            self._metadata = Metadata({key: value})
        else:
            self._metadata[key] = value

    def fork(self, body: Body | None = None) -> Request:
        """Return an independent request for the same thing, on the same stream: for a retry, a hedge, a mirror.

        Whatever is done to one of them, and becomes of it, the other does not notice. The fork knows what was tried
        till now, the flags, and what filters have written down.

        ``body``: that of the fork; without it a body that came whole is replayed. Raises ValueError for any other: it
        can be read once, and it is for who forks to keep what was read (``Recording``).
        """
        if body is None:
            if not isinstance(self.body, BytesBody):
                raise ValueError("a body in pieces can be read once: say what the fork has")
            body = self.body.replay()
        fork = Request(
            self.head,
            body,
            self.connection,
            self.stream,
            self.started,
            self.origin,
            self.record.fork(),
        )
        if self._metadata is not None:
            fork._metadata = Metadata(self._metadata)
        return fork

    def adopt(self, fork: Request) -> None:
        """Go on as what became of ``fork``: its head and body, and from now on one record and metadata for both."""
        self.head, self.body, self.origin = fork.head, fork.body, fork.origin
        self.record, self._metadata = fork.record, fork.metadata


@runtime_checkable
class SupportsRefusals(Protocol):
    """A filter of a listener that wants to know of requests that were refused before any filter could see them."""

    def refused(self, request: Request, head: ResponseHead) -> None:
        """Take note of the answer. Of a request that was not understood ``request.head`` is empty. Never blocks."""
        ...


@attrs.define(eq=False)
class Response:
    """A response on its way back: a resource. Return it or ``await response.aclose()``."""

    head: ResponseHead
    body: Body
    origin: Origin | None = None
    """The raw message, for codecs only."""
    lease: Releasable | None = None
    """Held until ``aclose``; None when nothing is held any more, as the message came whole."""

    async def aclose(self) -> None:
        """Release the upstream connection; close it if the body was not read to its end. Idempotent."""
        try:
            if type(self.body) is not BytesBody:
                await self.body.aclose()
        finally:
            lease, self.lease = self.lease, None
            if lease is not None:
                await lease.aclose()


Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
"""Answers a request, or raises a StreamError."""


class Filter(Protocol):
    """Wraps the handling of a request: look, change, answer, or call on.

    An attrs class is its own configuration schema: its fields are the keys a user may write.
    """

    def __call__(self, request: Request, call_next: Handler) -> Awaitable[Response]:
        """Handle ``request``; ``await call_next(request)`` hands it on and returns the response.

        Nearly always an ``async def``. A filter that only changes the request may be a plain function that returns
        ``call_next(request)``: then it costs no frame.
        """
        ...


# A proxy in front must not send again what was too much here (Envoy's header; its retries and ours heed it).
_OVERLOADED: Final = Headers((("x-envoy-overloaded", "true"),))


def error_head(error: StreamError) -> ResponseHead:
    """Return the head of the local reply for ``error``; the client's codec chooses the native code.

    It says what is meant for the client: ``error.detail`` is for the access log, where ``error.public`` says less.
    """
    return ResponseHead(
        status=error.status,
        headers=_OVERLOADED if error.reason is Reason.OVERFLOW else NO_HEADERS,
        extra=Local(
            detail=error.public or error.detail,
            reason=error.reason,
            retry_after=error.retry_after,
        ),
    )


def local_response(head: ResponseHead, data: bytes = b"") -> Response:
    """Make a response here, with a body that holds nothing open."""
    return Response(head, BytesBody(data))
