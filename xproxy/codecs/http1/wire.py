"""Heads, chunks and farewells: frozen messages → bytes (RFC 9112).

Rules of this file: the raw head of a peer is never copied; a head is written from its message, with exactly one of
``Content-Length``, ``Transfer-Encoding: chunked`` and neither, which the codec adds. Nothing that would read as more
than one field leaves, whoever made it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from xproxy.codecs.grpc.timeout import FIELD as TIMEOUT
from xproxy.codecs.grpc.timeout import format_timeout, says
from xproxy.codecs.http1.state import CALL, CONNECT, HEAD_METHOD, UPGRADE
from xproxy.codecs.http_fields import (
    EXPECT,
    INVALID,
    KINDS,
    LENGTH,
    NOT_IN_TRAILERS,
    PLAIN,
    TE,
    TOKEN,
    TRAILER,
)
from xproxy.codecs.http_status import (
    local_code,
    local_text,
    reason_of,
    retry_after,
    text_body,
)
from xproxy.codecs.http_upgrade import (
    CURRENT_VERSION,
    KEY,
    VERSION,
    WEBSOCKET,
    accept_for,
    granted,
    key_of,
    made_key,
)
from xproxy.codecs.http_values import authority_valid, parse_length
from xproxy.model.errors import LocalProtocolError
from xproxy.model.headers import Headers
from xproxy.model.message import Local, RequestHead, ResponseHead, Target

CRLF: Final = b"\r\n"
CLOSE: Final = b"Connection: close\r\n"
KEEP_ALIVE: Final = b"Connection: keep-alive\r\n"
CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
PLAIN_TEXT: Final = b"Content-Type: text/plain; charset=utf-8\r\n"

_SENT: Final = (PLAIN, EXPECT)
_CONTROLS: Final = bytes({*range(32), 127} - {0x09, 0x0A, 0x0D})
_METHODS_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_TARGET: Final = re.compile(r"[/*][^\x00-\x20\x7f#]*")
_NOT_LATIN1: Final = re.compile(r"[^\x00-\xff]")


class Encoded:
    """A head as bytes, up to where its framing is to be added. Depends on nothing but the message."""

    # What a class has need not be set for each head.
    flags = 0
    """Requests: HEAD_METHOD, CONNECT, UPGRADE or CALL."""
    upgrade = ""
    """Requests: the protocol asked for, in lower case."""
    accept = ""
    """Requests: what proves that it was understood; empty where the protocol has no such thing."""
    wants_length = False
    """Requests: the method means to bring a body, so that an empty one is said to be empty (RFC 9110 §8.6)."""
    code = 0
    """Responses: the status code."""
    bodyless = False
    """Responses: the code forbids a body (1xx, 204, 304)."""
    local_body = b""
    """Responses made here: the text for a person, where nobody gave a body."""
    text_type = b""
    """The Content-Type field of ``local_body``."""
    whole = b""
    """Requests that are ``simple``: all of the head."""
    simple = False
    """Nothing need be looked at but the length of the data: a request without body, or a response with one."""

    def __init__(self, prefix: bytes, declared: int | None, trailer: bytes) -> None:
        self.prefix = prefix
        self.sized = prefix + b"Content-Length: "
        """The prefix, ready for a length."""
        self.declared = declared
        """What the message says its body's length is, in bytes."""
        self.trailer = trailer
        """The Trailer field, which only goes out with chunks."""


def _fields(start: list[str], headers: Headers) -> tuple[bytes, int | None, bytes, bool]:
    """Write a start and the end-to-end fields. Returns (bytes, declared length, Trailer field, TE wanted)."""
    parts = start
    append = parts.append
    kinds = KINDS
    declared: int | None = None
    trailer = ""
    te = False
    for name, value in headers.pairs:
        kind = kinds[name]
        if not kind:  # PLAIN
            append(f"{name}: {value}\r\n")
        elif kind == LENGTH:
            try:
                declared = parse_length(value)
            except ValueError as exc:
                raise LocalProtocolError(str(exc)) from exc
        elif kind == TRAILER:
            trailer = f"{trailer}, {value}" if trailer else value
        elif kind == TE:
            te = True
        elif kind == EXPECT:
            append(f"{name}: {value}\r\n")
        elif kind == INVALID:
            raise LocalProtocolError(f"field name {name!r} is not a token")
        # All others are the hop's: the codec alone writes them.
    raw = _encode_lines(parts)
    return raw, declared, _encode_lines([f"Trailer: {trailer}\r\n"]) if trailer else b"", te


def encode_added(fields: Sequence[tuple[str, str]]) -> bytes | None:
    """Write fields that were added to a head encoded before; None if one of them changes more than a line.

    Raises LocalProtocolError.
    """
    kinds = KINDS
    for name, _ in fields:
        if kinds[name] not in _SENT:
            return None
    return _encode_lines([f"{name}: {value}\r\n" for name, value in fields])


def _encode_lines(parts: list[str]) -> bytes:
    """Join lines that end in CRLF. Raises LocalProtocolError if one of them would read as something else."""
    text = "".join(parts)
    try:
        raw = text.encode("latin-1")
    except UnicodeEncodeError:
        # Text of a protocol whose fields are UTF-8; what is not Latin-1 keeps the bytes it had there.
        raw = b"".join(
            part.encode("utf-8", "surrogateescape")
            if _NOT_LATIN1.search(part)
            else part.encode("latin-1")
            for part in parts
        )
    lines = len(parts)
    if (
        raw.count(b"\n") != lines
        or raw.count(b"\r") != lines
        or len(raw.translate(None, _CONTROLS)) != len(raw)
    ):
        raise LocalProtocolError("control character, CR or LF in a start line or field")
    return raw


