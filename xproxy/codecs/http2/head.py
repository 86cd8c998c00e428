"""Header lists → messages (RFC 9113 §8): the same ones as HTTP/1.1 makes, so that either can be sent as the other.

Rules of this file:

* What is not plainly right is malformed, and nothing is repaired: a CR or LF that reached HTTP/1.1 would be request
  smuggling.
* The message holds end-to-end fields only, and the cookie as one field (RFC 9113 §8.2.3).

* gRPC is HTTP/2 with a meaning, which its messages are given here: service and method, deadline, outcome.
"""

from __future__ import annotations

import re
from typing import Final

from xproxy.codecs.grpc.answer import to_caller
from xproxy.codecs.grpc.call import NO_CALL, call_in, dialect_of_fields
from xproxy.codecs.http2.faults import Malformed
from xproxy.codecs.http2.fields import (
    COOKIE,
    FORBIDDEN,
    HOP,
    HOST,
    INVALID,
    KINDS,
    LENGTH,
    NOT_IN_TRAILERS,
    PLAIN,
    PSEUDO,
    TE,
)
from xproxy.codecs.http2.status import status_of
from xproxy.codecs.http2.table import Field, Secret
from xproxy.codecs.http_fields import TOKEN
from xproxy.codecs.http_upgrade import HANDSHAKE, granted
from xproxy.codecs.http_values import authority_valid, method_valid, parse_length
from xproxy.model.authority import normalised
from xproxy.model.headers import Headers
from xproxy.model.limits import Limits
from xproxy.model.message import Fields, RequestHead, ResponseHead, Target, recurring
from xproxy.model.status import Status

VERSION: Final = "2"
"""``Target.version`` of requests that came over HTTP/2."""

_CONTROLS: Final = bytes({*range(32), 127} - {0x09, 0x0A})
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.\-]*")
_PATH: Final = re.compile(r"/[^\x00-\x20\x7f#]*")
_STATUS: Final = re.compile(r"[1-9][0-9][0-9]")
_REQUEST_PSEUDO: Final = frozenset({":method", ":scheme", ":authority", ":path", ":protocol"})
_RESPONSE_PSEUDO: Final = frozenset({":status"})
_NO_PSEUDO: Final[frozenset[str]] = frozenset()


class ParsedRequest:
    """A request head that was found good. Immutable by convention: it is shared through the memory."""

    __slots__ = ("declared", "dialect", "message", "muted", "tunnel", "upgrade")

    def __init__(self, message: RequestHead, declared: int, *, muted: bool) -> None:
        self.message = message
        self.declared = declared
        """Bytes that Content-Length says; -1: nothing said."""
        self.muted = muted
        """The response has no body, whatever it says (HEAD)."""
        self.tunnel = message.tunnel
        """It asks for a tunnel."""
        self.upgrade = self.tunnel and message.method != "CONNECT"
        """It asks for one for a protocol (RFC 8441)."""
        rpc = message.extra.rpc
        self.dialect: str = rpc.dialect if rpc is not None else ""
        """Of a call; empty: it is none."""


class ParsedResponse:
    """A response head that was found good. Immutable by convention, likewise."""

    __slots__ = ("_to_call", "code", "declared", "message")

    def __init__(self, message: ResponseHead, code: int, declared: int) -> None:
        self.message = message
        self.code = code
        self.declared = declared
        self._to_call: ResponseHead | None = None

    @property
    def to_call(self) -> ResponseHead:
        """The message as the answer to a call, which has its outcome in a field of its own."""
        found = self._to_call
        if found is None:
            found = self._to_call = to_caller(self.message)
            if self.message.recurs and not found.recurs:
                recurring(found)
        return found


