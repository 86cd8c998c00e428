"""Message heads: what a request asks for and how it ended, in terms that every protocol shares."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import attrs

from xproxy.model.headers import NO_HEADERS, Headers
from xproxy.model.status import Status

Fields: TypeAlias = tuple[tuple[str, str], ...]
"""Header fields in order: (name, value)."""


@attrs.frozen(kw_only=True)
class Target:
    """Where a request of the web family is addressed (``RequestHead.extra``); RPC protocols have none."""

    path: str
    """Path and query as sent, e.g. ``/a?b=c``; ``*`` for a server-wide OPTIONS; empty for a tunnel."""
    scheme: str = "http"
    """``http`` or ``https``."""
    version: str = "1.1"
    """The version the sender speaks, e.g. ``1.0``: some answers may not be given to old ones."""
    upgrade: str = ""
    """The protocol that the connection, or the stream, is asked to become (RFC 9110 §7.8, RFC 8441), in lower case,
    e.g. ``websocket``; empty: none. The method is GET, whatever it is on the wire."""
    upgrade_only: bool = False
    """There is no request without the upgrade: it may be refused, but not passed over (RFC 8441)."""
    rpc: Rpc | None = None
    """What the request means where it carries a remote procedure call."""
    hop: Fields = attrs.field(default=(), eq=False)
    """Fields that ended with the client's connection (Connection and what it names, Upgrade, TE, …), as it sent them:
    to be looked at, and never to be sent."""
    matched: tuple[str, str] = ("", "")
    """A path as its listener has it, and the one, without query, that routes look at in its place: where that is
    another. It holds as long as the path is that one."""

    def at(self, scheme: str, path: str, matched: tuple[str, str], rpc: Rpc | None) -> Target:
        """Return the same with these facts in place of its own."""
        return Target(
            path=path,
            scheme=scheme,
            version=self.version,
            upgrade=self.upgrade,
            upgrade_only=self.upgrade_only,
            rpc=rpc,
            hop=self.hop,
            matched=matched,
        )

    @property
    def match_path(self) -> str:
        """The path that routes look at, without query."""
        path, matched = self.matched
        return matched if matched and path == self.path else self.path.partition("?")[0]


@attrs.frozen
class Rpc:
    """A remote procedure call that travels as a web request (``Target.rpc``)."""

    dialect: str
    """Which convention: a name that a route may give as ``protocol``."""
    service: str
    """Interface, e.g. ``package.Service``."""
    method: str
    """What is called."""

    def at(self, path: str) -> Rpc:
        """Return the call that the same request means at another path, which is split at its last slash."""
        service, _, method = path.partition("?")[0].rpartition("/")
        return Rpc(self.dialect, service.removeprefix("/"), method)


SWITCHING: Final = 101
"""The native status of the web family that grants an upgrade, whatever it is on the wire."""


class Arguments(Protocol):
    """The arguments of a call by name, read when the first one is asked for."""

    def get(self, name: str) -> str | None:
        """Return an argument as text; a field of a struct by its path, ``user.id``. None: there is none. Total."""
        ...


class Described:
    """Base of a codec's own facts (``RequestHead.extra``) where it knows what the arguments are called."""

    __slots__ = ()
    arguments: Arguments | None


_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


