"""Frames seen from outside: what ends a message, what is owed, and what two readings have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from xproxy.codecs.api import Codec
from xproxy.model.frames import (
    Credit,
    Data,
    Frame,
    GoAway,
    Head,
    Reply,
    Reset,
    Trailers,
    Violation,
)
from xproxy.model.headers import Headers

Event: TypeAlias = tuple[object, ...]
"""A frame, or several, in a form that does not show how the bytes were cut."""


def ends(frame: Frame) -> bool:
    """Tell whether the frame ends a message."""
    match frame:
        case Head(end=end, interim=interim):
            return end and not interim
        case Data(end=end):
            return end
        case Trailers():
            return True
        case _:
            return False


def carried(sent: Headers, received: Headers) -> bool:
    """Tell whether every field that was sent arrived; codecs may add fields of their own."""
    return all(
        received.get(name) == sent.get(name)
        for name, _ in sent
        # Framing, and thus the codec's to set right, where a codec shows it among the fields at all.
        if name.lower() != "content-length"
    )


def replies_in(frames: Iterable[Frame]) -> bytes:
    """Join the bytes that the codec itself owes its peer."""
    return b"".join(frame.data for frame in frames if isinstance(frame, Reply))


def body_in(frames: Iterable[Frame], stream_id: int) -> bytes:
    """Join the body of one stream."""
    return b"".join(
        frame.data
        for frame in frames
        if isinstance(frame, Head | Data) and frame.stream_id == stream_id
    )


def violations_in(frames: Iterable[Frame]) -> list[str]:
    """Return the details of the violations."""
    return [frame.detail for frame in frames if isinstance(frame, Violation)]


def greet(client: Codec, server: Codec) -> bytes:
    """Let both say what they say unasked (a preface, settings); return the client's, unread."""
    from_client = replies_in(client.receive(b""))
    from_server = replies_in(server.receive(b""))
    if from_server:
        from_client += replies_in(client.receive(from_server))
    return from_client


def _plain(frame: Frame) -> Iterable[Event]:
    match frame:
        case Head(stream_id=id_, message=message, data=data, end=end, interim=interim):
            yield ("head", id_, message, interim)
            if data:
                yield ("body", id_, data)
            if end and not interim:
                yield ("end", id_)
        case Data(stream_id=id_, data=data, end=end):
            if data:
                yield ("body", id_, data)
            if end:
                yield ("end", id_)
        case Trailers(stream_id=id_, headers=headers):
            yield ("trailers", id_, headers)
        case Reset(stream_id=id_, status=status):
            yield ("reset", id_, status)
        case Reply(data=data):
            yield ("reply", data)
        case Credit(stream_id=id_):
            yield ("credit", id_)
        case GoAway(last_stream_id=last, status=status):
            yield ("goaway", last, status)
        case Violation(reason=reason, farewell=farewell):
            # The detail may name how much had arrived.
            yield ("violation", reason, farewell)


def normal_form(frames: Sequence[Frame]) -> list[Event]:
    """Return what ``frames`` say, with neighbouring pieces of one body joined."""
    events: list[Event] = []
    for frame in frames:
        for event in _plain(frame):
            last = events[-1] if events else ()
            if event[0] in {"body", "reply"} and last[:-1] == event[:-1]:
                events[-1] = (*event[:-1], _join(last[-1], event[-1]))
            else:
                events.append(event)
    return events


def _join(first: object, second: object) -> bytes:
    assert isinstance(first, bytes)
    assert isinstance(second, bytes)
    return first + second


def difference(expected: Sequence[Event], got: Sequence[Event]) -> str:
    """Say in one line where two normal forms part."""
    for index, (left, right) in enumerate(zip(expected, got, strict=False)):
        if left != right:
            return f"event {index} is {_short(right)} where it should be {_short(left)}"
    longer = expected if len(expected) > len(got) else got
    word = "missing" if longer is expected else "too many"
    index = min(len(expected), len(got))
    return f"{word} from event {index}: {', '.join(_short(e) for e in longer[index : index + 3])}"


def _short(event: Event) -> str:
    text = repr(event)
    return text if len(text) <= 160 else f"{text[:157]}..."
