"""An exchange of which only bodies flow any more, written down: plain values, for another process to go on with.

Rule of this file: of time there are only durations, in seconds; what is read may come from anybody, and is either an
exchange that can be gone on with or raises ValueError.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

import attrs
from attrs.validators import deep_iterable, ge, in_, instance_of, optional

from xproxy.connection.phase import Phase
from xproxy.connection.wire import Parts
from xproxy.model.frames import Data, Frame, GoAway, Trailers
from xproxy.model.headers import Headers
from xproxy.model.message import Fields, Local, RequestHead, ResponseHead, Target
from xproxy.model.metadata import Key, Metadata, key_named
from xproxy.model.status import Status
from xproxy.stream.ending import Broke
from xproxy.stream.links import Note, Plain, Stays
from xproxy.stream.record import Attempted

T = TypeVar("T")

_text: Final = instance_of(str)
_octets: Final = instance_of(bytes)
_flag: Final = instance_of(bool)
_count: Final = (instance_of(int), ge(0))
_seconds: Final = (instance_of(float), ge(0.0))
_statuses: Final = {status.label: status for status in Status}
_status: Final = in_(_statuses)
_PHASES: Final = tuple(
    phase.value for phase in (Phase.SERVING, Phase.LEAVING, Phase.HEARD, Phase.FINISHED)
)
"""In which both ends of a flowing exchange can be."""
LEASE: Final = "(lease)"
"""What an upstream connection's lease has in place of a filter's name. It says: cluster, endpoint, protocol, whether
it is bound to the client, and what sets it apart in its pool."""
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
    if type(value) is not tuple or not all(
        type(pair) is tuple and len(pair) == 2 and type(pair[0]) is str and is_plain(pair[1])
        for pair in value
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
    local: Local | None = attrs.field(default=None, validator=optional(instance_of(Local)))


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


# ---- heads, frames and metadata as plain values, and back


def asked_of(head: RequestHead) -> Asked:
    """Write a request's head down. Raises Stays where its codec has facts of its own."""
    target = head.extra
    if target is not None and type(target) is not Target:
        raise Stays(f"a request with {type(target).__name__}")
    return Asked(
        service=head.service,
        method=head.method,
        fields=head.headers.pairs,
        deadline=head.deadline,
        target=target,
    )


def request_head(asked: Asked) -> RequestHead:
    """Return the head that was written down."""
    return RequestHead(
        service=asked.service,
        method=asked.method,
        headers=Headers(asked.fields),
        deadline=asked.deadline,
        extra=asked.target,
    )


def answer_of(head: ResponseHead) -> Answer:
    """Write a response's head down. Raises Stays as ``asked_of``."""
    local = head.extra
    if local is not None and type(local) is not Local:
        raise Stays(f"a response with {type(local).__name__}")
    return Answer(
        status=head.status.label,
        native_status=head.native_status,
        fields=head.headers.pairs,
        local=local,
    )


def response_head(answer: Answer) -> ResponseHead:
    """Return the head that was written down."""
    return ResponseHead(
        status=_statuses[answer.status],
        native_status=answer.native_status,
        headers=Headers(answer.fields),
        extra=answer.local,
    )


def status_of(label: str | None) -> Status | None:
    """Return a status by its label."""
    return None if label is None else _statuses[label]


def pieces_of(inbox: Iterable[Frame]) -> tuple[Piece, ...]:
    """Write down what was read of a body. Raises Stays for a frame that ends its connection: it does that here."""
    found: list[Piece] = []
    for frame in inbox:
        if isinstance(frame, Data):
            found.append(Piece(kind="data", data=bytes(frame.data), end=frame.end))
        elif isinstance(frame, Trailers):
            status = None if frame.status is None else frame.status.label
            found.append(Piece(kind="trailers", fields=frame.headers.pairs, status=status))
        elif isinstance(frame, GoAway):
            found.append(Piece(kind="goaway"))
        else:
            raise Stays(f"{type(frame).__name__} is about to be read")
    return tuple(found)


def frames_of(pieces: Iterable[Piece], stream_id: int) -> list[Frame]:
    """Return the frames that were written down."""
    found: list[Frame] = []
    for piece in pieces:
        if piece.kind == "data":
            found.append(Data(stream_id, piece.data, piece.end))
        elif piece.kind == "trailers":
            found.append(Trailers(stream_id, Headers(piece.fields), status_of(piece.status)))
        else:
            found.append(GoAway())
    return found


def attempts_of(attempts: Sequence[Attempted], now: float) -> tuple[PastAttempt, ...]:
    """Write attempts down, in their order."""
    return tuple(
        PastAttempt(
            endpoint=str(one.endpoint.address),
            began=_ago(one.began, now) or 0.0,
            answered=_ago(one.answered, now),
            ended=_ago(one.ended, now),
            failed=one.failed,
            detail=one.how.error.detail if isinstance(one.how, Broke) else "",
        )
        for one in attempts
    )


def _ago(when: float | None, now: float) -> float | None:
    return None if when is None else max(now - when, 0.0)


def noted(metadata: Metadata | None) -> tuple[tuple[str, Plain], ...]:
    """Write down what filters have noted. Raises Stays for what is not plain, and for a key that has a namesake."""
    found: list[tuple[str, Plain]] = []
    for key, value in (metadata or {}).items():
        if not isinstance(key, Key) or key_named(key.name) is not key:
            raise Stays(f"metadata under {key!r}, which is not the only one of this name")
        if not is_plain(value):
            raise Stays(f"metadata under {key.name}: {type(value).__name__} is no plain value")
        found.append((key.name, value))
    return tuple(found)


def metadata_of(pairs: tuple[tuple[str, Plain], ...]) -> Metadata | None:
    """Return what was written down; what nobody here has a key for is nobody's."""
    found = Metadata()
    for name, value in pairs:
        key: Key[Plain] | None = key_named(name)
        if key is not None:
            found[key] = value
    return found or None