@attrs.frozen(kw_only=True)
class RequestHead:
    """What a request asks for."""

    service: str
    """Who is asked: interface or unique service name of an RPC, authority (``host[:port]``) of the web family."""
    method: str
    """What is asked: RPC method name, or the HTTP method. Empty where a protocol has none."""
    headers: Headers = NO_HEADERS
    """End-to-end fields. Hop-by-hop fields, framing and the authority are the codec's and not in here.

    A declared length (Content-Length) stays, for those who want to know it: the codec that sends the message decides
    its framing anew, and for a whole message the length of the data wins."""
    deadline: float | None = None
    """Seconds the sender will wait, counted from the head's arrival (codecs have no clock); None: not said."""
    oneway: bool = False
    """Nobody waits for an answer, and none may be sent."""
    extra: Any = (
        None  # Any: each codec's own frozen facts; opaque to all but that codec (and Target)
    )
    """The codec's own frozen facts (RPC), or a :class:`Target`."""
    base: RequestHead | None = attrs.field(default=None, init=False, eq=False, repr=False)
    """The head this one was made from by ``adding`` or ``due_in``, if it was: what is known of that one holds for
    this one, but for the deadline."""
    added: Fields = attrs.field(default=(), init=False, eq=False, repr=False)
    """The fields that ``base`` lacks."""
    recurs: bool = attrs.field(default=False, init=False, eq=False, repr=False)
    """Set by ``recurring``."""

    def adding(self, fields: Fields) -> RequestHead:
        """Return a copy with more fields at its end.

        A filter that gives every request a field of its own makes every head new. By ``base`` a codec still finds
        what it has computed for the recurring part.
        """
        # Slot by slot: what attrs generates for a frozen class takes twice as long, and every request passes here.
        new = RequestHead.__new__(RequestHead)
        _set_service(new, self.service)
        _set_method(new, self.method)
        _set_headers(new, self.headers.extend(fields))
        _set_deadline(new, self.deadline)
        _set_oneway(new, self.oneway)
        _set_extra(new, self.extra)
        base = self.base
        if base is None:
            _set_base(new, self)
            _set_added(new, fields)
        else:
            _set_base(new, base)
            _set_added(new, self.added + fields)
        _set_recurs(new, False)
        return new

    def with_headers(self, headers: Headers) -> RequestHead:
        """Return a copy with these fields in place of its own."""
        return RequestHead(
            service=self.service,
            method=self.method,
            headers=headers,
            deadline=self.deadline,
            oneway=self.oneway,
            extra=self.extra,
        )

    def with_extra(self, extra: object) -> RequestHead:
        """Return a copy with these facts in place of its own."""
        return RequestHead(
            service=self.service,
            method=self.method,
            headers=self.headers,
            deadline=self.deadline,
            oneway=self.oneway,
            extra=extra,
        )

    @property
    def idempotent(self) -> bool:
        """Whether sending it twice is harmless by definition (RFC 9110 §9.2.2); RPCs never say so."""
        return self.method in _IDEMPOTENT and isinstance(self.extra, Target)

    def sent(self, name: str) -> str | None:
        """Return a field as the client sent it, also one that is not among ``headers`` as it ends at this hop."""
        found = self.headers.get(name)
        extra = self.extra
        if not isinstance(extra, Target):
            return found
        lower = name.lower()
        hop = [value for field, value in extra.hop if field.lower() == lower]
        if hop:
            return ", ".join(hop)
        if found is not None:
            return found
        if lower == "host":
            return self.service or None
        return extra.upgrade or None if lower == "upgrade" else None

    @property
    def tunnel(self) -> bool:
        """Whether it asks for a tunnel: to ``service`` (CONNECT, RFC 9110 §9.3.6), or through an upgrade.

        What follows is no message body then, once the answer is OK.
        """
        extra = self.extra
        return isinstance(extra, Target) and (not extra.path or extra.upgrade != "")

    def grants(self, response: ResponseHead) -> bool:
        """Whether ``response`` opens the tunnel: 2xx to CONNECT, 101 to an upgrade (RFC 9110 §9.3.6, §7.8)."""
        extra = self.extra
        if not self.tunnel or response.status is not Status.OK:
            return False
        code = response.native_status
        return code == SWITCHING if extra.upgrade else code is None or code < 300

    @property
    def arguments(self) -> Arguments | None:
        """The arguments as the client sent them; None where nobody knows what they are called."""
        extra = self.extra
        return extra.arguments if isinstance(extra, Described) else None

    def due_in(self, seconds: float) -> RequestHead:
        """Return a copy with so much time left. What is known of ``base`` holds, but for the deadline."""
        new = RequestHead.__new__(RequestHead)
        _set_service(new, self.service)
        _set_method(new, self.method)
        _set_headers(new, self.headers)
        _set_deadline(new, seconds)
        _set_oneway(new, self.oneway)
        _set_extra(new, self.extra)
        _set_base(new, self if self.base is None else self.base)
        _set_added(new, self.added)
        _set_recurs(new, False)
        return new

    @property
    def rpc(self) -> Rpc | None:
        """What it calls, where a call travels as a web request."""
        extra = self.extra
        return extra.rpc if isinstance(extra, Target) else None

    @property
    def path(self) -> str:
        """The request path with its query, or empty where the protocol has none."""
        extra = self.extra
        return extra.path if isinstance(extra, Target) else ""


def _setter(name: str) -> Callable[[RequestHead, object], None]:
    setter: Callable[[RequestHead, object], None] = RequestHead.__dict__[name].__set__
    return setter


_set_service: Final = _setter("service")
_set_method: Final = _setter("method")
_set_headers: Final = _setter("headers")
_set_deadline: Final = _setter("deadline")
_set_oneway: Final = _setter("oneway")
_set_extra: Final = _setter("extra")
_set_base: Final = _setter("base")
_set_added: Final = _setter("added")
_set_recurs: Final = _setter("recurs")


class Reason(enum.Enum):
    """Why a reply was made here and not by an upstream, where a status alone would lose the point.

    A codec may answer with a finer code of its own for it; ``Status`` decides where it has none.
    """

    NONE = "none"
    HEAD_TOO_LARGE = "head-too-large"
    BODY_TOO_LARGE = "body-too-large"
    REQUEST_TIMEOUT = "request-timeout"
    RATE_LIMITED = "rate-limited"
    OVERFLOW = "overflow"
    NO_ROUTE = "no-route"
    UPSTREAM_PROTOCOL = "upstream-protocol"
    UPSTREAM_RESET = "upstream-reset"


@attrs.frozen(kw_only=True)
class Local:
    """Facts of a reply made by the proxy itself (``ResponseHead.extra`` with ``native_status`` None)."""

    detail: str = ""
    """One line for the client: what was wrong, the value and the limit. Never holds a peer's payload."""
    reason: Reason = Reason.NONE
    retry_after: int | None = None
    """Seconds after which another try makes sense."""


@attrs.frozen(kw_only=True)
class ResponseHead:
    """How a request ended."""

    status: Status
    """The neutral outcome."""
    native_status: int | None = None
    """The protocol's own code; None makes a local reply: the codec chooses the code for ``status``."""
    headers: Headers = NO_HEADERS
    """End-to-end fields, as in RequestHead."""
    extra: Any = None  # Any: each codec's own frozen facts, or Local
    """The codec's own frozen facts, or :class:`Local`."""
    recurs: bool = attrs.field(default=False, init=False, eq=False, repr=False)
    """Set by ``recurring``."""


H = TypeVar("H", RequestHead, ResponseHead)


def recurring(head: H) -> H:
    """Mark a head as one that a memory holds, and gives out again for the next message that says the same.

    Others may then remember what they worked out for this very object. Only for small heads (a few KiB) that nothing
    of one message hangs on: not its body, not what is read of it later. Any other head is made for one message, so
    that remembering it would help nobody, and hold what a client sent for as long as the memory lasts.
    """
    object.__setattr__(head, "recurs", True)
    return head
