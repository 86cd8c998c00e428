"""HTTP/2 by the ``h2`` package on a blocking socket: a client, and a server whose paths say how it answers."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable
from typing import Final

import attrs
import h2.config
import h2.connection
import h2.events
import h2.exceptions

_HEAD: Final = 9
"""Bytes of a frame's head (RFC 9113 4.1)."""
_GOAWAY: Final = 7


@attrs.define
class Got:
    """What has come on one stream."""

    fields: dict[str, str] = attrs.field(factory=dict)
    """Of the head and of the trailers."""
    body: bytes = b""
    ended: bool = False
    reset: bool = False
    """By the peer, before the end."""

    @property
    def over(self) -> bool:
        return self.ended or self.reset


class Http2:
    """One side of a connection."""

    def __init__(self, sock: socket.socket, *, client: bool) -> None:
        self.sock = sock
        self._client = client
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=client, header_encoding="utf-8")
        )
        self.streams: dict[int, Got] = {}
        self.over = False
        """The peer has gone."""
        self.going = False
        """It has said goodbye to its client: it need not take another stream."""
        self._unread = b""
        # Of a frame that has not come whole.
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Send what is to be sent."""
        with contextlib.suppress(ConnectionError):  # the end is read
            self.sock.sendall(self.h2.data_to_send())

    def more(self) -> Iterable[h2.events.Event]:
        """Take what comes next; nothing: that was the end."""
        try:
            data = self.sock.recv(65536)
        except ConnectionError:
            data = b""
        self.over = self.over or not data
        events: list[h2.events.Event] = []
        if not self._client:
            events = self.h2.receive_data(data)
        else:
            self._unread += data
            while len(self._unread) >= _HEAD and len(self._unread) >= self._length:
                frame, self._unread = self._unread[: self._length], self._unread[self._length :]
                if frame[3] == _GOAWAY:
                    self.going = True  # the package would take nothing more after it
                else:
                    events += self.h2.receive_data(frame)
        for event in events:
            self._note(event)
        self.flush()
        return events

    @property
    def _length(self) -> int:
        return _HEAD + int.from_bytes(self._unread[:3], "big")

    def until(self, holds: Callable[[], bool]) -> bool:
        """Take what comes until ``holds``; False: the connection has ended before."""
        while not holds():
            if self.over:
                return False
            self.more()
        return True

    def _note(self, event: h2.events.Event) -> None:
        got = self.streams.setdefault(getattr(event, "stream_id", None) or 0, Got())
        if isinstance(
            event,
            h2.events.RequestReceived | h2.events.ResponseReceived | h2.events.TrailersReceived,
        ):
            got.fields.update((str(name), str(value)) for name, value in event.headers)
        elif isinstance(event, h2.events.DataReceived):
            got.body += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            got.ended = True
        elif isinstance(event, h2.events.StreamReset):
            got.reset = not got.ended

    def ask(self, path: str, kind: str, data: bytes, *, ends: bool) -> int:
        """Begin a request, whose content is of a ``kind``; return its stream."""
        stream = self.h2.get_next_available_stream_id()
        fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "a.example"),
            ("content-type", kind),
            ("te", "trailers"),
        ]
        self.h2.send_headers(stream, fields)
        self.h2.send_data(stream, data, end_stream=ends)
        self.streams[stream] = Got()
        self.flush()
        return stream

    def say(self, stream: int, data: bytes, *, ends: bool = False) -> None:
        """Send a piece of a request, unless its stream is over."""
        if not self.streams[stream].over:
            with contextlib.suppress(h2.exceptions.ProtocolError):
                self.h2.send_data(stream, data, end_stream=ends)
            self.flush()


def serve(sock: socket.socket) -> None:
    """Answer to ``/held…`` once all of the request has come, else with every piece as it comes."""
    side = Http2(sock, client=False)
    while not side.over:
        for event in side.more():
            if isinstance(event, h2.events.RequestReceived | h2.events.DataReceived):
                _answer(side, event)
            elif isinstance(event, h2.events.StreamEnded):
                got = side.streams[event.stream_id]
                if got.fields[":path"].startswith("/held"):
                    _head(side, event.stream_id)
                    side.h2.send_data(event.stream_id, got.body)
                side.h2.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)
        side.flush()


def _answer(side: Http2, event: h2.events.RequestReceived | h2.events.DataReceived) -> None:
    if side.streams[event.stream_id].fields[":path"].startswith("/held"):
        return
    if isinstance(event, h2.events.RequestReceived):
        _head(side, event.stream_id)
    elif event.data:
        side.h2.send_data(event.stream_id, event.data)


def _head(side: Http2, stream: int) -> None:
    kind = side.streams[stream].fields["content-type"]
    side.h2.send_headers(stream, [(":status", "200"), ("content-type", kind)])