def encode_request(message: RequestHead) -> Encoded:
    """Write a request head up to its framing. Raises LocalProtocolError."""
    target = message.extra
    if not isinstance(target, Target):
        raise LocalProtocolError("the request has no target: it cannot be said in HTTP")
    method, service, path = message.method, message.service, target.path
    if TOKEN.fullmatch(method) is None:
        raise LocalProtocolError("method is not a token")
    if service and not authority_valid(service):
        raise LocalProtocolError("service is not an authority (host[:port])")
    flags = 0
    if method == "CONNECT":
        flags = CONNECT
        path = service
        if not service:
            raise LocalProtocolError("CONNECT without an authority")
    elif _TARGET.fullmatch(path) is None:
        raise LocalProtocolError("path is not a request target")
    elif method == "HEAD":
        flags = HEAD_METHOD
    start = [f"{method} {path} HTTP/1.1\r\n", f"Host: {service}\r\n"]
    call = target.rpc is not None
    headers = message.headers
    deadline = message.deadline
    if call and deadline is not None and not says(headers.pairs, deadline):
        headers = headers.set(TIMEOUT, format_timeout(deadline))
    prefix, declared, trailer, te = _fields(start, headers)
    if target.upgrade:
        return _encode_upgrade(message, target.upgrade, prefix)
    if te:
        prefix += b"TE: trailers\r\nConnection: TE\r\n"  # RFC 9110 §10.1.4: TE ends at the next hop
    encoded = Encoded(prefix, declared, trailer)
    encoded.flags = flags | CALL if call else flags
    encoded.wants_length = method in _METHODS_WITH_BODY
    if not encoded.flags and not encoded.wants_length:
        encoded.simple = True
        encoded.whole = prefix + CRLF
    return encoded


def _encode_upgrade(message: RequestHead, upgrade: str, prefix: bytes) -> Encoded:
    """Finish a head that asks for an upgrade, with a handshake of its own where it brings none."""
    if message.method != "GET" or granted(upgrade) != upgrade:
        raise LocalProtocolError("an upgrade is a GET, for one protocol with a name in lower case")
    accept = ""
    if upgrade == WEBSOCKET:
        key = key_of(message.headers)
        if key is None:
            if KEY in message.headers:
                raise LocalProtocolError(f"{KEY} is not one key")
            key = made_key(prefix)
            prefix += f"Sec-WebSocket-Key: {key}\r\n".encode()
        if VERSION not in message.headers:
            prefix += f"Sec-WebSocket-Version: {CURRENT_VERSION}\r\n".encode()
        accept = accept_for(key)
    encoded = Encoded(prefix + upgrade_lines(upgrade), None, b"")
    encoded.flags = UPGRADE
    encoded.upgrade = upgrade
    encoded.accept = accept
    return encoded


def upgrade_lines(upgrade: str) -> bytes:
    """Return the two fields that speak of an upgrade, in the request for it as in its grant (RFC 9110 §7.8)."""
    return f"Connection: Upgrade\r\nUpgrade: {upgrade}\r\n".encode()


def encode_response(message: ResponseHead) -> Encoded:
    """Write a response head up to its framing; a local reply gets its code here. Raises LocalProtocolError."""
    headers = message.headers
    code = message.native_status
    local = code is None
    if code is None:
        code = local_code(message)
    elif not 100 <= code <= 999:
        raise LocalProtocolError(f"{code} is not an HTTP status code")
    start = [f"HTTP/1.1 {code} {reason_of(code)}\r\n"]
    wait = retry_after(message) if local else None
    if wait is not None and "retry-after" not in headers:
        start.append(f"Retry-After: {wait:d}\r\n")
    prefix, declared, trailer, _ = _fields(start, headers)
    encoded = Encoded(prefix, declared, trailer)
    encoded.code = code
    encoded.bodyless = code < 200 or code == 204 or code == 304
    if local and code >= 400:
        encoded.local_body = local_text(message)
        encoded.text_type = b"" if "content-type" in headers else PLAIN_TEXT
    # What was made here says when, where somebody knows: no two such answers need be alike.
    made_here = local or type(message.extra) is Local
    encoded.simple = not encoded.bodyless and not encoded.local_body and not made_here
    return encoded


def encode_trailers(headers: Headers) -> bytes:
    """Write the last chunk and the trailer fields that may stand there. Raises LocalProtocolError."""
    lines = ["0\r\n"]
    for name, value in headers.pairs:
        if KINDS[name] == INVALID:
            raise LocalProtocolError(f"trailer name {name!r} is not a token")
        if name.lower() not in NOT_IN_TRAILERS:
            lines.append(f"{name}: {value}\r\n")
    return _encode_lines(lines) + CRLF


def farewell(code: int, detail: str, *, bodyless: bool, fields: bytes = b"") -> bytes:
    """Return a whole response, with these ``fields``, that refuses a request and ends the connection."""
    body = text_body(detail)
    head = b"HTTP/1.1 %d %b\r\n%b%bContent-Length: %d\r\nConnection: close\r\n\r\n" % (
        code,
        reason_of(code).encode("ascii"),
        fields,
        PLAIN_TEXT,
        len(body),
    )
    return head if bodyless else head + body
