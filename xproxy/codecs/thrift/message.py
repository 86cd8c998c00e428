"""Heads of Thrift messages: what is read of them once and remembered.

A client calls the same methods again and again. What a name, with all that is fixed beside it, means is worked out
once and shared by all messages that have it: only sequence id and struct differ.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import attrs

from xproxy.codecs.message_wire import Malformed
from xproxy.codecs.thrift.dialect import FRAMED_STRICT, Dialect
from xproxy.codecs.thrift.encoding import MAX_NAME_BYTES, is_name
from xproxy.codecs.thrift.header import MEMO_BYTES, NO_HEADER, read_header
from xproxy.codecs.thrift.status import from_native
from xproxy.model.errors import LocalProtocolError
from xproxy.model.headers import NO_HEADERS, Headers
from xproxy.model.message import Arguments, Described, RequestHead, ResponseHead, recurring

CODEC: Final = "thrift"


@attrs.frozen
class ThriftExtra(Described):
    """What a Thrift head holds beyond the neutral one (``RequestHead.extra``, ``ResponseHead.extra``)."""

    dialect: Dialect = FRAMED_STRICT
    name: str = ""
    """As on the wire: ``service:method`` where the protocol is multiplexed. A server answers with either."""
    declared: bool = False
    """A reply that holds an exception which the interface declares. Its status is OK."""
    flags: int = 0
    """Of a THeader."""
    transforms: tuple[int, ...] = ()
    """Of a THeader, in the order in which they were applied."""
    block: bytes = attrs.field(default=b"", repr=False)
    """The header of a THeader as it came: protocol, transforms and fields."""
    headers: Headers = attrs.field(default=NO_HEADERS, repr=False)
    """What its fields say."""
    arguments: Arguments | None = attrs.field(default=None, repr=False, eq=False)
    """Where the interface is known: of this one call, so such an extra is not shared."""
    ready: Dialect | None = attrs.field(default=None, repr=False, eq=False)
    """For which dialect the struct was converted, or looked through, already; set just before it is sent."""
    deflated: bytes | None = attrs.field(default=None, repr=False, eq=False)
    """The struct as its transforms have it, likewise."""
    wire_name: bytes = attrs.field(init=False, repr=False, eq=False)
    service: str = attrs.field(init=False, repr=False, eq=False)
    """What the name says, by its first colon; empty where it has none."""
    method: str = attrs.field(init=False, repr=False, eq=False)

    @wire_name.default
    def _encode(self) -> bytes:
        return self.name.encode("utf-8", "replace")

    @service.default
    def _service(self) -> str:
        return self.name.partition(":")[0] if ":" in self.name else ""

    @method.default
    def _method(self) -> str:
        return self.name.partition(":")[2] if ":" in self.name else self.name


def _request_head(
    dialect: Dialect, oneway: bool, name: bytes, block: bytes, flags: int, max_headers: int
) -> RequestHead:
    if not name:
        raise Malformed("a call without a name")
    extra = _extra(dialect, name, block, flags, max_headers)
    return RequestHead(
        service=extra.service,
        method=extra.method,
        headers=extra.headers,
        oneway=oneway,
        extra=extra,
    )


def _response_head(
    dialect: Dialect,
    code: int,
    declared: bool,
    name: bytes,
    block: bytes,
    flags: int,
    max_headers: int,
) -> ResponseHead:
    extra = _extra(dialect, name, block, flags, max_headers, declared=declared)
    return ResponseHead(
        status=from_native(code), native_status=code, headers=extra.headers, extra=extra
    )


@lru_cache(maxsize=1024)
def _remembered_request(*facts: Any) -> RequestHead:  # Any: as _request_head has them
    return recurring(_request_head(*facts))


@lru_cache(maxsize=1024)
def _remembered_response(*facts: Any) -> ResponseHead:  # Any: as _response_head has them
    return recurring(_response_head(*facts))


def request_head(
    dialect: Dialect, oneway: bool, name: bytes, block: bytes, flags: int, max_headers: int
) -> RequestHead:
    """Return the head of a call; equal calls share one, most of the time. Raises Malformed."""
    make = _remembered_request if len(block) <= MEMO_BYTES else _request_head
    return make(dialect, oneway, name, block, flags, max_headers)


def response_head(
    dialect: Dialect,
    code: int,
    declared: bool,
    name: bytes,
    block: bytes,
    flags: int,
    max_headers: int,
) -> ResponseHead:
    """Return the head of a reply, or of an exception with this code, likewise. Raises Malformed."""
    make = _remembered_response if len(block) <= MEMO_BYTES else _response_head
    return make(dialect, code, declared, name, block, flags, max_headers)


def _extra(
    dialect: Dialect,
    name: bytes,
    block: bytes,
    flags: int,
    max_headers: int,
    *,
    declared: bool = False,
) -> ThriftExtra:
    if not is_name(name):
        raise Malformed(f"a name of {len(name)} bytes that is no text")
    facts = read_header(block, max_headers) if block else NO_HEADER
    return ThriftExtra(
        dialect, name.decode(), declared, flags, facts.transforms, block, facts.headers
    )


def name_of(head: RequestHead) -> bytes:
    """Return the name to call by. Raises LocalProtocolError for one that Thrift cannot say."""
    extra = head.extra
    if (
        type(extra) is ThriftExtra
        and head.service == extra.service
        and head.method == extra.method
        and extra.name
    ):
        return extra.wire_name
    return _name(head.service, head.method)


@lru_cache(maxsize=1024)
def _name(service: str, method: str) -> bytes:
    if ":" in (service or method):
        raise LocalProtocolError("a colon in a Thrift service, or in a method without one")
    name = (f"{service}:{method}" if service else method).encode("utf-8", "surrogatepass")
    if not 0 < len(name) <= MAX_NAME_BYTES or not is_name(name):
        raise LocalProtocolError(
            f"{service[:64]!r}, {method[:64]!r}: no Thrift name of at most {MAX_NAME_BYTES} bytes"
        )
    return name
