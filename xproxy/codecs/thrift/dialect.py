"""Dialects: a transport with a protocol. Every message is in one, and an answer is in that of its call."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, TypeAlias

import attrs

from xproxy.codecs.thrift.binary import BinaryEncoding
from xproxy.codecs.thrift.compact import CompactEncoding
from xproxy.codecs.thrift.encoding import Encoding
from xproxy.codecs.thrift.json_text import JsonEncoding


class Transport(enum.Enum):
    """How one message is told from the next."""

    FRAMED = "framed"
    """Its length comes first."""
    UNFRAMED = "unframed"
    """It ends where its struct ends."""
    HEADER = "header"
    """THeader: framed, with a header of fields and transforms."""


class Protocol(enum.Enum):
    """How values are written."""

    STRICT = "binary"
    """Binary with a version in each message."""
    OLD = "binary-old"
    """Binary without."""
    COMPACT = "compact"
    JSON = "json"


ENCODINGS: Final[Mapping[Protocol, Encoding]] = {
    Protocol.STRICT: BinaryEncoding(strict=True),
    Protocol.OLD: BinaryEncoding(strict=False),
    Protocol.COMPACT: CompactEncoding(),
    Protocol.JSON: JsonEncoding(),
}


@attrs.frozen(eq=False)
class Dialect:
    """One object for each pair; compared by identity."""

    transport: Transport
    protocol: Protocol
    encoding: Encoding = attrs.field(repr=False)
    number: int
    """In snapshots."""
    pool: str = attrs.field(init=False, repr=False)
    """The same for another process: what upstream connections that speak it are kept by."""

    @pool.default
    def _name(self) -> str:
        return f"{self.transport.value} {self.protocol.value}"

    def answered_by(self, other: Dialect) -> bool:
        """Tell whether an answer in ``other`` answers a call in this one.

        A server may write strict heads and read both.
        """
        return self.transport is other.transport and self.encoding.family == other.encoding.family


DIALECTS: Final = tuple(
    Dialect(transport, protocol, ENCODINGS[protocol], number)
    for number, (transport, protocol) in enumerate(
        (transport, protocol) for transport in Transport for protocol in Protocol
    )
)
"""By number; new ones are added at the end. THeader has no number for JSON, so that one is never seen."""

_BY_PAIR: Final = {(dialect.transport, dialect.protocol): dialect for dialect in DIALECTS}


def dialect_of(transport: Transport, protocol: Protocol) -> Dialect:
    """Return the dialect of a pair."""
    return _BY_PAIR[transport, protocol]


Upstreams: TypeAlias = Mapping[Dialect, Dialect]
"""For the dialect of a call, the one that it goes upstream in."""


def upstreams(transport: Transport | None, protocol: Protocol | None) -> Upstreams:
    """Return the dialects for upstreams that want this transport, this protocol; None: that of the call.

    Raises ValueError for what Thrift does not have.
    """
    if transport is Transport.HEADER and protocol is Protocol.JSON:
        raise ValueError("the header transport has no protocol json")
    return {
        dialect: dialect_of(transport or dialect.transport, protocol or dialect.protocol)
        for dialect in DIALECTS
    }


SAME: Final = upstreams(None, None)
FRAMED_STRICT: Final = dialect_of(Transport.FRAMED, Protocol.STRICT)
"""What is spoken where nobody said otherwise."""
