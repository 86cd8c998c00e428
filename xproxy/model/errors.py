"""Errors: one hierarchy. A class carries what the wire and the log need; no ``isinstance`` ladder anywhere.

``status`` is what the client is told in its own protocol, ``reason`` lets a codec choose a finer code, ``public`` is
the text with it, ``flag`` is Envoy's response flag for the access log, and ``condition`` is the retry condition the
failure counts as.
(idea: pingora:pingora-error, h2:exceptions)
"""

from __future__ import annotations

from typing import ClassVar, Self

from xproxy.model.message import Reason
from xproxy.model.status import Status


class XproxyError(Exception):
    """Anything that xproxy itself raises on purpose."""


class ConfigError(XproxyError):
    """The configuration is wrong; carries every finding. Startup or reload only, never on the wire."""


class PluginError(XproxyError):
    """An installed plugin cannot be used; names the distribution. Startup or reload only."""


class LocalProtocolError(XproxyError):
    """We asked a codec for something its protocol cannot say now: a bug of ours or of a filter, never a peer's."""


class HeadRefused(LocalProtocolError):
    """The peer has said that it takes no head of this size: nobody's bug, and nothing was sent."""


class StreamError(XproxyError):
    """A stream failed; becomes a local reply, or a reset once the response head is out."""

    status: Status = Status.INTERNAL
    """Of the class; an instance may know more exactly."""
    reason: ClassVar[Reason] = Reason.NONE
    public: ClassVar[str] = ""
    """What the client reads where the detail is not its business, as it names addresses, clusters or routes; the
    access log has the detail. Empty: the detail itself."""
    flag: ClassVar[str] = "-"
    condition: ClassVar[str] = ""
    """Retry condition this failure matches (``connect-failure``, ``reset``, ``unavailable``, …); empty: none."""
    retry_after: int | None = None

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def again(self) -> Self:
        """Return one that says the same and was raised nowhere.

        For who keeps an error, and for who raises one that is kept: an exception knows the frames that it came
        through, they know the keeper, and of such a circle only a collector frees anything.
        """
        cls = type(self)
        other = cls.__new__(cls)
        other.args = self.args
        other.__dict__.update(self.__dict__)
        return other


class RouteNotFound(StreamError):
    """No route matches."""

    status = Status.NOT_FOUND
    reason = Reason.NO_ROUTE
    public = "no route matches the request"
    flag = "NR"


class ClusterNotFound(StreamError):
    """The route names a cluster that does not exist (semantics: 503)."""

    status = Status.UNAVAILABLE
    public = "no upstream for the request"
    flag = "NC"


class NoHealthyEndpoint(StreamError):
    """The cluster has no endpoint to send to."""

    status = Status.UNAVAILABLE
    public = "no upstream can take the request"
    flag = "UH"
    condition = "unavailable"


class ConnectFailed(StreamError):
    """The endpoint did not accept a connection in time."""

    status = Status.UNAVAILABLE
    public = "the upstream cannot be reached"
    flag = "UF"
    condition = "connect-failure"


class UpstreamReset(StreamError):
    """The upstream ended the stream or its connection before the response was complete.

    ``status``: what the upstream meant by it, for clients whose protocol has the same words.
    """

    status = Status.UNAVAILABLE
    reason = Reason.UPSTREAM_RESET
    public = "the upstream ended the request without a whole answer"
    flag = "UC"
    condition = "reset"

    def __init__(self, detail: str, status: Status = Status.UNAVAILABLE) -> None:
        super().__init__(detail)
        self.status = status


class UpstreamRefused(StreamError):
    """The upstream said that it has not looked at the request, or left before it was sent: it may be sent again."""

    status = Status.UNAVAILABLE
    public = "the upstream did not take the request"
    flag = "UR"
    condition = "refused-stream"

    def __init__(self, detail: str, *, leaving: bool = False) -> None:
        super().__init__(detail)
        self.leaving = leaving
        """The connection takes no more requests, but another may: no sign of an upstream that is overloaded."""


class UpstreamProtocolError(StreamError):
    """The upstream broke its protocol."""

    status = Status.UNAVAILABLE
    reason = Reason.UPSTREAM_PROTOCOL
    public = "the upstream's answer is not valid"
    flag = "UPE"
    condition = "reset"


class Overflow(StreamError):
    """A circuit breaker or a queue is full."""

    status = Status.RESOURCE_EXHAUSTED
    reason = Reason.OVERFLOW
    public = "overloaded, too much is under way"
    flag = "UO"
    retry_after = 1


class RateLimited(StreamError):
    """The caller asks too often."""

    status = Status.RESOURCE_EXHAUSTED
    reason = Reason.RATE_LIMITED
    flag = "RL"
    retry_after = 1


class DeadlineExceeded(StreamError):
    """The response did not come, or did not end, in time."""

    status = Status.DEADLINE_EXCEEDED
    flag = "UT"
    condition = "deadline-exceeded"


class StreamIdle(StreamError):
    """Nothing moved on the stream, in either direction, for too long."""

    status = Status.DEADLINE_EXCEEDED
    flag = "SI"


class RequestTimeout(StreamError):
    """The client did not send the rest of its request in time."""

    status = Status.DEADLINE_EXCEEDED
    reason = Reason.REQUEST_TIMEOUT
    flag = "SI"


class HeadTooLarge(StreamError):
    """The upstream has said that it takes no head of this size."""

    status = Status.INVALID_ARGUMENT
    reason = Reason.HEAD_TOO_LARGE
    flag = "DPE"


class BodyTooLarge(StreamError):
    """A body is longer than its limit."""

    status = Status.INVALID_ARGUMENT
    reason = Reason.BODY_TOO_LARGE
    flag = "DPE"


class RequestBroken(StreamError):
    """The client broke the protocol, or went away, in the middle of its request body."""

    status = Status.INVALID_ARGUMENT
    flag = "DPE"


class BadTarget(StreamError):
    """What the client asks for is written in a way that is not allowed here."""

    status = Status.INVALID_ARGUMENT
    flag = "DPE"


class Unauthenticated(StreamError):
    """The caller must say who it is."""

    status = Status.UNAUTHENTICATED
    flag = "UAEX"


class Forbidden(StreamError):
    """The caller may not do this."""

    status = Status.PERMISSION_DENIED
    flag = "UAEX"


class Unsupported(StreamError):
    """The request cannot be expressed in the upstream's protocol, or is not allowed here."""

    status = Status.UNIMPLEMENTED
    flag = "-"
