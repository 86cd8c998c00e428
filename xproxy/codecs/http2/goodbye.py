"""GOAWAY, said and heard (RFC 9113 §6.8)."""

from __future__ import annotations

from typing import Final

from xproxy.codecs.http2.faults import protocol_error
from xproxy.codecs.http2.limits import MAX_STREAM_ID
from xproxy.codecs.http2.state import Drain
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.wire import goaway, ping
from xproxy.model.traits import Role

DRAIN_PING: Final = b"xproxy:d"
"""Sent behind the first GOAWAY: its answer tells that all that crossed it has arrived."""


class Goodbye:
    """How far our goodbye is, and the peer's."""

    __slots__ = ("_role", "drain", "peer_last")

    def __init__(self, role: Role) -> None:
        self._role = role
        self.drain = Drain.NONE
        self.peer_last = -1
        """The last stream that the peer's GOAWAY lets live; -1: it has said none."""

    def say(self) -> bytes:
        """Begin to leave. Empty if that was said.

        A server takes two steps: what the client sent before it knew is served too, also where nothing is in flight
        at the moment. The second step is the answer to a PING.
        """
        if self.drain is not Drain.NONE:
            return b""
        if self._role is Role.CLIENT:
            self.drain = Drain.FINAL
            return goaway(0, ErrorCode.NO_ERROR)
        self.drain = Drain.ANNOUNCED
        return goaway(MAX_STREAM_ID, ErrorCode.NO_ERROR) + ping(DRAIN_PING)

    def answered(self, payload: bytes, highest: int) -> bytes:
        """A PING of ours was answered; return which stream is the last, if that was the occasion to say so."""
        if payload != DRAIN_PING or self.drain is not Drain.ANNOUNCED:
            return b""
        self.drain = Drain.FINAL
        return goaway(max(highest, 0), ErrorCode.NO_ERROR)

    def hear(self, last: int) -> None:
        """The peer says which stream is the last it looks at. Raises ConnectionFault."""
        if 0 <= self.peer_last < last:
            raise protocol_error("GOAWAY with a higher last stream than before")
        self.peer_last = last
