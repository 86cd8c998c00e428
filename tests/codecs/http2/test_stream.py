"""A stream as it begins."""

from __future__ import annotations

from xproxy.codecs.http2.state import State
from xproxy.codecs.http2.stream import Stream


def test_a_new_stream_has_nothing_in_it() -> None:
    stream = Stream(State.HALF_CLOSED_LOCAL)
    assert (stream.state.receiving, stream.state.sending) == (True, False)
    assert (stream.expected, stream.owing) == (-1, -1)
    assert (stream.inbound, stream.outbound, stream.owed, stream.unconsumed) == (0, 0, 0, 0)