class _List:
    """A header list, sorted into what is the message's and what is this hop's."""

    __slots__ = ("crumbs", "declared", "hop", "host", "pairs", "pseudo")

    def __init__(self, fields: list[Field], known: frozenset[str], limits: Limits) -> None:
        if len(fields) > limits.max_headers + len(_REQUEST_PSEUDO):
            raise Malformed(f"{len(fields)} fields, limit {limits.max_headers}", 431)
        _check_values(fields)
        self.pseudo: dict[str, str] = {}
        self.host: str | None = None
        self.crumbs: list[str] = []
        self.declared = -1
        self.hop: Fields = ()
        pairs: list[Field] = []
        self.pairs = pairs
        kinds = KINDS
        regular = False
        for field in fields:
            kind = kinds[field[0]]
            if kind == PLAIN:
                regular = True
                pairs.append(field)
            elif kind == PSEUDO:
                name, value = field
                if regular:
                    raise Malformed("a pseudo-field after a regular one")
                if name not in known or name in self.pseudo:
                    raise Malformed("a pseudo-field that is given twice, or not of this message")
                self.pseudo[name] = value
            else:
                regular = True
                self._special(kind, field)
        if len(self.crumbs) > 1:
            self._join_crumbs()

    def _special(self, kind: int, field: Field) -> None:
        value = field[1]
        if kind == COOKIE:
            if not self.crumbs:
                self.pairs.append(field)
            self.crumbs.append(value)
        elif kind == LENGTH:
            if self.declared >= 0:
                raise Malformed("more than one content-length")
            try:
                self.declared = parse_length(value)
            except ValueError as exc:
                raise Malformed(str(exc)) from exc
            self.pairs.append(field)
        elif kind == HOST:
            if self.host is not None:
                raise Malformed("more than one host")
            self.host = value
        elif kind == TE:
            if value.lower() != "trailers":
                raise Malformed("te other than trailers")
            self.pairs.append(field)
        elif kind == FORBIDDEN:
            raise Malformed("a connection-specific field")
        elif kind == HOP:
            self.hop += (field,)
        else:
            what = "no lower-case token" if kind == INVALID else "an unknown pseudo-field"
            raise Malformed(f"a field name is {what}")

    def _join_crumbs(self) -> None:
        whole = "; ".join(self.crumbs)
        if any(type(crumb) is Secret for crumb in self.crumbs):
            whole = Secret(whole)
        self.pairs = [("cookie", whole) if pair[0] == "cookie" else pair for pair in self.pairs]

    def drop_length(self) -> None:
        """Forget Content-Length, where there can be no body to have one."""
        if self.declared >= 0:
            self.declared = -1
            self.pairs = [pair for pair in self.pairs if pair[0] != "content-length"]


def _check_values(fields: list[Field]) -> None:
    """Refuse what no field value may hold (RFC 9113 §8.2.1), and the other controls with it (RFC 9110 §5.5)."""
    values = [value for _, value in fields]
    joined = "\n".join(values).encode("latin-1")
    if joined.count(b"\n") != max(len(values) - 1, 0) or len(
        joined.translate(None, _CONTROLS)
    ) != len(joined):
        raise Malformed("a control character in a field value")
    for value in values:
        if value != value.strip(" \t"):
            raise Malformed("white space around a field value")


def parse_request(fields: list[Field], limits: Limits, *, extended: bool) -> ParsedRequest:
    """Read a request's header list; ``extended``: RFC 8441 was offered. Raises Malformed."""
    try:
        return _parse_request(_List(fields, _REQUEST_PSEUDO, limits), limits, extended=extended)
    except Malformed as malformed:
        if malformed.answer:
            malformed.dialect = dialect_of_fields(fields)
        raise


