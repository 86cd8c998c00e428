"""Heads, frames, records and metadata of an exchange as plain values, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import trio

from xproxy.connection.flowing import (
    Answer,
    Asked,
    FlowingExchange,
    PastAttempt,
    Piece,
    Told,
    is_plain,
)
from xproxy.model.address import Address
from xproxy.model.frames import Data, Frame, GoAway, Trailers
from xproxy.model.headers import Headers
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.metadata import Key, Metadata, key_named
from xproxy.model.status import Status
from xproxy.stream.body import Body
from xproxy.stream.ending import Broke
from xproxy.stream.exchange import ConnectionFacts, Request, StreamControl
from xproxy.stream.links import Plain, Stays
from xproxy.stream.record import Attempted, Record

_statuses: Final = {status.label: status for status in Status}


def asked_of(head: RequestHead) -> Asked:
    """Write a request's head down. Raises Stays where its codec has facts of its own."""
    target = head.extra
    if target is not None and type(target) is not Target:
        raise Stays(f"a request with {type(target).__name__}")
    return Asked(
        service=head.service,
        method=head.method,
        fields=head.headers.pairs,
        deadline=None if head.deadline is None else float(head.deadline),
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
    if head.extra is not None:
        raise Stays(f"a response with {type(head.extra).__name__}")
    return Answer(
        status=head.status.label,
        native_status=head.native_status,
        fields=head.headers.pairs,
    )


def response_head(answer: Answer) -> ResponseHead:
    """Return the head that was written down."""
    return ResponseHead(
        status=_statuses[answer.status],
        native_status=answer.native_status,
        headers=Headers(answer.fields),
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


def metadata_of(pairs: tuple[tuple[str, Plain], ...]) -> Metadata:
    """Return what was written down; what nobody here has a key for is nobody's."""
    found = Metadata()
    for name, value in pairs:
        key: Key[Plain] | None = key_named(name)
        if key is not None:
            found[key] = value
    return found


def told_of(record: Record) -> Told:
    """Write down what became of a request so far."""
    return Told(
        route=record.route,
        cluster=record.cluster,
        endpoint=None if record.endpoint is None else str(record.endpoint),
        flags=record.flags,
        detail=record.detail,
        received_bytes=record.received_bytes,
        sent_bytes=record.sent_bytes,
        local=record.local,
        outcome=None if record.outcome is None else record.outcome.label,
        priority=record.priority,
        logged=record.logged,
    )


def record_of(told: Told) -> Record:
    """Return the record that was written down, without its attempts. Raises ValueError for a wrong address."""
    return Record(
        route=told.route,
        cluster=told.cluster,
        endpoint=None if told.endpoint is None else Address.parse(told.endpoint),
        flags=told.flags,
        detail=told.detail,
        received_bytes=told.received_bytes,
        sent_bytes=told.sent_bytes,
        response_started=True,
        local=told.local,
        outcome=status_of(told.outcome),
        priority=told.priority,
        logged=told.logged,
    )


def request_of(
    exchange: FlowingExchange, facts: ConnectionFacts, stream: StreamControl, body: Body
) -> Request:
    """Return the request that was written down. Raises ValueError."""
    request = Request(
        request_head(exchange.asked),
        body,
        facts,
        stream,
        trio.current_time() - exchange.age,
        None,
        record_of(exchange.told),
    )
    for key, value in metadata_of(exchange.metadata).items():
        request.note(key, value)
    return request
