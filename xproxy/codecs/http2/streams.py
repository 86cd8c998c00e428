"""The streams of a connection: those that are open, and what is remembered of those that are over."""

from __future__ import annotations

from typing import Final

from xproxy.codecs.http2.faults import ConnectionFault, StreamFault
from xproxy.codecs.http2.state import TRANSITIONS, Event, Refusal, State
from xproxy.codecs.http2.status import ErrorCode
from xproxy.codecs.http2.stream import Stream
from xproxy.codecs.http2.windows import Windows

_CLOSED: Final = State.CLOSED


class Past:
    """What is remembered of streams that are over: as much as it takes to tell their kinds apart. Bounded."""

    __slots__ = ("abandoned", "forgotten", "skipped")

    ABANDONED: Final = 1024
    SKIPPED: Final = 16

    def __init__(self) -> None:
        self.abandoned: dict[int, None] = {}
        """Streams that we reset, oldest first."""
        self.forgotten = 0
        """Streams up to here may have been reset by us too: frames for them are given the benefit of the doubt."""
        self.skipped: list[tuple[int, int]] = []
        """Ids never used, though higher ones were: (first, last), oldest first (RFC 9113 §5.1.1)."""

    def abandon(self, stream_id: int) -> None:
        """Note that we reset a stream."""
        abandoned = self.abandoned
        abandoned[stream_id] = None
        if len(abandoned) > self.ABANDONED:
            oldest = next(iter(abandoned))
            del abandoned[oldest]
            self.forgotten = max(self.forgotten, oldest)

    def skip(self, first: int, last: int) -> None:
        """Note that ids were left out."""
        self.skipped.append((first, last))
        if len(self.skipped) > self.SKIPPED:
            del self.skipped[0]

    def state(self, stream_id: int) -> State:
        """Return what a stream is that was opened once, or passed over."""
        if stream_id in self.abandoned or stream_id <= self.forgotten:
            return State.ABANDONED
        if any(first <= stream_id <= last for first, last in self.skipped):
            return State.UNUSED
        return State.CLOSED


class Streams:
    """All streams of a connection; those that end give the room of their windows back."""

    __slots__ = ("_peer_opens", "_windows", "held", "highest", "open", "past")

    def __init__(self, windows: Windows, *, peer_opens: bool) -> None:
        """``peer_opens``: streams are the peer's to open, as it is the client."""
        self._windows = windows
        self._peer_opens = peer_opens
        self.open: dict[int, Stream] = {}
        self.held: dict[int, list[int]] = {}
        """Of streams that have ended in both directions and whose window had grown: body bytes not yet consumed, and
        by how much it had. Nobody else may have that room before."""
        self.past = Past()
        self.highest = -1
        """Highest id of a request."""

    def used(self, stream_id: int) -> bool:
        """Whether this is the id of a request that was made, or passed over."""
        return 0 < stream_id <= self.highest and bool(stream_id & 1)

    def state(self, stream_id: int) -> State:
        """Return what a stream is to a peer that sends on it. Total."""
        stream = self.open.get(stream_id)
        if stream is not None:
            return stream.state
        if self.used(stream_id):
            return self.past.state(stream_id)
        return State.IDLE if self._peer_opens and stream_id & 1 else State.UNUSED

    def judge(self, event: Event, stream_id: int) -> None:
        """Raise ConnectionFault or StreamFault where a stream's state asks for it, and not where it is to be ignored.

        For what is no ordinary frame on an open stream: these are looked up nowhere.
        """
        state = self.state(stream_id)
        outcome = TRANSITIONS[state, event]
        detail = f"{event.frame} on stream {stream_id}, which is {state.value}"
        if outcome is Refusal.NOT_OPENED:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, detail)
        if outcome is Refusal.GONE:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, detail)
        if outcome is Refusal.STREAM_CLOSED:
            raise StreamFault(ErrorCode.STREAM_CLOSED, detail)

    def reach(self, stream_id: int) -> None:
        """Note the id of a request, which is above all before it."""
        following = self.highest + 2
        if stream_id != following:
            self.past.skip(following, stream_id - 2)
        self.highest = stream_id

    def received(self, stream_id: int, stream: Stream) -> None:
        """END_STREAM has arrived."""
        stream.state = state = stream.state.received
        if state is _CLOSED:
            del self.open[stream_id]
            if stream.grown:
                self._hold(stream_id, stream)

    def sent(self, stream_id: int, stream: Stream) -> None:
        """END_STREAM has left."""
        stream.state = state = stream.state.sent
        if state is _CLOSED:
            del self.open[stream_id]
            if stream.grown:
                self._hold(stream_id, stream)

    def _hold(self, stream_id: int, stream: Stream) -> None:
        if stream.unconsumed:
            self.held[stream_id] = [stream.unconsumed, stream.grown]
        else:
            self._windows.spare += stream.grown

    def end(self, stream_id: int, event: Event) -> Stream:
        """End an open stream by a reset, whosever; return it."""
        stream = self.open.pop(stream_id)
        if TRANSITIONS[stream.state, event] is State.ABANDONED:
            self.past.abandon(stream_id)
        self._windows.spare += stream.grown
        return stream

    def forget_above(self, last: int) -> None:
        """Drop the streams that the peer will never look at (RFC 9113 §6.8)."""
        for stream_id in [id_ for id_ in self.open if id_ > last]:
            self._windows.spare += self.open.pop(stream_id).grown
            self.past.abandon(stream_id)

    def consumed(self, stream_id: int, count: int) -> None:
        """Body bytes of a stream that has ended were taken."""
        held = self.held.get(stream_id)
        if held is not None:
            held[0] -= max(count, 0)
            if held[0] <= 0:
                self.release(stream_id)

    def release(self, stream_id: int) -> None:
        """Nobody takes any more of a stream that has ended: others may have its room."""
        held = self.held.pop(stream_id, None)
        if held is not None:
            self._windows.spare += held[1]
