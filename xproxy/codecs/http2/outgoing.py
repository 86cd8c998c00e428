"""Messages → header lists (RFC 9113 §8.3). A list depends on nothing but its message, so it is made once for each.

Rule of this file: nothing that would read as more than one field, or as another one, leaves, whoever made it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from xproxy.codecs.grpc.timeout import FIELD as TIMEOUT
from xproxy.codecs.grpc.timeout import format_timeout, says
from xproxy.codecs.http2.fields import NOT_IN_TRAILERS
from xproxy.codecs.http2.status import local_code, retry_after
from xproxy.codecs.http2.table import ENTRY_BYTES, Field, Secret, Table
from xproxy.codecs.http_fields import EXPECT, INVALID, LENGTH, PLAIN, TE, TOKEN, TRAILER
from xproxy.codecs.http_fields import KINDS as HTTP_KINDS
from xproxy.codecs.http_status import local_text
from xproxy.codecs.http_upgrade import HANDSHAKE, granted, without
from xproxy.codecs.http_values import authority_valid, parse_length
from xproxy.model.errors import LocalProtocolError
from xproxy.model.headers import Headers
from xproxy.model.message import Fields, RequestHead, ResponseHead, Target

_SENT: Final = frozenset({PLAIN, EXPECT, TRAILER})
_PATH: Final = re.compile(r"[/*][^\x00-\x20\x7f#]*")
_UNSENDABLE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_LATIN1: Final = re.compile(r"[^\x00-\xff]")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.\-]*")
_REMEMBERED_TABLES: Final = 16


def list_size(fields: Iterable[Field]) -> int:
    """Return the size of a header list, in bytes (RFC 9113 §6.5.2)."""
    return sum([len(name) + len(value) + ENTRY_BYTES for name, value in fields])


class Outgoing:
    """A head as it goes out: its fields, and what its body may be."""

    __slots__ = (
        "_size",
        "blocks",
        "bodyless",
        "call",
        "code",
        "connect",
        "declared",
        "fields",
        "head_method",
        "local_body",
        "protocol",
        "untimed",
    )

    def __init__(self, fields: list[Field], declared: int) -> None:
        self.fields = fields
        self._size = -1
        self.declared = declared
        """What the message says its body's length is, in bytes; -1: nothing."""
        self.head_method = False
        """Requests: the response has no body."""
        self.connect = False
        """Requests: asks for a tunnel."""
        self.call = False
        """Requests: a call (gRPC)."""
        self.protocol = False
        """Requests: asks for a tunnel for a protocol (RFC 8441)."""
        self.code = 0
        """Responses: the status code."""
        self.bodyless = False
        """Responses: the code forbids a body (1xx, 204, 304)."""
        self.local_body = b""
        """Responses made here: the text for a person, where nobody gave a body."""
        self.untimed: Outgoing | None = None
        """Requests: what ``without_timeout`` made."""
        self.blocks: dict[Table, tuple[bytes, Table]] = {}
        """What the fields became on the tables they met: a recurring message costs one look-up."""

    @property
    def size(self) -> int:
        """Bytes of the list, as a peer counts them that bounds it."""
        if self._size < 0:
            self._size = list_size(self.fields)
        return self._size

    def remember(self, table: Table, block: bytes, following: Table) -> None:
        """Note what the fields become on ``table``. Bounded."""
        if len(self.blocks) >= _REMEMBERED_TABLES:
            self.blocks.clear()
        self.blocks[table] = (block, following)

    def with_length(self, length: int) -> Outgoing:
        """Return the same head for a body of another length than it declares."""
        fields = [
            (name, str(length)) if name == "content-length" else (name, value)
            for name, value in self.fields
        ]
        return self._like(fields, length)

    def without_length(self) -> Outgoing:
        """Return the same head for a body that has no length: a tunnel."""
        return self._like([pair for pair in self.fields if pair[0] != "content-length"], -1)

    def without_timeout(self) -> Outgoing:
        """Return the same head without the time that is left for a call, as that differs from call to call."""
        if self.untimed is None:
            fields = [pair for pair in self.fields if pair[0] != TIMEOUT]
            self.untimed = self._like(fields, self.declared)
        return self.untimed

    def _like(self, fields: list[Field], declared: int) -> Outgoing:
        changed = Outgoing(fields, declared)
        for slot in ("head_method", "connect", "call", "protocol", "code", "bodyless"):
            setattr(changed, slot, getattr(self, slot))
        return changed


def _wire_text(value: str) -> str:
    """Return text of which each character stands for a byte. Raises LocalProtocolError."""
    if _UNSENDABLE.search(value) is not None:
        raise LocalProtocolError("control character, CR or LF in a field")
    secret = type(value) is Secret
    if _NOT_LATIN1.search(value) is not None:
        # Text of a protocol whose fields are UTF-8; it keeps the bytes it had there.
        try:
            value = value.encode("utf-8", "surrogateescape").decode("latin-1")
        except UnicodeEncodeError as exc:
            raise LocalProtocolError("text in a field that has no bytes") from exc
    value = value.strip(" \t")
    return Secret(value) if secret else value


