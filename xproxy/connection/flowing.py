"""An exchange of which only bodies flow any more, written down: plain values, for another process to go on with.

Rule of this file: of time there are only durations, in seconds; what is read may come from anybody, and is either an
exchange that can be gone on with or raises ValueError.
"""

from __future__ import annotations

import socket
from typing import Any, Final

import attrs
from attrs.validators import deep_iterable, ge, in_, instance_of, optional

from xproxy.connection.phase import Phase
from xproxy.connection.wire import Parts
from xproxy.model.message import Fields, Target
from xproxy.model.metadata import Metadata
from xproxy.model.status import Status
from xproxy.stream.links import Note, Plain

_text: Final = instance_of(str)
_octets: Final = instance_of(bytes)
_flag: Final = instance_of(bool)
_count: Final = (instance_of(int), ge(0))
_seconds: Final = (instance_of(float), ge(0.0))
_status: Final = in_([status.label for status in Status])
_PHASES: Final = tuple(
    phase.value for phase in (Phase.SERVING, Phase.LEAVING, Phase.HEARD, Phase.FINISHED)
)
"""In which both ends of a flowing exchange can be."""
LEASE: Final = "(lease)"
"""What an upstream connection's lease has in place of a filter's name. It says: cluster, endpoint, protocol,
settings, whether it is bound to the client, and what sets it apart in its pool."""
_PLAIN: Final = (bytes, str, int, float, bool, type(None))


