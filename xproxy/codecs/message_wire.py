"""What a protocol of messages says of itself: how one message is read, written, answered and given another id.

``messages.MessageCodec`` is the engine that does everything else with it.
"""

from __future__ import annotations

import enum
from typing import Final, Protocol, TypeAlias, runtime_checkable

import attrs

from xproxy.codecs.slices import Work
from xproxy.model.limits import Limits
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status


class Kind(enum.Enum):
    """What a message is for."""

    REQUEST = "request"
    RESPONSE = "response"
    ONEWAY = "oneway"
    """A request that nobody waits for."""
    HEARTBEAT = "heartbeat"
    """To be acknowledged."""
    HEARTBEAT_ACK = "heartbeat-ack"
    GOAWAY = "goaway"
    """Finish what is in flight, use another connection."""
    REFUSED = "refused"
    """A request that can be answered though not be read: its head here is the answer. The connection goes on."""
    IGNORED = "ignored"
    """Nothing to be done about it."""


# Looked up for every message: a module's name costs a tenth of a member of an Enum.
REQUEST: Final = Kind.REQUEST
RESPONSE: Final = Kind.RESPONSE
ONEWAY: Final = Kind.ONEWAY


class Malformed(ValueError):
    """The bytes are no message of this protocol. The text names value and limit, never a payload."""


class MalformedMessage(Malformed):
    """A message of which at least kind and id can be read: whoever waits for it, or for an answer, is told.

    Where its length is known, too, its bytes are skipped and the connection goes on.
    """

    def __init__(
        self, text: str, kind: Kind, stream_id: int, dialect: int, length: int = 0
    ) -> None:
        super().__init__(text)
        self.kind = kind
        self.stream_id = stream_id
        self.dialect = dialect
        self.length = length
        """Bytes of it on the wire; 0: not known for sure."""


NO_HEAD: Final = ResponseHead(status=Status.OK)
"""Stands in a ``Message`` for the head that heartbeats, acknowledgements and goaways do not have."""

Message: TypeAlias = tuple[Kind, int, RequestHead | ResponseHead, bytes, int, int]
"""A message as it was read: kind, id, head, body, length on the wire in bytes, dialect.

A plain tuple, as it lives for a microsecond and is made for every message.

The *dialect* is a number of the protocol's own (0 … 2**63-1) that holds what an answer must copy from its request: a
version, a serialization id. The engine keeps it for every request in flight; 0 if there is no such thing.
"""


@attrs.frozen(eq=False)
class Lengthy:
    """A message that is there as a whole, and takes a while to read."""

    length: int
    """Bytes of it on the wire."""
    work: Work[Message]


def begun(length: int, work: Work[Message]) -> Message | Lengthy:
    """Do the first slice of reading a message, which may be all of it. Raises what the work raises."""
    try:
        next(work)
    except StopIteration as done:
        message: Message = done.value
        return message
    return Lengthy(length, work)


class MessageWire(Protocol):
    """A message protocol as pure functions. Ids are written modulo the width of their field."""

    @property
    def name(self) -> str:
        """The codec's name."""
        ...

    def decode(self, buffer: bytes, at: int, size: int, limits: Limits) -> Message | Lengthy | int:
        """Read the message that begins at ``at`` in the first ``size`` bytes of ``buffer``; ``at < size``.

        Returns how many bytes from ``at`` are needed to go on, if there are fewer: at most ``max_message_bytes`` (a
        fixed head aside); or the rest of the work, where that takes a while (only for a ``SlicedMessageCodec``). The
        same bytes give the same answer however many follow. Raises Malformed, and of a message whose kind and id are
        known MalformedMessage.
        """
        ...

    def patch(self, raw: bytes, stream_id: int, dialect: int | None) -> bytes:
        """Return ``raw``, a whole message, with another id; empty if it cannot be an answer in ``dialect``."""
        ...

    def request(self, stream_id: int, head: RequestHead, data: bytes) -> bytes:
        """Write a request. Raises LocalProtocolError for what the protocol cannot say."""
        ...

    def response(self, stream_id: int, head: ResponseHead, data: bytes, dialect: int) -> bytes:
        """Write an answer to a request of ``dialect``; ``native_status`` None is a local reply. Raises likewise."""
        ...

    def acknowledge(self, raw: bytes) -> bytes:
        """Answer the heartbeat ``raw``."""
        ...

    def heartbeat(self, dialect: int) -> bytes:
        """Write a heartbeat with id 0 in the dialect last heard; 0: none yet. Empty if there is no such message."""
        ...

    def goaway(self, dialect: int) -> bytes:
        """Write a goaway, likewise."""
        ...


@runtime_checkable
class NarrowIds(Protocol):
    """A wire whose ids may have less than 31 bits."""

    largest_id: int
    """All ones: the largest that a message can say."""


WIDE_IDS: Final = 0x7FFF_FFFF
"""The largest id that we give to a request of ours; every protocol's field of 32 bits holds it, signed or not."""