def _wire_fields(fields: list[Field], pairs: Iterable[tuple[str, str]]) -> int:
    """Add the end-to-end fields of a message; return the length it declares, or -1. Raises LocalProtocolError."""
    declared = -1
    for name, value in pairs:
        kind = HTTP_KINDS[name]
        if kind in _SENT:
            fields.append((name.lower(), _wire_text(value)))
        elif kind == LENGTH:
            try:
                length = parse_length(value)
            except ValueError as exc:
                raise LocalProtocolError(str(exc)) from exc
            if declared not in (-1, length):
                raise LocalProtocolError("two lengths declared for one body")
            if declared < 0:
                fields.append(("content-length", value))
            declared = length
        elif kind == TE:
            fields.append(("te", "trailers"))
        elif kind == INVALID:
            raise LocalProtocolError(f"field name {name!r} is not a token")
        # All others are the hop's: the frames say what they say.
    return declared


def added_fields(added: Fields) -> list[Field] | None:
    """Return fields that were added to a head, or None if one of them changes more than the list's end.

    Raises LocalProtocolError.
    """
    if any(HTTP_KINDS[name] not in (PLAIN, EXPECT) for name, _ in added):
        return None
    return [(name.lower(), _wire_text(value)) for name, value in added]


def of_request(message: RequestHead) -> Outgoing:
    """Make a request's header list. Raises LocalProtocolError."""
    target = message.extra
    if not isinstance(target, Target):
        raise LocalProtocolError("the request has no target: it cannot be said in HTTP")
    method, service, path = message.method, message.service, target.path
    if TOKEN.fullmatch(method) is None:
        raise LocalProtocolError("method is not a token")
    if service and not authority_valid(service):
        raise LocalProtocolError("service is not an authority (host[:port])")
    protocol = target.upgrade
    headers = message.headers
    if protocol:
        if method != "GET" or granted(protocol) != protocol:
            raise LocalProtocolError(
                "an upgrade is a GET, for one protocol with a name in lower case"
            )
        method = "CONNECT"
        headers = without(headers, HANDSHAKE)
    fields: list[Field] = [(":method", method)]
    if method != "CONNECT" or protocol:
        if _PATH.fullmatch(path) is None:
            raise LocalProtocolError("path is not a request target")
        if _SCHEME.fullmatch(target.scheme) is None:
            raise LocalProtocolError("scheme is not one")
        if protocol:
            fields.append((":protocol", protocol))
        fields += ((":scheme", target.scheme), (":path", _wire_text(path)))
    elif not service:
        raise LocalProtocolError("CONNECT without an authority")
    if service:
        fields.append((":authority", service))
    declared = _wire_fields(fields, headers.pairs)
    outgoing = Outgoing(fields, declared)
    outgoing.head_method = method == "HEAD"
    outgoing.connect = method == "CONNECT"
    outgoing.protocol = protocol != ""
    if target.rpc is not None:
        outgoing.call = True
        if message.deadline is not None and not says(fields, message.deadline):
            text = format_timeout(message.deadline)
            outgoing.fields = [*outgoing.without_timeout().fields, (TIMEOUT, text)]
    if outgoing.connect and declared >= 0:
        outgoing.fields = [pair for pair in fields if pair[0] != "content-length"]
        outgoing.declared = -1
    return outgoing


def of_response(message: ResponseHead) -> Outgoing:
    """Make a response's header list; a local reply gets its code here. Raises LocalProtocolError."""
    code = message.native_status
    local = code is None
    if code is None:
        code = local_code(message)
    elif not 100 <= code <= 999 or code == 101:
        raise LocalProtocolError(f"{code} is not a status code that HTTP/2 has")
    fields: list[Field] = [(":status", str(code))]
    wait = retry_after(message) if local else None
    if wait is not None and "retry-after" not in message.headers:
        fields.append(("retry-after", str(wait)))
    declared = _wire_fields(fields, message.headers.pairs)
    bodyless = code < 200 or code == 204 or code == 304
    if declared >= 0 and (code < 200 or code == 204):
        fields = [pair for pair in fields if pair[0] != "content-length"]
        declared = -1
    outgoing = Outgoing(fields, declared)
    outgoing.code = code
    outgoing.bodyless = bodyless
    if local and code >= 400:
        outgoing.local_body = local_text(message)
    return outgoing


def of_trailers(headers: Headers) -> list[Field]:
    """Make a header list of the trailers that may stand there. Raises LocalProtocolError."""
    fields: list[Field] = []
    for name, value in headers.pairs:
        if HTTP_KINDS[name] == INVALID:
            raise LocalProtocolError(f"trailer name {name!r} is not a token")
        if name.lower() not in NOT_IN_TRAILERS:
            fields.append((name.lower(), _wire_text(value)))
    return fields


def text_type(outgoing: Outgoing) -> Outgoing:
    """Return the head of a local reply with its text: with the length, and the type unless it has one."""
    size = str(len(outgoing.local_body))
    fields = [pair for pair in outgoing.fields if pair[0] != "content-length"]
    if not any(name == "content-type" for name, _ in fields):
        fields.append(("content-type", "text/plain; charset=utf-8"))
    changed = outgoing.without_length()
    changed.fields = [*fields, ("content-length", size)]
    changed.declared = len(outgoing.local_body)
    return changed
