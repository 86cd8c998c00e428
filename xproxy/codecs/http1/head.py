"""Heads: the block of bytes before a body → a frozen message and the facts of its framing (RFC 9112 §§2–6).

Rules of this file:

* What is not plainly right is refused. Two readers who disagree about one of these bytes is what request smuggling is
  made of, so nothing is repaired and nothing is guessed.
* The message holds end-to-end fields only. What was said about this hop becomes flags.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from xproxy.codecs.grpc.call import NATIVE, NO_CALL, call_in
from xproxy.codecs.http1.block import Refused, bad_field, lines_of
from xproxy.codecs.http1.fields import NOT_REMOVABLE
from xproxy.codecs.http1.state import (
    CALL,
    CONNECT,
    HEAD_METHOD,
    HTTP10,
    PERSISTENT,
    STREAM_ID,
    UPGRADE,
    WEB_CALL,
)
from xproxy.codecs.http_fields import (
    CONNECTION,
    EXPECT,
    HOP,
    HOST,
    INVALID,
    KINDS,
    LENGTH,
    NOT_IN_TRAILERS,
    TE,
    TOKEN,
    TRAILER,
    TRANSFER,
)
from xproxy.codecs.http_fields import UPGRADE as UPGRADE_FIELD
from xproxy.codecs.http_status import status_of
from xproxy.codecs.http_upgrade import asked, granted, without
from xproxy.codecs.http_values import METHOD_CHARS, authority_valid, method_valid, parse_length
from xproxy.model.frames import Head
from xproxy.model.headers import Headers
from xproxy.model.limits import Limits
from xproxy.model.message import SWITCHING, Fields, RequestHead, ResponseHead, Target
from xproxy.model.status import Status

_METHODS: Final = frozenset(
    {
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "DELETE",
        "PATCH",
        "OPTIONS",
        "TRACE",
        "CONNECT",
        "PROPFIND",
        "REPORT",
        "PURGE",
    }
)
_HOP_KINDS: Final = frozenset({HOP, CONNECTION, TRANSFER, TE, UPGRADE_FIELD})
_LENGTH_NAMES: Final = frozenset({"content-length"})
_VERSION_1: Final = re.compile(r"HTTP/1\.[0-9]")
_VERSION: Final = re.compile(r"HTTP/[0-9]\.[0-9]")
_ABSOLUTE: Final = re.compile(r"(https?)://([^/?#]*)([^#]*)", re.IGNORECASE)
_CONNECT_TARGET: Final = re.compile(r".*:[0-9]{1,5}")
_STATUS_LINE: Final = re.compile(r"HTTP/1\.([0-9]) ([1-9][0-9][0-9])(?: .*)?")


class ParsedRequest:
    """A request head that was found good. Immutable by convention: it is shared through the memory."""

    __slots__ = ("accept", "chunked", "fields", "flags", "length", "message", "whole")

    def __init__(
        self, message: RequestHead, flags: int, length: int, chunked: bool, fields: int
    ) -> None:
        self.message = message
        self.flags = flags
        self.length = length
        """Bytes of body that complete the message; -1: not known in advance (chunked, tunnel)."""
        self.chunked = chunked
        self.fields = fields
        self.accept = ""
        """What proves to the client that its upgrade was understood, where the protocol has such a thing."""
        self.whole: tuple[Head, ...] = (Head(STREAM_ID, message, b"", True),) if length == 0 else ()
        """The frames of the message when nothing follows its head; empty when something does."""


class ParsedResponse:
    """A response head that was found good. Immutable by convention, likewise."""

    __slots__ = (
        "chunked",
        "code",
        "fields",
        "length",
        "message",
        "misframed",
        "persistent",
        "upgrade",
    )

    def __init__(
        self,
        message: ResponseHead,
        code: int,
        length: int,
        chunked: bool,
        persistent: bool,
        fields: int,
    ) -> None:
        self.message = message
        self.code = code
        self.length = length
        """Bytes of body that complete the message, unless the method says otherwise; -1: not known in advance."""
        self.chunked = chunked
        self.persistent = persistent
        self.fields = fields
        self.misframed = ""
        """What is wrong with its framing, where it has a body; empty: nothing."""
        self.upgrade = ""
        """What a 101 says the connection is now; empty: nothing that can be understood."""


class _Hop:
    """What the fields of a head say about its framing and its connection."""

    # Most heads say little of this: what a class has need not be set for each of them.
    host: str | None = None
    length: int | None = None
    transfer: str | None = None
    expect: str | None = None
    connection: str | None = None
    options: frozenset[str] = frozenset()
    """What Connection names, once ``persistent`` has looked; empty where it names one thing of every day."""
    upgrade: str | None = None
    hop: Fields = ()
    """Fields that go no further, as they came."""
    misframed = ""
    """What is wrong with the framing of an answer."""

    def __init__(self, lines: Iterable[str], *, answer: bool = False) -> None:
        pairs: list[tuple[str, str]] = []
        append = pairs.append
        kinds = KINDS
        self.answer = answer
        """It may be one in which nothing is framed: that only its reader knows."""
        for line in lines:
            name, colon, value = line.partition(":")
            kind = kinds[name]
            if not kind and colon:  # PLAIN
                append((name, value.strip(" \t")))
                continue
            if kind == INVALID or not colon:
                raise bad_field(line, name)
            self._special(kind, name, value.strip(" \t"), append)
        self.pairs = pairs

    def _special(
        self, kind: int, name: str, value: str, append: Callable[[tuple[str, str]], None]
    ) -> None:
        if kind == HOST:
            if self.host is not None:
                raise Refused(400, "more than one Host")
            self.host = value
        elif kind == LENGTH:
            wrong: str | None = None
            if self.length is not None:
                wrong = "more than one Content-Length"
            else:
                try:
                    self.length = parse_length(value)
                except ValueError as exc:
                    wrong = str(exc)
            if wrong is None:
                append((name, value))
            elif self.answer:
                self.misframed = wrong
            else:
                raise Refused(400, wrong)
        elif kind in _HOP_KINDS:
            self.hop += ((name, value),)
            self._of_hop(kind, name, value, append)
        elif kind == EXPECT:
            self.expect = value if self.expect is None else f"{self.expect},{value}"
            append((name, value))
        elif kind == TRAILER:
            append((name, value))

    def _of_hop(
        self, kind: int, name: str, value: str, append: Callable[[tuple[str, str]], None]
    ) -> None:
        if kind == CONNECTION:
            self.connection = value if self.connection is None else f"{self.connection},{value}"
        elif kind == TRANSFER:
            self.transfer = value if self.transfer is None else f"{self.transfer},{value}"
        elif kind == TE:
            # The one member of TE with a meaning beyond this hop: whether anybody wants trailers (RFC 9110 §10.1.4).
            if "trailers" in [member.strip(" \t").lower() for member in value.split(",")]:
                append((name, "trailers"))
        elif kind == UPGRADE_FIELD:
            self.upgrade = value if self.upgrade is None else f"{self.upgrade},{value}"

    def persistent(self, http10: bool) -> bool:
        """Apply Connection: drop the fields it names, and say whether the connection outlives the message."""
        value = self.connection
        if value is None:
            return not http10
        lower = value.lower()
        if lower == "keep-alive":
            return True
        if lower == "close":
            return False
        self.options = options = frozenset(option.strip(" \t") for option in lower.split(","))
        named = options - NOT_REMOVABLE
        if named:
            self.hop += tuple(pair for pair in self.pairs if pair[0].lower() in named)
            self.pairs = [pair for pair in self.pairs if pair[0].lower() not in named]
        return "close" not in options and (not http10 or "keep-alive" in options)

    def drop(self, lower_name: str) -> None:
        """Remove a field from the message."""
        self.pairs = [pair for pair in self.pairs if pair[0].lower() != lower_name]

    def chunked_answer(self, http10: bool) -> bool:
        """Say whether the body of an answer is chunked; what is wrong with that is in ``misframed``."""
        try:
            return not self.misframed and self.chunked(http10)
        except Refused as refused:
            self.misframed = refused.detail
            return False

    def chunked(self, http10: bool) -> bool:
        """Say whether the body is chunked, and refuse every other coding (RFC 9112 §6.1)."""
        value = self.transfer
        if value is None:
            return False
        if self.length is not None:
            # CL.TE and TE.CL: one of the two readers behind us would believe the other field.
            raise Refused(400, "both Transfer-Encoding and Content-Length")
        if http10:
            raise Refused(400, "Transfer-Encoding in HTTP/1.0")
        if value.lower() == "chunked":
            return True
        codings = [coding.strip(" \t").lower() for coding in value.split(",")]
        if (
            codings[-1] == "chunked"
            and codings.count("chunked") == 1
            and all(map(TOKEN.fullmatch, codings))
        ):
            raise Refused(501, "transfer coding other than chunked")
        raise Refused(400, "Transfer-Encoding is not exactly chunked")


def _check_method(method: str) -> None:
    if len(method) > METHOD_CHARS:
        raise Refused(400, f"method is above {METHOD_CHARS} characters")
    if not method_valid(method):
        raise Refused(400, "method is not a token in capitals")


def _target(method: str, target: str, host: str | None) -> tuple[str, str, str]:
    """Return (authority, scheme, path) of a request target that is not in origin form (RFC 9112 §3.2)."""
    if method == "CONNECT":
        if not authority_valid(target) or _CONNECT_TARGET.fullmatch(target) is None:
            raise Refused(400, "target of CONNECT is not host:port")
        return target, "http", ""
    if target == "*":
        if method != "OPTIONS":
            raise Refused(400, "target * with a method other than OPTIONS")
        return host or "", "http", "*"
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise Refused(400, "target is neither a path nor an http or https URI")
    scheme, authority, path = match.groups()
    if not authority_valid(authority):
        raise Refused(400, "malformed authority in the target")
    if not path:
        path = "*" if method == "OPTIONS" else "/"
    elif path[0] != "/":
        path = "/" + path
    return authority, scheme.lower(), path


def parse_request(block: bytes, limits: Limits) -> ParsedRequest:
    """Read a request head: the bytes up to and including its empty line. Raises Refused."""
    lines = lines_of(block, limits, 1)
    parts = lines.pop(0).split(" ")
    if len(parts) != 3:
        raise Refused(
            400, "request line is not: method, target, version, with one space between them"
        )
    method, target, version = parts
    if method not in _METHODS:
        _check_method(method)
    if len(target) > limits.max_target_bytes:
        raise Refused(414, f"target is above {limits.max_target_bytes} bytes")
    if version == "HTTP/1.1":
        flags = 0
    elif version == "HTTP/1.0":
        flags = HTTP10
    elif _VERSION_1.fullmatch(version) is not None:
        flags = 0  # a later minor version is served as the last one we know (RFC 9110 §2.5)
    elif _VERSION.fullmatch(version) is not None:
        raise Refused(505, "version is not HTTP/1.x")
    else:
        raise Refused(400, "malformed version")
    http10 = flags != 0

    hop = _Hop(lines)
    host = hop.host
    if host is None:
        if not http10:
            raise Refused(400, "no Host")
    elif host and not authority_valid(host):
        raise Refused(400, "malformed Host")
    if target[:1] == "/" and method != "CONNECT":
        if "#" in target:
            raise Refused(400, "fragment in the target")
        authority, scheme, path = host or "", "http", target
    else:
        authority, scheme, path = _target(method, target, host)

    chunked = hop.chunked(http10)
    length = hop.length or 0
    if hop.persistent(http10):
        flags |= PERSISTENT
    if hop.expect is not None:
        if http10:
            hop.drop("expect")  # RFC 9110 §10.1.1: an old client cannot mean it
        elif hop.expect.lower() != "100-continue":
            raise Refused(417, "expectation other than 100-continue")
    if method == "HEAD":
        flags |= HEAD_METHOD
    elif method == "CONNECT":
        if chunked or length:
            raise Refused(400, "CONNECT with a body")
        flags |= CONNECT
        length = -1
    headers = Headers(hop.pairs)
    upgrade = accept = ""
    if hop.upgrade is not None and "upgrade" in hop.options and method == "GET":
        if not (http10 or chunked or length):
            upgrade, accept = asked(hop.upgrade, headers)
        if upgrade:
            flags |= UPGRADE
            length = -1
            headers = without(headers, _LENGTH_NAMES)
    rpc, deadline = call_in(hop.pairs, path) if method == "POST" else NO_CALL
    if rpc is not None:
        flags |= CALL if rpc.dialect == NATIVE else CALL | WEB_CALL
    message = RequestHead(
        service=authority,
        method=method,
        headers=headers,
        deadline=deadline,
        extra=Target(
            path=path,
            scheme=scheme,
            version="1.0" if http10 else "1.1",
            upgrade=upgrade,
            rpc=rpc,
            hop=hop.hop,
        ),
    )
    parsed = ParsedRequest(message, flags, -1 if chunked else length, chunked, len(lines))
    parsed.accept = accept
    return parsed


def parse_response(block: bytes, limits: Limits) -> ParsedResponse:
    """Read a response head: the bytes up to and including its empty line. Raises Refused."""
    lines = lines_of(block, limits, 1)
    match = _STATUS_LINE.fullmatch(lines.pop(0))
    if match is None:
        raise Refused(502, "malformed status line")
    http10 = match[1] == "0"
    code = int(match[2])
    hop = _Hop(lines, answer=True)
    chunked = hop.transfer is not None and hop.chunked_answer(http10)
    persistent = hop.persistent(http10)
    if hop.misframed:
        # Where nothing is framed that does not matter (RFC 9112 §6.3), but nobody else shall puzzle over it.
        hop.drop("content-length")
        persistent = False
    if code < 200 or code == 204:
        # Neither has a body nor may say how long it is (RFC 9110 §8.6): what it says must not travel on.
        if hop.length is not None:
            hop.drop("content-length")
        chunked, length = False, 0 if code == 204 else -1
    elif code == 304:
        chunked, length = False, 0
    elif hop.misframed or chunked or hop.length is None:
        length = -1
    else:
        length = hop.length
    headers = Headers(hop.pairs)
    status = status_of(code)
    if code == 503 and "retry-after" in headers:
        status = Status.RESOURCE_EXHAUSTED
    message = ResponseHead(status=status, native_status=code, headers=headers)
    parsed = ParsedResponse(message, code, length, chunked, persistent, len(lines))
    parsed.misframed = hop.misframed
    if code == SWITCHING and not http10 and hop.upgrade is not None and "upgrade" in hop.options:
        parsed.upgrade = granted(hop.upgrade)
    return parsed


def parse_trailers(block: bytes, limits: Limits) -> Headers:
    """Read trailer fields, with their last empty line, without those that a trailer may not bring. Raises Refused."""
    lines = lines_of(block, limits, 0)
    kept: list[tuple[str, str]] = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or KINDS[name] == INVALID:
            raise bad_field(line, name)
        if name.lower() not in NOT_IN_TRAILERS:
            kept.append((name, value.strip(" \t")))
    return Headers(kept)
