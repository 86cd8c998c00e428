"""A shared connection that goes to another process without the streams in flight: these go on over a link.

The driver stays as it was, with another stream and another codec below it. From the moment it stands still, what its
streams say is put in the words of the link; if it is not taken after all, these are read back and said to the client.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

import attrs

from xproxy.codecs.api import Codec, SupportsFlow, SupportsRelay, supports
from xproxy.codecs.relay.codec import Consumed, RelayCodec, opened, restored
from xproxy.codecs.relay.messages import MessageRelay, message_relay
from xproxy.connection.shared.link import LINK_LIMITS
from xproxy.connection.shared.outbox import Aside
from xproxy.connection.shared.relays import Relays
from xproxy.connection.shared.wire import SharedWire
from xproxy.connection.standing import Moment, RelayedStream
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Data, Frame, Head, Reset, Trailers
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import WEB_FAMILY, Role
from xproxy.transport.stream import ByteStream, MovableStream, is_movable


def relayable(wire: SharedWire) -> bool:
    """Whether streams in flight can go on over a link, by what their protocol is."""
    if wire.role is not Role.SERVER:
        return False
    if wire.whole:
        return supports(wire.codec, SupportsRelay)
    # Heads cross: only these have no facts of their codec's own.
    return wire.flow is not None and wire.facts.traits.family == WEB_FAMILY


@attrs.define(eq=False)
class Departure:
    """What a connection was before its streams were put on a link, as long as it may be so again."""

    stream: MovableStream
    codec: Codec
    aside: Aside
    link: ByteStream
    """Our end."""
    other: socket.socket
    """Our copy of the end that is given."""
    streams: tuple[RelayedStream, ...]

    def close(self) -> None:
        """It has ended while it stood still."""
        self.stream.close()
        self.link.close()
        self.other.close()


def depart(wire: SharedWire, streams: Iterable[RelayedStream]) -> Departure:
    """Put the streams in flight on a link; the wire is paused. Raises OSError if there is no room for it now."""
    streams = tuple(streams)
    stream, codec = wire.stream, wire.codec
    assert is_movable(stream)
    relay = _end(Role.SERVER, streams, whole=wire.whole)
    below: RelayCodec | MessageRelay = message_relay(relay, codec) if wire.whole else relay
    ours, other = socket.socketpair()
    try:
        ours.setblocking(False)
        other.setblocking(False)
        link = stream.beside(ours)
    except BaseException:
        ours.close()
        other.close()
        raise
    aside = wire.outbox.set_aside()
    wire.become(link, below)
    return Departure(stream, codec, aside, link, other, streams)


def stay(wire: SharedWire, departure: Departure) -> None:
    """Say to the client what was said to the link, and go on as if it had never been."""
    said = _end(Role.CLIENT, departure.streams, whole=wire.whole)
    said.open()
    frames = said.receive(wire.outbox.unsent())
    outbox = wire.outbox
    outbox.put_back(departure.aside)
    wire.become(departure.stream, departure.codec)
    departure.link.close()
    departure.other.close()
    for frame in frames:
        outbox.put(_said(wire.codec, frame))
    wire.resume()
    wire.credit.unpark_all()


def _said(codec: Codec, frame: Frame) -> bytes:
    if isinstance(frame, Consumed):
        return (
            codec.consumed(frame.stream_id, frame.count) if supports(codec, SupportsFlow) else b""
        )
    if supports(codec, SupportsRelay) and isinstance(frame, Data):
        return codec.answered(frame.stream_id, frame.data)
    if not isinstance(frame, Head | Data | Trailers | Reset):
        return b""
    try:
        return codec.send(frame)
    except LocalProtocolError:
        # Whoever said it has gone on: what it would have been told is said for it.
        unsaid = isinstance(frame, Head) and isinstance(frame.message, ResponseHead)
        status = Status.INTERNAL
        instead: Frame = Reset(frame.stream_id, status)
        if unsaid:
            instead = Head(frame.stream_id, ResponseHead(status=status), b"", True)
        try:
            return codec.send(instead)
        except LocalProtocolError:
            return b""


def gone(wire: SharedWire, departure: Departure) -> None:
    """Another process has the connection: the streams go on over the link."""
    departure.stream.leave()
    departure.other.close()
    if isinstance(wire.codec, RelayCodec):
        wire.codec.open()
    wire.outbox.drop(departure.aside)
    wire.paused = False
    wire.outbox.release()
    wire.credit.unpark_all()


def _end(role: Role, streams: Iterable[RelayedStream], *, whole: bool) -> RelayCodec:
    codec = opened(role, LINK_LIMITS, whole=whole)
    for stream in streams:
        codec.begin(stream.id, complete=stream.complete, begun=stream.begun)
    return codec


def taken_over(wire: SharedWire, moment: Moment, relays: Relays) -> None:
    """Take over the other ends of the links that came with a connection. Raises ValueError if one is none."""
    stream = wire.stream
    assert is_movable(stream)
    for sock in (moment.link, *(link.sock for link in moment.links)):
        if sock is not None:
            sock.setblocking(False)
    if moment.link is not None:
        codec = _end(Role.CLIENT, moment.relayed, whole=wire.whole)
        codec.open()
        relays.add(stream.beside(moment.link), codec, moment.relayed)
    for link in moment.links:
        codec = restored(link.codec, Role.CLIENT, LINK_LIMITS)
        older = None if link.sock is None else stream.beside(link.sock)
        relays.add(older, codec, link.streams, link.unsent)


def bye(wire: SharedWire) -> bytes:
    """Return what tells the other process that all streams on the link have ended."""
    codec = wire.codec
    return codec.bye() if isinstance(codec, RelayCodec | MessageRelay) else b""


def farewell(wire: SharedWire) -> bytes:
    """Return what asks the other process to say goodbye to the client."""
    codec = wire.codec
    return codec.goaway() if isinstance(codec, RelayCodec | MessageRelay) else b""