def _parse_request(read: _List, limits: Limits, *, extended: bool) -> ParsedRequest:
    take = read.pseudo.get
    method, scheme, path = take(":method"), take(":scheme"), take(":path")
    authority, protocol = take(":authority"), take(":protocol")
    if method is None or TOKEN.fullmatch(method) is None:
        raise Malformed("no :method, or one that is no token")
    if not method_valid(method):
        raise Malformed(":method is not in capitals, or too long", 400)
    if protocol is not None and not (extended and method == "CONNECT"):
        raise Malformed(":protocol where it was not offered")
    host = read.host
    if authority is not None and host is not None and authority != host:
        # RFC 9113 §8.3.1: as URIs are compared, and not as texts.
        meant = scheme or ""
        if normalised(authority, meant) != normalised(host, meant):
            raise Malformed(":authority and host differ")
    service = authority if authority is not None else host
    if not service or not authority_valid(service):
        raise Malformed("no authority, or a malformed one")
    target: Target
    deadline: float | None = None
    if method == "CONNECT" and protocol is None:
        if scheme is not None or path is not None or authority is None:
            raise Malformed("CONNECT with more or less than :authority")
        if ":" not in service.rpartition("]")[2]:
            raise Malformed("CONNECT without a port")
        target = Target(path="", version=VERSION)
    else:
        if scheme is None or _SCHEME.fullmatch(scheme) is None:
            raise Malformed("no :scheme, or a malformed one")
        if path is None or (
            _PATH.fullmatch(path) is None and not (path == "*" and method == "OPTIONS")
        ):
            raise Malformed("no :path, or a malformed one")
        if len(path) > limits.max_target_bytes:
            raise Malformed(f":path is above {limits.max_target_bytes} bytes", 414)
        if protocol is None:
            rpc, deadline = call_in(read.pairs, path) if method == "POST" else NO_CALL
            target = Target(path=path, scheme=scheme, version=VERSION, rpc=rpc, hop=read.hop)
        else:
            # RFC 8441 §4: a CONNECT on the wire, and by its meaning the GET that HTTP/1.1 has for it.
            upgrade = granted(protocol)
            if not upgrade:
                raise Malformed(":protocol is no token of at most 64 characters")
            target = Target(
                path=path,
                scheme=scheme,
                version=VERSION,
                upgrade=upgrade,
                upgrade_only=True,
                hop=read.hop,
            )
    if method == "CONNECT":
        read.drop_length()
        if protocol is not None:
            method = "GET"
            read.pairs = [pair for pair in read.pairs if pair[0] not in HANDSHAKE]
    message = RequestHead(
        service=service,
        method=method,
        headers=Headers(read.pairs),
        deadline=deadline,
        extra=target,
    )
    return ParsedRequest(message, read.declared, muted=method == "HEAD")


def parse_response(fields: list[Field], limits: Limits) -> ParsedResponse:
    """Read a response's header list. Raises Malformed."""
    read = _List(fields, _RESPONSE_PSEUDO, limits)
    text = read.pseudo.get(":status")
    if text is None or _STATUS.fullmatch(text) is None:
        raise Malformed("no :status, or one that is no code")
    code = int(text)
    if code == 101:
        raise Malformed("status 101, which HTTP/2 does not have")  # RFC 9113 §8.6
    if code < 200 or code == 204:
        # Neither may say how long it is (RFC 9110 §8.6): what it says must not travel on.
        read.drop_length()
    headers = Headers(read.pairs)
    status = status_of(code)
    if code == 503 and "retry-after" in headers:
        status = Status.RESOURCE_EXHAUSTED
    message = ResponseHead(status=status, native_status=code, headers=headers)
    return ParsedResponse(message, code, read.declared)


def parse_trailers(fields: list[Field], limits: Limits) -> Headers:
    """Read trailers, without what a trailer may not bring (RFC 9113 §8.1, RFC 9110 §6.5.1). Raises Malformed."""
    if len(fields) > limits.max_headers:
        raise Malformed(f"{len(fields)} trailer fields, limit {limits.max_headers}")
    _check_values(fields)
    kept: list[Field] = []
    for field in fields:
        kind = KINDS[field[0]]
        if kind in (INVALID, FORBIDDEN) or field[0].startswith(":"):
            raise Malformed("a pseudo-field, a connection-specific one or no token in trailers")
        if field[0] not in NOT_IN_TRAILERS:
            kept.append(field)
    return Headers(kept)