def _fields(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    # Any: whatever is being checked
    if type(value) is not tuple or not all(
        type(pair) is tuple and len(pair) == 2 and type(pair[0]) is type(pair[1]) is str
        for pair in value
    ):
        raise ValueError(f"{attribute.name} are no fields")


def _pairs(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    # Any: likewise
    if (
        type(value) is not tuple
        or len(value) > Metadata.LIMIT
        or not all(
            type(pair) is tuple and len(pair) == 2 and type(pair[0]) is str and is_plain(pair[1])
            for pair in value
        )
    ):
        raise ValueError(f"{attribute.name} are no pairs of plain values")


def is_plain(value: object) -> bool:
    """Whether it can be written down as it is."""
    if type(value) is tuple:
        return all(map(is_plain, value))
    return type(value) in _PLAIN


def _tuple_of(
    kind: type[object],
) -> Any:  # Any: what attrs calls a validator has no type of its own
    return deep_iterable(instance_of(kind), instance_of(tuple))


@attrs.frozen(kw_only=True)
class Piece:
    """A frame of a body that was read, and that nobody has taken yet."""

    kind: str = attrs.field(validator=in_(("data", "trailers", "goaway")))
    data: bytes = attrs.field(default=b"", validator=_octets)
    end: bool = attrs.field(default=False, validator=_flag)
    fields: Fields = attrs.field(default=(), validator=_fields)
    status: str | None = attrs.field(default=None, validator=optional(_status))


@attrs.frozen(kw_only=True)
class Half:
    """One of the two bodies."""

    flows: bool = attrs.field(validator=_flag)
    """Its end has not been passed on."""
    first: bytes = attrs.field(default=b"", validator=_octets)
    """What was taken of it and not passed on yet."""
    inbox: tuple[Piece, ...] = attrs.field(default=(), validator=_tuple_of(Piece))
    """What follows on that, as far as it was read."""
    phase: str = attrs.field(default=Phase.SERVING.value, validator=in_(_PHASES))
    """That of the connection it comes from."""
    notes: tuple[Note, ...] = attrs.field(default=(), validator=_tuple_of(Note))
    """Its links, from the innermost on."""


@attrs.frozen(kw_only=True)
class PastAttempt:
    """An attempt that is over, or the one under way; times are seconds ago."""

    endpoint: str = attrs.field(validator=_text)
    began: float = attrs.field(validator=_seconds)
    answered: float | None = attrs.field(default=None, validator=optional(_seconds))
    ended: float | None = attrs.field(default=None, validator=optional(_seconds))
    failed: bool = attrs.field(default=False, validator=_flag)
    detail: str = attrs.field(default="", validator=_text)


@attrs.frozen(kw_only=True)
class Asked:
    """The request's head."""

    service: str = attrs.field(validator=_text)
    method: str = attrs.field(validator=_text)
    fields: Fields = attrs.field(default=(), validator=_fields)
    deadline: float | None = attrs.field(default=None, validator=optional(instance_of(float)))
    target: Target | None = attrs.field(default=None, validator=optional(instance_of(Target)))


@attrs.frozen(kw_only=True)
class Answer:
    """The response's head."""

    status: str = attrs.field(validator=_status)
    native_status: int | None = attrs.field(default=None, validator=optional(instance_of(int)))
    fields: Fields = attrs.field(default=(), validator=_fields)


@attrs.frozen(kw_only=True)
class Told:
    """What ``Record`` has, but for the attempts."""

    route: str = attrs.field(default="", validator=_text)
    cluster: str = attrs.field(default="", validator=_text)
    endpoint: str | None = attrs.field(default=None, validator=optional(_text))
    flags: str = attrs.field(default="", validator=_text)
    detail: str = attrs.field(default="", validator=_text)
    received_bytes: int = attrs.field(default=0, validator=_count)
    sent_bytes: int = attrs.field(default=0, validator=_count)
    local: bool = attrs.field(default=False, validator=_flag)
    outcome: str | None = attrs.field(default=None, validator=optional(_status))
    priority: int = attrs.field(default=0, validator=instance_of(int))
    logged: bool = attrs.field(default=False, validator=_flag)


@attrs.frozen(kw_only=True)
class UpstreamEnd:
    """The connection to the endpoint."""

    sock: socket.socket | None = attrs.field(default=None, eq=False)
    """None in the process that has got it."""
    parts: Parts = attrs.field(validator=instance_of(Parts))
    cluster: str = attrs.field(validator=_text)
    endpoint: str = attrs.field(validator=_text)
    protocol: str = attrs.field(validator=_text)
    """Its codec's name."""
    settings: bytes = attrs.field(validator=_octets)
    """A digest of what its cluster says about connections: where it is another one, it is not taken."""
    bound: bool = attrs.field(validator=_flag)
    """It is one client's, and no other request goes there."""
    kind: str | None = attrs.field(default=None, validator=optional(_text))
    """What sets it apart from others in its pool, if something does."""
    requests: int = attrs.field(default=1, validator=_count)
    """Exchanges begun on it, this one included."""
    stream_id: int = attrs.field(default=1, validator=_count)
    oneway: bool = attrs.field(default=False, validator=_flag)
    uploading: bool = attrs.field(default=False, validator=_flag)
    """The request has not gone to its end, and maybe never will."""


@attrs.frozen(kw_only=True)
class FlowingExchange:
    """All of it, but for the client's connection, which the ``Moment`` has."""

    asked: Asked = attrs.field(validator=instance_of(Asked))
    answer: Answer = attrs.field(validator=instance_of(Answer))
    told: Told = attrs.field(validator=instance_of(Told))
    age: float = attrs.field(validator=_seconds)
    """Since the request's head was complete."""
    attempts: tuple[PastAttempt, ...] = attrs.field(default=(), validator=_tuple_of(PastAttempt))
    """In order; the last one is under way."""
    metadata: tuple[tuple[str, Plain], ...] = attrs.field(default=(), validator=_pairs)
    deadline: float = attrs.field(validator=_seconds)
    """Seconds left until the stream ends; infinite: it has no such time."""
    idle_limit: float = attrs.field(validator=_seconds)
    """For how long nothing may move on it; infinite likewise."""
    untold: bool = attrs.field(validator=_flag)
    """How it ends is to be counted yet."""
    streamed: bool = attrs.field(validator=_flag)
    """The request had not come whole with its head."""
    tunnel: bool = attrs.field(validator=_flag)
    """A tunnel was granted."""
    up: Half = attrs.field(validator=instance_of(Half))
    """The request's body."""
    down: Half = attrs.field(validator=instance_of(Half))
    """The response's."""
    leases: tuple[Note, ...] = attrs.field(default=(), validator=_tuple_of(Note))
    """The links of its lease, from the innermost on."""
    upstream: UpstreamEnd = attrs.field(validator=instance_of(UpstreamEnd))
